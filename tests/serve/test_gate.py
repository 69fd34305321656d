"""What of a growing answer is shown, and calls of tools in the form of a model's own template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.dataset.template import ChatTemplate
from livery.engines.engine import Enough
from livery.serve.answers.calls import CallForm, call_form, read_calls
from livery.serve.answers.gate import Gate
from tests.tiny_models import tiny_model

PIECES = st.lists(st.text("abX<{ ", min_size=1, max_size=5), max_size=12)
STOPS = st.lists(st.text("abX<", min_size=1, max_size=4), max_size=3)


def heard(
    pieces: list[str], stops: list[str], opening: str | None = None
) -> tuple[list[str], Gate]:
    shown: list[str] = []
    gate = Gate(shown.append, stops, opening)
    try:
        for piece in pieces:
            gate.hear(piece)
    except Enough:
        pass
    return shown, gate


@given(PIECES, STOPS)
def test_a_stop_ends_the_answer_and_is_never_shown(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    shown, gate = heard(pieces, stops)
    assert not any(stop in "".join(shown) for stop in stops)
    gate.end()
    # The first stop that is whole ends it: what came with the same piece counts as the piece does.
    grown = ""
    for piece in pieces:
        grown += piece
        if found := [at for stop in stops if (at := grown.find(stop)) >= 0]:
            assert gate.stopped
            assert gate.text == "".join(shown) == whole[: min(found)]
            return
    assert not gate.stopped
    assert gate.text == "".join(shown) == whole


def test_text_is_shown_as_soon_as_it_can_be_no_stop() -> None:
    shown, _ = heard(["one ", "EN", "Gland ", "E"], ["END"])
    assert shown == ["one ", "ENGland "]


@given(PIECES)
def test_nothing_of_a_call_is_shown(pieces: list[str]) -> None:
    shown, gate = heard(pieces, [], "<a")
    assert "".join(shown) == gate.text.partition("<a")[0] or gate.text.endswith("<")
    shown, gate = heard(pieces, [], "")
    if gate.text.lstrip()[:1] == "{":
        assert not shown


TEMPLATES = {
    "hermes": (
        "<tool_call>\n{{ c.function | tojson }}\n</tool_call>",
        CallForm("<tool_call>", "</tool_call>", "name", "arguments"),
    ),
    "llama": (
        '{{ {"name": c.function.name, "parameters": c.function.arguments} | tojson }}',
        CallForm("", "", "name", "parameters"),
    ),
    "mistral": (
        "[TOOL_CALLS] [{{ c.function | tojson }}]",
        CallForm("[TOOL_CALLS]", "", "name", "arguments"),
    ),
    "none": ("", None),
    "not JSON": ("<call>{{ c.function.name }}</call>", None),
}


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model("llama", root))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_of_a_call_is_what_the_template_writes(name: str, tokenizer: Any) -> None:
    written, expected = TEMPLATES[name]
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}" + written + "{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = ChatTemplate(tokenizer)
    assert call_form(chat) == expected
    if expected is None:
        return
    call = {"name": "weather", "arguments": {"place": "Oslo", "days": [1, 2]}}
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": call}]},
    ]
    before = chat.render(turns[:1], generate=True)
    answer = chat.render(turns, generate=False)[len(before) :].removesuffix("<|im_end|>\n")
    assert read_calls(answer, expected) == ("", [call])


FORM = CallForm("<tool_call>", "</tool_call>", "name", "arguments")
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def test_calls_are_read_whole_or_left_as_text() -> None:
    one = {"name": "f", "arguments": {"a": 1}}
    assert read_calls(f"Let me see.\n{CALL}\n{CALL}", FORM) == ("Let me see.", [one, one])
    for text in (
        "no call at all {}", CALL[:-20], CALL.replace("1", "1,"), CALL + " and more",
        '<tool_call>\n{"name": 7, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": "a"}\n</tool_call>', "<tool_call>",
    ):  # fmt: skip
        assert read_calls(text, FORM) == (text, [])
    bare = CallForm("", "", "name", "parameters")
    said = json.dumps({"name": "f", "parameters": {"a": 1}})
    assert read_calls(f" {said}", bare)[1] == [one]
    assert read_calls(f"I say {said}", bare) == (f"I say {said}", [])
