"""Reading what `livery check` looks at: every form of an adapter on disk, and a base that is GGUF.

A form that convert's reader refuses is kept with its reason, its config and its tensors' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from convert import archive
from convert.adapters import gate_up
from convert.adapters import mlx as mlx_format
from convert.adapters import peft as peft_format
from convert.adapters.formats import detect
from convert.base import Base
from convert.check.case import Form, GgufBase, Shape
from convert.gguf import layout as gguf_layout
from convert.gguf import names as gguf_names
from livery.adapter import Adapter, Format, NotFinite
from livery.errors import UserError
from livery.files import read_json
from livery.gguf_reader import open_gguf
from livery.safetensors_file import open_tensors


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
        forms["peft"] = _peft(path, config, base)
    for folder in (path, path / "mlx"):
        own = _config(folder / mlx_format.CONFIG)
        if (folder / mlx_format.WEIGHTS).exists() or "lora_parameters" in own:
            forms.setdefault("mlx", _mlx(folder, own))
    file = _adapter_file(path)
    if file:
        forms["gguf"] = _gguf(file, base)
    if not forms:
        raise UserError(
            f"{path}: no adapter here: no {peft_format.WEIGHTS} (PEFT) nor "
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
    source = detect(path)
    if source.format == "gguf":
        return {"gguf": _gguf(path, base)}
    config = _config(source.folder / peft_format.CONFIG)
    if source.format == "mlx":
        return {"mlx": _mlx(source.folder, config)}
    return {"peft": _peft(source.folder, config, base)}


def _config(path: Path) -> dict[str, Any]:
    """The config, or nothing: what is wrong with it, the reader says."""
    try:
        value = read_json(path)
    except (UserError, OSError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _peft(folder: Path, config: Mapping[str, Any], base: Base | None) -> Form:
    shapes = _shapes(lambda: open_tensors(folder / peft_format.WEIGHTS).entries)
    return Form("peft", folder, config, shapes, *_read(lambda: peft_format.read(folder, base)))


def _mlx(folder: Path, config: Mapping[str, Any]) -> Form:
    shapes = _shapes(lambda: open_tensors(folder / mlx_format.WEIGHTS).entries)
    return Form("mlx", folder, config, shapes, *_read(lambda: mlx_format.read(folder)))


def _gguf(file: Path, base: Base | None) -> Form:
    from convert.adapters import gguf as gguf_format

    config: Mapping[str, Any] = {}
    try:
        opened = open_gguf(file)
        config, shapes = opened.metadata, _shapes(lambda: opened.entries)
    except UserError:
        shapes = {}
    known = base if base and _same_architecture(base, config) else None
    return Form("gguf", file, config, shapes, *_read(lambda: gguf_format.read(file, known)))


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


def _read(read: Callable[[], Adapter]) -> tuple[Adapter | None, str, bool]:
    """(adapter or None, why it was refused, whether for NaN or infinity)."""
    try:
        return read(), "", False
    except UserError as error:
        return None, str(error), isinstance(error, NotFinite)


def open_gguf_base(path: Path) -> GgufBase:
    """Architecture and tensor shapes of a GGUF model, whatever its tensors are stored in.

    Raises:
        UserError: it is damaged, or an adapter.
    """
    opened = open_gguf(path, known_types=False)
    metadata = opened.metadata
    if metadata.get("general.type", "model") != "model":
        raise UserError(f"{path}: general.type is {metadata['general.type']!r}: no base model.")
    shapes = {name: entry.shape for name, entry in opened.entries.items()}
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
        if architecture.joined and path.endswith((gate_up.GATE, gate_up.UP)):
            path, shape = (
                path.rpartition(".")[0] + ".gate_up_proj",
                (shape[0], 2 * shape[1], shape[2]),
            )
        name = gguf_names.model_tensor(path, architecture)
        if name and not (module == "lm_head" and base.tied):
            names = gguf_layout.split_names(f"{name}.weight", architecture)
            rows = gguf_layout.split_rows(module, architecture, base.config) or [range(shape[0])]
            made.update({n: (len(r), *shape[1:]) for n, r in zip(names, rows, strict=True)})
    return made
