"""Flex attention for trees: its mask, its gradients, and how a run chooses.

Torch refuses its backward pass on a CPU, although the plain arithmetic behind it is there and runs;
`on_a_cpu` lifts that check, so that masks and wiring are proven without a GPU. What a GPU's kernel
makes of them a run checks itself before it uses it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import flex_attention

pytest.importorskip("peft")

from cuda_train import flex
from cuda_train.backend import TorchBackend
from cuda_train.ranks import Ranks
from cuda_train.route import shape_of
from cuda_train.tree import block_mask, lay_out, tree_mask
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training.plan import Example, MicroBatch
from tests.cuda_train.test_torch_loss import apart, draw, fast, make, reference
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import flex_attention as caller

    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    caller.WrappedFlexAttention._is_flex_compiled = False


def about_to_try(models: Path) -> tuple[TorchBackend, MicroBatch]:
    """A backend, and the largest tree that it will try flex attention on."""
    backend, batch = make(tiny_model("llama", models)), draw(rows=8)
    backend.largest_tree = batch
    return backend, batch


def places_of(batch: MicroBatch) -> int:
    return shape_of(batch).places


@pytest.mark.parametrize("window", [None, 1, 8])
@pytest.mark.parametrize("prefix", [0, 1, 150])
def test_the_block_mask_is_the_mask(prefix: int, window: int | None) -> None:
    laid = lay_out(draw(prefix=prefix, rows=9), torch.device("cpu"))
    made = block_mask(laid, window)
    place = torch.arange(len(laid.branch))
    said = made.mask_mod(None, None, place[:, None], place[None])
    assert torch.equal(said, tree_mask(laid, window)[0, 0])
    assert made.shape[-2:] == said.shape


@pytest.mark.slow
def test_blocks_in_which_nobody_looks_are_left_out() -> None:
    laid = lay_out(draw(prefix=150, rows=12, width=300), torch.device("cpu"))
    assert block_mask(laid, None).sparsity() > 75  # of a causal mask of this size, 48


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    ("family", "window"), [("llama", None), ("qwen3", None), ("mixtral", None), ("gemma3", 8)]
)
def test_its_gradient_is_the_plain_one(
    models: Path, family: str, window: int | None, checkpoint: bool
) -> None:
    changes = {} if window is None else {"sliding_window": window}
    backend = make(tiny_model(family, models, **changes), grad_checkpoint=checkpoint)
    batch = draw()
    loss, gradient = reference(backend, batch)
    assert flex.install(backend.loss.model) == ""
    for route in ("flex", "tree", "plain"):  # the last two go on by sdpa
        got_loss, got = fast(backend, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6), route
        assert apart(got, gradient) < 1e-5, route
    assert reference(backend, batch)[0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("on_a_cpu")
def test_a_run_keeps_the_faster_if_it_is_right(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, batch = about_to_try(models)
    monkeypatch.setattr(flex, "WORTH_TRYING", places_of(batch) + 1)
    assert backend.self_check(batch).note == "", "too small to try"
    monkeypatch.setattr(flex, "WORTH_TRYING", 1)
    for slower, words in (("branches", "flex attention is used"), ("flex", "sdpa is used")):
        seconds = {"branches": 1.0, "flex": 1.0, slower: 2.0}
        monkeypatch.setattr(flex, "time_gradient", lambda _b, _m, route, by=seconds: by[route])
        result = backend.self_check(batch)
        assert result.ok
        assert words in result.note
        assert backend.loss.route(batch) == ("flex" if slower == "branches" else "branches")


@pytest.mark.usefixtures("on_a_cpu")
def test_a_wrong_mask_is_found_before_it_trains(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuda_train import tree

    backend, batch = about_to_try(models)
    monkeypatch.setattr(flex, "WORTH_TRYING", 1)

    def leaky(laid: Any, window: int | None) -> Any:
        alone = torch.full_like(laid.branch, -1)  # every row sees the rows before it
        return block_mask(dataclasses.replace(laid, branch=alone), window)

    monkeypatch.setattr(tree, "block_mask", leaky)
    result = backend.self_check(batch)
    assert "from the plain gradients" in result.note
    assert "sdpa is used" in result.note
    assert result.ok, "by sdpa"
    assert backend.loss.route(batch) == "branches"


def test_what_cannot_be_tried_is_said(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fixture: torch itself refuses."""
    backend, _ = about_to_try(models)
    monkeypatch.setattr(flex, "WORTH_TRYING", 1)
    before = backend.loss.flat.values.clone()
    result = backend.self_check(draw())
    assert "could not be tried" in result.note
    assert "sdpa is used" in result.note
    assert result.ok
    assert torch.equal(before, backend.loss.flat.values)
    assert not backend.loss.flat.message.any()


def test_models_that_it_does_not_fit_are_named(models: Path) -> None:
    """Gemma2 caps its scores, which sdpa cannot do and flex is not told to."""
    assert (
        flex.install(make(tiny_model("gemma2", models)).loss.model) == "gemma2 runs eager attention"
    )
    with pytest.raises(UserError, match="scaled_dot_product_attention"):
        make(tiny_model("gemma2", models), attention="sdpa")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_asked_for_it_is_right_or_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, broken: bool
) -> None:
    if not broken:
        request.getfixturevalue("on_a_cpu")
    backend = make(tiny_model("llama", models))
    backend.settings = dataclasses.replace(backend.settings, attention="flex")
    backend.largest_tree = draw(rows=8)
    monkeypatch.setattr(flex, "time_gradient", None)  # nothing is timed
    if broken:
        with pytest.raises(UserError, match=r"could not be tried .* Leave --attention flex out"):
            backend.self_check(draw(prefix=0))
        return
    assert backend.self_check(draw(prefix=0)).note == ""
    assert backend.loss.route(draw()) == "flex"


def test_a_kernel_that_is_wrong_in_later_rows_is_found(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rows alone are held against plain ones; all of them against sdpa's."""
    backend = make(tiny_model("llama", models))
    right = backend.loss.gradient

    def gradient(batches: Any, route: Any = None) -> Any:
        found = right(batches, None if route == "flex" else route)
        if route == "flex" and len(batches[0].tokens) > 4:
            backend.loss.flat.grads[0] += 1.0
        return found

    monkeypatch.setattr(backend.loss, "gradient", gradient)
    trial = flex.try_out(backend.loss, draw(rows=8), Ranks(), timed=True)
    assert not trial.right
    assert "from sdpa's gradients" in trial.note


def test_where_it_cannot_be_had_it_is_refused(models: Path) -> None:
    llama = str(tiny_model("llama", models))
    settings = TrainSettings(model=llama, attention="flex")
    with pytest.raises(UserError, match="attention is flex, which has no backward pass on cpu"):
        TorchBackend(settings, device="cpu")
    backend = make(llama, share_prefix=False)
    with pytest.raises(UserError, match="prompts are not shared"):
        backend.refuse_flex()
    with pytest.raises(UserError, match="gemma2 runs eager attention"):
        make(tiny_model("gemma2", models)).refuse_flex()


def test_the_largest_tree_of_an_epoch() -> None:
    def row(*tokens: int) -> Example:
        mask = np.zeros(len(tokens), bool)
        mask[-1] = True
        return Example(np.asarray(tokens, np.int32), mask)

    def trees(batch: Any) -> Any:
        return "tree" if len(batch.prefix) and len(batch.tokens) > 1 else "plain"

    rows = [row(*range(50), 50 + n, 9) for n in range(8)] + [row(1, n, 3) for n in range(8)]
    settings = TrainSettings(batch_size=4)
    found = flex.largest_tree(rows, settings, trees)
    assert found is not None
    assert places_of(found) == 50 + 4 * 1  # the last token predicts nothing
    assert flex.largest_tree(rows, settings, lambda _: "cache") is None
    apart = dataclasses.replace(settings, share_prefix=False)
    assert flex.largest_tree(rows, apart, trees) is None
    assert flex.largest_tree([], settings, trees) is None
