"""The policy of actions: what an answer may carry at which risk, enforced on rows of data.

    check_row(row)          # [Breach("critical-tag", "risk_level is critical and ...")]

Critical never carries a tag; high warns, asks with the command and carries none until the user has
agreed to that very command; low and medium carry their tags at once; chat carries none. What a
command's risk is, the guard says, not the row.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livery.errors import sentence, shown
from livery.skills.actions.guard.yes import may_be_yes
from livery.skills.actions.rows import RISKS, ActionRow, pending, read_row
from livery.skills.actions.verbs import VERBS, Verbs

# Control characters; and what is not seen or turns the direction of a text. The joiners of Indic
# scripts (U+200C, U+200D) are letters' business there.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HIDDEN = re.compile(
    r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
_JOINER = re.compile(r"(?<![\u0900-\u0dff])[\u200c\u200d]|[\u200c\u200d](?![\u0900-\u0dff])")
_MARKDOWN = re.compile(r"^\s*(?:[-*+] |#{1,6} |\d+\. |```)|\*\*|__|`", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?।]+(?=\s|$)")
_NO = re.compile(
    r"\s*(?:no|nope|nah|don'?t|do not|stop|cancel|never|wait|leave it|nahi|nahin|mat|नहीं|मत|रुको)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？؟]|\A\s*(?:what|why|how|which|when|where|whose?|kya|kyun|kyon|kaise|kaun)\b"
    r"|\A\s*(?:क्या|क्यों|कैसे|कौन)(?!\w)",
    re.IGNORECASE,
)
_HEDGES = re.compile(
    r"\b(?:but|if|unless|until|wait|later|tomorrow|maybe|perhaps|lekin|magar|agar|ruko|pehle|baad)\b"
    r"|लेकिन|मगर|अगर|रुको|पहले|बाद",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Breach:
    """A rule that a row breaks.

    Attributes:
        rule: its short name, "critical-tag".
        message: what is wrong and what to do.
        serious: a model that learns from it learns what is unsafe or cannot be read; else it is a
            matter of style.
    """

    rule: str
    message: str
    serious: bool = True


def check_row(value: Mapping[str, Any], verbs: Verbs = VERBS) -> list[Breach]:
    """What is wrong with an object that is meant as a row, the gravest first."""
    try:
        row = read_row(value, verbs)
    except ValueError as error:
        return [Breach("field", sentence(str(error)))]
    return [*_characters(value), *_form(value, row), *check(row)]


def check(row: ActionRow) -> list[Breach]:
    """What is wrong with a row that was read."""
    return [*_carried(row), *_flags(row), *_level(row), *_style(row)]


PARSERS = ("", "_bash", "_powershell")


def guard_is_there() -> bool:
    """Whether commands can be judged: the extra `shell` is installed."""
    return all(importlib.util.find_spec(f"tree_sitter{name}") for name in PARSERS)


def _carried(row: ActionRow) -> list[Breach]:
    """Tags at each level of risk."""
    tags = row.answer.tags
    named = f"{tags[0].written}" if tags else ""
    if row.risk == "critical":
        if tags:
            message = f"risk_level is critical, and the answer carries {named}; take the tag out."
            return [Breach("critical-tag", message)]
        return []
    if row.outcome == "conversational" and tags:
        return [Breach("chat-tag", f"the outcome is conversational, and there is {named}.")]
    if row.outcome == "denied" and tags:
        return [Breach("denied-tag", f"the outcome is denied, and there is {named}.")]
    if row.risk == "high":
        return _high(row, named)
    if row.outcome == "executed" and not tags:
        message = f"risk_level is {row.risk} and the outcome executed, and there is no tag; add it."
        return [Breach("no-tag", message)]
    return []


def _high(row: ActionRow, named: str) -> list[Breach]:
    """High risk: asked first, then exactly that."""
    if not row.answer.tags:
        if row.outcome == "confirmed" and "?" not in row.answer.text:
            message = "risk_level is high, and the answer does not ask; warn and ask in its words."
            return [Breach("high-ask", message)]
        return []
    if len(row.turns) == 1:
        return [
            Breach(
                "high-tag",
                f"risk_level is high, and the answer carries {named} at once; ask in words and "
                "without a tag, and release it in the turn after the user's yes.",
            )
        ]
    asked = pending(row.turns[-2]) or row.turns[-2]
    for tag in row.answer.tags:
        if tag.argument not in asked or (pending(row.turns[-2]) and tag.argument != asked):
            return [
                Breach(
                    "release",
                    f"{tag.written} is not what the assistant asked to run ({shown(asked, 80)}); a "
                    "yes releases exactly that.",
                )
            ]
    if _NO.match(row.turns[-1]):
        return [Breach("release", f"the user said no ({shown(row.turns[-1], 40)!r}) to {named}.")]
    if _ASKS.search(row.turns[-1].replace(asked, "")):
        said = shown(row.turns[-1], 40)
        return [Breach("release", f"the user asked back ({said!r}) and did not agree to {named}.")]
    if hedge := _HEDGES.search(row.turns[-1].replace(asked, "")):
        said = shown(row.turns[-1], 40)
        return [Breach("release", f"{said!r} hedges ({hedge[0]!r}); only a yes releases {named}.")]
    commands = [tag.argument for tag in row.answer.tags]
    if not may_be_yes(row.turns[-1], commands):
        said = shown(row.turns[-1], 40)
        return [Breach("release", f"{said!r} is no yes to {named}; only a yes releases it.")]
    return []


def _flags(row: ActionRow) -> list[Breach]:
    """Flags and outcome that contradict each other or the risk."""
    tags = bool(row.answer.tags)
    wrong = ""
    if row.should_block != (row.risk == "critical"):
        wrong = (
            f"should_block is {_bool(row.should_block)} at {row.risk} risk; only critical blocks"
        )
    elif (row.outcome == "blocked") != row.should_block:
        wrong = f"expected_outcome is {row.outcome}, and should_block {_bool(row.should_block)}"
    elif row.requires_confirmation and (row.risk != "high" or tags):
        wrong = "requires_confirmation is true; only a high risk that carries no tag yet asks first"
    elif row.risk == "high" and row.outcome == "executed":
        wrong = "expected_outcome is executed at high risk; it is confirmed or denied"
    elif row.outcome == "confirmed" and row.risk != "high":
        wrong = f"expected_outcome is confirmed at {row.risk} risk; only a high one is asked for"
    elif (
        row.risk == "high"
        and row.outcome == "confirmed"
        and not (row.requires_confirmation or tags)
    ):
        wrong = "requires_confirmation is false, and a high risk without a tag yet asks first"
    elif row.outcome == "conversational" and row.risk != "low":
        wrong = f"risk_level is {row.risk} in a conversational row; talk is low"
    return [Breach("flags", f"{wrong}.")] if wrong else []


def _level(row: ActionRow) -> list[Breach]:
    """The stated risk against the guard's of the commands it carries or asks about."""
    commands = [tag.argument for tag in row.answer.tags if tag.runs == "shell"]
    if row.risk == "high" and not commands and (asked := pending(row.answer.text)):
        commands = [asked]
    if not commands or not guard_is_there():
        return []
    from livery.skills.actions.guard import classify

    risk = max((classify(command) for command in commands), key=lambda risk: risk.level)
    level = str(risk.level)
    # An action beside the commands may weigh more than they do.
    others = any(tag.runs != "shell" for tag in row.answer.tags)
    if level == row.risk or (others and RISKS.index(level) < RISKS.index(row.risk) <= 1):
        return []
    why = f" ({risk.reasons[0]})" if risk.reasons else ""
    return [
        Breach(
            "risk-level",
            f"risk_level is {row.risk}, and the guard takes {shown(commands[0], 80)} for {level}"
            f"{why}; state {level}, or change the command.",
        )
    ]


def _characters(value: Mapping[str, Any]) -> list[Breach]:
    """Characters that control a terminal, or deceive who reads the data."""
    texts = [(name, value[name]) for name in ("user_input", "assistant_text")]
    texts += [(name, text) for name in ("action_tags", "shell_tags") for text in value[name]]
    for name, text in texts:
        for found, what in ((_CONTROL, "control"), (_HIDDEN, "hidden"), (_JOINER, "hidden")):
            if bad := found.search(text):
                message = f"{name} holds the {what} character U+{ord(bad[0]):04X} at {bad.start()}."
                return [Breach("character", message)]
    return []


def _form(value: Mapping[str, Any], row: ActionRow) -> list[Breach]:
    """Tags that are read and would be written otherwise: in a fence, by an alias."""
    given = [*value["action_tags"], *value["shell_tags"]]
    for said, tag in zip(given, row.answer.tags, strict=True):
        if "```" in said or "~~~" in said:
            return [
                Breach("fence", f"{shown(said, 60)!r} is in a code fence; write {tag.content}.")
            ]
        if said != tag.content:
            message = f"{shown(said, 60)!r} is written {tag.content!r}."
            return [Breach("tag-form", message, serious=False)]
    return []


def _style(row: ActionRow) -> list[Breach]:
    """Answers are spoken: short, and without markdown."""
    words = row.answer.text
    spoken = words.replace(pending(words), "") if pending(words) else words
    found: list[Breach] = []
    if not words:
        found.append(Breach("spoken", "the answer has no words; acknowledge first.", serious=False))
    if (count := len(_SENTENCE.findall(spoken))) > 2:
        found.append(Breach("spoken", f"{count} sentences; at most two are spoken.", serious=False))
    if mark := _MARKDOWN.search(spoken):
        message = f"markdown ({mark[0].strip()!r}) in a spoken answer; use plain words."
        found.append(Breach("spoken", message, serious=False))
    return found


def _bool(value: bool) -> str:
    return "true" if value else "false"
