"""What the rules of `livery check` look at: an adapter's forms on disk, read as far as they go.

A rule must see what is wrong with an adapter that convert's readers refuse, so the config and the
tensors' shapes are kept beside the neutral adapter, which may be missing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from convert import archive, gguf_names, mlx_format, peft_format
from convert.base import Base
from convert.formats import Format
from convert.gguf_file import open_gguf
from convert.safetensors_file import open_tensors
from livery.adapter import Adapter
from livery.adapter_names import mlx_to_hf
from livery.errors import UserError
from livery.files import read_json

Shape = tuple[int, ...]
Runtime = Literal["vllm", "llamacpp", "ollama", "mlx"]


@dataclass(frozen=True)
class Finding:
    """What one rule says of one runtime.

    Attributes:
        rule: its name.
        refused: the runtime does not take the adapter, or aborts; else it takes it, but the user
            should know something.
        why: a sentence.
        remedy: the command that mends it; "" where there is nothing to mend.
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
    """

    format: Format
    path: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    adapter: Adapter | None
    refusal: str = ""


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

    def convert(self, format: Format) -> str:
        words = ["livery", "convert", str(self.path), self.target(format), "--to", format]
        return shlex.join([*words, "--base", self.base_name])

    def merge(self) -> str:
        words = ["--base", self.base_name, "--adapter", str(self.path), "--out", "merged"]
        return shlex.join(["livery", "merge", *words])

    def merge_gguf(self) -> str:
        return f"{self.merge()} && livery gguf --model merged --out merged.gguf"

    def peft_merge(self) -> str:
        """PEFT's own merge, for what only PEFT can apply."""
        code = (
            "from peft import AutoPeftModelForCausalLM as M; "
            f"M.from_pretrained({str(self.path)!r}).merge_and_unload().save_pretrained('merged')"
        )
        return shlex.join(["python", "-c", code])

    def retrain(self, without: str) -> str:
        leaves = {m.rpartition(".")[2] for m in (self.adapter.pairs if self.adapter else ())}
        kept = ",".join(sorted(leaves - {without})) or "q_proj,v_proj"
        words = ["--model", self.base_name, "--data", "DATA", "--output-dir", "OUT"]
        return shlex.join(["livery", "train", *words, "--lora-targets", kept])


def find_forms(path: Path, base: Base | None) -> dict[Format, Form]:
    """Every form of the adapter at `path`, PEFT first.

    Raises:
        UserError: there is nothing of an adapter there, or several GGUF files, or a zip is odd.
    """
    if archive.is_zip(path):
        path = archive.unpack(path)
    if path.is_file():
        return _form_of_file(path, base)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder.")
    forms: dict[Format, Form] = {}
    config = _config(path / peft_format.CONFIG)
    weights = (peft_format.WEIGHTS, "adapter_model.bin")
    named = "peft_type" in config or ("r" in config and "lora_parameters" not in config)
    if any((path / name).exists() for name in weights) or named:
        forms["peft"] = _peft(path, config)
    for folder in (path, path / "mlx"):
        own = _config(folder / mlx_format.CONFIG)
        if (folder / mlx_format.WEIGHTS).exists() or "lora_parameters" in own:
            forms.setdefault("mlx", _mlx(folder, own))
    file = _adapter_file(path)
    if file:
        forms["gguf"] = _gguf(file, base)
    if not forms:
        raise UserError(
            f"{path}: no adapter here: neither {peft_format.WEIGHTS} (PEFT) nor "
            f"{mlx_format.WEIGHTS} (MLX) nor a .gguf file."
        )
    return forms


def _adapter_file(folder: Path) -> Path | None:
    """The GGUF adapter of a folder, which may hold GGUF models too."""
    own = folder / "gguf" / "adapter.gguf"
    found = [own] if own.exists() else sorted([*folder.glob("*.gguf"), *folder.glob("gguf/*.gguf")])
    if len(found) > 1:
        found = [file for file in found if _type(file) == "adapter"]
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in found)
        raise UserError(f"{folder}: holds {len(found)} GGUF adapters ({names}); name one of them.")
    return found[0] if found else None


def _type(file: Path) -> Any:
    try:
        return open_gguf(file, known_types=False).metadata.get("general.type")
    except UserError:
        return None


def _form_of_file(path: Path, base: Base | None) -> dict[Format, Form]:
    from convert.formats import detect

    source = detect(path)
    if source.format == "gguf":
        return {"gguf": _gguf(path, base)}
    config = _config(source.folder / peft_format.CONFIG)
    if source.format == "mlx":
        return {"mlx": _mlx(source.folder, config)}
    return {"peft": _peft(source.folder, config)}


def _config(path: Path) -> dict[str, Any]:
    """The config, or nothing: what is wrong with it, the reader says."""
    try:
        value = read_json(path)
    except (UserError, OSError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _peft(folder: Path, config: Mapping[str, Any]) -> Form:
    shapes = _shapes(lambda: open_tensors(folder / peft_format.WEIGHTS).entries)
    adapter, refusal = _read(lambda: peft_format.read(folder))
    return Form("peft", folder, config, shapes, adapter, refusal)


def _mlx(folder: Path, config: Mapping[str, Any]) -> Form:
    shapes = _shapes(lambda: open_tensors(folder / mlx_format.WEIGHTS).entries)
    adapter, refusal = _read(lambda: mlx_format.read(folder))
    return Form("mlx", folder, config, shapes, adapter, refusal)


def _gguf(file: Path, base: Base | None) -> Form:
    from convert import gguf_format

    config: Mapping[str, Any] = {}
    try:
        opened = open_gguf(file)
        config, shapes = opened.metadata, _shapes(lambda: opened.entries)
    except UserError:
        shapes = {}
    known = base if base and _same_architecture(base, config) else None
    adapter, refusal = _read(lambda: gguf_format.read(file, known))
    return Form("gguf", file, config, shapes, adapter, refusal)


def _same_architecture(base: Base, metadata: Mapping[str, Any]) -> bool:
    try:
        wanted = gguf_names.for_model_type(base.model_type).name
    except UserError:
        return False
    return metadata.get("general.architecture") == wanted


def _shapes(entries: Callable[[], Mapping[str, Any]]) -> dict[str, Shape]:
    try:
        return {name: tuple(entry.shape) for name, entry in entries().items()}
    except UserError:
        return {}


def _read(read: Callable[[], Adapter]) -> tuple[Adapter | None, str]:
    try:
        return read(), ""
    except UserError as error:
        return None, str(error)


def open_gguf_base(path: Path) -> GgufBase:
    """Architecture and tensor shapes of a GGUF model, whatever its tensors are stored in.

    Raises:
        UserError: it is damaged, or an adapter.
    """
    metadata = open_gguf(path, known_types=False).metadata
    if metadata.get("general.type", "model") != "model":
        raise UserError(f"{path}: general.type is {metadata['general.type']!r}: no base model.")
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(path).tensors
        shapes = {str(t.name): tuple(int(n) for n in t.shape)[::-1] for t in tensors}
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: its tensors cannot be listed: {error}.") from None
    return GgufBase(path, str(metadata.get("general.architecture")), shapes, metadata)


def gguf_shapes(base: Base) -> dict[str, Shape] | None:
    """What a GGUF of `base` holds: tensor name -> shape; None where that is not known.

    A head that is the embedding has no tensor of its own.
    """
    try:
        architecture = gguf_names.for_model_type(base.model_type)
    except UserError:
        return None
    if not base.shapes:
        return None
    made: dict[str, Shape] = {}
    for module, shape in base.shapes.items():
        path = module.replace("model.language_model.", "model.", 1)
        name = gguf_names.model_tensor(path, architecture)
        if name and not (module == "lm_head" and base.tied):
            made[f"{name}.weight"] = shape
    return made


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
