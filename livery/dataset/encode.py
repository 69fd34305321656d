"""Conversations -> token ids and supervised spans, checked against the model's own template.

What is supervised is read off the template's rendering: the tokens that stand between the rendering
of the turns before an answer (with the generation prompt) and the rendering that ends with it. A
template under which the first is no prefix of the second cannot be trained exactly, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from livery.dataset.conversation import Message, Pair, Row, Text
from livery.dataset.rows import nothing_to_learn, read_row
from livery.dataset.template import end_of_turn, render, require_template, token_ids
from livery.errors import UserError
from livery.plan import Example


def encode_row(
    row: dict[str, Any], tokenizer: Any, where: str, *, mask_prompt: bool = True
) -> list[Example]:
    """A row as examples; empty where the row has an empty answer.

    Texts of prompt and completion become a user's and an assistant's turn where the tokenizer has a
    template, as mlx-lm does it, and are joined as they are where it has none.

    Raises:
        UserError: the row is malformed or the template does not keep the prompt as a prefix.
    """
    return encode(read_row(row, where), tokenizer, mask_prompt=mask_prompt)


def encode(row: Row, tokenizer: Any, *, mask_prompt: bool = True) -> list[Example]:
    """What a row says, as examples; empty where there is nothing to learn in it."""
    if nothing_to_learn(row):
        return []
    if isinstance(row, Text):
        return [_whole_text(row.text, tokenizer, row.where)]
    if isinstance(row, Pair):
        if not tokenizer.chat_template:
            prompt = "\n".join(filter(None, (row.system, row.prompt)))
            return [_plain_pair(prompt, row.completion, tokenizer, row.where, mask_prompt)]
        messages = [
            {"role": "user", "content": row.prompt},
            {"role": "assistant", "content": row.completion},
        ]
        if row.system:
            messages.insert(0, {"role": "system", "content": row.system})
        return encode_messages(messages, tokenizer, row.where, mask_prompt=mask_prompt)
    return encode_messages(
        row.messages, tokenizer, row.where, mask_prompt=mask_prompt, learn=row.learn
    )


def encode_messages(
    messages: Sequence[Message],
    tokenizer: Any,
    where: str,
    *,
    mask_prompt: bool = True,
    learn: Sequence[bool] | None = None,
) -> list[Example]:
    """A conversation as one example that supervises every assistant turn, or those of `learn`.

    Some templates render an earlier turn differently once another follows it (they drop its
    reasoning, say). Then each assistant turn becomes an example of its own, which is exact, and
    cheap since the examples share their prompt.

    Raises:
        UserError: see the module's first lines.
    """
    require_template(tokenizer, where)
    turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    turns = [i for i in turns if learn is None or learn[i]]
    if not turns:
        raise UserError(f"{where}: no assistant turn to learn from.")
    if any(not _has_content(messages[i]) for i in turns):
        return []
    spans = [_answer_span(messages, i, tokenizer, where) for i in turns]
    last_tokens = spans[-1][0]
    if all(tokens == last_tokens[: len(tokens)] for tokens, _, _ in spans[:-1]):
        mask = np.zeros(len(last_tokens), dtype=bool)
        for _, start, stop in spans:
            mask[start:stop] = True
        if not mask_prompt:
            mask[1:] = True
        return [Example(np.asarray(last_tokens, np.int32), mask, where)]
    examples: list[Example] = []
    for tokens, start, stop in spans:
        mask = np.zeros(len(tokens), dtype=bool)
        mask[1 if not mask_prompt else start : stop] = True
        examples.append(Example(np.asarray(tokens, np.int32), mask, where))
    return examples


def _answer_span(
    messages: Sequence[Message], turn: int, tokenizer: Any, where: str
) -> tuple[list[int], int, int]:
    """(tokens up to the end of the answer's turn, first answer token, one past the last)."""
    prompt = token_ids(tokenizer, render(messages[:turn], tokenizer, generate=True))
    whole = token_ids(tokenizer, render(messages[: turn + 1], tokenizer, generate=False))
    if whole[: len(prompt)] != prompt:
        raise UserError(
            f"{where}: under this model's chat template the prompt's tokens are not the beginning "
            "of the conversation's, so what the model would see when it answers is not what it "
            "would be trained on. Give another template with --chat-template."
        )
    stop = end_of_turn(tokenizer)
    end = len(whole)
    while end > len(prompt) and whole[end - 1] != stop:
        end -= 1
    if end == len(prompt):
        raise UserError(
            f"{where}: the answer's turn does not end with {tokenizer.decode([stop])!r}."
        )
    return whole[:end], len(prompt), end


def _plain_pair(
    prompt: str, completion: str, tokenizer: Any, where: str, mask_prompt: bool
) -> Example:
    if tokenizer.eos_token_id is None:
        raise UserError(f"{where}: the tokenizer has no end token; give a --chat-template.")
    head = tokenizer(prompt)["input_ids"]
    tokens = [*head, *token_ids(tokenizer, completion), int(tokenizer.eos_token_id)]
    mask = np.zeros(len(tokens), dtype=bool)
    mask[max(1, len(head)) if mask_prompt else 1 :] = True
    return Example(np.asarray(tokens, np.int32), mask, where)


def _whole_text(text: str, tokenizer: Any, where: str) -> Example:
    tokens = list(tokenizer(text)["input_ids"])
    if tokenizer.eos_token_id is not None and tokens[-1] != tokenizer.eos_token_id:
        tokens.append(int(tokenizer.eos_token_id))
    mask = np.ones(len(tokens), dtype=bool)
    mask[0] = False  # nothing predicts the first token
    return Example(np.asarray(tokens, np.int32), mask, where)


def _has_content(turn: Message) -> bool:
    return bool((turn.get("content") or "").strip() or turn.get("tool_calls"))
