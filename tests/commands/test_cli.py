"""The command line's edge: fast help, suggestions, exit codes, errors as text and as JSON."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from livery import cli
from livery.config.settings import OPTIONS
from livery.errors import Interrupted, TargetMissed, UserError
from tests import PATIENCE

HEAVY = ("torch", "mlx", "transformers", "numpy", "matplotlib", "tokenizers", "jsonschema")


def livery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "livery", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom livery.cli import run\nrun(['--help'])\n"
        f"print(len(sys.modules), [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    count, _, heavy = done.stdout.splitlines()[-1].partition(" ")
    assert heavy == "[]"
    assert int(count) < 250  # 120 with Python's own, click's and ours; numpy alone brings 150


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import commands.convert", ["livery.config.settings", "livery.engines", "livery.models"]),
        ("import livery.models", ["urllib.request", "http.client", "huggingface_hub", *HEAVY]),
    ],
)
def test_a_module_imports_only_what_it_needs_at_once(code: str, unwanted: list[str]) -> None:
    code += f"; import sys; print([m for m in {unwanted!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_help_answers_at_once() -> None:
    """Processor time, the best of five: 0.05 s here, and slower machines are none of our faults."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert livery("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.6


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_mounts_and_its_help_shows_examples(name: str) -> None:
    result = CliRunner().invoke(cli.cli, [name, "--help"], prog_name="livery")
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output
    assert f"livery {name}" in result.output


def test_the_train_command_has_a_flag_for_every_option() -> None:
    command = cli.cli.get_command(click.Context(cli.cli), "train")
    assert command is not None
    flags = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    for option in OPTIONS:
        for flag in option.flags:
            assert set(flag.split("/")) <= flags
    # The names that the commands this one stands in for used.
    assert flags >= set(
        "--base-model --training-data --output-dir --epochs --batch-size --learning-rate "
        "--lora-r --lora-alpha --max-length --optim --grad-accum --no-gradient-checkpointing "
        "--load-in-4bit --lora-dropout --max-steps --save-every --steps-per-report "
        "--steps-per-eval --dtype --seed --max-seq-length --num-epochs --logging-steps "
        "--eval-steps --save-steps --save-total-limit --early-stop-min-delta "
        "--early-stop-patience --weight-decay --warmup-steps --bf16 "
        "--use-gradient-checkpointing ".split()
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "Did you mean train?"),
        (["xyzzy"], "There are: doctor"),
        (["train", "--bach-size", "4"], "--batch-size"),
        (["train", "--batch-size", "four"], "'four' is not a whole number of at least 1"),
        (["train", "--optim", "muon"], "its optimizers are adamw"),
        (["train", "--overwrite", "--resume"], "choose one"),
    ],
)
def test_usage_errors_exit_2_and_help(arguments: list[str], expected: str) -> None:
    done = livery(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_users_mistake_exits_1_with_one_message(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("grad_checkpointing: true\n", encoding="utf-8")
    done = livery("train", "--config", str(config))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"Error: {config}:1: grad_checkpointing: no such key; did you mean grad_checkpoint?"
    ]
    as_json = livery("train", "--config", str(config), "--json")
    assert as_json.returncode == 1
    error = json.loads(as_json.stdout)["error"]
    assert error["exit_code"] == 1
    assert "grad_checkpoint?" in error["message"]
    usage = livery("train", "--json", "--seed", "x")
    assert json.loads(usage.stdout)["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    ("error", "code", "label"),
    [
        (UserError("x"), 1, "Error: x"),
        (TargetMissed("x"), 3, "x"),
        (Interrupted("x"), 130, "x"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (click.ClickException("x"), 1, "Error: x"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    label: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: broken)
    assert cli.run(["train"]) == code
    assert capsys.readouterr().err.strip() == label


def test_a_commands_return_value_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("x", callback=int))
    assert cli.run(["train"]) == 0


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m livery train --help | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("Usage: livery train")


@pytest.mark.slow
def test_dry_run_names_every_source_before_it_looks_at_the_data(tmp_path: Path) -> None:
    done = livery(
        "train", "--dry-run", "--data", str(tmp_path / "none"), "--seed", "5", LIVERY_EPOCHS="2"
    )
    assert done.returncode == 1
    assert "no such folder" in done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "flag --seed" in lines["seed"]
    assert "environment LIVERY_EPOCHS" in lines["epochs"]
    assert "mlx_config.yaml:" in lines["batch_size"]
    assert lines["dtype"].endswith("default")


@pytest.mark.slow
def test_doctor_tells_what_can_train() -> None:
    done = livery("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["can_train"] else 1)
    assert report["mlx"]["usable"]
    assert report["mlx"]["matmul_gflops"] > 0
    assert report["machine"]["memory"] > 1e9
    assert report["packages"]["transformers"]
    assert report["cache"] == {"path": None, "bytes": 0}  # tests keep none
    for problem in report["problems"]:
        assert problem["remedy"]
    text = livery("doctor")
    assert text.returncode == done.returncode
    assert report["machine"]["chip"] in text.stdout
