"""What the engine's process does, in this one: adapters that take turns, and calls of tools."""

from __future__ import annotations

import io
import json
import queue
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from livery.engines.engine import Decoding, Generation, Prompt
from livery.engines.token_engine import TokenEngine
from livery.serve.answers.child import Answers, Turns
from livery.serve.answers.engines import KEPT, PACKAGES, Engines
from livery.serve.answers.question import Answer, NoAnswer, Question
from tests.engines.asked import COMMANDS, conversation
from tests.engines.libraries import ADAPTER
from tests.tiny_models import tiny_model


def add_adapter(name: str, base: Path, folder: Path, **changes: Any) -> str:
    """An adapter in the form that an engine takes, which says what its base is."""
    ADAPTER[name](base, folder, **changes)
    record = {"settings": {"model": str(base), "data": "", "quantize": None}}
    (folder / "run_config.json").write_text(json.dumps(record))
    return str(folder)


def asking(adapter: str | None, tuned: bool = True, max_tokens: int = 12, **more: Any) -> Question:
    turns = (*conversation(COMMANDS[0]),)
    return Question(turns, adapter, tuned, max_tokens=max_tokens, **more)


def ask(answers: Answers, adapter: str | None, tuned: bool = True, **more: Any) -> Answer:
    question = asking(adapter, tuned, **more)
    return told(answers.begin(question, lambda: False))[1]


def told(running: Generator[str, None, Answer]) -> tuple[list[str], Answer]:
    """An answer with its pieces."""
    shown: list[str] = []
    while True:
        try:
            shown.append(next(running))
        except StopIteration as ended:
            return shown, ended.value


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_the_base_is_loaded_once_for_all_of_its_adapters(
    name: str, root: Path, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[name])
    base = tiny_model("llama", root)
    keys = {"keys": ["mlp.down_proj"]} if name == "mlx" else {"target_modules": ["down_proj"]}
    first = add_adapter(name, base, tmp_path / "first")
    second = add_adapter(name, base, tmp_path / "second", **keys)
    answers = Answers(name)
    asked = [(first, True), (first, False), (second, True), (first, True), (second, False),
             (second, True)]  # fmt: skip
    found = [ask(answers, adapter, tuned).text for adapter, tuned in asked]
    assert answers.engines is not None
    assert answers.engines.loads == 1
    alone = {which: ask(Answers(name), *which).text for which in set(asked)}
    assert found == [alone[which] for which in asked]
    assert len(set(alone.values())) == 3
    # The base alone is the same base; another base takes its place.
    assert ask(answers, None, model=str(base)).text == alone[first, False]
    assert answers.engines.loads == 1
    ask(answers, None, model=str(tiny_model("llama", root, seed=4)))
    assert answers.engines.loads == 2


def in_turns(answers: Answers, questions: list[Question]) -> tuple[list[int], dict[int, str]]:
    """(whose each piece was, in order; the answers) of questions that come at once."""
    asked: queue.SimpleQueue[tuple[int, Question]] = queue.SimpleQueue()
    for one in enumerate(questions):
        asked.put(one)
    channel = io.StringIO()
    turns = Turns(answers, asked, set(), channel)
    said: list[dict[str, Any]] = []
    while sum("answer" in one for one in said) < len(questions):
        turns.take()
        said = [json.loads(line) for line in channel.getvalue().splitlines()]
    whole = {one["id"]: one["answer"]["text"] for one in said if "answer" in one}
    for number, text in whole.items():
        assert text == "".join(one.get("text", "") for one in said if one["id"] == number)
    return [one["id"] for one in said if "text" in one], whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_answers_take_turns_and_are_as_if_alone(name: str, root: Path, tmp_path: Path) -> None:
    """The adapter is switched between the tokens of one answer, and never acts in another."""
    pytest.importorskip(PACKAGES[name])
    base = tiny_model("llama", root)
    keys = {"keys": ["mlp.down_proj"]} if name == "mlx" else {"target_modules": ["down_proj"]}
    first = add_adapter(name, base, tmp_path / "first")
    second = add_adapter(name, base, tmp_path / "second", **keys)
    questions = [
        asking(first, False), asking(first), asking(second, max_tokens=5), asking(second, False),
        asking(first, temperature=1.5, seed=3), asking(None, model=str(base)),
        asking(first, format={"type": "json_object"}),
    ]  # fmt: skip
    by_itself = Answers(name)
    alone = {
        at: told(by_itself.begin(one, lambda: False))[1].text for at, one in enumerate(questions)
    }
    assert len(set(alone.values())) == 5
    answers = Answers(name)
    # Base and tuned of one adapter, which nobody has opened yet.
    order, found = in_turns(answers, questions[:2])
    assert found == {at: alone[at] for at in (0, 1)}
    assert order.index(1) < len(order) - 1 - order[::-1].index(0)
    # An adapter that has to be opened waits until the base is nobody's; then all go in turns.
    order, found = in_turns(answers, questions)
    assert found == alone
    assert order.index(2) > len(order) - 1 - order[::-1].index(0)
    order, found = in_turns(answers, questions)
    assert found == alone
    assert all(order.index(at) < len(order) - 1 - order[::-1].index(0) for at in found)
    # Another base never.
    other = asking(None, model=str(tiny_model("llama", root, seed=4)))
    order, found = in_turns(answers, [questions[0], other, questions[1]])
    assert (found[0], found[2]) == (alone[0], alone[1])
    assert order == sorted(order)


@pytest.mark.slow
def test_a_bounded_number_of_adapters_is_kept(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    base = tiny_model("llama", root)
    engines = Engines("mlx")
    opened = [
        engines.get(Question((), add_adapter("mlx", base, tmp_path / str(at))))
        for at in range(KEPT + 1)
    ]
    again = [engines.get(Question((), str(tmp_path / str(at)))) for at in (KEPT, 1, 0)]
    assert again[:2] == [opened[KEPT], opened[1]]
    assert again[2] is not opened[0]
    assert engines.loads == 1


@pytest.mark.slow
def test_an_adapter_that_changes_the_base_itself_leaves_no_trace(
    root: Path, tmp_path: Path
) -> None:
    """PEFT writes trained biases into the base's own layers."""
    pytest.importorskip("peft")
    base = tiny_model("qwen2", root)
    plain = add_adapter("torch", base, tmp_path / "plain")
    biased = add_adapter("torch", base, tmp_path / "biased", bias="all")
    answers = Answers("torch")
    expected = [ask(answers, plain, tuned).text for tuned in (True, False)]
    assert ask(answers, biased).text not in expected
    assert ask(answers, biased, tuned=False).text == expected[1]
    assert [ask(answers, plain, tuned).text for tuned in (True, False)] == expected
    assert answers.engines is not None
    assert answers.engines.loads == 1


@pytest.mark.slow
def test_an_adapter_that_was_put_on_half_leaves_no_trace(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    import mlx.core as mx

    base = tiny_model("llama", root)
    whole = add_adapter("mlx", base, tmp_path / "whole")
    part = add_adapter("mlx", base, tmp_path / "part", keys=["mlp.down_proj"])
    weights: Any = mx.load(f"{part}/adapters.safetensors")
    del weights[min(weights)]
    mx.save_safetensors(f"{part}/adapters.safetensors", weights)
    answers = Answers("mlx")
    expected = [ask(answers, whole, tuned).text for tuned in (True, False)]
    with pytest.raises(NoAnswer, match="lacks 1 of the") as error:
        ask(answers, part)
    assert error.value.why == "model"
    assert [ask(answers, whole, tuned).text for tuned in (True, False)] == expected


@pytest.mark.slow
def test_an_adapter_that_was_trained_anew_is_opened_anew(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    base = tiny_model("llama", root)
    adapter = add_adapter("mlx", base, tmp_path / "one")
    answers = Answers("mlx")
    before = ask(answers, adapter).text
    shutil.rmtree(adapter)
    add_adapter("mlx", base, tmp_path / "one", keys=["mlp.down_proj"])
    after = ask(answers, adapter).text
    assert after != before
    assert after == ask(Answers("mlx"), adapter).text
    assert answers.engines is not None
    assert answers.engines.loads == 1


@pytest.mark.slow
def test_llama_cpp_gets_its_files_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("peft")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = tiny_model("llama", root)
    adapter = add_adapter("torch", base, tmp_path / "one")
    answers, torch = Answers("llamacpp"), Answers("torch")
    for tuned in (True, False, True):
        assert ask(answers, adapter, tuned).text == ask(torch, adapter, tuned).text
    assert answers.engines is not None
    assert answers.engines.loads == 1
    with pytest.raises(NoAnswer, match="the model was made for") as error:
        ask(answers, adapter, max_tokens=9999)
    assert (error.value.why, error.value.key) == ("request", "max_tokens")


# -- calls of tools --------------------------------------------------------------------------------

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"name": "weather", "arguments": {"place": "Oslo"}}
SAID = f"Let me see.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>"


@pytest.mark.slow
@pytest.mark.parametrize("tools", [(TOOL,), ()])
def test_a_call_of_a_tool_is_taken_out_of_the_text(
    tools: tuple[dict[str, Any], ...], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tiny model calls tools, so its words are put in its mouth; all else is real."""
    pytest.importorskip("mlx_lm")
    base = tiny_model("llama", root)

    def pieces(
        self: TokenEngine, prompt: Prompt, decoding: Decoding
    ) -> Generator[str, None, Generation]:
        assert ("weather" in self.tokenizer.decode(prompt.tokens)) == bool(tools)
        for at in range(0, len(SAID), 5):
            yield SAID[at : at + 5]
        return Generation((), SAID, True, 0.1, 9)

    monkeypatch.setattr(TokenEngine, "pieces", pieces)
    question = Question(
        (*conversation("Weather in Oslo?"),), add_adapter("mlx", base, tmp_path / "one"),
        tools=tools,
    )  # fmt: skip
    record = json.loads((tmp_path / "one" / "run_config.json").read_text())
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    record["settings"]["chat_template"] = str(tmp_path / "template.jinja")
    (tmp_path / "one" / "run_config.json").write_text(json.dumps(record))
    shown, found = told(Answers("mlx").begin(question, lambda: False))
    if tools:
        assert (found.text, found.calls, found.reason) == ("Let me see.", [CALL], "tool_calls")
        assert "".join(shown).rstrip() == "Let me see."
    else:
        assert (found.text, found.calls, found.reason) == (SAID, [], "stop")
        assert "".join(shown) == SAID


@pytest.mark.slow
def test_tools_that_a_template_does_not_offer_are_refused(root: Path) -> None:
    pytest.importorskip("mlx_lm")
    question = Question((*conversation("x"),), model=str(tiny_model("llama", root)), tools=(TOOL,))
    with pytest.raises(NoAnswer, match="does not offer tools") as error:
        told(Answers("mlx").begin(question, lambda: False))
    assert (error.value.why, error.value.key) == ("request", "tools")
