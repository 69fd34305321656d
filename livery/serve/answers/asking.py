"""How an adapter of a skill is asked: the system prompt that it was trained with, the
`response_format` that holds its answers to the skill's grammar, and an example.

Without the prompt an adapter is asked what it was never trained on.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from livery.errors import UserError, quoted
from livery.serve.errors import NotFound
from livery.skills import Skill, get_skill, skill_names

# What a user says, by skill; dsl's example is its first hand-written case.
_SAID = {
    "date-keys": "Wake me at half seven tomorrow morning",
    "actions": "Turn the volume down to twenty and open the calendar",
    "persona": "Is the heating still on?",
    "state": "What is your name, and whom do you trust?",
}


@dataclass(frozen=True)
class Asking:
    """How a skill is asked.

    Attributes:
        name: of the skill.
        summary: what it teaches, in a line.
        system_prompt: the system message; "" where the skill has none.
        response_format: of a chat completion; None where answers have no grammar.
        example: messages to try it with. The system message is the prompt, with a state block
            under it for the skill that reads one; dsl's user message holds schema, query and date.
    """

    name: str
    summary: str
    system_prompt: str
    response_format: dict[str, str] | None
    example: list[dict[str, Any]]


def every() -> list[Asking]:
    """Each skill that can be named in a request."""
    return [found for name in skill_names() if (found := asking_of(name)) is not None]


def messages_of(name: str, text: str) -> list[dict[str, Any]]:
    """The conversation in which the skill puts what a user says: a command of date-keys in the
    one form that its adapters are trained on, say.

    Raises:
        NotFound: no request may name such a skill.
        UserError: the text is no request of the skill.
    """
    if name not in skill_names():
        known = ", ".join(skill_names())
        raise NotFound(f"There is no skill {quoted(name)}; there are: {known}.", key="skill")
    try:
        return get_skill(name).messages(text)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


@functools.cache
def asking_of(name: str) -> Asking | None:
    """How the skill called `name` is asked; None for one that no request may name."""
    if name not in skill_names():
        return None
    skill = get_skill(name)
    # These two have a grammar for each case: of its state block, of its schema.
    held = name in ("state", "dsl") or skill.constraint() is not None
    form = {"type": "livery_skill", "skill": name} if held else None
    return Asking(name, skill.summary, _system_prompt(skill), form, _example(skill))


def _system_prompt(skill: Skill) -> str:
    try:
        turns = skill.messages("…")
    except (UserError, ValueError):  # no plain text is a request of this skill
        return skill.system_prompt
    return next((turn["content"] for turn in turns if turn["role"] == "system"), "")


def _example(skill: Skill) -> list[dict[str, Any]]:
    if skill.name == "dsl":
        from livery.skills import dsl

        case = dsl.hand_written("validation")[0]
        return dsl.messages(dsl.Request(case["schema"], case["query"], case["current_date"]))
    if skill.name == "state":
        from livery.skills import state

        return state.messages(_SAID["state"], block=_BLOCK)
    said = _SAID.get(skill.name)
    return skill.messages(said) if said else []


_BLOCK = """\
== STATE ==
[identity] who I am
identity.name: Juno
identity.home: the blue house
[trust] whom I know
trust_levels.Mara: verified
== END STATE =="""
