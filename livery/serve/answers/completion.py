"""An answer in the form of OpenAI's chat completions, whole or in chunks."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from livery.serve.answers.openai import ChatRequest
from livery.serve.answers.question import Answer


class Completion:
    """The answer to one request, whole or in chunks."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def whole(self, answer: Answer, extras: dict[str, Any]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = _calls(answer)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.reason}
        return {
            **self._head("chat.completion"), "choices": [choice], "usage": _usage(answer),
            "livery": extras,
        }  # fmt: skip

    def first(self) -> dict[str, Any]:
        """The chunk that opens a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk({"content": text})

    def last(self, answer: Answer, extras: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks that end a stream."""
        chunks: list[dict[str, Any]] = []
        if answer.calls:
            calls = [{"index": at, **call} for at, call in enumerate(_calls(answer))]
            chunks.append(self._chunk({"tool_calls": calls}))
        chunks.append({**self._chunk({}, answer.reason), "livery": extras})
        options = self._request.stream_options
        if options is not None and options.include_usage:
            chunks.append(
                {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(answer)}
            )
        return chunks

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        options = self._request.stream_options
        usage = {"usage": None} if options is not None and options.include_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self._created, "model": self._request.model,
            "system_fingerprint": None,
        }  # fmt: skip


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }


def _calls(answer: Answer) -> list[dict[str, Any]]:
    """The calls of tools, their arguments as JSON text."""
    return [
        {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {
                "name": call["name"],
                "arguments": json.dumps(call["arguments"], ensure_ascii=False),
            },
        }
        for call in answer.calls
    ]
