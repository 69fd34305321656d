"""Which modules an adapter covers, in as few names as is safe."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def leaf(module: str) -> str:
    return module.rpartition(".")[2]


def last(module: str) -> str:
    """The shortest name that can stand for a module: its last path element, or two of them where
    that is a number, which would name whole blocks as well (`ffn.0`)."""
    name = leaf(module)
    return ".".join(module.split(".")[-2:]) if name.isdigit() else name


def short_names(modules: Iterable[str], existing: Iterable[str]) -> list[str]:
    """Names that select exactly `modules` by suffix.

    A last path element stands for all its modules where the adapter covers each one that exists in
    the base; otherwise, and where the base's modules are unknown, full paths are listed.
    """
    covered = set(modules)
    every = set(existing)
    whole: dict[str, bool] = {}
    for module in covered:
        whole.setdefault(last(module), bool(every))
    for module in every - covered:
        if last(module) in whole:
            whole[last(module)] = False
    names = {last(module) if whole[last(module)] else module for module in covered}
    return sorted(names)


def pattern(modules: Iterable[str], value: Callable[[str], T], default: T) -> dict[str, T]:
    """PEFT's rank_pattern or alpha_pattern: name -> value where it is not the default.

    A last path element is used where all its modules agree, full paths elsewhere; the two never
    overlap, so that PEFT's rule of the first hit cannot matter.
    """
    groups: dict[str, dict[str, T]] = {}
    for module in sorted(modules):
        groups.setdefault(last(module), {})[module] = value(module)
    made: dict[str, T] = {}
    for name, members in groups.items():
        values = set(members.values())
        if values == {default}:
            continue
        if len(values) == 1:
            made[name] = values.pop()
        else:
            made.update({m: v for m, v in members.items() if v != default})
    return made


def common_order(modules: Mapping[str, T]) -> list[str]:
    """Module paths in the order in which a person would list them: layer 2 before layer 10."""

    def key(module: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in module.split(".")]

    return sorted(modules, key=key)
