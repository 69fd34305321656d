"""The skill actions by commands: data, training, scores with their targets, answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livery import cli
from livery.files import read_json
from tests.tiny_models import tiny_model

METRICS = {"tags_valid", "intent", "critical_command", "critical_command_guarded", "over_refusal"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model's adapter for actions, three steps old."""
    folder = tmp_path_factory.mktemp("actions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = tiny_model("llama", folder / "models")
        (folder / "model.txt").write_text(str(model))
        assert cli.run(["data", "actions", "--count", "60"]) == 0
        train = ["train", "actions", "--model", str(model), "--backend", "torch"]
        assert cli.run([*train, "--max-steps", "3", "--max-length", "2048"]) == 0
    return folder


@pytest.mark.slow
def test_actions_train_and_are_scored_constrained_and_free(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    words = ["eval", "actions", "--adapter", "adapters/actions", "--engine", "torch", "--baseline",
             "--limit", "12", "--no-neutral", "--max-tokens", "48", "--json",
             "--output-json", "scores.json"]  # fmt: skip
    assert cli.run([*words, "--target", "0"]) == 0
    record = read_json(here / "scores.json")
    assert set(record["arms"]) == {
        "tuned_constrained", "tuned_unconstrained", "base_constrained", "base_unconstrained"
    }  # fmt: skip
    assert record["arms"]["tuned_constrained"]["metrics"].keys() >= METRICS
    assert record["leaks"]["same"] == 0
    capsys.readouterr()
    assert cli.run([*words, "--target", "intent=1.0"]) == 3
    assert "Target missed" in capsys.readouterr().err


@pytest.mark.slow
def test_conversations_are_answered_turn_by_turn(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    words = ["eval", "actions", "--adapter", "adapters/actions", "--engine", "torch", "--set",
             "conversations", "--limit", "3", "--no-neutral", "--max-tokens", "24",
             "--unconstrained", "--json"]  # fmt: skip
    assert cli.run(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["set"]["name"], record["set"]["cases"]) == ("conversations set", 3)


@pytest.mark.slow
def test_an_answer_and_its_tags_are_printed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    words = ["generate", "--skill", "actions", "--adapter", "adapters/actions", "--engine", "torch",
             "--max-tokens", "400", "--json", "open firefox"]  # fmt: skip
    assert cli.run(words) == 0
    (row,) = json.loads(capsys.readouterr().out)["answers"]
    assert set(row["value"]) == {"text", "tags"} if "value" in row else "error" in row
