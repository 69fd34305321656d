"""Trackers: what each really writes, a run that goes on in the same one, and trackers that fail.

TensorBoard is always tested; the others where they are installed (`pip install wandb mlflow trackio
swanlab`), each against its own files.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livery.config.flags import given_flags
from livery.config.settings import by_name
from livery.errors import UserError
from livery.training import trackers
from livery.training.events import Event, Finished, Metrics, Started, Stepped
from livery.training.plan import Work
from livery.training.run_folder import clear
from livery.training.trackers import TRACKERS, Kind, Reports, check
from tests.runs import run, tiny_settings

pytest.importorskip("mlx.core")

Curve = list[tuple[int, float]]


class Stopped(Exception):
    """Ends a run between two checkpoints, as a power cut would."""


def report(folder: Path, *names: str, stop_at: int = 0, **job: Any) -> list[str]:
    """A tiny run that reports; returns the warnings."""
    warnings: list[str] = []

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == stop_at:
            raise Stopped

    with Reports(names, warnings.append) as reports:
        run(tiny_settings(folder, report_to=names, project_name="fox"),
            callbacks=(reports, stop), **job)  # fmt: skip
    return warnings


def stopped_and_resumed(folder: Path, name: str) -> str:
    """A run that ends after step 11 with its last checkpoint at step 8, and goes on; the id."""
    with pytest.raises(Stopped):
        report(folder, name, stop_at=11)
    first = json.loads((folder / "run" / "trackers.json").read_text())[name]
    assert (first["train"], first["eval"]) == (9, 8)
    assert report(folder, name, resume=True) == []
    now = json.loads((folder / "run" / "trackers.json").read_text())[name]
    assert (now["train"], now["eval"]) == (12, 12)
    assert now["id"] == first["id"]
    return now["id"]


def curves(folder: Path) -> dict[str, Curve]:
    """What the run itself logged, by the trackers' names."""
    rows = [json.loads(line) for line in
            (folder / "run" / "training_metrics.jsonl").read_text().splitlines()]  # fmt: skip
    return {
        "train/loss": [(row["step"], row["loss"]) for row in rows if "loss" in row],
        "eval/loss": [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row],
    }


def the_same(found: dict[str, Curve], wanted: dict[str, Curve]) -> None:
    """Every step once, in order, with its value (in float32 where a tracker keeps no more)."""
    for name, curve in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in curve], name
        assert [v for _, v in found[name]] == pytest.approx([v for _, v in curve], rel=1e-6)
    assert [step for step, _ in wanted["train/loss"]] == [3, 6, 9, 12]
    assert [step for step, _ in wanted["eval/loss"]] == [0, 4, 8, 12]


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    stopped_and_resumed(tmp_path, "tensorboard")
    found: dict[str, Curve] = {}
    texts: list[str] = []
    for event in tensorboard_events(tmp_path / "run" / "tensorboard"):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            else:
                texts += [text.decode() for text in value.tensor.string_val]
    the_same(found, curves(tmp_path))
    assert {"train/learning_rate", "train/grad_norm", "eval/runtime"} <= found.keys()
    assert len(texts) == 1
    assert "lora.rank: 4\n" in texts[0]


def tensorboard_events(folder: Path) -> Iterator[Any]:
    """TFRecord: length (8), its checksum (4), the event, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event as Record  # type: ignore[import-not-found]

    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            length = struct.unpack("<Q", data[:8])[0]
            yield Record.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    name = stopped_and_resumed(tmp_path, "wandb")
    files = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb"))
    assert len(files) == 2
    found: dict[str, Curve] = {}
    projects: set[str] = set()
    for record in (record for file in files for record in wandb_records(file)):
        if record.HasField("run"):
            projects.add(record.run.project)
        row = {".".join(item.nested_key) or item.key: json.loads(item.value_json)
               for item in record.history.item}  # fmt: skip
        for key in ("train/loss", "eval/loss"):
            if key in row:
                found.setdefault(key, []).append((row["_step"], row[key]))
    assert projects == {"fox"}
    the_same(found, curves(tmp_path))


def wandb_records(file: Path) -> Iterator[Any]:
    """LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[import-not-found]

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def test_mlflow_on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    name = stopped_and_resumed(tmp_path, "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fox")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.status) == (name, "FINISHED")
    assert found.data.params["lora.rank"] == "4"
    the_same(
        {key: [(m.step, m.value) for m in client.get_metric_history(name, key)]
         for key in ("train/loss", "eval/loss")},
        curves(tmp_path),
    )  # fmt: skip
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("by its number"))
    for project, experiment in (("", "by its number"), ("fox", "fox")):
        made = trackers.MLflow(trackers.Run(tmp_path, project, "one", "", {}))
        found = client.get_run(made.id).info.experiment_id
        assert client.get_experiment(found).name == experiment


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    context_vars: Any = pytest.importorskip("trackio.context_vars")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    name = stopped_and_resumed(tmp_path, "trackio")
    with sqlite3.connect(tmp_path / "trackio" / "fox.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id")
        written = [(run_name, step, json.loads(metrics)) for run_name, step, metrics in rows]
    assert {run_name for run_name, _, _ in written} == {name}
    assert context_vars.current_run.get() is None  # or Python's exit would print to stdout
    the_same(
        {key: [(step, row[key]) for _, step, row in written if key in row]
         for key in ("train/loss", "eval/loss")},
        curves(tmp_path),
    )  # fmt: skip


def test_swanlab_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("swanlab")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_LOGDIR", str(tmp_path / "swanlog"))
    name = stopped_and_resumed(tmp_path, "swanlab")
    files = sorted((tmp_path / "swanlog").glob(f"run-*/run-{name}.swanlab"))
    assert len(files) == 2  # `swanlab sync` sends both to one run
    for file in files:
        assert b"train/loss" in file.read_bytes()
        assert b"eval/loss" in file.read_bytes()


class Broken:
    """A tracker that prints, takes Ctrl-C for itself, and raises in the calls named."""

    id = "1"
    calls: list[str]

    def __init__(self, *raises: str, error: type[BaseException] = RuntimeError) -> None:
        self.raises, self.error, self.calls = raises, error, []

    def open(self, run: trackers.Run) -> Broken:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return self.call("open")

    def log(self, values: Any, step: int) -> None:
        self.call("log")

    def close(self, status: trackers.Status) -> None:
        self.call(status)

    def call(self, name: str) -> Broken:
        print("look at me")
        self.calls.append(name)
        if name in self.raises:
            raise self.error("no network\nand a long story")
        return self


def add(monkeypatch: pytest.MonkeyPatch, name: str, tracker: Broken) -> Broken:
    monkeypatch.setattr(
        trackers, "TRACKERS", {**trackers.TRACKERS, name: Kind(tracker.open, ((),), name)}
    )
    return tracker


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_run_goes_on_without_a_tracker_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    early = add(monkeypatch, "early", Broken("open", "log", "finished", error=error))
    late = add(monkeypatch, "late", Broken("log", "finished", error=error))
    last = add(monkeypatch, "last", Broken("finished", error=error))
    fine = add(monkeypatch, "fine", Broken())
    warnings = report(tmp_path, "early", "late", "last", "fine")
    assert [text.split()[0] for text in warnings] == ["early", "late", "last"]
    assert (
        f"early is switched off; the run continues without it ({error.__name__}: no network)."
        in (warnings)
    )
    assert (tmp_path / "run" / "final.safetensors").exists()
    assert (early.calls, late.calls) == (["open"], ["open", "log"])
    assert last.calls == fine.calls == ["open", *["log"] * 8, "finished"]
    assert "look at me" not in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
def test_reporting_changes_nothing_of_the_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    run(tiny_settings(tmp_path / "without"))
    assert report(tmp_path / "with", "tensorboard") == []
    one, other = ((tmp_path / name / "run" / "final.safetensors").read_bytes()
                  for name in ("without", "with"))  # fmt: skip
    assert one == other


@pytest.fixture
def started(tmp_path: Path) -> Started:
    work = Work(1, 1, 1, 1, 0, 0, 1, 1, 1)
    settings = tiny_settings(tmp_path)
    (tmp_path / "run").mkdir()
    return Started(settings, tmp_path / "run", 0, 9, work, 10, 100, "mlx", "float32", 1)


def step(number: int) -> Metrics:
    return Metrics(number, 0.1, 2.0, 1.0, 1e-3, 10.0, 5.0, 0.0)


def test_a_run_says_how_it_ended(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    for ends, status in (([Finished({})], "finished"), ([], "failed")):
        tracker = add(monkeypatch, "one", Broken())
        with Reports(["one"], pytest.fail) as reports:
            for event in (started, step(1), *ends):
                reports(event)
        assert tracker.calls[-1] == status
        (started.folder / "trackers.json").unlink()


@pytest.mark.parametrize("text", ["", "[]", '{"one": 3}', '{"one": {"id": 1}}', '{"one": {}}'])
def test_a_damaged_record_starts_a_new_tracker_run(
    started: Started, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    tracker = add(monkeypatch, "one", Broken())
    (started.folder / "trackers.json").write_text(text)
    with Reports(["one"], pytest.fail) as reports:
        reports(started)
        reports(step(1))
    assert tracker.calls == ["open", "log", "failed"]


@pytest.mark.slow
def test_starting_anew_forgets_the_run_before(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    report(tmp_path, "tensorboard")
    folder = tmp_path / "run"
    (folder / "tensorboard" / "mine.txt").write_text("kept")
    clear(folder)
    assert not (folder / "trackers.json").exists()
    assert [p.name for p in (folder / "tensorboard").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("project", "variable", "found"),
    [("fox", "owl", "fox"), ("", "owl", "owl"), ("", "", "livery")],
)
def test_who_names_the_project(
    monkeypatch: pytest.MonkeyPatch, project: str, variable: str, found: str
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", variable)
    assert trackers.Run(Path(), project, "run", "", {}).project_or("WANDB_PROJECT") == found


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from commands.train import train

    monkeypatch.setitem(sys.modules, "swanlab", None)
    with pytest.raises(UserError, match=r"swanlab is not installed. Run `pip install swanlab`"):
        check(["swanlab"])
    arguments = ["--report-to", "swanlab", "--model", "no-model", "--data", "no-data",
                 "--output-dir", str(tmp_path / "run")]  # fmt: skip
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(train, [*arguments, *more])
        assert "pip install swanlab" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_flags_are_given_several_times_or_with_commas() -> None:
    from click.testing import CliRunner

    from commands.train import train

    def asked(*words: str) -> Any:
        with train.make_context("train", list(words)) as context:
            return given_flags(context.params).get("report_to")

    assert asked() is None
    assert asked("--report-to", "none") == ()
    assert asked("--report-to", "wandb,mlflow", "--report-to", "trackio") == (
        "wandb", "mlflow", "trackio",
    )  # fmt: skip
    result = CliRunner().invoke(train, ["--report-to", "wandbb"])
    assert result.exit_code == 2
    assert "'wandbb' is not none, or some of: tensorboard, wandb" in result.output


def test_every_name_that_can_be_set_is_a_tracker() -> None:
    assert by_name("report_to").kind.metavar == "|".join(TRACKERS)
