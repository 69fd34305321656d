"""`livery dpo` for real on a tiny model: an adapter, pairs, and the adapter that comes of them."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from livery import cli
from livery.errors import UserError
from tests.runs import write_data
from tests.tiny_models import tiny_model

pytest.importorskip("mlx.core")

QUICK = ["--max-steps", "4", "--batch-size", "4", "--check-base", "no", "--samples", "0"]
QUICK += ["--backend", "mlx", "--learning-rate", "1e-2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data of both kinds, and an adapter trained on the answers."""
    folder = tmp_path_factory.mktemp("dpo")
    model = tiny_model("llama", folder / "models")
    write_data(folder / "data")
    write_data(folder / "pairs", pairs=True)
    (folder / "pairs" / "valid.jsonl").rename(folder / "held_out.jsonl")
    told(
        "train", "--model", str(model), "--data", str(folder / "data"), "--lora-r", "4",
        "--lora-dropout", "0.1", "--lora-alpha", "12", "--lora-targets", "q_proj,down_proj",
        "--max-length", "300",
        "--chat-template", "chatml", "--output-dir", str(folder / "sft"), *QUICK,
    )  # fmt: skip
    return folder


def told(*words: str) -> str:
    done = CliRunner().invoke(cli.cli, words, catch_exceptions=False, standalone_mode=False)
    assert not done.exception, done.output
    return done.output


def start(folder: Path, out: Path, *more: str) -> list[str]:
    return ["dpo", "--pairs", str(folder / "pairs" / "train.jsonl"), "--adapter",
            str(folder / "sft"), "--output-dir", str(out), *QUICK, *more]  # fmt: skip


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_an_adapter_goes_on_from_another_and_is_exported_like_any(
    made: Path, tmp_path: Path
) -> None:
    out, from_ = tmp_path / "out", tmp_path / "from"
    shutil.copytree(made / "sft", from_)
    said = told(
        *start(
            made,
            out,
            "--adapter",
            str(from_),
            "--valid-data",
            str(made / "held_out.jsonl"),
            "--json",
        )
    )
    facts = json.loads(said[said.index("{") :])
    assert facts["examples"] == 40
    assert facts["valid_examples"] == 10
    assert facts["eval_rewards/margins"] > 0
    assert "peft" in facts["formats"]
    assert "mlx" in facts["formats"]
    settings = read(out / "run_config.json")["settings"]
    sft = read(made / "sft" / "run_config.json")["settings"]
    for name in ("model", "chat_template", "max_length"):
        assert settings[name] == sft[name], name
    assert settings["lora"] == sft["lora"] | {"dropout": 0.0}, "its shape, and no dropout"
    assert settings["loss_type"] == "sigmoid"
    config = read(out / "adapter_config.json")
    assert (config["r"], config["lora_alpha"]) == (4, 12)
    assert "sigmoid, beta 0.1" in (out / "README.md").read_text()
    first, *_ = map(json.loads, (out / "training_metrics.jsonl").read_text().splitlines())
    assert first["eval_loss"] == pytest.approx(0.693147, abs=1e-5)
    told("report", str(out))
    assert "| step | margin | right way round |" in (out / "report.md").read_text()
    assert "Reward margin over optimizer steps" in (out / "report.html").read_text()
    reference = (out / "reference.jsonl").read_bytes()
    shutil.rmtree(from_)  # what the run needs of it is on record
    again = told("dpo", "--resume-from-checkpoint", "--output-dir", str(out))
    assert (out / "reference.jsonl").read_bytes() == reference
    assert "The adapter is in" in again
    newest = str(out / "checkpoints" / "step-000004")
    assert told("dpo", "--resume-from-checkpoint", newest, "--output-dir", str(out))
    with pytest.raises(UserError, match="not the newest checkpoint"):
        told("dpo", "--resume-from-checkpoint", str(made / "sft"), "--output-dir", str(out))


def test_a_dry_run_shows_what_comes_from_the_adapter(made: Path, tmp_path: Path) -> None:
    said = told(*start(made, tmp_path / "out", "--val-split", "0.2", "--dry-run", "--json"))
    shown = json.loads(said[said.index("{") :])
    assert shown["settings"]["lora.rank"] == 4
    assert shown["sources"]["lora.rank"] == f"adapter {made / 'sft'}"
    assert shown["plan"]["examples"] == 32
    assert shown["plan"]["computed"] < 0.6 * shown["plan"]["plain"]
    assert shown["memory"]["total"] > 0
    assert not (tmp_path / "out").exists()


def test_the_flags_of_older_setups_work(made: Path, tmp_path: Path) -> None:
    model = read(made / "sft" / "run_config.json")["settings"]["model"]
    said = told(
        *start(made, tmp_path / "out", "--base-model", model, "--save-steps", "7",
               "--save-total-limit", "3", "--beta", "0.3", "--grad-accum", "2", "--rpo-alpha", "1",
               "--logging-steps", "5", "--max-seq-length", "250", "--dry-run", "--json")
    )  # fmt: skip
    settings = json.loads(said[said.index("{") :])["settings"]
    wanted = {"model": model, "save_every": 7, "save_total": 3, "beta": 0.3, "grad_accum": 2,
              "sft_weight": 1.0, "steps_per_report": 5, "max_length": 250}  # fmt: skip
    assert {name: settings[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--loss-type", "sigmod"], "did you mean sigmoid?"),
        (["--loss-type", "kto"], "it learns from pairs"),
        (["--loss-type", "orpo", "--sft-weight", "1"], "sft_weight: orpo has none"),
        (["--loss-type", "sft"], "that is `livery train`"),
        (["--target-margin", "1"], "no pairs are held out"),
        (["--data", "elsewhere"], "keep one"),
    ],
)
def test_what_cannot_be_is_told(made: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli.cli, [*start(made, tmp_path / "out"), *words])
    assert said in f"{done.output}{done.exception}"
    assert done.exit_code
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for words, missing in ((["--pairs", "x"], "--output-dir"), (["--output-dir", "x"], "--pairs")):
        done = CliRunner().invoke(cli.cli, ["dpo", *words])
        assert f"Missing option '{missing}'" in done.output
    done = CliRunner().invoke(cli.cli, ["train", "--pairs", "x"])
    assert "livery dpo --pairs FILE" in done.output
    for words in (["--loss-type", "ipo"], ["--length-normalized"], ["--beta", "1"]):
        done = CliRunner().invoke(cli.cli, ["train", *words])
        assert f"{words[0]}" in done.output
        assert "livery dpo has it" in done.output


@pytest.mark.parametrize(("package", "backend"), [("mlx_train", "mlx"), ("cuda_train", "torch")])
def test_the_module_forms(
    monkeypatch: pytest.MonkeyPatch, package: str, backend: str, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"{package}.dpo", run_name="__main__")
    assert not ended.value.code
    assert "livery dpo --pairs" in capsys.readouterr().out
    assert sys.argv[1:4] == ["dpo", "--backend", backend]
