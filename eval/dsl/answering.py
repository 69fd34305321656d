"""The student's answers, kept as they come: an evaluation that was killed goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.dsl.items import Item
from livery.engines.engine import Decoding, Engine, Prompt
from livery.errors import UserError
from livery.files import append_jsonl, explain_os_errors, read_kept, write_jsonl

# Of the longest target: a right answer may be put in more words, a lost one need not go on.
ROOM, SPARE = 1.5, 32
# Characters of compact JSON in a token, where the engine does not show its tokens.
FEWEST_CHARACTERS = 2.0


@dataclass(frozen=True)
class Answer:
    """What the student said.

    Attributes:
        finished: it ended by itself, within the limit.
    """

    raw: str
    finished: bool
    tokens: int


# What a line of a checkpoint holds.
_ANSWER = {"raw": str, "finished": bool, "tokens": int}


def longest_answer(engine: Engine, items: Sequence[Item]) -> int:
    """Tokens that an answer may have, by those of the targets."""
    texts = [item.case.expected_text for item in items]

    def size(text: str) -> int:
        return len(engine.prompt([{"role": "user", "content": text}]).tokens)

    longest = max(texts, key=len)
    if not size(longest):
        return round(ROOM * len(longest) / FEWEST_CHARACTERS) + SPARE
    some = sorted(texts, key=len)[-16:]  # what is longest in tokens is among the longest texts
    return round(ROOM * (max(map(size, some)) - size(""))) + SPARE


def answer(
    engine: Engine,
    items: Sequence[Item],
    decoding: Decoding,
    checkpoint: Path,
    made_from: Mapping[str, Any],
    *,
    constrained: bool = False,
    every: int = 64,
    resume: bool = True,
    longest: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Every item's answer, in their order.

    Args:
        checkpoint: file of the answers so far, made and continued.
        made_from: what decides the answers beside the items and the decoding.
        constrained: hold each to its own schema's grammar, where it has one.
        every: answers between two writes.
        longest: tokens of prompt and answer together; a longer row is refused, never cut.

    Raises:
        UserError: a row is too long, or the checkpoint cannot be written.
    """
    prompts = [engine.prompt(item.case.messages) for item in items]
    if constrained:
        prompts = [
            dataclasses.replace(prompt, grammar=item.case.grammar)
            for prompt, item in zip(prompts, items, strict=True)
        ]
    if longest is not None:
        _check_lengths(items, prompts, longest, decoding.max_tokens)
    key = _key(items, decoding, made_from, constrained, every)
    found = _read(checkpoint, key) if resume else []
    found = found[: len(found) // every * every if len(found) < len(items) else len(items)]
    with explain_os_errors(checkpoint, "keeping the answers"):
        # These answers alone, in place of what the file holds.
        write_jsonl(checkpoint, [{"made_from": key}, *map(dataclasses.asdict, found)])
        while len(found) < len(items):
            progress(len(found))
            start = len(found)
            # Each part draws as it would in an evaluation that was never stopped.
            own = dataclasses.replace(decoding, seed=decoding.seed + start)
            part = engine.generate(
                prompts[start : start + every],
                own,
                lambda done, _, start=start: progress(start + done),
            )
            more = [Answer(g.text, g.finished, g.count) for g in part]
            append_jsonl(checkpoint, map(dataclasses.asdict, more))
            found += more
    progress(len(found))
    return found


def _check_lengths(
    items: Sequence[Item], prompts: Sequence[Prompt], longest: int, room: int
) -> None:
    worst = max(range(len(items)), key=lambda at: len(prompts[at].tokens))
    size = len(prompts[worst].tokens)
    if size + room > longest:
        raise UserError(
            f"{items[worst].case.where or items[worst].case.id}: the prompt has {size:,} tokens "
            f"and its answer may have {room:,}, more than --max-seq-length {longest:,}. Nothing "
            "is cut: raise it, or leave out the row."
        )


def _key(
    items: Sequence[Item],
    decoding: Decoding,
    made_from: Mapping[str, Any],
    constrained: bool,
    every: int,
) -> str:
    said = [
        [list(item.case.messages) for item in items],
        decoding.max_tokens, decoding.temperature, decoding.top_p, decoding.seed,
        dict(made_from), constrained, every if decoding.temperature else 0,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path, key: str) -> list[Answer]:
    """The answers of a checkpoint; none where it is of another evaluation. A last line that was
    not written whole is left out."""
    found: list[Answer] = []
    for row in read_kept(path, {"made_from": key}):
        if {name: type(value) for name, value in row.items()} != _ANSWER:
            break
        found.append(Answer(**row))
    return found
