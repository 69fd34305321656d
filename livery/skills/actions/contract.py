"""Prompt, answer text, grammar and schemas of the skill actions, version 1.0.

    from livery.skills.actions.contract import parse_answer, render, messages

`tags` reads and writes the answers, `verbs` holds the table; this file puts them together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from livery.skills.actions.tags import KINDS as KINDS
from livery.skills.actions.tags import Answer as Answer
from livery.skills.actions.tags import Kind as Kind
from livery.skills.actions.tags import Tag as Tag
from livery.skills.actions.tags import action as action
from livery.skills.actions.tags import parse_answer as parse_answer
from livery.skills.actions.tags import render as render
from livery.skills.actions.tags import shell as shell
from livery.skills.actions.verbs import VERBS as VERBS
from livery.skills.actions.verbs import Verb as Verb
from livery.skills.actions.verbs import Verbs as Verbs
from livery.skills.actions.verbs import read_verbs as read_verbs
from livery.skills.contract import AnswerError as AnswerError
from livery.skills.contract import Message

VERSION = "1.0"

Shell = Literal["bash", "powershell"]
SHELLS: tuple[Shell, ...] = ("bash", "powershell")
_TITLE = {"bash": "bash", "powershell": "PowerShell"}

# What constrained decoding may write: words and commands of one line, few tags. Bounds keep a lost
# model from talking until it is cut off, which would leave a tag unclosed.
MAX_TEXT, MAX_ARGUMENT, MAX_TAGS = 240, 160, 4
MAX_CHARACTERS = MAX_TEXT + MAX_TAGS * (MAX_ARGUMENT + 40)

_PROMPT = (
    "You are a spoken assistant. Acknowledge first, in at most two short sentences without "
    "markdown, then put each tag on a line of its own: [ACTION]verb: argument[/ACTION] or, for "
    "{shell}, [SHELL]command[/SHELL]. Do what is safe at once. Where something could be lost, "
    "warn, ask with the command and add no tag until the user agrees. Refuse what would ruin the "
    "system. Chat has no tags. Verbs: {verbs}."
)


def system_prompt(shell: Shell = "bash", verbs: Verbs = VERBS) -> str:
    """The system message for one shell and table of verbs. `shell` and `exec_code`, which the tags
    of their own stand for, are read and not told of."""
    names = [verb.name for verb in verbs.verbs if not verb.runs]
    return _PROMPT.format(shell=_TITLE[shell], verbs=", ".join(names))


SYSTEM_PROMPT = system_prompt()


def messages(
    text: str, answer: Answer | Mapping[str, Any] | None = None, *, shell: Shell = "bash"
) -> list[Message]:
    """The conversation that asks for `text` on a machine with `shell`; with `answer`, that ends
    it."""
    return conversation([text], answer, shell=shell)


def own_shell() -> Shell:
    """The shell of this machine: PowerShell on Windows, else bash."""
    return "powershell" if sys.platform == "win32" else "bash"


def conversation(
    turns: Sequence[str],
    answer: Answer | Mapping[str, Any] | None = None,
    *,
    shell: Shell = "bash",
    verbs: Verbs = VERBS,
) -> list[Message]:
    """A conversation of several turns.

    Args:
        turns: what the user and the assistant said in turn, the user first and last.
        answer: the assistant's next one; None leaves it to the model.

    Raises:
        ValueError: there is an even number of turns, or the answer cannot be written.
    """
    if len(turns) % 2 == 0:
        raise ValueError(f"{len(turns)} turns; the user speaks first and last")
    asked: list[Message] = [{"role": "system", "content": system_prompt(shell, verbs)}]
    for at, turn in enumerate(turns):
        asked.append({"role": "assistant" if at % 2 else "user", "content": turn})
    if answer is not None:
        asked.append({"role": "assistant", "content": render(as_answer(answer, verbs), verbs)})
    return asked


def as_value(answer: Answer) -> dict[str, Any]:
    """An answer as JSON has it: {"text", "tags": [{"kind", "verb", "argument", "start", ...}]}."""
    return {
        "text": answer.text,
        "tags": [
            {"kind": t.kind, "verb": t.verb, "argument": t.argument, "start": t.start, "end": t.end}
            for t in answer.tags
        ],
    }


def as_answer(value: Answer | Mapping[str, Any], verbs: Verbs = VERBS) -> Answer:
    """The answer of `as_value`'s form; an Answer is returned as it is.

    Raises:
        ValueError: it has another form.
    """
    if isinstance(value, Answer):
        return value
    try:
        tags = tuple(_tag(tag, verbs) for tag in value["tags"])
        return Answer(value["text"], tags)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no answer of text and tags: {value!r} ({error})") from None


def _tag(tag: Mapping[str, Any], verbs: Verbs) -> Tag:
    kind, argument, place = tag["kind"], tag["argument"], (tag.get("start", 0), tag.get("end", 0))
    if kind == "ACTION":
        verb = verbs.verb(tag["verb"])
        if verb is None:
            raise ValueError(f"unknown verb {tag['verb']!r}")
        return Tag("ACTION", verb.name, argument, *place, verb.runs)
    if kind == "SHELL":
        return Tag("SHELL", "shell", argument, *place, "shell")
    if kind == "EXEC_CODE":
        return Tag("EXEC_CODE", "exec_code", argument, *place, "code")
    raise ValueError(f"unknown kind of tag {kind!r}")


def parse(text: str) -> dict[str, Any]:
    """`parse_answer` as JSON has it (`as_value`), for records and `livery generate --json`.

    Raises:
        AnswerError: as `parse_answer`.
    """
    return as_value(parse_answer(text))


# Line breaks and control characters, which no constrained answer holds.
_NOT = r"\x00-\x1f\x7f-\x9f\u{2028}\u{2029}"
# One character of a command, or a bracket with what keeps it from being a marker: [ -f x ], [1-9],
# [System.IO.File]. Counted repetition and a complement (~) together exhaust llguidance.
_PIECE = (
    rf"[^\[{_NOT}]"
    rf"|\[\[? ?[^\[\/ aAsSeE{_NOT}]"
    rf"|\[\[? ?[aA][^cC\[{_NOT}]|\[\[? ?[aA][cC][^tT\[{_NOT}]"
    rf"|\[\[? ?[sS][^hH\[{_NOT}]|\[\[? ?[sS][hH][^eE\[{_NOT}]"
    rf"|\[\[? ?[eE][^xX\[{_NOT}]|\[\[? ?[eE][xX][^eE\[{_NOT}]"
)


def grammar(verbs: Verbs = VERBS) -> str:
    """Lark text for llguidance: words of one line, then up to MAX_TAGS tags, each on its own line.

    It admits every rendered answer whose words are one line without brackets, and whose commands
    are no longer than the bounds, hold no line break and no bracket that begins like a marker.
    Whatever it admits is read by the parser.
    """
    required = [verb.name for verb in verbs.verbs if verb.takes != "none"]
    bare = [verb.name for verb in verbs.verbs if verb.takes != "required"]
    kinds = ["SHELL", "CODE"]
    lines = [
        'SHELL: "[SHELL]" BODY "[/SHELL]"',
        'CODE: "[EXEC_CODE]" BODY "[/EXEC_CODE]"',
    ]
    if required:
        kinds.append("GIVEN")
        lines.append(f'GIVEN: "[ACTION]" /{"|".join(required)}/ ": " BODY "[/ACTION]"')
    if bare:
        kinds.append("BARE")
        lines.append(f'BARE: "[ACTION]" /{"|".join(bare)}/ "[/ACTION]"')
    return "\n".join(
        [
            "start: ANSWER",
            "ANSWER: TEXT | TEXT TAGS",
            f'TAGS: ("\\n" TAG){{1,{MAX_TAGS}}}',
            f"TAG: {' | '.join(kinds)}",
            *lines,
            rf"TEXT: /[^\[{_NOT} \x60~][^\[{_NOT}]{{0,{MAX_TEXT - 1}}}/",
            f"BODY: /{_PIECE.replace('[^', '[^ ', 1)}/ MORE",
            f"MORE: /({_PIECE}){{0,{MAX_ARGUMENT - 1}}}/",
            "",
        ]
    )


def vocabulary(adapter_trained: bool) -> dict[str, Any]:
    """What a runtime must know of the answers: kinds of tags, verbs and aliases, JSON-ready."""
    return {
        "version": VERSION,
        "tags": list(KINDS),
        "verbs": {
            verb.name: {
                "aliases": list(verb.aliases),
                "takes": verb.takes,
                "about": verb.about,
                "runs": verb.runs,
            }
            for verb in VERBS.verbs
        },
        "adapter_trained": adapter_trained,
    }
