"""The import picture of the house: `python -m tests.architecture [--files] [--json] [FOLDER]`.

Every import is counted where it stands, at the top of a module or inside a function: an import that
waits in a function still ties two files together.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests import ROOT

HERE = ROOT
PARTS = ("mlx_train", "cuda_train", "convert", "datagen", "eval")
# The floor each top-level package stands on: imports run to a lower floor or stay in the package.
FLOORS = {"commands": 2, **dict.fromkeys(PARTS, 1), "livery": 0}


@dataclass(frozen=True, order=True)
class Import:
    """One import of a module of ours by another."""

    source: str
    line: int
    target: str


@dataclass
class Picture:
    """What `picture` counts; `up` and `sideways` break the rule, `circles` are sets of modules."""

    up: list[Import] = field(default_factory=list[Import])
    sideways: list[Import] = field(default_factory=list[Import])
    circles: list[list[str]] = field(default_factory=list[list[str]])
    files: dict[str, int] = field(default_factory=dict[str, int])
    lines: dict[str, int] = field(default_factory=dict[str, int])
    longest: dict[str, int] = field(default_factory=dict[str, int])


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of the house."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for top in FLOORS
        for path in sorted((root / top).rglob("*.py"))
    }


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """The modules of the house that one module imports, for a type checker or for a program."""
    for node in ast.walk(ast.parse(path.read_text())):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            targets = [
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known
                else node.module
                for alias in node.names
            ]  # fmt: skip
        for target in dict.fromkeys(targets):
            if target in known and target != name:
                yield Import(name, node.lineno, target)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected sets of more than one module (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(found)


def picture(root: Path = HERE) -> Picture:
    """Count the imports, circles, files and lines of the checkout at `root`."""
    known = modules(root)
    seen = Picture()
    edges: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        top = name.split(".")[0]
        for one in imports(name, path, known):
            other = one.target.split(".")[0]
            edges[name].add(one.target)
            if other != top and FLOORS[other] >= FLOORS[top]:
                (seen.up if FLOORS[other] > FLOORS[top] else seen.sideways).append(one)
        folder = str(path.parent.relative_to(root))
        count = len(path.read_text().splitlines())
        seen.files[folder] = seen.files.get(folder, 0) + 1
        seen.lines[folder] = seen.lines.get(folder, 0) + count
        if count > 400:
            seen.longest[str(path.relative_to(root))] = count
    seen.circles = circles(edges)
    return seen


def table(seen: Picture) -> str:
    """The picture as Markdown."""
    rows = ["| folder | files | lines |", "|---|---:|---:|"]
    rows += [
        f"| {name} | {seen.files[name]} | {seen.lines[name]:,} |" for name in sorted(seen.files)
    ]
    rows.append(f"| all | {sum(seen.files.values())} | {sum(seen.lines.values()):,} |")
    told = [
        f"imports up: {len(seen.up)}",
        *(f"  {one.source}:{one.line} -> {one.target}" for one in seen.up),
        f"imports sideways: {len(seen.sideways)}",
        *(f"  {one.source}:{one.line} -> {one.target}" for one in seen.sideways),
        f"circles: {len(seen.circles)}",
        *(f"  {', '.join(circle)}" for circle in seen.circles),
        f"files over 400 lines: {len(seen.longest)}",
        *(f"  {name}: {count}" for name, count in seen.longest.items()),
    ]
    return "\n".join([*rows, "", *told])


def summaries(root: Path) -> str:
    """Every module with the first sentence of its docstring."""
    lines: list[str] = []
    for path in modules(root).values():
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        first = " ".join(text.split("\n\n")[0].split())
        lines.append(f"{path.relative_to(root)!s:<42} {first}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.architecture", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, help="a checkout")
    parser.add_argument("--files", action="store_true", help="say what each file is instead")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--trips", action="store_true", help="count the files that a reader opens")
    given = parser.parse_args()
    if given.trips:
        from tests import trips

        print(trips.table(named=given.files))
        return
    if given.files:
        print(summaries(given.folder.resolve()))
        return
    seen = picture(given.folder.resolve())
    print(json.dumps(asdict(seen), indent=1) if given.json else table(seen))


if __name__ == "__main__":
    main()
