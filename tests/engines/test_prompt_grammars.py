"""A prompt's own grammar goes before the decoding's, in every engine and beside prompts without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from livery.engines.constrain import TokenMasks, checker
from livery.engines.engine import Decoding, Grammar, open_engine
from livery.errors import UserError
from tests.tiny_models import tiny_model

DIGITS, LETTERS = Grammar("regex", "[0-9]{4}"), Grammar("lark", 'start: "ab" | "cd"')


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("grammars"))


@pytest.fixture(scope="module", params=["mlx", "torch", "llamacpp"])
def engine(request: pytest.FixtureRequest, model: Path) -> Any:
    needed = {"mlx": "mlx.core", "torch": "torch", "llamacpp": "xllamacpp"}[request.param]
    pytest.importorskip(needed)
    if request.param != "llamacpp":
        return open_engine(request.param, str(model))
    from convert.gguf.convert import convert_model

    path = model.parent / "model.gguf"
    convert_model(model, path, "f32")
    return open_engine("llamacpp", str(path), tokenizer=str(model))


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_each_answer_keeps_to_its_own_grammar(engine: Any, temperature: float) -> None:
    asked = [engine.prompt([{"role": "user", "content": f"question {n}"}]) for n in range(5)]
    own = [DIGITS, None, LETTERS, None, DIGITS]
    asked = [dataclasses.replace(p, grammar=g) for p, g in zip(asked, own, strict=True)]
    free = Decoding(max_tokens=12, temperature=temperature, batch_size=5)
    found = engine.generate(asked, free)
    for answer, grammar in zip(found, own, strict=True):
        if grammar is not None:
            assert answer.finished
            assert not checker(grammar)(answer.text)
    # Those without one are as free as on their own.
    alone = [dataclasses.replace(p, grammar=None) for p in asked]
    plain = engine.generate(alone, free)
    assert [found[n].tokens for n in (1, 3)] == [plain[n].tokens for n in (1, 3)]
    held = engine.generate(asked, dataclasses.replace(free, grammar=LETTERS))
    assert {held[1].text, held[3].text} <= {"ab", "cd"}
    assert [held[n].text for n in (0, 2, 4)] == [found[n].text for n in (0, 2, 4)]


def test_an_endpoint_is_refused_a_prompts_own_grammar() -> None:
    engine = open_engine("http", "m", url="http://127.0.0.1:9/v1")
    asked = engine.prompt([{"role": "user", "content": "x"}])
    with pytest.raises(UserError, match="cannot hold an endpoint to a grammar"):
        engine.generate([dataclasses.replace(asked, grammar=DIGITS)], Decoding())


def test_compiled_grammars_do_not_pile_up(model: Path) -> None:
    from transformers import AutoTokenizer

    masks = TokenMasks(AutoTokenizer.from_pretrained(str(model)), 512, [2])
    for number in range(200):
        [row] = masks.start(Grammar("regex", str(number)), 1)
        assert not row.accepting
    assert len(masks.compiled) <= 64
    assert masks.allowed([None])[0].all()


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (DIGITS, ["1234"], ["123", "12345", "12é4", ""]),
        (LETTERS, ["ab", "cd"], ["ad", "AB", "ab "]),
        (Grammar("json_schema", '{"enum": ["é", 3]}'), ['"é"', "3"], ['"e"', " 3", '"é']),
    ],
)
def test_a_grammar_is_asked_without_a_model(
    grammar: Grammar, good: list[str], bad: list[str]
) -> None:
    refused = checker(grammar)
    assert not any(map(refused, good))
    assert all(map(refused, bad))
    with pytest.raises(UserError, match="grammar is faulty"):
        checker(Grammar("lark", "start: ("))
