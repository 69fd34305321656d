"""An endpoint on loopback that answers as a test says, or misbehaves as it says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from livery.teacher import Parameters, Question, Teacher
from tests.loopback import Quiet, serving

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
GOOD = '{"colour": "red", "count": 3}'


class Raw:
    """A response that is not a plain JSON body: `write` gets the handler.

    Lists of these in a test read as what went wrong, in order.
    """

    def __init__(self, write: Callable[[BaseHTTPRequestHandler], None]):
        self.write = write


def status(code: int, body: Any = None, **headers: str) -> Raw:
    """A response with this status; headers by name, _ for -."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        data = json.dumps(body if body is not None else {"error": "no"}).encode()
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return Raw(write)


def chat(text: Any, reason: str = "stop", prompt: int | None = 40, answer: int = 7) -> Any:
    """A chat completion as OpenAI has it."""
    usage = {"prompt_tokens": prompt, "completion_tokens": answer}
    return {
        "model": "served-name",
        "choices": [{"message": {"content": text}, "finish_reason": reason}],
        **({"usage": usage} if prompt is not None else {}),
    }


def native(text: Any, reason: str = "stop", prompt: int | None = 40, answer: int = 7) -> Any:
    """The same from Ollama's own interface."""
    counts = {"prompt_eval_count": prompt} if prompt is not None else {}
    return {
        "model": "served-name", "message": {"role": "assistant", "content": text}, "done": True,
        "done_reason": reason, "eval_count": answer, **counts,
    }  # fmt: skip


Answer = Callable[[dict[str, Any], int], Any]


@contextmanager
def endpoint(answer: Answer | list[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields (address, the requests it was sent, each with its "path" and "headers").

    Args:
        answer: from (request, how many came before) to a JSON value or a Raw; or those in order,
            the last of them for ever.
    """
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            with lock:
                at = len(seen)
                seen.append({**body, "path": self.path, "headers": dict(self.headers)})
            said = answer[min(at, len(answer) - 1)] if isinstance(answer, list) else (
                answer(body, at)
            )  # fmt: skip
            if not isinstance(said, Raw):
                said = status(200, said)
            said.write(self)

    with serving(Handler) as address:
        yield address, seen


def question(name: str = "one", text: str = "Which colour, and how many?", **more: Any) -> Question:
    parameters = more.pop("parameters", Parameters(max_tokens=200))
    messages = [{"role": "user", "content": text}]
    return Question(name, messages, more.pop("schema", SCHEMA), parameters, **more)


def teacher(url: str, api: str = "openai", **options: Any) -> Teacher:
    """One that waits hardly at all before it tries again."""
    root = url if api == "ollama" else f"{url}/v1"
    return Teacher("tiny", root, api, **{"retry_wait": 0.001, "retries": 2, **options})
