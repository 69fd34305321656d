"""What merging does to a tensor, block of rows by block of rows, in float32 and in place.

The product is scaled after it is made, as PEFT does, so that both round alike.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from convert.base import Slot
from convert.merge.blocks import Change, Workspace
from livery.adapter import Adapter, Format, Pair
from livery.errors import UserError


@dataclass(frozen=True)
class Part:
    """One adapter of a merge, at a weight; `source` is the format it was read from."""

    adapter: Adapter
    weight: float = 1.0
    source: Format | None = None


@dataclass(frozen=True)
class Add:
    """weight += scale * left @ right. left: (rows of the weight, r), right: (r, columns)."""

    left: np.ndarray
    right: np.ndarray
    scale: float
    whole: bool = False

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        delta = space.array("delta", np.float32, rows.shape)
        np.matmul(self.left[first : first + len(rows)], self.right, out=delta)
        np.multiply(delta, np.float32(self.scale), out=delta)
        with np.errstate(over="ignore", invalid="ignore"):  # counted when all is written
            np.add(rows, delta, out=rows)


@dataclass(frozen=True)
class AddToStack:
    """The same for one parameter of all experts: stack[e] += scale * left[e] @ right[e].

    Attributes:
        left, right: (E, out, r) and (E, r, in).
        part: which of a matrix's outputs they are: gate and up share a parameter.
        input_first: the parameter is (E, in, out), else (E, out, in).
    """

    left: np.ndarray
    right: np.ndarray
    scale: float
    part: slice
    input_first: bool = False
    whole: bool = False

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        for number, matrix in enumerate(rows, start=first):
            target = (matrix.T if self.input_first else matrix)[self.part]
            delta = Add(self.left[number], self.right[number], self.scale)
            delta.apply(target, 0, space)


@dataclass(frozen=True)
class Stretch:
    """DoRA: each feature's weights at its learned length, https://arxiv.org/abs/2402.09353 eq. 5.

    magnitude: (features,); the features are the rows of a linear weight, the columns of an
    embedding's.
    """

    magnitude: np.ndarray
    columns: bool = False

    @property
    def whole(self) -> bool:
        return self.columns

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        length = np.linalg.norm(rows, axis=0 if self.columns else 1, keepdims=True)
        magnitude = self.magnitude.astype(np.float32)
        if self.columns:
            rows *= magnitude[None, :] / length
        else:
            rows *= magnitude[first : first + len(rows), None] / length


@dataclass(frozen=True)
class AddVector:
    """bias += vector."""

    vector: np.ndarray
    whole: bool = False

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        rows += self.vector[first : first + len(rows)]


@dataclass(frozen=True)
class Replace:
    """A tensor that was trained as a whole, at a weight: 1 is the trained one, 0 the base's."""

    name: str
    array: np.ndarray
    weight: float
    whole: bool = False

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        new = self.array[first : first + len(rows)].astype(np.float32)
        rows += np.float32(self.weight) * (new - rows)


def of_pair(
    module: str, pair: Pair, weight: float, *, transposed: bool = False
) -> list[tuple[Slot, Change]]:
    """The changes that an adapter's pair makes at a weight, and where.

    Args:
        transposed: the base keeps this weight as (in, out), see `convert.base.is_transposed`.
    """
    scale = pair.scale * weight
    if pair.kind == "experts":
        return [
            (Slot(module, "weight", number), Add(_float(pair.b[number]), _float(a), scale))
            for number, a in enumerate(pair.a)
        ]
    place = Slot(module, "weight")
    a, b = _float(pair.a), _float(pair.b)
    columns = transposed or pair.kind == "embedding"
    add = Add(_float(a.T), _float(b.T), scale) if columns else Add(b, a, scale)
    made: list[tuple[Slot, Change]] = [(place, add)]
    if pair.magnitude is not None:
        made.append((place, Stretch(pair.magnitude, columns=columns)))
    if pair.bias is not None:
        vector = pair.bias.astype(np.float32) * np.float32(scale)
        made.append((Slot(module, "bias"), AddVector(vector)))
    return made


def of_stack(
    module: str, pair: Pair, weight: float, places: Container[Slot], *, input_first: bool
) -> tuple[Slot, Change] | None:
    """What an expert pair changes where the base keeps all experts in one tensor, and which; None
    where it has a tensor for each.

    Args:
        input_first: see `convert.base.keeps_input_first`; gate and up alternate there.
    """
    head, _, leaf = module.rpartition(".")
    out = pair.b.shape[1]
    own, part = Slot(module, "weight"), slice(None)
    fused = Slot(head, "down_proj" if leaf == "down_proj" else "gate_up_proj")
    if own in places:
        place, input_first = own, False
    elif fused in places:
        place = fused
        if leaf != "down_proj":
            at = int(leaf == "up_proj")
            part = slice(at, None, 2) if input_first else slice(at * out, (at + 1) * out)
    else:
        return None
    a, b = _float(pair.a), _float(pair.b)
    return place, AddToStack(b, a, pair.scale * weight, part, input_first)


def replacement(name: str, array: np.ndarray, weight: float, shape: tuple[int, ...]) -> Replace:
    """Raises UserError where the trained tensor has not the base's shape."""
    if shape != array.shape:
        raise UserError(f"{name}: has shape {array.shape}, the base's is {shape}.")
    return Replace(name, array, weight)


def _float(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
