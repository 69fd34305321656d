"""`livery train` for real on a tiny model: settings to folder, refusal, resume, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commands.training.session import resume_command
from livery import cli
from livery.config.settings import TrainSettings
from livery.files import read_jsonl
from livery.paths import HOME, RUN_MARK
from livery.training.footprint import Estimate
from livery.training.forecast import Device, Forecast
from tests import PATIENCE
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow

SYSTEM = "You pick the number out of what is said and answer with nothing but that number."


def write_rows(path: Path, count: int, **first: Any) -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"take {i} of them"},
                {"role": "assistant", "content": f"[{i}]"},
            ]
        }
        for i in range(count)
    ]
    rows[0] |= first
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, a model's path in model.txt, and a quick configuration."""
    folder = tmp_path_factory.mktemp("train")
    write_rows(folder / "data" / "train.jsonl", 48)
    write_rows(folder / "data" / "valid.jsonl", 16)
    (folder / "model.txt").write_text(str(tiny_model("llama", folder / "models")))
    (folder / "quick.yaml").write_text(
        "batch_size: 8\nmax_steps: 6\nsteps_per_eval: 3\nsave_every: 2\nsamples: 1\n"
        "sample_tokens: 4\nlora_parameters: {rank: 4, alpha: 8}\n",
        encoding="utf-8",
    )
    return folder


def command(here: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "livery", "train", "--config", "quick.yaml",
        "--model", (here / "model.txt").read_text(), "--data", "data", *arguments,
    ]  # fmt: skip


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Livery = Callable[..., Done]


@pytest.fixture
def livery(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Livery:
    """Run `livery train` in this process, where torch and MLX are imported already."""
    monkeypatch.chdir(here)

    def run(*arguments: str) -> Done:
        code = cli.run(command(here, *arguments)[3:])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def test_train_writes_the_folder_then_refuses_it_then_goes_on(here: Path, livery: Livery) -> None:
    done = livery("--output-dir", "out", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["steps"] == 6
    out = here / "out"
    names = {p.name for p in out.iterdir()}
    assert names >= {
        "adapter_config.json", "adapter_model.safetensors", "mlx", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "README.md", "run_config.json",
        "training_metadata.json", "training_metrics.jsonl", "samples.jsonl", "checkpoints",
    }  # fmt: skip
    assert [n for n in names if n.startswith(".")] == [RUN_MARK], "nothing temporary is left"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Rank | 4" in card
    assert "48 examples, 16 for validation" in card
    metrics = [row for _, row in read_jsonl(out / "training_metrics.jsonl")]
    assert [r["step"] for r in metrics if "eval_loss" in r] == [0, 3, 6]
    assert "shared prompts" in done.stderr
    assert (out / "gguf" / "adapter.gguf").stat().st_size > 1000
    assert facts["formats"] == ["peft", "mlx", "gguf"]
    assert facts["left_out"] == {}

    refused = livery("--output-dir", "out")
    assert refused.returncode == 1
    assert "already holds a run" in refused.stderr
    assert "--resume" in refused.stderr

    other = livery("--output-dir", "out", "--resume", "--seed", "9")
    assert other.returncode == 1
    assert "seed is 9 and was 0" in other.stderr

    again = livery("--output-dir", "out", "--overwrite", "--max-steps", "2")
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "training_metadata.json").read_text())["steps"] == 2


def test_what_gguf_cannot_hold_is_said_by_the_card_and_the_record(
    here: Path, livery: Livery
) -> None:
    done = livery("--output-dir", "dora", "--fine-tune-type", "dora", "--max-steps", "2")
    assert done.returncode == 0, done.stderr
    out = here / "dora"
    assert not (out / "gguf").exists()
    record = json.loads((out / "training_metadata.json").read_text())
    assert record["formats"] == ["peft", "mlx"]
    for text in (record["left_out"]["gguf"], (out / "README.md").read_text(), done.stderr):
        assert "DoRA has no GGUF form" in text
        assert "livery merge" in text


@pytest.mark.parametrize(
    ("given", "command", "shown"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}, "train",
         "torchrun --nproc-per-node 2 -m cuda_train --resume --output-dir 'my run'"),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}, "dpo",
         "torchrun --nnodes 2 --rdzv-endpoint … --nproc-per-node 4 -m cuda_train.dpo"),
        ({"MLX_RANK": "1", "MLX_HOSTFILE": "hosts.json"}, "train",
         "mlx.launch -n 2 -- python -m mlx_train --resume"),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, "train", "livery train --resume"),
    ],
)  # fmt: skip
def test_processes_that_train_together_are_told_how_they_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], command: str, shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts.json").write_text('[["127.0.0.1:1"], ["127.0.0.1:2"]]')
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert shown in resume_command("my run", command)


def test_interrupted_it_exits_130_and_the_printed_command_goes_on(here: Path) -> None:
    process = subprocess.Popen(
        command(here, "--output-dir", "stopped", "--max-steps", "100000"),
        cwd=here, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = here / "stopped" / "training_metrics.jsonl"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not (
        metrics.exists() and '"step": 10,' in metrics.read_text()
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    shown = said.strip().splitlines()[-1].split("To continue: ")[1]
    assert shown.endswith("train --resume --output-dir stopped")
    # The settings are on record: the command needs no other flag, not even the configuration file.
    resumed = subprocess.run(
        [sys.executable, "-m", "livery", *shown.split("livery ")[-1].split(), "--resume-anyway",
         "--max-steps", "12", "--dry-run", "--json"],
        cwd=here, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    plan = json.loads(resumed.stdout)
    assert plan["settings"]["lora.rank"] == 4
    assert plan["sources"]["lora.rank"].endswith("run_config.json")
    assert plan["sources"]["max_steps"] == "flag --max-steps"


def test_dry_run_shows_plan_and_savings_and_writes_nothing(here: Path, livery: Livery) -> None:
    done = livery("--output-dir", "dry", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert plan["total_steps"] == 6
    assert plan["examples"] == 48
    assert plan["computed"] < plan["plain"] / 2  # the system prompt is shared
    memory = json.loads(done.stdout)["memory"]
    parts = {k: v for k, v in memory.items() if k not in ("total", "available")}
    assert memory["total"] == sum(parts.values())
    assert 1e5 < memory["total"] < 1e9
    assert not (here / "dry").exists()
    text = livery("--output-dir", "dry", "--dry-run")
    assert "fewer by shared prompts" in text.stdout
    assert "memory       about" in text.stdout


def test_a_head_that_is_not_the_embedding_is_refused_before_a_run(
    here: Path, livery: Livery, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama_tied", here / "models"), base)
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 2
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    for dry in (True, False):
        done = livery("--model", str(base), "--output-dir", "odd", *["--dry-run"] * dry)
        assert done.returncode == 1
        assert "lm_head.weight, that differs from model.embed_tokens.weight" in done.stderr
        assert not (here / "odd").exists()


def test_what_does_not_fit_says_what_would() -> None:
    """Each way is tried on the backend's own estimate."""

    def estimate(run: TrainSettings) -> Estimate:
        halved = 2 if run.grad_checkpoint else 1
        return Estimate(1000 * (run.quantize or 16), 0, 1000 * run.batch_size // halved, 0)

    def on(free: int, quantizes: tuple[int, ...] = (4,)) -> Forecast:
        device = Device("cuda:0", free, quantizes=quantizes)
        return Forecast(TrainSettings(batch_size=8), device, estimate, [100])

    ahead = on(12_000)
    assert on(24_000).describe() == ["about 0 MB (weights 0 MB, adapter 0 MB, activations 0 MB, "
                                     "logits 0 MB)"]  # fmt: skip
    assert [way.split(" (")[0] for way in ahead.remedies(20_000)] == [
        "--batch-size 4 --grad-accum 2", "--grad-checkpoint", "--load-in-4bit"
    ]  # fmt: skip
    assert "it fits with --load-in-4bit (about" in ahead.describe()[1]
    assert "together" in ahead.remedies(6_000)[0]
    assert not any("4bit" in way for way in on(0, ()).remedies(6_000))


@pytest.mark.parametrize(
    ("prepare", "arguments", "expected"),
    [
        ("", ["--data", "nowhere"], "nowhere: no such folder or file. Make a skill's"),
        (
            "empty/readme.txt",
            ["--data", "empty"],
            "holds no train.jsonl, nor a train file",
        ),
        ("", ["--model", "no/model/here"], "no/model/here"),
        ("", ["--max-length", "10"], "rows can be trained on"),
        ("file", ["--output-dir", "file"], "file: is a file; choose another --output-dir"),
        ("hollow/config.json", ["--model", "hollow"], "hollow"),
    ],
)
def test_bad_input_is_one_clear_message(
    here: Path, livery: Livery, prepare: str, arguments: list[str], expected: str
) -> None:
    if prepare:
        (here / prepare).parent.mkdir(exist_ok=True)
        (here / prepare).write_text("{}")
    done = livery("--output-dir", "bad", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in done.stderr.splitlines()[-1]


def test_a_malformed_row_is_named_and_long_or_empty_ones_are_counted(
    here: Path, livery: Livery
) -> None:
    write_rows(here / "odd" / "train.jsonl", 20)
    text = (here / "odd" / "train.jsonl").read_text()
    (here / "odd" / "train.jsonl").write_text(text + '{"messages": [\n')
    broken = livery("--data", "odd", "--output-dir", "odd-out")
    assert broken.returncode == 1
    assert "odd/train.jsonl:21: not valid JSON" in broken.stderr

    empty = {"role": "assistant", "content": ""}
    long = {"role": "assistant", "content": "[7] " * 2000}
    turns = [{"role": "user", "content": "take 7"}]
    rows = [{"messages": [*turns, answer]} for answer in (empty, long)]
    (here / "odd" / "train.jsonl").write_text(text + "".join(json.dumps(r) + "\n" for r in rows))
    done = livery("--data", "odd", "--output-dir", "odd-out", "--max-steps", "1")
    assert done.returncode == 0, done.stderr
    assert (
        "2 training rows are left out; the first, odd/train.jsonl:21: empty answer" in done.stderr
    )
    assert "There is no valid.jsonl" in done.stderr


def test_mlx_lms_own_trainer_takes_our_configuration_as_it_stands(here: Path) -> None:
    pytest.importorskip("mlx_lm")
    more = here / "more"  # it wants a whole batch of validation rows
    more.mkdir()
    for file in (here / "data").glob("*.jsonl"):
        (more / file.name).write_text(file.read_text() * 3)
    done = subprocess.run(
        [
            sys.executable, "-m", "mlx_lm", "lora", "-c", str(HOME / "mlx_config.yaml"),
            "--model", (here / "model.txt").read_text(), "--data", "more",
            "--adapter-path", "theirs", "--iters", "2",
        ],
        cwd=here, capture_output=True, text=True, timeout=PATIENCE, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    config = json.loads((here / "theirs" / "adapter_config.json").read_text())
    assert config["lora_parameters"]["scale"] == 2.0
    assert (here / "theirs" / "adapters.safetensors").stat().st_size > 0
