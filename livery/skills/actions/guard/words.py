"""bash's words: quotes, escapes, braces, variables and substitutions, as far as they can be known.

A word becomes one or more texts. What is only known at run time stands in them as a mark
(places.UNKNOWN for a variable, OUTPUT for what a command prints, PIPE for <(…), HOME for ~).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

from tree_sitter import Node

from livery.skills.actions.guard.places import HOME, MARKS, OUTPUT, PIPE, SECRET, UNKNOWN
from livery.skills.actions.guard.scan import Scan
from livery.skills.actions.guard.tables import patterns

MAX_WORDS = 256
MAX_BRACES = 6  # groups in one word
_ANSI = re.compile(
    r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|U[0-9a-fA-F]{1,8}|[0-7]{1,3}|c.|.)", re.S
)
_PLAIN = {
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "E": "\x1b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
}
# "$@" and "${name[@]}": a word for each.
_EVERY = re.compile(r'"?\$(?:\{?([@*])\}?|\{(\w+)\[[@*]\]\})"?')
# Variables that every shell has; $9 and the like are empty where no script has arguments.
_KNOWN = {
    "HOME": HOME, "PWD": ".", "IFS": " \t\n", "TMPDIR": "/tmp", "USER": "user", "LOGNAME": "user",
    "HOSTNAME": "host", "RANDOM": "1", "UID": "1000", "EUID": "1000", "PPID": "1000",
    "$": "1000", "?": "0",
    "#": "0", "SECONDS": "1", "LINENO": "1", "SHELL": "/bin/bash", "0": "bash", "-": "",
    "OSTYPE": "linux",
    "HOSTTYPE": "x86_64", "BASH": "/bin/bash", "SHLVL": "1", "EPOCHSECONDS": "1",
    "XDG_CONFIG_HOME": HOME + "/.config",
    "XDG_CACHE_HOME": HOME + "/.cache", "XDG_DATA_HOME": HOME + "/.local/share", "PATH": UNKNOWN,
}  # fmt: skip


@dataclass
class Piece:
    """A stretch of a word and whether quotes kept it from being split and globbed."""

    text: str
    quoted: bool


@dataclass
class Reader:
    """Expands words of one source text.

    Attributes:
        scan: where findings go, with the shell's state.
        source: the text as bytes.
        walk: what judges the code within a substitution; gives its output where that is known.
    """

    scan: Scan
    source: bytes
    walk: Callable[[Node], str | None]

    def text(self, node: Node) -> str:
        """The source of a node."""
        return self.source[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def words(self, nodes: list[Node]) -> list[str]:
        """The words that neighbouring nodes make: those without a gap between them are one."""
        found: list[str] = []
        group: list[Node] = []
        for node in nodes:
            if group and node.start_byte != group[-1].end_byte:
                found += self.fields(group)
                group = []
            group.append(node)
        if group:
            found += self.fields(group)
        return found

    def fields(self, nodes: list[Node]) -> list[str]:
        """One word's texts after expansion: braces and unquoted variables can make several."""
        if len(nodes) == 1 and (found := _EVERY.fullmatch(self.text(nodes[0]))):
            name = found[1] or found[2]
            if name in ("@", "*"):
                return list(self.scan.state.arguments or [])
            if name in self.scan.state.variables:
                return self.scan.state.variables[name].split()
        self.scan.tick()
        pieces: list[Piece] = []
        for node in nodes:
            pieces += self.pieces(node)
        pieces = self.late(pieces)
        if not any(not piece.quoted for piece in pieces):
            return ["".join(piece.text for piece in pieces)]
        return _split(_braces(_tilde(pieces)))

    def one(self, nodes: list[Node]) -> str:
        """The texts of a word where only one can be, as in an assignment."""
        pieces: list[Piece] = []
        for node in nodes:
            pieces += self.pieces(node)
        return "".join(piece.text for piece in _tilde(self.late(pieces)))

    def late(self, pieces: list[Piece]) -> list[Piece]:
        """`$IFS/`: here the grammar leaves a dollar sign and, apart from it, the name."""
        for number in range(len(pieces) - 1, 0, -1):
            before, piece = pieces[number - 1], pieces[number]
            if before.text.endswith("$") and not before.quoted and not piece.quoted:
                found = re.match(r"[A-Za-z_]\w*|[0-9@*#?]", piece.text)
                if found:
                    value = self.variable(found[0])
                    pieces[number - 1 : number + 1] = [
                        Piece(before.text[:-1] + value, False),
                        Piece(piece.text[found.end() :], False),
                    ]
        return pieces

    def pieces(self, node: Node) -> list[Piece]:
        """What a node of a word stands for."""
        kind = node.type
        if kind in (
            "word",
            "number",
            "variable_name",
            "command_name",
            "test_operator",
            "regex",
            "extglob_pattern",
            "special_variable_name",
            "{",
            "}",
            "[",
            "]",
            "file_descriptor",
        ):
            if kind == "command_name" or (node.named_child_count and kind in ("word", "regex")):
                return [piece for child in node.children for piece in self.pieces(child)]
            if node.child_count and kind == "number":
                return [Piece(self.text(node), False)]
            return _unescaped(self.text(node))
        if kind == "raw_string":
            return [Piece(self.text(node)[1:-1], True)]
        if kind == "ansi_c_string":
            return [Piece(ansi(self.text(node)[2:-1]), True)]
        if kind in ("string", "translated_string"):
            return self._string(node)
        if kind == "concatenation":
            return [piece for child in node.children for piece in self.pieces(child)]
        if kind == "simple_expansion":
            return [Piece(self.spaced(self.variable(self.text(node)[1:])), False)]
        if kind == "expansion":
            return self._expansion(node)
        if kind == "command_substitution":
            known = self.walk(node)
            return [Piece(OUTPUT if known is None else known.rstrip("\n"), False)]
        if kind == "process_substitution":
            self.walk(node)
            return [Piece(PIPE, True)]
        if kind == "arithmetic_expansion":
            for child in node.named_children:
                self._inside(child)
            return [Piece("1", True)]
        if kind == "brace_expression":
            return [Piece(self.text(node), False)]
        if kind == "array":
            return [Piece(" ".join(self.words(node.named_children)), False)]
        if node.named_child_count:
            self._inside(node)
        return [Piece(self.text(node), False)]

    def spaced(self, value: str) -> str:
        """A value with white space where a changed IFS splits it."""
        split = self.scan.state.variables.get("IFS", "")
        return value.translate(dict.fromkeys(map(ord, split), " ")) if split.strip() else value

    def _inside(self, node: Node) -> None:
        """Substitutions anywhere below a node run."""
        if node.type in ("command_substitution", "process_substitution"):
            self.walk(node)
            return
        for child in node.named_children:
            self._inside(child)

    def _string(self, node: Node) -> list[Piece]:
        pieces: list[Piece] = []
        position: int | None = None
        for child in node.children:
            if position is not None and child.start_byte > position:
                gap = self.source[position : child.start_byte].decode("utf-8", "replace")
                pieces.append(Piece(gap, True))
            position = child.end_byte
            if child.type in ('"', '$"', "$"):
                if child.type == "$":
                    pieces.append(Piece("$", True))
            elif child.type == "string_content":
                text = re.sub(
                    r'\\([$`"\\\n])', lambda m: "" if m[1] == "\n" else m[1], self.text(child)
                )
                pieces.append(Piece(text, True))
            elif child.type == "string":
                pieces += self._string(child)
            else:
                pieces += [Piece(piece.text, True) for piece in self.pieces(child)]
        return pieces or [Piece("", True)]

    def variable(self, name: str) -> str:
        """The value of a variable, UNKNOWN where it is only known at run time."""
        state = self.scan.state
        if name in state.variables:
            return state.variables[name]
        if name in ("@", "*"):
            return " ".join(state.arguments or [])
        if re.fullmatch(r"[0-9]{1,6}", name) and int(name) > 0:
            arguments = state.arguments or []
            number = int(name) - 1
            return arguments[number] if number < len(arguments) else ""
        if name == "PWD" and state.cwd:
            return state.cwd
        if name not in _KNOWN and patterns("named").search(name):
            return UNKNOWN + SECRET
        return _KNOWN.get(name, UNKNOWN)

    def _expansion(self, node: Node) -> list[Piece]:
        text = self.text(node)[2:-1]
        for child in node.named_children:
            self._inside(child)
        found = re.fullmatch(r"(\w+|[@*#?$!-])(?:\[[@*]\])?", text)
        if found:
            return [Piece(self.variable(found[1]), False)]
        if re.fullmatch(r"#\w+(?:\[[@*]\])?", text):
            return [Piece("1", False)]
        found = re.match(r"(\w+)(:?[-=+?])", text)
        if found:
            value = self.variable(found[1])
            operator = found[2][-1]
            rest = [
                child
                for child in node.named_children
                if child.start_byte >= node.start_byte + 2 + found.end()
            ]
            other = (
                "".join(p.text for child in rest for p in self.pieces(child))
                if rest
                else text[found.end() :]
            )
            set_ = value not in ("", UNKNOWN)
            if operator in "-=" and not set_:
                # Unset or not: what is written here is the likelier value, and the judged one.
                return [Piece(other or value, False)]
            if operator == "+":
                return [Piece(other if set_ or value == UNKNOWN else "", False)]
            return [Piece(value, False)]
        if text.startswith("!"):
            inner = self.variable(text[1:]) if re.fullmatch(r"!\w+", text) else UNKNOWN
            return [Piece(self.variable(inner) if re.fullmatch(r"\w+", inner) else UNKNOWN, False)]
        return [Piece(self._sliced(text), False)]

    def _sliced(self, text: str) -> str:
        """`${x:1:2}`, `${x#a}`, `${x//a/b}`, `${x^^}` of a known value."""
        found = re.fullmatch(r"(\w+):\s*(-?\d+)(?::(-?\d+))?", text)
        if found and not any(mark in (value := self.variable(found[1])) for mark in MARKS):
            start = int(found[2])
            end = (
                None
                if found[3] is None
                else (start + int(found[3]) if int(found[3]) >= 0 else int(found[3]))
            )
            return value[start:end]
        found = re.fullmatch(r"(\w+)//?([^/*?\[\\$]+)/?([^$]*)", text)
        if found and not any(mark in (value := self.variable(found[1])) for mark in MARKS):
            return value.replace(found[2], found[3])
        found = re.fullmatch(r"(\w+)(\^\^|,,|\^|,)", text)
        if found and not any(mark in (value := self.variable(found[1])) for mark in MARKS):
            upper = found[2][0] == "^"
            return (
                (value.upper() if upper else value.lower())
                if len(found[2]) == 2
                else value[:1].upper() + value[1:]
                if upper
                else value[:1].lower() + value[1:]
            )
        found = re.match(r"(\w+)(##?|%%?)", text)
        if found and self.variable(found[1]).startswith((HOME, "/", ".")):
            return self.variable(found[1]) if found[2].startswith("#") else UNKNOWN
        return UNKNOWN


def ansi(text: str) -> str:
    """What $'…' stands for."""

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
            return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "?"
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        if code[0] == "c" and len(code) > 1:
            return chr(ord(code[1]) & 0x1F)
        return _PLAIN.get(code, code)

    return _ANSI.sub(one, text)


def _unescaped(text: str) -> list[Piece]:
    if "\\" not in text:
        return [Piece(text, False)]
    pieces: list[Piece] = []
    position = 0
    while position < len(text):
        at = text.find("\\", position)
        if at < 0:
            pieces.append(Piece(text[position:], False))
            break
        if at > position:
            pieces.append(Piece(text[position:at], False))
        if text[at + 1 : at + 2] != "\n":
            pieces.append(Piece(text[at + 1 : at + 2], True))
        position = at + 2
    return pieces


def _tilde(pieces: list[Piece]) -> list[Piece]:
    if pieces and not pieces[0].quoted and pieces[0].text.startswith("~"):
        text = pieces[0].text
        name = re.match(r"~(\w*|\+|-)(?=/|$)", text)
        if name and (len(text) > name.end() or len(pieces) == 1 or name.end() == len(text)):
            home = (
                "."
                if name[1] == "+"
                else UNKNOWN
                if name[1] == "-"
                else "/root"
                if name[1] == "root"
                else f"/home/{name[1]}"
                if name[1]
                else HOME
            )
            return [Piece(home + text[name.end() :], False), *pieces[1:]]
    return pieces


def _braces(pieces: list[Piece]) -> list[list[Piece]]:
    """`{a,b}` and `{1..3}` outside quotes, expanded; a word each."""
    for number, piece in enumerate(pieces):
        if piece.quoted or "{" not in piece.text:
            continue
        flat = _flat(pieces)
        if flat.count(("{", False)) > MAX_BRACES:
            return [[Piece(UNKNOWN, False)]]
        found = _brace(flat)
        if found is None:
            return [pieces]
        before, options, after = found
        words: list[list[Piece]] = []
        for option in options:
            words += _braces(_joined([*before, *option, *after]))
            if len(words) > MAX_WORDS:
                return [[Piece(UNKNOWN, False)]]
        del number
        return words
    return [pieces]


def _flat(pieces: list[Piece]) -> list[tuple[str, bool]]:
    return [(sign, piece.quoted) for piece in pieces for sign in piece.text or ("",)]


def _joined(signs: list[tuple[str, bool]]) -> list[Piece]:
    pieces: list[Piece] = []
    for sign, quoted in signs:
        if pieces and pieces[-1].quoted == quoted:
            pieces[-1].text += sign
        else:
            pieces.append(Piece(sign, quoted))
    return pieces


_Signs = list[tuple[str, bool]]


def _brace(flat: _Signs) -> tuple[_Signs, list[_Signs], _Signs] | None:
    for start, (sign, quoted) in enumerate(flat):
        if sign != "{" or quoted:
            continue
        depth, commas = 0, []
        for end in range(start, len(flat)):
            sign, quoted = flat[end]
            if quoted:
                continue
            if sign == "{":
                depth += 1
            elif sign == "," and depth == 1:
                commas.append(end)
            elif sign == "}":
                depth -= 1
                if depth == 0:
                    inner = "".join(s for s, _ in flat[start + 1 : end])
                    if commas:
                        bounds = [start, *commas, end]
                        options = [flat[a + 1 : b] for a, b in itertools.pairwise(bounds)]
                        return flat[:start], options, flat[end + 1 :]
                    span = re.fullmatch(r"(\w)\.\.(\w)|(\d{1,4})\.\.(\d{1,4})", inner)
                    if span:
                        return flat[:start], _span(span), flat[end + 1 :]
                    break
    return None


def _span(found: re.Match[str]) -> list[_Signs]:
    if found[3] is not None:
        first, last = int(found[3]), int(found[4])
        numbers = range(min(first, last), min(max(first, last), min(first, last) + 20) + 1)
        return [[(sign, False) for sign in str(number)] for number in numbers]
    first, last = sorted((ord(found[1]), ord(found[2])))
    return [[(chr(code), False)] for code in range(first, min(last, first + 64) + 1)]


def _split(words: list[list[Piece]]) -> list[str]:
    """Split at the white space that variables brought; drop a word that came to nothing."""
    found: list[str] = []
    for pieces in words:
        current, some = "", False
        for piece in pieces:
            if piece.quoted:
                current, some = current + piece.text, True
                continue
            parts = re.split(r"[ \t\n]+", piece.text)
            for number, part in enumerate(parts):
                if number and (current or some):
                    found.append(current)
                    current, some = "", False
                current += part
        if current or some:
            found.append(current)
    return found
