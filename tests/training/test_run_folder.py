"""A run's folder belongs to one process at a time, and is emptied of nothing but a run."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from livery import cli
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.files import write_jsonl
from livery.training import checkpoint, run_folder
from tests.training.test_checkpoint import write

# Takes the folder as often as it can; a file that must not be there yet shows a second holder.
RACER = """
import os, sys, time
from pathlib import Path
from livery.errors import UserError
from livery.training.run_folder import locked
folder, taken = Path(sys.argv[1]), 0
inside = folder.with_name("inside")
until = time.monotonic() + 1.5
while time.monotonic() < until:
    try:
        with locked(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            taken += 1
            os.unlink(inside)
    except UserError:
        pass
print(taken)
"""


def test_many_that_want_the_folder_never_hold_it_two_at_once(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "run")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    ended = [(racer.communicate(), racer.returncode) for racer in racers]
    assert all(code == 0 for _, code in ended), [err for (_, err), _ in ended]
    assert sum(int(out) for (out, _), _ in ended) > 20


def test_a_folder_that_nothing_came_of_is_not_left(tmp_path: Path) -> None:
    with run_folder.locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
    with run_folder.locked(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["file"]


def a_run(folder: Path) -> None:
    """The files of a finished run, and two that are not a run's."""
    names = ("training_metrics.jsonl", "samples.jsonl", "README.md", "report.md")
    folder.mkdir(parents=True)
    run_folder.write_run_config(folder, TrainSettings(), {})
    for name in (*names, "evaluation_second_llamacpp.json", "evaluation-notes.json"):
        (folder / name).write_text("{}")
    for name in ("mlx/adapters.safetensors", "gguf/adapter.gguf", "gguf/merged-q8_0.gguf"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    write(folder, 5)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_beginning_anew_removes_the_run_alone(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    run_folder.clear(tmp_path / "run")
    assert files(tmp_path / "run") == {"evaluation-notes.json", "gguf/merged-q8_0.gguf"}
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_without_a_run_is_not_emptied(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    (tmp_path / "run" / "run_config.json").unlink()
    before = files(tmp_path / "run")
    run_folder.clear(tmp_path / "run")
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize(
    "name", ["README.md", "tokenizer.json", "adapter_config.json", "mlx/adapters.safetensors"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_no_run_wrote_is_not_replaced_by_one(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    """A checkout, a base model, somebody's adapter: none is a place for a run."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name}, which no run"):
        run_folder.claim(tmp_path, resume=False, overwrite=overwrite)
    assert files(tmp_path) == {name}


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "run"],
        ["eval", "date-keys", "--adapter", "run"],
        ["eval", "date-keys", "--adapter", "run", "--limit", "5", "--out-dir", "run/again"],
        ["train", "--output-dir", "run", "--overwrite"],
        ["train", "--output-dir", "run", "--resume"],
        ["run", "date-keys", "--output-dir", "run", "--fresh"],
    ],
)
def test_commands_leave_a_folder_alone_where_another_process_trains(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run")
    before = files(tmp_path)
    with run_folder.locked(tmp_path / "run"):
        assert cli.run(arguments) == 1
    assert "run: another process is training in this folder" in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "rows", "--model", "no/model/here"], "no/model/here"),
        (["--init-adapter", "run"], "holds the adapter that the run starts from"),
        (["--init-adapter", "run/../run/mlx"], "holds the adapter that the run starts from"),
    ],
)
def test_bad_input_costs_the_old_run_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run")
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    write_jsonl(tmp_path / "rows" / "train.jsonl", [row] * 4)
    before = files(tmp_path)
    assert cli.run(["train", "--output-dir", "run", "--overwrite", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert files(tmp_path) == before
    assert checkpoint.newest(tmp_path / "run")[0] is not None


def test_a_lock_on_a_file_that_is_gone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the file just after the next one has opened it."""
    place, flock = tmp_path / run_folder.LOCK, fcntl.flock
    opened: list[int] = []

    def late(handle: int, how: int) -> None:
        if not opened:
            place.unlink()
        opened.append(handle)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with run_folder.locked(tmp_path):
        assert len(opened) == 2
        with pytest.raises(UserError, match="another process"), run_folder.locked(tmp_path):
            pass
