"""`livery convert`: an adapter from any format to any other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import click

from convert import options
from livery.errors import UserError, printable, shown
from livery.outputs import check_file
from livery.run_folder import writing

EPILOG = """\b
Examples:
  livery convert adapters/date-keys adapter.gguf --to gguf --base base_model
  livery convert adapter.gguf adapters/mine --to peft --base meta-llama/Llama-3.2-1B-Instruct
  livery convert ~/mlx-adapters adapters/mine --to all --base base_model --verify
"""


@click.command("convert", epilog=EPILOG)
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("destination", metavar="[DST]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--to",
    "target",
    type=click.Choice(["peft", "mlx", "gguf", "all"]),
    help="The format to write; all makes one folder that every runtime reads.",
)
@click.option(
    "--outfile",
    type=click.Path(path_type=Path),
    help="DST with --to gguf, as llama.cpp's script names it.",
)
@click.option("--base", help="Base model: its folder, or the hub id of a downloaded one.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="How to store the tensors; auto keeps what SRC has.",
)
@click.option("--overwrite", is_flag=True, help="Replace an adapter that DST already holds.")
@options.allow_nonfinite
@click.option("--verify", is_flag=True, help="Run SRC and DST in every runtime and compare.")
@options.as_json
@click.pass_obj
def convert_command(
    handover: Any,
    source: Path,
    destination: Path | None,
    target: str | None,
    outfile: Path | None,
    base: str | None,
    dtype: str,
    overwrite: bool,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> int:
    """Convert the adapter SRC (a folder or a .gguf file, its format is recognised) to DST.

    What a format cannot hold is refused by name, never dropped. --verify is livery verify on what
    was written: exit code 1 where a runtime disagrees.
    """
    if verify and (base is None or handover is None):
        raise click.UsageError(
            "--verify needs --base" if handover else "--verify is for livery convert"
        )
    if outfile is not None:
        if destination is not None or target not in (None, "gguf"):
            raise click.UsageError("--outfile F is DST with --to gguf: leave DST and --to out.")
        if outfile.suffix != ".gguf":
            raise click.UsageError(f"--outfile {outfile}: name a file that ends in .gguf.")
        destination, target = outfile, "gguf"
    if destination is None:
        raise click.UsageError("Missing argument 'DST'.")
    if target is None:
        raise click.UsageError("Missing option '--to': peft, mlx, gguf or all.")
    started = time.perf_counter()
    report = convert(
        source,
        destination,
        target,
        base=base,
        dtype=dtype,
        overwrite=overwrite,
        allow_nonfinite=allow_nonfinite,
    )
    report["seconds"] = round(time.perf_counter() - started, 3)
    if not as_json:
        _print_report(report, destination)
    passed = True
    if verify:
        verdict = handover.verify_conversion(
            source, destination, report["from"], target, base, show=not as_json
        )
        report["verify"], passed = verdict.as_dict(), verdict.passed
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    return 0 if passed else 1


def _print_report(report: dict[str, Any], destination: Path) -> None:
    click.echo(
        f"{report['from']} → {', '.join(report['formats'])}: {report['modules']} modules, "
        f"{report['parameters']:,} parameters → {shown(destination)} ({report['seconds']:.2f} s)"
    )
    for note in report["notes"]:
        click.echo(printable(f"note: {note}"))
    for name, why in report["left_out"].items():
        click.echo(printable(f"left out {name}: {why}"))


def convert(
    source: str | Path,
    destination: str | Path,
    target: str,
    *,
    base: str | Path | None = None,
    dtype: str = "auto",
    overwrite: bool = False,
    allow_nonfinite: bool = False,
) -> dict[str, Any]:
    """Read `source`, write `destination`, and say what was done.

    Raises:
        UserError: the source is no adapter, something in it has no form in `target` or overflows
            in `dtype`, it holds NaN, it does not fit the base, or `destination` is taken.
    """
    from convert import formats
    from convert.base import load_base

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


def _write(adapter: Any, found: Any, destination: Path, target: str, known: Any) -> dict[str, Any]:
    from convert import folder, formats

    if target == "all":
        made = folder.write_adapter_folder(
            adapter, destination, known.folder if known else None, source=found.format
        )
        written, left_out, notes = made.formats, dict(made.left_out), list(made.notes)
    else:
        kind = cast("formats.Format", target)
        notes = formats.write_adapter(adapter, destination, kind, base=known, source=found.format)
        written, left_out = (target,), {}
    notes = [*adapter.notes, *notes]
    return {
        "from": found.format,
        "formats": list(written),
        "destination": str(destination),
        "modules": len(adapter.pairs),
        "parameters": adapter.parameters,
        "ranks": list(adapter.ranks),
        "dtype": adapter.dtype,
        "base_model": adapter.base_model,
        "model_type": adapter.model_type,
        "left_out": left_out,
        "notes": notes,
    }


def _check_free(
    found: Any, source: Path, destination: Path, target: str, base: Any, *, overwrite: bool
) -> None:
    """Refuse a destination where something would be lost.

    Raises:
        UserError: something there was not written by Livery, is read, or may not be replaced.
    """
    from convert import archive, record
    from convert.archive import TOKENIZER_FILES

    def check(path: Path, weights: Path, *, asked: bool = overwrite) -> None:
        check_file(
            path,
            overwrite=asked,
            inputs=read,
            ours=lambda _: record.is_written(weights),
            what="a part of an adapter that Livery wrote",
        )

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


def _rounded(adapter: Any, dtype: str, *, allow_nonfinite: bool) -> Any:
    """The adapter with every array rounded to `dtype`'s values.

    Raises:
        UserError: one is too large for it.
    """
    import dataclasses

    from livery.safetensors_file import check_overflow, round_to

    def rounded(array: Any, name: str) -> Any:
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
