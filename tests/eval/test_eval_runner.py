"""Arms, records and leak counts, on a tiny model and on results written by hand."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from eval import record
from eval.cases import Case, CaseResult
from eval.evaluate import check_targets, count_leaks, spread
from eval.report import words
from eval.runner import Arm, ArmRun, best_constant, choose_arms, run_arm
from eval.scorers import find_set, get_scorer
from eval.stats import wilson
from livery.engines.engine import Decoding, Generation, open_engine
from livery.errors import UserError
from livery.skills import Metric, skill_names
from tests.tiny_models import tiny_model

TUNED, TUNED_FREE = Arm(True, True), Arm(True, False)
BASE, BASE_FREE = Arm(False, True), Arm(False, False)


def make_case(name: str, category: str = "negatives", text: str = "play") -> Case:
    return Case(name, category, ({"role": "user", "content": text},), text, ["today"], '["today"]')


def make_run(arm: Arm, cases: list[Case], right: str, alone: tuple[float, ...] = ()) -> ArmRun:
    """`right` has one letter a case: y right, n wrong, - unparsed and cut off."""
    results = tuple(
        CaseResult(c.id, c.category, r == "y", r != "-", [] if r != "-" else None, f"[{r}]",
                   "" if r == "y" else "missing today", ("order",) if r == "y" else ())
        for c, r in zip(cases, right, strict=True)
    )  # fmt: skip
    generations = tuple(Generation((), f"[{r}]", r != "-", 0.5, 10) for r in right)
    return ArmRun(arm, results, generations, 2.0, alone)


def make_record(
    cases: list[Case],
    runs: list[ArmRun],
    target: float | None = None,
    metrics: tuple[Metric, ...] = (),
    targets: dict[str, float] | None = None,
) -> record.Record:
    facts: dict[str, Any] = {
        "engine": "mlx", "version": "mlx 1", "model": "base_model", "adapter": "adapters/x",
        "device": "cpu", "dtype": "float32", "peak_memory": 12_000_000, "base_digest": "ab",
        "adapter_sha256": {}, "seconds": 3.0, "began": "2026-01-01T00:00:00+00:00",
        "decoding": {"max_tokens": 8, "temperature": 0.0, "seed": 0, "batch_size": 4},
        "without_grammar": {},
        "machine": {"chip": "c", "cores": 2, "memory": 8e9, "system": "s", "python": "3"},
        "livery": "0.1.0", "command": "livery eval",
    }  # fmt: skip
    return record.build(
        skill={"name": "date-keys", "version": "2.0", "system_prompt": "List <b>dates</b>."},
        cases=cases,
        categories=("mixed", "negatives"), facts=facts, runs=runs, leaks=None, target=target,
        constant=("[]", 1), taught=("a key", [case.category == "mixed" for case in cases]),
        source={"name": "validation set", "path": "cases.jsonl", "sha256": "cd"}, metrics=metrics,
        targets=targets,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("adapter", "baseline", "mode", "expected"),
    [
        (True, True, "both", [TUNED, TUNED_FREE, BASE, BASE_FREE]),
        (True, False, "both", [TUNED, TUNED_FREE]),
        (True, True, "unconstrained", [TUNED_FREE, BASE_FREE]),
        (False, False, "constrained", [BASE]),
        (False, True, "both", [BASE, BASE_FREE]),
    ],
)
def test_arms(adapter: bool, baseline: bool, mode: Any, expected: list[Arm]):
    assert choose_arms(has_adapter=adapter, baseline=baseline, decoding=mode) == expected


def test_a_record_counts_and_compares():
    cases = [make_case(f"c{i}", "mixed" if i < 2 else "negatives") for i in range(5)]
    cases.append(make_case("c5", "another"))
    runs = [make_run(TUNED, cases, "yynyy-", (0.3, 0.1, 0.2)), make_run(BASE, cases, "nyyn--")]
    found = make_record(cases, runs, target=0.5)
    assert found["headline"] == "tuned_constrained"
    assert found["passed"] is True
    assert make_record(cases, runs, target=0.9)["passed"] is False
    assert make_record(cases, runs)["passed"] is None
    assert found["constant"]["answer"] == "[]"
    assert found["constant"]["accuracy"] == 1 / 6
    assert "right for 1 of 6 cases (16.7 %)" in words.constant(found)
    assert words.taught(found) == (
        "Of the 2 cases whose answer needs a key: tuned, constrained 2 (100.0 %), "
        "base, constrained 1 (50.0 %)."
    )
    assert words.taught({**found, "taught": None}) == ""
    arm = found["arms"]["tuned_constrained"]
    assert (arm["correct"], arm["total"], arm["unparsed"], arm["unfinished"]) == (4, 6, 1, 1)
    assert arm["notes"] == {"order": 4}
    assert arm["tokens_per_second"] == 30.0
    assert arm["answers_per_second"] == 3.0
    assert arm["latency_ms"] == 200.0
    assert found["arms"]["base_constrained"]["latency_ms"] is None
    # The skill's own order first, then what it does not know.
    assert list(arm["categories"]) == ["mixed", "negatives", "another"]
    assert arm["categories"]["negatives"]["correct"] == 2
    [compared] = found["comparisons"]
    assert (compared["before"], compared["after"]) == ("base_constrained", "tuned_constrained")
    assert compared["gained"] == ["c0", "c3", "c4"]
    assert compared["lost"] == ["c2"]
    assert compared["p_value"] == (2 * 1 + 4) / 16
    assert found["cases"][2]["answers"]["tuned_constrained"]["error"] == "missing today"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_metrics_have_figures_intervals_and_comparisons():
    share = Metric("polite", "Says please.")
    number = Metric("off_by", "Degrees off.", kind="number", better="lower", unit="degrees")
    cases = [make_case(f"c{i}", "mixed" if i < 10 else "negatives") for i in range(20)]

    def run(arm: Arm, off: float, polite: bool) -> ArmRun:
        made = make_run(arm, cases, "y" * 20)
        results = tuple(
            dataclasses.replace(r, metrics={"off_by": off + n % 3}
                                | ({"polite": polite} if n < 12 else {}))
            for n, r in enumerate(made.results)
        )  # fmt: skip
        return dataclasses.replace(made, results=results)

    found = make_record(
        cases, [run(TUNED, 1.0, True), run(BASE, 4.0, False)], metrics=(share, number)
    )
    assert [metric["name"] for metric in found["metrics"]] == [
        "correct", "parsed", "polite", "off_by"
    ]  # fmt: skip
    tuned = found["arms"]["tuned_constrained"]["metrics"]
    assert tuned["correct"]["value"] == found["accuracy"] == 1.0
    assert (tuned["polite"]["count"], tuned["polite"]["total"]) == (12, 12)
    assert tuned["polite"]["interval"] == [wilson(12, 12).low, 1.0]
    assert tuned["polite"]["categories"]["negatives"]["total"] == 2
    assert tuned["off_by"]["value"] == pytest.approx(1.95)
    assert tuned["off_by"]["interval"][0] < 1.95 < tuned["off_by"]["interval"][1]
    [compared] = found["comparisons"]
    assert compared["p_value"] == 1.0  # all are right in both
    off = compared["metrics"]["off_by"]
    assert off["difference"] == pytest.approx(-3)
    assert off["better"] is True
    polite = compared["metrics"]["polite"]
    assert (polite["gained"], polite["lost"], polite["total"], polite["better"]) == (
        12,
        0,
        12,
        True,
    )
    worse = make_record(cases, [run(TUNED, 9.0, False), run(BASE, 1.0, True)],
                        metrics=(share, number))["comparisons"][0]["metrics"]  # fmt: skip
    assert worse["off_by"]["better"] is worse["polite"]["better"] is False
    [said] = words.changes(found)
    assert "polite 0.0 % → 100.0 % (p < 0.001, better)" in said
    assert "off by (lower is better) 4.95 degrees → 1.95 degrees (p < 0.001, better)" in said
    runs = [run(TUNED, 1.0, True)]
    both: Any = {"metrics": (share, number), "target": 0.9}
    good = make_record(cases, runs, targets={"polite": 1.0, "off_by": 2.0}, **both)
    assert good["passed"] is True
    assert words.verdict(good) == (
        "target of 90 % met, polite target of 100.0 % met, off_by target of at most 2 degrees met"
    )
    bad = make_record(cases, runs, targets={"off_by": 1.9}, **both)
    assert bad["passed"] is False
    assert words.missed(bad) == "off_by is 1.95 degrees, at most 1.9 degrees was asked for"
    with pytest.raises(UserError, match="no such metric; there are: correct, polite, off_by"):
        check_targets({"rude": 1}, (share, number))
    with pytest.raises(UserError, match="a share is from 0 to 1"):
        check_targets({"polite": 97}, (share, number))
    # Nothing in JSON that other readers refuse.
    json.loads(json.dumps(found, allow_nan=False))


def test_a_record_is_read_back_or_refused(tmp_path: Path):
    cases = [make_case("a")]
    found = make_record(cases, [make_run(TUNED, cases, "y")])
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    assert record.read(path) == json.loads(json.dumps(found))
    path.write_text(json.dumps({**found, "format": 99}), encoding="utf-8")
    with pytest.raises(UserError, match="has format 99"):
        record.read(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="is not an evaluation"):
        record.read(path)


@pytest.mark.slow
def test_an_arm_on_a_real_engine(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("mlx.core")
    engine = open_engine("mlx", str(tiny_model("llama", tmp_path_factory.mktemp("models"))))
    scorer = get_scorer("date-keys")
    cases = spread(scorer.cases(find_set("date-keys")[1]), 20)
    seen: list[tuple[int, int]] = []
    decoding = Decoding(max_tokens=60, batch_size=8)
    run = run_arm(engine, scorer, cases, BASE, decoding, lambda *at: seen.append(at))
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert [result.id for result in run.results] == [case.id for case in cases]
    for result, generation in zip(run.results, run.generations, strict=True):
        assert result.answer == generation.text
        assert result.parsed == generation.finished  # constrained: what ends, parses
        assert result.parsed or result.error == "cut off after 60 tokens"
    assert run.tokens == sum(generation.count for generation in run.generations)
    assert 1 <= len(run.alone) <= 10
    assert run.latency == statistics.median(run.alone)
    free = run_arm(engine, scorer, cases, BASE_FREE, decoding, time_alone=False)
    assert not any(result.parsed for result in free.results)
    assert free.latency is None
    with pytest.raises(UserError, match="no cases"):
        run_arm(engine, scorer, [], BASE, decoding)
    with pytest.raises(UserError, match="no adapter"):
        run_arm(engine, scorer, cases, TUNED, decoding)


def test_a_limit_takes_evenly():
    cases = [make_case(str(i)) for i in range(10)]
    assert [case.id for case in spread(cases, 3)] == ["0", "3", "6"]
    assert spread(cases, None) == spread(cases, 10) == spread(cases, 99) == cases
    with pytest.raises(UserError, match="--limit is 0"):
        spread(cases, 0)


def test_leaks_are_counted_by_case(tmp_path: Path):
    train = tmp_path / "train.jsonl"
    rows = [
        {"prompt": "Wake me at 7 am tomorrow, please!", "completion": "Yes."},
        {"text": "turn the lights off in the kitchen tonight"},
    ]
    train.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = ["wake me at eight am tomorrow please", "play some jazz", "turn the lights off tonight"]
    cases = [make_case(str(i), text=text) for i, text in enumerate(texts)]
    found = count_leaks(train, cases)
    assert (found["rows"], found["same"]) == (2, 1)
    assert {leak["id"] for leak in found["cases"]} >= {"0"}
    assert "1" not in {leak["id"] for leak in found["cases"]}
    train.write_text('{"text": "x"}\nnot json\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.jsonl:2: not valid JSON"):
        count_leaks(train, cases)


SETS = {
    "date-keys": ("validation", "second", "third"),
    "actions": ("validation", "second"),
    "state": ("validation", "second"),
    "persona": ("validation", "second", "general"),
}


@pytest.mark.slow
def test_scorers_and_their_sets():
    for skill, sets in SETS.items():
        scorer = get_scorer(skill)
        assert skill in skill_names()
        assert skill == scorer.SKILL.name
        for name in sets:
            cases = scorer.cases(find_set(skill, name)[1])
            assert len(cases) >= 100
            for case in cases:
                assert scorer.score_case(case, case.expected_text).correct
    with pytest.raises(UserError, match=r"choose one of: .*date-keys"):
        get_scorer("cooking")


def test_the_best_constant_answer_is_what_a_model_must_beat():
    scorer = get_scorer("date-keys")
    cases = scorer.cases(find_set("date-keys")[1])
    answer, right = best_constant(scorer, cases)
    assert answer == "[]"
    assert right == sum(not case.expected for case in cases) > 0
    assert best_constant(scorer, [c for c in cases if c.expected == ["tomorrow"]])[0] == (
        '["tomorrow"]'
    )
