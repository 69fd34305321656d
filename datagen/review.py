"""Logged interactions looked through, one decision each, and the training rows they become.

    decide("interactions.jsonl", one, "correct", skill="persona", answer="It is Paris, sir.")
    rows, left_out = approved_rows("interactions.jsonl", "persona")

Decisions are appended to LOG.reviewed, so that a review goes on where it stopped; of several on one
interaction the last counts. An answer is approved only if the skill's contract takes it and no rule
of the skill's data is broken.
"""

from __future__ import annotations

import datetime
import getpass
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from datagen.policies import check_answer
from livery.errors import UserError, sentence, shown
from livery.interactions import PLACEHOLDER, Interaction, Redactor, read
from livery.interactions.log import append_line, lines
from livery.reading import parse_row
from livery.skills import AnswerError, find, get_skill

Choice = Literal["approve", "correct", "drop"]
CHOICES: tuple[str, ...] = get_args(Choice)
Row = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What somebody decided about an interaction.

    Attributes:
        choice: approve it as answered, correct it, or drop it.
        answer: the answer to train on; "" where it was dropped.
        by, at: who and when.
    """

    id: str
    choice: Choice
    answer: str = ""
    by: str = ""
    at: str = ""


def reviewed(log: str | Path) -> Path:
    """Where the decisions on a log are."""
    return Path(f"{log}.reviewed")


def decisions(log: str | Path) -> dict[str, Decision]:
    """The last decision on each interaction; lines that are none, such as one cut off, are not."""
    path = reviewed(log)
    found: dict[str, Decision] = {}
    if not path.exists():
        return found
    for number, raw in lines(path):
        try:
            row = parse_row(raw, path, number)
        except UserError:
            continue
        texts = [row.get(name) for name in ("id", "choice", "answer", "by", "at")]
        known = row.get("livery") == "decision" and row.get("choice") in CHOICES
        if known and all(isinstance(text, str) for text in texts):
            found[row["id"]] = Decision(*texts)  # pyright: ignore[reportArgumentType]
    return found


def answer_of(skill: str, one: Interaction, text: str) -> str:
    """An answer as the skill's data would have it, checked.

    Raises:
        UserError: the contract or a rule of the skill's data refuses it.
    """
    contract = get_skill(skill)
    try:
        written = contract.render(contract.parse(text))
    except (AnswerError, ValueError) as error:
        raise UserError(f"The answer breaks the contract of {contract.name}: {error}.") from None
    if PLACEHOLDER.search(written):
        raise UserError(
            "The answer holds what was redacted, such as [email 1]: correct or drop it."
        )
    for fault in check_answer(contract.name, one.messages, written):
        raise UserError(f"{sentence(fault.message)} (rule {fault.rule})")
    return written


def decide(
    log: str | Path,
    one: Interaction,
    choice: Choice,
    *,
    skill: str,
    answer: str = "",
    by: str = "",
) -> Decision:
    """Put a decision on file.

    Args:
        answer: the right one, where the choice is to correct.
        by: who decides; "" takes the user's name.

    Raises:
        UserError: the choice is none, the answer is refused, or the file cannot be written.
    """
    if choice not in CHOICES:
        raise UserError(f"{shown(choice, 40)!r} is no decision; there are {', '.join(CHOICES)}.")
    text = ""
    if choice != "drop":
        text = answer_of(skill, one, one.answer if choice == "approve" else Redactor().text(answer))
    made = Decision(one.id, choice, text, by or _user(), _now())
    row = {"livery": "decision", "format": 1, **vars(made)}
    append_line(reviewed(log), json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return made


def decide_marked(
    log: str | Path, one: Interaction, *, skill: str, by: str = ""
) -> Decision | None:
    """Decide as the user marked it: good is approved, corrected corrected, bad dropped; None for an
    interaction without a mark."""
    if one.mark is None:
        return None
    by = by or "the user's mark"
    if one.mark.corrected:
        return decide(log, one, "correct", skill=skill, answer=one.mark.corrected, by=by)
    return decide(log, one, "approve" if one.mark.verdict == "good" else "drop", skill=skill, by=by)


def of_skill(log: str | Path, skill: str) -> tuple[list[Interaction], tuple[str, ...]]:
    """(a skill's interactions, and those that name none; what of the log was left out)."""
    name, found = find(skill).name, read(log)
    mine = [one for one in found.interactions if _plain(one.skill) in ("", _plain(name))]
    others = sorted(
        {shown(one.skill, 60) for one in found.interactions} - {one.skill for one in mine}
    )
    said = (f"{shown(log)}: also holds interactions of {', '.join(others)}.",) if others else ()
    return mine, (*found.notes, *said)


def _plain(skill: str) -> str:
    """A skill's name as programs may write it: "my_skill" and "my_skill.py" are my-skill."""
    return Path(skill).name.removesuffix(".py").replace("_", "-")


def approved_rows(log: str | Path, skill: str) -> tuple[list[Row], list[str]]:
    """(training rows of what was approved, why others are left out).

    Raises:
        UserError: the log cannot be read.
    """
    decided = decisions(log)
    found, notes = of_skill(log, skill)
    rows: list[Row] = []
    left = list(notes)
    for one in found:
        decision = decided.get(one.id)
        if decision is None or decision.choice == "drop":
            continue
        try:
            answer = answer_of(skill, one, decision.answer)
        except UserError as error:  # the contract may have changed since
            left.append(f"{one.id}: {error}")
            continue
        rows.append(_row(one, decision, answer))
    return rows, left


def _row(one: Interaction, decision: Decision, answer: str) -> Row:
    return {
        "messages": [*one.messages, {"role": "assistant", "content": answer}],
        "meta": {
            "id": f"interaction-{one.id}", "split": "train", "scenario": "interaction",
            "source": "interaction",
            "provenance": f"interaction {one.id} of {one.at}, {decision.choice} by {decision.by} "
            f"at {decision.at}",
            "interaction": one.id, "decision": decision.choice, "by": decision.by,
            "at": decision.at, "redactions": dict(one.redactions), "facts": dict(one.facts),
        },
    }  # fmt: skip


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without names
        return "somebody"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
