"""The labelled commands: none below its level, none above."""

from __future__ import annotations

from collections import Counter

import pytest

from livery.skills.actions.guard import Level, tables
from livery.skills.actions.guard.programs.registry import HANDLERS, ROLES
from livery.skills.actions.guard.scan import ACTS
from livery.skills.actions.guard.tables import Act, Spec
from tests.skills.guard.table import faults, read_cases

PATHS = {"read", "write", "make", "delete", "tree", "modes", "script", "open", "exec", "shell"}


def test_every_labelled_command_is_judged_within_its_levels() -> None:
    found = faults(read_cases())
    assert [(fault, case.command) for fault, case, _ in found] == []


def test_the_cases_are_many_distinct_and_of_every_level() -> None:
    cases = read_cases()
    assert len(cases) >= 400
    assert len({(case.command, case.shell) for case in cases}) == len(cases)
    assert all(case.least <= case.most for case in cases)
    exact = Counter(case.least for case in cases if case.least == case.most)
    assert min(exact[level] for level in Level) >= 50
    assert Counter(case.shell for case in cases)["powershell"] >= 100


TABLES = {
    "program": (tables.program, tables.program_names()),
    "cmdlet": (tables.cmdlet, tables.cmdlet_names()),
    "dos": (tables.dos, tables.dos_names()),
    "action": (tables.action, tables.action_names()),
}


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_every_rule_of_the_tables_names_acts_roles_and_handlers_that_there_are(table: str) -> None:
    look, names = TABLES[table]
    specs = [look(name) for name in names]
    assert [fault for spec in specs if spec is not None for fault in wrong(spec)] == []


def wrong(spec: Spec) -> list[str]:
    acts: list[Act] = [*spec.acts, *(a for a in (spec.bare, spec.other) if a is not None)]
    roles = [a for a in (spec.operands, spec.first, spec.last) if a is not None]
    roles += [option.act for option in spec.options.values()]
    found = [f"{spec.name}: no act {act.name}" for act in acts if act.name not in ACTS]
    known = {*ACTS, *PATHS, *ROLES}
    found += [f"{spec.name}: no role {role.name}" for role in roles if role.name not in known]
    if spec.handler and spec.handler not in HANDLERS:
        found.append(f"{spec.name}: no handler {spec.handler}")
    return found + [fault for sub in spec.subs.values() for fault in wrong(sub)]
