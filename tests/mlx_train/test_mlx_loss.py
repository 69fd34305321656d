"""The fast loss is the plain one: float32 loss within 1e-6, every gradient within 1e-5 relative.

Beside the comparisons stand the mistakes they are there to catch, and must be seen to fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss, grad_checkpoint

from livery.config.settings import LoraSettings, TrainSettings
from livery.engines.mlx import cache as mlx_cache
from mlx_train import deal as dealing
from mlx_train.backend import MlxBackend
from mlx_train.deal import deal
from mlx_train.loss import cross_entropy
from tests.mlx_train.mlx_exact import backend, differences, fast, micro_batch, plain
from tests.tiny_models import tiny_model

LOSS, GRADIENT = 1e-6, 1e-5

# Shared prefix with ragged rows; another; nothing shared; one row alone.
BATCHES = [
    micro_batch(20, (7, 4, 9), (3, 2, 5)),
    micro_batch(13, (5, 6), (2, 2), seed=3),
    micro_batch(0, (12, 6), (4, 2), seed=5),
    micro_batch(9, (8,), (3,), seed=6),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def folder(family: str, models: Path) -> Path:
    # A window smaller than the prefix, or it would never be seen to matter.
    return tiny_model(family, models, **({"sliding_window": 8} if family == "gemma3" else {}))


CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "checkpointed": {"grad_checkpoint": True},
    "rslora, named targets": {
        "lora": LoraSettings(rank=4, alpha=8, rslora=True, targets=("o_proj", "v_proj"))
    },
    "dora": {"lora": LoraSettings(rank=4, alpha=8, dora=True)},
    "dora, checkpointed": {"lora": LoraSettings(4, 8, dora=True), "grad_checkpoint": True},
    "last layer": {"lora": LoraSettings(rank=4, alpha=8, num_layers=1)},
    "4-bit base": {"quantize": 4},
    "4-bit base, dora": {"quantize": 4, "lora": LoraSettings(rank=4, alpha=8, dora=True)},
    "nothing shared": {"share_prefix": False},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mixtral"])
def test_fast_is_plain(family: str, case: str, models: Path) -> None:
    made = backend(folder(family, models), **CASES[case])
    if not made.fast_path()[0]:
        made.use_plain("asked for")
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_a_prefix_in_stretches_is_plain(
    family: str, checkpoint: bool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backend(folder(family, models), grad_checkpoint=checkpoint)
    whole = fast(made, BATCHES)
    monkeypatch.setattr(dealing, "STRETCH", 6)  # less than the window, and no divisor of a prefix
    stretched = fast(made, BATCHES)
    loss, gradient = differences(stretched, plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT
    assert differences(stretched, whole) != (0.0, 0.0), "it did not run in stretches"


@pytest.mark.parametrize("family", ["llama_tied", "mistral", "qwen2", "qwen3_moe", "gemma",
                                    "gemma2", "phi", "phi3"])  # fmt: skip
def test_other_families(family: str, models: Path) -> None:
    made = backend(folder(family, models))
    assert made.fast_path() == (True, "")
    assert made.head is not None
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mixtral", "4-bit"])
def test_compiled_is_plain(family: str, checkpoint: bool, models: Path) -> None:
    quantize = 4 if family == "4-bit" else None
    made = backend(
        folder("llama" if quantize else family, models),
        compile="on", quantize=quantize, grad_checkpoint=checkpoint,
    )  # fmt: skip
    assert made.compiled
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_rows_dealt_to_streams_are_plain(family: str, checkpoint: bool, models: Path) -> None:
    many = micro_batch(10, (9, 3, 8, 5, 4, 7, 2, 6, 9), (3, 1, 2, 2, 2, 3, 1, 2, 4))
    made = backend(folder(family, models), grad_checkpoint=checkpoint)
    made.cores.count = 2
    inputs = made.inputs(many)
    assert [part.tokens.shape for part in inputs.parts] == [(5, 6), (4, 9)]
    expected = plain(made, [many])
    loss, gradient = differences(fast(made, [many]), expected)
    assert loss < LOSS
    assert gradient < GRADIENT
    assert -made.logprobs(many).sum() == pytest.approx(expected[0], rel=LOSS)
    first = made.train_step([many, *BATCHES], step=1, learning_rate=0.0)
    again = made.train_step([many, *BATCHES], step=1, learning_rate=0.0)
    # Two threads, one order of summation.
    assert (first.loss_sum, first.grad_norm) == (again.loss_sum, again.grad_norm)


def test_named_experts_are_adapted(models: Path) -> None:
    made = backend(folder("mixtral", models), lora=LoraSettings(4, 8, targets=("down_proj",)))
    names = made.get_state().weights
    assert names["model.layers.0.mlp.experts.down_proj.lora_A"].shape == (4, 4, 128)
    # An expert that no token chose has no gradient in either; four experts see all of these.
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT


def test_an_adapted_head_still_sees_chosen_rows_only(models: Path) -> None:
    made = backend(
        folder("llama", models), lora=LoraSettings(rank=4, alpha=8, targets=("lm_head", "q_proj"))
    )
    assert made.head is not None
    assert "lora_b" in made.head.module
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS
    assert gradient < GRADIENT


def test_cross_entropy_and_its_derivative() -> None:
    rng = np.random.default_rng(0)
    logits = mx.array(rng.normal(0, 8, (7, 300)).astype(np.float32))
    targets = mx.array(rng.integers(0, 300, 7).astype(np.int32))
    weights = mx.array(np.asarray([1, 1, 0, 1, 0, 1, 1], np.float32))

    def theirs(x: mx.array) -> mx.array:
        return (nn.losses.cross_entropy(x, targets) * weights).sum()

    def weighted(x: mx.array) -> mx.array:
        return (cross_entropy(x, targets) * weights).sum()

    ours, gradient = mx.value_and_grad(weighted)(logits)
    reference, expected = mx.value_and_grad(theirs)(logits)
    assert abs(ours.item() - reference.item()) < 1e-6 * reference.item()
    np.testing.assert_allclose(gradient, expected, atol=2e-6)
    doubled = mx.grad(lambda x: 2.0 * weighted(x))(logits)
    np.testing.assert_allclose(doubled, 2 * np.asarray(expected), atol=4e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3"])  # gemma2 caps its logits
def test_many_logits_are_taken_in_chunks(
    family: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backend(folder(family, models))
    expected = plain(made, BATCHES)
    monkeypatch.setattr("mlx_train.loss.LOGITS", 3 * 512)
    loss, gradient = differences(fast(made, BATCHES), expected)
    assert loss < LOSS
    assert gradient < GRADIENT
    assert sum(-made.logprobs(b).sum() for b in BATCHES) == pytest.approx(expected[0], rel=LOSS)


@pytest.mark.slow
def test_chunks_hold_less(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tiny_model("llama_tied", models, vocab_size=60_000)
    made = MlxBackend(TrainSettings(model=str(wide), lora=LoraSettings(rank=4)))
    batch = micro_batch(20, (40, 40, 40, 40), (36, 36, 36, 36), pad=0)

    def peak() -> int:
        held = mx.get_active_memory()
        mx.reset_peak_memory()
        made.train_step([batch], step=1, learning_rate=0.0)
        return mx.get_peak_memory() - held

    whole = peak()
    monkeypatch.setattr("mlx_train.loss.LOGITS", 16 * 60_000)
    assert peak() < 0.4 * whole


def test_self_check_agrees_and_leaves_everything_as_it_was(models: Path) -> None:
    made = backend(folder("gemma3", models), lora=LoraSettings(4, 8, dropout=0.3))
    before = made.get_state()
    result = made.self_check(BATCHES[0])
    assert result.ok
    assert result.loss_difference < LOSS
    assert result.gradient_difference < GRADIENT
    after = made.get_state()
    assert all(np.array_equal(before.weights[n], after.weights[n]) for n in before.weights)
    assert made.model.training


# -- what must not pass --------------------------------------------------------------------------


def test_control_a_cache_without_gradient_is_caught(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backend(folder("llama", models))
    share = mlx_cache.share

    def cut(caches: list[Any], rows: int) -> list[Any]:
        stopped = [
            mlx_cache.with_arrays(c, [mx.stop_gradient(a) for a in mlx_cache.arrays_of([c])])
            for c in caches
        ]
        return share(stopped, rows)

    monkeypatch.setattr(mlx_cache, "share", cut)
    loss, gradient = differences(fast(made, BATCHES), plain(made, BATCHES))
    assert loss < LOSS  # nothing shows in the loss
    assert gradient > 100 * GRADIENT
    result = made.self_check(BATCHES[0])
    assert not result.ok
    assert "worst at model.layers" in result.reason


@pytest.mark.slow
def test_control_a_window_of_another_size_is_caught(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backend(folder("gemma3", models))
    make = mlx_cache.make_caches

    def narrower(model: nn.Module) -> list[Any]:
        # gemma3 names the mask's window itself; the cache's says how much of the prefix is kept.
        return [mlx_cache.ConcatCache(c.window and c.window - 4) for c in make(model)]

    expected = plain(made, BATCHES)
    monkeypatch.setattr(mlx_cache, "make_caches", narrower)
    loss, gradient = differences(fast(made, BATCHES), expected)
    assert loss > LOSS
    assert gradient > 100 * GRADIENT
    assert not made.self_check(BATCHES[0]).ok


def test_control_mlx_lms_checkpoint_with_a_cache_is_wrong(models: Path) -> None:
    """Its gradients are far off while its loss is right. If mlx-lm fixes it, this fails, and
    `mlx_train/checkpointing.py` may go."""
    made = backend(folder("llama", models))
    kind = type(made.model.layers[0])
    original = kind.__call__
    grad_checkpoint(made.model.layers[0])
    try:
        ours = fast(made, BATCHES[:2])
    finally:
        kind.__call__ = original
    loss, gradient = differences(ours, plain(made, BATCHES[:2]))
    assert loss < LOSS
    assert gradient > 0.1


def test_control_training_the_padding_changes_the_gradient(models: Path) -> None:
    """mlx-lm's own loss takes the token after the answer, which is padding, as one more target."""
    made = backend(folder("llama", models))
    batch = micro_batch(0, (9, 7), (4, 4), pad=5)
    lengths = mx.array(np.stack([batch.lengths - 4 + 1, batch.lengths + 1], axis=1))
    rows = np.zeros((2, batch.tokens.shape[1] + 1), np.int32)
    rows[:, :-1] = batch.tokens
    for row, length in enumerate(batch.lengths):
        rows[row, length] = batch.targets[row, length - 1]
    (mean, count), gradients = nn.value_and_grad(made.model, default_loss)(
        made.model, mx.array(rows), lengths
    )
    theirs = {n: np.asarray(s) * float(count) for n, s in tree_flatten(gradients)}
    assert int(count) == 10  # of 8 supervised tokens
    loss, gradient = differences((float(mean) * float(count), theirs), plain(made, [batch]))
    assert loss > 0.05
    assert gradient > 0.05


@pytest.mark.slow
@given(
    st.lists(st.integers(1, 60), min_size=4, max_size=16), st.integers(2, 4), st.integers(0, 400)
)
def test_rows_are_dealt_so_that_no_stream_has_more_to_do_than_it_must(
    rows: list[int], parts: int, prefix: int
) -> None:
    lengths = np.sort(np.asarray(rows))

    def longest(cuts: Sequence[int]) -> int:
        dealt = np.split(lengths, cuts)
        assert all(len(part) for part in dealt)
        return max(
            len(part) * int(part[-1]) + (prefix if at == 0 else 0) for at, part in enumerate(dealt)
        )

    best = min(longest(cuts) for cuts in combinations(range(1, len(rows)), parts - 1))
    assert longest(deal(lengths, parts, prefix)) == best
