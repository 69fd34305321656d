"""Conversations that go on with what the model itself said: drift over 40 turns of state and 20 of
persona."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from eval.cases import Case
from eval.runner import Arm, answers_of, run_arm
from eval.scorers import Scorer, find_set, get_scorer
from livery.engines.engine import Decoding, Generation, NoRoom, Prompt
from livery.errors import UserError
from livery.skills import state

FREE = Arm(tuned=False, constrained=False)


class Speaker:
    """An engine that says what a function makes of the conversation."""

    has_adapter = False

    def __init__(self, says: Callable[[list[Any]], str], room: int = 1000) -> None:
        self.says, self.room, self.asked = says, room, list[Prompt]()

    def use_adapter(self, on: bool) -> None:
        assert not on

    def prompt(self, messages: Any, tools: Any = ()) -> Prompt:
        return Prompt(tuple(messages))

    def generate(self, prompts: Any, decoding: Any, progress: Any = None) -> list[Generation]:
        if any(len(prompt.messages) > self.room for prompt in prompts):
            raise NoRoom("too long")
        self.asked += prompts
        if progress is not None:
            progress(len(prompts), len(prompts))
        texts = [self.says(list(prompt.messages)) for prompt in prompts]
        return [Generation((), text, finished=True, seconds=0.1, count=1) for text in texts]


def conversations(skill: str) -> tuple[Scorer, list[Case]]:
    scorer = get_scorer(skill)
    return scorer, scorer.cases(find_set(skill, "conversations")[1])


def run(engine: Speaker, scorer: Scorer, cases: list[Case], **more: Any) -> Any:
    return run_arm(cast(Any, engine), scorer, cases, FREE, Decoding(), time_alone=False, **more)


def gold(case: Case, at: int) -> str:
    """The right answer in this place of a state's conversation."""
    block = case.meta["block"]
    expected = case.meta["own"][at][1] if at < len(case.messages) else None
    return state.gold(expected or state.read_expected(case.expected, block), block)


@pytest.mark.parametrize(("skill", "turns"), [("state", 40), ("persona", 20)])
def test_the_sets_are_long_and_all_their_answers_are_the_models_own(skill: str, turns: int) -> None:
    _, cases = conversations(skill)
    assert len(cases) >= 9
    for case in cases:
        assert case.meta["turns"] == turns
        own = [at for at, m in enumerate(case.messages) if m["role"] == "assistant"]
        assert all(case.messages[at]["content"] is None for at in own)
        assert list(case.meta["own"]) == own
        assert len(own) == turns - 1


def test_a_state_that_is_kept_for_thirty_turns_and_then_lost_shows_as_drift() -> None:
    scorer, cases = conversations("state")
    case = cases[0]

    def says(messages: list[Any]) -> str:
        return gold(case, len(messages)) if len(messages) < 60 else "Paris, I suppose."

    engine, moved = Speaker(says), list[tuple[int, int]]()
    found = run(engine, scorer, [case], progress=lambda *at: moved.append(at))
    (result,) = found.results
    assert (result.metrics["own_early"], result.metrics["own_late"]) == (1.0, 0.0)
    assert result.metrics["late_turns"] is False
    assert len(result.said) == 39
    assert result.said[-1] == "Paris, I suppose."
    # What it said stands in all that follows.
    assert [m["content"] for m in engine.asked[-1].messages if m["role"] == "assistant"] == [
        *result.said
    ]
    assert moved == [(n, 40) for n in range(1, 41)]
    assert answers_of(cases) == 40 * len(cases)
    (kept,) = run(Speaker(lambda m: gold(case, len(m))), scorer, [case]).results
    assert kept.correct
    assert kept.metrics["own_early"] == kept.metrics["own_late"] == 1.0


def test_a_butler_who_forgets_the_form_of_address_shows_as_drift() -> None:
    scorer, cases = conversations("persona")
    case = next(case for case in cases if case.expected["address"] == "madam")

    def says(messages: list[Any]) -> str:
        _, wanted = case.meta["own"].get(len(messages), ("", case.expected))
        facts = ", ".join(fact.split("|")[0] for fact in wanted["facts"])
        voice = f"I say {facts}" if facts else "I shall see to it"
        if wanted["tone"] != "chat":
            return f"{voice}."
        return f"{voice}, {'madam' if len(messages) < 20 else 'sir'}."

    (result,) = run(Speaker(says), scorer, [case]).results
    early, late = result.metrics["own_early"], result.metrics["own_late"]
    assert early >= 0.8
    assert late <= 0.3


def test_the_models_own_turns_are_held_to_the_cases_grammar_where_answers_are() -> None:
    scorer, cases = conversations("state")
    engine = Speaker(lambda m: "That is not in my state.")
    arm = Arm(tuned=False, constrained=True)
    run_arm(cast(Any, engine), scorer, cases[:1], arm, Decoding(), time_alone=False)
    assert {prompt.grammar for prompt in engine.asked} == {cases[0].grammar}


def test_a_conversation_that_outgrows_the_model_is_wrong_and_ends_no_evaluation() -> None:
    scorer, cases = conversations("state")
    short = scorer.cases([{"state": "== STATE ==\nhall.lamp: off", "text": "Is the lamp on?",
                           "expect": {"fields": ["hall.lamp"]}}])  # fmt: skip

    def says(messages: list[Any]) -> str:
        return "According to my `hall.lamp`, it is off."

    grown, fine = run(Speaker(says, room=11), scorer, [cases[0], *short]).results
    assert not grown.correct
    assert grown.error == "the conversation outgrew the model after 5 answers of its own"
    assert len(grown.said) == 5
    assert fine.correct
    with pytest.raises(NoRoom):  # a single question that is too long is told as before
        run(Speaker(says, room=1), scorer, short)


@pytest.mark.parametrize(
    ("skill", "row", "complaint"),
    [
        ("state", {"state": "== STATE ==\na: b", "expect": {"fields": ["a"]}, "turns": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "expect": {"fields": ["c"]}},
            {"role": "user", "content": "y"}]}, "row 1: a turn of the model's own: "),
        ("state", {"state": "== STATE ==\na: b", "expect": {"fields": ["a"]}, "turns": [
            {"role": "user", "content": None}]}, "row 1: needs a \"text\""),
        ("persona", {"address": "sir", "turns": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tone": "odd"},
            {"role": "user", "content": "y"}]}, "row 1: \"tone\" is 'odd'"),
        ("persona", {"address": "sir", "turns": [{"role": "user", "content": None}]}, "needs a"),
    ],
)  # fmt: skip
def test_a_turn_that_is_wrong_is_named(skill: str, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        get_scorer(skill).cases([row])
    assert complaint in str(caught.value)
