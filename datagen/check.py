"""Check data before they are trained on: form, repeats, contradictions, leaks, lengths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datagen import policies
from datagen.folder import read_manifest, split_leaks
from datagen.policies import Policy
from livery.collecting import few_collections
from livery.config.settings import TrainSettings
from livery.dataset.columns import read_columns
from livery.dataset.conversation import Dropped, Row, RowError, none_left
from livery.dataset.packed import Source
from livery.dataset.reader import Reader
from livery.dataset.rows import asked_and_answered, question
from livery.dataset.sources import SPLITS, Splits, digest, find
from livery.errors import UserError, sentence, shown
from livery.skills import AnswerError, get_skill, skill_names


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data.

    Attributes:
        kind: "form" (training refuses the file), "dropped" (training leaves the row out),
            "answer", "policy" (of the skill's own), "duplicate", "contradiction", "leak" or
            "manifest".
        where: "file:line", or "file row N" where rows have no line.
        message: what is wrong and what to do.
        serious: training on it would be wrong; else it is only worth knowing.
    """

    kind: str
    where: str
    message: str
    serious: bool = True


@dataclass(frozen=True)
class Lengths:
    """Lengths of one split's rows under one model's tokenizer.

    Attributes:
        examples: rows that would be trained on (or, for a test file, asked).
        dropped: rows that would be left out.
        shortest, median, longest: tokens of a row.
        supervised: tokens that carry loss, over all rows.
    """

    examples: int
    dropped: int
    shortest: int
    median: int
    longest: int
    supervised: int


@dataclass
class Findings:
    """What a check found.

    Attributes:
        path: what was checked.
        rows: rows of each split that are trained on.
        dropped: rows of each split that are left out.
        problems: in the order of files and lines.
        lengths: of each split, where a model was given.
        notes: what training would tell of the rows.
    """

    path: str
    rows: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[Problem] = field(default_factory=list[Problem])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    lengths: dict[str, Lengths] = field(default_factory=dict[str, Lengths])
    notes: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """Nothing serious was found."""
        return not any(problem.serious for problem in self.problems)


@few_collections()
def check(
    path: str | Path,
    settings: TrainSettings | None = None,
    *,
    model: str | None = None,
    strict: bool = False,
) -> Findings:
    """Check a data set, whatever its format (see `livery.dataset.sources`).

    Args:
        settings: how training would read it.
        model: folder or hub id of the model whose tokenizer and template decide; None takes none,
            and lengths are not counted.
        strict: rows that training would leave out are serious.

    Raises:
        UserError: there is nothing at `path`, or no training data in the folder.
    """
    settings = settings or TrainSettings()
    splits = find(path)
    manifest = read_manifest(Path(path)) if Path(path).is_dir() else {}
    skill = manifest.get("skill")
    parse = get_skill(skill).parse if skill in skill_names() else None
    policy = policies.find_policy(splits.train, str(skill) if parse is not None else "")
    if policy is not None and policies.has_own_form(policy, splits.train):
        return _check_own(Findings(str(path)), policy, splits)
    chat = _chat(model, settings) if model is not None else None
    reader = Reader(read_columns(settings.columns), settings.train_on)
    findings = Findings(str(path))
    asked: dict[str, list[tuple[str, str]]] = {}
    for name, sources in splits.items():
        check_row = _RowCheck(parse, findings.problems)
        lengths = _Counted()
        dropped = set[str]()
        asked[name] = []
        before = len(findings.problems)
        for found in _verdicts(reader, sources, chat, settings):
            if isinstance(found, RowError):
                findings.problems.append(Problem("form", found.where, found.reason))
            elif isinstance(found, Dropped):
                dropped.add(found.where)
                message = f"left out: {sentence(found.reason)}"
                findings.problems.append(Problem("dropped", found.where, message, serious=strict))
            else:
                row, tokens = found
                check_row(row)
                lengths.add(tokens)
                asked[name].append((row.where, question(row)))
        _check_policy(policy, sources, findings)
        kept = {where for where, _ in asked[name]}
        findings.rows[name], findings.dropped[name] = len(kept), len(dropped - kept)
        _check_split(name, sources, findings, before)
        if chat is not None and kept:
            findings.lengths[name] = lengths.summary(len(dropped))
        _check_manifest(name, sources, manifest, findings.problems)
        if name == "train":
            try:
                reader.check_columns()
            except UserError as error:
                where = str(sources[0])
                message = str(error).removeprefix(f"{where}: ")
                findings.problems.append(Problem("form", where, message))
    _leaks(asked, findings.problems)
    findings.notes = [*reader.notes(), *(policy.notes() if policy is not None else ())]
    return findings


def _check_policy(policy: Policy | None, sources: Sequence[Source], findings: Findings) -> None:
    """What the skill itself demands of each row."""
    for where, fault in policies.faults(policy, sources) if policy is not None else ():
        message = f"{fault.message} (rule {fault.rule})"
        findings.problems.append(Problem("policy", where, message, fault.serious))


def _check_own(findings: Findings, policy: Policy, splits: Splits) -> Findings:
    """Check rows of a form that the skill alone knows."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for name, sources in splits.items():
        asked[name] = []
        before, seen, ids = len(findings.problems), dict[str, str](), dict[str, str]()
        for found in policies.read_own(policy, sources):
            if isinstance(found, RowError):
                findings.problems.append(Problem("form", found.where, found.reason))
                continue
            where, text, name_of_row = found
            asked[name].append((where, text))
            if (first := ids.setdefault(name_of_row or where, where)) != where:
                message = f"has the id {shown(name_of_row)!r} of {first}; give each row its own."
                findings.problems.append(Problem("duplicate", where, message))
            if text and (first := seen.setdefault(text, where)) != where:
                message = f"asks what {first} asks."
                findings.problems.append(Problem("duplicate", where, message, serious=False))
        _check_policy(policy, sources, findings)
        findings.rows[name], findings.dropped[name] = len(asked[name]), 0
        _check_split(name, sources, findings, before)
    _leaks(asked, findings.problems)
    findings.notes = [policy.FORM, *policy.notes()]
    return findings


def _chat(model: str, settings: TrainSettings) -> Any:
    from livery.dataset.template import load_chat

    return load_chat(model, settings.template)


_Tokens = list[tuple[int, int]]  # of each example of a row: tokens, and those that carry loss


def _verdicts(
    reader: Reader, sources: Sequence[Source], chat: Any, settings: TrainSettings
) -> Iterator[tuple[Row, _Tokens] | Dropped | RowError]:
    """What training makes of each row; a file that cannot be read on ends as a RowError."""
    rows = reader.read(sources)
    try:
        if chat is None:
            for row in rows:
                yield row if isinstance(row, Dropped | RowError) else (row, [])
            return
        from livery.dataset.load import judge

        for found in judge(
            rows, chat, max_length=settings.max_length, mask_prompt=settings.mask_prompt,
            tell=reader.tell,
        ):  # fmt: skip
            if isinstance(found, Dropped | RowError):
                yield found
            else:
                yield found.row, [(len(e.tokens), int(e.supervised.sum())) for e in found.examples]
    except RowError as error:
        yield error
    except UserError as error:
        source = next((str(s) for s in sources if str(error).startswith(str(s))), str(sources[0]))
        line = re.match(r":\d+(?=: )", str(error).removeprefix(source))
        where = source + (line[0] if line else "")
        yield RowError(where, str(error).removeprefix(where).removeprefix(": "))


class _Counted:
    """Token counts of a split's examples."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.supervised = 0

    def add(self, tokens: _Tokens) -> None:
        self.tokens += [count for count, _ in tokens]
        self.supervised += sum(learned for _, learned in tokens)

    def summary(self, dropped: int) -> Lengths:
        counts = sorted(self.tokens)
        return Lengths(
            examples=len(counts),
            dropped=dropped,
            shortest=counts[0],
            median=counts[len(counts) // 2],
            longest=counts[-1],
            supervised=self.supervised,
        )


class _RowCheck:
    """Looks at one row after the other for answers that do not parse, repeats, contradictions."""

    def __init__(self, parse: Callable[[str], Any] | None, problems: list[Problem]) -> None:
        self.parse, self.problems = parse, problems
        self.seen: dict[bytes, tuple[str, str]] = {}

    def __call__(self, row: Row) -> None:
        asked, answer = asked_and_answered(row)
        if self.parse is not None:
            try:
                self.parse(answer)
            except AnswerError as error:
                self.problems.append(Problem("answer", row.where, f"the answer is {error}."))
        # To the letter: "A" and "a" may be asked apart, and white space may be what is asked.
        key = blake2b((asked or answer).strip().encode(), digest_size=16).digest()
        where, other = self.seen.setdefault(key, (row.where, answer))
        if where == row.where:
            return
        if other == answer:
            message = f"the same as {where}."
            self.problems.append(Problem("duplicate", row.where, message, serious=False))
        else:
            message = (
                f"asks what {where} asks and answers {_short(answer)}, not {_short(other)}; keep "
                "the right one."
            )
            self.problems.append(Problem("contradiction", row.where, message))


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _check_split(
    name: str, sources: Sequence[Source], findings: Findings, problems_before: int
) -> None:
    """Training needs a row; with none it says why."""
    refused = any(p.kind == "form" for p in findings.problems[problems_before:])
    if findings.rows[name] or refused:
        return
    count = findings.dropped[name]
    message = f"{none_left(count)}." if count else "holds no rows."
    findings.problems.append(Problem("form", str(sources[0]), message))


def _check_manifest(
    name: str, sources: Sequence[Source], manifest: dict[str, Any], problems: list[Problem]
) -> None:
    recorded = manifest.get("splits", {}).get(name, {}).get("sha256")
    if recorded is not None and recorded != digest(sources):
        message = "was changed after it was made: its SHA-256 is not the manifest's."
        problems.append(Problem("manifest", str(sources[0]), message, serious=False))


def _leaks(asked: dict[str, list[tuple[str, str]]], problems: list[Problem]) -> None:
    texts = {name: [text for _, text in asked[name]] for name in SPLITS if name in asked}
    for one, other, leak in split_leaks(texts):
        problems.append(
            Problem(
                "leak",
                asked[other][leak.case][0],
                f"{_short(leak.case_text)} is also in {asked[one][leak.train][0]} "
                f"({_short(leak.train_text)}); scores on it would be too high.",
            )
        )
