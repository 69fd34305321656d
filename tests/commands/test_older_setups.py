"""Variables and flags of the setups that Livery takes over from: each works, or is refused by name.

The lists are those of the older guides, whole: a name that is in neither list is in no guide.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from livery.cli import cli
from livery.config.flags import given_flags, training_flags
from livery.config.foreign import REFUSED_FLAGS, TRAIN_COMMAND
from livery.config.layers import resolve
from tests import ROOT

# (flag and value, setting, what it becomes)
WORK: list[tuple[list[str], str, Any]] = [
    (["--model", "microsoft/phi-2"], "model", "microsoft/phi-2"),
    (["--base-model", "some/model"], "model", "some/model"),
    (["--training-data", "rows.jsonl"], "data", "rows.jsonl"),
    (["--training-corpus", "rows.jsonl"], "data", "rows.jsonl"),
    (["--output-dir", "out"], "output_dir", "out"),
    (["--epochs", "5"], "epochs", 5.0),
    (["--num-epochs", "20"], "epochs", 20.0),
    (["--max-steps", "3000"], "max_steps", 3000),
    (["--batch-size", "2"], "batch_size", 2),
    (["--grad-accum", "4"], "grad_accum", 4),
    (["--learning-rate", "2e-4"], "learning_rate", 2e-4),
    (["--weight-decay", "0.01"], "weight_decay", 0.01),
    (["--warmup-steps", "50"], "warmup_steps", 50),
    (["--max-grad-norm", "1.0"], "max_grad_norm", 1.0),
    (["--lora-r", "8"], "lora.rank", 8),
    (["--lora-alpha", "32"], "lora.alpha", 32.0),
    (["--lora-dropout", "0.05"], "lora.dropout", 0.05),
    (["--max-length", "256"], "max_length", 256),
    (["--max-seq-length", "32768"], "max_length", 32768),
    (["--optim", "adamw_8bit"], "optimizer", "adamw_8bit"),
    (["--optim", "adamw_torch"], "optimizer", "adamw"),
    (["--no-gradient-checkpointing"], "grad_checkpoint", False),
    (["--use-gradient-checkpointing"], "grad_checkpoint", True),
    (["--load-in-4bit"], "quantize", 4),
    (["--load-in-8bit"], "quantize", 8),
    (["--bf16"], "dtype", "bfloat16"),
    (["--seed", "3407"], "seed", 3407),
    (["--logging-steps", "10"], "steps_per_report", 10),
    (["--eval-steps", "50"], "steps_per_eval", 50),
    (["--save-steps", "200"], "save_every", 200),
    (["--save-total-limit", "3"], "save_total", 3),
    (["--early-stop-min-delta", "0.002"], "early_stop_min_delta", 0.002),
    (["--early-stop-patience", "2"], "early_stop_patience", 2),
    (["--val-split", "0.05"], "val_split", 0.05),
    (["--eval-max-samples", "256"], "eval_max_samples", 256),
    (["--max-samples", "500"], "max_samples", 500),
    (["--eval-accumulation-steps", "2"], "eval_max_samples", 0),
]
VARIABLES: list[tuple[str, str, str, Any]] = [
    ("JARVIS_MODEL_NAME", "some/model", "model", "some/model"),
    ("JARVIS_ADAPTER_TRAIN_DEVICE_MAP", '{"": 0}', "device", '{"": 0}'),
    ("JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT", "true", "quantize", 4),
]
# Flags of the older guides for what a command other than train does.
COMMANDS = {
    "merge": ["--base-model", "--adapter", "--output"],
    "gguf": ["--model", "--output"],
    "mlx": ["--model", "--output"],
    "eval": [
        "--adapter",
        "--adapter-path",
        "--output-json",
        "--dataset",
        "--max-new-tokens",
        "--temperature",
        "--top-p",
        "--max-samples",
        "--out-dir",
    ],
    "convert": ["--base", "--outfile"],
}


@click.command()
@training_flags
def read(**flags: Any) -> None:
    """Print the settings that flags come to."""
    values = resolve(given_flags(flags), environment={}).values
    click.echo(json.dumps({name: value.value for name, value in values.items()}))


@pytest.mark.parametrize(("words", "name", "wanted"), WORK, ids=lambda v: str(v))
def test_the_flags_work(words: list[str], name: str, wanted: Any) -> None:
    done = CliRunner().invoke(read, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[name] == wanted


@pytest.mark.parametrize(("variable", "text", "name", "wanted"), VARIABLES)
def test_the_variables_work(variable: str, text: str, name: str, wanted: Any) -> None:
    config = resolve(environment={variable: text})
    assert config.values[name].value == wanted
    assert config.values[name].source == f"environment {variable}"


@pytest.mark.parametrize("flag", REFUSED_FLAGS)
@pytest.mark.parametrize("command", ["train", "run"])
def test_what_is_no_setting_is_refused_by_name(command: str, flag: str) -> None:
    done = CliRunner().invoke(cli, [command, flag, "1"], standalone_mode=False)
    error = done.exception
    assert isinstance(error, click.UsageError), done.output
    assert f"{flag} is not one of Livery's flags: " in error.message
    assert len(error.message) > 60, "the way out is named"
    listed = CliRunner().invoke(cli, [command, "--help"]).output
    assert not re.search(rf"^  {flag}\b", listed, re.MULTILINE)


def test_a_flag_of_nobody_is_still_unknown() -> None:
    done = CliRunner().invoke(cli, ["train", "--validation-split", "1"], standalone_mode=False)
    assert isinstance(done.exception, click.NoSuchOption)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_other_commands_take_their_flags(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    taken = {name for parameter in found.params for name in parameter.opts}
    assert not set(COMMANDS[command]) - taken


@pytest.mark.slow
def test_a_worker_trains_with_livery_through_its_command(tmp_path: Path) -> None:
    """As a worker does it: run the command of the variable, with the variables inherited."""
    command = f"{sys.executable} -m livery train --dry-run --json"
    (tmp_path / "train.jsonl").write_text(
        json.dumps({"prompt": "wake me at seven", "completion": "at_7am"}) + "\n"
    )
    environment = {
        **os.environ,
        TRAIN_COMMAND: command,
        "JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT": "true",
        "LIVERY_DATA": str(tmp_path),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", f"${TRAIN_COMMAND}"],
        env=environment, capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["settings"]["quantize"] == 4
    assert not any(TRAIN_COMMAND in note for note in said["notes"])


def test_another_trainers_command_is_said_aloud() -> None:
    for ours in ("livery train", "python -m cuda_train --epochs 2", "./train_cuda.sh", " "):
        assert not resolve(environment={TRAIN_COMMAND: ours}).notes
    for other in ("python3 scripts/train_adapter.py", "'unfinished"):
        (note,) = resolve(environment={TRAIN_COMMAND: other}).notes
        assert f"set {TRAIN_COMMAND}='livery train'" in note
