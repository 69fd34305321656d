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

from livery.errors import UserError
from livery.files import atomic_directory, atomic_write
from livery.training import checkpoint
from livery.training.backend import PortableState
from livery.training.checkpoint import OtherFormat, RunProgress
from livery.training.origin import Origin

ORIGIN = Origin({"seed": 1, "lora.rank": 4}, "d" * 64, "b" * 64)
MADE_BY = {"backend": "mlx", "dtype": "float32", "optimizer": "adamw"}


def state(step: int, size: int = 8) -> PortableState:
    rng = np.random.default_rng(step)

    def draw() -> dict[str, np.ndarray]:
        return {f"m.{i}.lora_A": rng.normal(size=(4, size)).astype(np.float32) for i in range(3)}

    return PortableState(draw(), draw(), draw(), step)


def write(run: Path, step: int, size: int = 8) -> Path:
    progress = RunProgress(window_loss=0.1 * step, window_count=step, best_loss=0.5, best_step=1)
    return checkpoint.write(run, state(step, size), progress, ORIGIN, MADE_BY)


def test_what_was_written_is_read_to_the_bit(tmp_path: Path) -> None:
    write(tmp_path, 7)
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None
    assert passed_over == []
    assert found.progress == RunProgress(0.1 * 7, 7, 0.5, 1)
    assert found.origin == ORIGIN
    assert found.state.step == 7
    for part in ("weights", "first_moment", "second_moment"):
        wanted, got = getattr(state(7), part), getattr(found.state, part)
        assert wanted.keys() == got.keys()
        assert all(wanted[k].tobytes() == got[k].tobytes() for k in wanted)


def test_a_checkpoint_of_the_first_release_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, 7) / "state.json"
    path.write_text(path.read_text().replace("window_count", "window_tokens"))
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.progress == RunProgress(0.1 * 7, 7, 0.5, 1)


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


def later(path: Path, **changes: object) -> None:
    """Make a checkpoint one that a later Livery wrote."""
    facts = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**facts, **changes}))


def test_a_later_format_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 5)
    path = write(tmp_path, 10)
    later(path, format=99)
    with pytest.raises(OtherFormat, match=r"step-000010.*format 99.*this one reads 1.*version"):
        checkpoint.newest(tmp_path)
    later(path, format="x" * 3000)
    with pytest.raises(OtherFormat) as told:
        checkpoint.newest(tmp_path)
    assert len(str(told.value).replace(str(tmp_path), "")) < 600
    later(path, format=1, progress={"mean_of": [1, 2]})  # the same number, another record
    with pytest.raises(OtherFormat, match="another version"):
        checkpoint.newest(tmp_path)
    shutil.rmtree(path)
    found, passed_over = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.state.step, passed_over) == (5, [])


def test_a_damaged_one_before_a_later_format_does_not_hide_it(tmp_path: Path) -> None:
    later(write(tmp_path, 5), format=2)
    (write(tmp_path, 10) / "state.safetensors").write_bytes(b"cut")
    with pytest.raises(OtherFormat):
        checkpoint.newest(tmp_path)


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        write(tmp_path, step)
    checkpoint.prune(tmp_path, 2, (20,))
    assert checkpoint.steps(tmp_path) == [20, 40, 50]


@pytest.mark.parametrize("damage", ["later", "cut", "flipped", "empty"])
def test_pruning_prefers_no_checkpoint_that_cannot_be_read(tmp_path: Path, damage: str) -> None:
    for step in (25, 100, 200):
        path = write(tmp_path, step)
        tensors = path / "state.safetensors"
        if damage == "later":
            later(path, format=2)
        elif damage == "cut":
            tensors.write_bytes(tensors.read_bytes()[:-5])
        elif damage == "flipped":
            tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
        else:
            shutil.rmtree(path)
            path.mkdir()
    for step in (10, 20, 30, 40):
        write(tmp_path, step)
        checkpoint.prune(tmp_path, 2, (), now=step)
        assert step in checkpoint.steps(tmp_path)
    assert checkpoint.steps(tmp_path) == [25, 30, 40, 100, 200]


def test_pruning_removes_nothing_that_it_did_not_write(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step)
    (checkpoint.folder(tmp_path, 10) / "notes.txt").write_text("mine")
    others = [tmp_path / "checkpoints" / name for name in ("step-7", ".step-5.mine", "step-000040")]
    for other in others[:2]:
        other.mkdir()
        (other / "state.json").write_text("{}")
    others[2].write_text("a file")
    checkpoint.prune(tmp_path, 1, (), now=30)
    assert checkpoint.steps(tmp_path) == [10, 30]
    assert [p.name for p in checkpoint.folder(tmp_path, 10).iterdir()] == ["notes.txt"]
    assert all(other.exists() for other in others)


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
from tests.training.test_checkpoint import write
for step in range(1, 10_000):
    write(Path(sys.argv[1]), step, size=20_000)
    print(step, flush=True)
"""


@pytest.mark.slow
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


def test_whole_checkpoints_ahead_of_the_run_push_out_none_of_its_own(tmp_path: Path) -> None:
    """Of a line that was left: unreadable when the run was resumed, and readable again."""
    for step in (100, 200, 10, 20, 30):
        write(tmp_path, step)
    checkpoint.prune(tmp_path, 2, (), now=30)
    assert checkpoint.steps(tmp_path) == [20, 30, 100, 200]
