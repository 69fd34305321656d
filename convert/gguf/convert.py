"""A Hugging Face model folder as one GGUF file: what `livery gguf` calls.

    from convert.gguf.convert import convert_model

    convert_model("merged", "merged-q4_k_m.gguf", "q4_k_m")

Our own writer where it knows the architecture, else a llama.cpp checkout's script; K-quants by
ggml's own functions, in xllamacpp or in the program llama-quantize.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livery.errors import UserError
from livery.files import disk_full, explain_os_errors, says_full_disk
from livery.outputs import check_file, of_kind
from livery.temporary import Scratch

if TYPE_CHECKING:
    from convert.base import Base
    from livery.progress import OnProgress

KINDS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")
_BY_SCRIPT = ("f32", "f16", "bf16", "q8_0")  # what llama.cpp's own script writes


def convert_model(
    model: str | Path,
    out: str | Path,
    kind: str = "f16",
    *,
    overwrite: bool = False,
    progress: OnProgress | None = None,
    context: int | None = None,
    ignored: Collection[str] = (),
) -> dict[str, Any]:
    """Write a model folder, merged or not, as GGUF.

    Args:
        model: its folder, or the hub id of a downloaded one.
        out: the file.
        kind: how to store the matrices, one of `KINDS`.
        overwrite: replace a GGUF file that is there.
        progress: called with (bytes written, bytes in all).
        context: write the file for at most so many tokens.
        ignored: fields of config.json that are not known here and change nothing.

    Returns:
        "path", "architecture", "type" and "bytes"; of our own writer also "tensors", "notes" and
        "fallbacks" (tensor -> the type it has instead), of K-quants "quantizer".

    Raises:
        UserError: `out` exists, or neither we nor a llama.cpp checkout can convert the model, or
            nothing here can make the K-quants that were asked for.
    """
    from convert.base import load_base
    from convert.gguf import fields, ggml, k_quants
    from convert.gguf.model import write_model

    if kind not in KINDS:
        raise UserError(f"the type of a GGUF is {kind!r}; choose one of: {', '.join(KINDS)}.")
    out = Path(out)
    base = load_base(model)
    check_file(
        out,
        overwrite=overwrite,
        inputs=(model, base.folder),
        ours=of_kind(".gguf", b"GGUF"),
        what="a GGUF file",
    )
    checkout = os.environ.get("LLAMA_CPP_DIR")
    if checkout and not fields.writes(base):
        return _by_checkout(Path(checkout), base.folder, out, kind)
    write = functools.partial(write_model, model, context=context, ignored=ignored)
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
    progress: OnProgress | None,
) -> dict[str, Any]:
    """By llama-quantize, from a file that holds every weight exactly."""
    from convert.gguf import ggml
    from convert.gguf.model import exact_kind
    from livery.machine import cores

    if not shutil.which(ggml.PROGRAM):
        raise UserError(
            f"{kind} needs ggml: {why}, and there is no {ggml.PROGRAM} on PATH. "
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
        whole = exact_kind(base)
        made = write(exact, whole, progress=first_half)
        ggml.quantize_file(exact, out, kind, threads=cores(), progress=second_half)
    kept = {key: made[key] for key in ("architecture", "tensors", "notes")}
    return {
        "path": str(out),
        **kept,
        "type": kind,
        "bytes": out.stat().st_size,
        "quantizer": ggml.PROGRAM,
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
        ended = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
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
