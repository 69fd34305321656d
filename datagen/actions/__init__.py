"""Training data for the skill actions: requests with the answers, tags and questions they deserve.

    splits = generate(seed=7)          # {"train": [...], "valid": [...], "test": [...]}

`train` holds the rows written by hand (seed.jsonl) and rows made from intents.txt, `valid` rows of
wordings, words and turns that training never sees; `test` is the hand-written validation set. The
same seed gives the same rows, and no scenario is more than a fifth of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datagen.actions.compose import SCENARIOS, Composer, Draft
from datagen.actions.intents import POOLS
from datagen.folder import apportion, index, refuse_leaks
from livery.errors import UserError, sentence
from livery.files import read_jsonl
from livery.skills import actions
from livery.skills.actions import policy, rows
from livery.skills.actions.policy import Breach
from livery.skills.actions.rows import ActionRow, read_row, to_chat, write_turns

NAME = "datagen.actions"
VERSION = "2"
FORM = (
    "these are rows of the skill actions; `livery data actions --rows FILE` checks them and writes "
    "them as chat rows to train on."
)
TRAIN_ROWS, VALID_ROWS = 12_000, 168
# Of all rows, at most so many are of one scenario; draws in a row that bring nothing new.
LARGEST, STALL = 0.2, 3_000

SEED = Path(__file__).parent / "seed.jsonl"
SETS = Path(actions.__file__).parent
# Only compared with, never read for anything else.
_SECOND = SETS / "second.jsonl"
_VALIDATION = SETS / "validation.jsonl"

Row = dict[str, Any]
_SPLIT = {"val": "valid"}


def generate(
    seed: int, count: int = TRAIN_ROWS, valid_count: int = VALID_ROWS
) -> dict[str, list[Row]]:
    """Rows by split: `count` for training, `valid_count` held out, and the hand-written test.

    Raises:
        UserError: there are not so many distinct rows, or a split gives another away.
    """
    test = by_hand(_VALIDATION, "test")
    closed = [_asked(row) for row in [*test, *by_hand(_SECOND, "test")]]
    valid = _made(seed, "valid", dict.fromkeys(SCENARIOS, 1.0), valid_count, closed, [])
    closed += [_asked(row) for row in valid]
    train = _made(seed, "train", SCENARIOS, count, closed, by_hand(SEED, "train"))
    splits = {
        "train": [_chat(row, seed) for row in train],
        "valid": [_chat(row, seed) for row in valid],
        "test": [_chat(row, seed) for row in test],
    }
    refuse_leaks(splits, _names())
    return splits


def by_hand(path: Path, split: str) -> list[ActionRow]:
    """The rows of a file written by hand, for one split."""
    return [replace(read_row(value), split=split) for _, value in read_jsonl(path)]


def _made(
    seed: int,
    split: str,
    shares: Mapping[str, float],
    count: int,
    closed: Sequence[str],
    first: Sequence[ActionRow],
) -> list[ActionRow]:
    """`count` different rows, none close to a `closed` text, shuffled.

    Args:
        first: rows that are taken before any is made.
    """
    rng = random.Random(f"{NAME} {VERSION} {split} {seed}")
    composer = Composer(rng, held_out=split == "valid")
    near = index(closed, _names()).closest
    seen: set[str] = set()
    made: dict[str, list[ActionRow]] = {scenario: [] for scenario in shares}
    ended: set[str] = set()
    wanted = apportion(shares, count)

    def fill(scenario: str, number: int) -> None:
        """Rows of a scenario up to a number, or until nothing new comes."""
        for row in [row for row in first if row.scenario == scenario]:
            if len(made[scenario]) < number and _asked(row) not in seen and not near(_asked(row)):
                seen.add(_asked(row))
                made[scenario].append(row)
        idle = 0
        while len(made[scenario]) < number and idle < STALL:
            draft = composer.draft(scenario)
            asked = write_turns(draft.turns)
            idle += 1
            if asked in seen or near(_said(draft.turns)):
                continue
            idle = 0
            seen.add(asked)
            made[scenario].append(_row(draft, scenario))
        if len(made[scenario]) < number:
            ended.add(scenario)

    for scenario, number in wanted.items():
        fill(scenario, number)
    # What the small scenarios lack, the others take over, as long as none grows too large.
    largest = max(1, int(LARGEST * count))
    while (missing := count - sum(map(len, made.values()))) > 0:
        open_ = [s for s in shares if s not in ended and len(made[s]) < largest]
        if not open_:
            have = count - missing
            raise UserError(
                f"The skill actions has {have:,} distinct rows for {split}, and {count:,} were "
                f"asked for. Ask for fewer: --count {have}."
            )
        for scenario, more in apportion({s: shares[s] for s in open_}, missing).items():
            fill(scenario, min(largest, len(made[scenario]) + more))
    taken = [row for of in made.values() for row in of]
    rng.shuffle(taken)
    return [
        replace(row, id=row.id or f"{split}-{n:05}", split=split)
        for n, row in enumerate(taken, start=1)
    ]


def is_row(raw: Mapping[str, Any]) -> bool:
    """Whether an object is meant as a row of actions: by its fields, or as chat with its risk."""
    return rows.is_row(raw) or rows.is_chat(raw)


def asked(raw: Mapping[str, Any]) -> str:
    """What the user says in a row of the fields; "" for any other."""
    return str(raw.get("user_input") or "?") if rows.is_row(raw) else ""


def check_row(raw: Mapping[str, Any]) -> list[Breach]:
    """What a row breaks: its fields and the policy (`livery.skills.actions.policy`)."""
    if "messages" not in raw:
        return policy.check_row(raw)
    if not rows.is_chat(raw):  # of the skill's folder, added by hand: its answer is parsed
        return []
    try:
        fields = rows.from_chat(raw)
    except ValueError as error:
        return [Breach("field", sentence(str(error)))]
    answer = str(raw["messages"][-1]["content"])
    if "```" in answer or "~~~" in answer:
        return [Breach("fence", "the answer holds a code fence; write its tags without one.")]
    return policy.check_row(fields)


def check_answer(messages: Sequence[Mapping[str, Any]], answer: str) -> list[Breach]:
    """What speaks against training on an answer that came from use: a tag that the guard blocks, or
    would ask about first."""
    if not policy.guard_is_there():
        return [Breach("guard", f"its risk cannot be judged: {notes()[0].partition(': ')[2]}")]
    from livery.skills.actions.guard import guard_reply

    _, to_confirm, blocked = guard_reply(messages, answer)
    return [
        *(Breach("critical-tag", f"never runs: {one.tag.content}") for one in blocked),
        *(Breach("high-tag", f"must be asked about first: {one.tag.content}")
          for one in to_confirm),
    ]  # fmt: skip


def notes() -> list[str]:
    """What a check could not look at."""
    if policy.guard_is_there():
        return []
    return ["the risk of commands was not checked: install the extra, pip install 'livery[shell]'."]


def from_rows(path: Path) -> dict[str, list[Row]]:
    """A user's own rows as chat, by the split that each names.

    Raises:
        UserError: a row breaks its form or the policy, or a split gives another away.
    """
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    wrong: list[str] = []
    for line, raw in read_jsonl(path):
        serious = [breach for breach in check_row(raw) if breach.serious]
        wrong += [f"{path}:{line}: {b.message} (rule {b.rule})" for b in serious]
        if not serious:
            row = read_row(raw)
            row = replace(row, split=_SPLIT.get(row.split, row.split))
            splits[row.split].append(
                to_chat(row, {"source": path.name, "provenance": f"line {line}"})
            )
    if wrong:
        more = f"\n... and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise UserError("\n".join(wrong[:20]) + more)
    if not splits["train"]:
        raise UserError(f"{path}: no row is of the split train, so there is nothing to train on.")
    refuse_leaks(splits)
    return {name: found for name, found in splits.items() if found}


def counts(made: Sequence[Row]) -> dict[str, int]:
    """Rows of each scenario."""
    return dict(sorted(Counter(row["meta"]["scenario"] for row in made).items()))


def _row(draft: Draft, scenario: str) -> ActionRow:
    return ActionRow(
        id="",
        split="",
        scenario=scenario,
        turns=draft.turns,
        answer=draft.answer,
        risk=draft.risk,
        requires_confirmation=draft.risk == "high" and draft.outcome == "confirmed"
        and not draft.answer.tags,
        should_block=draft.risk == "critical",
        outcome=draft.outcome,
        language=draft.language,
        shell=draft.shell,
        family=draft.family,
    )  # fmt: skip


def _chat(row: ActionRow, seed: int) -> Row:
    if row.family:
        made = {"source": "generated", "provenance": f"{NAME} {VERSION} seed {seed}"}
        return to_chat(row, {**made, "family": row.family})
    return to_chat(row, {"source": "hand-written", "provenance": f"{NAME} {VERSION}"})


def _asked(row: ActionRow) -> str:
    return _said(row.turns)


def _said(turns: Sequence[str]) -> str:
    """All that the user says, as the leak check reads it."""
    return "\n".join(turns[::2])


def _names() -> Iterator[str]:
    """Single words that stand for others of their kind: apps, files, folders and the like."""
    for name in ("app", "file", "text", "folder", "dir", "branch", "process", "ext", "noun"):
        yield from (word.said for word in POOLS[name] if word.said.isalpha())
