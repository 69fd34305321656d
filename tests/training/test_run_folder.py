"""A run's folder belongs to one process at a time, and is emptied of nothing but a run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from convert.gguf.file import write_gguf
from livery import cli
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.files import write_jsonl
from livery.paths import LOCK
from livery.training import checkpoint, run_folder
from livery.training.origin import base_digest
from tests.training.test_checkpoint import write

# Takes the folder a hundred times; a file that must not be there yet shows a second holder.
RACER = """
import os, sys, time
from pathlib import Path
from livery.errors import UserError
from livery.training.run_folder import locked
folder, taken, missed = Path(sys.argv[1]), 0, 0
inside = folder.with_name("inside")
print("ready", flush=True)
sys.stdin.readline()
while taken < 100:
    try:
        with locked(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            time.sleep(0.002)  # so that the others come by meanwhile, on a single core too
            taken += 1
            os.unlink(inside)
    except UserError:
        missed += 1
print(missed)
"""


@pytest.mark.slow
def test_many_that_want_the_folder_never_hold_it_two_at_once(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "run")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [(racer.communicate(), racer.returncode) for racer in racers]
    assert all(code == 0 for _, code in ended), [err for (_, err), _ in ended]
    assert sum(int(out) for (out, _), _ in ended) > 0, "they never met"


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
    with pytest.raises(UserError, match=f"holds {name}, which Livery did not write"):
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
    place, flock = tmp_path / LOCK, fcntl.flock
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


# -- the base's digest ----------------------------------------------------------------------------


def base_folder(folder: Path, last: int = 0) -> Path:
    """A base of two shards; `last` changes the last value of the last tensor, beyond 2 MB."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    for number in (1, 2):
        tensors = {"a": np.zeros(600_000, np.float32), "b": np.zeros(9000, np.float32)}
        tensors["b"][-1] = last if number == 2 else 0
        save_file(tensors, folder / f"model-{number:05d}-of-00002.safetensors")
    return folder


def test_the_digest_of_a_file_without_tensors(tmp_path: Path) -> None:
    header = b"{}      "
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    digests = {base_digest(tmp_path)}
    for fields in ({}, {"general.name": "x"}):
        write_gguf(tmp_path / "m.gguf", fields, {}, {})
        digests.add(base_digest(tmp_path / "m.gguf"))
    assert len(digests) == 3


def test_a_base_whose_last_tensor_was_changed_is_another(tmp_path: Path) -> None:
    digest = base_digest(base_folder(tmp_path / "base"))
    assert base_digest(base_folder(tmp_path / "base")) == digest
    assert base_digest(base_folder(tmp_path / "base", last=1)) != digest
    # The form of before, the negative control: it sees nothing of it.
    before = base_digest(tmp_path / "base", like="f" * 64)
    assert base_digest(base_folder(tmp_path / "base"), like="f" * 64) == before
    assert not before.startswith("2-")
    (tmp_path / "base" / "config.json").write_text('{"model_type": "qwen2"}')
    assert base_digest(tmp_path / "base") != digest


def test_a_gguf_base_whose_last_tensor_was_changed_is_another(tmp_path: Path) -> None:
    digests: set[str] = set()
    for last in (0, 1, 0):
        tensors = {"a": np.zeros(600_000, np.float32), "b": np.zeros(9000, np.float32)}
        tensors["b"][-1] = last
        fields = {"general.architecture": "llama"}
        write_gguf(tmp_path / "m.gguf", fields, tensors, dict.fromkeys(tensors, "float32"))
        digests.add(base_digest(tmp_path / "m.gguf"))
    assert len(digests) == 2


def test_a_hub_id_is_digested_where_it_was_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    by_name = base_digest("some/model")
    snapshots = tmp_path / "models--some--model" / "snapshots"
    snapshots.mkdir(parents=True)
    folder = base_folder(snapshots / "abc")
    assert base_digest("some/model") == base_digest(folder) != by_name


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="takes root")
def test_a_folder_that_may_not_be_written_is_refused_in_one_line() -> None:
    """As another user, in a current folder that is not theirs; /usr is nobody's to write."""
    command = (
        "from pathlib import Path; from livery import errors\n"
        "from livery.training import run_folder as r\n"
        "try:\n r.locked(Path('run')).__enter__()\nexcept errors.UserError as e: print(e)"
    )
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    root = str(Path(run_folder.__file__).parents[2])
    done = subprocess.run(
        [*as_nobody, sys.executable, "-c", command], cwd="/usr", capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root}, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("run: not allowed to write here"), done.stderr
    assert done.stdout.count("\n") == 1
