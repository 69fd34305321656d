"""`livery eval`, `livery report` and `livery generate`, as typed, on a tiny model and over http."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.scorers import find_set, get_scorer
from livery import cli
from tests.engines.test_engine_http import completion, server

SETS = find_set("date-keys")[1]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter on a tiny model, in a folder as `livery train` leaves it."""
    pytest.importorskip("mlx.core")
    from tests.engines.libraries import trained_adapter

    root = tmp_path_factory.mktemp("run")
    (root / "data").mkdir()
    (root / "data" / "train.jsonl").write_text('{"text": "play some jazz"}\n', encoding="utf-8")
    return trained_adapter(root, root / "data")


@pytest.fixture
def own_cases(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Six cases of which the tuned model gets exactly three right: their answers are its own."""
    texts = [f"request number {n} about the kitchen" for n in range(6)]
    options = ["--adapter", str(adapter), "--skill", "date-keys", "--json", "--max-tokens", "200"]
    assert cli.run(["generate", *options, *texts]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    rows = [
        {"text": a["text"], "date_keys": sorted(set(a["value"])) if n % 2 else ["last_year"]}
        for n, a in enumerate(answers)
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_an_evaluation_from_end_to_end(
    adapter: Path, own_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["eval", "date-keys", "--adapter", str(adapter), "--data", str(own_cases)]
    arguments += ["--baseline", "--max-tokens", "200", "--output-json", str(tmp_path / "out.json")]
    assert cli.run([*arguments, "--target", "0.5"]) == 0
    shown = capsys.readouterr()
    assert "From base, constrained to tuned, constrained" in shown.out
    assert "None of the 6 cases is in the training file (1 row)" in shown.out
    assert "answers/s" in shown.err
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["accuracy"] == 0.5
    assert set(found["arms"]) == {
        "tuned_constrained", "tuned_unconstrained", "base_constrained", "base_unconstrained"
    }  # fmt: skip
    assert found["arms"]["tuned_unconstrained"]["correct"] == 0
    assert found["facts"]["adapter_sha256"].keys() == {"mlx/adapters.safetensors"}
    assert found["facts"]["machine"]["cores"] >= 1
    assert found["facts"]["command"].startswith("livery")
    others = found["neutral"]
    assert others["total"] == len(others["prompts"]) == 10
    assert others["differ"] == sum(row["base"] != row["tuned"] for row in others["prompts"])
    assert others["differ"] > 5, "the control's adapter is wild"
    assert json.loads((adapter / "evaluation_data.json").read_text()) == found
    assert "50.0 %" in (adapter / "report.md").read_text(encoding="utf-8")
    assert (adapter / "report.html").is_file()

    assert cli.run([*arguments, "--target", "0.51", "--constrained"]) == 3
    assert "Target missed: 50.0% of the cases are right" in capsys.readouterr().err
    without = ["--unconstrained", "--no-neutral", "--target", "parsed=0.5"]
    assert cli.run([*arguments, *without]) == 3
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["neutral"] is None
    assert "Target missed: parsed is 0.0 %, 50.0 % was asked for." in capsys.readouterr().err
    assert cli.run([*arguments, "--constrained", "--target", "0.5", "--target", "parsed=1"]) == 0


@pytest.mark.slow
def test_json_is_all_that_stands_on_stdout(
    adapter: Path, own_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = tmp_path / "elsewhere"
    arguments = ["eval", "date-keys", "--adapter", str(adapter), "--data", str(own_cases)]
    code = cli.run([*arguments, "--limit", "2", "--json", "--target", "1", "--report", str(report)])
    assert code == 3
    found = json.loads(capsys.readouterr().out)
    assert found["set"]["cases"] == 2
    assert found["passed"] is False
    assert sorted(path.name for path in report.iterdir()) == [
        "evaluation_data.json", "report.html", "report.md"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_limited_run_leaves_the_adapters_record_alone(
    adapter: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["eval", "date-keys", "--adapter", str(adapter), "--limit", "3", "--constrained"]
    assert cli.run(arguments) == 0
    assert not (adapter / "evaluation.json").exists()
    assert "Wrote" not in capsys.readouterr().err


def test_an_unparsable_case_file_is_named(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "mine.jsonl"
    for text, complaint in [
        ('{"text": "a", "date_keys": []}\n{"text": "b", "date_keys": ["someday"]}', ":2: "),
        ('{"text": "a", "date_keys": []}\n\n{oops', ":3: not valid JSON"),
        ('{"text": "a"}', ':1: no "date_keys"'),
        ("", "no cases"),
        ('{"text": "", "date_keys": []}', ":1: "),
        ('{"text": "a", "date_keys": "today"}', ":1: "),
        ("[1]", ":1: a list where a JSON object was expected"),
    ]:
        path.write_text(text, encoding="utf-8")
        assert cli.run(["eval", "date-keys", "--adapter", str(adapter), "--data", str(path)]) == 1
        error = capsys.readouterr().err
        assert f"{path}" in error
        assert complaint in error
    assert cli.run(["eval", "date-keys", "--data", str(tmp_path / "none.jsonl")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_what_else_a_user_can_get_wrong(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty").mkdir()
    for arguments, code, complaint in [
        (["eval", "cooking"], 1, "no skill 'cooking'; choose one of: actions, date-keys"),
        (["eval", "date-keys", "--adapter", str(tmp_path / "no")], 1, "no such adapter folder"),
        (["eval", "date-keys", "--adapter", str(tmp_path / "empty"),
          "--model", str(adapter.parent / "models")], 1, "no config.json"),
        (["eval", "date-keys", "--second-set", "--data", "x"], 2, "choose one"),
        (["eval", "date-keys", "--target", "95"], 2, "0<=x<=1"),
        (["eval", "date-keys", "--target", "=1"], 2, "names no metric"),
        (["eval", "date-keys", "--target", "in_order=nan"], 2, "is not a number"),
        (["eval", "date-keys", "--target", "grace=1"], 1, "there are: correct, parsed, in_order"),
        (["eval", "date-keys", "--engine", "http"], 2, "--url"),
        (["eval", "date-keys", "--engine", "http", "--url", "http://127.0.0.1:9/v1",
          "--quantize", "4"], 2, "--quantize is not for --engine http"),
        (["eval", "date-keys", "--url", "http://127.0.0.1:9/v1"], 2, "not for --engine mlx"),
        (["eval", "date-keys", "--max-tokens", "0"], 1, "max_tokens is 0"),
        (["eval", "date-keys", "--train-data", str(tmp_path / "no.jsonl")], 1,
         "no such folder or file"),
        (["report", str(tmp_path / "empty")], 1, "nothing to report on yet"),
        (["generate", "--system", "x", "--skill", "date-keys", "hi"], 1, "leave out --system"),
        (["generate", "--unconstrained", "hi"], 1, "--unconstrained needs --skill"),
        (["generate", "--base", "--skill", "cooking", "hi"], 1, "no skill"),
    ]:  # fmt: skip
        assert cli.run(arguments) == code, arguments
        assert complaint in capsys.readouterr().err, arguments


def test_an_adapter_without_weights(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = adapter / "run_config.json"
    (tmp_path / "run_config.json").write_bytes(config.read_bytes())
    assert cli.run(["eval", "date-keys", "--adapter", str(tmp_path)]) == 1
    assert "holds no adapter weights" in capsys.readouterr().err


@pytest.mark.slow
def test_an_endpoint_is_scored_against_its_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A served model that knows every answer but one, beside a base that knows one."""
    cases = get_scorer("date-keys").cases(SETS)
    right = {case.messages[-1]["content"]: case.expected_text for case in cases}
    known, unknown = (case.messages[-1]["content"] for case in cases[:2])

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        text = body["messages"][-1]["content"]
        knows = text != unknown if body["model"] == "tuned" else text == known
        return 200, completion(right[text] if knows else "I do not know.")

    with server(answer) as (url, _):
        arguments = ["eval", "date-keys", "--engine", "http", "--url", url, "--model", "base"]
        arguments += ["--adapter", "tuned", "--baseline", "--unconstrained"]
        arguments += ["--train-data", str(SETS), "--report", str(tmp_path), "--target", "0.99"]
        assert cli.run(arguments) == 0
        shown = capsys.readouterr().out
        total = len(cases)
        assert f"{total - 2} cases won, 0 cases lost" in shown
        assert f"{total} of {total} cases are in the training file" in shown
        assert unknown in shown
        found = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
        assert found["arms"]["base_unconstrained"]["correct"] == 1
        assert found["arms"]["tuned_unconstrained"]["correct"] == total - 1
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "99.6 %" in page
        assert cli.run([*arguments[:-6], "--both"]) == 1
        assert "--unconstrained" in capsys.readouterr().err


@pytest.mark.slow
def test_report_of_a_run(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    metrics = adapter / "training_metrics.jsonl"
    metrics.write_text('{"step": 1, "loss": 2.0}\n{"step": 1, "eval_loss": 2.0}\n')
    try:
        assert cli.run(["report", str(adapter), "--out", str(tmp_path), "--json"]) == 0
        paths = json.loads(capsys.readouterr().out)
        assert Path(paths["html"]).read_text(encoding="utf-8").startswith("<!doctype html>")
        assert Path(paths["markdown"]).parent == tmp_path
    finally:
        metrics.unlink()


@pytest.mark.slow
def test_generate_streams_and_reads_lines(
    adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    base = ["generate", "--adapter", str(adapter)]
    skill = [*base, "--skill", "date-keys", "--max-tokens", "200"]
    assert cli.run([*skill, "wake me"]) == 0
    streamed = capsys.readouterr().out
    assert cli.run([*skill, "--json", "wake me"]) == 0
    [row] = json.loads(capsys.readouterr().out)["answers"]
    assert streamed == row["answer"] + "\n"
    assert row["finished"]
    assert row["value"] == json.loads(row["answer"])
    # Few tokens: whether a random model ends within many is a matter of the last bits.
    few = ["--max-tokens", "3"]
    assert cli.run([*skill, *few, "--json", "--unconstrained", "wake me"]) == 0
    [row] = json.loads(capsys.readouterr().out)["answers"]
    assert "error" in row
    assert not row["finished"]

    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n"))
    assert cli.run([*base, "--json", "--max-tokens", "4", "--system", "Be brief."]) == 0
    tuned = json.loads(capsys.readouterr().out)["answers"]
    assert [row["text"] for row in tuned] == ["one", "two"]
    assert cli.run([*base, "--json", "--max-tokens", "4", "--base", "one", "two"]) == 0
    untuned = json.loads(capsys.readouterr().out)["answers"]
    assert [row["answer"] for row in untuned] != [row["answer"] for row in tuned]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert cli.run(base) == 2


def test_help_costs_nothing():
    """`--help` imports no framework, and `python -m eval` is the same command."""
    code = (
        "import sys; sys.argv = ['eval', '--help']\n"
        "try:\n    import eval.__main__\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'mlx', 'torch', 'transformers', 'matplotlib', 'rich'} & set(sys.modules)"
        "\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "livery eval date-keys --adapter" in done.stdout
