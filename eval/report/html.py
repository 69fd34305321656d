"""A run as one self-contained web page: nothing is loaded, everything from outside is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.neutral import asked
from eval.record import Record
from eval.report import facts, plots, words
from eval.report.run_data import RunData, Sample

CSS = Path(__file__).with_name("report.css")
_GENERATOR = '<meta name="generator" content="Livery">'
# How the pages of Livery 0.1 begin, which say nothing of who wrote them.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def is_ours(path: Path) -> bool:
    """Whether a page is one of ours."""
    try:
        with path.open("rb") as file:
            head = file.read(600).decode(errors="replace")
    except OSError:
        return False
    return _GENERATOR in head or (_POLICY in head and ": report</title>" in head)


def page(data: RunData) -> str:
    """The whole page."""
    title = f"{data.folder.resolve().name}: report"
    sections = [_header(data)]
    for at, record in enumerate(data.evaluations):
        sections += _evaluation(record, at)
    sections += [_training(data), _samples(data.samples), _facts(data)]
    policy = _POLICY
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"{_GENERATOR}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{CSS.read_text(encoding='utf-8')}</style>"
        f"</head>\n<body><main>\n{chr(10).join(s for s in sections if s)}\n</main></body></html>\n"
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], kinds: Sequence[str] = (), name: str = ""
) -> str:
    """A table of cells that are markup already; `kinds` are the columns' classes."""
    kinds = [*kinds, *[""] * (len(head) - len(kinds))]
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]
    top = "".join(f"<th{c}>{escape(h)}</th>" for h, c in zip(head, classes, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{c}>{cell}</td>" for cell, c in zip(row, classes, strict=True))
        + "</tr>" for row in rows
    )  # fmt: skip
    start = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<table class="{name}">{start}<tbody>\n{body}\n</tbody></table>'


def _header(data: RunData) -> str:
    links = [(f"set-{i}", words.set_title(r)) for i, r in enumerate(data.evaluations)]
    links += [("training", "Training")] if data.losses or data.eval_losses else []
    links += [("samples", "Samples")] if data.samples else []
    links += [("facts", "Facts")]
    nav = "".join(f'<a href="#{where}">{escape(text)}</a>' for where, text in links)
    return (
        f"<h1>{escape(data.folder.resolve().name)}</h1>\n"
        f'<p class="muted">{escape(facts.summary(data))}</p>\n<nav>{nav}</nav>'
    )


def _evaluation(record: Record, at: int) -> list[str]:
    verdict = words.verdict(record)
    chip = f'<span class="chip {"good" if record["passed"] else "bad"}">{escape(verdict)}</span>'
    arms = "".join(_arm_card(key, arm) for key, arm in record["arms"].items())
    changes = "".join(f"<li>{escape(said)}</li>" for said in words.changes(record))
    leaked = record["leaks"] is not None and (record["leaks"]["same"] or record["leaks"]["near"])
    return [
        f'<h2 id="set-{at}">{escape(words.set_title(record))} '
        f'<span class="muted small">{words.count(record["set"]["cases"], "case")}</span> '
        f"{chip if verdict else ''}</h2>",
        f'<div class="arms">{arms}</div>',
        f"<ul>{changes}</ul>" if changes else "",
        *(
            f'<p class="muted">{escape(said)}</p>'
            for said in (words.constant(record), words.taught(record))
            if said
        ),
        f'<p class="{"bad" if leaked else "muted"}">{escape(words.leaks(record))}</p>',
        stale_note(record),
        _metrics(record),
        _categories(record, at),
        regressions(record),
        failures(record),
        _neutral(record),
        _texts(record),
        _judge(record),
    ]


def _neutral(record: Record) -> str:
    """Prompts of no skill: the base's answer beside the adapter's."""
    said, found = words.neutral(record), asked(record)
    if found is None:
        return f'<p class="muted">{escape(said)}</p>' if said else ""
    rows = [
        [
            escape(row["prompt"]), _code(row["base"]), _code(row["tuned"]),
            escape(words.neutral_mark(record, row)),
        ]
        for row in found["prompts"]
    ]  # fmt: skip
    return (
        f'<h3>Other prompts</h3><p class="muted">{escape(said)}</p>'
        f'<div class="card">{table(["prompt", "base", "tuned", ""], rows, ("name",))}</div>'
    )


def _texts(record: Record) -> str:
    """What the adapter costs its base at plain text, and where most."""
    if not (said := words.texts(record)):
        return ""
    rows = [[escape(text), base, tuned] for text, base, tuned in words.worst_texts(record)]
    kinds = ("name", "number", "number")
    card = table(["where it costs most", "base", "tuned"], rows, kinds) if rows else ""
    return f'<h3>Plain texts</h3><p class="muted">{escape(said)}</p>' + (
        f'<div class="card">{card}</div>' if card else ""
    )


def _judge(record: Record) -> str:
    """A judge's figures, named as such."""
    said = "".join(f'<p class="muted">{escape(line)}</p>' for line in words.judge(record))
    return f"<h3>Judge's figure</h3>{said}" if said else ""


def _arm_card(key: str, arm: dict[str, Any]) -> str:
    notes = [f"{arm['unparsed']} unparsed"] if arm["unparsed"] else []
    notes += [f"{arm['unfinished']} cut off"] if arm["unfinished"] else []
    notes += [f"{number} {note}" for note, number in arm["notes"].items()]
    lines = [
        f"{arm['correct']} of {arm['total']} right",
        f"95 % interval {words.interval(arm)}",
        *words.speed(arm),
        ", ".join(notes),
    ]
    return (
        f'<div class="arm{" tuned" if arm["tuned"] else ""}">'
        f'<div class="muted small">{escape(words.arm_title(key))}</div>'
        f'<div class="figure">{escape(words.percent(arm["accuracy"]))}</div>'
        + "".join(f'<div class="small muted">{escape(line)}</div>' for line in lines if line)
        + "</div>"
    )


def _metrics(record: Record) -> str:
    """Every metric beside the headline's: what it says, and figure and interval of each arm."""
    metrics, arms = words.measured(record), record["arms"]
    if not metrics:
        return ""
    rows: list[list[str]] = []
    for metric in metrics:
        total, cells = words.cells(metric, arms)
        name = f'{escape(words.metric_name(metric))}<div class="small muted">'
        shown = [
            f'{escape(figure)}<div class="small muted">{escape(spread)}</div>'
            for figure, spread in cells
        ]
        rows.append([f"{name}{escape(metric['help'])}</div>", str(total), *shown])
    head = ["metric", "cases", *map(words.arm_title, arms)]
    kinds = ["name", *["number"] * (len(head) - 1)]
    lacking = words.lacking(record)
    return (
        '<h3>Metrics <span class="muted small">with 95 % intervals</span></h3>'
        f'<div class="card">{table(head, rows, kinds)}</div>'
        + (f'<p class="bad">{escape(lacking)}</p>' if lacking else "")
    )


def _categories(record: Record, at: int) -> str:
    """The plot of the headline arm and its base, and a table of all arms."""
    arms = record["arms"]
    names = list(arms[record["headline"]]["categories"])
    mode = record["headline"].split("_", 1)[1]
    shown = [
        (words.arm_title(key), plots.TUNED if arms[key]["tuned"] else plots.BASE, arms[key])
        for key in (f"tuned_{mode}", f"base_{mode}")
        if key in arms
    ]
    plot = plots.categories(
        f"categories{at}",
        [(label, colour, arm["categories"]) for label, colour, arm in shown],
        names,
        record["target"],
    )
    rows = [
        [
            escape(name.replace("_", " ")),
            str(arms[record["headline"]]["categories"][name]["total"]),
            *(words.percent(arm["categories"][name]["accuracy"]) for arm in arms.values()),
            escape(words.interval(arms[record["headline"]]["categories"][name])),
        ]
        for name in names
    ]
    head = ["category", "cases", *map(words.arm_title, arms), "interval"]
    kinds = ["name", *["number"] * (len(head) - 1)]
    return (
        f'<h3>By category</h3><div class="card">{plot}</div>'
        f'<div class="card">{table(head, rows, kinds)}</div>'
    )


def _training(data: RunData) -> str:
    if not data.losses and not data.eval_losses:
        return ""
    loss = [(float(row["step"]), float(row["loss"])) for row in data.losses]
    held_out = [(float(row["step"]), float(row["eval_loss"])) for row in data.eval_losses]
    plot = plots.curves(
        "loss",
        [("training", plots.BASE, loss), ("validation", plots.TUNED, held_out)],
        xlabel="optimizer step",
        ylabel="loss a token, nats",
        mark=data.metadata.get("kept_step"),
    )
    body = table(["", ""], [[escape(k), escape(v)] for k, v in facts.training(data)], (), "facts")
    return (
        f'<h2 id="training">Training</h2><div class="card">{plot}</div>'
        f'{_pairs(data)}<div class="card">{body}</div>'
    )


def _pairs(data: RunData) -> str:
    """Of a run on pairs: margins and both sides' log-probabilities at every evaluation."""
    rows = facts.held_out_pairs(data)
    if not rows:
        return ""
    margins = [
        (lead, colour, [(float(row["step"]), float(row[f"{key}{facts.MARGIN}"]))
                        for row in source if f"{key}{facts.MARGIN}" in row])
        for lead, colour, key, source in (
            ("training", plots.BASE, "", data.losses),
            ("validation", plots.TUNED, "eval_", data.eval_losses),
        )
    ]  # fmt: skip
    plot = plots.curves(
        "margin", margins, xlabel="optimizer step", ylabel="reward margin",
        title="Reward margin over optimizer steps", mark=data.metadata.get("kept_step"),
    )  # fmt: skip
    cells = [[escape(value) for value in row.values()] for row in rows]
    return (
        f'<div class="card">{plot}</div>'
        f'<div class="card">{table(list(rows[0]), cells, ["number"] * len(rows[0]))}</div>'
    )


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    cards: list[str] = []
    for sample, short in zip(samples, facts.short_prompts(samples), strict=True):
        rows = [[f"step {step}", f"<code>{escape(text)}</code>"] for step, text in sample.answers]
        rows.append(['<span class="muted">expected</span>', _code(sample.expected)])
        cards.append(
            f'<div class="card"><p><strong>{escape(short)}</strong></p>'
            f"{table(['', ''], rows, ('name',), 'facts')}"
            f'<details class="small"><summary>whole prompt</summary>'
            f"<pre>{escape(sample.prompt)}</pre></details></div>"
        )
    return (
        '<h2 id="samples">Samples over time</h2><p class="muted">The same validation prompts, '
        f"answered freely at every evaluation.</p>{''.join(cards)}"
    )


def _facts(data: RunData) -> str:
    parts = ['<h2 id="facts">Facts</h2>']
    for record in data.evaluations:
        rows = [[escape(k), escape(v)] for k, v in facts.evaluation(record)]
        parts.append(
            f"<h3>Evaluation: {escape(words.set_title(record))}</h3>"
            f'<div class="card small">{table(["", ""], rows, (), "facts")}</div>'
        )
    if data.config:
        settings = json.dumps(data.config.get("settings", data.config), indent=2)
        parts.append(
            '<details class="card small"><summary>Settings of the training run</summary>'
            f"<pre>{escape(settings)}</pre></details>"
        )
    return "\n".join(parts) if len(parts) > 1 else ""


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def stale_note(record: Record) -> str:
    """A warning where the adapter has changed since it was evaluated."""
    if not record.get("stale"):
        return ""
    return '<p class="bad">The adapter has changed since this evaluation; run it again.</p>'


def regressions(record: Record) -> str:
    """What the base had right and the tuned model has wrong. These come first."""
    compared = [c for c in record["comparisons"] if c["before"].startswith("base")]
    if not any(c["after"].startswith("tuned") for c in compared):
        return ""
    found = words.regressions(record)
    if not found:
        return (
            "<h3>Regressions</h3>"
            '<p class="good">None: nothing that the base had right is wrong now.</p>'
        )
    cards = "".join(
        _row(case, after, f'<td class="muted name">{escape(words.arm_title(after))}</td>')
        for case, _, after in found
    )
    return (
        f'<h3>Regressions <span class="muted small">right before tuning, wrong after</span></h3>'
        f'<div class="card">{_open(["arm"])}{cards}</tbody></table></div>'
    )


def failures(record: Record) -> str:
    """Every wrong answer of the tuned arms; the base's are folded away."""
    listed, folded = words.listed_arms(record)
    return "".join(_arm(record, key, fold=False) for key in listed) + "".join(
        _arm(record, key, fold=True) for key in folded
    )


def _arm(record: Record, key: str, *, fold: bool) -> str:
    failed = words.failures(record, key)
    title = f"Failures, {words.arm_title(key)}"
    if not failed:
        return f'<h3>{escape(title)}</h3><p class="good">None.</p>'
    body = f"{_open()}{''.join(_row(case, key) for case in failed)}</tbody></table>"
    label = f'{escape(title)} <span class="muted small">{len(failed)}</span>'
    if fold:
        return f'<details class="card"><summary>{label}</summary>{body}</details>'
    return f'<h3>{label}</h3><div class="card">{body}</div>'


def _open(more: list[str] | None = None) -> str:
    head = [*(more or []), "category", "request", "expected", "got"]
    return f"<table><thead><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr></thead><tbody>"


def _row(case: dict[str, Any], arm: str, first: str = "") -> str:
    answer = case["answers"][arm]
    return (
        f'<tr>{first}<td class="muted small">{escape(case["category"].replace("_", " "))}</td>'
        f"<td>{escape(words.request(case))}{_conversation(case)}</td>"
        f'<td class="answer"><code>{escape(case["expected_text"])}</code></td>'
        f'<td class="answer"><code>{escape(answer["answer"])}</code>'
        f'<div class="small bad">{escape(answer["error"])}</div></td></tr>\n'
    )


def _conversation(case: dict[str, Any]) -> str:
    said = words.conversation(case)
    if not said:
        return ""
    return (
        f'<details class="small"><summary>conversation</summary><pre>{escape(said)}</pre></details>'
    )
