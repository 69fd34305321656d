"""A run on a real tiny model: metrics, evaluation, best kept, resume, kill, interrupts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training import checkpoint, events
from livery.training.events import Event
from livery.training.origin import base_digest
from tests import ROOT, dice, forks, runs
from tests.runs import notes, run, tiny_settings

pytest.importorskip("mlx.core")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def final(folder: Path) -> bytes:
    return (folder / "run" / "final.safetensors").read_bytes()


def spawn(folder: Path, *pairs: str, backend: str = "mlx") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runs", str(folder), backend, *pairs],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def ran(folder: Path, *pairs: str, backend: str = "mlx", code: int = 0) -> str:
    """What a run in a process of its own prints, which must end with this exit status."""
    words = [str(folder), backend, *pairs]
    found, out, err = forks.ended(
        "tests.runs", words, folder / "said", of=backend, loads=runs.loaded(backend)
    )
    assert found == code, err
    return out


def read_until(process: subprocess.Popen[str], last: str) -> None:
    """Its lines, up to the one behind which it waits, or the end of one that died before."""
    assert process.stdout is not None
    for line in process.stdout:
        if line == f"{last}\n":
            break


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(tiny_settings(folder))
    return folder


def test_metrics_have_the_documented_shape(whole: Path) -> None:
    rows = lines(whole / "run" / "training_metrics.jsonl")
    steps = [r for r in rows if "loss" in r]
    evals = [r for r in rows if "eval_loss" in r]
    assert [r["step"] for r in steps] == [3, 6, 9, 12]
    assert list(steps[0]) == [
        "step", "epoch", "loss", "grad_norm", "learning_rate", "tokens_per_second",
        "supervised_tokens_per_second", "peak_memory_mb",
    ]  # fmt: skip
    assert [r["step"] for r in evals] == [0, 4, 8, 12]
    assert list(evals[0]) == [
        "step", "epoch", "eval_loss", "eval_runtime", "eval_samples_per_second",
        "eval_steps_per_second",
    ]  # fmt: skip
    assert steps[-1]["epoch"] == pytest.approx(1.2)
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]
    assert evals[-1]["eval_loss"] < 0.7 * evals[0]["eval_loss"]


@pytest.mark.slow
def test_both_rates_count_what_they_say(tmp_path: Path) -> None:
    """All steps of an epoch: the rates' ratio is that of the plan's own counts."""
    settings = tiny_settings(tmp_path, steps_per_report=10, max_steps=10, samples=0)
    _, told = run(settings)
    (started,) = (event for event in told if isinstance(event, events.Started))
    (metrics,) = (event for event in told if isinstance(event, events.Metrics))
    (finished,) = (event for event in told if isinstance(event, events.Finished))
    assert started.work.steps == 10
    wanted = started.work.plain / started.work.supervised
    assert wanted > 3, "prompts are most of these rows"
    for rates in (dataclasses.asdict(metrics), finished.facts):
        got = rates["tokens_per_second"] / rates["supervised_tokens_per_second"]
        assert got == pytest.approx(wanted, rel=1e-2)
    seconds = sum(event.seconds for event in told if isinstance(event, events.Stepped))
    assert metrics.tokens_per_second == pytest.approx(started.work.plain / seconds, rel=1e-2)


def test_samples_are_answered_at_every_evaluation(whole: Path) -> None:
    rows = lines(whole / "run" / "samples.jsonl")
    assert [r["step"] for r in rows] == [0, 0, 4, 4, 8, 8, 12, 12]
    assert rows[0]["prompt"] == rows[2]["prompt"]
    assert rows[0]["expected"].startswith("it is 7000")


def test_what_the_folder_holds_at_the_end(whole: Path) -> None:
    names = {p.name for p in (whole / "run").iterdir()}
    assert names == {
        "run_config.json", "training_metrics.jsonl", "samples.jsonl", "training_metadata.json",
        "checkpoints", "final.safetensors", ".run",
    }  # fmt: skip
    facts = json.loads((whole / "run" / "training_metadata.json").read_text())
    assert facts["steps"] == 12
    assert facts["examples"] == 40
    config = json.loads((whole / "run" / "run_config.json").read_text())
    assert TrainSettings(**{**config["settings"], "lora": None}).batch_size == 4


@pytest.mark.slow
def test_checkpoints_are_pruned_to_two_and_the_best(tmp_path: Path) -> None:
    run(tiny_settings(tmp_path, save_every=2, steps_per_eval=3))
    kept = checkpoint.steps(tmp_path / "run")
    assert kept[-2:] == [10, 12]
    assert len(kept) <= 3


@pytest.mark.slow
def test_the_same_settings_give_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    run(tiny_settings(tmp_path))
    assert final(tmp_path) == final(whole)


@pytest.mark.slow
def test_another_seed_gives_others(whole: Path, tmp_path: Path) -> None:
    run(tiny_settings(tmp_path, seed=1))
    assert final(tmp_path) != final(whole)


@pytest.mark.slow
def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    wild = tiny_settings(tmp_path, steps_per_eval=1)
    # What the training rows teach makes these answers ever less likely.
    valid = tmp_path / "data" / "valid.jsonl"
    valid.write_text(re.sub(r"it is \d+( indeed)*", "?!", valid.read_text()))
    result, _ = run(wild)
    losses = [r["eval_loss"] for r in lines(tmp_path / "run" / "training_metrics.jsonl")
              if "eval_loss" in r and r["step"]]  # fmt: skip
    best = min(range(len(losses)), key=losses.__getitem__) + 1
    assert best < 12, "the control does not overshoot"
    assert result.kept_step == best
    kept = checkpoint.read(checkpoint.folder(tmp_path / "run", best)).state.weights
    import safetensors.numpy

    written = safetensors.numpy.load_file(tmp_path / "run" / "final.safetensors")
    assert all((written[k] == kept[k]).all() for k in kept)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_loss_on_record_is_that_of_the_weights_kept(tmp_path: Path, keep: str) -> None:
    """Also where the best checkpoint cannot be read any more: the last weights are kept, aloud."""
    settings = tiny_settings(tmp_path, steps_per_eval=1, keep=keep)
    valid = tmp_path / "data" / "valid.jsonl"
    valid.write_text(re.sub(r"it is \d+( indeed)*", "?!", valid.read_text()))

    told: list[Event] = []

    def spoil(event: Event) -> None:
        if isinstance(event, events.Stepped) and event.step == 12:
            for file in (tmp_path / "run" / "checkpoints").rglob("state.safetensors"):
                file.write_bytes(b"damaged")

    result, _ = run(settings, callbacks=(told.append, spoil))
    losses = [r["eval_loss"] for r in lines(tmp_path / "run" / "training_metrics.jsonl")
              if "eval_loss" in r and r["step"]]  # fmt: skip
    assert min(losses) < losses[-1], "the control does not overshoot"
    assert result.kept_step == 12
    assert result.eval_loss == losses[-1]
    texts = notes(told)
    assert any("damaged" in text and "last step" in text for text in texts) == (keep == "best")


@pytest.mark.slow
def test_it_stops_early_when_evaluation_does_not_improve(tmp_path: Path) -> None:
    result, told = run(
        tiny_settings(tmp_path, steps_per_eval=2, early_stop_patience=2, early_stop_min_delta=100.0)
    )
    assert result.steps == 4
    assert any("Stopped early" in text for text in notes(told))


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "loss_type"), [(0.0, "sft"), (0.2, "sft"), (0.2, "sigmoid")])
def test_killed_at_random_steps_and_resumed_it_ends_in_the_same_bytes(
    tmp_path: Path, dropout: float, loss_type: str
) -> None:
    options = ["lora=" + json.dumps({"dropout": dropout}), f'loss_type="{loss_type}"']
    options += ["save_every=1"]
    ran(tmp_path / "whole", *options)
    steps = sorted(dice().sample(range(2, 12), 2))
    kills = json.dumps([f"step {n}" for n in steps])
    said = ran(tmp_path / "killed", *options, f"kills={kills}")
    first, second = steps  # said before they are saved, so taken again
    taken = [*range(1, first + 1), *range(first, second + 1), *range(second, 13)]
    assert [line for line in said.splitlines() if line.startswith("step ")] == [
        f"step {n}" for n in taken
    ]
    assert final(tmp_path / "killed") == final(tmp_path / "whole"), steps
    for name in ("training_metrics.jsonl", "samples.jsonl"):
        ours, theirs = (
            steady(lines(tmp_path / folder / "run" / name)) for folder in ("killed", "whole")
        )
        assert ours == theirs, steps


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_killed_within_an_update_of_the_weights_it_ends_in_the_same_bytes(
    tmp_path: Path, backend: str
) -> None:
    """Half of an update is in memory alone: weights decayed and not yet moved, moments mixed."""
    options = ["max_steps=8", "save_every=2", "warmup_steps=1", "samples=0"]
    ran(tmp_path / "whole", *options, backend=backend)
    kills = ["update 4", "update 1", "update 3"]  # of each process, in steps 4, 3 and 5
    said = ran(tmp_path / "killed", *options, f"kills={json.dumps(kills)}", backend=backend)
    steps = [int(line.split()[1]) for line in said.splitlines() if line.startswith("step ")]
    assert steps == [1, 2, 3, 3, 4, *range(5, 9)]
    assert final(tmp_path / "killed") == final(tmp_path / "whole")
    ours, theirs = (
        steady(lines(tmp_path / folder / "run" / "training_metrics.jsonl"))
        for folder in ("killed", "whole")
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["sft", "sigmoid"])
def test_killed_again_and_again_at_any_change_of_a_file_nothing_is_lost_or_doubled(
    tmp_path: Path, loss_type: str
) -> None:
    """Logs and checkpoints agree whatever was the last thing to reach the disk."""
    options = ["save_every=3", "steps_per_eval=2", "steps_per_report=1"]
    options += [f'loss_type="{loss_type}"']
    ran(tmp_path / "whole", *options)
    # A run changes a file some 160 times; early ones are where the order of a save matters.
    drawn = dice()
    kills = [drawn.randrange(4, 45) for _ in range(8)]
    ran(tmp_path / "killed", *options, f"kills={kills}")
    folders = [tmp_path / name / "run" for name in ("whole", "killed")]
    one, other = ({str(p.relative_to(run)) for p in run.rglob("*")} for run in folders)
    assert one == other, kills
    assert final(tmp_path / "whole") == final(tmp_path / "killed"), kills
    for name in ("training_metrics.jsonl", "samples.jsonl"):
        one, other = (steady(lines(run / name)) for run in folders)
        assert one == other, (name, kills)


@pytest.mark.slow
def test_the_first_step_takes_the_plans_first_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livery.dataset.load import load_dataset
    from livery.dataset.template import load_chat
    from livery.training.plan import Plan
    from mlx_train.backend import MlxBackend

    taken: dict[int, list[list[int]]] = {}
    step_of = MlxBackend.train_step

    def watched(self: MlxBackend, batches: Any, *, step: int, learning_rate: float) -> Any:
        taken[step] = [batch.tokens.tolist() for batch in batches]
        return step_of(self, batches, step=step, learning_rate=learning_rate)

    monkeypatch.setattr(MlxBackend, "train_step", watched)
    settings = tiny_settings(tmp_path, max_steps=3, steps_per_eval=0, samples=0)
    run(settings)
    chat = load_chat(settings.model, settings.template)
    rows = load_dataset(tmp_path / "data" / "train.jsonl", chat, max_length=200)
    plan = Plan(rows.examples, settings.batch_size, settings.grad_accum, settings.seed)
    for step in (1, 2, 3):
        assert taken[step] == [batch.tokens.tolist() for batch in plan.step(step - 1)]


class Killed(BaseException):
    """Stands for a kill: nothing of the run's own runs after it but the end of its blocks."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [events.CheckpointSaved, events.Sampled, events.Evaluated, events.Metrics]
)
def test_stopped_dead_at_an_event_the_logs_agree_with_the_checkpoint(
    whole: Path, tmp_path: Path, kind: type[Any]
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, kind) and event.step >= 4:
            raise Killed

    settings = tiny_settings(tmp_path)
    with pytest.raises(Killed):
        run(settings, callbacks=(stop,))
    run(settings, resume=True)
    for name in ("training_metrics.jsonl", "samples.jsonl"):
        assert steady(lines(tmp_path / "run" / name)) == steady(lines(whole / "run" / name))


def steady(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what a clock decides."""
    timed = ("second", "runtime", "memory")
    return [{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a process of its own: what a test process has loaded can move a last bit."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ran(folder, "save_every=100")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = spawn(tmp_path, "save_every=100", 'waits="step 5"')
    read_until(process, "step 5")
    os.kill(process.pid, number)
    let_go(process)
    _out, err = process.communicate()
    assert process.returncode == 130
    assert "To continue: the same command with --resume" in err
    found, _ = checkpoint.newest(tmp_path / "run")
    assert found is not None
    assert found.state.step >= 5
    ran(tmp_path, "save_every=100", "resume=true")
    assert final(tmp_path) == final(undisturbed)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_steps_not_the_run(whole: Path, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    run(settings)
    newest = checkpoint.folder(tmp_path / "run", 12) / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    _, told = run(settings, resume=True)
    assert any("Going back to the checkpoint before" in text for text in notes(told))
    assert final(tmp_path) == final(whole)


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_not_overwritten(whole: Path, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    run(settings)
    with pytest.raises(UserError, match=r"already holds a run.*--resume.*--overwrite"):
        run(settings)
    run(settings, overwrite=True)
    assert final(tmp_path) == final(whole)


@pytest.mark.slow
def test_a_run_of_other_settings_or_data_is_not_resumed_by_accident(tmp_path: Path) -> None:
    run(tiny_settings(tmp_path))
    changed = tiny_settings(tmp_path, learning_rate=5e-3)
    with pytest.raises(UserError, match=r"learning_rate is 0\.005 and was 0\.01.*resume-anyway"):
        run(changed, resume=True)
    run(changed, resume=True, resume_anyway=True)
    train = tmp_path / "data" / "train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="training data's hash"):
        run(tiny_settings(tmp_path), resume=True)


@pytest.mark.slow
def test_a_run_that_recorded_the_bases_older_digest_is_resumed(whole: Path, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    run(settings)
    shutil.rmtree(checkpoint.folder(tmp_path / "run", 12))
    state = checkpoint.folder(tmp_path / "run", 10) / "state.json"
    facts = json.loads(state.read_text())
    assert facts["origin"]["base"] == base_digest(settings.model)
    facts["origin"]["base"] = base_digest(settings.model, like="f" * 64)
    state.write_text(json.dumps(facts))
    run(settings, resume=True)
    assert final(tmp_path) == final(whole)
    newest = checkpoint.read(checkpoint.folder(tmp_path / "run", 12))
    assert newest.origin.base == base_digest(settings.model)


@pytest.mark.slow
def test_evaluations_on_other_rows_are_not_compared(tmp_path: Path) -> None:
    """The lowest loss so far was measured on rows that are no longer there."""
    settings = tiny_settings(tmp_path, save_every=4, steps_per_eval=4)
    run(settings)
    shutil.rmtree(checkpoint.folder(tmp_path / "run", 12))
    _, told = run(settings, resume=True)
    assert not any("validation set" in text for text in notes(told))
    shutil.rmtree(checkpoint.folder(tmp_path / "run", 12))
    before = checkpoint.read(checkpoint.folder(tmp_path / "run", 8)).progress
    assert before.best_loss is not None
    valid = tmp_path / "data" / "valid.jsonl"
    valid.write_text(re.sub(r"it is \d+( indeed)*", "?!", valid.read_text()))  # far less likely
    result, told = run(settings, resume=True)
    assert any("The validation set changed" in text for text in notes(told))
    assert result.kept_step == 12
    assert result.eval_loss is not None
    assert result.eval_loss > before.best_loss


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        run(tiny_settings(tmp_path), resume=True)


def test_a_folder_that_cannot_be_written_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run(tiny_settings(tmp_path, output_dir=str(tmp_path / "file")))
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(UserError, match="not allowed to write"):
            run(tiny_settings(tmp_path, output_dir=str(tmp_path / "locked" / "run")))


def test_two_trainers_do_not_share_a_folder(tmp_path: Path) -> None:
    from livery.training.run_folder import locked

    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(UserError, match="another process is training"):
        run(tiny_settings(tmp_path))


@pytest.mark.slow
def test_beginning_anew_where_another_process_trains_costs_it_nothing(
    undisturbed: Path, tmp_path: Path
) -> None:
    options = ["save_every=1", "save_total=100", "steps_per_eval=4"]
    process = spawn(tmp_path, *options, 'waits="checkpoint 3"')
    read_until(process, "checkpoint 3")  # it holds its folder, and saves nothing more
    before = checkpoint.steps(tmp_path / "run")
    ran(tmp_path, *options, "overwrite=true", code=1)
    err = (tmp_path / "said" / "stderr").read_text()
    during = checkpoint.steps(tmp_path / "run")
    let_go(process)
    assert "another process is training in this folder" in err
    assert before
    assert during == before
    assert process.wait() == 0
    assert final(tmp_path) == final(undisturbed)
    ran(tmp_path, *options, "overwrite=true")


@pytest.mark.slow
def test_a_checkpoint_of_a_later_livery_stops_a_run_that_would_go_back(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    run(settings)
    path = checkpoint.folder(tmp_path / "run", 12) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    before = checkpoint.steps(tmp_path / "run")
    with pytest.raises(UserError, match=r"step-000012.*another version.*--overwrite"):
        run(settings, resume=True)
    assert checkpoint.steps(tmp_path / "run") == before


@pytest.mark.slow
def test_without_validation_data_the_last_weights_are_kept(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    (tmp_path / "data" / "valid.jsonl").unlink()
    result, _ = run(settings)
    assert result.eval_loss is None
    assert result.kept_step == 12


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, learning_rate=1e30, max_grad_norm=0.0, save_every=1,
                             schedule="constant", warmup_steps=0)  # fmt: skip
    with pytest.raises(UserError, match="the loss is"):
        run(settings)
    assert not (tmp_path / "run" / "final.safetensors").exists()
