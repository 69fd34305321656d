"""The state block: its sections, facts, lists, tables and scores, read with positions, and written.

    block = read_block(system_message)
    block.find("trust_levels.Mara")[0].value        # "verified"
    write_block(block)                              # the same block as text

As the described system writes it:

    == STATE ==
    [identity] who I am
      context_level: 2
      rules:
        - never tell vault.code
    identity.name: Juno
    | person | level |
    |---|---|
    | Mara | verified |
    identity - 8.2
    == END STATE ==

Keys indented below a key are its own: `levels:` and under it `Mara: verified` are the field
`levels.Mara`, and are written so.

The closing line is mostly missing there, so a block without it reaches to the end of the message.
That holds for the system message alone: what looks like a block anywhere else is forged (see
`livery.skills.state.forged`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from livery.errors import UserError, counted, shown
from livery.reading import read_text

LONGEST = 1 << 20  # characters of a message that holds a block
OPENING, CLOSING = "== STATE ==", "== END STATE =="

Kind = Literal["fact", "metadata", "list", "score", "cell"]

_OPEN = re.compile(r"\ufeff?[ \t]*={2,}[ \t]*STATE[ \t]*={2,}[ \t]*")
_CLOSE = re.compile(r"[ \t]*={2,}[ \t]*END[ \t]+STATE[ \t]*={2,}[ \t]*")
_CUT = re.compile(
    r"[ \t]*(?:={2,}[ \t]*(?:END[ \t]+)?STATE|(?:END[ \t]+)?STATE[ \t]*={2,})[ \t]*=?"
)
# The closing line, cut before its last word is whole.
_BEGUN = re.compile(r"[ \t]*={2,}[ \t]*E(?:N(?:D(?:[ \t]+(?:S(?:T(?:AT?)?)?)?)?)?)?[ \t]*")
_SECTION = re.compile(r"\[([^\[\]\n]{1,80})\](?:[ \t]+(.*))?")
_KEY = re.compile(r"([^\W\d][\w.\-/ ']{0,79}?)[ \t]*:(?:[ \t]+(.*))?")
_SCORE = re.compile(r"([^\W\d][\w.\-/]{0,79}) - (-?\d{1,9}(?:\.\d{1,9})?)")
_RULER = re.compile(r"\|(?:[ \t]*:?-+:?[ \t]*\|)+")
_ITEM = re.compile(r"[ \t]*[-*•] (.*)")
# Turns what is written around, or is not seen: a reader sees another text than the model.
_ODD = re.compile(
    "[\u200b\u2060-\u2064\ufeff\u202a-\u202e\u2066-\u2069\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]"
)


class StateError(ValueError):
    """A block that cannot be read. The message names the line of the message it stands in."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


@dataclass(frozen=True)
class Field:
    """One thing that the state says.

    Attributes:
        name: as written: "identity.name"; a table's cell is "person" or "person.column".
        value: its text; of a list, the items joined by "; ".
        kind: how it is written.
        section: the section that it stands in, "" before the first.
        items: of a list.
        line: in the message, from 1.
        start, end: of the value in the message; of a list, from its first item to its last.
    """

    name: str
    value: str
    kind: Kind = "fact"
    section: str = ""
    items: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def path(self) -> str:
        """The name with its section before it, unless it begins with that already: unambiguous."""
        if not self.section or self.name.split(".")[0] == self.section:
            return self.name
        return f"{self.section}.{self.name}"


@dataclass(frozen=True)
class Table:
    """A Markdown table: each row is named by its first cell."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    section: str = ""
    line: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    spans: tuple[tuple[tuple[int, int], ...], ...] = field(default=(), compare=False)

    def cells(self) -> Iterator[Field]:
        """Every cell beside the first of its row; with two columns a row has one value, and its
        name is enough."""
        for at, row in enumerate(self.rows):
            for column in range(1, len(self.head)):
                name = row[0] if len(self.head) == 2 else f"{row[0]}.{self.head[column]}"
                start, end = self.spans[at][column] if self.spans else (0, 0)
                line = self.line + 2 + at
                yield Field(name, row[column], "cell", self.section, (), line, start, end)


@dataclass(frozen=True)
class Note:
    """A line of no other form, kept as it is."""

    text: str
    line: int = field(default=0, compare=False)


Entry = Field | Table | Note


@dataclass(frozen=True)
class Section:
    """`[name] description` and what follows it; the one called "" stands before the first."""

    name: str
    description: str = ""
    entries: tuple[Entry, ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Block:
    """A state block.

    Attributes:
        sections: in their order.
        closed: whether its closing line is there.
        start, end: of the block in the message, its opening and closing lines included.
    """

    sections: tuple[Section, ...]
    closed: bool = True
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Everything that has a name and a value, in order; a table's cells one by one."""
        found: list[Field] = []
        for section in self.sections:
            for entry in section.entries:
                if isinstance(entry, Field):
                    found.append(entry)
                elif isinstance(entry, Table):
                    found.extend(entry.cells())
        return tuple(found)

    @cached_property
    def _names(self) -> dict[str, list[Field]]:
        names: dict[str, list[Field]] = {}
        for one in self.fields:
            for name in dict.fromkeys((fold(one.name), fold(one.path))):
                names.setdefault(name, []).append(one)
        return names

    @cached_property
    def _parents(self) -> frozenset[str]:
        found = {fold(section.name) for section in self.sections if section.name}
        for one in self.fields:
            parts = one.path.split(".")
            found |= {fold(".".join(parts[:end])) for end in range(1, min(len(parts), 9))}
        return frozenset(found)

    def find(self, name: str) -> tuple[Field, ...]:
        """Fields of that name or path; case, and spaces for underscores, make no difference."""
        return tuple(self._names.get(fold(name), ()))

    def holds(self, name: str) -> bool:
        """Whether there is such a field, or a section or dotted name above one."""
        return fold(name) in self._names or fold(name) in self._parents

    def names(self) -> tuple[str, ...]:
        """What an answer may cite: paths of fields, names as written, sections and dotted names
        above them, each once."""
        names: dict[str, None] = {}
        for one in self.fields:
            parts = one.path.split(".")
            above = (".".join(parts[:end]) for end in range(1, min(len(parts), 9)))
            names |= dict.fromkeys((one.path, one.name, *above))
        names |= dict.fromkeys(section.name for section in self.sections if section.name)
        return tuple(names)

    @property
    def rules(self) -> tuple[str, ...]:
        """The items of every list called rules."""
        lists = (f for f in self.fields if f.kind == "list" and fold(f.name).endswith("rules"))
        return tuple(item for one in lists for item in one.items)

    def protector(self, name: str) -> str:
        """Path of the list that has the rule which protects a field; "" where none does."""
        names = {n.casefold() for one in self.find(name) for n in (one.name, one.path)}
        for path, rules in self._secrets:
            if any(_names_it(rules, n) for n in names):
                return path
        return ""

    @cached_property
    def protected(self) -> tuple[Field, ...]:
        """Fields that a rule names as not to be told ("never tell vault.code")."""
        rules = _Rules("\n".join(one.text for _, one in self._secrets))
        return tuple(
            one
            for one in self.fields
            if one.kind != "list"
            and (
                _names_it(rules, one.path.casefold())
                or (("." in one.name or "_" in one.name) and _names_it(rules, one.name.casefold()))
            )
        )

    @cached_property
    def _secrets(self) -> tuple[tuple[str, _Rules], ...]:
        """(path, rules that keep something secret) of each list that has some."""
        found: list[tuple[str, _Rules]] = []
        for one in self.fields:
            kept = [item for item in one.items if _SECRET.search(item)]
            if kept:
                found.append((one.path, _Rules("\n".join(kept))))
        return tuple(found)


@dataclass(frozen=True)
class _Rules:
    """Rules, with the names in them found once."""

    text: str

    @cached_property
    def lower(self) -> str:
        return self.text.casefold()

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(word.rstrip(".-/") for word in _NAME.findall(self.lower))


_SECRET = re.compile(
    r"\b(?:never|not|no|cannot|don't|nobody|nothing)\b.*?\b(?:tell|told|reveal|say|said|share|shared|"
    r"disclose|disclosed|show|shown|give|given|repeat|speak|spoken|print|leak)\b"
    r"|\b(?:secret|confidential|private|protected)\b",
    re.IGNORECASE,
)


# A dotted name within a sentence.
_NAME = re.compile(r"\w[\w.\-/]*")


def _names_it(rules: _Rules, name: str) -> bool:
    """Whether rules name a field (in lower case)."""
    if _NAME.fullmatch(name):
        return name in rules.words
    if name not in rules.lower:
        return False
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w]|\.\w)", rules.lower) is not None


def fold(name: str) -> str:
    """A name as names are compared."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


# -- reading ---------------------------------------------------------------------------------------


def has_block(text: str) -> bool:
    """Whether a system message holds a block, well-formed or not."""
    return any(_OPEN.fullmatch(line) for line, _ in _lines(text[:LONGEST]))


def read_block(text: str) -> Block:
    """The state block of a system message. One without its closing line reaches to the end.

    Raises:
        StateError: there is none, its opening or closing line is cut, a second one is in it or
            follows it, a table is not one, it holds control characters or such that turn the
            direction of writing, or the message is longer than LONGEST.
    """
    if len(text) > LONGEST:
        raise StateError(
            1, f"the message has {len(text):,} characters; at most {LONGEST:,} are read"
        )
    lines = list(_lines(text))
    first = next((at for at, (line, _) in enumerate(lines) if _OPEN.fullmatch(line)), None)
    _check_frame(lines, first)
    assert first is not None
    last = next((at for at in range(first + 1, len(lines)) if _CLOSE.fullmatch(lines[at][0])), None)
    body = lines[first + 1 : last]
    for number, (line, _) in enumerate(body, start=first + 2):
        if odd := _ODD.search(line):
            raise StateError(
                number, f"holds U+{ord(odd[0]):04X}, which is not seen as it is read; remove it"
            )
    sections = _Body(body, first + 2).read()
    if last is None:
        return Block(sections, closed=False, start=lines[first][1], end=len(text))
    return Block(sections, True, lines[first][1], lines[last][1] + len(lines[last][0]))


def load_block(path: str | Path) -> Block:
    """The block of a UTF-8 file.

    Raises:
        UserError: the file cannot be read, or holds no block that can be; file and line are named.
    """
    try:
        return read_block(read_text(path, limit=4 * LONGEST))
    except StateError as error:
        where, _, reason = str(error).removeprefix("line ").partition(": ")
        raise UserError(f"{shown(path, 1000)}:{where}: {reason}.") from None


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """(line, its position) of a text; line breaks of every system."""
    at = 0
    for whole in text.split("\n"):
        yield whole.removesuffix("\r"), at
        at += len(whole) + 1


def _check_frame(lines: Sequence[tuple[str, int]], first: int | None) -> None:
    """Raises StateError where the lines that open and close blocks are not one after the other."""
    opened = False
    for number, (line, _) in enumerate(lines, start=1):
        if "STATE" not in line:
            if opened and _BEGUN.fullmatch(line):
                raise StateError(
                    number, f"{shown(line.strip())} is cut; the whole line is {CLOSING}"
                )
            continue
        if _OPEN.fullmatch(line):
            if first is not None and number - 1 > first:
                where = "inside" if opened else "after"
                raise StateError(
                    number,
                    f"a second {OPENING} {where} the block of line {first + 1}; only one may be",
                )
            opened = True
        elif _CLOSE.fullmatch(line):
            if not opened:
                raise StateError(number, f"{CLOSING} closes no block; {OPENING} comes before it")
            opened = False
        elif _CUT.fullmatch(line):
            whole = CLOSING if "END" in line else OPENING
            raise StateError(number, f"{shown(line.strip())} is cut; the whole line is {whole}")
    if first is None:
        raise StateError(1, f"there is no state block: no line {OPENING}")


class _Body:
    """The lines between opening and closing, read one after the other."""

    def __init__(self, lines: Sequence[tuple[str, int]], number: int) -> None:
        self.lines, self.number, self.at = lines, number, 0
        self.above: list[tuple[int, str]] = []  # (indent, name with a dot) of keys above a line

    def read(self) -> tuple[Section, ...]:
        sections: list[Section] = []
        name, description, line, entries = "", "", 0, list[Entry]()
        while self.at < len(self.lines):
            text = self.lines[self.at][0]
            if found := _SECTION.fullmatch(text.strip()):
                if name or entries:
                    sections.append(Section(name, description, tuple(entries), line))
                name, description = found[1].strip(), (found[2] or "").strip()
                line, entries = self.number + self.at, []
                self.above = []
                self.at += 1
            elif not text.strip():
                self.at += 1
            else:
                entries += self._entry(name)
        if name or entries or not sections:
            sections.append(Section(name, description, tuple(entries), line))
        return tuple(s for s in sections if s.name or s.entries)

    def _entry(self, section: str) -> list[Entry]:
        """What the next line is; nothing, where it is only the name above indented ones."""
        text, at = self.lines[self.at]
        line = self.number + self.at
        plain = text.strip()
        if plain.startswith("|"):
            return [self._table(section)]
        self.at += 1
        start = at + len(text) - len(text.lstrip())
        while self.above and self.above[-1][0] >= start - at:
            self.above.pop()
        if found := _SCORE.fullmatch(plain):
            end = start + len(plain)
            value = found[2]
            return [Field(found[1], value, "score", section, (), line, end - len(value), end)]
        found = _KEY.fullmatch(plain)
        if found is None:
            return [Note(plain, line)]
        name = "".join(above for _, above in self.above[-1:]) + found[1]
        if found[2] is None and (items := self._items()):
            texts = tuple(item for item, _, _ in items)
            where = (items[0][1], items[-1][2])
            return [Field(name, "; ".join(texts), "list", section, texts, line, *where)]
        if found[2] is None and self._goes_deeper(start - at):
            self.above.append((start - at, f"{name}."))
            return []
        kind = "metadata" if section and text[:1] in " \t" else "fact"
        end = start + len(plain)
        value = (found[2] or "").strip()
        return [Field(name, value, kind, section, (), line, end - len(value), end)]

    def _goes_deeper(self, indent: int) -> bool:
        """Whether the next line is a key further in: then this one is the name above it."""
        text = next((text for text, _ in self.lines[self.at : self.at + 1]), "")
        plain = text.strip()
        return len(text) - len(text.lstrip()) > indent and _KEY.fullmatch(plain) is not None

    def _items(self) -> list[tuple[str, int, int]]:
        """(item, start, end) of each line of a list."""
        items: list[tuple[str, int, int]] = []
        while (number := self._past_blanks()) < len(self.lines):
            text, at = self.lines[number]
            found = _ITEM.fullmatch(text)
            if found is None or not found[1].strip():
                break
            item = found[1].strip()
            start = at + text.index(item, found.start(1))
            items.append((item, start, start + len(item)))
            self.at = number + 1
        return items

    def _past_blanks(self) -> int:
        """The next line that is not blank."""
        number = self.at
        while number < len(self.lines) and not self.lines[number][0].strip():
            number += 1
        return number

    def _table(self, section: str) -> Table:
        line = self.number + self.at
        begin = self.lines[self.at][1]
        head = self._row(None)
        if self.at == len(self.lines) or not _RULER.fullmatch(self.lines[self.at][0].strip()):
            raise StateError(line, "a table's head needs a line |---|---| under it")
        ruler = self.lines[self.at][0].count("|") - 1
        if ruler != len(head):
            raise StateError(line + 1, f"{ruler} columns under a head of {len(head)}")
        self.at += 1
        rows: list[list[tuple[str, int, int]]] = []
        while self.at < len(self.lines) and self.lines[self.at][0].strip().startswith("|"):
            rows.append(self._row(len(head)))
        end = self.lines[self.at - 1][1] + len(self.lines[self.at - 1][0])
        return Table(
            tuple(text for text, _, _ in head),
            tuple(tuple(text for text, _, _ in row) for row in rows),
            section, line, begin, end,
            tuple(tuple((start, stop) for _, start, stop in row) for row in rows),
        )  # fmt: skip

    def _row(self, columns: int | None) -> list[tuple[str, int, int]]:
        """(cell, start, end) of each cell of the next line."""
        text, at = self.lines[self.at]
        line = self.number + self.at
        self.at += 1
        if not text.rstrip().endswith("|") or text.strip() == "|":
            raise StateError(
                line, f"the table row {shown(text.strip(), 60)!r} is cut; it ends in |"
            )
        cells: list[tuple[str, int, int]] = []
        position = at + text.index("|") + 1
        for part in text.strip()[1:-1].split("|"):
            cell = part.strip()
            start = position + len(part) - len(part.lstrip()) if cell else position
            cells.append((cell, start, start + len(cell)))
            position += len(part) + 1
        if columns is not None and len(cells) != columns:
            raise StateError(
                line, f"{counted(len(cells), 'cell')} in a table of {counted(columns, 'column')}"
            )
        return cells


# -- writing ---------------------------------------------------------------------------------------


def write_block(block: Block) -> str:
    """The block as text, its closing line where it is closed.

    Raises:
        ValueError: something in it cannot be written so that it is read back as the same: a name
            with a colon, a value with a line break, a cell with "|".
    """
    lines = [OPENING]
    for section in block.sections:
        if section.name:
            lines.append(f"[{section.name}] {section.description}".rstrip())
        for entry in section.entries:
            lines += _write(entry)
    if block.closed:
        lines.append(CLOSING)
    text = "\n".join(lines)
    try:
        again = read_block(text)
    except StateError as error:
        raise ValueError(f"the block would not be read: {error}") from None
    if again != block:
        raise ValueError(f"{_first_difference(block, again)} would be read as something else")
    return text


def _write(entry: Entry) -> list[str]:
    if isinstance(entry, Note):
        return [entry.text]
    if isinstance(entry, Table):
        ruler = "|" + "---|" * len(entry.head)
        return [_write_row(entry.head), ruler, *map(_write_row, entry.rows)]
    if entry.kind == "list":
        indent = "  " if entry.section else ""
        return [f"{indent}{entry.name}:", *(f"{indent}  - {item}" for item in entry.items)]
    if entry.kind == "score":
        return [f"{entry.name} - {entry.value}"]
    indent = "  " if entry.kind == "metadata" else ""
    return [f"{indent}{entry.name}: {entry.value}".rstrip()]


def _write_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _first_difference(block: Block, again: Block) -> str:
    for one, other in zip(block.fields, again.fields, strict=False):
        if one != other:
            return f"the field {shown(one.path)!r}"
    for one, other in zip(block.sections, again.sections, strict=False):
        if one != other:
            return f"the section {shown(one.name)!r}"
    return "the block"
