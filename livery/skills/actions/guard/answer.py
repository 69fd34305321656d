"""The tags of an assistant's answer: which may run, which are asked about, which never run.

allowed, to_confirm, blocked = guard(answer)
for judged in allowed:
    run(judged.tag)

# the next turn: the user's reply releases exactly what was asked, if it is a yes
guard(next_answer, asked=answer, said="yes, go ahead")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from livery.skills.actions.contract import VERBS, Tag, Verbs, parse_answer
from livery.skills.actions.guard.classify import Shell, classify, classify_action
from livery.skills.actions.guard.policy import Policy
from livery.skills.actions.guard.risk import Level, Risk
from livery.skills.contract import AnswerError

# A reply that is nothing but a yes: these words and no other.
_YES = re.compile(
    r"(?:(?:run |do )?(?:that|this|the) (?:command|one)"
    r"|yes+|yeah|yep|yup|sure|ok|okay|alright|all right|fine|right|correct|absolutely|definitely"
    r"|certainly|of course|affirmative|confirmed?|i confirm|approved?|i agree|agreed|go ahead"
    r"|go on|go for it|proceed|continue|carry on|do it|do that|do so|run it|run that|execute it"
    r"|make it so|please|pls|thanks|thank you|now|then|just|and|haan?|han|ji|jee|bilkul"
    r"|i m sure|i am sure|that s (?:fine|right|ok)|that is (?:fine|right|ok)|go|do|run"
    r"|theek|thik|hai|kar|karo|kardo|do|de|chalao|chala|zaroor|sahi|accha|acha|h[aā]ñ"
    r"|हाँ|हां|हा|जी|बिल्कुल|ठीक|है|करो|कर|दो|चलाओ|चला|ज़रूर|जरूर|सही|अच्छा)"
)
_SURE = re.compile(
    r"\b(?:yes+|yeah|yep|yup|sure|ok|okay|affirmative|confirm(?:ed)?|approved?|agreed?|proceed"
    r"|go ahead|go for it|go on|do it|do that|run it|run that|please do|alright|certainly|of course"
    r"|i m sure|i am sure|that s right|absolutely|definitely|fine|haan?"
    r"|han|ji|bilkul|theek|thik|zaroor|kar do|kardo|karo)\b|हाँ|हां|जी|बिल्कुल|ठीक|करो|कर दो|ज़रूर",
)


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
            only the tags that were asked about, to the letter.
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
    released = _asked(asked, verbs) if agrees(said, asked) else frozenset[str]()
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


def judge_tag(tag: Tag, *, shell: Shell = "auto", policy: Policy | None = None) -> Risk:
    """The risk of one tag: a command's by `classify`, an action's by its verb and argument."""
    if tag.runs == "shell" or tag.kind == "SHELL":
        return classify(tag.argument, shell, policy=policy)
    return classify_action(tag.verb, tag.argument, tag.runs, policy=policy)


def agrees(said: str, asked: str | Guarded | None = None) -> bool:
    """Whether a reply is a yes and nothing else. One that repeats the command asked about may:
    "yes, run rm error.log"."""
    text = said.casefold()
    for command in sorted(_commands(asked), key=len, reverse=True):
        text = text.replace(command.casefold(), " ")
    words = re.sub(r"[\s.,!?;:'\"`।…👍✅-]+", " ", text).strip()
    if "👍" in said or "✅" in said:
        words = f"yes {words}".strip()
    plain = re.sub(r"\b(?:sir|madam|ma am|jarvis|buddy|man|bhai|yaar)\b", " ", words)
    rest = re.sub(rf"(?:^|(?<=\s)){_YES.pattern}(?=\s|$)", " ", plain).strip()
    return not rest and _SURE.search(words) is not None


def _commands(asked: str | Guarded | None) -> frozenset[str]:
    if isinstance(asked, Guarded):
        return frozenset(judged.tag.argument for judged in asked.to_confirm if judged.tag.argument)
    return _said_commands(asked) if asked else frozenset()


def _asked(asked: str | Guarded | None, verbs: Verbs) -> frozenset[str]:
    """What the turn before asked about: its tags, and the command that it named."""
    if asked is None:
        return frozenset()
    if isinstance(asked, Guarded):
        return frozenset(_key(judged.tag) for judged in asked.to_confirm)
    try:
        tags = frozenset(_key(tag) for tag in parse_answer(asked, verbs).tags)
    except AnswerError:
        return frozenset()
    return tags | frozenset(_plain(command) for command in _said_commands(asked))


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
