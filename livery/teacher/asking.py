"""Asking: many questions at once, each until it has a valid answer or a cause why it has none.

Of one question, in this order: it is sent, and sent again where the failure may pass; an answer
that was cut at its limit is asked for once more with twice the limit; one that is not valid under
the schema goes back once with the validator's message. What is on record is not sent at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livery.errors import UserError, counted, shown
from livery.files import one_at_a_time
from livery.progress import Progress
from livery.teacher.dialects import FORMS, Habits, Reply, cut_of, read_reply, request_body
from livery.teacher.plan import RAISED, Plan, context_for, make_plan
from livery.teacher.question import Fault, Messages, Question, Result, characters
from livery.teacher.records import Found, Records
from livery.teacher.settings import Teacher, api_key
from livery.teacher.validation import find_fault
from livery.teacher.wire import OF_THE_ENDPOINT, TroubleError, exchange, headers_of

LONGEST_PAUSE = 60.0  # seconds between two attempts, where the endpoint does not say how long
_KEPT_TEXT = 4000  # characters of a refused answer in the trail
_WINDOW = 50  # questions whose share of failures counts
_ENOUGH = 20  # of them before it does
_DEAD = 3  # failures of the endpoint, with nothing answered, after which it is not asked further


def ask(
    questions: Sequence[Question], teacher: Teacher, records: str | Path, *, what: str = "asking"
) -> list[Result]:
    """The results in the order of the questions; see `ask_each`. In a notebook, whose thread runs
    an event loop already, another thread asks."""

    def run() -> list[Result]:
        found = list(ask_each(questions, teacher, records, what=what))
        return sorted(found, key=lambda result: result.at)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def ask_each(
    questions: Sequence[Question],
    teacher: Teacher,
    records: str | Path,
    *,
    what: str = "",
    send: bool = True,
) -> Iterator[Result]:
    """Ask the teacher; yields a result for every question, as they come.

    Args:
        questions: with names that are the same in each run.
        records: the SQLite file of answers; made where it is missing. Another process that uses it
            is waited for. It should have a folder to itself.
        what: shown with the progress, "writing queries"; "" shows none.
        send: False sends nothing: what is not on record fails as "not_asked".

    Raises:
        UserError: the records cannot be used, or the teacher fails too often; all that was
            answered until then is on record, and was yielded.
    """
    records = Path(records)
    with one_at_a_time(records, "asking the teacher"), Records(records) as opened:
        plan = make_plan(questions, teacher, opened)
        if what and plan.news():
            print("\n".join(plan.news()), flush=True, file=sys.stderr)
        missing = set(plan.missing)
        for at, found in plan.found.items():
            result = _reuse(at, questions[at], found, teacher)
            if result is None:  # what decides whether it is valid has changed since
                missing.add(at)
            else:
                yield result
        if not send:
            fault = Fault("not_asked", "it is not on record")
            for at in sorted(missing.union(*plan.twins.values())):
                yield Result(at, questions[at], fault=fault)
        elif missing:
            run = _Run(questions, plan, opened, sorted(missing))
            yield from _shown(run, what) if what else run.results()
            if run.stopped:
                raise UserError(f"{run.stopped}\nWhat was answered is in {records}.")


def _reuse(at: int, question: Question, found: Found, teacher: Teacher) -> Result | None:
    """The result that is on record; None where it is not valid, or cannot be read."""
    try:
        value, fault = find_fault(question, found.text)
        provenance = found.provenance
        if provenance["cost"] is None:
            tokens = (int(provenance["prompt_tokens"]), int(provenance["completion_tokens"]))
            provenance = {**provenance, "cost": teacher.cost(*tokens)}
    except Exception:  # a check that fails on it fails again when the answer is new, and is told
        return None
    return None if fault else Result(at, question, value, None, provenance, reused=True)


def _shown(run: _Run, what: str) -> Iterator[Result]:
    """The results, with progress: rate, time left, failures, tokens and cost."""
    failed, total = 0, len(run.questions)
    left = len(run.places) + sum(map(len, run.plan.twins.values()))
    with Progress(what, total, "questions", done=total - left) as bar:
        for result in run.results():
            failed += result.fault is not None
            bar.advance(note=run.spent() + (f" · {failed:,} failed" if failed else ""))
            yield result


@dataclass
class _Tally:
    """What one question has taken."""

    began: float = field(default_factory=time.monotonic)
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answer_tokens: int = 0  # of the last reply alone
    counted: bool = True
    trail: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    form: str = FORMS[0]
    served: str = ""

    def add(self, messages: Messages, reply: Reply) -> None:
        # An estimate, where the endpoint does not count: four characters a token.
        letters = characters(messages)
        self.counted &= reply.prompt_tokens is not None and reply.completion_tokens is not None
        self.prompt_tokens += _or(reply.prompt_tokens, -(-letters // 4))
        self.answer_tokens = _or(reply.completion_tokens, -(-len(reply.text) // 4))
        self.completion_tokens += self.answer_tokens
        self.served = reply.served

    def note(self, cause: str, message: str, text: str | None = None) -> None:
        entry = {"cause": cause, "message": message}
        if text is not None:
            entry["text"] = text[:_KEPT_TEXT]
        self.trail.append(entry)


class _Run:
    """The questions of one call that are not on record, under way."""

    def __init__(
        self, questions: Sequence[Question], plan: Plan, records: Records, places: Sequence[int]
    ):
        self.questions, self.plan, self.records, self.places = questions, plan, records, places
        self.teacher = plan.teacher
        self.stopped = ""  # why no further question is sent
        self._key = api_key(self.teacher)
        self._headers = headers_of(self.teacher.url, self._key)
        self._context = context_for(questions, self.teacher)
        # What cuts a prompt: Ollama is told its context; of another endpoint the user may know it.
        self._window = self._context if self.teacher.api == "ollama" else self.teacher.context
        self._habits = Habits({})
        self._recent: deque[str] = deque(maxlen=_WINDOW)  # causes; "" for an answer
        self._answered = 0
        self._dead: Counter[str] = Counter()
        self._quiet_until = 0.0
        self._prompt_tokens = self._completion_tokens = 0
        self._out: deque[Result] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def results(self) -> Iterator[Result]:
        """Yield what comes. The event loop runs only while a result is waited for, in the thread
        of whoever takes them, so that no two threads hand the interpreter back and forth; whoever
        stops taking ends the requests that are under way.
        """
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._all())
        task.add_done_callback(lambda _: self._wake())
        try:
            while not task.done() or self._out:
                if not self._out:
                    self._waiting = loop.create_future()
                    loop.run_until_complete(self._waiting)
                while self._out:
                    yield self._out.popleft()
            with contextlib.suppress(asyncio.CancelledError):
                task.result()
        except BaseExceptionGroup as group:  # of the workers: the records cannot be written
            raise group.exceptions[0] from None
        finally:
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def spent(self) -> str:
        """Tokens and cost of this run so far, for people."""
        text = f"{self._prompt_tokens + self._completion_tokens:,} tokens"
        cost = self.teacher.cost(self._prompt_tokens, self._completion_tokens)
        return text if cost is None else f"{text} · cost {cost:,.2f}"

    # -- all questions -----------------------------------------------------------------------------

    async def _all(self) -> None:
        teacher = self.teacher
        todo = iter(self.places)
        from livery.teacher.connections import open_pool

        async with open_pool(teacher.url, teacher.concurrency) as pool:
            workers = min(teacher.concurrency, len(self.places))
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(pool, todo))

    async def _work(self, pool: Any, todo: Iterator[int]) -> None:
        for at in todo:
            if self.stopped:
                return
            question = self.questions[at]
            result = await self._settle(pool, at, question)
            for place in (at, *self.plan.twins.get(at, ())):
                self._out.append(dataclasses.replace(result, at=place, reused=place != at))
            self._wake()
            self._watch(result)

    def _watch(self, result: Result) -> None:
        """Stop where the endpoint is none, or too many of the last questions failed."""
        cause = result.fault.cause if result.fault else ""
        self._recent.append(cause)
        self._answered += not cause
        if cause in OF_THE_ENDPOINT:
            self._dead[cause] += 1
        failed = [cause for cause in self._recent if cause]
        dead = not self._answered and sum(self._dead.values()) >= _DEAD
        many = len(self._recent) >= _ENOUGH
        often = many and len(failed) > self.teacher.max_error_rate * len(self._recent)
        if (dead or often) and not self.stopped and result.fault is not None:
            causes = ", ".join(f"{name} {n:,}" for name, n in Counter(failed).most_common())
            self.stopped = (
                f"The teacher {self.teacher.describe()} failed {counted(len(failed), 'question')} "
                f"of the last {len(self._recent):,} ({causes}), so no more were sent. The last: "
                f"{result.fault.message}"
            )

    # -- one question ------------------------------------------------------------------------------

    async def _settle(self, pool: Any, at: int, question: Question) -> Result:
        tally, parts = _Tally(), self.plan.made_of[at]
        asked_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        value: Any = None
        text, fault = "", None
        try:
            value, text = await self._converse(pool, question, tally)
        except TroubleError as trouble:
            tally.note(trouble.cause, str(trouble), trouble.text or None)
            fault = Fault(trouble.cause, str(trouble))
        except Exception as error:  # one bad question never stops the others
            fault = Fault("internal", shown(f"{type(error).__name__}: {error}"))
        trail = self._clean(tally.trail)
        if fault is not None:
            fault = Fault(fault.cause, self._without_key(fault.message), trail)
        self._prompt_tokens += tally.prompt_tokens
        self._completion_tokens += tally.completion_tokens
        provenance = {
            "model": self.teacher.model,
            "served": tally.served,
            "endpoint": self.teacher.url,
            "key": parts.key,
            "asked_at": asked_at,
            "format": tally.form,
            "requests": tally.requests,
            "repaired": any("text" in entry for entry in trail) and fault is None,
            "trail": trail,
            "seconds": round(time.monotonic() - tally.began, 3),
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "answer_tokens": tally.answer_tokens,
            "counted": "by the endpoint" if tally.counted else "estimated",
            "cost": self.teacher.cost(tally.prompt_tokens, tally.completion_tokens),
        }
        if fault is None:
            self.records.keep(question, parts, text, provenance)
        else:
            self.records.keep_failure(question, parts, asked_at, fault)
        return Result(at, question, value, fault, provenance)

    async def _converse(self, pool: Any, question: Question, tally: _Tally) -> tuple[Any, str]:
        """(value, its text), or TroubleError."""
        messages: Messages = question.messages
        limit, repaired = question.parameters.max_tokens, False
        while True:
            reply = await self._patiently(pool, question, messages, limit, tally)
            if cut := cut_of(question.messages, reply.prompt_tokens, self._window):
                raise TroubleError("cut_prompt", f"{cut}; {self._remedy()}")
            if reply.cut:
                message = f"cut at {limit:,} tokens"
                if limit > question.parameters.max_tokens:
                    raise TroubleError("length", message, text=reply.text)
                tally.note("length", message)
                limit *= RAISED
                continue
            value, fault = find_fault(question, reply.text)
            if fault is None:
                return value, reply.text
            if repaired:
                raise TroubleError(fault.cause, fault.message, text=reply.text)
            repaired = True
            if fault.cause == "wrong_schema":
                self._habits.learn_of_answer(tally.form, question)
            tally.note(fault.cause, fault.message, reply.text)
            messages = [*question.messages, *_repair(reply.text, fault)]

    def _remedy(self) -> str:
        if self.teacher.api == "ollama":
            return "set --teacher-context, or take a model that reads more"
        return "let the server read longer prompts, or name its context with --teacher-context"

    async def _patiently(
        self, pool: Any, question: Question, messages: Messages, limit: int, tally: _Tally
    ) -> Reply:
        """One request, again where its failure may pass, as often as the teacher's retries say."""
        retries = 0
        while True:
            await self._quiet()
            form, limit_name = self._habits.form(question.schema_text), self._habits.limit
            tally.form = FORMS[form]
            tally.requests += 1
            body = request_body(
                self.teacher, question, messages, limit=limit, form=form,
                limit_name=limit_name, context=self._context,
            )  # fmt: skip
            encoded = json.dumps(body, ensure_ascii=False).encode()
            try:
                found = await exchange(
                    pool, self.teacher.chat_url, self._headers, encoded, self.teacher.timeout
                )
                reply = read_reply(self.teacher.api, found)
            except TroubleError as trouble:
                if self._habits.learn(trouble, form, question, limit_name):
                    continue
                nobody = trouble.cause == "unreachable" and not self._answered
                if not trouble.again or nobody or self.stopped or retries >= self.teacher.retries:
                    raise
                tally.note(trouble.cause, str(trouble))
                await self._pause(trouble, retries)
                retries += 1
                continue
            tally.add(messages, reply)
            return reply

    async def _pause(self, trouble: TroubleError, retries: int) -> None:
        """As long as the endpoint says, and nobody sends meanwhile; else longer every time."""
        if trouble.wait is not None:
            self._quiet_until = max(self._quiet_until, time.monotonic() + trouble.wait)
            return
        longest = min(LONGEST_PAUSE, self.teacher.retry_wait * 2**retries)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))

    async def _quiet(self) -> None:
        while (wait := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _clean(self, trail: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """A trail in which the key does not stand, whatever the endpoint has said."""
        return [{k: self._without_key(text) for k, text in entry.items()} for entry in trail]


def _repair(text: str, fault: Fault) -> list[dict[str, str]]:
    """What follows the conversation, so that the teacher mends its answer."""
    said = [{"role": "assistant", "content": text}] if text.strip() else []
    wanted = (
        f"That answer cannot be used: {fault.message} Answer again with the whole JSON, mended, "
        "and with nothing else."
    )
    return [*said, {"role": "user", "content": wanted}]


def _or(count: int | None, other: int) -> int:
    return other if count is None else count
