"""`livery pack`: an adapter as one zip for every runtime, or as a folder for Ollama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from commands import options
from livery.errors import printable, shown
from livery.progress import megabytes

EPILOG = """\b
Examples:
  livery pack adapters/date-keys --out adapter.zip
  livery pack my-mlx-adapter --base BASE --out adapter.zip --json
  livery pack adapters/date-keys --ollama --from base.gguf --out ollama
"""


@click.command("pack", epilog=EPILOG)
@click.argument("adapter", metavar="ADAPTER", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The zip or folder to write."
)
@click.option(
    "--base", help="Base model: its folder, a GGUF file, a name (livery base list) or a hub id."
)
@click.option("--ollama", is_flag=True, help="Write a folder with a Modelfile for Ollama instead.")
@click.option(
    "--from",
    "start",
    metavar="FILE_OR_NAME",
    help="For --ollama: the base as a .gguf file, or a model that Ollama has.",
)
@click.option(
    "--template",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For --ollama: a file with a Go template, instead of the tokenizer's chat template.",
)
@click.option("--overwrite", is_flag=True, help="Replace an older one at --out.")
@options.as_json
def pack_command(
    adapter: Path,
    out: Path,
    base: str | None,
    ollama: bool,
    start: str | None,
    template: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack ADAPTER (a folder, file or zip of any format) into one zip: PEFT, tokenizer, mlx/ and
    gguf/adapter.gguf.

    Forms that are missing are made; the same folder gives the same bytes on every machine. With
    --ollama: a folder for `ollama create`, with the GGUF adapter, chat template and stop tokens.
    """
    if ollama:
        if not start:
            raise click.UsageError(
                "--ollama needs --from: the base as a .gguf file (livery gguf --model BASE --out "
                "base.gguf), or a model that Ollama has."
            )
        _ollama(adapter, out, start, base, template, overwrite, as_json)
        return
    if start or template:
        raise click.UsageError("--from and --template belong to --ollama.")
    _zip(adapter, out, base, overwrite, as_json)


def _zip(adapter: Path, out: Path, base: str | None, overwrite: bool, as_json: bool) -> None:
    from convert.pack.pack import pack

    with megabytes("packing", shown=not as_json) as moved:
        report = pack(adapter, out, base=base, overwrite=overwrite, progress=moved)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for name, size in report["files"].items():
        click.echo(f"{size:>14,}  {shown(name)}")
    click.echo(f"{report['bytes']:>14,}  {shown(out)}")
    click.echo(f"sha256 {report['sha256']}")
    _also(report)


def _ollama(
    adapter: Path,
    out: Path,
    start: str,
    base: str | None,
    template: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from convert.pack.ollama import pack_ollama

    report = pack_ollama(adapter, out, start, base=base, template=template, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    stops = ", ".join(report["stops"]) or "none"
    click.echo(
        f"{shown(out)}/Modelfile: from {shown(report['from'])}, chat {report['format']}, "
        f"stops {shown(stops)}"
    )
    click.echo(f"ollama create {shown(out.name)} -f {shown(out)}/Modelfile")
    _also(report)


def _also(report: dict[str, Any]) -> None:
    for name in report.get("made", ()):
        click.echo(f"added {name}: the folder had none")
    for name, why in report.get("left_out", {}).items():
        click.echo(printable(f"left out {name}: {why}"))
    for note in report["notes"]:
        click.echo(printable(f"note: {note}"))
