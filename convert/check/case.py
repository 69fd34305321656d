"""What the rules of `livery check` look at and say: an adapter's forms, and findings on them.

A rule must see what is wrong with an adapter that convert's readers refuse, so the config and the
tensors' shapes are kept beside the neutral adapter, which may be missing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from convert import archive
from convert.base import Base
from convert.merge.extend import Extension
from convert.naming import leaf
from convert.way_out import Runtime, loads, merged_form
from livery.adapter import Adapter, Format
from livery.adapter_names import mlx_to_hf
from livery.errors import UserError

TIED = frozenset({"embed_tokens", "lm_head"})
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """What one rule says of one runtime.

    Attributes:
        rule: its name.
        refused: the runtime does not take the adapter, or aborts; else it takes it, but the user
            should know something.
        why: a sentence.
        remedy: the command that fixes it; "" where there is nothing to fix.
    """

    rule: str
    refused: bool
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class Form:
    """One format of the adapter on disk.

    Attributes:
        path: the folder a runtime would be given; the file for GGUF.
        config: adapter_config.json, or GGUF's metadata; empty where it cannot be read.
        shapes: tensor name -> numpy shape, as the file has them; empty where it cannot be read.
        adapter: what convert's reader made of it; None where it refused.
        refusal: why it refused.
        nonfinite: it refused because of NaN or infinity in it.
    """

    format: Format
    path: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    adapter: Adapter | None
    refusal: str = ""
    nonfinite: bool = False


@dataclass(frozen=True)
class GgufBase:
    """A base model that is a GGUF file: architecture, and tensor name -> shape."""

    path: Path
    architecture: str
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Case:
    """Everything that a rule may ask.

    Attributes:
        path: the adapter as the user named it.
        forms: the formats found there.
        base: the base's folder, where it is known.
        gguf_base: the base as a GGUF file, where --base names one.
        base_name: what a command should call the base.
        max_lora_rank, mixed_moe: how vLLM is started.
    """

    path: Path
    forms: Mapping[Format, Form]
    base: Base | None
    gguf_base: GgufBase | None
    base_name: str
    max_lora_rank: int = 16
    mixed_moe: bool = False

    @property
    def adapter(self) -> Adapter | None:
        """The neutral adapter of the richest form that could be read."""
        read = [form.adapter for form in self.forms.values()]
        return next((adapter for adapter in read if adapter is not None), None)

    @property
    def model_type(self) -> str:
        if self.base:
            return self.base.model_type
        return self.adapter.model_type if self.adapter else ""

    def target(self, format: Format) -> str:
        """Where a missing form goes: beside the others."""
        folder = self.path if self.path.is_dir() else self.path.parent
        if folder.name in ("mlx", "gguf"):
            folder = folder.parent
        if format == "gguf":
            return str(folder / "gguf" / "adapter.gguf")
        return str(folder / format)

    def place(self, form: Form) -> Path:
        """Where a command finds a form: its own path, or the zip that it was unpacked from."""
        return self.path if archive.is_zip(self.path) else form.path

    def served(self) -> tuple[str, str]:
        """The folder that vLLM is given, and the command that must run first, with its &&."""
        if not archive.is_zip(self.path):
            return str(self.path), ""
        folder = str(self.path.with_suffix(""))
        return folder, shlex.join(
            ["python", "-m", "zipfile", "-e", str(self.path), folder]
        ) + " && "

    def convert(self, format: Format) -> str:
        words = ["livery", "convert", str(self.path), self.target(format), "--to", format]
        return shlex.join([*words, "--base", self.base_name])

    def merge(self) -> str:
        words = ["--base", self.base_name, "--adapter", str(self.path), "--out", "merged"]
        return shlex.join(["livery", "merge", *words])

    def merged(self, runtime: Runtime | Literal[""] = "") -> str:
        """Merging, where the runtime loads what comes of it, for llama.cpp with the GGUF model that
        follows; else training again without what stands in the way."""
        more = self._extension()
        if more is None:
            return self.retrain()
        if not self._loads(runtime, more):
            touched = {leaf(m) for m in (self.adapter.pairs if self.adapter else ())}
            return self.retrain(*(touched & TIED if more.untied else ()))
        return self.merge_gguf() if runtime in ("llamacpp", "ollama") else self.merge()

    def _extension(self) -> Extension | None:
        """What merging adds to the base; None where it is refused."""
        if self.base is None or self.adapter is None or not self.base.shapes:
            return Extension()
        source: Format = next(form.format for form in self.forms.values() if form.adapter)
        try:
            return merged_form(self.adapter, self.base, source)
        except UserError:
            return None

    def _loads(self, runtime: Runtime | Literal[""], more: Extension) -> bool:
        """Whether the runtime loads the base with these additions."""
        return self.base is None or loads(self.base, more, runtime)

    def merge_gguf(self) -> str:
        return f"{self.merge()} && livery gguf --model merged --out merged.gguf"

    def correct(self, form: Form, **values: Any) -> str:
        """Set keys of adapter_config.json; None takes a key out."""
        code = (
            "import json, pathlib; "
            f"path = pathlib.Path({str(form.path / 'adapter_config.json')!r}); "
            f"config = {{**json.loads(path.read_text()), **{values!r}}}; "
            "path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))"
        )
        return shlex.join(["python", "-c", code])

    def peft_merge(self) -> str:
        """PEFT's own merge, for what only PEFT can apply."""
        code = (
            "from peft import AutoPeftModelForCausalLM as M; "
            f"M.from_pretrained({str(self.path)!r}).merge_and_unload().save_pretrained('merged')"
        )
        return shlex.join(["python", "-c", code])

    def retrain(self, *without: str) -> str:
        """Training again, on the modules of the adapter but for some."""
        leaves = {m.rpartition(".")[2] for m in (self.adapter.pairs if self.adapter else ())}
        kept = ",".join(sorted(leaves - {*without})) or "q_proj,v_proj"
        words = ["--model", self.base_name, "--data", "DATA", "--output-dir", "OUT"]
        return shlex.join(["livery", "train", *words, "--lora-targets", kept])


_PEFT_SUFFIX = re.compile(r"\.lora_(?:embedding_)?([AB])(?:\.weight)?$")


def peft_halves(form: Form) -> dict[str, dict[str, Shape]]:
    """Module -> {"A": shape, "B": shape}, from the names of PEFT's tensors."""
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in form.shapes.items():
        match = _PEFT_SUFFIX.search(name)
        if match:
            module = mlx_to_hf(name[: match.start()].removeprefix("base_model.model."))
            found.setdefault(module, {})[match[1]] = shape
    return found


def suffix_halves(form: Form) -> dict[str, dict[str, Shape]]:
    """Tensor or module -> {"A": shape, "B": shape}, from MLX's or GGUF's names."""
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in form.shapes.items():
        head, _, part = name.rpartition(".")
        if part in ("lora_a", "lora_b"):
            found.setdefault(head, {})[part[-1].upper()] = shape
    return found
