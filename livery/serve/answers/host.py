"""The process that the engine runs in, seen from the server: started at the first question, ended
after some idle time, and started again where it died.

    host = Host(HostSettings(log=Path("engine.log")))
    async for piece in (asked := host.ask(question)):      # NoAnswer or Busy
        ...
    asked.answer

Questions wait in order, and as many as there are places are answered side by side; who stops
listening stops the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.paths import python_path
from livery.serve.answers.question import Answer, Busy, NoAnswer, Question
from livery.serve.jobs.steps import tail

PLACES = 2  # base and tuned beside each other; more would only have each wait for more others
LONGEST_LINE = 64 << 20  # bytes of one line of the child
_LAST_LINES = 6


@dataclass(frozen=True)
class HostSettings:
    """How a server answers.

    Attributes:
        log: the file that the process writes to, overwritten at each start.
        engine: "auto", "mlx", "torch" or "llamacpp".
        model: the base for questions that name none; None takes each adapter's own.
        idle: seconds without a question after which the process is ended.
        waiting: questions that may wait beside those that are answered.
    """

    log: Path
    engine: str = "auto"
    model: str | None = None
    idle: float = 600.0
    waiting: int = 64


class Asked:
    """A question on its way: iterate over the pieces of its text.

    Attributes:
        answer: when the pieces have ended.
        begun: the engine has begun with it.
    """

    def __init__(self, host: Host, number: int, question: Question) -> None:
        self._host, self.number, self.question = host, number, question
        self.events: asyncio.Queue[str | Answer | NoAnswer] = asyncio.Queue()
        self.answer: Answer | None = None
        self.begun = self.gone = False

    async def __aiter__(self) -> AsyncIterator[str]:
        """Raises NoAnswer where there is no answer, or no more of it."""
        try:
            while self.answer is None:
                event = await self.events.get()
                if isinstance(event, NoAnswer):
                    raise event
                if isinstance(event, Answer):
                    self.answer = event
                else:
                    yield event
        finally:
            self.stop()

    async def whole(self) -> Answer:
        """The answer without its pieces."""
        async for _ in self:
            pass
        assert self.answer is not None
        return self.answer

    def stop(self) -> None:
        """Nobody wants it any more."""
        if self.answer is None and not self.gone:
            self.gone = True
            self._host.stop(self)


class Host:
    """The engine of a server. For one event loop."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self._waiting: deque[Asked] = deque()
        self._running: dict[int, Asked] = {}
        self._listening = False  # to the process, which can be handed questions
        self._process: asyncio.subprocess.Process | None = None
        self._worker: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._count = 0

    @property
    def pid(self) -> int | None:
        """Of the process, where one is running."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and alive else None

    @property
    def load(self) -> int:
        """Questions that are answered or wait."""
        return len(self._waiting) + len(self._running)

    def ask(self, question: Question) -> Asked:
        """Put a question at the end of the line.

        Raises:
            Busy: the line is full.
        """
        if len(self._waiting) >= self.settings.waiting:
            raise Busy
        self._count += 1
        model = question.model or self.settings.model
        asked = Asked(self, self._count, dataclasses.replace(question, model=model))
        self._waiting.append(asked)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        self._wake.set()
        if self._listening:
            self._fill()
        return asked

    def stop(self, asked: Asked) -> None:
        """Take a question out of the line, or end its answer."""
        if asked in self._waiting:
            self._waiting.remove(asked)
            asked.events.put_nowait(NoAnswer("request", "Nobody waits for this answer any more."))
        elif asked.number in self._running and self._listening:
            self._write({"stop": asked.number})

    async def close(self) -> None:
        """End the process; what waits is refused."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        for asked in (*self._running.values(), *self._waiting):
            asked.events.put_nowait(NoAnswer("engine", "The server is being stopped."))
        self._waiting.clear()
        self._running.clear()
        await self._end()

    async def _work(self) -> None:
        """Answer what waits, until nothing came for a while."""
        while True:
            self._wake.clear()
            if not self._waiting:
                try:
                    await asyncio.wait_for(self._wake.wait(), self.settings.idle)
                except TimeoutError:
                    await self._end()
                    if not self._waiting:
                        return
                continue
            try:
                await self._answer_all()
            except NoAnswer as died:
                await self._lose(died)
            except Exception as error:  # whoever asked must hear of it, and the line go on
                await self._lose(NoAnswer("engine", f"{type(error).__name__}: {error}"))

    async def _answer_all(self) -> None:
        """Hand the process what waits, and on what it says, until there is nothing.

        Raises:
            NoAnswer: the process died, or will.
        """
        process = await self._started()
        assert process.stdout is not None
        self._listening = True
        try:
            self._fill()
            while self._running:
                if not (line := await process.stdout.readline()):
                    raise NoAnswer("engine", await self._last_words(process))
                self._hear(json.loads(line))
                self._fill()
        finally:
            self._listening = False

    def _fill(self) -> None:
        """Hand over the first of those that wait, as far as there are places."""
        while self._waiting and len(self._running) < PLACES:
            asked = self._waiting.popleft()
            self._running[asked.number] = asked
            self._write({"id": asked.number, "ask": asked.question.as_json()})

    def _hear(self, said: dict[str, Any]) -> None:
        """Take what the process says of a question. Raises NoAnswer where it gives itself up."""
        asked = self._running[said["id"]]
        if "begun" in said:
            asked.begun = True
        elif "text" in said:
            asked.events.put_nowait(said["text"])
        elif "answer" in said:
            del self._running[asked.number]
            asked.events.put_nowait(Answer(**said["answer"]))
        elif (refused := said["refused"])["why"] == "engine":
            message = f"The engine failed and will be restarted: {refused['message']}"
            raise NoAnswer("engine", message)
        else:
            del self._running[asked.number]
            asked.events.put_nowait(NoAnswer(refused["why"], refused["message"], refused["key"]))

    async def _lose(self, died: NoAnswer) -> None:
        """End what is left of the process. The questions it had begun with are told, or the first
        where it did not come so far; others wait again."""
        self._waiting.extendleft(reversed(self._running.values()))
        self._running.clear()
        lost = [asked for asked in self._waiting if asked.begun or asked.gone]
        for asked in lost or [*self._waiting][:1]:
            self._waiting.remove(asked)
            asked.events.put_nowait(NoAnswer(died.why, str(died)))
        await self._end()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._end()  # what is left of one that died
        self.settings.log.parent.mkdir(parents=True, exist_ok=True)
        with self.settings.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "livery.serve.answers.child", self.settings.engine,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LONGEST_LINE,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": python_path()},
            )  # fmt: skip
        return self._process

    def _write(self, value: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # it died; its output tells
                process.stdin.write(json.dumps(value).encode() + b"\n")

    async def _end(self) -> None:
        """Kill the process and all of its own, and wait for it; may be called again when that was
        cut short."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):  # llama.cpp's own process with it
            os.killpg(process.pid, signal.SIGKILL)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        await process.wait()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
        while await process.stdout.read(1 << 16):  # to its end, where the pipe is closed
            pass
        if self._process is process:
            self._process = None

    async def _last_words(self, process: asyncio.subprocess.Process) -> str:
        code = await process.wait()
        await self._end()
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        likely = " The system may have run out of memory." if code == -signal.SIGKILL else ""
        said = "\n".join(tail(self.settings.log, lines=_LAST_LINES)) or "nothing"
        return (
            f"The engine's process ended ({how}) and will be restarted.{likely} Its last output:"
            f"\n{said}"
        )
