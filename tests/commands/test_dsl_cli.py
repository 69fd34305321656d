"""`livery dsl` as typed: defaults from a configuration, the described system's names and flags."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands.dsl.config import packaged, read_defaults
from commands.dsl.run import run_command
from livery.cli import run
from livery.errors import UserError
from livery.paths import HOME, python_path

FEW = ["--positives-per-schema", "2", "--per-schema", "2", "--examples-per-schema", "1"]
OFFLINE = "--offline-fallback"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three domain prompts where the described system has them."""
    (tmp_path / "data").mkdir()
    rows = [{"domain": name} for name in ("tickets", "cars", "moon rocks")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data" / "domain_prompts.jsonl").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def count(path: str) -> int:
    return len(Path(path).read_text().splitlines())


def test_all_stages_and_each_alone_make_the_same_files(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dsl", "data", OFFLINE, *FEW, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["stages"]
    assert [Path(stage["out"]).name[:4] for stage in told] == [f"d_0{n}" for n in range(1, 6)]
    names = [Path(stage["out"]) for stage in told]
    before = [name.read_bytes() for name in names]
    for name in names:
        name.unlink()
    assert run(["dsl", "specs", OFFLINE, "--examples-per-schema", "1", "--model", "any"]) == 0
    assert run(["dsl", "schemas"]) == 0
    assert run(["dsl", "queries", OFFLINE, "--per-schema", "2", "--max-retries", "2"]) == 0
    later = ["--samples-per-schema", "2", "--teacher-model", "any", "--teacher-retries", "1",
             "--teacher-retry-wait", "0.5", "--checkpoint-path", "kept.jsonl",
             "--checkpoint-every", "5", "--resume"]  # fmt: skip
    assert run(["dsl", "dataset", OFFLINE, *later]) == 0
    assert run(["dsl", "corpus"]) == 0
    assert [name.read_bytes() for name in names] == before
    assert not Path("kept.jsonl").exists()


@pytest.mark.parametrize(
    "words",
    [["dsl", "--with-training"], ["--with-evals", "dsl"], ["--engine", "torch", "dsl",
     "--with-alignment", "--train-arg=--max-steps=2"]],
)  # fmt: skip
def test_run_dsl_with_the_pipelines_flags_is_the_pipeline(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[str, Any]] = []
    monkeypatch.setattr(run_command, "callback", lambda **given: taken.append(given))
    words = [*words, "--model", "teacher", OFFLINE]
    assert run(["run", *words]) == 0
    assert run(["dsl", "run", *(word for word in words if word != "dsl")]) == 0
    assert taken[0] == taken[1]
    assert taken[0]["teacher"] == "teacher"


@pytest.mark.parametrize(
    "words", [["date-keys"], ["date-keys", "--base-model", "dsl"], []], ids=str
)
def test_other_skills_have_no_pipeline(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", *words, "--with-training"]) == 2
    assert "livery run dsl has it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_a_report_of_somebody_elses_is_refused_before_anything_is_made(
    here: Path, name: str
) -> None:
    theirs = here / "outputs" / "student_runs" / "eval" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"mine": 1}')
    with pytest.raises(UserError, match=f"{name}: is not such a report of Livery's"):
        run_command.main([OFFLINE, "--with-evals"], standalone_mode=False)
    assert theirs.read_text() == '{"mine": 1}'
    assert [path for path in Path("outputs").rglob("*") if path.is_file()] == [
        theirs.relative_to(here)
    ]


def test_the_descriptions_script_names_are_the_same_commands(here: Path) -> None:
    script = HOME / "scripts" / "generate_domain_specs.py"
    command = [sys.executable, str(script), OFFLINE, "--examples-per-schema", "1", "--json"]
    done = subprocess.run(
        command, env={"PYTHONPATH": python_path()}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["stages"][0]["rows"] == 3
    scripts = {path.stem for path in script.parent.glob("*.py")}
    assert {"build_schemas", "generate_example_queries", "generate_dataset",
            "build_training_corpus"} <= scripts  # fmt: skip


def test_a_configuration_gives_defaults_and_flags_beat_it(here: Path) -> None:
    (here / "config").mkdir()
    mine = {"dataset_generation": {"examples_per_schema": 1, "schema_specs_out": "mine.jsonl"}}
    Path("config/defaults.json").write_text(json.dumps(mine))
    assert run(["dsl", "specs", OFFLINE]) == 0
    row = json.loads(Path("mine.jsonl").read_text().splitlines()[0])
    assert len(row["example_queries"]) == 1
    Path("other.json").write_text('{"dataset_generation": {"schema_specs_out": "other.jsonl"}}')
    flags = ["--config", "other.json", "--examples-per-schema", "2"]
    assert run(["dsl", "specs", OFFLINE, *flags]) == 0
    assert len(json.loads(Path("other.jsonl").read_text().splitlines()[0])["example_queries"]) == 2
    assert run(["dsl", "specs", OFFLINE, *flags, "--out", "third.jsonl"]) == 0
    assert count("third.jsonl") == 3


def test_the_defaults_are_those_of_the_described_system() -> None:
    made = read_defaults(packaged())
    assert list(made) == ["dataset_generation", "training", "alignment"]
    generation = made["dataset_generation"]
    assert (generation["positives_per_schema"], generation["negative_ratio"]) == (250, 0.6)
    assert (generation["min_operators"], generation["max_operators"]) == (4, 7)
    assert generation["seed"] == 11
    assert made["training"]["lora_r"] == 64
    assert made["alignment"]["beta"] == 0.1


def test_a_file_of_ones_own_decides_how_students_are_trained(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[list[str]] = []
    monkeypatch.setattr("commands.dsl.run._Run._do", lambda _, __, words: done.append(words))
    monkeypatch.setattr("commands.dsl.run._Run._make_pairs", lambda _: True)
    monkeypatch.setattr("commands.dsl.run._Run._report", lambda *_: None)
    for name in (
        "outputs/d_05_training_corpus.jsonl",
        "outputs/student_runs/alignment/dpo_pairs.jsonl",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")
    ask = ["dsl", "run", OFFLINE, "--with-training", "--with-alignment"]

    def trained() -> list[list[str]]:
        done.clear()
        assert run([*ask, "--train-arg=--max-steps=2"]) == 0
        return [words for words in done if words[0] in ("train", "dpo")]

    for name in ("torch", "mlx"):  # what is installed trains, without a word about it
        monkeypatch.setattr(
            "commands.training.backends.installed", lambda there, n=name: there == n
        )
        plain = ["--max-length", "2048", "--backend", name]
        assert [words[1:5] for words in trained()] == [plain, plain], "without a file: Livery's own"
    corpus = Path("outputs/d_05_training_corpus.jsonl")
    corpus.write_text("{}\n" * 20)
    sft, dpo = trained()
    assert sft[sft.index("--val-split") :][:4] == [
        "--val-split",
        "0.05",
        "--eval-max-samples",
        "256",
    ]
    assert "--val-split" not in dpo, "of one pair none can be held out"
    done.clear()
    assert run([*ask, "--train-arg=--valid-data=mine.jsonl"]) == 0
    assert not [words for words in done if "--val-split" in words]
    corpus.write_text("{}")
    Path("config").mkdir()
    mine = {"training": {"lora_r": 3, "max_steps": 9}, "alignment": {"max_seq_length": 77}}
    Path("config/defaults.json").write_text(json.dumps(mine))
    sft, dpo = trained()
    assert sft[1:7] == ["--config", "config/defaults.json", *plain]
    assert sft[-3] == "--max-steps=2", "a flag wins"
    assert dpo[1:5] == ["--config", "config/defaults.json", "--backend", "mlx"]
    done.clear()
    final = "outputs/student_runs/gemma3-270m"
    Path(final).mkdir()
    ask_align = ["--adapter", f"{final}/checkpoint-final", "--max-samples", "3"]
    assert run(["dsl", "align", *ask_align, "--teacher-model", "t", "--engine", "torch"]) == 0
    (aligned,) = done
    assert aligned[:5] == ["dpo", "--config", "config/defaults.json", "--backend", "torch"]
    assert aligned[aligned.index("--adapter") + 1] == final
    Path("config/defaults.json").write_text('{"training": {"max_steps": 8}}')
    Path("outputs/student_runs/gemma3-270m/run_config.json").write_text("{}")
    assert run(ask) == 1, "another value is another run"


def test_alignment_reads_an_evaluation_under_the_name_that_the_configuration_gives(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an answer that holds a line separator, which is no end of a JSON line."""
    done: list[str] = []
    record = {"prompt_text": "p", "raw_output": "no\u2028idea", "schema_id": "s",
              "teacher_verdict": "reject", "target_canonical": "{}"}  # fmt: skip

    def do(_: Any, __: str, words: list[str]) -> None:
        done.append(words[0])
        if "--out-dir" in words:
            results = Path(words[words.index("--out-dir") + 1]) / "mine.jsonl"
            results.parent.mkdir(parents=True)
            results.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    monkeypatch.setattr("commands.dsl.run._Run._do", do)
    places = {"eval_results": "evals/mine.jsonl", "pairs_out": "pairs.jsonl"}
    Path("c.json").write_text(json.dumps({"alignment": places}))
    assert run(["dsl", "align", "--config", "c.json", "--adapter", "a", OFFLINE]) == 0
    assert done == ["dsl", "dpo"]
    assert Path("pairs.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"dataset_generation": {"negativ_ratio": 1}}', "did you mean negative_ratio"),
        ('{"data": {}}', "is no section"),
        ('{"training": 3}', "must be an object"),
        ('{"training": {"lora_rr": 3}}', "no such key; did you mean lora_r"),
        ('{"training": {"batch_size": "many"}}', "training.batch_size: 'many' is not"),
        ('{"alignment": {"betta": 3}}', "no such key; did you mean beta"),
        ("[]", "object"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused(here: Path, text: str, said: str) -> None:
    Path("c.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_defaults(Path("c.json"))
    assert run(["dsl", "schemas", "--config", "c.json"]) == 1


def test_rows_that_are_too_long_are_told_with_their_length(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dsl", "data", OFFLINE, *FEW]) == 0
    capsys.readouterr()
    model = str(HOME / "base_model")
    fit = ["dsl", "corpus", "--tokenizer", model, "--no-include-invalid", "--fresh", "--json"]
    assert run([*fit, "--max-seq-length", "2048"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["rows"] >= 2
    assert stage["faults"] == []
    # No row fits: nothing is written, and the length is said.
    assert run([*fit, "--max-seq-length", "300"]) == 1
    assert "tokens, over the limit of 300" in capsys.readouterr().out
    assert count("outputs/d_05_training_corpus.jsonl") == stage["rows"]


@pytest.mark.slow
def test_data_training_and_evaluation_go_through_on_the_embedded_base(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its context holds every row whole; one step and two cases are enough to see that."""
    pytest.importorskip("mlx.core")
    assert run(["data", "dsl", "--count", "8"]) == 0
    valid = Path("data/dsl/valid.jsonl").read_text().splitlines(keepends=True)
    Path("valid.jsonl").write_text("".join(valid[:2]))
    train = ["train", "--data", "data/dsl/train.jsonl", "--valid-data", "valid.jsonl",
             "--output-dir", "adapter", "--model", str(HOME / "base_model"), "--max-steps", "1",
             "--batch-size", "8", "--lora-r", "4", "--max-length", "2048"]  # fmt: skip
    assert run(train) == 0
    metadata = json.loads(Path("adapter/training_metadata.json").read_text())
    assert metadata["examples"] == 8
    capsys.readouterr()
    ask = ["eval", "dsl", "--adapter", "adapter", "--unconstrained", "--limit", "2",
           "--max-tokens", "6", "--no-neutral", "--json"]  # fmt: skip
    assert run(ask) == 0
    record = json.loads(capsys.readouterr().out)
    arm = record["arms"]["tuned_unconstrained"]
    assert arm["total"] == 2
    assert {"schema_valid", "exact_match", "ast_match"} <= set(arm["metrics"])
    assert all(case["answers"]["tuned_unconstrained"]["error"] for case in record["cases"])
