"""Checkpoints are whole or not there, and say when they are damaged or not ours."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from livery import checkpoint
from livery.backend import PortableState
from livery.checkpoint import Origin, Progress
from livery.errors import UserError
from livery.files import atomic_directory, atomic_write

ORIGIN = Origin({"seed": 1, "lora.rank": 4}, "d" * 64, "b" * 64)
MADE_BY = {"backend": "mlx", "dtype": "float32", "optimizer": "adamw"}


def state(step: int, size: int = 8) -> PortableState:
    rng = np.random.default_rng(step)

    def draw() -> dict[str, np.ndarray]:
        return {f"m.{i}.lora_A": rng.normal(size=(4, size)).astype(np.float32) for i in range(3)}

    return PortableState(draw(), draw(), draw(), step)


def write(run: Path, step: int, size: int = 8) -> Path:
    progress = Progress(window_loss=0.1 * step, window_tokens=step, best_loss=0.5, best_step=1)
    return checkpoint.write(run, state(step, size), progress, ORIGIN, MADE_BY)


def test_what_was_written_is_read_to_the_bit(tmp_path: Path) -> None:
    write(tmp_path, 7)
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None
    assert passed_over == []
    assert found.progress == Progress(0.1 * 7, 7, 0.5, 1)
    assert found.origin == ORIGIN
    assert found.state.step == 7
    for part in ("weights", "first_moment", "second_moment"):
        wanted, got = getattr(state(7), part), getattr(found.state, part)
        assert wanted.keys() == got.keys()
        assert all(wanted[k].tobytes() == got[k].tobytes() for k in wanted)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no json", "cut json", "no tensors"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 5)
    path = write(tmp_path, 10)
    tensors, facts = path / "state.safetensors", path / "state.json"
    if damage == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-9])
    elif damage == "flipped":
        data = bytearray(tensors.read_bytes())
        data[-3] ^= 1
        tensors.write_bytes(data)
    elif damage == "no json":
        facts.unlink()
    elif damage == "cut json":
        facts.write_text(facts.read_text()[:40])
    else:
        tensors.unlink()
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state.step == 5
    assert len(passed_over) == 1
    assert "step-000010" in passed_over[0]


def test_a_later_format_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    facts = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        checkpoint.read(path)


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        write(tmp_path, step)
    checkpoint.prune(tmp_path, 2, (20,))
    assert checkpoint.steps(tmp_path) == [20, 40, 50]


def test_differences_are_named() -> None:
    other = Origin({"seed": 2, "lora.rank": 4}, "e" * 64, "b" * 64)
    found = ORIGIN.differences(other)
    assert found[0] == "seed is 1 and was 2"
    assert "hash" in found[1]
    assert ORIGIN.differences(ORIGIN) == []


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """Let the operating system refuse larger files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_older_checkpoints_and_no_rubbish(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with files_of_at_most(50_000), pytest.raises(UserError, match="disk is full"):
        write(tmp_path, 10, size=5_000)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state.step == 5
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000005"]


def test_a_file_is_old_or_new_never_half(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files_of_at_most(1000), pytest.raises(UserError), atomic_write(path) as file:
        file.write(b"x" * 5000)
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write("not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_directory(target) as fresh:
            (fresh / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


WRITER = """
import sys
from pathlib import Path
from tests.test_checkpoint import write
for step in range(1, 10_000):
    write(Path(sys.argv[1]), step, size=20_000)
    print(step, flush=True)
"""


def test_killed_while_saving_the_last_whole_checkpoint_remains(tmp_path: Path) -> None:
    for _ in range(3):
        run = tmp_path / "run"
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        done = 0
        for _ in range(4):
            done = int(process.stdout.readline())
        process.kill()
        process.wait()
        found, _ = checkpoint.newest(run)
        assert found is not None
        assert found.state.step >= done
        shutil.rmtree(run)
