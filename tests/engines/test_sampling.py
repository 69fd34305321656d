"""Sampling from the nucleus: the mask itself, and the tokens that engines draw under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.engine_files import gguf_conversions
from livery.engines.answers import gumbel, host_gumbel, noise_keys, nucleus
from livery.engines.engine import Decoding, open_engine
from livery.errors import UserError
from tests.tiny_models import EOS_ID, tiny_model

TOP_P, TEMPERATURE, DRAWS = 0.4, 0.7, 200


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


@pytest.mark.slow
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12),
    st.floats(0.01, 0.999),
)
def test_it_is_the_smallest_set_that_reaches_the_share(logits: list[float], top_p: float) -> None:
    scaled = np.asarray(logits, np.float32)
    [kept] = nucleus(scaled[None], top_p)
    shares = softmax(scaled)
    assert shares[kept].sum() >= top_p - 1e-9
    assert shares[kept].min() >= shares[~kept].max(initial=0.0), "the likeliest are kept"
    assert shares[kept].sum() - shares[kept].min() < top_p + 1e-9, "one fewer would not do"


def test_what_the_grammar_forbids_is_never_kept() -> None:
    [kept] = nucleus(np.asarray([[-np.inf, 1.0, -np.inf, 0.9]], np.float32), 0.999)
    assert kept.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("name", "needs"), [("mlx", "mlx_lm"), ("torch", "torch"), ("llamacpp", "xllamacpp")]
)
def test_an_engine_draws_from_the_nucleus_alone(
    name: str, needs: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(needs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options: dict[str, Any] = {}
    if name == "llamacpp":
        options = {"to_gguf": gguf_conversions(), "gguf_type": "f32"}
    engine = open_engine(name, str(tiny_model("llama", root)), **options)
    prompt = engine.prompt([{"role": "user", "content": "play"}])
    shares = softmax(_logits(tiny_model("llama", root), prompt.tokens) / TEMPERATURE)
    likeliest = np.argsort(-shares)
    inside = {int(t) for t in likeliest[: np.searchsorted(np.cumsum(shares[likeliest]), 0.4) + 1]}

    def first(top_p: float) -> set[int]:
        count = DRAWS if name != "llamacpp" else 40
        decoding = Decoding(max_tokens=1, temperature=TEMPERATURE, top_p=top_p)
        return {(a.tokens or (EOS_ID,))[0] for a in engine.generate([prompt] * count, decoding)}

    drawn = first(TOP_P)
    assert drawn <= inside
    assert len(drawn) > 1
    assert not first(1.0) <= inside, "without it others are drawn"


@pytest.mark.parametrize("top_p", [0.0, -1.0, 1.01, float("nan")])
def test_a_share_outside_its_range_is_refused(top_p: float) -> None:
    with pytest.raises(UserError, match="top_p is"):
        Decoding(top_p=top_p)


def _logits(folder: Path, tokens: tuple[int, ...]) -> np.ndarray:
    """(V,) of transformers, behind `tokens`."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1].numpy()


def test_the_noise_is_gumbels_and_of_its_place_alone() -> None:
    width = 200_000
    first = host_gumbel(width, seed=3, row=0, step=0)
    ordered = np.sort(first.astype(np.float64))
    shares = np.exp(-np.exp(-ordered))
    off = np.abs(shares - np.arange(1, width + 1) / width).max()
    assert off < 2 / width**0.5, "Kolmogorov and Smirnov: 1.63 at one in a hundred"
    places = [{"step": 1, "row": 0, "seed": 3}, {"step": 0, "row": 1, "seed": 3}]
    for place in [*places, {"step": 0, "row": 0, "seed": 4}]:
        other = host_gumbel(width, **place)
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / width**0.5
    for shift in (1, 2, 64, 256):
        assert abs(np.corrcoef(first[shift:], first[:-shift])[0, 1]) < 5 / width**0.5
    assert np.isfinite(first).all()
    assert (host_gumbel(100, 3, 0, 0) == first[:100]).all()


def test_the_noise_of_a_place_is_not_anothers_moved_along() -> None:
    """Of places whose first keys are a token apart; among a hundred thousand some are."""
    tokens = np.arange(20_000, dtype=np.int32)
    keys = np.asarray([[7, 1], [7 - 1640531535, 2]], np.int32)
    one, other = gumbel(tokens, keys, np.log)
    assert (one[1:] != other[:-1]).mean() > 0.99


@given(st.integers(-(2**70), 2**70), st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 99))))
@settings(max_examples=20)
def test_every_library_computes_the_same_noise(seed: int, places: list[tuple[int, int]]) -> None:
    torch, mx = pytest.importorskip("torch"), pytest.importorskip("mlx.core")
    places = [*places, (0, 0)]
    keys = noise_keys(seed, places)
    want = np.stack([host_gumbel(700, seed, *place) for place in places])
    theirs = gumbel(torch.arange(700, dtype=torch.int32), torch.from_numpy(keys), torch.log)
    np.testing.assert_allclose(theirs.numpy(), want, rtol=0, atol=4e-6)
    ours = np.array(gumbel(mx.arange(700, dtype=mx.int32), mx.array(keys), mx.log))
    np.testing.assert_allclose(ours, want, rtol=0, atol=4e-6)


@pytest.mark.slow
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_seed_draws_the_same_on_every_engine(
    top_p: float, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("mlx_lm", "torch", "xllamacpp"):
        pytest.importorskip(needed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = str(tiny_model("llama", root))
    decoding = Decoding(max_tokens=12, temperature=0.8, seed=3, top_p=top_p)
    drawn: dict[str, list[tuple[int, ...]]] = {}
    for name in ("torch", "mlx", "llamacpp"):
        options: dict[str, Any] = {"dtype": "float32"}
        if name == "llamacpp":
            options = {"to_gguf": gguf_conversions(), "gguf_type": "f32"}
        engine = open_engine(name, base, **options)
        asked = [engine.prompt([{"role": "user", "content": f"play {n}"}]) for n in range(8)]
        drawn[name] = [answer.tokens for answer in engine.generate(asked, decoding)]
    assert len(set(drawn["torch"])) == 8
    assert drawn["mlx"] == drawn["torch"]
    # llama.cpp keeps keys and values in float16: a near tie may fall the other way.
    same = [a == b for a, b in zip(drawn["llamacpp"], drawn["torch"], strict=True)]
    assert sum(same) >= 6, drawn
