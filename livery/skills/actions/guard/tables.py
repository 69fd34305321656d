"""What programs do, read from the tables in commands/*.txt.

A line is a rule; one indented below another is a subcommand of it; `#` begins a comment, and a line
that ends in a backslash goes on in the next:

    NAME NAME: CLAUSE; CLAUSE; …

    ACT                   what the program does by itself: `read`, `lose!high "why"`
    operands ROLE         what each operand is: `read`, `tree`, `exec`, `shell`, …
    first ROLE, last ROLE the first or last operand, where it differs from the rest
    -o --out= ROLE        an option; `=` behind a name: it takes a value, which has the role
    -f --force ACT        a flag, and what it adds
    tree -r --recursive   flags that make the operands' deletion (or change of modes) recursive
    dry -n --dry-run      flags that keep the program from doing what its acts say
    by HANDLER            judged by a function of that name in programs/
    style WORD            long (`-name` is one option), stop (options end at the first operand),
                          dos (`/x`), none (all words are operands)
    like NAME             as another rule, with what follows added
    bare ACT              what it does without operands and subcommands
    other ACT             what an unlisted subcommand does (by default it is not understood)

Acts and roles are described in judge.py; `!level` sets the level of an act, quotes its reason.
"""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass, field, replace
from importlib import resources

from livery.skills.actions.guard.risk import Level

FOLDER = "commands"
PROGRAMS = (
    "files", "text", "git", "code", "packages", "containers", "cloud", "databases", "network",
    "system", "wrappers", "desktop",
)  # fmt: skip


@dataclass(frozen=True)
class Act:
    """One thing a program, an option or an operand does: `lose!high "why"`."""

    name: str
    level: Level | None = None
    why: str = ""


@dataclass(frozen=True)
class Option:
    """An option: what it does, and whether it takes a value, whose role that then is."""

    act: Act
    value: bool = False


@dataclass(frozen=True)
class Spec:
    """A rule of the tables, read."""

    name: str
    acts: tuple[Act, ...] = ()
    operands: Act | None = None
    first: Act | None = None
    last: Act | None = None
    options: dict[str, Option] = field(default_factory=dict[str, Option])
    tree: frozenset[str] = frozenset()
    dry: frozenset[str] = frozenset()
    subs: dict[str, Spec] = field(default_factory=dict[str, "Spec"])
    handler: str = ""
    style: str = "gnu"
    bare: Act | None = None
    other: Act | None = None


@dataclass(frozen=True)
class _Line:
    names: tuple[str, ...]
    text: str
    below: list[_Line]


@functools.cache
def program(name: str) -> Spec | None:
    """The rule for a program by its base name; None where the tables have none."""
    line = _programs().get(name)
    return _spec(line, name, _programs()) if line is not None else None


@functools.cache
def cmdlet(name: str) -> Spec | None:
    """The rule for a PowerShell cmdlet or alias, by its lower-case name."""
    line = _cmdlets().get(name)
    return replace(_spec(line, name, _cmdlets()), style="ps") if line is not None else None


@functools.cache
def dos(name: str) -> Spec | None:
    """The rule for a built-in of cmd.exe."""
    line = _dos().get(name)
    return _spec(line, name, _dos()) if line is not None else None


@functools.cache
def action(name: str) -> Spec | None:
    """The rule for a verb of [ACTION] tags."""
    line = _actions().get(name)
    return _spec(line, name, _actions()) if line is not None else None


def program_names() -> tuple[str, ...]:
    """All programs of the tables."""
    return tuple(_programs())


def cmdlet_names() -> tuple[str, ...]:
    """All cmdlets and aliases of the tables."""
    return tuple(_cmdlets())


def dos_names() -> tuple[str, ...]:
    """All of cmd.exe's and Windows' programs in the tables."""
    return tuple(_dos())


def action_names() -> tuple[str, ...]:
    """All verbs of actions in the tables."""
    return tuple(_actions())


@functools.cache
def patterns(kind: str) -> re.Pattern[str]:
    """The paths (or variables, or hosts) of a kind in patterns.txt, as one expression."""
    return re.compile("|".join(f"(?:{text})" for text in _patterns()[kind]), re.I)


@functools.cache
def _patterns() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    kind = ""
    for line in _text("patterns").splitlines():
        text = line.strip()
        if text.startswith("["):
            kind = text.strip("[]")
            found[kind] = []
        elif text and not text.startswith("# "):
            found[kind].append(text)
    return found


@functools.cache
def _programs() -> dict[str, _Line]:
    found: dict[str, _Line] = {}
    for name in PROGRAMS:
        lines = _lines(name)
        if twice := found.keys() & lines.keys():
            raise ValueError(f"{name}.txt: two rules for {', '.join(sorted(twice))}")
        found |= lines
    return found


@functools.cache
def _cmdlets() -> dict[str, _Line]:
    return _lines("powershell")


@functools.cache
def _dos() -> dict[str, _Line]:
    return _lines("cmd")


@functools.cache
def _actions() -> dict[str, _Line]:
    return _lines("actions")


def _text(name: str) -> str:
    file = resources.files("livery.skills.actions.guard") / FOLDER / f"{name}.txt"
    return file.read_text(encoding="utf-8")


def _lines(name: str) -> dict[str, _Line]:
    """{name: its line} of a table. Two rules for one name are a mistake of ours, and loud."""
    top = _Line((), "", [])
    stack: list[tuple[int, _Line]] = [(-1, top)]
    for raw in _text(name).replace("\\\n", " ").splitlines():
        text = raw.split(" # ")[0].rstrip()
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        indent = len(text) - len(text.lstrip())
        names, colon, rest = text.strip().partition(":")
        if not colon:
            raise ValueError(f"{name}.txt: {text.strip()}: no colon")
        line = _Line(tuple(names.split()), rest.strip(), [])
        while stack[-1][0] >= indent:
            stack.pop()
        stack[-1][1].below.append(line)
        stack.append((indent, line))
    found: dict[str, _Line] = {}
    for line in top.below:
        for word in line.names:
            if word in found:
                raise ValueError(f"{name}.txt: two rules for {word}")
            found[word] = line
    return found


def _spec(line: _Line, name: str, table: dict[str, _Line], above: str = "") -> Spec:
    full = f"{above} {name}".strip()
    spec = Spec(full)
    for clause in _clauses(line.text):
        spec = _with(spec, clause, table)
    subs = dict(spec.subs)
    for below in line.below:
        for word in below.names:
            subs[word] = _spec(below, word, table, full)
    return replace(spec, subs=subs)


def _with(spec: Spec, clause: str, table: dict[str, _Line]) -> Spec:
    words = shlex.split(clause.replace('"', ' "', 1)) if '"' in clause else clause.split()
    head, rest = words[0], words[1:]
    if head == "like":
        base = _spec(table[rest[0]], rest[0], table)
        return replace(base, name=spec.name)
    if head in ("operands", "first", "last", "bare", "other"):
        return replace(spec, **{head: _act(rest)})
    if head in ("tree", "dry"):
        options = {**spec.options, **{name: Option(Act("none")) for name in rest}}
        return replace(spec, options=options, **{head: getattr(spec, head) | frozenset(rest)})
    if head == "by":
        return replace(spec, handler=rest[0])
    if head == "style":
        return replace(spec, style=rest[0])
    names = [word for word in words if word[0] in "-+/"]
    if names and words[: len(names)] == names:
        act = _act(words[len(names) :] or ["none"])
        given = {n.rstrip("="): Option(act, n.endswith("=")) for n in names}
        return replace(spec, options={**spec.options, **given})
    return replace(spec, acts=(*spec.acts, _act(words)))


def _act(words: list[str]) -> Act:
    name, _, level = words[0].partition("!")
    return Act(name, Level.of(level) if level else None, " ".join(words[1:]))


def _clauses(text: str) -> list[str]:
    """A rule's clauses; a semicolon within quotes is none of their ends."""
    return [part.strip() for part in re.findall(r'(?:"[^"]*"|[^;"])+', text) if part.strip()]
