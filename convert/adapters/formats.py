"""Which format a path holds, and the rules that need both ends of a conversion."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from convert import archive
from convert.adapters import mlx as mlx_format
from convert.adapters import peft as peft_format
from convert.base import Base, check_fits, load_base
from convert.unwritable import Unwritable
from convert.way_out import advice
from livery.adapter import Adapter, Format
from livery.adapter_names import mlx_to_hf, stored_to_hf
from livery.errors import UserError
from livery.files import read_json
from livery.models import find_base
from livery.reading import open_file

FORMATS: tuple[Format, ...] = ("peft", "mlx", "gguf")


@dataclass(frozen=True)
class Source:
    """An adapter on disk: its format, its folder, and the file that holds its tensors."""

    format: Format
    folder: Path
    file: Path


def detect(path: str | Path) -> Source:
    """Recognise an adapter by what is in it, whatever it is called.

    A folder that holds several formats counts as the richest of them: PEFT, then MLX, then GGUF.

    A zip is unpacked to a temporary folder, see `archive.unpack`.

    Raises:
        UserError: nothing there is an adapter; the message says what was found.
    """
    path = Path(path)
    if archive.is_zip(path):
        path = archive.unpack(path)
    if path.is_file():
        return _detect_file(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder.")
    for name, kind in ((peft_format.WEIGHTS, "peft"), (mlx_format.WEIGHTS, "mlx")):
        if (path / name).exists():
            return Source(cast("Format", kind), path, path / name)
    if (path / "adapter_model.bin").exists():
        return Source("peft", path, path / peft_format.WEIGHTS)  # whose reader says what to do
    ggufs = sorted([*path.glob("*.gguf"), *path.glob("gguf/*.gguf")])
    if len(ggufs) == 1:
        return Source("gguf", path, ggufs[0])
    if len(ggufs) > 1:
        raise UserError(f"{path}: holds {len(ggufs)} GGUF files; name one of them.")
    if (path / "mlx" / mlx_format.WEIGHTS).exists():
        return detect(path / "mlx")
    raise UserError(
        f"{path}: no adapter here: no {peft_format.WEIGHTS} (PEFT) nor {mlx_format.WEIGHTS} "
        "(MLX) nor a .gguf file."
    )


def _detect_file(path: Path) -> Source:
    with open_file(path) as file:
        magic = file.read(4)
    if magic == b"GGUF":
        return Source("gguf", path.parent, path)
    if path.name.endswith(".bin"):
        raise UserError(f"{path}: a pickle; save the adapter as safetensors first.")
    config_file = path.parent / peft_format.CONFIG
    config: Any = read_json(config_file) if config_file.exists() else None
    if isinstance(config, dict):
        kind = "mlx" if "lora_parameters" in config and "peft_type" not in config else "peft"
        return Source(cast("Format", kind), path.parent, path)
    raise UserError(
        f"{path}: neither a GGUF file nor a weights file with {peft_format.CONFIG} beside it."
    )


def read_adapter(
    source: str | Path | Source, base: Base | None = None, *, allow_nonfinite: bool = False
) -> Adapter:
    """Read an adapter of any format.

    Args:
        source: its folder or file.
        base: checks modules and shapes against it where given; GGUF needs its head counts where
            the file itself does not say them.
        allow_nonfinite: take NaN and infinity for what they are.

    Raises:
        UserError: see the readers.
    """
    if not isinstance(source, Source):
        source = detect(source)
    if source.format == "peft":
        if source.file.name not in (peft_format.WEIGHTS,):
            raise UserError(f"{source.file}: give the folder, or rename it {peft_format.WEIGHTS}.")
        adapter = peft_format.read(source.folder, base, allow_nonfinite=allow_nonfinite)
    elif source.format == "mlx":
        adapter = mlx_format.read(source.folder, source.file, allow_nonfinite=allow_nonfinite)
    else:
        from convert.adapters import gguf as gguf_format

        adapter = gguf_format.read(source.file, base, allow_nonfinite=allow_nonfinite)
    return with_base(adapter, base)


def with_base(adapter: Adapter, base: Base | None) -> Adapter:
    """The adapter with what the base tells of it, checked against the base's shapes."""
    # An adapter may name modules as the family's files and mlx-lm do, where transformers does not.
    kind = (base.model_type if base else "") or adapter.model_type
    spelled = {
        mlx_to_hf(stored_to_hf(module, kind), kind): pair for module, pair in adapter.pairs.items()
    }
    adapter = adapter.replace(pairs=spelled)
    if base is None:
        return adapter
    check_fits(adapter, base)
    return adapter.replace(
        model_type=base.model_type or adapter.model_type,
        base_model=adapter.base_model or str(base.folder),
        heads=(base.heads, base.kv_heads),
    )


def choose_base(named: str | Path | None, adapter_base: str) -> Base | None:
    """The base that was named, or the one that the adapter names if it is on this machine.

    Raises:
        UserError: a base was named and is not there.
    """
    if named:
        return load_base(named)
    return load_base(adapter_base) if find_base(adapter_base) else None


def check_heads(adapter: Adapter, base: Base | None, source: Format | None, target: Format) -> None:
    """Refuse what means something else in `target`: LoRA on an embedding that is also the head.

    PEFT adapts the embedding alone, MLX the head with it, llama.cpp aborts; and an lm_head that is
    the embedding has no tensor of its own for MLX and llama.cpp to adapt.

    Raises:
        UserError: naming the module, why, and the way out.
    """
    touched = [
        module
        for module, pair in adapter.pairs.items()
        if pair.kind == "embedding" or module == "lm_head"
    ]
    if not touched or source == target:
        return
    if base is None:
        raise UserError(
            f"{touched[0]}: what an adapter on it means depends on whether the base ties head and "
            "embedding. Give --base the base model's folder."
        )
    if not base.tied or (target == "peft" and source != "mlx"):
        return
    reasons = {
        "mlx": "MLX applies it to both" if touched[0] != "lm_head" else "MLX has no lm_head there",
        "gguf": "llama.cpp aborts on it",
        "peft": "MLX applied it to both, PEFT applies it to the embedding alone",
    }
    raise Unwritable(
        f"{touched[0]}: the base ties its head to the embedding, and {reasons[target]}.",
        "this module",
    )


def refuse(
    adapter: Adapter, target: Format, base: Base | None = None, source: Format | None = None
) -> None:
    """What `write_adapter` would refuse, found out without writing.

    Raises:
        UserError: see `write_adapter`.
    """
    with _way_out(adapter, base, target, source):
        check_heads(adapter, base, source or "peft", target)
        if target == "peft":
            peft_format.refuse(adapter, base)
            return
        _check_copies(adapter, base)
        if target == "mlx":
            mlx_format.refuse(adapter, base)
        else:
            from convert.adapters import gguf as gguf_format

            gguf_format.refuse(adapter, base)


def write_adapter(
    adapter: Adapter,
    destination: Path,
    target: Format,
    *,
    base: Base | None = None,
    source: Format | None = None,
) -> list[str]:
    """Write one format into a folder (GGUF: a .gguf file, or adapter.gguf in the folder).

    Returns notes for the user. `source` is the format it was read from; None for a trained one,
    whose embeddings mean what PEFT's mean.

    Raises:
        UserError: see the writers and `check_heads`.
    """
    with _way_out(adapter, base, target, source):
        check_heads(adapter, base, source or "peft", target)
        if target == "peft":
            return peft_format.write(adapter, destination, base)
        copies = _check_copies(adapter, base)
        if target == "mlx":
            return mlx_format.write(adapter, destination, base) + copies
        from convert.adapters import gguf as gguf_format

        file = destination if destination.suffix == ".gguf" else destination / "adapter.gguf"
        return gguf_format.write(adapter, file, base) + copies


@contextmanager
def _way_out(
    adapter: Adapter, base: Base | None, target: Format, source: Format | None
) -> Generator[None]:
    """Add to a refusal what works on this base."""
    try:
        yield
    except Unwritable as error:
        more = advice(error.without, adapter, base, target, source or "peft")
        raise UserError(f"{error} {more}") from None


def _check_copies(adapter: Adapter, base: Base | None) -> list[str]:
    """PEFT saves a copy of an embedding it adapts, which another format has no use for, unless
    the vocabulary was resized.

    Raises:
        UserError: a copy is of another size than the base's own weight.
    """
    copies = {name: a for name, a in adapter.saved.items() if name.endswith(".base_layer.weight")}
    for name, array in copies.items():
        own = base.shapes.get(name.removesuffix(".base_layer.weight")) if base else None
        if own and own != array.shape:
            raise UserError(
                f"{name}: has shape {array.shape}, the base has {own}: the vocabulary was resized, "
                "which only PEFT can apply. Merge the adapter into the resized base instead."
            )
    if not copies:
        return []
    return [f"Left out {', '.join(copies)}: copies of the base's own weights."]
