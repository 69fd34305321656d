"""The scorer of persona: address, stuffing, voice, facts, and what only some cases ask."""

from __future__ import annotations

from typing import Any

import pytest

from eval.scorers import find_set
from eval.scorers import persona as scorer
from livery.errors import UserError


def score(answer: str, address: str | None = "sir", turns: int = 1, **case: Any):
    talk = [{"role": "user", "content": "x"}]
    for _ in range(turns - 1):
        talk += [{"role": "assistant", "content": "y"}, {"role": "user", "content": "x"}]
    row = {"id": "1", "category": "casual", "address": address, "turns": talk, **case}
    (read,) = scorer.cases([row])
    return scorer.score_case(read, answer)


LONG = "It is so, and it was so, and every day brings another thing to say of it. " * 6


@pytest.mark.parametrize(
    ("answer", "address", "right", "metrics"),
    [
        ("Very good, sir.", "sir", True, {"addressed": True, "address_correct": True}),
        ("Very good.", "sir", False, {"addressed": False, "address_correct": False,
                                      "address_correct_finished": True}),
        ("Very good, madam.", "sir", False, {"addressed": False, "address_correct": False}),
        ("Very good, ma'am.", "madam", True, {"address_correct": True}),
        ("Very good, Dr Okafor.", "Dr Okafor", True, {"addressed": True}),
        ("Very good, sir.", "Dr Okafor", False, {"address_correct": False}),
        ("Very good.", "", True, {"address_correct": True}),
        ("Very good, sir.", "", False, {"address_correct": False}),
        ("Yes, sir. At once, sir.", "sir", False,
         {"stuffing": True, "address_correct": True, "stuffing_finished": False}),
        ("Sir Isaac Newton, sir.", "sir", True, {"stuffing": False}),
        ("My favorite color, sir.", "sir", False, {"british": False}),
        ("As an AI, I cannot, sir.", "sir", False, {"unbanned": False}),
        ("This assistant is glad, sir.", "sir", False, {"first_person": False}),
        ("It is so here, sir. It is so here.", "sir", False, {"repetition": True}),
        ("Sir! It is so, sir. Sir?", "sir", False, {"stuffing": True}),
        ("It is so sir.", "sir", True, {"addressed": True}),
        ("It is so, kind sir.", "sir", True, {"addressed": True}),
        ("Very good, Mr. Finch.", "Mr Finch", True, {"addressed": True}),
        ("Very good, Ms O’Brien.", "Ms O'Brien", True, {"address_correct": True}),
        ("Set `color: red`, sir.", "sir", True, {"british": True}),
        ("I use it as an aid to memory, sir.", "sir", True, {"unbanned": True}),
        ("The model has two layers, sir.", "sir", True, {"first_person": True}),
    ],
)  # fmt: skip
def test_what_each_answer_is_worth(answer: str, address: str, right: bool, metrics: Any) -> None:
    found = score(answer, address)
    assert found.correct is right, found.error
    assert bool(found.error) is not right
    assert metrics.items() <= found.metrics.items()


@pytest.mark.parametrize(
    ("fact", "answer", "held"),
    [
        ("42", "Forty-two, sir.", True),
        ("42", "That is 42.0, sir.", True),
        ("42", "Six times seven is 42, sir.", True),
        ("42", "It is not 42, sir.", False),
        ("42", "It is 41, 42 or 43, sir.", False),
        ("42", "40 41 42 43 44, sir.", False),
        ("42", "6 or 7 times, sir: 42.", True),
        ("20", "Twenty-four, sir.", False),
        ("1", "One hundred, sir.", False),
        ("1000", "One thousand, sir.", True),
        ("12301", "Twelve thousand three hundred and one, sir.", True),
        ("4.8", "Four point eight, sir.", True),
        ("-5", "That is −5, sir.", True),
        ("25%", "Twenty-five per cent, sir.", True),
        ("3", "2, 3, 5 and 7, sir.", False),
        ("-40", "Minus forty, sir.", True),
        ("3.5", "Three and a half, sir.", True),
        ("12.5", "It is 12½, sir.", True),
        ("1969", "In nineteen sixty-nine, sir.", True),
        ("2026", "Twenty twenty-six, sir.", True),
        ("Paris", "Not at all, sir: Paris.", True),
        ("Paris", "London, Paris, Rome, Berlin and Madrid, sir.", False),
        ("Paris", "Paris, with Lyon and Nice behind it, sir.", True),
    ],
)
def test_facts_in_any_way_of_writing_a_number_and_no_guesses(
    fact: str, answer: str, held: bool
) -> None:
    result = score(answer, facts=[fact])
    assert (result.metrics["facts"], result.correct) == (held, held)


def test_several_facts_may_be_a_list() -> None:
    assert score("They are 2, 3, 5 and 7, sir.", facts=["2", "3", "5", "7"]).correct


def test_a_fact_that_is_taken_back_is_not_said() -> None:
    for answer in (
        "It is not true that it is Paris, sir.", "It is Paris, sir. That is wrong.",
        "Paris, sir, which is incorrect.", "That isn't quite true: it is Paris, sir.",
    ):  # fmt: skip
        assert score(answer, facts=["Paris"]).metrics["facts"] is False
    assert score("It is Paris, sir, and not Rome.", facts=["Paris"]).metrics["facts"] is True


def test_metrics_apply_where_they_say_something() -> None:
    plain = score("Very good, sir.").metrics
    assert not {"facts", "neutral", "offers", "late_turns"} & plain.keys()
    assert plain["words"] == 3
    assert "addressed" not in score("Very good.", "").metrics
    assert score("It is Paris, sir.", facts=["Paris"]).metrics["facts"] is True
    assert score("It is Rome, sir.", facts=["Paris"]).correct is False
    assert score("Eight, sir.", facts=["8"]).correct
    assert score("It is 1,024, sir.", facts=["1024"]).correct
    assert not score("It is 18, sir.", facts=["8"]).correct
    assert score("She is a vet, sir.", facts=["doctor|vet"]).correct
    assert score("Yes, sir.", turns=20).metrics["late_turns"] is True
    assert score("Yes.", turns=20).metrics["late_turns"] is False
    assert "late_turns" not in score("Yes, sir.", turns=19).metrics


@pytest.mark.parametrize("answer", ["1 2 3 4 5.", "Certainly.", "{question}", "I am a butler."])
def test_what_tells_of_no_failure_and_asks_nothing_is_not_neutral(answer: str) -> None:
    _, file = find_set("persona")
    cases = [case for case in scorer.cases(file) if case.category == "error_handling"]
    assert len(cases) > 10
    for case in cases:
        found = scorer.score_case(case, answer.format(question=case.text))
        assert found.metrics["neutral"] is found.correct is False


def test_failures_and_questions_back_are_neutral() -> None:
    quoted = score("The command `echo hi!` failed with “Oh no!”.", tone="error")
    assert quoted.metrics["neutral"] is quoted.correct is True
    for tone in ("error", "clarification"):
        assert score("Which file?", tone=tone).correct
        for wrong in ("Which file, sir?", "Oh no! Which file?", "Which file? 😀"):
            found = score(wrong, tone=tone)
            assert found.metrics["neutral"] is False
            assert not found.correct


def test_who_speaks_of_himself_says_i() -> None:
    assert score("I prefer tea, sir.", first_person=True).correct
    assert not score("Tea is best, sir.", first_person=True).correct


def test_openings_are_taken() -> None:
    for offer in ("Shall I set an alarm, sir?", "I could set an alarm, sir."):
        assert score(offer, category="proactive").metrics["offers"] is True
    assert score("How nice, sir.", category="proactive").metrics["offers"] is False


def test_long_and_empty_answers() -> None:
    long = score(LONG)
    assert long.metrics["brief"] is False
    assert "addressed" not in long.metrics
    empty = score(" ")
    assert (empty.parsed, empty.correct, empty.error) == (False, False, "empty")
    assert empty.metrics["address_correct"] is False
    assert empty.metrics["stuffing"] is False


def test_without_the_persona_only_facts_count() -> None:
    (case,) = scorer.cases([{"text": "Capital of Peru?", "address": None, "facts": ["Lima"]}])
    assert [m["role"] for m in case.messages] == ["user"]
    assert scorer.score_case(case, "lima of course!!! 😀").metrics == {"facts": True}
    assert scorer.score_case(case, "Quito, sir.").error == "lacks Lima"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "x"}, 'no "address"'),
        ({"text": " ", "address": "sir"}, 'needs a "text"'),
        ({"turns": [{"role": "assistant", "content": "x"}], "address": "sir"}, "end in a user's"),
        ({"turns": "x", "address": "sir"}, "end in a user's"),
        ({"text": "x", "address": "a\nb"}, '"address" is'),
        ({"text": "x", "address": 3}, '"address" is'),
        ({"text": "x", "address": "sir", "facts": "Paris"}, '"facts" must be a list'),
        ({"text": "x", "address": "sir", "tone": "angry"}, '"tone" is .angry'),
        ({"messages": [{"role": "user", "content": "x"}]}, 'needs "meta"'),
        ({"text": "x", "address": "sir", "fact": ["Paris"]}, r"'fact' is no key .*'facts'\?"),
    ],
)
def test_malformed_cases_are_named(row: Any, why: str) -> None:
    with pytest.raises(UserError, match=why) as error:
        scorer.cases([row])
    assert str(error.value).startswith("row 1: ")
