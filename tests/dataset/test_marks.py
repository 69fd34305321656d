"""Answers found by counting added tokens are those that the account of characters gives.

The plain twin is the same encoder without `Marks`: every text is tokenized with the account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from livery.dataset import encode as encoding
from livery.dataset.conversation import Row, RowError
from livery.dataset.encode import Encoded, encode_batches
from livery.dataset.rows import read_row
from livery.dataset.template import ChatTemplate
from livery.dataset.tokens import Marks
from livery.errors import UserError
from tests.dataset.templates import FAMILIES, TOOLS, tokenizer, trl_templates

VENDORS = {n: s for n, s in trl_templates().items() if "_training" not in n}
TEXTS = (
    "hello", " two  spaces ", "naïve ＜|im_end|＞ ﬁ ½", "<|im_end|>", "a<|im_start|>b<|im_end|>\n",
    "<think>\nwhy\n</think>\n\nso", "<|im_end|>!", "数字 12 🙂", "\n\nline\n", "<|bos|><|user|>",
)  # fmt: skip


def rows() -> list[Row]:
    """Each text asked and answered, with and without a system prompt, in turns, with a call."""
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Ulm"}}}
    made: list[Any] = [{"text": "plain text"}, {"prompt": "ask", "completion": "tell"}]
    for at, text in enumerate(TEXTS):
        asked = {"role": "user", "content": text}
        answered = {"role": "assistant", "content": TEXTS[-1 - at]}
        made.append({"messages": [asked, answered]})
        made.append({"messages": [{"role": "system", "content": text}, asked, answered]})
        made.append({"messages": [asked, answered, asked, {**answered, "content": "done"}]})
        made.append({"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]},
                                  {"role": "tool", "content": text}, answered],
                     "tools": TOOLS})  # fmt: skip
    found: list[Row] = []
    for at, row in enumerate(made):
        try:
            found.append(read_row(row, f"row {at}"))
        except RowError:
            continue
    return found


def plain(some: Sequence[Row], chat: ChatTemplate, **how: Any) -> list[Encoded]:
    """As `encode_batches`, every character accounted for."""

    class Unused(Marks):
        def __init__(self, chat: ChatTemplate) -> None:
            super().__init__(chat)
            self.usable = False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "Marks", Unused)
        return next(encode_batches([some], chat, **how))


def told(encoded: Callable[[], list[Encoded]]) -> list[Encoded] | str:
    """What is encoded, or what the user is told instead."""
    try:
        return encoded()
    except UserError as error:
        return str(error)


def same(one: Sequence[Encoded], other: Sequence[Encoded]) -> None:
    for a, b in zip(one, other, strict=True):
        assert replace(a, examples=()) == replace(b, examples=())
        assert [e.tokens.tolist() for e in a.examples] == [e.tokens.tolist() for e in b.examples]
        assert [e.supervised.tolist() for e in a.examples] == [
            e.supervised.tolist() for e in b.examples
        ]
        assert [e.where for e in a.examples] == [e.where for e in b.examples]


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "legacy"])
@pytest.mark.parametrize("name", sorted({**FAMILIES, **VENDORS}))
def test_counting_finds_what_the_account_of_characters_finds(name: str, kind: str) -> None:
    chat = ChatTemplate(tokenizer({**FAMILIES, **VENDORS}[name], kind=kind))
    some = rows()
    want = told(lambda: plain(some, chat))
    got = told(lambda: next(encode_batches([some], chat)))
    if isinstance(want, str) or isinstance(got, str):
        assert got == want
    else:
        same(got, want)


words = st.lists(st.sampled_from([*TEXTS, "a", " ", "\n", "|", "<|im_", "end|>"]), max_size=5)


@pytest.mark.slow
@given(turns=st.lists(words.map("".join), min_size=2, max_size=6))
def test_any_text_is_counted_as_it_is_accounted_for(turns: list[str]) -> None:
    made = tokenizer("chatml")
    # One that swallows another: the text then holds one more than its tokens.
    made.add_tokens([AddedToken("<|im_end|>!", special=True, normalized=False)])
    chat = ChatTemplate(made)
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    try:
        row = read_row({"messages": messages}, "here")
    except RowError:
        return
    same(next(encode_batches([[row]], chat)), plain([row], chat))


def test_no_account_is_asked_for_where_counting_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ChatTemplate(tokenizer("chatml"))
    row = read_row({"prompt": "a <|im_end|> b", "completion": "c"}, "here")

    def refused(*_: Any) -> Any:
        raise AssertionError("accounted for")

    monkeypatch.setattr("livery.dataset.encode._Encoder._accounted", refused)
    (found,) = next(encode_batches([[row]], chat))
    assert len(found.examples) == 1


def test_a_tokenizer_that_is_more_than_its_library_is_called() -> None:
    other = tokenizer("chatml")
    assert Marks(ChatTemplate(other)).usable

    class Lower(PreTrainedTokenizerFast):
        def _encode_plus(self, text: Any, *given: Any, **how: Any) -> Any:
            low = text.lower() if isinstance(text, str) else [one.lower() for one in text]
            return super()._encode_plus(low, *given, **how)

    other.__class__ = Lower
    chat = ChatTemplate(other)
    assert not Marks(chat).usable
    row = read_row({"prompt": "ASK", "completion": "TELL"}, "here")
    (found,) = next(encode_batches([[row]], chat))
    assert "tell" in other.decode(found.examples[0].tokens)


def test_marks_that_a_text_and_its_tokens_do_not_share_are_not_counted() -> None:
    chat = ChatTemplate(tokenizer("chatml"))
    marks = Marks(chat)
    text = "<|im_start|>user\na<|im_end|>\n"
    (ids,) = marks.tokens([text])
    assert ids == chat.ids(text)
    places = marks.places(text, ids)
    assert places == {0: 0, text.index("<|im_end|>"): ids.index(chat.end)}
    assert marks.places(text, ids[1:]) is None
    assert marks.places("a" + text + "<|im_end|>", ids) is None
