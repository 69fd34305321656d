"""What a skill itself demands of rows, for `livery data check`: of its data and of a user's file.

A skill X whose `datagen.X` has `is_row` and `check_row` is asked about the rows that are meant as
its own, in chat form or in a form that only the skill knows.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, cast

from livery.dataset.conversation import RowError
from livery.dataset.packed import Source
from livery.dataset.raw import raw_rows
from livery.errors import UserError
from livery.skills import find, skill_names

# Rows that are looked at to tell whose a file is: the first may be the one that is wrong.
_LOOKED = 5


class Fault(Protocol):
    """A demand that a row does not meet: the rule's name, what is wrong, whether it is serious."""

    @property
    def rule(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def serious(self) -> bool: ...


class Policy(Protocol):
    """What `datagen.X` of a skill X holds, beside its generator, where its rows have a policy.

    Attributes:
        FORM: what its rows are called where they have a form of their own.
    """

    NAME: str
    FORM: str

    def is_row(self, raw: Mapping[str, Any], /) -> bool:
        """Whether an object is meant as one of the skill's rows, right or wrong."""
        ...

    def check_row(self, raw: Mapping[str, Any], /) -> Sequence[Fault]: ...

    def asked(self, raw: Mapping[str, Any], /) -> str:
        """What the user says in a row of the skill's own form; "" for any other."""
        ...

    def notes(self) -> Sequence[str]:
        """What people should know of a check, such as a part of it that could not be made."""
        ...


def find_policy(sources: Sequence[Source], skill: str = "") -> Policy | None:
    """The policy of the rows in some files, by the skill that made them or by their form."""
    names = [skill] if skill else [*skill_names()]
    try:
        looked = [raw for source in sources[:1] for _, raw in _first(source)]
    except UserError:  # told by the check itself
        looked = []
    for name in names:
        policy = _policy(name)
        if policy is None:
            continue
        if skill or any(isinstance(r, Mapping) and policy.is_row(r) for r in looked):
            return policy
    return None


def _first(source: Source) -> list[tuple[str, Any]]:
    return list(itertools.islice(raw_rows(source), _LOOKED))


def _policy(skill: str) -> Policy | None:
    found = _generator(skill)
    return cast(Policy, found) if hasattr(found, "check_row") else None


def _generator(skill: str) -> ModuleType | None:
    """`datagen.X` of a skill X that ships and has one."""
    if skill not in skill_names() or not (module := find(skill).module):
        return None
    name = f"datagen.{module}"
    return None if importlib.util.find_spec(name) is None else importlib.import_module(name)


def check_answer(skill: str, messages: Sequence[Mapping[str, Any]], answer: str) -> Sequence[Fault]:
    """What speaks against training on an answer that came from use: what a skill X whose
    `datagen.X` has a function of this name says of it."""
    check = getattr(_generator(skill), "check_answer", None)
    return check(messages, answer) if check is not None else ()


def faults(policy: Policy, sources: Sequence[Source]) -> Iterator[tuple[str, Fault]]:
    """("file:line", fault) of each row; lines that are no row are told by the check itself."""
    for source in sources:
        for where, raw in raw_rows(source):
            if isinstance(raw, Mapping):
                yield from ((where, fault) for fault in policy.check_row(raw))


def has_own_form(policy: Policy, sources: Sequence[Source]) -> bool:
    """Whether rows stand in the skill's own form, which training does not read as it is."""
    looked = (raw for source in sources[:1] for _, raw in _first(source))
    return any(isinstance(raw, Mapping) and policy.asked(raw) for raw in looked)


def read_own(
    policy: Policy, sources: Sequence[Source]
) -> Iterator[tuple[str, str, str] | RowError]:
    """("file:line", what is asked, id) of each row of the skill's own form, or a line that is
    none."""
    for source in sources:
        for where, raw in raw_rows(source):
            yield raw if isinstance(raw, RowError) else (where, policy.asked(raw), _id(raw))


def _id(raw: Mapping[str, Any]) -> str:
    found = raw.get("id")
    return found if isinstance(found, str) else ""
