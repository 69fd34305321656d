"""Run a skill's cases on an engine, arm by arm: {base, tuned} x {free, constrained}.

arms = choose_arms(has_adapter=True, baseline=True, decoding="both")
runs = [run_arm(engine, scorer, cases, arm, decoding) for arm in arms]
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.cases import Case, CaseResult
from eval.scorers import Scorer
from livery.engines.engine import Decoding, Engine, Generation, NoRoom, Prompt
from livery.errors import UserError
from livery.progress import OnProgress

Mode = Literal["constrained", "unconstrained", "both"]

# Requests that are timed one by one, and the seconds after which no further one is begun.
ALONE = 8
ALONE_SECONDS = 5.0


@dataclass(frozen=True)
class Arm:
    """One way to answer all cases."""

    tuned: bool
    constrained: bool

    @property
    def key(self) -> str:
        """As in JSON: "tuned_constrained"."""
        return f"{'tuned' if self.tuned else 'base'}_{'' if self.constrained else 'un'}constrained"

    @property
    def title(self) -> str:
        """For people: "tuned, constrained"."""
        return self.key.replace("_", ", ")


@dataclass(frozen=True)
class ArmRun:
    """How one arm did.

    Attributes:
        arm: which.
        results: one a case, in the order of the cases.
        generations: the answers behind them.
        seconds: wall time of all answers.
        alone: seconds of single requests, each asked on its own; may be empty.
    """

    arm: Arm
    results: tuple[CaseResult, ...]
    generations: tuple[Generation, ...]
    seconds: float
    alone: tuple[float, ...] = ()

    @property
    def correct(self) -> int:
        return sum(result.correct for result in self.results)

    @property
    def tokens(self) -> int:
        """Tokens generated, end tokens included."""
        return sum(generation.count for generation in self.generations)

    @property
    def latency(self) -> float | None:
        """Median seconds of a request on its own; None where that was not measured."""
        return statistics.median(self.alone) if self.alone else None


def has_grammar(scorer: Scorer, cases: Sequence[Case]) -> bool:
    """Whether there is anything to hold answers to: the skill's grammar, or a case's own."""
    return scorer.SKILL.constraint() is not None or any(case.grammar for case in cases)


def without_grammar(scorer: Scorer, cases: Sequence[Case]) -> dict[str, int]:
    """The cases that a constrained arm leaves free, counted by why they have no grammar."""
    if scorer.SKILL.constraint() is not None:
        return {}
    free = [case.meta.get("no_grammar") for case in cases if case.grammar is None]
    return dict(Counter(str(reason or "it has no grammar") for reason in free).most_common())


def choose_arms(
    *, has_adapter: bool, baseline: bool, decoding: Mode, constrainable: bool = True
) -> list[Arm]:
    """The arms to run, the headline first.

    Without an adapter there is only the base to score, whatever `baseline` says; without a grammar
    both decodings are the unconstrained one.
    """
    if decoding == "both" and not constrainable:
        decoding = "unconstrained"
    models = [True, False] if has_adapter and baseline else [has_adapter]
    modes = {"constrained": [True], "unconstrained": [False], "both": [True, False]}[decoding]
    return [Arm(tuned, constrained) for tuned in models for constrained in modes]


def run_arm(
    engine: Engine,
    scorer: Scorer,
    cases: Sequence[Case],
    arm: Arm,
    decoding: Decoding,
    progress: OnProgress | None = None,
    *,
    time_alone: bool = True,
) -> ArmRun:
    """Answer and score every case.

    Args:
        decoding: as asked for; its grammar is set or cleared as the arm says.
        time_alone: also time a few requests one by one, as a user's program would send them.

    Raises:
        UserError: there are no cases, or the arm is constrained and the skill has no grammar.
    """
    if not cases:
        raise UserError("There are no cases to answer.")
    if arm.constrained and not has_grammar(scorer, cases):
        raise UserError(
            f"The skill {scorer.SKILL.name} has no grammar to constrain answers with. Evaluate it "
            "with --unconstrained."
        )
    grammar = scorer.SKILL.constraint() if arm.constrained else None
    decoding = dataclasses.replace(decoding, grammar=grammar)
    engine.use_adapter(arm.tuned)
    asked, total = cases, answers_of(cases)
    own = total - len(cases)
    cases = own_turns(engine, cases, decoding, arm.constrained,
                      lambda done, _: progress and progress(done, total))  # fmt: skip
    fits = [at for at, case in enumerate(cases) if open_turn(case) < 0]
    prompts = [_prompt(engine, cases[at], cases[at].messages, arm.constrained) for at in fits]
    began = time.monotonic()
    generations = [Generation((), "", finished=False, seconds=0.0, count=0)] * len(cases)
    given = engine.generate(
        prompts, decoding, lambda done, _: progress and progress(own + done, total)
    )
    for at, generation in zip(fits, given, strict=True):
        generations[at] = generation
    seconds = time.monotonic() - began
    results = [
        _score(scorer, case, before, generation, decoding.max_tokens)
        for case, before, generation in zip(cases, asked, generations, strict=True)
    ]
    alone: list[float] = []
    # The first cases of a file are often alike, so take some from all over it.
    stride = max(1, len(prompts) // ALONE)
    for prompt in prompts[::stride][:ALONE] if time_alone else ():
        started = time.monotonic()
        engine.generate([prompt], decoding)
        alone.append(time.monotonic() - started)
        if time.monotonic() - began - seconds > ALONE_SECONDS:
            break
    return ArmRun(arm, tuple(results), tuple(generations), seconds, tuple(alone))


def own_turns(
    engine: Engine,
    cases: Sequence[Case],
    decoding: Decoding,
    constrained: bool = False,
    progress: OnProgress | None = None,
) -> Sequence[Case]:
    """The cases, their open turns answered by the model that is asked.

    An assistant's turn whose content is None is the model's own: it is generated on the
    conversation before it, first turns first, so that a mistake in one is there in all that follow.
    A conversation that outgrows what the model can take keeps its open turns.
    """
    filled, full, done = list(cases), set[int](), 0
    total = answers_of(cases) - len(cases)
    while open_ := [
        (at, n) for at, case in enumerate(filled) if at not in full and (n := open_turn(case)) >= 0
    ]:
        prompts = [
            _prompt(engine, filled[at], filled[at].messages[:n], constrained) for at, n in open_
        ]
        try:
            given: list[Generation | None] = [*engine.generate(prompts, decoding)]
        except NoRoom:
            given = [_or_none(engine, prompt, decoding) for prompt in prompts]
        done += len(given)
        if progress is not None:
            progress(done, total)
        for (at, n), answer in zip(open_, given, strict=True):
            if answer is None:
                full.add(at)
                continue
            said = {"role": "assistant", "content": answer.text}
            messages = filled[at].messages
            filled[at] = dataclasses.replace(
                filled[at], messages=(*messages[:n], said, *messages[n + 1 :])
            )
    return filled


def answers_of(cases: Sequence[Case]) -> int:
    """How many answers the cases ask for, open turns among them."""
    return sum(1 + sum(m.get("content", "") is None for m in case.messages) for case in cases)


def _prompt(engine: Engine, case: Case, messages: Sequence[Any], constrained: bool) -> Prompt:
    prompt = engine.prompt(messages, case.tools)
    return dataclasses.replace(prompt, grammar=case.grammar) if constrained else prompt


def _or_none(engine: Engine, prompt: Prompt, decoding: Decoding) -> Generation | None:
    """The answer; None where there is no room for it."""
    try:
        return engine.generate([prompt], decoding)[0]
    except NoRoom:
        return None


def open_turn(case: Case) -> int:
    """The first turn that the model is to fill, -1 for none."""
    return next((n for n, m in enumerate(case.messages) if m.get("content", "") is None), -1)


def best_constant(scorer: Scorer, cases: Sequence[Case]) -> tuple[str, int] | None:
    """The expected answer that occurs most often, and how many cases it gets right on its own;
    None where no case expects one answer.

    What a model must beat before its score says anything: where a quarter of the cases expect an
    empty answer, always answering nothing scores a quarter.
    """
    common = Counter(case.expected_text for case in cases).most_common(1)[0][0]
    if not common:
        return None
    return common, sum(scorer.score_case(case, common).correct for case in cases)


def _score(
    scorer: Scorer, case: Case, asked: Case, generation: Generation, limit: int
) -> CaseResult:
    """Score one answer; one that was cut off says so.

    Args:
        asked: the case before its open turns were answered.
    """
    result = scorer.score_case(case, generation.text)
    said = tuple(
        str(now["content"])
        for now, before in zip(case.messages, asked.messages, strict=True)
        if before.get("content", "") is None and now["content"] is not None
    )
    if said:
        result = dataclasses.replace(result, said=said)
    if open_turn(case) >= 0:
        why = f"the conversation outgrew the model after {len(said)} answers of its own"
        return dataclasses.replace(result, correct=False, error=why)
    if generation.finished or result.parsed:
        return result
    return dataclasses.replace(result, error=f"cut off after {limit} tokens")
