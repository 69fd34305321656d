"""Lists of cases for the web page: regressions, failures, and what was wrong with each answer."""

from __future__ import annotations

from html import escape
from typing import Any

from eval.record import Record
from eval.report import words


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
