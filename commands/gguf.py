"""`livery gguf`: a Hugging Face model folder as one GGUF file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from commands import options
from convert.gguf.convert import KINDS, convert_model
from livery.errors import counted, printable, shown
from livery.progress import megabytes

EPILOG = """\b
Examples:
  livery gguf --model base_model --out base.gguf
  livery gguf --model merged/ --out merged-q8_0.gguf --type q8_0
  livery gguf --model merged/ --out merged-q4_k_m.gguf --type q4_k_m
"""


@click.command("gguf", epilog=EPILOG)
@click.option(
    "--model",
    required=True,
    help="Model folder, a GGUF file, a name (livery base list) or a hub id.",
)
@click.option(
    "--out", "--output", "out", required=True, type=click.Path(path_type=Path), help="The .gguf."
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(KINDS),
    default="f16",
    show_default=True,
    help="How to store the matrices; the K-quants need xllamacpp or llama-quantize.",
)
@click.option(
    "--context",
    type=click.IntRange(min=1),
    help="Longest context that the file allows, e.g. within a window that llama.cpp lacks.",
)
@click.option(
    "--ignore-field",
    "ignored",
    multiple=True,
    help="A field of config.json that Livery does not know and that changes nothing; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@options.as_json
def gguf_command(
    model: str,
    out: Path,
    kind: str,
    context: int | None,
    ignored: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert a model folder, merged or not, to GGUF for llama.cpp and Ollama.

    Models of other architectures are handed to the llama.cpp checkout that LLAMA_CPP_DIR names.
    """
    started = time.perf_counter()
    with megabytes(f"writing {kind}", shown=not as_json) as moved:
        report = convert_model(
            model, out, kind, overwrite=overwrite, progress=moved, context=context, ignored=ignored
        )
    report["seconds"] = round(time.perf_counter() - started, 3)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{report['architecture']}, {report['type']} → {shown(out)} "
        f"({report['bytes'] / 1e6:,.1f} MB, {report['seconds']:.1f} s)"
    )
    for note in report.get("notes", []):
        click.echo(printable(f"note: {note}"))
    fallbacks: dict[str, str] = report.get("fallbacks", {})
    for dtype in sorted(set(fallbacks.values())):
        names = [name for name in fallbacks if fallbacks[name] == dtype]
        click.echo(
            f"note: {counted(len(names), 'tensor')} with rows that are not a multiple of the block "
            f"stored as {dtype}: {shown(names[0])}{' …' if len(names) > 1 else ''}"
        )
