"""A teacher evaluation from beginning to end: rows, answers, verdicts, two files."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import livery
from eval.dsl import answering
from eval.dsl.items import describe, read_items
from eval.dsl.results import Judge, judge_rows, summarise
from eval.record import adapter_hashes
from livery import outputs
from livery.adapter_origin import choose_model, complete_options, read_origin
from livery.engines import threads
from livery.engines.engine import Decoding, default_engine, open_engine
from livery.files import explain_os_errors, sha256, write_json, write_jsonl
from livery.models import name_model
from livery.progress import Progress

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is evaluated, and where it is written; see `livery dsl evaluate --help`.

    Attributes:
        decoding: all but its token limit, which `max_new_tokens` or the targets give.
        longest: tokens of prompt and answer together.
    """

    dataset: Path
    results: Path
    summary: Path
    checkpoint: Path
    judge: Judge = field(default_factory=Judge)
    adapter: str | None = None
    model: str | None = None
    engine: str = field(default_factory=default_engine)
    engine_options: dict[str, Any] = field(default_factory=dict[str, Any])
    split: str = ""
    train_data: Path | None = None
    include_invalid: bool = False
    limit: int | None = None
    sample_seed: int | None = None
    constrained: bool = False
    max_new_tokens: int | None = None
    longest: int | None = None
    every: int = 64
    resume: bool = True
    threads: int | None = None
    decoding: Decoding = field(default_factory=Decoding)


def run(request: Request, tell: Callable[[str], None] = lambda text: None) -> Json:
    """Evaluate, write both files, and return the summary.

    Raises:
        UserError: rows, model, teacher or places are wrong. Answers and verdicts so far are kept.
    """
    from livery.training.origin import base_digest

    what = "an evaluation of a dsl student"
    for place, ours in (
        (request.results, outputs.holds("raw_output", "judge")),
        (request.summary, outputs.holds("parsed_rate", "judge")),
        (request.checkpoint, outputs.holds("made_from", alone=True)),
    ):
        inputs = (request.dataset, request.train_data)
        outputs.check_file(place, overwrite=True, inputs=inputs, ours=ours, what=what)
    folder = None if request.engine == "http" else request.adapter
    origin = read_origin(folder)
    train = request.train_data or origin.train_data
    if train is None and request.adapter:
        tell("what the student was trained on is not known: name it with --train-data.")
    items, refused = read_items(
        request.dataset, split=request.split, include_invalid=request.include_invalid,
        train=train, limit=request.limit, seed=request.sample_seed,
    )  # fmt: skip
    if refused:
        tell(describe(refused))
    model = choose_model(request.model, origin)
    options = complete_options(
        request.engine, request.engine_options, origin, model, request.adapter
    )
    engine = open_engine(request.engine, model, request.adapter, **options)
    few = [engine.prompt(item.case.messages) for item in items[: threads.PROMPTS]]
    if note := threads.settle(engine, few, request.threads):
        tell(note)
    limit = request.max_new_tokens or answering.longest_answer(engine, items)
    decoding = dataclasses.replace(request.decoding, max_tokens=limit)
    facts = dataclasses.asdict(engine.facts())
    made_from: Json = {
        "engine": request.engine,
        "base_digest": base_digest(model),
        "adapter": adapter_hashes(folder) or request.adapter,
        "options": {name: str(value) for name, value in sorted(options.items())},
    }
    with Progress("answering", len(items), "answers") as bar:
        answers = answering.answer(
            engine, items, decoding, request.checkpoint, made_from,
            constrained=request.constrained, every=request.every, resume=request.resume,
            longest=request.longest, progress=bar.update,
        )  # fmt: skip
    rows = judge_rows(items, answers, request.judge)
    summary = summarise(rows, request.judge.name, {
        "refused": refused,
        "max_new_tokens": limit,
        "temperature": decoding.temperature,
        "constrained": request.constrained,
        "without_grammar": sum(item.case.grammar is None for item in items),
        "dataset": str(request.dataset),
        "dataset_sha256": sha256(request.dataset),
        "split": request.split or None,
        "train_data": None if train is None else str(train),
        "adapter": request.adapter,
        "model": name_model(facts["model"]),
        "engine": facts["engine"],
        "made_from": made_from,
        "livery": livery.__version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    })  # fmt: skip
    with explain_os_errors(request.results, "writing the evaluation"):
        for place in (request.results, request.summary):
            place.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(request.results, rows)
        write_json(request.summary, summary)
    return summary
