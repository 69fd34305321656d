"""Figures and phrases that the Markdown, the web page and the terminal say alike."""

from __future__ import annotations

import math
from typing import Any

from eval.record import Record
from livery.errors import counted


def percent(share: float) -> str:
    """95.2 %; rounding never makes it 100.0 where something is wrong, nor 0.0 where not all is."""
    shown = f"{100 * share:.1f}"
    if shown == "100.0" and share < 1:
        shown = "99.9"
    if shown == "0.0" and share > 0:
        shown = "0.1"
    return f"{shown} %"


def interval(share: dict[str, Any]) -> str:
    """The 95 % interval: 91.3–97.4 %."""
    low, high = share["interval"]
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def p_value(value: float) -> str:
    """p = 0.031, p < 0.001."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def arm_title(key: str) -> str:
    """tuned_unconstrained -> "tuned, unconstrained"."""
    return key.replace("_", ", ")


def comparison(found: dict[str, Any]) -> str:
    """One sentence on two arms."""
    gained, lost = len(found["gained"]), len(found["lost"])
    before, after = arm_title(found["before"]), arm_title(found["after"])
    if not gained and not lost:
        return f"From {before} to {after}, no case changed."
    sure = "beyond chance" if found["p_value"] < 0.05 else "within chance"
    return (
        f"From {before} to {after}: {count(gained, 'case')} won, {count(lost, 'case')} lost "
        f"(McNemar mid-p: {p_value(found['p_value'])}, {sure})."
    )


def metrics(record: Record) -> list[dict[str, Any]]:
    """The metrics beside `correct`, which the headline shows; none in older records."""
    return [metric for metric in record.get("metrics", ()) if metric["name"] != "correct"]


def measured(record: Record) -> list[dict[str, Any]]:
    """Those of `metrics` that say something of a case in some arm."""
    arms = record["arms"].values()
    return [m for m in metrics(record) if any(arm["metrics"][m["name"]]["total"] for arm in arms)]


def lacking(record: Record) -> str:
    """Which metrics could not be scored, and the remedy; "" for none and in older records."""
    return str(record.get("lacking") or "")


def metric_name(metric: dict[str, Any]) -> str:
    """off_by -> "off by (lower is better)"."""
    lower = " (lower is better)" if metric["better"] == "lower" else ""
    return metric["name"].replace("_", " ") + lower


def cells(metric: dict[str, Any], arms: dict[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """(cases of the first arm, each arm's (figure, interval)); an arm where the metric says
    something of fewer or more cases says of how many."""
    of = [arm["metrics"][metric["name"]] for arm in arms.values()]
    total = of[0]["total"]
    found: list[tuple[str, str]] = []
    for figure in of:
        where = f" of {figure['total']}" if figure["total"] not in (total, 0) else ""
        found.append((amount(metric, figure["value"]) + where, spread(metric, figure)))
    return total, found


def amount(metric: dict[str, Any], value: float | None) -> str:
    """97.1 %, 2.31 degrees; "-" where no case has one."""
    if value is None:
        return "-"
    if metric["kind"] == "share":
        return percent(value)
    unit = f" {metric['unit']}" if metric["unit"] else ""
    return f"{_number(value)}{unit}"


def spread(metric: dict[str, Any], figure: dict[str, Any]) -> str:
    """Its 95 % interval: 95.0–98.3 %, 1.9–2.8; "" where there is none."""
    if figure["interval"] is None or figure["value"] is None:
        return ""
    if metric["kind"] == "share":
        return interval(figure)
    low, high = figure["interval"]
    return f"{_number(low)}–{_number(high)}"


def metric_comparisons(record: Record, found: dict[str, Any]) -> list[str]:
    """A phrase on each metric of two arms: "device 12.0 % → 97.5 % (p < 0.001, better)"."""
    lines: list[str] = []
    for metric in metrics(record):
        one = (found.get("metrics") or {}).get(metric["name"])
        if one is None:
            continue
        change = f"{amount(metric, one['before'])} → {amount(metric, one['after'])}"
        if one["difference"] == 0:
            lines.append(f"{metric_name(metric)} {change}")
            continue
        said = {True: "better", False: "worse", None: "within chance"}[one["better"]]
        lines.append(f"{metric_name(metric)} {change} ({p_value(one['p_value'])}, {said})")
    return lines


def changes(record: Record) -> list[str]:
    """One sentence a comparison, with every metric behind it."""
    lines: list[str] = []
    for found in record["comparisons"]:
        more = "; ".join(metric_comparisons(record, found))
        lines.append(comparison(found) + (f" {more}." if more else ""))
    return lines


def _number(value: float) -> str:
    """Three digits that say something: 0.0123, 2.31, 1,240."""
    if value and abs(value) < 100:
        return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.2e}"
    return f"{value:,.0f}" if value else "0"


def verdict(record: Record) -> str:
    """What became of the target; "" where there was none."""
    if record["passed"] is None:
        return ""
    said: list[str] = []
    if record["target"] is not None:
        outcome = "met" if record["accuracy"] >= record["target"] else "missed"
        said.append(f"target of {100 * record['target']:g} % {outcome}")
    for metric, one in _targets(record):
        outcome = "met" if one["met"] else "missed"
        said.append(f"{metric['name']} target of {_asked(metric, one)} {outcome}")
    return ", ".join(said)


def missed(record: Record) -> str:
    """Which targets were missed, and by how much."""
    said: list[str] = []
    if record["target"] is not None and record["accuracy"] < record["target"]:
        said.append(
            f"{record['accuracy']:.1%} of the cases are right, {record['target']:.1%} were asked "
            "for"
        )
    said += [
        f"{metric['name']} is {amount(metric, one['value'])}, {_asked(metric, one)} was asked for"
        for metric, one in _targets(record)
        if not one["met"]
    ]
    return "; ".join(said)


def _targets(record: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(metric, its target) of each metric that has one; none in older records."""
    asked = record.get("targets") or {}
    return [
        (metric, asked[metric["name"]]) for metric in metrics(record) if metric["name"] in asked
    ]


def _asked(metric: dict[str, Any], target: dict[str, Any]) -> str:
    bound = "at most " if metric["better"] == "lower" else ""
    return bound + amount(metric, target["asked"])


def set_title(record: Record) -> str:
    """date-keys, validation set; of an exported adapter also what ran it."""
    title = f"{record['skill']['name']}, {record['set']['name']}"
    facts = record["facts"]
    return f"{title}, llama.cpp {facts['dtype']}" if facts["engine"] == "llamacpp" else title


def trained(record: Record) -> list[str]:
    """How an exported adapter's answers differ from those of the trained weights."""
    found = record.get("trained")
    if found is None:
        return []
    lines: list[str] = []
    for name, arm in found["arms"].items():
        won, lost = (count(len(arm[key]), "case") for key in ("won", "lost"))
        lines.append(
            f"Against the trained weights on {found['engine']}, {arm_title(name)}: {won} won, "
            f"{lost} lost, {arm['same_text']} of {arm['total']} answers are identical."
        )
    return lines


def leaks(record: Record) -> str:
    """How many cases stand in the training data."""
    found = record["leaks"]
    if found is None:
        return (
            "The training file is unknown, so leaks were not counted (name it with --train-data)."
        )
    total = record["set"]["cases"]
    rows = count(found["rows"], "row")
    if not found["same"] and not found["near"]:
        return f"None of the {total} cases is in the training file ({rows})."
    return (
        f"{found['same']} of {total} cases are in the training file with at most a number or a "
        f"name replaced, {found['near']} more in nearly the same words ({rows})."
    )


def constant(record: Record) -> str:
    """What the commonest answer alone would score; "" in records from before this was counted."""
    found = record.get("constant")
    if found is None:
        return ""
    return (
        f"To answer “{found['answer']}” to everything would be right for {found['correct']} of "
        f"{found['total']} cases ({percent(found['accuracy'])})."
    )


def taught(record: Record) -> str:
    """How each arm did on what only the skill's data teach; "" where no case asks for it."""
    found = record.get("taught")
    if not found or not found["total"]:
        return ""
    arms = ", ".join(
        f"{arm_title(key)} {arm['correct']} ({percent(arm['accuracy'])})"
        for key, arm in found["arms"].items()
    )
    return f"Of the {found['total']} cases whose answer needs {found['what']}: {arms}."


def speed(arm: dict[str, Any]) -> list[str]:
    """Answers and tokens a second, and one request alone."""
    parts = [f"{arm['answers_per_second']:.1f} answers/s, {arm['tokens_per_second']:.0f} tokens/s"]
    if arm["latency_ms"] is not None:
        parts.append(f"{arm['latency_ms']:.0f} ms for one request alone")
    return parts


def count(number: int, noun: str) -> str:
    """1 case, 2 cases."""
    return counted(number, noun)


def neutral(record: Record) -> str:
    """What the adapter does to prompts of no skill; "" where nobody asked."""
    found = record.get("neutral")
    if not found:
        return ""
    if "prompts" not in found:
        return f"Other prompts were not asked: {found['reason']}"
    name, total = record["skill"]["name"], found["total"]
    said = (
        f"Of {total} plain prompts that are none of {name}'s, the adapter answers "
        f"{found['differ']} differently from its base"
    )
    if found["like_skill_base"] == total:  # a contract that any text follows
        return f"{said}."
    return (
        f"{said}; {found['like_skill']} of its answers look like {name}'s "
        f"({found['like_skill_base']} of the base's)."
    )


def neutral_mark(record: Record, row: dict[str, Any]) -> str:
    """What is said of one such prompt: "like date-keys's", "differs", or "" for nothing."""
    found = record["neutral"]
    if row["like_skill"] and found["like_skill_base"] < found["total"]:
        return f"like {record['skill']['name']}'s"
    return "differs" if row["differs"] else ""


def texts(record: Record) -> str:
    """What the adapter costs its base at plain text; "" where nobody asked."""
    found = record.get("texts")
    if not found:
        return ""
    if "ratio" not in found:
        return f"Plain texts were not read: {found['reason']}"
    change = 100 * (found["ratio"] - 1)
    sure = "within chance" if found["p_value"] >= 0.05 else "worse" if change > 0 else "better"
    low, high = (100 * (end - 1) for end in found["interval"] or (found["ratio"],) * 2)
    return (
        f"Perplexity of {count(found['total'], 'plain text')}: base {found['base']:.2f}, tuned "
        f"{found['tuned']:.2f} ({change:+.1f} %, 95 % interval {low:+.1f} to {high:+.1f} %; "
        f"{p_value(found['p_value'])}, {sure})."
    )


def judge(record: Record) -> list[str]:
    """What a judge says of base and tuned, named as a judge's figure; nothing without one."""
    found = record.get("judge")
    if not found:
        return []
    lines = [f"Judge's figure, the opinion of {found['model']} and no measurement:"]
    if found["reason"]:
        lines.append(f"The judge was not heard on all pairs: {found['reason']}")
    if not found["judged"]:
        return [*lines, f"no verdict on {count(found['total'], 'pair')}."]
    preferred = found["preferred"]
    share = "none preferred"
    if preferred["total"]:
        share = (
            f"tuned preferred in {percent(preferred['value'])} of the decided pairs, 95 % interval"
        )
        share += f" {interval(preferred)}, {p_value(found['p_value'])}"
    lines.append(
        f"Of {count(found['judged'], 'pair')}: tuned better {found['tuned_better']}, base better "
        f"{found['base_better']}, ties {found['ties']}, undecided {found['undecided']} ({share}). "
        f"{found['same_answer']} pairs were one answer, {found['failed']} got no verdict."
    )
    first, agreement = found["first_chosen"], found["agreement"]
    bias = ""
    if first["total"]:
        low, high = first["interval"]
        biased = "a position bias" if not low <= 0.5 <= high else "no position bias shows"
        bias = f"; it chose the first answer in {percent(first['value'])} of its choices "
        bias += f"({interval(first)}: {biased})"
    lines.append(
        f"Asked in both orders, it agreed with itself on {percent(agreement['value'])} of the "
        f"pairs ({interval(agreement)}){bias}."
    )
    return lines


def worst_texts(record: Record, most: int = 10) -> list[tuple[str, str, str]]:
    """(text, the base's perplexity, the tuned model's), those first that it made worst."""
    rows = (record.get("texts") or {}).get("texts", ())
    rows = [row for row in rows if row["tuned"] > row["base"]]
    rows = sorted(rows, key=lambda row: row["base"] - row["tuned"])[:most]
    return [(r["text"], f"{math.exp(r['base']):.1f}", f"{math.exp(r['tuned']):.1f}") for r in rows]


def request(case: dict[str, Any]) -> str:
    """What a case asks; of one with earlier turns, how many are before it."""
    turns = [turn for turn in case.get("messages") or () if turn["role"] != "system"]
    before = f" (after {count(len(turns) - 1, 'turn')})" if len(turns) > 1 else ""
    return f"{case['text']}{before}"


def conversation(case: dict[str, Any]) -> str:
    """The turns of a case that brings its own, and the tools it offers; "" of any other."""
    own = "(the model's own answer)"
    lines = [
        f"{turn['role']}: {own if turn['content'] is None else turn['content']}"
        for turn in case.get("messages") or ()
    ]
    tools = [tool["function"]["name"] for tool in case.get("tools") or ()]
    return "\n".join([*lines, *([f"tools: {', '.join(tools)}"] if tools else [])])


def failures(record: Record, arm: str) -> list[dict[str, Any]]:
    """Cases that `arm` got wrong."""
    return [case for case in record["cases"] if not case["answers"][arm]["correct"]]


def regressions(record: Record) -> list[tuple[dict[str, Any], str, str]]:
    """(case, base arm, tuned arm) where the base was right and the tuned model is wrong."""
    by_id = {case["id"]: case for case in record["cases"]}
    return [
        (by_id[name], found["before"], found["after"])
        for found in record["comparisons"]
        if found["before"].startswith("base") and found["after"].startswith("tuned")
        for name in found["lost"]
    ]


def listed_arms(record: Record) -> tuple[list[str], list[str]]:
    """(arms whose failures are listed openly, arms whose are folded away): the tuned ones, and the
    base's where both were run."""
    tuned = [key for key, arm in record["arms"].items() if arm["tuned"]]
    base = [key for key in record["arms"] if key not in tuned]
    return (tuned, base) if tuned else (base, [])
