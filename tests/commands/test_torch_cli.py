"""`livery train --backend torch`: the folder it writes, and runs that change their backend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from commands.training import backends
from livery import cli
from livery.config.settings import TrainSettings
from livery.errors import UserError
from tests import ROOT
from tests.runs import write_data
from tests.tiny_models import tiny_model

pytest.importorskip("peft")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    write_data(folder / "data", rows=24)
    (folder / "quick.yaml").write_text(
        "batch_size: 8\nmax_steps: 6\nsteps_per_eval: 3\nsave_every: 2\nsamples: 1\n"
        "sample_tokens: 4\nlora_parameters: {rank: 4, alpha: 8}\ndtype: float32\n"
        f"model: {tiny_model('llama', folder / 'models')}\ndata: data\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def train(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    monkeypatch.chdir(here)

    def run(*arguments: str) -> Done:
        code = cli.run(["train", *arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def test_train_write_continue_and_change_the_backend(
    here: Path, train: Callable[..., Done]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    begun = ("--config", "quick.yaml", "--backend", "torch")
    done = train(*begun, "--output-dir", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "torch"
    assert "gradients differ by" in done.stderr

    folder = here / "out"
    model = json.loads((folder / "run_config.json").read_text())["settings"]["model"]
    base = AutoModelForCausalLM.from_pretrained(model)
    tokens = torch.arange(5, 30)[None]
    with torch.no_grad():
        before = base(input_ids=tokens).logits
        after = PeftModel.from_pretrained(base, folder).eval()(input_ids=tokens).logits
    assert float((before - after).abs().max()) > 0.1

    more = train(*begun, "--output-dir", "more", "--init-adapter", "out", "--max-steps", "2")
    assert more.returncode == 0, more.stderr
    assert "Starting from the adapter in out" in more.stderr

    shutil.rmtree(folder / "checkpoints" / "step-000006")
    changed = train("--resume", "--output-dir", "out", "--backend", "mlx")
    assert changed.returncode == 0, changed.stderr
    assert "Resuming from step 4" in changed.stderr
    assert "The run's backend was torch and is now mlx." in changed.stderr
    back = train("--resume", "--output-dir", "out", "--backend", "torch", "--dtype", "bfloat16")
    assert "The run's backend was mlx and is now torch." in back.stderr
    assert "The run's dtype was float32 and is now bfloat16." in back.stderr


def test_cuda_is_asked_for_and_not_there(train: Callable[..., Done]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = train("--config", "quick.yaml", "--backend", "torch", "--device", "cuda",
                 "--output-dir", "none")  # fmt: skip
    assert done.returncode == 1
    assert "Choose auto or cpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_runs_it() -> None:
    """python -m cuda_train, and so torchrun -m cuda_train."""
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-m", "cuda_train", "--help"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--backend" in done.stdout


def test_a_run_goes_on_where_its_framework_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", lambda name: name == "torch")
    begun = TrainSettings(backend="mlx")
    settings, notes = backends.choose(begun, fall_back=True)
    assert settings.backend == "torch"
    assert "began with mlx, which is not installed here: resuming with torch" in notes[0]
    with pytest.raises(UserError, match="--backend mlx is not installed"):
        backends.choose(begun)


# Runs the command line of a machine that has torch and no MLX.
WITHOUT_MLX = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "mlx" else real(name, *more)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"mlx", "mlx_lm"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from livery.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_where_only_torch_is_installed_it_answers_without_being_named(tmp_path: Path) -> None:
    model = str(tiny_model("llama", tmp_path))
    asked = ["generate", "--model", model, "hello", "--max-tokens", "2"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLX, *asked], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    named = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLX, *asked, "--engine", "mlx"], cwd=tmp_path,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert named.returncode == 1
    assert "livery[mlx]" in named.stderr
