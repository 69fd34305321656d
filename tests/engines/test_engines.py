"""What every engine over tokens keeps to, asked of each on one tiny model."""

from __future__ import annotations

from typing import Any

import pytest

from commands.engine_files import gguf_conversions
from livery.engines.engine import Decoding, Grammar, Prompt, open_engine
from livery.errors import UserError
from livery.skills import date_keys
from tests import PATIENCE
from tests.engines.asked import COMMANDS, conversation
from tests.tiny_models import tiny_model

NEEDS = {"mlx": "mlx_lm", "torch": "torch", "llamacpp": "xllamacpp"}


@pytest.fixture(scope="module", params=NEEDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip(NEEDS[request.param])
    folder = tmp_path_factory.mktemp("engines")
    options: dict[str, Any] = {"dtype": "float32"}
    if request.param == "llamacpp":
        options = {"gguf_type": "f32", "to_gguf": gguf_conversions()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return open_engine(request.param, str(tiny_model("llama", folder)), **options)


@pytest.fixture(scope="module")
def prompts(engine: Any) -> list[Prompt]:
    return [engine.prompt(conversation(text)) for text in COMMANDS]


def test_an_engine_without_adapter(engine: Any) -> None:
    assert not engine.has_adapter
    engine.use_adapter(False)
    with pytest.raises(UserError, match="no adapter to switch on"):
        engine.use_adapter(True)
    assert engine.generate([], Decoding()) == []
    assert engine.logprobs([], []) == []
    facts = engine.facts()
    assert facts.engine in NEEDS
    assert (facts.adapter, facts.dtype.lower()) in [(None, "float32"), (None, "f32")]


def test_constrained_answers_parse_and_free_ones_do_not(engine: Any, prompts: list[Prompt]) -> None:
    asked = [engine.prompt(date_keys.messages(text)) for text in COMMANDS]
    grammar = Grammar("lark", date_keys.grammar())
    seen: set[str] = set()
    for temperature in (0.0, 50.0):
        decoding = Decoding(max_tokens=200, grammar=grammar, temperature=temperature, batch_size=3)
        for answer in engine.generate(asked, decoding):
            assert answer.finished
            date_keys.parse(answer.text)
            seen.add(answer.text)
    assert len(seen) > 3
    for answer in engine.generate(asked, Decoding(max_tokens=20)):
        with pytest.raises(ValueError):
            date_keys.parse(answer.text)


def test_sampling_is_seeded_and_does_not_depend_on_the_batch(
    engine: Any, prompts: list[Prompt]
) -> None:
    def draw(seed: int, batch_size: int, temperature: float = 1.0) -> list[tuple[int, ...]]:
        decoding = Decoding(max_tokens=8, temperature=temperature, seed=seed, batch_size=batch_size)
        return [answer.tokens for answer in engine.generate(prompts, decoding)]

    first = draw(1, 64)
    assert draw(1, 2) == first
    assert draw(2, 64) != first
    assert draw(1, 64, temperature=0) != first


def test_progress_counts_and_time_is_told(engine: Any, prompts: list[Prompt]) -> None:
    seen: list[tuple[int, int]] = []
    decoding = Decoding(max_tokens=4, batch_size=3)
    answers = engine.generate(prompts, decoding, lambda *at: seen.append(at))
    if engine.facts().engine == "llamacpp":
        assert seen == [(n, 7) for n in range(1, 8)]
    else:
        assert seen == [(3, 7), (6, 7), (7, 7)]
    assert all(0 < answer.seconds < PATIENCE and 1 <= answer.count <= 4 for answer in answers)
    assert all(answer.finished == (len(answer.tokens) < answer.count) for answer in answers)


def test_streamed_pieces_make_the_answer(engine: Any, prompts: list[Prompt]) -> None:
    pieces: list[str] = []
    answer = engine.stream(prompts[1], Decoding(max_tokens=30), pieces.append)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 3
    assert answer.tokens == engine.generate([prompts[1]], Decoding(max_tokens=30))[0].tokens
