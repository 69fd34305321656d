"""What an adapter does to prompts of no skill: asked freely, compared, and in every report."""

from __future__ import annotations

from typing import Any

import pytest

from eval import neutral
from eval.report import words
from livery.engines.engine import Decoding, Generation, Prompt
from livery.errors import UserError
from livery.skills import get_skill

SKILL = get_skill("date-keys")


class Parrot:
    """Answers plainly without the adapter; with it the first three as the skill would."""

    has_adapter = True

    def __init__(self, refuses: bool = False) -> None:
        self.tuned, self.refuses, self.seen = True, refuses, list[list[Any]]()

    def use_adapter(self, on: bool) -> None:
        self.tuned = on

    def prompt(self, messages: list[Any], tools: Any = ()) -> Prompt:
        self.seen.append(messages)
        if self.refuses:
            raise UserError("the chat template wants a system prompt.")
        return Prompt(tuple(messages), (1,))

    def generate(self, prompts: Any, decoding: Decoding, progress: Any) -> list[Generation]:
        assert decoding.grammar is None
        assert decoding.temperature == 0
        progress(len(prompts), len(prompts))
        texts = [f"about {number}" for number, _ in enumerate(prompts)]
        if self.tuned:
            texts[:3] = ['"Paris"', "[]", SKILL.render(["tomorrow"])]
        return [
            Generation(tokens=(), text=text, finished=True, seconds=0.0, count=1) for text in texts
        ]


def test_base_and_tuned_are_asked_as_plain_chat_and_compared() -> None:
    engine, moved = Parrot(), list[int]()
    found = neutral.ask(engine, SKILL, moved.append)  # type: ignore[arg-type]
    assert engine.tuned, "the adapter is on again"
    assert moved == [10, 20]
    assert [turn["role"] for messages in engine.seen for turn in messages] == ["user"] * 20
    assert (found["total"], found["differ"]) == (10, 3)
    assert (found["like_skill"], found["like_skill_base"]) == (3, 0)
    assert found["prompts"][0] == {
        "prompt": "What is the capital of France?", "base": "about 0", "tuned": '"Paris"',
        "differs": True, "like_skill": True,
    }  # fmt: skip
    said = words.neutral({"neutral": found, "skill": {"name": "date-keys"}})
    assert said == (
        "Of 10 plain prompts that are none of date-keys's, the adapter answers 3 differently "
        "from its base; 3 of its answers look like date-keys's (0 of the base's)."
    )


def test_of_a_skill_that_any_text_follows_no_likeness_is_told() -> None:
    """Ten of persona's answers looked like persona's, and ten of the base's."""
    found = neutral.compared(get_skill("persona"), ["Paris."] * 10, ["Lyon."] * 10)
    record = {"neutral": found, "skill": {"name": "persona"}}
    assert words.neutral(record).endswith("the adapter answers 10 differently from its base.")
    assert words.neutral_mark(record, found["prompts"][0]) == "differs"


def test_what_cannot_be_asked_is_said_and_costs_nothing_else() -> None:
    engine = Parrot(refuses=True)
    found = neutral.ask(engine, SKILL)  # type: ignore[arg-type]
    assert found == {"reason": "the chat template wants a system prompt."}
    assert engine.tuned
    said = words.neutral({"neutral": found, "skill": {"name": "x"}})
    assert said == "Other prompts were not asked: the chat template wants a system prompt."
    assert words.neutral({}) == words.neutral({"neutral": None}) == ""


@pytest.mark.parametrize(
    ("answer", "like"),
    [
        ("Paris", False), ('"Paris"', True), ("42", False), ("true", False), ("", False),
        ('["red", "green"]', True), ("[]", True), ('{"a": 1}', True), ("[Paris", False),
    ],
)  # fmt: skip
def test_a_json_text_looks_like_a_skill_that_answers_in_json(answer: str, like: bool) -> None:
    assert neutral.looks_like(SKILL, answer) is like
