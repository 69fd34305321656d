"""An engine in a process of its own, so that a server imports no framework and outlives whatever an
engine dies of.

    python -m livery.serve.answers.child ENGINE      # started by `host`; ENGINE may be "auto"

One JSON object a line comes in, one a line goes out:

    {"id": 7, "ask": QUESTION}   -> {"id": 7, "text": piece} as they come, then one of
                                    {"id": 7, "answer": ANSWER}
                                    {"id": 7, "refused": {"why", "message", "key"}}
    {"stop": 7}                  7 is not wanted any more: its answer ends with the next token

QUESTION and ANSWER are those of `question`. Questions are answered one after another. The process
ends with its standard input, whatever it is doing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any

from livery import faults
from livery.engines import threads
from livery.engines.engine import Decoding, EngineDied, Enough, Generation, NoRoom
from livery.engines.token_engine import TokenEngine
from livery.errors import UserError, shown
from livery.serve.answers.calls import CallForm, call_form, read_calls
from livery.serve.answers.engines import Engines
from livery.serve.answers.formats import grammar_of
from livery.serve.answers.gate import Gate
from livery.serve.answers.question import Answer, NoAnswer, Question


def main() -> None:
    # What libraries print to stdout goes to stderr; the answers have the channel for themselves.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    asked: queue.SimpleQueue[tuple[int, Question]] = queue.SimpleQueue()
    gone: set[int] = set()
    threading.Thread(target=_listen, args=(sys.stdin, asked, gone), daemon=True).start()
    answers = Answers(sys.argv[1])
    while True:
        number, question = asked.get()
        _answer(answers, number, question, channel, gone)
        gone.discard(number)


def _listen(lines: IO[str], asked: queue.SimpleQueue[tuple[int, Question]], gone: set[int]) -> None:
    for line in lines:
        said = json.loads(line)
        if "stop" in said:
            gone.add(said["stop"])
        else:
            asked.put((said["id"], Question(**said["ask"])))
    os._exit(0)  # nobody listens any more; a generation would go on for nothing


def _answer(
    answers: Answers, number: int, question: Question, channel: IO[str], gone: set[int]
) -> None:
    def send(**value: Any) -> None:
        channel.write(json.dumps({"id": number, **value}) + "\n")
        channel.flush()

    try:
        found = answers.answer(question, lambda piece: send(text=piece), lambda: number in gone)
        send(answer=dataclasses.asdict(found))
    except NoAnswer as refused:
        send(refused={"why": refused.why, "message": str(refused), "key": refused.key})
    except Exception as error:
        traceback.print_exc()
        said = faults.understood(error)
        message = said or f"{type(error).__name__}: {shown(error)}"
        send(refused={"why": "engine", "message": message, "key": None})
        sys.exit(1)  # what state the engine is in nobody knows: the next question gets another


class Answers:
    """Questions in, answers out, in this process.

    Attributes:
        engines: what is open; None until the first question.
    """

    def __init__(self, engine: str) -> None:
        self._name = engine
        self.engines: Engines | None = None
        self._settled = 0

    def answer(
        self, question: Question, show: Callable[[str], None], gone: Callable[[], bool]
    ) -> Answer:
        """Answer one.

        Args:
            show: called with each piece of the answer's text.
            gone: whether nobody waits for it any more.

        Raises:
            NoAnswer: the question cannot be answered; the engine can go on.
        """
        grammar = grammar_of(question.format, question.messages)
        engine = self._engine(question)
        try:
            prompt = engine.prompt(question.messages, question.tools, question.template_kwargs)
            decoding = Decoding(
                question.max_tokens, grammar, question.temperature, question.seed,
                top_p=question.top_p,
            )  # fmt: skip
        except UserError as error:
            field = "tools" if _takes_without_tools(engine, question) else "messages"
            raise NoAnswer("request", str(error), field) from None
        if self.engines and self._settled != self.engines.loads:  # how many threads suit the base
            self._settled = self.engines.loads
            threads.settle(engine, [prompt])
        form = call_form(engine.chat) if question.tools and grammar is None else None
        gate = Gate(show, question.stop, form.opening if form else None)

        def hear(piece: str) -> None:
            if gone():
                raise Enough
            gate.hear(piece)

        try:
            found = engine.stream(prompt, decoding, hear)
        except EngineDied:
            raise
        except NoRoom as error:
            said = str(error).replace("--max-tokens", "max_tokens")
            raise NoAnswer("request", said, "max_tokens") from None
        except UserError as error:
            raise NoAnswer("request", str(error), "messages") from None
        return _written(engine, len(prompt.tokens), found, gate, form, gone())

    def _engine(self, question: Question) -> TokenEngine:
        try:
            if self.engines is None:
                self.engines = Engines(self._name)
            return self.engines.get(question)
        except EngineDied:
            raise
        except UserError as error:
            raise NoAnswer("model", str(error), "model") from None


def _takes_without_tools(engine: TokenEngine, question: Question) -> bool:
    """Whether the template takes the conversation where no tools are offered."""
    try:
        engine.prompt(question.messages, (), question.template_kwargs)
    except UserError:
        return False
    return bool(question.tools)


def _written(
    engine: TokenEngine, prompt_tokens: int, found: Generation, gate: Gate,
    form: CallForm | None, gone: bool,
) -> Answer:  # fmt: skip
    """The answer as it is handed out; shows what the gate held back."""
    text, calls = read_calls(gate.text, form) if form else (gate.text, [])
    gate.end(text)
    facts = dataclasses.asdict(engine.facts())
    del facts["peak_memory"]
    ended = gate.stopped or found.finished
    reason = "gone" if gone and not ended else "stop" if ended else "length"
    return Answer(
        text, calls, "tool_calls" if calls and ended else reason, prompt_tokens, found.count,
        found.seconds, facts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
