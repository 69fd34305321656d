"""A base whose blocks are spread over the processes of a run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

pytest.importorskip("peft")

from commands.training import backends
from cuda_train import memory, shard
from cuda_train.backend import TorchBackend
from cuda_train.ranks import Ranks
from livery.config.settings import TrainSettings
from livery.engines.torch.load import load_base
from livery.errors import UserError
from tests import PATIENCE, ROOT
from tests.cuda_train import shard_child
from tests.tiny_models import tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """(where they ran, what each of two processes found)."""
    folder = tmp_path_factory.mktemp("shard")
    shard_child.prepare(folder)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.cuda_train.shard_child", str(folder)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which three blocks are a small part."""
    return tiny_model("llama", tmp_path_factory.mktemp("deep"), num_hidden_layers=24)


def apart(got: Any, wanted: Any) -> float:
    return float(np.linalg.norm(np.subtract(got, wanted)) / np.linalg.norm(wanted))


@pytest.mark.slow
@pytest.mark.parametrize("name", shard_child.CASES)
def test_a_share_of_the_base_gives_what_the_whole_gives(
    found: tuple[Path, list[dict[str, Any]]], name: str
) -> None:
    """Though one process has micro-batches where the other has none, and after a failure."""
    for mine in (process[name] for process in found[1]):
        whole, shared = mine["whole"], mine["shared"]
        assert "in the last block" in mine["failed"]
        assert (whole["check"], shared["check"]) == (True, True), "fast and plain loss agree"
        assert (whole["route"] == "cache") == ("eager" in name)
        np.testing.assert_allclose(shared["numbers"], whole["numbers"], rtol=1e-6)
        assert apart(shared["weights"], whole["weights"]) < 1e-5
        assert shared["answers"] == whole["answers"]
        (blocks, tables), (share, kept) = mine["held"]
        assert kept == tables
        # Uneven rows are padded to even shares.
        assert 0.49 * blocks < share < 0.52 * blocks
    assert found[1][0][name]["shared"]["answers"], "the first process answered, by itself"
    assert found[1][0][name]["shared"]["weights"] == found[1][1][name]["shared"]["weights"]


@pytest.mark.slow
def test_a_run_with_shares_is_the_run_without(
    found: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, (first, second) = found
    whole, shared = first["run"]["whole"], first["run"]["shared"]
    assert (len(whole["losses"]), len(whole["evaluated"])) == (9, 4)
    assert whole["answers"]
    np.testing.assert_allclose(shared["losses"], whole["losses"], rtol=1e-6)
    np.testing.assert_allclose(shared["evaluated"], whole["evaluated"], rtol=1e-6)
    assert shared["answers"] == whole["answers"]
    assert not second["run"]["shared"]["losses"], "rank 0 alone speaks"
    weights = [load_file(folder / name / "run/final.safetensors") for name in ("whole", "shared")]
    ends = [np.concatenate([w[name].ravel() for name in sorted(w)]) for w in weights]
    assert apart(ends[1], ends[0]) < 1e-5


def test_what_cannot_be_sharded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = TrainSettings(model=str(tmp_path), shard_base=True, device="cpu")

    def refusal(**changes: Any) -> str:
        with pytest.raises(UserError) as error:
            backends.choose(dataclasses.replace(asked, **changes))
        return str(error.value)

    alone = refusal()  # --backend auto: torch, which alone can
    assert "torchrun --nproc-per-node N -m cuda_train ... --shard-base" in alone
    with pytest.raises(UserError, match="this is the only one"):
        TorchBackend(asked)
    assert "MLX keeps the whole base" in refusal(backend="mlx")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "--quantize 4" in refusal(quantize=4)
    assert backends.choose(asked)[0].backend == "torch"


def test_a_model_that_cannot_be_sharded(tmp_path: Path) -> None:
    model: Any = load_base(tiny_model("llama", tmp_path), device="cpu").model
    with pytest.raises(UserError, match="needs CUDA, and the device is mps"):
        shard.spread(model, (), Ranks(0, 2), torch.device("mps"))
    packed = torch.zeros(8, 8, dtype=torch.uint8)
    model.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj\.weight is quantized"):
        shard.spread(model, (), Ranks(0, 2), CPU)
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(UserError, match="no blocks were found in llama"):
        shard.spread(model, (), Ranks(0, 2), CPU)


def test_memory_is_forecast_by_shares(monkeypatch: pytest.MonkeyPatch, deep: Path) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: (0, 0))
    settings = TrainSettings(model=str(deep), dtype="bfloat16", batch_size=1)

    def weights(processes: int, **changes: Any) -> int:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        run = dataclasses.replace(settings, **changes)
        return memory.forecast(run, [], torch.device("cuda")).need().weights

    loaded = load_base(deep, device="cpu", dtype="bfloat16").model
    blocks = 2 * sum(p.numel() for p in loaded.get_submodule("model.layers").parameters())
    whole = 2 * sum(p.numel() for p in loaded.parameters())
    assert weights(4) == whole, "not asked for"
    for processes in (2, 8):
        wanted = whole - blocks + blocks / processes + 3 * blocks / 24
        assert weights(processes, shard_base=True) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(("cards", "together"), [(1, "4bit"), (2, "4bit"), (8, "--shard-base")])
def test_several_cards_are_a_remedy(
    monkeypatch: pytest.MonkeyPatch, deep: Path, cards: int, together: str
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: (0, 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    settings = TrainSettings(model=str(deep), dtype="float32", batch_size=1)
    ahead = memory.forecast(settings, [], torch.device("cuda"))
    said = "; ".join(ahead.remedies(int(0.9 * ahead.need().total)))
    assert ("--shard-base (about" in said) == (cards > 1)
    if cards > 1:
        assert f"torchrun --nproc-per-node {cards} -m cuda_train" in said
    (most,) = ahead.remedies(1000)  # fits with nothing
    assert together in most
