"""What every engine over tokens keeps to, asked of each on one tiny model."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.engine_files import gguf_conversions
from livery.dataset.template import load_chat
from livery.engines.engine import Decoding, Enough, Grammar, Prompt, open_engine
from livery.engines.folders import end_tokens
from livery.engines.token_engine import on_base
from livery.errors import UserError
from livery.skills import date_keys
from tests import PATIENCE
from tests.engines.asked import COMMANDS, conversation
from tests.engines.libraries import ADAPTER, ANSWERS, peft_adapter
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


# -- with an adapter -----------------------------------------------------------------------------

# A tied random model says its last token for ever; untied, what it says depends on the prompt.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"tie_word_embeddings": False},
    "gemma3": {"tie_word_embeddings": False, "sliding_window": 20},
    "mixtral": {},
    "mistral": {"sliding_window": 16},
    "gemma2": {"tie_word_embeddings": False},
}
# mlx-lm has no windows for mistral, and gemma2 takes no more there than gemma3 does.
TRIED = [("mlx", family) for family in (*FAMILIES,)[:4]] + [("torch", f) for f in FAMILIES]


def opened(name: str, base: Path, adapter: Path | None = None) -> Any:
    options = {"device": "cpu"} if name == "torch" else {}
    return open_engine(name, str(base), adapter and str(adapter), **options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), TRIED)
def test_batches_answer_as_the_library_does_one_at_a_time(
    name: str, family: str, root: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS[name])
    folder = tiny_model(family, root, **FAMILIES[family])
    adapter = ADAPTER[name](folder, tmp_path / "adapter")
    engine = opened(name, folder, adapter)
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
    assert min(len(prompt.tokens) for prompt in prompts) > 64
    expected = ANSWERS[name](folder, adapter, prompts, 24)
    for batch_size in (1, 3, 64):
        got = engine.generate(prompts, Decoding(max_tokens=24, batch_size=batch_size))
        assert [list(answer.tokens) for answer in got] == expected
    assert len({tuple(answer) for answer in expected}) > 3


@pytest.mark.parametrize(
    ("name", "family", "more"),
    [
        *((name, "llama", {"dora": dora}) for name in ADAPTER for dora in (False, True)),
        ("torch", "qwen2", {"bias": "all"}),  # PEFT writes them into the base's own layers
    ],
)
def test_switched_off_the_base_answers(
    name: str, family: str, more: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS[name])
    base = tiny_model(family, root)
    adapter = tmp_path / "run"
    ADAPTER[name](base, adapter / "mlx" if name == "mlx" else adapter, **more)
    engine, untouched = opened(name, base, adapter), opened(name, base)
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
    decoding = Decoding(max_tokens=12)
    tuned = engine.generate(prompts, decoding)
    engine.use_adapter(False)
    assert engine.facts().adapter is None
    answered = [a.tokens for a in engine.generate(prompts, decoding)]
    assert answered == [a.tokens for a in untouched.generate(prompts, decoding)]
    scores = engine.logprobs(prompts, ["no"] * len(prompts))
    for got, want in zip(scores, untouched.logprobs(prompts, ["no"] * len(prompts)), strict=True):
        np.testing.assert_array_equal(got, want)
    engine.use_adapter(True)
    assert engine.facts().adapter == str(adapter)
    again = engine.generate(prompts, decoding)
    assert [a.tokens for a in again] == [a.tokens for a in tuned]
    assert [a.tokens for a in again] != answered


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTER)
def test_adapters_take_turns_on_one_base(name: str, root: Path, tmp_path: Path) -> None:
    """Each answers as if it had a base of its own, in whatever order they are asked."""
    pytest.importorskip(NEEDS[name])
    base = tiny_model("llama", root)
    first = ADAPTER[name](base, tmp_path / "first")
    targets = ["q_proj", "down_proj"]
    keys = {"keys": ["self_attn.q_proj", "mlp.down_proj"]}
    second = ADAPTER[name](
        base, tmp_path / "second", dora=True,
        **(keys if name == "mlx" else {"target_modules": targets}),
    )  # fmt: skip
    prompts = [opened(name, base).prompt(conversation(text)) for text in COMMANDS[:3]]
    decoding = Decoding(max_tokens=12)

    def answers(engine: Any) -> list[tuple[int, ...]]:
        return [answer.tokens for answer in engine.generate(prompts, decoding)]

    alone = {None: answers(opened(name, base)), first: answers(opened(name, base, first)),
             second: answers(opened(name, base, second))}  # fmt: skip
    assert len({str(found) for found in alone.values()}) == 3
    module = importlib.import_module(f"livery.engines.{name}.engine")
    loaded = module.load_base(base, **({"device": "cpu"} if name == "torch" else {}))
    engines: dict[Path | None, Any] = {}
    for adapter in (first, None, second, first, second, None):
        for engine in engines.values():
            engine.use_adapter(False)
        if adapter not in engines:
            runtime = module.Runtime(loaded, adapter and str(adapter))
            words = (runtime.config, str(base), adapter and str(adapter))
            engines[adapter] = on_base(runtime, *words)
        engines[adapter].use_adapter(adapter is not None)
        assert answers(engines[adapter]) == alone[adapter]


@pytest.mark.slow
def test_a_base_of_the_hub_brings_its_ends_too(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--nobody--tiny" / "snapshots" / "0"
    shutil.copytree(tiny_model("llama", root), snapshot)
    chat = load_chat(snapshot)
    (snapshot / "generation_config.json").write_text(json.dumps({"eos_token_id": [chat.end, 7]}))
    assert end_tokens(chat, {}, "nobody/tiny")[-1] == 7


@pytest.mark.parametrize("name", ADAPTER)
def test_who_has_heard_enough_ends_an_answer(name: str, root: Path) -> None:
    pytest.importorskip(NEEDS[name])
    engine = opened(name, tiny_model("llama", root))
    prompt = engine.prompt(conversation(COMMANDS[0]))
    [whole] = engine.generate([prompt], Decoding(max_tokens=32))
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        if len(heard) == 3:
            raise Enough

    found = engine.stream(prompt, Decoding(max_tokens=32), hear)
    assert not found.finished
    assert found.text == "".join(heard)
    assert len(found.tokens) == found.count < whole.count
    assert found.tokens == whole.tokens[: found.count]


def test_engines_answer_alike_with_one_adapter(root: Path, tmp_path: Path) -> None:
    """One adapter folder, two runtimes: the same answers and log-probabilities."""
    for needed in (*NEEDS.values(), "peft"):
        pytest.importorskip(needed)
    from convert.adapters.formats import read_adapter, write_adapter

    base = tiny_model("llama", root)
    adapter = peft_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    write_adapter(read_adapter(adapter), adapter / "mlx", "mlx")
    engines = [opened(name, base, adapter) for name in ADAPTER]
    prompts = [engines[0].prompt(conversation(text)) for text in COMMANDS]
    got = [[a.tokens for a in e.generate(prompts, Decoding(max_tokens=12))] for e in engines]
    assert got[0] == got[1]
    scores = [e.logprobs(prompts, COMMANDS) for e in engines]
    for ours, theirs in zip(*scores, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
