"""`livery run`: all stages on a tiny model, what a second call skips, and what a change refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commands.eval import TOKENS_EVAL
from commands.run import ENOUGH_ROWS, configure
from commands.train import settings_of
from eval.record import with_targets
from eval.report.words import missed
from livery import cli
from livery.config.layers import Config
from livery.files import read_json
from tests.eval.test_eval_runner import TUNED, make_case, make_record, make_run
from tests.tiny_models import tiny_model


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "model.txt").write_text(str(tiny_model("llama", folder / "models")))
    return folder


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(here)

    def call(*arguments: str) -> Done:
        model = (here / "model.txt").read_text()
        code = cli.run(["run", "--model", model, "--max-steps", "3", *arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def skipped(done: Done) -> dict[str, str]:
    return {name: stage["skipped"] for name, stage in json.loads(done.stdout)["stages"].items()}


@pytest.mark.slow
def test_every_stage_runs_then_is_skipped_then_redone_when_its_bytes_change(
    here: Path, run: Run
) -> None:
    first = run()
    assert first.returncode == 3, first.stderr  # a random model misses any target
    assert "Target missed" in first.stderr
    for words in ("data ", "training ", "evaluation ", "report ", "base, constrained", "in all"):
        assert words in first.stdout
    folder = here / "adapters" / "date-keys"
    assert {p.name for p in folder.iterdir()} >= {"evaluation.json", "report.md", "report.html"}
    assert len((here / "data" / "date-keys" / "train.jsonl").read_text().splitlines()) >= 2100
    evaluation = read_json(folder / "evaluation.json")
    assert evaluation["leaks"]["same"] == 0
    assert evaluation["facts"]["decoding"]["max_tokens"] == TOKENS_EVAL
    assert evaluation["facts"]["command"].startswith("livery eval date-keys --adapter")

    again = run("--target", "0", "--json")
    assert again.returncode == 0, again.stderr
    assert all(skipped(again).values())

    missed = run("--json")
    assert (missed.returncode, json.loads(missed.stdout)["accuracy"] < 0.95) == (3, True)

    # An interrupted run: the training's last file is not there yet.
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "training_metadata.json").unlink()
    resumed = run("--target", "0")
    assert "Resuming from step 3" in resumed.stderr
    assert (folder / "adapter_model.safetensors").read_bytes() == weights

    # Data that somebody edited is made again; the adapter was made from it as it is now.
    with (here / "data" / "date-keys" / "train.jsonl").open("a") as file:
        file.write("{}\n")
    mended = run("--target", "0", "--json")
    assert [name for name, why in skipped(mended).items() if not why] == ["data"]

    # Other settings do not overwrite what is there unless asked to.
    changed = run("--target", "0", "--seed", "5")
    assert changed.returncode == 1
    assert "seed is 5 and was 0" in changed.stderr
    assert "--fresh" in changed.stderr
    assert (folder / "adapter_model.safetensors").read_bytes() == weights


def test_an_unknown_skill_names_those_there_are(run: Run) -> None:
    done = run("stat")
    assert done.returncode == 1
    assert "choose one of: actions, date-keys" in done.stderr


@pytest.mark.parametrize(
    ("flags", "text", "data", "output_dir", "own"),
    [
        ({}, None, "data/state", "adapters/state", False),
        ({"data": "mine", "output_dir": "out"}, None, "mine", "out", True),
        ({"data": "data/state"}, None, "data/state", "adapters/state", False),
        # A file that was named counts; the one that happens to lie here is of another skill.
        ({}, "data: mine\n", "mine", "adapters/state", True),
        ({}, "adapter_path: out\n", "data/state", "out", False),
    ],
)
def test_folders_are_the_skills_unless_said_otherwise(
    tmp_path: Path,
    flags: dict[str, Any],
    text: str | None,
    data: str,
    output_dir: str,
    own: bool,
) -> None:
    file = None
    if text is not None:
        file = str(tmp_path / "c.yaml")
        Path(file).write_text(text, encoding="utf-8")
    config, own_data = configure("state", flags, file)
    assert (config.settings.data, config.settings.output_dir) == (data, output_dir)
    assert own_data == own


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        ({}, 0),  # the embedded base learns from all that is made
        ({"model": "some/real-base"}, ENOUGH_ROWS),
        ({"model": "some/real-base", "max_samples": 9}, 9),
        ({"model": "some/real-base", "max_steps": 9}, 0),
        ({"model": "some/real-base", "epochs": 2.0}, 0),
        ({"model": "some/real-base", "data": "mine"}, 0),
    ],
)
def test_a_real_base_learns_from_the_first_rows_of_what_is_made(
    flags: dict[str, Any], rows: int
) -> None:
    config, _ = configure("date-keys", flags, None)
    assert config.settings.max_samples == rows


@pytest.mark.parametrize(
    ("skill", "flags", "tokens"),
    [
        ("state", {}, 2048),  # the embedded base's own configuration has 512
        ("date-keys", {}, 512),
        ("state", {"max_length": 700}, 700),
        ("state", {"data": "mine"}, 512),
    ],
)
def test_a_run_is_as_long_as_the_skills_own_rows(
    skill: str, flags: dict[str, Any], tokens: int
) -> None:
    config, _ = configure(skill, flags, None)
    assert config.settings.max_length == tokens


@pytest.mark.parametrize("way", ["train", "run"])
def test_data_of_a_skill_are_trained_as_long_as_its_rows_wherever_they_lie(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`livery train --data data/state` dropped most rows at the embedded base's 512 tokens."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made"
    folder.mkdir()

    def resolved(skill: str, file: str | None = None, **flags: Any) -> Config:
        (folder / "manifest.json").write_text(json.dumps({"skill": skill}), encoding="utf-8")
        flags = {"data": str(folder), **flags}
        if way == "run":
            return configure("persona", flags, file)[0]
        return settings_of(None, flags, file, resume=False)

    config = resolved("state")
    assert config.settings.max_length == config.values["max_length"].value == 2048
    assert config.values["max_length"].source == "the skill state"
    assert "rows of the skill state take up to 2,048 tokens" in config.notes[-1]
    assert resolved("state", max_length=700).settings.max_length == 700
    assert resolved("date-keys").settings.max_length == 512
    assert resolved("a skill of somebody's").settings.max_length == 512
    Path("own.yaml").write_text("max_seq_length: 800\n", encoding="utf-8")
    assert resolved("state", "own.yaml").settings.max_length == 800
    monkeypatch.setenv("LIVERY_MAX_LENGTH", "900")
    assert resolved("state").settings.max_length == 900


@pytest.mark.parametrize(
    ("target", "code", "complaint"),
    [
        ("nonsense=1", 1, "no such metric; there are: correct, "),
        ("intent=9", 1, "a share is from 0 to 1"),
        ("95", 2, "not in the range"),
    ],
)
def test_a_target_that_is_none_is_told_before_anything_is_made(
    target: str, code: int, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run(["run", "actions", "--target", target]) == code
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_stored_evaluation_is_held_to_the_targets_of_now() -> None:
    """`livery run` took one number, so nothing failed a run on a tag at a critical request."""
    cases = [make_case("a"), make_case("b")]
    found = make_record(cases, [make_run(TUNED, cases, "yn")], 0.9)
    assert with_targets(found, {"correct": 0.5})["passed"] is True
    assert with_targets(found, {"parsed": 1.0})["passed"] is True
    held = with_targets(found, {"correct": 0.5, "parsed": 1.1})
    assert held["passed"] is False
    assert missed(held).startswith("parsed is 100.0 %")
    assert with_targets(found, {"unheard_of": 0.0})["passed"] is False
    assert found["target"] == 0.9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["actions"], "does not learn actions: 13.3 % right"),
        (["state", "--model", "base_model"], "does not learn state: 2.3 % right"),
        (["persona"], "does not learn persona: 18.4 % right"),
        (["dsl"], "dsl was never measured on it"),
        (["date-keys"], ""),
        (["actions", "--model", "tiny"], ""),
    ],
)
def test_a_base_that_is_not_for_a_skill_is_told_first_with_the_remedy(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run(["run", *words, "--device", "cpu", "--data", "nowhere"]) == 1
    told = capsys.readouterr().err.splitlines()
    notes = [line for line in told if "embedded base" in line]
    assert len(notes) == bool(said)
    if said:
        assert said in notes[0]
        assert notes[0].startswith("note: ")
        assert notes[0].endswith("add --model smollm2-135m.")
        assert told[0] == notes[0]
