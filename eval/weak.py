"""Which logged answers are worth a look, and why, without knowing the right one.

    for interaction in interactions.read("interactions.jsonl").interactions:
        weaknesses("persona", interaction)      # ("the post-processor changed it", …)

What is looked at: the user's mark, the program's own flags, the skill's contract, an answer that
was cut off or repeats itself, a confidence below the limit, and whatever the skill's scorer can
tell of an answer alone (its `look_over`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from eval.cases import said_thrice
from eval.scorers import get_scorer
from livery.engines.constrain import checker
from livery.interactions import PLACEHOLDER, Interaction
from livery.skills import AnswerError

CONFIDENCE = 0.9


def finder(skill: str, confidence: float = CONFIDENCE) -> Callable[[Interaction], tuple[str, ...]]:
    """What finds the weaknesses of a skill's answers.

    Args:
        confidence: what is below it counts as weak, where the program logged one.

    Raises:
        UserError: there is no such skill.
    """
    scorer = get_scorer(skill)
    look_over: Callable[[Any, str], list[str]] | None = getattr(scorer, "look_over", None)
    constraint = scorer.SKILL.constraint()
    refused = checker(constraint) if constraint is not None else None

    def find(one: Interaction) -> tuple[str, ...]:
        said: list[str] = []
        if one.mark is not None and (one.mark.verdict == "bad" or one.mark.corrected):
            said.append("corrected by the user" if one.mark.corrected else "marked bad by the user")
        said += one.flags
        if not one.finished:
            said.append("cut off")
        if one.confidence is not None and one.confidence < confidence:
            said.append(f"confidence {one.confidence:.2f}, below {confidence:g}")
        try:
            scorer.SKILL.parse(one.answer)
        except AnswerError as error:
            return (*said, f"breaks the contract: {error}")
        if refused is not None and refused(one.answer):
            said.append("the skill's grammar would not have let it pass")
        if repeats(one.answer):
            said.append("repeats itself")
        if look_over is not None:
            said += look_over(one.messages, one.answer)
        if PLACEHOLDER.search(one.answer):
            said.append("holds what was redacted")
        return tuple(dict.fromkeys(said))

    return find


def repeats(answer: str) -> bool:
    """Whether one line or sentence, or five words in a row, stand there three times."""
    words = answer.casefold().split()
    fives = Counter(tuple(words[at : at + 5]) for at in range(len(words) - 4))
    return said_thrice(answer) or max(fives.values(), default=0) >= 3
