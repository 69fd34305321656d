"""`livery fasttext train` and `eval` as typed, on little data and a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands.fasttext import data_version
from datagen.make import make_data
from livery import cli
from livery.files import sha256
from tests import ROOT

pytest.importorskip("fasttext")

QUICK = ["--epochs", "60", "--dim", "12", "--buckets", "1000"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and model/, which `livery fasttext train` made with exit code 0."""
    root = tmp_path_factory.mktemp("fasttext")
    make_data("date-keys", root / "data", 7, 1500)
    assert train(root, "--error-rate", "0.4") == 0
    return root


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter on a tiny model."""
    pytest.importorskip("mlx.core")
    from tests.engines.libraries import trained_adapter

    return trained_adapter(tmp_path_factory.mktemp("run"))


def train(root: Path, *more: str, out: str = "model") -> int:
    options = ["--data", str(root / "data"), "--out", str(root / out)]
    return cli.run(["fasttext", "train", *options, *QUICK, *more])


@pytest.mark.slow
def test_the_record_says_where_it_all_comes_from(place: Path) -> None:
    record = json.loads((place / "model" / "fasttext.json").read_text())
    manifest = json.loads((place / "data" / "manifest.json").read_text())
    assert record["data"]["sha256"] == manifest["splits"]["train"]["sha256"]
    assert record["data"]["version"] == manifest["version"]
    assert record["calibrated_on"]["set"] == "validation"
    found = record["calibration"]
    assert found["rate"] == 0.4
    assert found["errors"] / found["accepted"] <= found["bound"] <= 0.4
    assert record["settings"]["seed"] == 7
    assert record["rows"] == 1500
    assert {"at_T", "in_N_minutes", "none", "tomorrow"} < set(record["labels"])


def test_rows_that_were_changed_have_no_version(tmp_path: Path) -> None:
    make_data("date-keys", tmp_path, 7, 50)
    file = tmp_path / "train.jsonl"
    said = json.loads((tmp_path / "manifest.json").read_text())
    assert data_version(file, sha256(file)) == said["version"]
    file.write_text(file.read_text().splitlines()[0] + "\n")
    assert data_version(file, sha256(file)) == ""
    (tmp_path / "manifest.json").unlink()
    assert data_version(file, sha256(file)) == ""


@pytest.mark.slow
def test_fasttext_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fasttext", "eval", "--fasttext", str(place / "model")]
    assert cli.run(arguments) == 0
    shown = capsys.readouterr()
    version = json.loads((place / "data" / "manifest.json").read_text())["version"]
    assert f"FastText: 1,500 rows of data version {version}, " in shown.out
    assert "| validation (233) | fasttext |" in shown.out
    assert "adapter" not in shown.out
    assert "second" not in shown.out + shown.err, "a set that is looked at once"
    assert "promised at most 40.0% (it was calibrated on this set)" in shown.out
    assert "commands/s" in shown.err
    assert cli.run([*arguments, "--target", "1"]) == 3
    assert "Target missed: fasttext" in capsys.readouterr().err


@pytest.mark.slow
def test_the_hybrid_in_one_table(
    place: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.jsonl"
    rows = [
        {"text": "call bob in 25 minutes", "date_keys": ["in_25_minutes"]},
        {"text": "wake me at 7 am tomorrow", "date_keys": ["at_7am", "tomorrow"]},
    ]
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["fasttext", "eval", "--fasttext", str(place / "model"), "--data", str(mine)]
    arguments += ["--adapter", str(adapter), "--output-json", str(tmp_path / "out.json")]
    found: dict[str, Any] = {}
    for threshold, taken in (("0", 2), ("1", 0)):
        assert cli.run([*arguments, "--threshold", threshold, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        facts = found["sets"]["mine.jsonl"]
        assert facts["accepted"] == taken
        hybrid, fast, slow = (facts["systems"][n] for n in ("hybrid", "fasttext", "adapter"))
        assert hybrid["correct"] == (fast if taken else slow)["correct"]
        assert slow["correct"] == 0 < fast["correct"]
        assert 0 < fast["latency_ms"]["p50"] < slow["latency_ms"]["p50"]
        assert not facts["calibrated_on"]
    assert json.loads((tmp_path / "out.json").read_text()) == found


@pytest.mark.slow
def test_the_same_seed_gives_the_same_folder(place: Path) -> None:
    record = json.loads((place / "model" / "fasttext.json").read_text())
    assert train(place, "--error-rate", "0.4", out="again") == 0
    again = json.loads((place / "again" / "fasttext.json").read_text())
    assert again == record
    assert (place / "again/model.ftz").read_bytes() == (place / "model/model.ftz").read_bytes()


@pytest.mark.slow
def test_a_promise_that_cannot_be_kept_is_not_made(
    place: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(place, "--error-rate", "0.001", out="strict") == 0
    assert "No threshold keeps the error at 0.1% with 90% confidence" in capsys.readouterr().err
    assert json.loads((place / "strict/fasttext.json").read_text())["calibration"] is None
    arguments = ["fasttext", "eval", "--fasttext", str(place / "strict")]
    assert cli.run(arguments) == 0
    assert "validation: no threshold." in capsys.readouterr().out
    assert cli.run([*arguments, "--adapter", str(adapter)]) == 1
    assert "there is no hybrid. Give --threshold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "nowhere"], 1, "Make the data with `livery data date-keys`"),
        (["train", "--data", "bad.jsonl", "--out", "x"], 1, "bad.jsonl:2: "),
        (["train", "--data", "good.jsonl", "--out", "theirs"], 1, "holds no .livery.json"),
        (["train", "--data", "good.jsonl", "--calibrate-on", "none.jsonl"], 1, "none.jsonl"),
        (["train", "--error-rate", "1"], 2, "is not in the range"),
        (["train", "--lr", "nan"], 2, "nan is not in the range 0<x<=10"),
        (["train", "--error-rate", "nan"], 2, "nan is not in the range 0<x<1"),
        (["eval", "--threshold", "nan"], 2, "nan is not in the range 0<=x<=1"),
        (["eval", "--fasttext", "theirs"], 1, "Make one with `livery fasttext train`"),
        (["eval", "--set", "a", "--data", "b"], 2, "choose one"),
        (["eval", "--model", "x"], 2, "give --adapter too"),
        (["evaluate"], 2, "No such command"),
    ],
)
def test_mistakes_cost_nothing(
    arguments: list[str], code: int, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    good = '{"text": "wake me", "date_keys": []}\n'
    Path("good.jsonl").write_text(good)
    Path("bad.jsonl").write_text(good + '{"text": "wake me", "date_keys": ["soon"]}\n')
    Path("theirs").mkdir()
    Path("theirs/letter.txt").write_text("dear")
    before = sorted(tmp_path.rglob("*"))
    if "theirs" in arguments and arguments[0] == "train":
        arguments = [*arguments, "--overwrite"]
    assert cli.run(["fasttext", *arguments]) == code
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_the_example_runs(place: Path) -> None:
    script = [sys.executable, str(ROOT / "examples" / "extract_date_keys.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*script, str(place / "model")], env=environment, capture_output=True, text=True, check=True
    )
    assert "Call Bob in 25 minutes!: in_25_minutes (fasttext)\n" in done.stdout


@pytest.mark.slow
def test_the_older_names_are_the_same_commands(place: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(ROOT / "scripts" / f"{name}_date_keys.py"), *more]
        return subprocess.run(
            script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    data = ["--training-data", str(place / "data"), "--output-dir", "made"]
    done = run("train_fasttext", *data, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads((place / "model" / "fasttext.json").read_text())
    assert json.loads(done.stdout)["sha256"] == first["sha256"]
    done = run("validate_fasttext", "--model-path", "made", "--limit", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sets"]["validation"]["cases"] == 5
    done = run("validate_hybrid", "--model-path", "made", "--threshold", "0.9")
    assert "adapters/date-keys: no such adapter folder" in done.stderr
