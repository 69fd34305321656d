"""An engine in a process of its own, so that a server imports no framework and outlives whatever an
engine dies of.

    python -m livery.serve.answers.child ENGINE      # started by `host`; ENGINE may be "auto"

One JSON object a line comes in, one a line goes out:

    {"id": 7, "ask": QUESTION}   -> {"id": 7, "begun": true},
                                    {"id": 7, "text": piece} as they come, then one of
                                    {"id": 7, "answer": ANSWER}
                                    {"id": 7, "refused": {"why", "message", "key"}}
    {"stop": 7}                  7 is not wanted any more: its answer ends with the next token

QUESTION and ANSWER are those of `question`. Questions begin in the order in which they come, and
those whose engines are open on one base are answered in turns, a token each; how many there are at
once is decided by who asks. The process ends with its standard input, whatever it is doing.
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
from collections.abc import Callable, Generator
from typing import IO, Any

from livery import faults
from livery.engines import threads
from livery.engines.engine import Decoding, EngineDied, Enough, Generation, NoRoom
from livery.engines.token_engine import TokenEngine, cut_off
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
    asked: Line = queue.SimpleQueue()
    gone: set[int] = set()
    threading.Thread(target=_listen, args=(sys.stdin, asked, gone), daemon=True).start()
    turns = Turns(Answers(sys.argv[1]), asked, gone, channel)
    while True:
        turns.take()


Line = queue.SimpleQueue[tuple[int, Question]]
Running = Generator[str, None, Answer]


def _listen(lines: IO[str], asked: Line, gone: set[int]) -> None:
    for line in lines:
        said = json.loads(line)
        if "stop" in said:
            gone.add(said["stop"])
        else:
            asked.put((said["id"], Question(**said["ask"])))
    os._exit(0)  # nobody listens any more; a generation would go on for nothing


class Turns:
    """The answers that are being written, and who waits.

    Args:
        asked: questions with their numbers, as they come.
        gone: numbers of those that nobody waits for any more.
        channel: where everything goes.
    """

    def __init__(self, answers: Answers, asked: Line, gone: set[int], channel: IO[str]) -> None:
        self._answers, self._asked, self._gone, self._channel = answers, asked, gone, channel
        self._held: tuple[int, Question] | None = None  # until nothing else runs
        self._running: dict[int, Running] = {}

    def take(self) -> None:
        """Begin with the next question if it can be, and take one turn of each answer; waits where
        there is nothing to do."""
        if not self._running:
            self._begin(*(self._held or self._asked.get()), None)
        elif self._held is None and not self._asked.empty():
            self._held = number, question = self._asked.get()
            if (engine := self._answers.opened(question)) is not None:
                self._begin(number, question, engine)
        for number, running in [*self._running.items()]:
            try:
                if piece := next(running):
                    self._send(number, text=piece)
                continue
            except StopIteration as ended:
                self._send(number, answer=dataclasses.asdict(ended.value))
            except NoAnswer as refused:
                said = {"why": refused.why, "message": str(refused), "key": refused.key}
                self._send(number, refused=said)
            except Exception as error:
                traceback.print_exc()
                said = faults.understood(error) or f"{type(error).__name__}: {shown(error)}"
                self._send(number, refused={"why": "engine", "message": said, "key": None})
                sys.exit(1)  # what state the engine is in nobody knows: the next one gets another
            del self._running[number]
            self._gone.discard(number)

    def _begin(self, number: int, question: Question, engine: TokenEngine | None) -> None:
        self._held = None
        self._send(number, begun=True)
        self._running[number] = self._answers.begin(question, lambda: number in self._gone, engine)

    def _send(self, number: int, **value: Any) -> None:
        self._channel.write(json.dumps({"id": number, **value}) + "\n")
        self._channel.flush()


class Answers:
    """Questions in, answers out, in this process.

    Attributes:
        engines: what is open; None until the first question.
    """

    def __init__(self, engine: str) -> None:
        self._name = engine
        self.engines: Engines | None = None
        self._settled = 0

    def opened(self, question: Question) -> TokenEngine | None:
        """The engine for a question that can be answered in turns with those that are being
        answered; None where it cannot."""
        return self.engines.opened(question) if self.engines else None

    def begin(
        self, question: Question, gone: Callable[[], bool], engine: TokenEngine | None = None
    ) -> Running:
        """Answer one in turns: the text that each token adds to what can be shown, "" for none.
        Nothing happens before the first turn.

        Args:
            gone: whether nobody waits for it any more.
            engine: from `opened`, where others are being answered.

        Raises:
            NoAnswer: the question cannot be answered; the engine can go on.
        """
        grammar = grammar_of(question.format, question.messages)
        engine = engine or self._engine(question)
        try:
            prompt = engine.prompt(question.messages, question.tools, question.template_kwargs)
            decoding = Decoding(
                question.max_tokens, grammar, question.temperature, question.seed,
                top_p=question.top_p,
            )  # fmt: skip
        except UserError as error:
            field = "tools" if _takes_without_tools(engine, question) else "messages"
            raise NoAnswer("request", str(error), field) from None
        engines = self.engines
        assert engines is not None  # `_engine` or `opened` came from them
        if self._settled != engines.loads:  # how many threads suit the base
            self._settled = engines.loads
            threads.settle(engine, [prompt])
        form = call_form(engine.chat) if question.tools and grammar is None else None
        pieces: list[str] = []
        gate = Gate(pieces.append, question.stop, form.opening if form else None)
        running = engine.pieces(prompt, decoding)
        try:
            while True:
                engines.put_on(engine, question)
                try:
                    piece = next(running)
                    if gone():
                        raise Enough
                    gate.hear(piece)
                except StopIteration as ended:
                    found: Generation = ended.value
                    break
                except Enough:
                    found = cut_off(running)
                    break
                yield _taken(pieces)
        except EngineDied:
            raise
        except NoRoom as error:
            said = str(error).replace("--max-tokens", "max_tokens")
            raise NoAnswer("request", said, "max_tokens") from None
        except UserError as error:
            raise NoAnswer("request", str(error), "messages") from None
        answer = _written(engine, len(prompt.tokens), found, gate, form, gone())
        yield _taken(pieces)
        return answer

    def _engine(self, question: Question) -> TokenEngine:
        try:
            if self.engines is None:
                self.engines = Engines(self._name)
            return self.engines.get(question)
        except EngineDied:
            raise
        except UserError as error:
            raise NoAnswer("model", str(error), "model") from None


def _taken(pieces: list[str]) -> str:
    """What was shown since the last time."""
    said = "".join(pieces)
    pieces.clear()
    return said


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
