"""What asking will take: what is on record already, how many requests, tokens and what they cost.

livery ... --dry-run          # prints a plan, and sends nothing
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livery.errors import counted
from livery.teacher.question import Ingredients, Question, characters, ingredients
from livery.teacher.records import Found, Records
from livery.teacher.settings import Teacher

# Compact JSON beside prose, before a model's own figure is on record.
_CHARACTERS_PER_TOKEN = 3.2
# The fewest that prompts like ours have: for a context that must hold any of them.
_FEWEST_CHARACTERS = 2.0
RAISED = 2  # times the limit for the one request after a cut answer
_FOR_REPAIR = 512  # tokens of the validator's message and the template around it


@dataclass(frozen=True)
class Plan:
    """What is known before anything is sent.

    Attributes:
        made_of: of every question, what decides its answer.
        found: answers on record, by the place of the question.
        twins: by the place of each question that is sent, those of further ones with its key.
        changed: why questions of names that have an answer are asked again, with how many.
        prompt_tokens, completion_tokens: of those that are sent, estimated.
        measured: the estimate rests on earlier answers of this model; otherwise answers count as
            long as they may be.
    """

    teacher: Teacher
    made_of: Sequence[Ingredients]
    found: Mapping[int, Found]
    twins: Mapping[int, Sequence[int]]
    changed: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    measured: bool

    @property
    def missing(self) -> list[int]:
        """Places of the questions that are sent, each key once."""
        return list(self.twins)

    @property
    def cost(self) -> float | None:
        """Estimated; None where no price is known."""
        return self.teacher.cost(self.prompt_tokens, self.completion_tokens)

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "model": self.teacher.model,
            "url": self.teacher.url,
            "questions": len(self.made_of),
            "on_record": len(self.found),
            "requests": len(self.missing),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "measured": self.measured,
            "cost": self.cost,
            "changed": dict(self.changed),
        }

    def describe(self) -> str:
        """For people, some lines."""
        lines = [
            f"Teacher: {self.teacher.describe()}",
            f"{counted(len(self.made_of), 'question')}: {len(self.found):,} on record, "
            f"{counted(len(self.missing), 'request')} to send",
        ]
        lines += self.news()
        if self.missing:
            most = "" if self.measured else "at most "
            lines.append(
                f"about {self.prompt_tokens:,} tokens of prompts, {most}"
                f"{self.completion_tokens:,} of answers"
            )
            cost = self.cost
            lines.append(
                "cost: unknown; give --price-in and --price-out" if cost is None
                else f"cost: {most or 'about '}{cost:,.2f}, and up to as much again for what needs "
                "a second request"
            )  # fmt: skip
        return "\n".join(lines)

    def news(self) -> list[str]:
        """Lines that name the inputs that changed since an earlier run."""
        return [
            f"{counted(number, 'question is', 'questions are')} asked again: other than in the "
            f"records, {what} changed"
            for what, number in self.changed.items()
        ]


def make_plan(
    questions: Sequence[Question], teacher: Teacher, records: str | Path | Records
) -> Plan:
    """See `Plan`. Nothing is sent, and no file of records is made.

    Raises:
        UserError: the records cannot be read.
    """
    if isinstance(records, Records):
        return _plan(questions, teacher, records)
    with Records(records if Path(records).exists() else ":memory:") as opened:
        return _plan(questions, teacher, opened)


def _plan(questions: Sequence[Question], teacher: Teacher, records: Records) -> Plan:
    made_of = [ingredients(question, teacher.model) for question in questions]
    found: dict[int, Found] = {}
    first: dict[str, int] = {}
    twins: dict[int, list[int]] = {}
    changed: Counter[str] = Counter()
    for at, (question, parts) in enumerate(zip(questions, made_of, strict=True)):
        answer = records.find(parts.key)
        # A longer answer than could come now was another one; a limit that grew changes nothing.
        if answer is not None and answer.length <= RAISED * question.parameters.max_tokens:
            found[at] = answer
        elif parts.key in first:
            twins[first[parts.key]].append(at)
        else:
            first[parts.key], twins[at] = at, []
            earlier = records.earlier(question.name)
            if earlier is not None and (differences := parts.differences(earlier)):
                changed[" and ".join(differences)] += 1
    averages = records.averages(teacher.model)
    per_token = averages[0] if averages else _CHARACTERS_PER_TOKEN
    letters = sum(characters(questions[at].messages) for at in twins)
    longest = (questions[at].parameters.max_tokens for at in twins)
    answers = round(averages[1] * len(twins)) if averages else sum(longest)
    return Plan(
        teacher, made_of, found, twins, changed,
        round(letters / per_token), answers, measured=averages is not None,
    )  # fmt: skip


def context_for(questions: Sequence[Question], teacher: Teacher) -> int:
    """The context to ask Ollama for, tokens: one for all, since another one loads the model again.

    It holds the longest prompt, an answer of twice the limit, and an answer to be repaired.
    """
    if teacher.context is not None:
        return teacher.context
    needed = max(
        characters(q.messages) / _FEWEST_CHARACTERS
        + (RAISED + 1) * q.parameters.max_tokens
        + _FOR_REPAIR
        for q in questions
    )
    return max(4096, 1024 * -(-int(needed) // 1024))
