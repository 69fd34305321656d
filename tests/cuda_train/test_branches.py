"""Attention of a tree, branch by branch, against the same attention under the tree's mask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

pytest.importorskip("peft")

from cuda_train import branches
from cuda_train.tree import lay_out, tree_mask
from livery.training.plan import MicroBatch

HEADS, KEYS, WIDTH = 6, 2, 8
CPU = torch.device("cpu")


def draw(prefix: int, lengths: list[int]) -> MicroBatch:
    shape = (len(lengths), max(lengths) + 3)  # wider than the longest row, as buckets make it
    return MicroBatch(
        np.zeros(prefix, np.int32), np.zeros(shape, np.int32), np.full(shape, -1, np.int32),
        np.asarray(lengths, np.int32),
    )  # fmt: skip


def tensors(batch: MicroBatch, dtype: torch.dtype, value: int = WIDTH) -> list[torch.Tensor]:
    """Query, key and value as transformers gives them, (1, heads, N, d)."""
    torch.manual_seed(0)
    places = len(batch.prefix) + int(batch.lengths.sum())
    shapes = ((HEADS, WIDTH), (KEYS, WIDTH), (KEYS, value))
    made = [torch.randn(1, places, heads, d, dtype=dtype) for heads, d in shapes]
    return [each.transpose(1, 2).requires_grad_() for each in made]


def gradients(out: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    torch.manual_seed(1)
    seed = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    return list(torch.autograd.grad(out, inputs, seed))


def under_the_mask(batch: MicroBatch, window: int | None, qkv: list[torch.Tensor]) -> torch.Tensor:
    mask = tree_mask(lay_out(batch, CPU), window)
    k, v = (each.repeat_interleave(HEADS // KEYS, 1) for each in qkv[1:])
    return functional.scaled_dot_product_attention(qkv[0], k, v, attn_mask=mask).transpose(1, 2)


def by_branch(batch: MicroBatch, window: int | None, qkv: list[torch.Tensor]) -> torch.Tensor:
    module = SimpleNamespace(num_key_value_groups=HEADS // KEYS, is_causal=True)
    mask = branches.branch_mask(batch, window, CPU)
    return branches.attend(module, qkv[0], qkv[1], qkv[2], mask, scaling=WIDTH**-0.5)[0]


def far(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative, or absolute where a gradient is 0: who sees one key alone does not choose."""
    with torch.no_grad():
        size = float(wanted.double().norm())
        return float((got.double() - wanted.double()).norm()) / (size if size > 1e-9 else 1.0)


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("window", [None, 1, 4, 9])
@pytest.mark.parametrize(
    ("prefix", "lengths"),
    [(0, [3, 7, 1]), (1, [5]), (11, [4, 1, 9, 2]), (6, [5, 5])],
)
def test_it_is_the_masked_attention(
    prefix: int, lengths: list[int], window: int | None, written_out: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    batch = draw(prefix, lengths)
    monkeypatch.setattr(branches, "SHORT", 128 if written_out else 0)
    qkv = tensors(batch, torch.float64)
    wanted, got = under_the_mask(batch, window, qkv), by_branch(batch, window, qkv)
    assert far(got, wanted) < 1e-12
    for one, other in zip(gradients(got, qkv), gradients(wanted, qkv), strict=True):
        assert far(one, other) < 1e-12


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("scores", [1, 60, 200])
def test_in_parts_it_is_the_same(
    scores: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = draw(9, [4, 1, 6, 3, 6])
    qkv = tensors(batch, torch.float64, value=5)  # values of another width than keys
    whole = by_branch(batch, window, qkv)
    wanted = gradients(whole, qkv)
    made: list[Any] = []
    monkeypatch.setattr(branches, "SCORES", scores)
    monkeypatch.setattr(
        branches, "parts_of", lambda *a, of=branches.parts_of: made.extend(of(*a)) or iter(made)
    )
    got = by_branch(batch, window, qkv)
    assert len(made) > 2  # else nothing was in parts
    # A stretch of the prefix sees what came before it, and holds no more scores than it may.
    stretches = [part for part in made if part.real is None]
    assert len({part.before for part in stretches}) > (2 if scores < 200 else 0)
    sizes = [part.places.shape[1] * (part.before + part.places.shape[1]) for part in stretches]
    assert max(sizes) * HEADS // KEYS <= max(scores, HEADS // KEYS * 9)
    made.clear()
    assert far(got, whole) < 1e-12
    for one, other in zip(gradients(got, qkv), wanted, strict=True):
        assert far(one, other) < 1e-12


def test_a_long_prefix_has_no_mask_of_all_its_pairs() -> None:
    mask = branches.branch_mask(draw(40_000, [4, 4]), None, CPU)
    assert mask.shape == (1, 1, 40_004, 40_004)
    assert mask.untyped_storage().nbytes() == 1
    parts = list(branches.parts_of(mask.branches, 1, 1))
    assert max(part.own.numel() for part in parts) < branches.SCORES


def test_in_bfloat16_it_is_as_near_as_torchs_own() -> None:
    batch = draw(20, [9, 4, 12, 7])
    exact = [each.detach().double().requires_grad_() for each in tensors(batch, torch.bfloat16)]
    halves = [each.detach().bfloat16().requires_grad_() for each in exact]
    wanted = under_the_mask(batch, None, exact)
    found = {name: how(batch, None, halves) for name, how in
             (("ours", by_branch), ("torch", under_the_mask))}  # fmt: skip
    assert far(found["ours"], wanted) < 1.5 * far(found["torch"], wanted)
    truth = gradients(wanted, exact)
    ours, theirs = (gradients(found[name], halves) for name in ("ours", "torch"))
    for one, other, right in zip(ours, theirs, truth, strict=True):
        assert far(one, right) < 2 * far(other, right) < 0.05


def test_an_attention_that_does_not_know_it_says_so() -> None:
    batch = draw(5, [4, 4])
    mask = branches.branch_mask(batch, None, CPU)
    query = tensors(batch, torch.float32)[0]
    with pytest.raises(RuntimeError):
        functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
