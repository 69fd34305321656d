"""FastText beside the adapter: training, its numbers, its promise, and extract()."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from datagen.date_keys import generate
from eval import hybrid
from eval.scorers import date_keys as scorer
from livery.errors import UserError
from livery.skills import date_keys
from livery.skills.date_keys import fasttext as fast
from livery.skills.date_keys.extract import Extractor
from livery.skills.date_keys.risk import calibrate, fewest, upper_bound

SMALL = fast.FastTextSettings(epochs=60, dim=12, buckets=1_000)


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, tuple[str, ...]]]:
    made = generate(7, 1500)["train"]
    return [(case.text, tuple(case.expected)) for case in scorer.cases(made)]


@pytest.fixture(scope="module")
def folder(rows: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("fasttext")
    place = tmp_path_factory.mktemp("model")
    record = fast.train(rows, place, SMALL)
    record["calibration"] = {"threshold": 0.6}
    fast.write_record(place, record)
    return place


def test_a_small_classifier_learns(rows: Any, folder: Path) -> None:
    classifier = fast.Classifier.load(folder)
    assert 0 < (folder / fast.MODEL).stat().st_size < 1_000_000
    right = [set(classifier.predict(text).keys) == set(keys) for text, keys in rows[:300]]
    assert sum(right) > 200  # always answering [] gets fewer than 90
    assert sum(not keys for _, keys in rows[:300]) < 90
    # A number that no row held comes from the grammar.
    found = classifier.predict("Remind me in 37 minutes to ring Bob!")
    assert found.keys == ("in_37_minutes",)
    assert 0.5 < found.confidence <= 1


@pytest.mark.slow
def test_another_seed_gives_other_bytes(rows: Any, folder: Path, tmp_path: Path) -> None:
    """That the same one gives the same is asked of the command (tests/commands)."""
    made = fast.train(rows, tmp_path, dataclasses.replace(SMALL, seed=SMALL.seed + 1))
    assert made["sha256"] != json.loads((folder / fast.RECORD).read_text())["sha256"]


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("at_7_30am", "at_T"),
        ("at_12pm", "at_T"),
        ("in_45_minutes", "in_N_minutes"),
        ("in_14_days", "in_N_days"),
        ("at_dinner", "at_dinner"),
        ("noon", "noon"),
    ],
)
def test_labels_hold_no_numbers(key: str, label: str) -> None:
    assert fast.label(key) == label


def test_a_command_cannot_be_read_as_a_label() -> None:
    plain = date_keys.normalise("__label__at_T wake __label__none me")
    assert "__label__" not in fast.features(plain, ())
    assert fast.features("!!", ()) == "EMPTY"


class Fixed:
    """A FastText model that says what it is told."""

    def __init__(self, **shares: float):
        self.shares = shares

    def predict(self, text: str, k: int, threshold: float) -> tuple[Sequence[str], list[float]]:
        return [f"__label__{name}" for name in self.shares], list(self.shares.values())


def test_confidence_is_that_no_label_is_wrong() -> None:
    sure = fast.Classifier(Fixed(tomorrow=0.9, at_T=0.8, noon=0.3), {})
    found = sure.predict("tomorrow at 7 am")
    assert found.keys == ("tomorrow", "at_7am")
    assert found.confidence == pytest.approx(0.9 * 0.8 * 0.7)
    assert sure.predict("tomorrow").confidence == 0, "a time is named that is not there"
    both = fast.Classifier(Fixed(yesterday=0.9, yesterday_evening=0.9), {})
    assert both.predict("yesterday evening").keys == ("yesterday_evening",), "said once"
    assert len(both.predict("yesterday evening or yesterday at noon").keys) == 2
    doubtful = fast.Classifier(Fixed(none=0.9, tomorrow=0.9), {})
    assert doubtful.predict("tomorrow").confidence == 0, "both none and a key"


def test_bounds_are_exact() -> None:
    # No error in n: 1 - (1 - confidence) ** (1 / n). 0.394163 is the beta distribution's quantile.
    assert upper_bound(0, 100, 0.9) == pytest.approx(1 - 0.1 ** (1 / 100), abs=1e-9)
    assert upper_bound(1, 10, 0.95) == pytest.approx(0.394163, abs=1e-6)
    share = upper_bound(5, 50, 0.9)
    seen = sum(math.comb(50, k) * share**k * (1 - share) ** (50 - k) for k in range(6))
    assert seen == pytest.approx(0.1, abs=1e-9)
    assert upper_bound(7, 7) == 1
    assert fewest(0.03) == 76
    assert upper_bound(0, 76) <= 0.03 < upper_bound(0, 75)


def test_calibration_takes_the_lowest_threshold_that_keeps_the_promise() -> None:
    confidences = [1 - n / 1000 for n in range(400)]
    correct = [n < 250 for n in range(400)]
    found = calibrate(confidences, correct, 0.05)
    assert found is not None
    assert found.bound <= 0.05 < upper_bound(found.errors + 1, found.accepted + 1)
    assert found.accepted == sum(c >= found.threshold for c in confidences)
    assert calibrate(confidences[:40], [True] * 40, 0.05) is None, "too few to promise anything"
    assert calibrate(confidences, [n % 5 > 0 for n in range(400)], 0.05) is None
    tied = calibrate([0.9] * 100 + [0.5] * 100, [True] * 100 + [False] * 100, 0.05)
    assert tied is not None
    assert (tied.threshold, tied.accepted) == (0.9, 100)


@pytest.mark.slow
def test_the_promise_holds_where_the_threshold_was_chosen() -> None:
    """In at most a tenth of draws the accepted answers are truly worse than promised."""
    rng, broken, draws = random.Random(4), 0, 300
    for _ in range(draws):
        confidences = [rng.random() for _ in range(250)]
        correct = [rng.random() > (1 - c) * 0.2 for c in confidences]
        found = calibrate(confidences, correct, 0.06)
        # Errors above a threshold t are (1 - t) / 2 * 0.2 on average.
        broken += found is not None and (1 - found.threshold) * 0.1 > 0.06
    assert broken / draws <= 0.13


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (fast.RECORD, None, "no FastText model"),
        (fast.RECORD, "{", "not valid JSON"),
        (fast.RECORD, "{}", "made for another version"),
        (fast.MODEL, "not a model", "not the file that fasttext.json describes"),
        (fast.MODEL, None, "missing"),
    ],
)
def test_a_damaged_model_is_refused(
    folder: Path, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    for file in (fast.RECORD, fast.MODEL):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        fast.Classifier.load(tmp_path)


def test_no_rows_and_a_wild_learning_rate(tmp_path: Path, rows: Any) -> None:
    pytest.importorskip("fasttext")
    with pytest.raises(UserError, match="no rows"):
        fast.train([], tmp_path)
    with pytest.raises(UserError, match="learning rate"):
        fast.train(rows[:50], tmp_path, dataclasses.replace(SMALL, learning_rate=1e6))


def test_extract_by_fasttext_alone(folder: Path) -> None:
    keys = date_keys.extract("call bob in 25 minutes", fasttext=str(folder))
    assert keys == ("in_25_minutes",)
    assert date_keys.extractor(fasttext=str(folder)) is date_keys.extractor(fasttext=str(folder))
    with pytest.raises(UserError, match="Give an adapter, a FastText model, or both"):
        date_keys.extract("call bob")


class Told:
    """An engine that answers one thing."""

    def __init__(self, answer: str):
        self.answer, self.asked = answer, 0

    def prompt(self, messages: Any, tools: Any = ()) -> Any:
        return messages

    def generate(self, prompts: Any, decoding: Any, progress: Any = None) -> list[Any]:
        from livery.engines.engine import Generation

        assert decoding.grammar is not None
        self.asked += 1
        return [Generation((), self.answer, True, 0.0, 1)]


def test_the_hybrid_asks_the_adapter_where_fasttext_is_unsure() -> None:
    engine = Told('["next_friday","next_friday"]')
    sure = fast.Classifier(Fixed(tomorrow=0.99), {})
    both = Extractor(engine, sure, threshold=0.9)  # pyright: ignore[reportArgumentType]
    found = both("tomorrow")
    assert (found.keys, found.source, engine.asked) == (("tomorrow",), "fasttext", 0)
    unsure = dataclasses.replace(both, classifier=fast.Classifier(Fixed(tomorrow=0.8), {}))
    found = unsure("tomorrow")
    assert (found.keys, found.source, engine.asked) == (("next_friday",), "adapter", 1)
    assert found.confidence == pytest.approx(0.8)


def test_the_table_counts_what_the_hybrid_takes() -> None:
    cases = scorer.cases(
        [{"text": text, "date_keys": keys} for text, keys in [
            ("tomorrow", ["tomorrow"]), ("tomorrow please", []), ("friday", ["next_friday"]),
        ]]
    )  # fmt: skip
    engine: Any = Told('["next_friday"]')
    asked = hybrid.answer(cases, fast.Classifier(Fixed(tomorrow=0.95), {}), engine)
    found = hybrid.summarize(asked, 0.9)
    assert [found["systems"][name]["correct"] for name in ("fasttext", "adapter", "hybrid")] == [
        *(1, 1, 1)
    ]
    assert (found["accepted"], found["accepted_errors"], found["coverage"]) == (3, 2, 1.0)
    asked[2] = dataclasses.replace(asked[2], confidence=0.5)
    found = hybrid.summarize(asked, 0.9)
    assert found["systems"]["hybrid"]["correct"] == 2
    assert found["coverage"] == pytest.approx(2 / 3)
    assert [row["text"] for row in hybrid.wrong(asked)] == ["tomorrow please", "friday"]
    none = hybrid.summarize(asked, None)
    assert "hybrid" not in none["systems"]
    assert none["coverage"] is None
    assert hybrid.table({"mine": found}).count("\n") == 4


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(n) for n in range(1, 201)]
    assert (hybrid.percentile(values, 0.5), hybrid.percentile(values, 0.99)) == (100, 198)
    assert hybrid.percentile([3.0], 0.99) == 3
