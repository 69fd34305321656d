"""Skills: one contract each, shared by data generation, scoring, decoding and users' programs.

    from livery.skills import get_skill
    skill = get_skill("date-keys")
    skill.parse('["tomorrow_morning"]')  # -> ("tomorrow_morning",)

A skill is a module in this package with a `SKILL`; it is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livery.errors import UserError

Message = dict[str, str]

_MODULES = {"date-keys": "livery.skills.date_keys"}


class AnswerError(ValueError):
    """A model's answer does not follow its skill's contract. The message says where and how."""


@dataclass(frozen=True)
class Skill:
    """What one adapter teaches.

    Attributes:
        name: as on the command line, "date-keys".
        version: of the contract; written into data, adapters and reports.
        system_prompt: the system message that every conversation of the skill opens with.
        messages: (request, value or None) -> chat messages; with a value, the answer too.
        render: value -> the one answer text that stands for it in training data.
        parse: answer text -> value; raises AnswerError where the contract is broken.
        grammar: () -> llguidance Lark text that admits exactly the rendered answers.
        json_schema: () -> JSON Schema of the answer.
        max_answer_characters: no rendered answer is longer; a token is at least one character,
            so this bounds decoding too.
    """

    name: str
    version: str
    system_prompt: str
    messages: Callable[..., list[Message]]
    render: Callable[[Any], str]
    parse: Callable[[str], Any]
    grammar: Callable[[], str]
    json_schema: Callable[[], dict[str, Any]]
    max_answer_characters: int


def skill_names() -> tuple[str, ...]:
    """Names that `get_skill` knows."""
    return tuple(_MODULES)


def get_skill(name: str) -> Skill:
    """The contract called `name` ("date-keys"); its module is imported now.

    Raises:
        UserError: there is no such skill.
    """
    module = _MODULES.get(name.replace("_", "-"))
    if module is None:
        raise UserError(f"There is no skill {name!r}; choose one of: {', '.join(_MODULES)}.")
    return importlib.import_module(module).SKILL
