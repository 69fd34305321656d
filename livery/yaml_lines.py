"""YAML that remembers the line of every value, and reads `1e-5` as the number it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from livery.errors import UserError

DEEPEST = 20

# YAML 1.1, which PyYAML follows, wants a dot in a float: without this `1e-5` is a string.
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


@dataclass(frozen=True)
class Node:
    """One value and where it stands: a scalar, a list of nodes, or a dict of nodes by key."""

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
        UserError: no such file, not UTF-8, not YAML, not a mapping, or a key stands twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the configuration file in it.") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; change its permissions.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    loader = _Loader(text)
    try:
        tree = loader.get_single_node()
        top = Node({}, 1) if tree is None else _convert(loader, tree, path, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}.") from None
    finally:
        loader.dispose()
    if not isinstance(top.value, dict):
        raise UserError(f"{path}:{top.line}: expected `key: value` lines at the top.")
    return top


def _convert(loader: _Loader, node: yaml.Node, path: Path, depth: int) -> Node:
    line = node.start_mark.line + 1
    if depth > DEEPEST:
        raise UserError(f"{path}:{line}: nested deeper than {DEEPEST} levels.")
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(loader, child, path, depth + 1) for child in node.value], line)
    if isinstance(node, yaml.MappingNode):
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        _refuse_repeats(node, path)
        loader.flatten_mapping(node)  # resolves `<<`
        entries: dict[str, Node] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{path}:{key.start_mark.line + 1}: a key must be a plain word.")
            if key.value in entries and key.value not in own:
                continue
            entries[key.value] = _convert(loader, child, path, depth + 1)
        return Node(entries, line)
    return Node(loader.construct_object(node), line)


def _refuse_repeats(node: yaml.MappingNode, path: Path) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in seen and key.value != "<<":
            raise UserError(
                f"{path}:{line}: {key.value} stands here again (first on line {seen[key.value]}); "
                "keep one of them."
            )
        seen[key.value] = line
