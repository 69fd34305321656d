"""YAML that remembers the line of every value, and reads `1e-5` as the number it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from livery.errors import UserError, shown
from livery.reading import read_text

DEEPEST = 20
# A configuration has some hundred values in a few kilobytes. PyYAML reads 1 MB in some seconds.
MOST_VALUES = 20_000
LARGEST = 256 << 10
_KINDS = {"int": "whole number", "float": "number", "bool": "truth value", "timestamp": "date"}

# YAML 1.1, which PyYAML follows, wants a dot in a float: without this `1e-5` is a string.
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")
# An octal 010 and a sexagesimal 1:30, which nobody means.
_AMBIGUOUS = re.compile(r"^[-+]?(?:0[0-7_]+$|[0-9_]+(?::[0-9_]+)+)")


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


@dataclass(frozen=True)
class Node:
    """One value and where it is: a scalar, a list of nodes, or a dict of nodes by key."""

    value: Any
    line: int

    def plain(self) -> Any:
        """The value without lines, as yaml.safe_load would give it."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


def load(path: str | Path) -> Node:
    """Read a YAML file whose top is a mapping (an empty file is an empty one).

    Raises:
        UserError: no such file, too large, not UTF-8, not YAML, not a mapping, nested deeper than
            DEEPEST or grown beyond MOST_VALUES by its aliases, a value that its tag or form does
            not allow, half of a surrogate pair, or a key that occurs twice.
    """
    path = Path(path)
    text = read_text(path, LARGEST)
    loader = _loader(text, path)
    try:
        tree = loader.get_single_node()
        top = Node({}, 1) if tree is None else _Reader(loader, path).convert(tree, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown(path)}:{mark.line + 1}" if mark else shown(path)
        said = shown(error.problem or error.context)
        raise UserError(f"{where}: not valid YAML: {said}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{shown(path)}: not valid YAML: {shown(error)}.") from None
    except RecursionError:
        line = loader.get_mark().line + 1
        raise UserError(f"{shown(path)}:{line}: nested deeper than {DEEPEST} levels.") from None
    finally:
        loader.dispose()
    if not isinstance(top.value, dict):
        raise UserError(f"{shown(path)}:{top.line}: expected `key: value` lines at the top.")
    return top


def _loader(text: str, path: Path) -> _Loader:
    try:
        return _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{error.character:04X}" if isinstance(error.character, int) else "?"
        raise UserError(
            f"{shown(path)}:{line}: not valid YAML: the control character {character}. Remove it."
        ) from None


class _Reader:
    """Turns the tree of one file into nodes, within bounds."""

    def __init__(self, loader: _Loader, path: Path) -> None:
        self._loader, self._path = loader, path
        self._values = 0
        self._merged: dict[int, dict[str, tuple[yaml.Node, yaml.Node]] | None] = {}

    def convert(self, node: yaml.Node, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._values += 1
        if depth > DEEPEST:
            raise self._error(node, f"nested deeper than {DEEPEST} levels.")
        if self._values > MOST_VALUES:
            raise self._error(node, f"its aliases grow it to more than {MOST_VALUES:,} values.")
        if isinstance(node, yaml.SequenceNode):
            return Node([self.convert(child, depth + 1) for child in node.value], line)
        if isinstance(node, yaml.MappingNode):
            entries = self._entries(node)
            return Node({key: self.convert(c, depth + 1) for key, (_, c) in entries.items()}, line)
        return Node(self._scalar(node), line)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self._loader.construct_object(node)
        except yaml.YAMLError:
            raise
        except Exception:  # PyYAML's constructors raise whatever their parsing meets
            kind = str(node.tag).rpartition(":")[2]
            raise self._error(
                node, f"{shown(node.value, 60)!r} is no {_KINDS.get(kind, kind)}. Correct it, or "
                "put it in quotes if it is a text."
            ) from None  # fmt: skip
        if isinstance(value, int | float) and _AMBIGUOUS.match(str(node.value)):
            raise self._error(
                node, f"{shown(node.value, 60)} is {value} in YAML 1.1 and something else in YAML "
                f"1.2. Write {value}."
            )  # fmt: skip
        if isinstance(value, str) and not _is_text(value):
            raise self._error(node, f"'{shown(value, 60)}' holds half of a character. Remove it.")
        return value

    def _entries(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys of a mapping, its own before those that `<<` brings."""
        if id(node) in self._merged:
            known = self._merged[id(node)]
            if known is None:
                raise self._error(node, "this mapping is merged (<<) into itself.")
            return known
        self._merged[id(node)] = None
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        brought: list[yaml.Node] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be a plain word.")
            if key.tag == "tag:yaml.org,2002:merge":
                brought += child.value if isinstance(child, yaml.SequenceNode) else [child]
            elif key.value in own:
                first = own[key.value][0].start_mark.line + 1
                raise self._error(
                    key,
                    f"{shown(key.value)} appears again (first on line {first}); keep one of them.",
                )
            else:
                own[key.value] = (key, child)
        for other in brought:
            if not isinstance(other, yaml.MappingNode):
                raise self._error(other, "<< takes a mapping, or a list of them.")
            for name, entry in self._entries(other).items():
                own.setdefault(name, entry)
        self._merged[id(node)] = own
        return own

    def _error(self, node: yaml.Node, what: str) -> UserError:
        return UserError(f"{shown(self._path)}:{node.start_mark.line + 1}: {what}")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
