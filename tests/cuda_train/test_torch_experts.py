"""Experts as targets on torch: exact, under MLX's names, and the same adapter in every form."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from cuda_train.backend import TorchBackend
from cuda_train.lora import AdaptedExperts
from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from tests.cuda_train.test_torch_loss import apart, draw, fast, make, reference
from tests.tiny_models import tiny_model

EXPERTS = ("gate_proj", "up_proj", "down_proj")
LORA = LoraSettings(rank=4, targets=(*EXPERTS, "q_proj"))
FAMILIES = ("mixtral", "qwen3_moe")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def by_hand(made: TorchBackend) -> None:
    """Bake the adapter into the experts' stacks with an einsum of its own, the deltas at 0."""
    state = made.get_state().weights
    for path, module in made.loss.model.named_modules():
        if not isinstance(module, AdaptedExperts):
            continue
        base: Any = module.base
        half = base.gate_up_proj.shape[1] // 2
        rooms = {
            "gate_proj": base.gate_up_proj[:, :half],
            "up_proj": base.gate_up_proj[:, half:],
            "down_proj": base.down_proj,
        }
        for leaf, room in rooms.items():
            a, b = (state[f"{path}.{leaf}.lora_{x}"] for x in "AB")
            delta = LORA.scale * np.einsum("eor,eri->eoi", b, a)
            room.data += torch.from_numpy(delta.astype(np.float32))
            module.get_parameter(f"{leaf}.lora_B").data.zero_()


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_experts_train_exactly(models: Path, family: str, checkpoint: bool) -> None:
    made = make(tiny_model(family, models), lora=LORA, grad_checkpoint=checkpoint)
    batch = draw()
    loss, gradient = reference(made, batch)
    wanted = made.loss.flat.split(gradient)
    assert all(float(g.norm()) > 0 for g in wanted.values())
    assert sum(".experts.up_proj.lora_A" in name for name in wanted) == 2
    for route in ("tree", "plain") if checkpoint else ("tree", "cache", "plain"):
        got_loss, got = fast(made, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6)
        for name, part in made.loss.flat.split(got).items():
            assert apart(part, wanted[name]) < 1e-5, (route, name)
    # What the wrapper computes is what the changed weights compute; and the change is no small one.
    with torch.no_grad():
        before = made.loss.token_losses(batch)
        by_hand(made)
        assert torch.allclose(made.loss.token_losses(batch), before, atol=1e-5)
        for parameter in made.loss.model.parameters():
            if parameter.ndim == 3 and not parameter.requires_grad:
                parameter.zero_()
        assert not torch.allclose(made.loss.token_losses(batch), before, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_finite_differences(models: Path, family: str) -> None:
    """Independent of autograd: a step along the gradient changes the loss by its square."""
    made = make(tiny_model(family, models), lora=LORA)
    batch = draw(prefix=20, rows=2)
    _, gradient = reference(made, batch)
    keep = made.loss.flat.values.clone()
    only = torch.zeros_like(gradient)
    for name, view in made.loss.flat.split(only).items():
        if ".experts." in name:
            view.copy_(made.loss.flat.split(gradient)[name])
    step = 1e-3 / float(only.norm())
    values: list[float] = []
    for sign in (1, -1):
        made.loss.flat.values.copy_(keep + sign * step * only)
        values.append(-float(made.logprobs(batch).sum()))
    measured = (values[0] - values[1]) / (2 * step)
    assert measured == pytest.approx(float(only.norm()) ** 2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_both_backends_agree(models: Path, family: str) -> None:
    pytest.importorskip("mlx_lm")
    from mlx_train.backend import MlxBackend

    folder = tiny_model(family, models)
    settings = TrainSettings(model=str(folder), lora=LORA, device="cpu")
    ours, theirs = TorchBackend(settings), MlxBackend(settings)
    begin, other = ours.get_state().weights, theirs.get_state().weights
    assert {k: v.shape for k, v in begin.items()} == {k: v.shape for k, v in other.items()}
    assert all(np.allclose(begin[k], other[k], atol=1e-7) for k in begin)
    for step in range(1, 6):
        batch = draw(seed=step)
        one, two = (
            made.train_step([batch], step=step, learning_rate=5e-3) for made in (ours, theirs)
        )
        assert one.loss_sum == pytest.approx(two.loss_sum, rel=1e-4), step
    final, other = ours.get_state().weights, theirs.get_state().weights
    for name, value in final.items():
        moved = float(np.abs(value - begin[name]).max())
        assert moved > 1e-3, name
        assert np.linalg.norm(value - other[name]) < 1e-3 * np.linalg.norm(value), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_answers_alike_in_peft(models: Path, family: str, tmp_path: Path) -> None:
    from commands.training.export import export
    from livery.dataset.tokenizer import load_tokenizer
    from livery.engines.torch.adapter import attach_adapter
    from livery.engines.torch.load import load_base

    folder = tiny_model(family, models)
    made = make(folder, lora=LORA)
    facts: dict[str, Any] = {
        "examples": 1, "valid_examples": 0, "data_digest": "0" * 64, "base_digest": "0" * 64,
        "steps": 1, "epochs": 1.0, "kept_step": 1, "seconds": 1.0, "backend": "torch",
        "dtype": "float32",
    }  # fmt: skip
    settings = TrainSettings(model=str(folder), output_dir=str(tmp_path / "out"), lora=LORA)
    tokenizer = load_tokenizer(str(folder), None)
    export(settings, tokenizer, made.get_state(), facts, lambda text: None)
    base = load_base(folder, device="cpu").model
    tokens = torch.arange(10, 60)[None]
    with torch.no_grad():
        plain = base(input_ids=tokens).logits
        loaded: Any = attach_adapter(base, tmp_path / "out").model
        got, wanted = loaded(input_ids=tokens).logits, made.loss.model(input_ids=tokens).logits
    assert float((wanted - plain).abs().max()) > 0.1
    assert torch.allclose(got, wanted, atol=1e-4)


def test_what_experts_do_not_take_is_refused(models: Path) -> None:
    folder = tiny_model("mixtral", models)
    plain = LoraSettings(rank=4, targets=("down_proj",))
    for lora, word in (
        (dataclasses.replace(plain, dora=True), "DoRA"),
        (dataclasses.replace(plain, dropout=0.1), "dropout"),
    ):
        with pytest.raises(UserError, match=rf"take no {word}.*leave the experts out"):
            TorchBackend(TrainSettings(model=str(folder), lora=lora, device="cpu"))
    made = TorchBackend(TrainSettings(model=str(folder), device="cpu"))
    assert not any(".experts." in name for name in made.loss.flat.names), "not unless asked for"
