"""`livery gguf`: a Hugging Face model folder as one GGUF file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from livery.errors import UserError

EPILOG = """\b
Examples:
  livery gguf --model base_model --out base.gguf
  livery gguf --model merged/ --out merged-q8_0.gguf --type q8_0
"""


@click.command("gguf", epilog=EPILOG)
@click.option("--model", required=True, help="Model folder, or the hub id of a downloaded one.")
@click.option("--out", "out", required=True, type=click.Path(path_type=Path), help="The .gguf.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_0"]),
    default="f16",
    show_default=True,
    help="How to store the matrices.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
def gguf_command(model: str, out: Path, kind: str, overwrite: bool, as_json: bool) -> None:
    """Convert a model folder, merged or not, to GGUF for llama.cpp and Ollama.

    Models of other architectures are handed to the llama.cpp checkout that LLAMA_CPP_DIR names.
    """
    started = time.perf_counter()
    report = convert_model(model, out, kind, overwrite=overwrite)
    report["seconds"] = round(time.perf_counter() - started, 3)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{report['architecture']}, {report['type']} → {out} "
        f"({report['bytes'] / 1e6:,.1f} MB, {report['seconds']:.1f} s)"
    )


def convert_model(
    model: str | Path, out: Path, kind: str, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write `out` and say what was done; see `gguf_model.write_model`.

    Raises:
        UserError: `out` exists, or neither we nor a llama.cpp checkout can convert the model.
    """
    from convert import gguf_model, gguf_names
    from convert.base import load_base

    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists. Add --overwrite to replace it.")
    base = load_base(model)
    checkout = os.environ.get("LLAMA_CPP_DIR")
    if checkout and base.model_type not in gguf_names.known_model_types():
        return _by_checkout(Path(checkout), base.folder, out, kind)
    return gguf_model.write_model(model, out, kind)


def _by_checkout(checkout: Path, folder: Path, out: Path, kind: str) -> dict[str, Any]:
    script = checkout / "convert_hf_to_gguf.py"
    if not script.is_file():
        raise UserError(f"LLAMA_CPP_DIR is {checkout}, but there is no {script.name} in it.")
    if kind == "q4_0":
        raise UserError("llama.cpp's script writes no q4_0; use --type q8_0, or quantize after.")
    fresh = out.with_name(f".{out.name}.tmp")
    command = [sys.executable, str(script), str(folder), "--outfile", str(fresh), "--outtype", kind]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode or not fresh.exists():
        fresh.unlink(missing_ok=True)
        raise UserError(f"{script} failed:\n{ended.stderr[-2000:].strip()}")
    fresh.replace(out)
    return {
        "path": str(out),
        "architecture": "by llama.cpp's script",
        "type": kind,
        "bytes": out.stat().st_size,
    }
