"""Sampling from the nucleus: the mask itself, and the tokens that engines draw under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.engine_files import gguf_conversions
from livery.engines.engine import Decoding, open_engine
from livery.engines.sampling import nucleus
from livery.errors import UserError
from tests.tiny_models import EOS_ID, tiny_model

TOP_P, TEMPERATURE, DRAWS = 0.4, 0.7, 200


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


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
