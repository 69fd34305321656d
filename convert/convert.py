"""An adapter of any format to any other: what `livery convert` calls.

from convert import convert

report = convert("adapters/mine", "mine.gguf", "gguf", base="models/base")
print(report["modules"], report["notes"])
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

from livery.errors import UserError
from livery.outputs import check_file, check_link

if TYPE_CHECKING:
    import numpy as np

    from convert.adapters.formats import Source
    from convert.base import Base
    from livery.adapter import Adapter

Target = Literal["peft", "mlx", "gguf", "all"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
# What was done; written as a call because one of the keys is not a Python name.
Report = TypedDict(
    "Report",
    {
        "from": str,  # the format that was read
        "formats": list[str],  # those that were written
        "destination": str,
        "modules": int,  # that the adapter changes
        "parameters": int,
        "ranks": list[int],
        "dtype": str,
        "base_model": str | None,
        "model_type": str | None,
        "left_out": dict[str, str],  # format -> why the adapter has no such form
        "notes": list[str],  # what a user should know of the conversion
    },
)


def convert(
    source: str | Path,
    destination: str | Path,
    target: Target,
    *,
    base: str | Path | None = None,
    dtype: Dtype = "auto",
    overwrite: bool = False,
    allow_nonfinite: bool = False,
) -> Report:
    """Convert an adapter. What the target format cannot hold is refused by name, never dropped.

    Args:
        source: a folder, a .gguf file or a zip; its format is recognised by its content.
        destination: a folder; for "gguf" also the file itself.
        target: the format to write; "all" makes one folder that every runtime reads.
        base: the base model: its folder, or the hub id of a downloaded one. Modules and shapes are
            checked against it, and what a format needs of it is taken from there.
        dtype: how to store the tensors; "auto" keeps what the source has.
        overwrite: replace an adapter that the destination already holds.
        allow_nonfinite: carry NaN and infinite values over instead of refusing them.

    Returns:
        What was read, written and left out.

    Raises:
        UserError: the source is not an adapter, something in it has no form in `target` or
            overflows in `dtype`, it holds NaN, it does not fit the base, or the destination is
            taken.
    """
    from convert.adapters import formats
    from convert.base import load_base
    from livery.training.run_folder import writing

    _check_choice("target", target, get_args(Target))
    _check_choice("dtype", dtype, get_args(Dtype))
    found = formats.detect(source)
    destination = Path(destination)
    named = load_base(base) if base else None
    adapter = formats.read_adapter(found, named, allow_nonfinite=allow_nonfinite)
    known = named or formats.choose_base(None, adapter.base_model)
    adapter = formats.with_base(adapter, known)
    if base and not Path(base).exists():
        adapter = adapter.replace(base_model=str(base))  # a hub id says more than a path
    if dtype != "auto":
        adapter = adapter.replace(dtype=dtype)
        adapter = _rounded(adapter, dtype, allow_nonfinite=allow_nonfinite)
    with writing(destination, "writing an adapter"):
        _check_free(found, Path(source), destination, target, known, overwrite=overwrite)
        return _write(adapter, found, destination, target, known)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r}; choose one of: {', '.join(known)}.")


def _write(
    adapter: Adapter, found: Source, destination: Path, target: Target, base: Base | None
) -> Report:
    from convert.adapters import formats
    from convert.pack import folder

    if target == "all":
        made = folder.write_adapter_folder(
            adapter, destination, base.folder if base else None, source=found.format
        )
        written, left_out, notes = list(made.formats), dict(made.left_out), list(made.notes)
    else:
        notes = formats.write_adapter(adapter, destination, target, base=base, source=found.format)
        written, left_out = [str(target)], dict[str, str]()
    return {
        "from": found.format,
        "formats": written,
        "destination": str(destination),
        "modules": len(adapter.pairs),
        "parameters": adapter.parameters,
        "ranks": list(adapter.ranks),
        "dtype": adapter.dtype,
        "base_model": adapter.base_model,
        "model_type": adapter.model_type,
        "left_out": left_out,
        "notes": [*adapter.notes, *notes],
    }


def _check_free(
    found: Source,
    source: Path,
    destination: Path,
    target: Target,
    base: Base | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse a destination where something would be lost.

    Raises:
        UserError: something there was not written by Livery, is read, or may not be replaced.
    """
    from convert import archive
    from convert.adapters import record
    from convert.archive import TOKENIZER_FILES

    def check(path: Path, weights: Path, *, asked: bool = overwrite) -> None:
        check_file(
            path,
            overwrite=asked,
            inputs=read,
            ours=lambda _: record.is_written(weights),
            what="a part of an adapter that Livery wrote",
        )

    check_link(destination)
    # A folder may be completed in its place; else nothing that is read is written over.
    in_place = source.is_dir() and destination.resolve() == source.resolve()
    read = () if in_place else (source, found.file)
    if target == "gguf":
        file = destination if destination.suffix == ".gguf" else destination / "adapter.gguf"
        check(file, file)
        return
    if destination.is_file():
        raise UserError(f"{destination}: is a file; {target} adapters are folders.")
    if base is not None and destination.resolve() == Path(base.folder).resolve():
        raise UserError(f"{destination}: is the base model itself; write to another folder.")
    config = destination / "adapter_config.json"
    if target == "mlx" and config.exists():
        if (destination / "adapter_model.safetensors").exists():
            raise UserError(
                f"{destination}: is a PEFT folder, whose adapter_config.json MLX's would replace. "
                f"Write to {destination / 'mlx'} instead."
            )
    elif config.exists() and (destination / "adapters.safetensors").exists():
        raise UserError(
            f"{destination}: is an MLX folder, whose adapter_config.json PEFT's would replace. "
            "Write to another folder."
        )
    names = {"mlx": ("adapters.safetensors",)}.get(target, archive.PEFT_FILES[1:])
    weights = destination / names[0]
    if (config.exists() or weights.exists()) and not overwrite:
        raise UserError(f"{destination}: holds an adapter. Add --overwrite to replace it.")
    check(weights, weights)
    check(config, weights)
    if target == "all":
        for name in ("README.md", *(TOKENIZER_FILES if base is not None else ())):
            check(destination / name, weights, asked=True)
        for name in ("mlx/adapters.safetensors", "gguf/adapter.gguf"):
            check(destination / name, destination / name)
        check(destination / "mlx/adapter_config.json", destination / "mlx/adapters.safetensors")


def _rounded(adapter: Adapter, dtype: Dtype, *, allow_nonfinite: bool) -> Adapter:
    """The adapter with every array rounded to `dtype`'s values.

    Raises:
        UserError: one is too large for it.
    """
    from livery.safetensors_file import check_overflow, round_to

    def rounded(array: np.ndarray, name: str) -> np.ndarray:
        made = round_to(array, dtype)
        if not allow_nonfinite:
            check_overflow(array, made, name, dtype)
        return made

    pairs = {
        module: dataclasses.replace(
            pair,
            **{
                part: rounded(getattr(pair, part), f"{module}: {part}")
                for part in ("a", "b", "magnitude", "bias")
                if getattr(pair, part) is not None
            },
        )
        for module, pair in adapter.pairs.items()
    }
    saved = {name: rounded(array, name) for name, array in adapter.saved.items()}
    return adapter.replace(pairs=pairs, saved=saved)
