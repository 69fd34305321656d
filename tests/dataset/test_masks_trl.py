"""What is learned is what TRL's own training templates mark, for every family that it carries.

TRL's templates put {% generation %} around the assistant's text. Two differences are meant: the
white space behind the token that ends a turn is not learned, since no model is asked for it; and
what a prompt already holds (<think>, where the template opens it) is not, since the model does not
write it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from livery.dataset.conversation import Conversation
from livery.dataset.encode import encode
from livery.dataset.template import ChatTemplate
from tests.dataset.templates import tokenizer, trl_templates

TRAINING = {k: v for k, v in trl_templates().items() if k.endswith("_training")}
ROWS = {
    "one answer": ("What is two plus two?", "It is four."),
    "two answers": ("What is two plus two?", "It is four.", "And three?", "Then five, or so."),
}


@pytest.mark.skipif(not TRAINING, reason="trl is not installed")
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", TRAINING)
def test_learned_tokens_are_those_that_trl_marks(name: str, row: str) -> None:
    source = TRAINING[name]
    made = ChatTemplate(with_tokens_of(source))
    messages = [
        {"role": ("user", "assistant")[at % 2], "content": text}
        for at, text in enumerate(ROWS[row])
    ]
    learn = tuple(m["role"] == "assistant" for m in messages)
    found = encode(Conversation("x", tuple(messages), learn), made)
    assert not found.dropped, found.dropped
    content = (lambda t: [{"type": "text", "text": t}]) if made.wants_parts else (lambda t: t)
    theirs = made.tokenizer.apply_chat_template(
        [{**m, "content": content(m["content"])} for m in messages],
        return_dict=True, return_assistant_tokens_mask=True,
    )  # fmt: skip
    # Letter by letter: where a token would span the seam, ours are two.
    text, marked = letters(made, theirs["input_ids"], theirs["assistant_masks"])
    learned = [False] * len(text)
    answers = behind = 0
    for example in found.examples:
        ours, mask = letters(made, example.tokens.tolist(), example.supervised.tolist())
        answers += example.supervised[-1]
        if "<think>" in ours and "<think>" not in text:
            # DeepSeek: prompts open a block that its written turns lack.
            block = re.search(r"<think>\s*</think>\s*", ours)
            assert block is not None
            ours = ours[: block.start()] + ours[block.end() :]
            mask = mask[: block.start()] + mask[block.end() :]
        if "<think>\n</think>" in ours:  # Nemotron: opened with a line break, written without
            at = ours.index("\n</think>")
            ours, mask = ours[:at] + ours[at + 1 :], mask[:at] + mask[at + 1 :]
        # gpt-oss ends its last turn otherwise than the others.
        body = len(ours) - len(made.end_text)
        assert text.startswith(ours[:body])
        assert len(text) >= len(ours) - 4
        same = text.startswith(ours)
        end = len(ours) if same else text.find(">", body) + 1
        for at in range(end):
            learned[at] = learned[at] or (mask[at] if at < body or same else True)
        behind = len(ours)
    assert answers >= len(found.examples)
    asked = held_by_prompts(made, messages, text)
    for at, letter in enumerate(text):
        if learned[at] and not marked[at]:
            raise AssertionError(f"{text[at : at + 20]!r} is learned and not marked")
        if marked[at] and not learned[at] and at not in asked and at < behind:
            assert letter.isspace(), f"{text[at - 9 : at + 20]!r} is marked and not learned"
    assert all(any(learned[at] for at in spans(text, m["content"])) for m in messages[1::2])


def spans(text: str, part: str) -> range:
    at = text.rfind(part)
    return range(at, at + len(part))


def letters(made: ChatTemplate, tokens: list[int], mask: list[Any]) -> tuple[str, list[bool]]:
    """A text and its mask, letter by letter."""
    pieces = [made.tokenizer.decode([token]) for token in tokens]
    flags = [bool(on) for piece, on in zip(pieces, mask, strict=True) for _ in piece]
    return "".join(pieces), flags


def held_by_prompts(made: ChatTemplate, messages: list[dict[str, Any]], text: str) -> set[int]:
    """Places of the letters that open an answer in its prompt."""
    found: set[int] = set()
    for at in range(1, len(messages), 2):
        asked = text.find(messages[at - 1]["content"]) + len(messages[at - 1]["content"])
        prompt = made.render(messages[:at], generate=True)
        opening = prompt[prompt.rfind(messages[at - 1]["content"]) :]
        opening = opening[len(messages[at - 1]["content"]) :]
        found |= set(range(asked, asked + len(opening)))
    return found


_TOKENS = r"<[|｜][^<>\s'\"|｜]+[|｜]>|</?[a-z_]+>|<[a-z_]+\|>|\[/?[A-Z_]+\]"
_ENDS = (
    "<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<｜end▁of▁sentence｜>", "<|return|>",
    "<|END_OF_TURN_TOKEN|>", "<turn|>", "<|end|>", "<end_of_utterance>",
)  # fmt: skip


def with_tokens_of(source: str) -> Any:
    """A tokenizer that knows the control tokens in a template's text."""
    written = set(re.findall(_TOKENS, source))
    made = tokenizer(None, eos="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": sorted(written)})
    end = next((token for token in _ENDS if token in written), None)
    if end:
        made.eos_token = end
    made.chat_template = source
    return made
