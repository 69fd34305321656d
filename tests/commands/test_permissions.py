"""Every command as a user who may read its inputs and write in one folder alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from datagen.make import make_data
from tests import PATIENCE, ROOT, hostile
from tests.convert import convert_cases as cases

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
pytestmark = [
    *cases.QUIET,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
        reason="only root can be another user",
    ),
]

# OUT stands for a folder, BASE, PEFT, ROWS and RUN for what is read.
_RUN = "--backend torch --model BASE --data ROWS --output-dir OUT/run --max-steps 1 --lora-rank 2"
WRITE = {
    "convert mlx": "convert PEFT OUT/mlx --to mlx --base BASE",
    "convert gguf": "convert PEFT OUT/a.gguf --to gguf --base BASE",
    "merge": "merge --base BASE --adapter PEFT --out OUT/merged",
    "gguf": "gguf --model BASE --out OUT/m.gguf --type f16",
    "pack": "pack PEFT --out OUT/packed.zip --base BASE",
    "report": "report RUN --out OUT/report",
    "mlx": "mlx --model BASE --out OUT/mlx",
    "eval": "eval date-keys --model BASE --engine torch --limit 1 --unconstrained --report OUT/r",
    "train": f"train {_RUN}",
    "run": f"run date-keys {_RUN} --no-neutral",
    "run without data": "run date-keys --backend torch --model BASE --output-dir OUT/run",
    "data": "data date-keys --count 3 --out OUT/data",
    "fasttext": "fasttext train --data KEYS --epochs 5 --dim 8 --buckets 1000 --out OUT/fast",
}
# Those that load a framework before they write.
SLOW = ("mlx", "eval")
GENERATE = "generate --model BASE --engine torch --max-tokens 2 hello"


@pytest.fixture(scope="module")
def place() -> Generator[Path]:
    """Folders below one that others may enter, as pytest's own are not."""
    root = Path(tempfile.mkdtemp(prefix="livery-test-"))
    made = hostile.make(root / "made")
    make_data("date-keys", root / "keys", 7, 3)
    for name, source in (
        ("base", made.base), ("peft", made.peft), ("run", made.run), ("rows", made.rows)
    ):  # fmt: skip
        shutil.copytree(source, root / name)
    (root / "closed").mkdir()
    root.chmod(0o755)
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (root / "open").mkdir()
    (root / "open").chmod(0o777)
    yield root
    shutil.rmtree(root)


def as_nobody(place: Path, words: str, out: str) -> subprocess.CompletedProcess[str]:
    known = {name.upper(): name for name in ("base", "peft", "run", "rows", "keys")}
    for name, path in {**known, "OUT": out}.items():
        words = words.replace(name, str(place / path))
    preload = {"LD_PRELOAD": "libopenblas.so.0"} if words.startswith("mlx") else {}
    # setpriv loads it too: glibc aborts a process whose OpenBLAS has threads when it becomes
    # another user, whatever an earlier test has left in the environment.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    more = {**preload, **one_thread, "PYTHONPATH": str(ROOT), "HOME": str(place / "open")}
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-m", "livery", *words.split()],
        cwd=place / "open", capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={**os.environ, **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=pytest.mark.slow if c in SLOW else []) for c in WRITE],
)
def test_what_may_not_be_written_is_one_line(command: str, place: Path) -> None:
    done = as_nobody(place, WRITE[command], "closed")
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1, done.stderr
    assert str(place / "closed") in said[0]
    assert "not allowed to write here" in said[0]
    assert "Choose another folder or change its permissions" in said[0]
    assert "Traceback" not in done.stderr
    assert not any((place / "closed").iterdir())


@pytest.mark.parametrize("command", [pytest.param("eval", marks=pytest.mark.slow), "merge", "gguf"])
def test_a_base_that_is_only_read_may_be_read_only(command: str, place: Path) -> None:
    done = as_nobody(place, WRITE[command], "open")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_generate_writes_nowhere(place: Path) -> None:
    done = as_nobody(place, GENERATE, "closed")
    assert done.returncode == 0, done.stderr
