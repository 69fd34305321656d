"""Data of a skill in a file of the user's: drawn from its generate(), split by families of wording.

Rows of one family (a template, a scene: whatever the row names) are never in two splits. Families
whose texts give each other away count as one, so that what the leak check would refuse is never
split in the first place.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from datagen.folder import index, normalise, refuse_leaks
from livery.dataset.leaks import row_text
from livery.errors import UserError
from livery.files import read_jsonl
from livery.skills.module import OwnModule, short
from livery.skills.own import own_grammar, skill_of
from livery.skills.rows import Example, grammar_checker, read_example

TRAIN_ROWS, VALID_ROWS, TEST_ROWS = 2_000, 100, 200
# Distinct rows drawn before families are dealt out; draws in a row that bring nothing new.
LOOK, STALL = 4_000, 10_000
# Rows made a second time, to see that they follow from the seed.
AGAIN = 50
# One family in so many is held out for the test, and one in so many for validation.
TEST_SHARE, VALID_SHARE = 6, 8

Row = dict[str, Any]


class OwnGenerator:
    """The generator of a user's module. See `datagen.make.Generator`."""

    def __init__(self, own: OwnModule) -> None:
        self._own, self._skill = own, skill_of(own)
        package = own.file.name == "__init__.py"
        self.NAME = own.module.__name__ if package else own.file.name
        self.VERSION = f"{self._skill.version} {own.digest[:12]}"  # an edited file, other data
        self.TRAIN_ROWS: int = own.get("TRAIN_ROWS", TRAIN_ROWS)
        if self.TRAIN_ROWS < 1:
            raise UserError(f"{own.file}: TRAIN_ROWS is {self.TRAIN_ROWS}; it must be at least 1.")

    def generate(self, seed: int, count: int | None = None) -> dict[str, list[Row]]:
        """Rows by split: train, valid, test.

        Raises:
            UserError: the module has no generate(), it fails, yields what is no row, gives too few
                rows, or wordings too much alike to hold any out.
        """
        cases = self._cases()
        near_cases = index(map(_text, cases)).closest
        draws = _Draws(self._own, seed, self._check())
        looked = list(islice(draws, LOOK))
        self._check_seeded(seed, looked)
        held = self._deal([e for e in looked if not near_cases(_text(e))], 1 if cases else 2)
        valid = [e for e in looked if held.get(_family(e)) == "valid"]
        test = [e for e in looked if held.get(_family(e)) == "test"]
        valid = [e for e in valid if not near_cases(_text(e))][:VALID_ROWS]
        test = cases or test[:TEST_ROWS]
        near_held = index(map(_text, [*valid, *test])).closest

        def fits(example: Example) -> bool:
            return _family(example) not in held and not near_held(_text(example))

        wanted = draws.length if count is None and draws.length else count or self.TRAIN_ROWS
        train = _take(chain(looked, draws), fits, wanted)
        whole = draws.length is not None or draws.ended
        if len(train) < wanted and not (count is None and whole):
            raise UserError(
                f"{self._own.line('generate')}: generate() yielded {len(train):,} distinct rows "
                f"for training that are not close to held-out ones; {wanted:,} were asked for. Add "
                f"wordings or values, or ask for fewer: --count {len(train)}, or TRAIN_ROWS = "
                f"{len(train)} in the file."
            )
        random.Random(f"{self._own.name} order {seed}").shuffle(train)
        made = {"train": train, "valid": valid, "test": test}
        self._check_ids(made)
        splits = {
            split: [self._row(split, n, example, seed) for n, example in enumerate(rows, start=1)]
            for split, rows in made.items()
        }
        refuse_leaks(splits)
        return splits

    def _check_seeded(self, seed: int, looked: Sequence[Example]) -> None:
        """Raises UserError where the same seed gives other rows a second time."""
        again = list(islice(_Draws(self._own, seed, self._check()), AGAIN))
        for one, other in zip(looked[:AGAIN], again, strict=False):
            if (one.messages, one.expected_text) != (other.messages, other.expected_text):
                raise UserError(
                    f"{self._own.line('generate')}: generate() yields different rows for the "
                    f"same seed: {short(one.text)}, then {short(other.text)}. Take every choice "
                    "from rng, and none from random, sets or the clock."
                )

    def _check_ids(self, made: Mapping[str, Sequence[Example]]) -> None:
        """Raises UserError where two rows of a split have one id."""
        for split, examples in made.items():
            for name, count in Counter(e.id for e in examples if e.id).items():
                if count > 1:
                    raise UserError(
                        f"{self._own.file}: {count} rows of {split} have the id {short(name)}; "
                        "give each its own, or none."
                    )

    def _check(self) -> Callable[[Any, str], Example]:
        """(row, where) -> the row read, with an answer that the grammar can write."""
        usual = self._skill.constraint()
        kept = lru_cache(maxsize=64)(partial(grammar_checker, self._own))
        if usual is not None:
            kept(usual)

        def read(row: Any, where: str) -> Example:
            example = read_example(self._skill, row, where)
            grammar = own_grammar(self._own, example) or usual
            if grammar is not None and (fault := kept(grammar)(example.expected_text)):
                raise UserError(
                    f"{where}: the grammar does not admit the answer "
                    f"{short(example.expected_text)}: {fault}. "
                    "Correct the answer, or GRAMMAR or JSON_SCHEMA."
                )
            return example

        return read

    def _cases(self) -> list[Example]:
        """The rows of CASES: a list in the module, or a file of JSON lines beside it."""
        found: Any = self._own.get("CASES", ())
        read = self._check()
        if isinstance(found, str | Path):
            path = self._own.file.parent / found
            if not path.is_file():
                raise UserError(f"{self._own.file}: CASES names {path}, and there is no such file.")
            return [read(row, f"{path}:{line}") for line, row in read_jsonl(path)]
        return [read(row, f"{self._own.file}: CASES[{at}]") for at, row in enumerate(found)]

    def _deal(self, rows: Sequence[Example], splits: int) -> dict[str, str]:
        """Family -> "test" or "valid"; families that are not in it are trained on.

        Args:
            splits: 2 to hold families out for both, 1 for validation alone.
        """
        groups, alike = _groups(rows)
        if len(groups) <= splits:
            which = f" Too much alike: {alike[0]!r} and {alike[1]!r}." if alike else ""
            raise UserError(
                f"{self._own.line('generate')}: generate() yields rows of {len(groups)} distinct "
                f"wordings, and at least {splits + 1} are needed so that some can be held out."
                f"{which} Add templates in other words, and name each row's template as its "
                '"family".'
            )
        sizes = Counter(_family(row) for row in rows)
        weight = {group: sum(sizes[family] for family in group) for group in groups}
        category = {_family(row): row.category for row in rows}
        of = {group: category[group[0]] for group in groups}
        many = sum(count >= 3 for count in Counter(of.values()).values())
        largest = max(groups, key=lambda group: (weight[group], group))
        order = _by_turns(
            {group: of[group] for group in groups if group != largest}, self._own.name
        )
        held: dict[str, str] = {}
        left = len(rows)
        for split, share in (("test", TEST_SHARE), ("valid", VALID_SHARE))[2 - splits :]:
            wanted = max(1, round(len(groups) / share), many if split == "test" else 0)
            taken: list[tuple[str, ...]] = []
            for group in order:
                # At least half of the rows are for training, whatever the sizes.
                if len(taken) < wanted and left - weight[group] >= len(rows) / 2:
                    taken.append(group)
                    left -= weight[group]
            taken = taken or [min(order, key=lambda group: weight[group])]
            order = [group for group in order if group not in taken]
            held.update({family: split for group in taken for family in group})
        return held

    def _row(self, split: str, number: int, example: Example, seed: int) -> Row:
        answer = {"role": "assistant", "content": example.expected_text}
        by_hand = split == "test" and "CASES" in vars(self._own.module)
        family = {"family": example.family} if example.family else {}
        made = f"{self.NAME} {self._skill.version} seed {seed}"
        meta = {
            **example.meta,
            "id": example.id or f"{split}-{number:05}",
            "split": split,
            "scenario": example.category,
            "source": "hand-written" if by_hand else "generated",
            "provenance": self.NAME if by_hand else made,
            **family,
        }
        tools = {"tools": list(example.tools)} if example.tools else {}
        return {"messages": [*example.messages, answer], **tools, "meta": meta}


class _Draws:
    """Different rows of a module's generate(), one after the other.

    Attributes:
        length: how many rows generate() returned, where it returned a list.
        ended: it has no more, by itself.
    """

    def __init__(self, own: OwnModule, seed: int, read: Callable[[Any, str], Example]) -> None:
        own.function("generate", "to make data")
        self._own, self._read = own, read
        rows = own.call("generate", random.Random(f"{own.name} {seed}"), doing="generate()")
        if not hasattr(rows, "__iter__") or isinstance(rows, str | bytes | Mapping):
            raise UserError(
                f"{own.line('generate')}: generate() returned {short(rows)}; it must yield rows, "
                "or return a list of them."
            )
        self.length = len(rows) if hasattr(rows, "__len__") else None
        self.ended = False
        self._rows = rows
        self._different = self._draw()

    def __iter__(self) -> Iterator[Example]:
        return self._different

    def _draw(self) -> Iterator[Example]:
        seen: dict[str, str] = {}
        rows, idle = iter(self._rows), 0
        while idle < STALL:
            with self._own.blamed("generate()"):
                try:
                    row = next(rows)
                except StopIteration:
                    self.ended = True
                    return
            where = f"{self._place(rows)}: generate()"
            example = self._read(row, where)
            asked = json.dumps([example.messages, example.tools], default=str)
            idle += 1
            if asked not in seen:
                idle, seen[asked] = 0, example.expected_text
                yield example
            elif seen[asked] != example.expected_text:
                raise UserError(
                    f"{where}: {short(example.text)} is answered {short(seen[asked])} in one row "
                    f"and {short(example.expected_text)} in another; keep the right one."
                )

    def _place(self, rows: Any) -> str:
        """The line of the yield, where generate() is a generator; else the line of generate()."""
        frame = getattr(rows, "gi_frame", None)
        return f"{self._own.file}:{frame.f_lineno}" if frame else self._own.line("generate")


def _take(
    examples: Iterator[Example], fits: Callable[[Example], bool], wanted: int
) -> list[Example]:
    """The first `wanted` that fit; fewer where none came for long."""
    taken: list[Example] = []
    idle = 0
    for example in examples:
        if len(taken) == wanted or idle == STALL:
            break
        idle += 1
        if fits(example):
            taken.append(example)
            idle = 0
    return taken


def _groups(rows: Sequence[Example]) -> tuple[list[tuple[str, ...]], tuple[str, str] | None]:
    """Families, those together whose texts give each other away; and two such texts, if any."""
    wordings = list({(_family(row), normalise(_text(row))): _text(row) for row in rows}.items())
    prepared = index([text for _, text in wordings])
    parent: dict[str, str] = {family: family for (family, _), _ in wordings}
    alike: tuple[str, str] | None = None

    def root(family: str) -> str:
        while parent[family] != family:
            family = parent[family]
        return family

    for (family, words), text in wordings:
        for at, _ in prepared.near(words):
            other = root(wordings[at][0][0])
            if other != root(family):
                alike = alike or (text, wordings[at][1])
                parent[other] = root(family)
    groups: dict[str, list[str]] = {}
    for family in parent:
        groups.setdefault(root(family), []).append(family)
    return sorted(tuple(sorted(group)) for group in groups.values()), alike


def _by_turns(category: Mapping[tuple[str, ...], str], name: str) -> list[tuple[str, ...]]:
    """Groups by chance, one of each category before a second of any; the only one of a category
    last."""
    counts, met = Counter(category.values()), Counter[str]()
    ranked: list[tuple[int, tuple[str, ...]]] = []
    for group in sorted(category, key=lambda group: _digest(name, group)):
        alone = counts[category[group]] == 1
        ranked.append((len(category) if alone else met[category[group]], group))
        met[category[group]] += 1
    return [group for _, group in sorted(ranked, key=lambda pair: pair[0])]


def _family(example: Example) -> str:
    return example.family or normalise(_text(example))


def _text(example: Example) -> str:
    """What the leak check compares."""
    row: Mapping[str, Any] = {"messages": example.messages}
    return row_text(row)


def _digest(name: str, group: Sequence[str]) -> str:
    return hashlib.sha256("\n".join((name, *group)).encode()).hexdigest()
