"""The labelled commands: none below its level, none above."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from livery.skills.actions.guard import Level, classify, tables
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


# Roles of options that run or write what they name, with a value, and acts that ask first.
RUNS = dict.fromkeys(("program", "shell", "exec", "code", "foreign"), "'rm -rf ~'")
RISKY = {*RUNS, "lose", "destroy", "send", "admin", "system", "power", "remote", "wreck"}
VALUES = {**RUNS, "write": "/etc/passwd", "script": "/tmp/x"}
# git's own options stand before `config`; Go's take a value behind a space or a sign only.
NOT_SO = re.compile(r"git config .*|go \w+ -o/etc/passwd")


@pytest.mark.slow
def test_an_option_is_as_bad_in_every_form_it_is_written_in() -> None:
    """-x V, -xV, --long V, --long=V: what a rule declares and its handler would overlook."""
    forms = [form for name in tables.program_names() for form in risky(tables.program(name), name)]
    assert len(forms) > 500
    missed = [form for form in forms if classify(form, "bash").level < Level.HIGH]
    assert [form for form in missed if not NOT_SO.fullmatch(form)] == []


def risky(spec: Spec | None, command: str) -> Iterator[str]:
    assert spec is not None
    for name, option in spec.options.items():
        if "[" in name or name in spec.dry:
            continue
        value = VALUES.get(option.act.name)
        if option.value and value:
            yield f"{command} {name} {value}"
            if name.startswith("--") or len(name) == 2:
                yield f"{command} {name}{'=' if name.startswith('--') else ''}{value}"
        elif not option.value and option.act.name in RISKY:
            yield f"{command} {name}"
    of_one_rule = {(sub.acts, tuple(sub.options)): name for name, sub in spec.subs.items()}
    for name in of_one_rule.values():
        yield from risky(spec.subs[name], f"{command} {name}")


WRAPS = [
    name
    for name in tables.program_names()
    if (spec := tables.program(name)) and spec.operands and spec.operands.name in ("exec", "shell")
    if name != "sudoedit"
]


def test_whatever_runs_a_command_is_as_bad_as_the_command() -> None:
    assert len(WRAPS) > 50
    for name in WRAPS:
        spec = tables.program(name)
        before = f"{name} x" if spec is not None and spec.first else name
        for command in ("rm -rf ~", "sh -c 'rm -rf ~'"):
            assert classify(f"{before} {command}", "bash").level is Level.CRITICAL, name
