"""What `test_torch_shard.py` starts as two processes under torchrun: each case with the whole base
in both processes, then with a share of it in each.

    torchrun --nproc-per-node 2 -m tests.cuda_train.shard_child FOLDER

Each process writes what it found to FOLDER/0.json or FOLDER/1.json.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from cuda_train.backend import TorchBackend
from cuda_train.lora import block_paths
from livery.config.settings import LoraSettings, TrainSettings
from livery.training.events import Evaluated, Sampled, Stepped
from tests.cuda_train.test_torch_loss import draw
from tests.runs import moved, run, tiny_settings
from tests.tiny_models import tiny_model

_EXPERTS = ("gate_proj", "up_proj", "down_proj")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "eager attention": ("llama", {"attention": "eager"}),
    "tied, recomputed, last block": (
        "gemma3", {"grad_checkpoint": True, "lora": LoraSettings(rank=4, num_layers=1)}
    ),
    "experts": ("mixtral", {"lora": LoraSettings(rank=4, targets=_EXPERTS)}),
    "bfloat16, dora, dropout": (
        "llama", {"dtype": "bfloat16", "lora": LoraSettings(rank=4, dora=True, dropout=0.1)}
    ),
}  # fmt: skip
RUN: dict[str, Any] = {
    "batch_size": 4,
    "max_steps": 9,
    "steps_per_report": 1,
    "lora": {"dropout": 0.1},
}


def prepare(folder: Path) -> None:
    """Models and data, before two processes ask for them."""
    for family, _ in CASES.values():
        tiny_model(family, folder / "models")
    for name in ("whole", "shared"):
        tiny_settings(folder / name)


def open_both(folder: Path, family: str, changes: dict[str, Any]) -> list[TorchBackend]:
    model = str(tiny_model(family, folder / "models"))
    plain = TrainSettings(model=model, device="cpu", lora=LoraSettings(rank=4))
    settings = dataclasses.replace(plain, **changes)
    found: list[TorchBackend] = []
    for shard_base in (False, True):
        made = TorchBackend(dataclasses.replace(settings, shard_base=shard_base))
        moved(made)
        found.append(made)
    return found


def work(made: TorchBackend) -> dict[str, Any]:
    """What a run does, the processes doing unlike parts of it."""
    first = made.rank == 0
    check = made.self_check(draw())
    steps: list[Any] = []
    many = draw(prefix=40, rows=40)  # under a mask, a whole base carries its prefix in a cache
    route = made.loss.route(many)
    assert not (made.settings.shard_base and route == "cache"), "the processes would wait for good"
    one, other = [draw(seed=1), many, draw(rows=1)], [draw(seed=3)]
    for step, batches in enumerate([one, []] if first else [[], other], start=1):
        done = made.train_step(batches, step=step, learning_rate=1e-3)
        steps += [done.loss_sum, done.count, done.grad_norm]
    scores = np.zeros(3)
    if not first:
        scores += made.logprobs(draw(seed=4)) + made.logprobs(draw(seed=5))
    scores = made.sum_over_processes(scores)
    answers = made.generate([[5, 6, 7, 8], [5, 6, 9]], 5) if first else []
    made.sum_over_processes(np.zeros(1))
    weights = made.get_state().weights
    return {
        "check": check.ok,
        "route": route,
        "numbers": [*steps, *scores.tolist()],
        "weights": np.concatenate([weights[name].ravel() for name in sorted(weights)]).tolist(),
        "answers": answers,
    }


def held(made: TorchBackend) -> tuple[int, int]:
    """Bytes of the base in this process: in the blocks, and outside them."""
    model: Any = made.loss.model
    trained = {id(p) for p in made.loss.flat.parameters.values()}
    blocks = {id(p) for path in block_paths(model) for p in model.get_submodule(path).parameters()}
    sizes = [0, 0]
    for parameter in model.parameters():
        if id(parameter) not in trained:
            local: Any = parameter.to_local() if isinstance(parameter, DTensor) else parameter
            sizes[id(parameter) not in blocks] += local.numel() * local.element_size()
    return sizes[0], sizes[1]


def survive(made: TorchBackend) -> str:
    """A pass that ends in an exception in the last block's backward; returns what was said."""

    def fails(*_: Any) -> None:
        raise RuntimeError("in the last block")

    def forward(_block: Any, _arguments: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(fails)

    last = made.loss.model.get_submodule(block_paths(made.loss.model)[-1])
    hook = last.register_forward_hook(forward)
    reason = made.self_check(draw()).reason
    hook.remove()
    return reason


def train(folder: Path, *, shard_base: bool) -> dict[str, Any]:
    _, events = run(tiny_settings(folder, shard_base=shard_base, **RUN), "torch")
    return {
        "losses": [event.loss for event in events if isinstance(event, Stepped)],
        "evaluated": [event.eval_loss for event in events if isinstance(event, Evaluated)],
        "answers": [event.answer for event in events if isinstance(event, Sampled)],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    rank = 0
    for name, (family, changes) in CASES.items():
        whole, shared = open_both(folder, family, changes)
        rank = whole.rank
        found[name] = {"failed": survive(shared), "whole": work(whole), "shared": work(shared)}
        found[name]["held"] = [held(whole), held(shared)]
    found["run"] = {
        name: train(folder / name, shard_base=name == "shared") for name in ("whole", "shared")
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
