"""Programs run in forks of a process that has loaded what they import: a new one takes seconds.

    code, out, err = forks.ended("tests.runs", [str(folder), "mlx"], folder)

What a program has imported by its end, the process that it was forked from imports too, in the same
order, for those that come after it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import livery  # noqa: F401  # pyright: ignore[reportUnusedImport]  # before MLX: it finds its BLAS
from tests import PATIENCE, ROOT


def ended(
    module: str, words: Sequence[str], folder: Path, *, of: str = "", loads: Sequence[str] = ()
) -> tuple[int, str, str]:
    """Run `main()` of a module with these arguments: its exit status, stdout and stderr, which are
    files in `folder` meanwhile. Its directory is the root of the checkout.

    Args:
        of: programs of one name share a process: "mlx", "torch".
        loads: modules that the process imports first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = {
        "module": module, "words": list(words), "folder": str(folder.absolute()),
        "loads": list(loads), "environment": dict(os.environ),
    }  # fmt: skip
    process = _process(of)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    assert select.select([process.stdout], [], [], PATIENCE)[0], "it hangs"
    code = int(process.stdout.readline())
    return code, *((folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))


@cache
def _process(of: str) -> subprocess.Popen[str]:
    """It ends with this one, whose pipe it reads."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.forks"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def child(work: Callable[[], int]) -> int:
    """Do it in a fork; its exit status, minus a signal's number where it was killed."""
    reader, writer = os.pipe()
    number = os.fork()
    if not number:
        code = 1
        try:
            os.close(reader)
            code = work()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                os.write(writer, " ".join(list(sys.modules)).encode())
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    os.close(writer)
    with open(reader, encoding="utf-8") as loaded:
        names = loaded.read().split()
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return code


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        for name in asked["loads"]:
            importlib.import_module(name)
        print(child(lambda asked=asked: _run(asked)), flush=True)


def _run(asked: dict[str, Any]) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(
            os.open(Path(asked["folder"]) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            number,
        )
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [asked["module"], *asked["words"]]
    return importlib.import_module(asked["module"]).main() or 0


if __name__ == "__main__":
    main()
