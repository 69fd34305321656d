"""`livery convert`: an adapter from any format to any other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import options
from livery.errors import counted, printable, shown

if TYPE_CHECKING:
    from convert.convert import Dtype, Target
    from convert.verify.verdict import Verdict

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
@click.option(
    "--base", help="Base model: its folder, a GGUF file, a name (livery base list) or a hub id."
)
@options.dtype("How to store the tensors; auto keeps what SRC has.")
@click.option("--overwrite", is_flag=True, help="Replace an adapter that DST already holds.")
@options.allow_nonfinite
@click.option("--verify", is_flag=True, help="Run SRC and DST in every runtime and compare.")
@options.as_json
def convert_command(
    source: Path,
    destination: Path | None,
    target: Target | None,
    outfile: Path | None,
    base: str | None,
    dtype: Dtype,
    overwrite: bool,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> int:
    """Convert the adapter SRC (a folder or a .gguf file, its format is recognised) to DST.

    What a format cannot hold is refused by name, never dropped. --verify runs livery verify on the
    result: exit code 1 if a runtime disagrees.
    """
    if verify and base is None:
        raise click.UsageError("--verify needs --base.")
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
    from convert.convert import convert

    started = time.perf_counter()
    made = convert(
        source,
        destination,
        target,
        base=base,
        dtype=dtype,
        overwrite=overwrite,
        allow_nonfinite=allow_nonfinite,
    )
    report: dict[str, Any] = {**made, "seconds": round(time.perf_counter() - started, 3)}
    if not as_json:
        _print_report(report, destination)
    passed = True
    if verify and base is not None:
        verdict = _verify(source, destination, made["from"], target, base)
        if not as_json:
            from commands.verify import print_verdict

            print_verdict(verdict)
        report["verify"], passed = verdict.as_dict(), verdict.passed
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    return 0 if passed else 1


def _print_report(report: dict[str, Any], destination: Path) -> None:
    click.echo(
        f"{report['from']} → {', '.join(report['formats'])}: "
        f"{counted(report['modules'], 'module')}, "
        f"{report['parameters']:,} parameters → {shown(destination)} ({report['seconds']:.2f} s)"
    )
    for note in report["notes"]:
        click.echo(printable(f"note: {note}"))
    for name, why in report["left_out"].items():
        click.echo(printable(f"left out {name}: {why}"))


def _verify(
    source: Path, destination: Path, source_format: str, target: Target, base: str
) -> Verdict:
    """Hold what was converted against what it was converted from."""
    from convert.verify.verify import FORMATS, verify

    made = set(FORMATS.values()) - {source_format} if target == "all" else {target}
    also = {name: [destination] for name, kind in FORMATS.items() if kind in made}
    return verify(source, base, also=also)
