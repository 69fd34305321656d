"""LoRA's addition as one operation, against PEFT's own forward and against float64."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cuda_train import delta
from cuda_train.backend import TorchBackend
from cuda_train.delta import Deltas
from livery.training.plan import Plan
from tests.runs import tiny_settings

Result = dict[str, torch.Tensor]


def layers(dtype: torch.dtype, **lora: Any) -> nn.Sequential:
    """Two linear layers with a bias and PEFT's LoRA on both; B is not 0."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 16)).to(dtype)
    model.requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["0", "1"], **lora)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter, dtype=torch.float32) * 0.3
    return model


def run(model: nn.Module, x: torch.Tensor) -> Result:
    """The output and the gradients of A, B and x, of a loss that weighs every output."""
    x = x.detach().clone().requires_grad_(x.requires_grad)
    y = model(x)
    y.backward(torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype))
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"y": y.detach(), **found, **({"x": x.grad} if x.grad is not None else {})}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


@pytest.mark.parametrize("asks_input", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24)])
def test_in_float32_it_is_pefts(shape: tuple[int, ...], asks_input: bool) -> None:
    model = layers(torch.float32)
    x = torch.randn(shape).requires_grad_(asks_input)
    wanted = run(model, x)
    model.zero_grad()
    deltas = Deltas(model)
    assert deltas.count == 2
    got = run(model, x)
    assert got.keys() == wanted.keys()
    assert ("x" in got) == asks_input
    for name, value in wanted.items():
        assert apart(got[name], value) < 1e-6, name
    with deltas.off():
        again = run(copy.deepcopy(model), x)
    assert torch.equal(again["y"], wanted["y"]), "PEFT's own, bit by bit"


def test_in_bfloat16_it_is_as_near_to_float64_as_rounding_allows() -> None:
    model = layers(torch.bfloat16)
    x = torch.randn(64, 24).bfloat16().requires_grad_()
    exact = run(copy.deepcopy(model).double(), x.detach().double().requires_grad_())
    by_peft = run(model, x)
    model.zero_grad()
    Deltas(model)
    got = run(model, x)
    for name, value in exact.items():
        assert got[name].dtype == by_peft[name].dtype, name
        # Weights, h and dL/dh are rounded once each, to one part in 256.
        assert apart(got[name], value) < 2**-7, name


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_what_it_does_not_do_is_left_to_peft(lora: dict[str, Any]) -> None:
    model = layers(torch.float32, **lora).eval()
    x = torch.randn(3, 24)
    wanted = run(model, x)
    model.zero_grad()
    assert Deltas(model).count == 0
    assert all(torch.equal(value, wanted[name]) for name, value in run(model, x).items())


@pytest.mark.slow
def test_a_run_uses_it_and_its_self_check_would_see_it_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commands.training.data import load_data

    settings = tiny_settings(tmp_path, backend="torch")
    settings = dataclasses.replace(settings, dtype="float32")
    rows = load_data(settings).train.examples
    batch = Plan(rows, 4, 1, settings.seed, True).step(0)[0]
    backend = TorchBackend(settings, examples=rows)
    assert backend.loss.deltas.count == len(backend.get_state().weights) // 2
    backend.train_step([batch], step=1, learning_rate=1e-2)  # B is not 0 any more
    assert backend.self_check(batch).ok
    right = delta.LoraDelta.backward

    def wrong(ctx: Any, *gradients: Any) -> Any:
        y, x, a, b, scale = right(ctx, *gradients)
        return y, x, a, 1.1 * b, scale

    monkeypatch.setattr(delta.LoraDelta, "backward", wrong)
    check = backend.self_check(batch)
    assert not check.ok
    assert "lora_B" in check.reason
    backend.use_plain(check.reason)
    assert not backend.loss.deltas.used
    assert backend.self_check(batch).ok, "PEFT's own"
    assert np.isfinite(backend.train_step([batch], step=2, learning_rate=1e-2).loss_sum)
