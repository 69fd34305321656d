"""The child process that llama.cpp runs in, seen from outside: requests, answers, and its death."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from livery.engines.engine import EngineDied
from livery.errors import UserError
from livery.paths import python_path

LAST_LINES = 6
_NOISE = ("security: no API key", "Failed to init server", "exiting due to model loading")


@dataclass(frozen=True)
class Step:
    """One position as llama.cpp sees it.

    Attributes:
        chosen: the token that it took, (or was made to take).
        logprob: the natural log-probability of that token.
        ids: (k,) int64, the likeliest tokens, the likeliest first.
        logprobs: (k,) float32, of those.
    """

    chosen: int
    logprob: float
    ids: np.ndarray
    logprobs: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """(V,) float32 in the order of the ids, where all of them were asked for."""
        full = np.empty(len(self.ids), np.float32)
        full[self.ids] = self.logprobs
        return full


class LlamaProcess:
    """One model with at most one adapter, in a child process.

    Attributes:
        vocabulary: V, tokens of the model.
        context: tokens that a prompt and its answer may have together.
        trained_context: the most that the model was made for.
        device: "cpu", or the GPU's name.
        pid: of the child process.
    """

    def __init__(
        self, model: Path, adapter: Path | None, *, context: int = 2048, exact: bool = False
    ) -> None:
        """Args:
            exact: as near to float32 as llama.cpp computes; see `llamacpp_child`.

        Raises:
            UserError: llama.cpp refuses model or adapter, or dies of them.
        """
        self._files = f"{model}" + (f" with {adapter}" if adapter else "")
        self._log = tempfile.TemporaryFile(  # noqa: SIM115
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "livery.engines.llamacpp.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": python_path()},
        )
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end, self._process, self._log)
        job = {
            "model": str(model),
            "adapter": str(adapter) if adapter else None,
            "context": context,
            "exact": exact,
        }
        facts = self._ask(job)
        self.vocabulary = int(facts["vocabulary"])
        self.context = int(facts["context"])
        self.trained_context = int(facts["trained_context"])
        self.device = str(facts["device"])

    def write(
        self, prompt: Sequence[int], max_tokens: int, *, top: int, scale: float
    ) -> list[Step] | None:
        """Answer greedily.

        Returns:
            A step a token, the end token included; None where llama.cpp does not tell all of them
            (some end amid a character): then ask for one after the other.

        Raises:
            UserError: the request was refused, or the process died.
        """
        found = self._ask(
            {"do": "write", "prompt": list(prompt), "max_tokens": max_tokens, "top": top,
             "scale": scale}
        )  # fmt: skip
        if len(found["steps"]) != found["count"]:
            return None
        return [_step(step) for step in found["steps"]]

    def next(
        self, prompt: Sequence[int], *, top: int, scale: float, as_if: int | None = None
    ) -> Step:
        """The position after `prompt`.

        Args:
            as_if: have `chosen` be this token, for its log-probability.

        Raises:
            UserError: the request was refused, or the process died.
        """
        request = {"do": "next", "prompt": list(prompt), "top": top, "scale": scale}
        found = self._ask({**request, "as_if": as_if})["step"]
        if found is not None:
            return _step(found)
        if as_if is None:
            raise UserError(f"{self._files}: llama.cpp gives no log-probabilities here.")
        # A token of bytes amid a character, which llama.cpp does not tell: look it up instead.
        whole = self.next(prompt, top=self.vocabulary, scale=scale)
        return Step(as_if, float(whole.row[as_if]), whole.ids[:top], whole.logprobs[:top])

    def peak_memory(self) -> int:
        """Bytes of the process; 0 where the system does not tell."""
        return int(self._ask({"do": "memory"})["bytes"])

    def close(self) -> None:
        """End the process."""
        self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        incoming, outgoing = self._process.stdout, self._process.stdin
        assert incoming is not None
        assert outgoing is not None
        try:
            outgoing.write(json.dumps(request) + "\n")
            outgoing.flush()
            line = incoming.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            raise EngineDied(self._last_words())
        found = json.loads(line)
        if "error" in found:
            raise UserError(f"{self._files}: llama.cpp refuses the request: {found['error']}.")
        return found

    def _last_words(self) -> str:
        code = self._process.wait(timeout=30)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        said = _meaning(self._log.read())
        shown = "\n  ".join(said) if said else "nothing"
        return f"{self._files}: llama.cpp ended ({how}). Its last output:\n  {shown}"


def _meaning(log: str) -> list[str]:
    """The last lines that say something: errors where there are any, without llama.cpp's clock."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not any(text in line for text in _NOISE)]
    errors = [line.split(" E ", 1)[1] for line in lines if " E " in line]
    aborted = [line for line in lines if "GGML_ASSERT" in line or "Error: " in line]
    found = [*errors, *aborted] or lines
    return list(dict.fromkeys(found))[-LAST_LINES:]


def _step(found: list[Any]) -> Step:
    chosen, ids, logprobs, logprob = found
    return Step(
        int(chosen), float(logprob), np.array(ids, np.int64), np.array(logprobs, np.float32)
    )


def _end(process: subprocess.Popen[str], log: IO[str]) -> None:
    process.kill()
    process.wait()
    for file in (process.stdin, process.stdout, log):
        if file is not None:
            with contextlib.suppress(OSError):  # what was not sent when the process died
                file.close()
