"""The numbers in a GGUF file's metadata, read one by one: what was not asked for is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from livery.errors import UserError, shown

# What changes nothing that a model computes.
_WITHOUT_EFFECT = frozenset({"vocab_size", "use_parallel_residual", "tensor_data_layout"})


class Numbers:
    """The fields of one architecture; `llama.rope.freq_base` is asked for as `rope.freq_base`."""

    def __init__(self, path: Path, architecture: str, metadata: Mapping[str, Any]) -> None:
        self.path, self.architecture = path, architecture
        self._values = {
            key.removeprefix(f"{architecture}."): value
            for key, value in metadata.items()
            if key.startswith(f"{architecture}.")
        }
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def whole(self, name: str, default: int | None = None, most: int = 1 << 40) -> int:
        """A whole number, at least 0; one for all layers where the file has one for each.

        Raises:
            UserError: there is none and no default, or it is no such number.
        """
        value = self._one(name, default)
        if type(value) is not int or not 0 <= value <= most:
            raise self.wrong(name, value, f"a whole number up to {most:,}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number, as short as float32 has it: 1e-05, not 9.99999974e-06."""
        value = self._one(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, value, "a number")
        if not math.isfinite(value):
            raise self.wrong(name, value, "a finite number")
        return float(str(np.float32(value)))

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self._one(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, value, "a text")
        return value

    def each(self, name: str, layers: int) -> list[int] | None:
        """One number a layer; None where the file has none or one for all."""
        self._asked.add(name)
        value = self._values.get(name)
        if not isinstance(value, Sequence | memoryview) or isinstance(value, str):
            return None
        found: list[Any] = list(value)
        if len(found) != layers or not all(isinstance(n, int) and 0 <= n < 1 << 31 for n in found):
            raise self.wrong(name, found, f"{layers} whole numbers, one a layer")
        return [int(n) for n in found]

    def ignore(self, *names: str) -> None:
        """These are accounted for elsewhere."""
        self._asked.update(names)

    def check_all_asked(self) -> None:
        """Raises UserError where the file says something that nobody here asked for."""
        left = sorted(set(self._values) - self._asked - _WITHOUT_EFFECT)
        left = [name for name in left if not _is_off(self._values[name])]
        if left:
            raise UserError(
                f"{self.path}: {self.architecture}.{left[0]} is "
                f"{shown(_plain(self._values[left[0]]), 60)}, which Livery does not know for a "
                f"base of this architecture, so what it decodes might compute something else. Use "
                "the model's Hugging Face folder."
            )

    def wrong(self, name: str, value: Any, wanted: str) -> UserError:
        """The error where a field is not what it must be."""
        return UserError(
            f"{self.path}: {self.architecture}.{name} is {shown(_plain(value), 60)}; it must be "
            f"{wanted}. Download or export the file again."
        )

    def _one(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise UserError(
                f"{self.path}: lacks {self.architecture}.{name}. Download or export the file again."
            )
        if isinstance(value, memoryview):
            every: set[Any] = set(value.tolist())
            if len(every) != 1:
                raise self.wrong(name, sorted(every), "one number for all layers")
            return every.pop()
        return value


def _plain(value: Any) -> str:
    return str(value.tolist() if isinstance(value, memoryview) else value)


def _is_off(value: Any) -> bool:
    return value in (False, 0, 0.0, "", "none")
