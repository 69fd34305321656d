"""`livery gguf`: a Hugging Face model folder as one GGUF file."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import adapter_options as options
from livery.errors import UserError, printable, shown
from livery.files import disk_full, explain_os_errors, says_full_disk
from livery.outputs import check_file, of_kind
from livery.temporary import Scratch

if TYPE_CHECKING:
    from convert.base import Base
    from convert.megabytes import Moved

EPILOG = """\b
Examples:
  livery gguf --model base_model --out base.gguf
  livery gguf --model merged/ --out merged-q8_0.gguf --type q8_0
  livery gguf --model merged/ --out merged-q4_k_m.gguf --type q4_k_m
"""

KINDS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")
_BY_SCRIPT = ("f32", "f16", "bf16", "q8_0")  # what llama.cpp's own script writes


@click.command("gguf", epilog=EPILOG)
@click.option("--model", required=True, help="Model folder, or the hub id of a downloaded one.")
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
    help="Write the file for at most so many tokens, e.g. within a window that llama.cpp lacks.",
)
@click.option(
    "--ignore-field",
    "ignored",
    multiple=True,
    help="A field of config.json that is not known here and changes nothing; repeatable.",
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
    from convert.megabytes import megabytes

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
            f"note: {len(names)} tensors whose rows are no multiple of the block are stored as "
            f"{dtype}: {shown(names[0])}{' …' if len(names) > 1 else ''}"
        )


def convert_model(
    model: str | Path,
    out: Path,
    kind: str,
    *,
    overwrite: bool = False,
    progress: Moved | None = None,
    context: int | None = None,
    ignored: Collection[str] = (),
) -> dict[str, Any]:
    """Write `out` and say what was done; see `gguf_model.write_model`.

    Raises:
        UserError: `out` exists, or neither we nor a llama.cpp checkout can convert the model, or
            nothing here can make the K-quants that were asked for.
    """
    from convert.base import load_base
    from convert.gguf import fields as gguf_fields
    from convert.gguf import ggml, k_quants
    from convert.gguf import model as gguf_model

    base = load_base(model)
    check_file(
        out,
        overwrite=overwrite,
        inputs=(model, base.folder),
        ours=of_kind(".gguf", b"GGUF"),
        what="a GGUF file",
    )
    checkout = os.environ.get("LLAMA_CPP_DIR")
    if checkout and not gguf_fields.writes(base):
        return _by_checkout(Path(checkout), base.folder, out, kind)
    write = functools.partial(gguf_model.write_model, model, context=context, ignored=ignored)
    if kind not in k_quants.MIXES:
        return write(out, kind, progress=progress)
    try:
        quantize = ggml.load()
    except ggml.Unavailable as error:
        return _by_program(str(error), base, write, out, kind, progress)
    made = write(out, kind, quantize=quantize, progress=progress)
    return {**made, "quantizer": "ggml of xllamacpp"}


def _by_program(
    why: str,
    base: Base,
    write: Callable[..., dict[str, Any]],
    out: Path,
    kind: str,
    progress: Moved | None,
) -> dict[str, Any]:
    """By llama-quantize, from a file that holds every weight exactly."""
    from convert.gguf import llama_quantize
    from convert.gguf import model as gguf_model
    from livery.cores import cores

    if not shutil.which(llama_quantize.PROGRAM):
        raise UserError(
            f"{kind} needs ggml: {why}, and there is no {llama_quantize.PROGRAM} on PATH. "
            "Install it (pip install xllamacpp), put llama.cpp's programs on PATH, or use "
            "--type q8_0."
        )

    def first_half(done: int, total: int) -> None:
        if progress:
            progress(done, 2 * total)

    def second_half(done: int, total: int) -> None:
        size = exact.stat().st_size
        if progress:
            progress(size + size * done // total, 2 * size)

    with Scratch("exact", beside=out) as scratch:
        exact = scratch / "exact.gguf"
        whole = gguf_model.exact_kind(base)
        made = write(exact, whole, progress=first_half)
        llama_quantize.quantize_file(exact, out, kind, threads=cores(), progress=second_half)
    kept = {key: made[key] for key in ("architecture", "tensors", "notes")}
    return {
        "path": str(out),
        **kept,
        "type": kind,
        "bytes": out.stat().st_size,
        "quantizer": llama_quantize.PROGRAM,
    }


def _by_checkout(checkout: Path, folder: Path, out: Path, kind: str) -> dict[str, Any]:
    script = checkout / "convert_hf_to_gguf.py"
    if not script.is_file():
        raise UserError(f"LLAMA_CPP_DIR is {checkout}, but there is no {script.name} in it.")
    if kind not in _BY_SCRIPT:
        raise UserError(
            f"llama.cpp's script writes no {kind}; use --type {', '.join(_BY_SCRIPT)}, and "
            "llama-quantize after."
        )
    with explain_os_errors(out, "converting"), Scratch("script", beside=out) as scratch:
        fresh = scratch / out.name
        command = [sys.executable, str(script), str(folder), "--outfile", str(fresh),
                   "--outtype", kind]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode or not fresh.exists():
            if says_full_disk(ended.stderr):
                raise disk_full(out, "converting")
            raise UserError(f"{script} failed:\n{ended.stderr[-2000:].strip()}")
        fresh.replace(out)
    return {
        "path": str(out),
        "architecture": "by llama.cpp's script",
        "type": kind,
        "bytes": out.stat().st_size,
    }
