"""The tags of an assistant's answer: which may run, which are asked about, which never run.

allowed, to_confirm, blocked = guard(answer)
for judged in allowed:
    run(judged.tag)

# the next turn: the user's reply releases exactly what was asked, if it is a yes
guard(next_answer, asked=answer, said="yes, go ahead")
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livery.skills.actions.contract import VERBS, Tag, Verbs, parse_answer
from livery.skills.actions.guard.classify import Shell, classify, classify_action
from livery.skills.actions.guard.policy import Policy
from livery.skills.actions.guard.risk import Level, Risk
from livery.skills.actions.guard.yes import is_yes, repeated
from livery.skills.contract import AnswerError


@dataclass(frozen=True)
class Judged:
    """A tag with the risk of what it would do.

    Attributes:
        tag: as the contract of actions reads it.
        risk: by code; what the model said of it has no part in it.
        released: the user has agreed to this very tag in the turn before.
    """

    tag: Tag
    risk: Risk
    released: bool = False


@dataclass(frozen=True)
class Guarded:
    """An answer's tags, sorted; unpacks as `allowed, to_confirm, blocked`.

    Attributes:
        allowed: low and medium, and high where the user has just agreed to it.
        to_confirm: high: ask first, showing `risk.shown`.
        blocked: critical: never runs, whoever agrees.
        problem: why the answer cannot be read; then no tag of it runs.
    """

    allowed: tuple[Judged, ...] = ()
    to_confirm: tuple[Judged, ...] = ()
    blocked: tuple[Judged, ...] = ()
    problem: str = ""

    def __iter__(self) -> Iterator[tuple[Judged, ...]]:
        return iter((self.allowed, self.to_confirm, self.blocked))

    @property
    def level(self) -> Level:
        """Of the worst tag; low without any."""
        every = (*self.allowed, *self.to_confirm, *self.blocked)
        return max((judged.risk.level for judged in every), default=Level.LOW)


def guard(
    answer: str,
    *,
    asked: str | Guarded | None = None,
    said: str = "",
    shell: Shell = "auto",
    policy: Policy | None = None,
    verbs: Verbs = VERBS,
) -> Guarded:
    """Sort the tags of an answer by what they would do.

    Args:
        answer: the assistant's answer.
        asked: the assistant's turn before, or what `guard` returned for it: what it asked the user
            to allow, in a tag or as a command ("Shall I run: rm error.log?").
        said: the user's reply to that. Only a reply that is a yes and nothing else releases, and
            only what was asked about, to the letter; of several commands those that it repeats, if
            it repeats any.
        shell: what runs the commands.
        policy: the user's own rules.
        verbs: the table of verbs, with the user's own.

    Raises:
        UserError: the extra `shell` is not installed.
    """
    try:
        tags = parse_answer(answer, verbs).tags
    except AnswerError as error:
        why = f"the answer cannot be read, and none of it runs: {error}"
        risk = Risk(Level.CRITICAL, (), (why,), "", "")
        held = Tag("ACTION", "unreadable", "") if "[" in answer else None
        return Guarded(blocked=(Judged(held, risk),) if held else (), problem=why)
    released = _released(asked, said, verbs)
    allowed: list[Judged] = []
    to_confirm: list[Judged] = []
    blocked: list[Judged] = []
    for tag in tags:
        risk = judge_tag(tag, shell=shell, policy=policy)
        names = {_key(tag), _plain(tag.argument)} if tag.runs == "shell" else {_key(tag)}
        free = risk.level is Level.HIGH and bool(names & released)
        if risk.level is Level.CRITICAL:
            blocked.append(Judged(tag, risk))
        elif risk.level is Level.HIGH and not free:
            to_confirm.append(Judged(tag, risk))
        else:
            allowed.append(Judged(tag, risk, free))
    return Guarded(tuple(allowed), tuple(to_confirm), tuple(blocked))


def guard_reply(messages: Sequence[Mapping[str, Any]], answer: str) -> Guarded:
    """`guard` of the answer to a conversation: what was asked and said are its last two turns."""
    later = len(messages) > 1 and messages[-2]["role"] == "assistant"
    asked = messages[-2]["content"] if later else None
    return guard(answer, asked=asked, said=str(messages[-1]["content"]) if later else "")


def judge_tag(tag: Tag, *, shell: Shell = "auto", policy: Policy | None = None) -> Risk:
    """The risk of one tag: a command's by `classify`, an action's by its verb and argument."""
    if tag.runs == "shell" or tag.kind == "SHELL":
        return classify(tag.argument, shell, policy=policy)
    return classify_action(tag.verb, tag.argument, tag.runs, policy=policy)


def agrees(said: str, asked: str | Guarded | None = None) -> bool:
    """Whether a reply is a yes and nothing else. One that repeats the command asked about may:
    "yes, run rm error.log"."""
    return is_yes(said, {*_asked(asked, VERBS).values()})


def _released(asked: str | Guarded | None, said: str, verbs: Verbs) -> frozenset[str]:
    """What the reply releases of what the turn before asked about."""
    pending = _asked(asked, verbs)
    if not is_yes(said, commands := {*pending.values()}):
        return frozenset()
    wanted = repeated(said, commands) or commands
    return frozenset(key for key, command in pending.items() if command in wanted)


def _asked(asked: str | Guarded | None, verbs: Verbs) -> dict[str, str]:
    """What the turn before asked about, each with its command or argument: its tags, and the
    command that it named."""
    if asked is None:
        return {}
    if isinstance(asked, Guarded):
        return {_key(judged.tag): _plain(judged.tag.argument) for judged in asked.to_confirm}
    try:
        tags = parse_answer(asked, verbs).tags
    except AnswerError:
        return {}
    named = {_plain(command): _plain(command) for command in _said_commands(asked)}
    return {_key(tag): _plain(tag.argument) for tag in tags} | named


def _said_commands(text: str) -> frozenset[str]:
    """`command` in backticks, and what stands between a colon and the last question mark."""
    found = set(re.findall(r"`([^`\n]+)`", text))
    said = text.rstrip()
    if said.endswith("?") and ": " in said:
        found.add(said.partition(": ")[2].removesuffix("?"))
    return frozenset(command.strip() for command in found if command.strip())


def _key(tag: Tag) -> str:
    return f"{tag.kind}\n{tag.verb}\n{_plain(tag.argument)}"


def _plain(command: str) -> str:
    """A command to compare: white space around it does not count, within it does."""
    return command.strip()
