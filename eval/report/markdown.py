"""A run as Markdown: the same content as the web page, without the plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.neutral import asked
from eval.record import Record
from eval.report import facts, words
from eval.report.run_data import RunData


def document(data: RunData) -> str:
    """The whole document."""
    blocks = [f"# {_text(data.folder.resolve().name)}", _text(facts.summary(data))]
    for record in data.evaluations:
        blocks += _evaluation(record)
    blocks += _training(data)
    blocks += _samples(data)
    for record in data.evaluations:
        blocks.append(f"## Facts of the evaluation: {_title(record)}")
        blocks.append(table(["", ""], [[k, code(v)] for k, v in facts.evaluation(record)]))
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table of cells that are Markdown already."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _title(record: Record) -> str:
    return _text(words.set_title(record))


def _evaluation(record: Record) -> list[str]:
    arms = record["arms"]
    verdict = words.verdict(record)
    lines = [f"- {_text(said)}" for said in words.changes(record)]
    more = (
        *words.trained(record),
        words.constant(record),
        words.taught(record),
        words.leaks(record),
    )
    lines += [f"- {_text(said)}" for said in more if said]
    if record.get("stale"):
        lines.append("- **The adapter has changed since this evaluation; run it again.**")
    return [
        f"## {_title(record)}: {words.count(record['set']['cases'], 'case')}"
        + (f" ({verdict})" if verdict else ""),
        table(
            ["", "right", "95 % interval", "unparsed", "cut off", "speed"],
            [
                [
                    words.arm_title(key),
                    f"**{words.percent(arm['accuracy'])}** ({arm['correct']} of {arm['total']})",
                    words.interval(arm),
                    str(arm["unparsed"]),
                    str(arm["unfinished"]),
                    "; ".join(words.speed(arm)),
                ]
                for key, arm in arms.items()
            ],
        ),
        "\n".join(lines),
        *_metrics(record),
        "### By category",
        _categories(record),
        *_regressions(record),
        *_failures(record),
        *_neutral(record),
        *_texts(record),
        *_judge(record),
    ]


def _categories(record: Record) -> str:
    arms = record["arms"]
    headline = arms[record["headline"]]["categories"]
    return table(
        ["category", "cases", *map(words.arm_title, arms), "interval"],
        [
            [
                _text(name.replace("_", " ")),
                str(share["total"]),
                *(words.percent(arm["categories"][name]["accuracy"]) for arm in arms.values()),
                words.interval(share),
            ]
            for name, share in headline.items()
        ],
    )


def _metrics(record: Record) -> list[str]:
    """Every metric beside the headline's, with what it says and its interval in each arm."""
    metrics, arms = words.measured(record), record["arms"]
    if not metrics:
        return []
    rows: list[list[str]] = []
    for metric in metrics:
        total, cells = words.cells(metric, arms)
        shown = [_text(f"{figure} ({spread})" if spread else figure) for figure, spread in cells]
        said = [_text(words.metric_name(metric)), _text(metric["help"]), str(total)]
        rows.append([*said, *shown])
    head = ["metric", "", "cases", *map(words.arm_title, arms)]
    return ["### Metrics, with 95 % intervals", table(head, rows), _text(words.lacking(record))]


def _regressions(record: Record) -> list[str]:
    found = words.regressions(record)
    if not found:
        return []
    head = ["arm", "category", "request", "expected", "got", "wrong with it"]
    rows = [[words.arm_title(after), *_cells(case, after)] for case, _, after in found]
    return ["### Regressions (right before tuning, wrong after)", table(head, rows)]


def _failures(record: Record) -> list[str]:
    """Every failure of the tuned arms (of the base where there are none)."""
    blocks: list[str] = []
    for key in words.listed_arms(record)[0]:
        failed = words.failures(record, key)
        blocks.append(f"### Failures, {words.arm_title(key)}: {len(failed)}")
        if failed:
            head = ["category", "request", "expected", "got", "wrong with it"]
            blocks.append(table(head, [_cells(case, key) for case in failed]))
    return blocks


def _neutral(record: Record) -> list[str]:
    """Prompts of no skill: the base's answer beside the adapter's."""
    said, found = words.neutral(record), asked(record)
    if found is None:
        return [_text(said)] if said else []
    rows = [
        [
            _text(row["prompt"]), code(row["base"]), code(row["tuned"]),
            _text(words.neutral_mark(record, row)),
        ]
        for row in found["prompts"]
    ]  # fmt: skip
    return ["### Other prompts", _text(said), table(["prompt", "base", "tuned", ""], rows)]


def _texts(record: Record) -> list[str]:
    """What the adapter costs its base at plain text, and where most."""
    if not (said := words.texts(record)):
        return []
    rows = [[_text(text), base, tuned] for text, base, tuned in words.worst_texts(record)]
    head = ["where it costs most", "base", "tuned"]
    return ["### Plain texts", _text(said), table(head, rows) if rows else ""]


def _judge(record: Record) -> list[str]:
    """A judge's figures, named as such."""
    said = words.judge(record)
    return ["### Judge's figure", *map(_text, said)] if said else []


def _cells(case: dict[str, object], arm: str) -> list[str]:
    answers: dict[str, dict[str, str]] = case["answers"]  # pyright: ignore[reportAssignmentType]
    answer = answers[arm]
    return [
        _text(str(case["category"]).replace("_", " ")),
        _text(words.request(case)),
        code(str(case["expected_text"])),
        code(answer["answer"]),
        _text(answer["error"]),
    ]


def _training(data: RunData) -> list[str]:
    rows = facts.training(data)
    if not rows:
        return []
    blocks = ["## Training", table(["", ""], [[k, code(v)] for k, v in rows])]
    if data.eval_losses:
        points = [[str(r["step"]), f"{r['eval_loss']:.4f}"] for r in data.eval_losses]
        blocks.append(table(["step", "validation loss"], points))
    if pairs := facts.held_out_pairs(data):
        blocks.append(table(list(pairs[0]), [list(row.values()) for row in pairs]))
    return blocks


def _samples(data: RunData) -> list[str]:
    blocks = ["## Samples over time"] if data.samples else []
    shorts = facts.short_prompts(data.samples)
    for sample, short in zip(data.samples, shorts, strict=True):
        blocks.append(f"**{_text(short)}**")
        rows = [[f"step {step}", code(text)] for step, text in sample.answers]
        blocks.append(table(["", ""], [*rows, ["expected", code(sample.expected)]]))
    return blocks


def _text(value: str) -> str:
    """Text that cannot turn into Markdown or HTML of its own."""
    value = " ".join(value.split())
    for mark in "\\`*_[]<>|#":
        value = value.replace(mark, f"\\{mark}" if mark not in "<>" else f"&{_NAMED[mark]};")
    return value


_NAMED = {"<": "lt", ">": "gt"}


def code(value: str) -> str:
    """A code span that holds `value` as it is, back-ticks, pipes and line ends included."""
    value = value.replace("\r", "").replace("\n", "⏎").replace("|", "\\|")
    if not value.strip():
        return f"`{value}`" if value else ""
    longest, run = 0, 0
    for character in value:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{value}{pad}{fence}"
