"""A user's own policy: levels for commands, paths and hosts that come before the guard's.

project: /home/me/work          # what lies in here is the project
commands:
  - match: git push             # name, subcommands, and where given options and operands
    level: medium
    reason: the remote is a sandbox
paths:
  - match: ~/scratch/**
    level: medium
hosts:
  - match: "*.example.org"
    level: low
"""

from __future__ import annotations

import fnmatch
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from livery.errors import UserError, shown
from livery.reading import read_text
from livery.skills.actions.guard.places import HOME
from livery.skills.actions.guard.risk import Level

_KEYS = ("project", "commands", "paths", "hosts")
_RULE_KEYS = ("match", "level", "reason")
_LEVELS = ("low", "medium", "high", "critical")


@dataclass(frozen=True)
class Rule:
    """One line of a policy.

    Attributes:
        match: the command's words, the path or the host; `*` and `?` stand for any text.
        level: what it sets.
        reason: the user's own, empty where none was given.
    """

    match: str
    level: Level
    reason: str = ""

    def said(self, was: Level) -> str:
        """How the override stands among the reasons."""
        why = f": {self.reason}" if self.reason else ""
        return f"policy: {self.match} is {self.level}, not {was}{why}"


@dataclass(frozen=True)
class Policy:
    """A user's rules; without any, the guard's own levels stand."""

    project: str = ""
    commands: tuple[Rule, ...] = ()
    paths: tuple[Rule, ...] = ()
    hosts: tuple[Rule, ...] = ()

    def level_at(self, path: str, level: Level, overrides: list[str]) -> Level:
        """The level of a use of a path, by the first rule that the path lies in."""
        for rule in self.paths:
            if matches_path(rule.match, path):
                if rule.level != level:
                    overrides.append(rule.said(level))
                return rule.level
        return level

    def level_of_host(self, host: str, level: Level, overrides: list[str]) -> Level:
        """The level of talking to a host."""
        for rule in self.hosts:
            if fnmatch.fnmatchcase(host.lower(), rule.match.lower()):
                if rule.level != level:
                    overrides.append(rule.said(level))
                return rule.level
        return level

    def rule_for(self, words: list[str]) -> Rule | None:
        """The first rule whose words are all in the command: names and operands in order, options
        anywhere."""
        return next((r for r in self.commands if matches_command(r.match, words)), None)


def load_policy(path: Path) -> Policy:
    """The policy in a YAML file.

    Raises:
        UserError: the file cannot be read, is no YAML, or holds a key, level or value that a policy
            does not have; the message names file and key.
    """
    text = read_text(path)
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UserError(f"{path}{line}: {shown(problem)}. A policy is a YAML file.") from error
    return read_policy(data, str(path))


def read_policy(data: object, where: str = "policy") -> Policy:
    """The policy in a parsed document. Raises as `load_policy`."""
    if data is None:
        return Policy()
    if not isinstance(data, dict):
        raise UserError(f"{where}: a policy has the keys {', '.join(_KEYS)} at its top.")
    items = cast("dict[object, object]", data)
    for key in items:
        if key not in _KEYS:
            raise UserError(
                f"{where}: {shown(key)}: a policy has no such key; it has {', '.join(_KEYS)}."
            )
    project = items.get("project") or ""
    if not isinstance(project, str) or (project and not project.startswith(("/", "~"))
                                        and project[1:2] != ":"):  # fmt: skip
        raise UserError(f"{where}: project: give the absolute path of a folder.")
    return Policy(
        project=HOME + project[1:] if project.startswith("~") else project,
        commands=_rules(items.get("commands"), f"{where}: commands"),
        paths=_rules(items.get("paths"), f"{where}: paths"),
        hosts=_rules(items.get("hosts"), f"{where}: hosts"),
    )


def _rules(data: object, where: str) -> tuple[Rule, ...]:
    if data is None:
        return ()
    if not isinstance(data, list):
        raise UserError(f"{where}: give a list of rules, each with match and level.")
    rows = cast("list[object]", data)
    return tuple(_rule(row, f"{where}[{number}]") for number, row in enumerate(rows))


def _rule(data: object, where: str) -> Rule:
    if not isinstance(data, dict):
        raise UserError(f"{where}: a rule has the keys {', '.join(_RULE_KEYS)}.")
    row = cast("dict[object, object]", data)
    for key in row:
        if key not in _RULE_KEYS:
            raise UserError(
                f"{where}: {shown(key)}: a rule has no such key; it has {', '.join(_RULE_KEYS)}."
            )
    match, level, reason = row.get("match"), row.get("level"), row.get("reason", "")
    if not isinstance(match, str) or not match.strip():
        raise UserError(f"{where}: match: give a text, such as git push.")
    if not isinstance(level, str) or level.lower() not in _LEVELS:
        raise UserError(f"{where}: level: {shown(level)}: choose one of {', '.join(_LEVELS)}.")
    if not isinstance(reason, str):
        raise UserError(f"{where}: reason: give a text.")
    return Rule(match.strip(), Level.of(level), reason.strip())


def matches_path(pattern: str, path: str) -> bool:
    """Whether a path lies where the pattern says: `~/scratch/**` is everything below ~/scratch.

    A path with `..` in it matches nothing: it may lead out again.
    """
    text = path.replace("\\", "/")
    if ".." in text.split("/"):
        return False
    wanted = pattern.replace("\\", "/")
    if text.startswith(HOME):
        text = "~" + text[1:]
    text, wanted = text.removeprefix("./"), wanted.removeprefix("./")
    if wanted.endswith("/**"):
        return text.startswith(wanted[:-2]) and len(text) > len(wanted) - 2
    return text == wanted or (_depth(text) == _depth(wanted) and fnmatch.fnmatchcase(text, wanted))


def matches_command(pattern: str, words: list[str]) -> bool:
    """Whether a command has a rule's words: `git push -f` is in `git push -q -f x`."""
    wanted = _split(pattern)
    options = [word for word in wanted if word.startswith("-")]
    plain = [word for word in wanted if not word.startswith("-")]
    if any(option not in words for option in options):
        return False
    rest = [word for word in words if not word.startswith("-")]
    return len(rest) >= len(plain) and all(
        fnmatch.fnmatchcase(word, pattern) and (".." not in word.split("/") or ".." in pattern)
        for word, pattern in zip(rest, plain, strict=False)
    )


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _depth(path: str) -> int:
    return path.count("/")
