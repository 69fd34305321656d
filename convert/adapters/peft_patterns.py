"""Which entry of rank_pattern or alpha_pattern a module takes, and what target_modules selects.

PEFT matches `(.*\\.)?(key)$` with each key in turn and takes the first that hits
(`peft.utils.other.get_pattern_key`); a target_modules that is text must match the whole path. The
keys come from a file, so the time that they may take is bounded: most are plain paths, which are
looked up by their suffixes, and the others run in a matcher that can be stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from livery.errors import UserError, shown

SECONDS = 1.0  # of the processor, for all matching of one key of an adapter
_LONGEST = 100_000  # characters; a text that lists each module of a large model has some 50,000
_PLAIN = re.compile(r"[A-Za-z0-9_\-.]+")
_Dots = tuple[int, ...]


@dataclass
class Clock:
    """The processor's seconds left for one key's expressions; `where` names file and key."""

    where: str
    left: float = field(default_factory=lambda: SECONDS)

    def spend(self, since: float) -> None:
        """Raises UserError where the time that began at `since` was too much."""
        self.left -= time.process_time() - since
        if self.left <= 0:
            raise UserError(
                f"{self.where}: its regular expressions take longer than {SECONDS:g} s to match. "
                "List the module paths themselves."
            )


@dataclass(frozen=True)
class Expression:
    """A regular expression from a file, which stops when its time is over."""

    text: str
    clock: Clock
    match: Callable[..., Any] = field(repr=False)

    def hits(self, path: str) -> bool:
        """Raises UserError where the time is over."""
        since = time.process_time()
        try:
            hit = self.match(path, timeout=self.clock.left) is not None
        except TimeoutError:
            hit = False  # as long as the clock allows: `spend` says so
            self.clock.left = 0.0
        self.clock.spend(since)
        return hit


def compile_expression(text: str, clock: Clock, *, suffix: bool = False) -> Expression:
    """The expression for a whole path, or with `suffix` for its end after a dot, as PEFT has it.

    Raises:
        UserError: it is not a regular expression, too long, or takes too long to read.
    """
    import regex

    since = time.process_time()
    if len(text) > _LONGEST:
        raise UserError(
            f"{clock.where}: an expression of {len(text):,} characters; at most {_LONGEST:,}."
        )
    whole = rf"(.*\.)?({text})$" if suffix else text
    try:
        re.compile(whole)  # what PEFT itself would compile: the two differ at the edges
        # Without the shared cache: what a file says must not stay in memory.
        compiled = regex.compile(whole, cache_pattern=False)
    except (re.error, regex.error, OverflowError, RecursionError, ValueError) as error:
        raise UserError(
            f"{clock.where}: {shown(text)} is not a regular expression: {error}."
        ) from None
    clock.spend(since)
    return Expression(text, clock, compiled.match if suffix else compiled.fullmatch)


class Patterns:
    """A rank_pattern or alpha_pattern, ready to be asked many times; the first hit wins.

    A plain path is looked up: its dots stand for any character, as they do in the expression that
    it is, so for each place of dots the suffix is asked with dots there.
    """

    def __init__(self, patterns: Mapping[str, Any], where: str) -> None:
        self._values = list(patterns.values())
        self._plain: dict[str, int] = {}
        self._dots: dict[int, set[_Dots]] = {}
        self._others: list[tuple[int, Expression]] = []
        self._clock = Clock(where)
        for number, key in enumerate(patterns):
            if _PLAIN.fullmatch(key):
                self._plain[key] = number
                self._dots.setdefault(len(key), set()).add(_places(key))
            else:
                expression = compile_expression(key, self._clock, suffix=True)
                self._others.append((number, expression))

    def find(self, path: str, default: Any) -> Any:
        """The first entry's value that matches `path`, or `default`.

        Raises:
            UserError: matching takes too long.
        """
        since = time.process_time()
        best = min(self._plain_hits(path), default=len(self._values))
        self._clock.spend(since)
        for number, expression in self._others:
            if number > best:
                break
            if expression.hits(path):
                best = number
        return self._values[best] if best < len(self._values) else default

    def _plain_hits(self, path: str) -> Iterator[int]:
        for suffix in suffixes(path):
            for places in self._dots.get(len(suffix), ()):
                letters = list(suffix)
                for place in places:
                    letters[place] = "."
                number = self._plain.get("".join(letters))
                if number is not None:
                    yield number


def _places(key: str) -> _Dots:
    return tuple(at for at, letter in enumerate(key) if letter == ".")


def suffixes(path: str) -> Iterator[str]:
    """The path itself, and what follows each of its dots: `a.b.c`, `b.c`, `c`."""
    yield path
    for at, letter in enumerate(path):
        if letter == ".":
            yield path[at + 1 :]


class Targets:
    """What target_modules or target_parameters selects, as PEFT reads it."""

    def __init__(self, names: str | Iterable[str], where: str) -> None:
        self._all = names == "all-linear"
        self._expression: Expression | None = None
        self._names: frozenset[str] = frozenset()
        if isinstance(names, str):
            if not self._all:
                self._expression = compile_expression(names, Clock(where))
        else:
            self._names = frozenset(names)

    def has(self, path: str) -> bool:
        """Raises UserError where matching takes too long."""
        if self._expression is not None:
            return self._expression.hits(path)
        return self._all or any(suffix in self._names for suffix in suffixes(path))
