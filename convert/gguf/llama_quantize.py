"""K-quants by llama.cpp's own program, where ggml cannot be called in this process."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from livery.errors import UserError
from livery.files import disk_full, explain_os_errors, says_full_disk
from livery.temporary import Scratch

PROGRAM = "llama-quantize"
_STEP = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")


def quantize_file(
    source: Path,
    out: Path,
    mix: str,
    *,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Quantize a GGUF file of full precision; `out` is either whole or not there.

    Args:
        source: the file to read.
        out: the file to write.
        mix: a key of `k_quants.MIXES`.
        threads: for the program.
        progress: called with (tensors done, tensors in all).

    Raises:
        UserError: the program is not on PATH or fails; its last lines are in the message.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(f"{PROGRAM} is not on PATH.")
    with (
        explain_os_errors(out, "quantizing"),
        Scratch("quantize", beside=out) as folder,
    ):
        fresh = folder / "quantized.gguf"
        command = [program, str(source), str(fresh), mix.upper(), str(threads)]
        last: list[str] = []
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child:
            for line in child.stdout or ():
                last = [*last[-19:], line]
                step = _STEP.match(line)
                if step and progress:
                    progress(int(step[1]), int(step[2]))
        if child.returncode or not fresh.exists():
            if says_full_disk("".join(last)):
                raise disk_full(out, "quantizing")
            raise UserError(
                f"{program} ended with code {child.returncode}:\n{''.join(last).strip()}"
            )
        fresh.replace(out)
