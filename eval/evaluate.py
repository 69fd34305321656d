"""One evaluation from beginning to end: load, answer, score, count leaks, put on record."""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import livery
from eval import forgetting, neutral, record
from eval.cases import Case
from eval.judge import Judge, hear
from eval.record import adapter_hashes
from eval.runner import (
    Arm,
    ArmRun,
    Mode,
    answers_of,
    best_constant,
    choose_arms,
    has_grammar,
    open_turn,
    run_arm,
    without_grammar,
)
from eval.scorers import Scorer, find_set, get_scorer, lacking
from livery.adapter_origin import choose_model, complete_options, read_origin
from livery.dataset.columns import read_columns
from livery.dataset.conversation import RowError
from livery.dataset.leaks import find_leaks, row_text
from livery.dataset.raw import raw_rows
from livery.dataset.rows import question, read_row
from livery.dataset.sources import digest, find
from livery.engines import threads
from livery.engines.engine import Decoding, Engine, Prompt, default_engine, open_engine
from livery.errors import UserError, counted, shown
from livery.files import sha256
from livery.machine import machine
from livery.models import name_model
from livery.paths import HOME
from livery.skills import CORRECT, PARSED, Metric, Skill


@dataclass(frozen=True)
class Request:
    """What to evaluate, and how.

    Attributes:
        skill: whose scorer and contract: a name, or the path of a file.
        adapter: folder (over http its name there); None scores the base alone.
        model: base; None takes the one that the adapter was trained on.
        engine: name of the engine, and its own options beside it.
        mode: constrained, unconstrained or both.
        baseline: answer with the base too.
        data: the user's own cases; None takes the skill's.
        cases: which of the skill's sets; "" takes its validation set, or the test split of its
            data (see `eval.scorers.find_set`).
        limit: at most this many cases, evenly spaced over the whole file.
        train_data: the data set to count leaks against; None takes the run's own.
        columns: which of its columns holds what.
        target: share of right answers of the headline arm that counts as passed.
        targets: of further metrics: the value to be reached, at least or, where lower is better, at
            most.
        decoding: how answers are drawn; the arms set its grammar.
        room: more tokens than `decoding` gives, where the longest expected answer needs them.
        threads: to compute with on a CPU, which the caller has set; None measures what is fastest.
        neutral: also ask the base and the adapter ten prompts unrelated to the skill and, for
            persona, have both read plain texts.
        judge: who compares base and adapter, of a skill whose answers can be judged.
        command: the command line, for the record.
    """

    skill: str
    adapter: str | None = None
    model: str | None = None
    engine: str = field(default_factory=default_engine)
    engine_options: dict[str, Any] = field(default_factory=dict[str, Any])
    mode: Mode = "both"
    baseline: bool = False
    data: str | None = None
    cases: str = ""
    limit: int | None = None
    train_data: str | None = None
    columns: tuple[str, ...] = ()
    target: float | None = None
    targets: Mapping[str, float] = field(default_factory=dict[str, float])
    decoding: Decoding = field(default_factory=Decoding)
    room: bool = False
    threads: int | None = None
    neutral: bool = True
    judge: Judge | None = None
    command: str = ""


class Counter(Protocol):
    """What `livery.progress.Progress` is to us."""

    def update(self, done: int) -> None: ...


_T = TypeVar("_T")
Show = Callable[[str, int], AbstractContextManager[Counter]]


@contextlib.contextmanager
def silent(what: str, total: int) -> Generator[Counter]:
    """A `Show` that shows nothing."""

    class Nothing:
        def update(self, done: int) -> None:
            pass

    yield Nothing()


def evaluate(
    request: Request, show: Show = silent, tell: Callable[[str], None] = lambda text: None
) -> record.Record:
    """Answer a skill's cases and score them: `livery eval` as a function.

    Args:
        request: what is evaluated, and how.
        show: (what, total) -> a progress display for one arm.
        tell: called with what the user is to know.

    Returns:
        What `livery eval --json` prints: "accuracy", "passed", "arms" with their intervals,
        "comparisons", "cases"; docs/evaluation.md describes its keys. Nothing is written.

    Raises:
        UserError: cases, adapter, model or training file are wrong.
    """
    from livery.training.origin import base_digest  # numpy, which `python -m eval --help` skips

    began = time.monotonic()
    scorer = get_scorer(request.skill)
    check_targets(request.targets, (PARSED, *scorer.METRICS))
    if request.judge is not None:
        check_judge(request, scorer)
    if lacks := lacking(scorer):
        _check_lacking(lacks, request.targets)
        tell(lacks)
    # Over http an adapter is a name that the endpoint knows, not a folder of ours.
    folder = None if request.engine == "http" else request.adapter
    origin = read_origin(folder)
    # Read before anything heavy is loaded: a broken line should not cost a minute.
    if request.data:
        title, source = Path(request.data).name, Path(request.data)
    else:
        name, source = find_set(request.skill, request.cases, origin.train_data)
        title = f"{name} set"
    cases = spread(scorer.cases(source), request.limit)
    if request.train_data:
        leaks = count_leaks(request.train_data, cases, request.columns)
    else:
        leaks = count_leaks(origin.train_data, cases, origin.columns) if origin.train_data else None
    model = choose_model(request.model, origin)
    options = complete_options(
        request.engine, request.engine_options, origin, model, request.adapter
    )
    stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    engine = open_engine(request.engine, model, request.adapter, **options)
    few = spread(cases, min(threads.PROMPTS, len(cases)))
    if note := threads.settle(engine, [_prompt(engine, case) for case in few], request.threads):
        tell(note)
    arms = choose_arms(
        has_adapter=engine.has_adapter,
        baseline=request.baseline,
        decoding=request.mode,
        constrainable=has_grammar(scorer, cases),
    )
    free = without_grammar(scorer, cases) if any(arm.constrained for arm in arms) else {}
    if free:
        tell(
            f"{sum(free.values())} of {counted(len(cases), 'case')} have no grammar and are "
            f"answered freely in every arm: {next(iter(free))}"
        )
    drawn = with_room(request.decoding, cases) if request.room else request.decoding
    runs = []
    for arm in arms:
        with show(arm.title, answers_of(cases)) as counter:
            runs.append(
                run_arm(engine, scorer, cases, arm, drawn,
                        lambda done, _, counter=counter: counter.update(done))
            )  # fmt: skip
    others = _ask_others(engine, scorer.SKILL, request, show)
    texts = _read_texts(engine, scorer, request, show)
    judged = _hear(request, scorer, cases, runs) if request.judge is not None else None
    engine.use_adapter(engine.has_adapter)
    facts = asdict(engine.facts())
    facts["model"] = name_model(facts["model"])
    decoding = {k: v for k, v in asdict(drawn).items() if k != "grammar"}
    return record.build(
        skill={
            "name": scorer.SKILL.name,
            "version": scorer.SKILL.version,
            "system_prompt": scorer.SKILL.system_prompt,
        },
        cases=cases,
        categories=scorer.CATEGORIES,
        source={"name": title, "path": _shown(source), "sha256": sha256(source)},
        runs=runs,
        leaks=leaks,
        constant=best_constant(scorer, cases),
        taught=(scorer.TAUGHT, [scorer.is_taught(case) for case in cases]),
        facts={
            **facts,
            "base_digest": base_digest(model),
            "adapter_sha256": adapter_hashes(folder),
            "decoding": decoding,
            "without_grammar": free,
            "seconds": round(time.monotonic() - began, 2),
            "began": stamp,
            "machine": machine(),
            "livery": livery.__version__,
            "command": request.command,
        },
        target=request.target,
        targets=request.targets,
        metrics=scorer.METRICS,
        neutral=others,
        texts=texts,
        judge=judged,
        lacking=lacks,
    )


def _check_lacking(lacks: str, targets: Mapping[str, float]) -> None:
    """Raises UserError where a target is of a metric that cannot be scored here."""
    for name in targets:
        if re.search(rf"\b{name}\b", lacks):
            raise UserError(f"--target {name}=...: {lacks}")


def _prompt(engine: Engine, case: Case) -> Prompt:
    """What is timed: of a case whose earlier answers are open, the conversation up to the first."""
    n = open_turn(case)
    return engine.prompt(case.messages[:n] if n >= 0 else case.messages, case.tools)


def _ask_others(engine: Engine, skill: Skill, request: Request, show: Show) -> record.Record | None:
    """What the adapter does to other prompts; None where nobody asked, or there is none. Over http
    the base is asked where it was asked for the skill's cases, too."""
    if not (request.neutral and engine.has_adapter):
        return None
    if request.engine == "http" and not request.baseline:
        return None
    with show("other prompts", 2 * len(neutral.PROMPTS)) as counter:
        return neutral.ask(engine, skill, counter.update)


def _read_texts(
    engine: Engine, scorer: object, request: Request, show: Show
) -> record.Record | None:
    """The perplexity of plain texts, of a skill whose scorer wants it; None where nobody asked."""
    if not (request.neutral and engine.has_adapter and getattr(scorer, "READS_TEXTS", False)):
        return None
    texts = spread(forgetting.read_texts(), request.limit)
    with show("plain texts", 2 * len(texts)) as counter:
        return forgetting.measure(engine, texts, counter.update)


def check_judge(request: Request, scorer: Scorer) -> None:
    """Raises UserError where there is nothing that a judge could compare."""
    if not hasattr(scorer, "JUDGE"):
        raise UserError(
            f"--judge: answers of {scorer.SKILL.name} are decided by rules; leave it out."
        )
    if request.adapter is None or not request.baseline:
        raise UserError("--judge compares an adapter with its base: give --adapter and --baseline.")


def _hear(
    request: Request, scorer: object, cases: Sequence[Case], runs: Sequence[ArmRun]
) -> record.Record:
    """The judge on base and tuned, both free or both constrained as the headline is."""
    assert request.judge is not None
    constrained = runs[0].arm.constrained
    base, tuned = (
        next(r for r in runs if r.arm == Arm(tuned, constrained)) for tuned in (False, True)
    )
    criteria = str(getattr(scorer, "JUDGE", ""))
    return hear(request.judge, cases, base, tuned, criteria, what="the judge")


def with_room(decoding: Decoding, cases: Sequence[Case]) -> Decoding:
    """A decoding that cuts no answer as long as the longest expected one.

    JSON has two characters to a token at the least, with the smallest of vocabularies; a quarter
    more is for answers that are wrong by being longer.
    """
    longest = max(len(case.expected_text) for case in cases)
    return replace(decoding, max_tokens=max(decoding.max_tokens, longest * 5 // 8))


def check_targets(targets: Mapping[str, float], metrics: Sequence[Metric]) -> None:
    """Raises UserError where a target is of no metric of the skill, or no share can be it."""
    known = {metric.name: metric for metric in metrics}
    for name, value in targets.items():
        if name not in known:
            raise UserError(
                f"--target {shown(name)}=...: there is no such metric; there are: "
                f"{', '.join((CORRECT.name, *known))}."
            )
        if known[name].kind == "share" and not 0 <= value <= 1:
            raise UserError(f"--target {name}={value:g}: a share is from 0 to 1.")


def spread(cases: list[_T], limit: int | None) -> list[_T]:
    """At most `limit` cases, evenly from the whole list, so that every category is met.

    Raises:
        UserError: a limit below 1.
    """
    if limit is None or limit >= len(cases):
        return cases
    if limit < 1:
        raise UserError(f"--limit is {limit}; it must be at least 1.")
    return [cases[i * len(cases) // limit] for i in range(limit)]


def count_leaks(
    train: str | Path, cases: list[Case], columns: Sequence[str] = ()
) -> dict[str, Any]:
    """How many cases stand in the training rows.

    Args:
        train: a data set, of which the training split counts (see `livery.dataset.sources`).
        columns: which column holds what, as words "prompt=question".

    Raises:
        UserError: the data are missing or malformed.
    """
    sources = find(train).train
    named = read_columns(columns)
    texts: list[str] = []
    for where, raw in (row for source in sources for row in raw_rows(source)):
        if isinstance(raw, RowError):
            raise raw
        try:
            texts.append(question(read_row(raw, where, named)))
        except RowError:
            # A skill's own cases are no rows to train on, but they say what they ask.
            if not (text := row_text(raw)):
                raise
            texts.append(text)
    found = find_leaks(texts, [case.asked for case in cases])
    return {
        "path": str(sources[0] if len(sources) == 1 else train),
        "sha256": digest(sources),
        "rows": len(texts),
        "same": sum(leak.kind == "same" for leak in found),
        "near": sum(leak.kind == "near" for leak in found),
        "cases": [
            {"id": cases[leak.case].id, "kind": leak.kind, "train_text": leak.train_text}
            for leak in found
        ],
    }


def _shown(path: Path) -> str:
    """A file of Livery's own is named from where Livery is, so that records compare."""
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else str(path)
