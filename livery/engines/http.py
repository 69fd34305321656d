"""Any OpenAI-compatible endpoint as an engine: vLLM, llama-server, mlx_lm.server, Ollama ...

    engine = open_engine("http", "base", "my-lora", url="http://127.0.0.1:8000/v1")

The adapter is a model name that the endpoint serves beside its base (as vLLM does it). Endpoints
differ in which grammars they take and in what they do with those that they do not know, so a
grammar is refused here rather than hoped for: score with --unconstrained. A JSON Schema alone has a
form that they share, `response_format`; it is asked for, and each answer is checked.

Questions from here are no user's: a server of Livery's is told not to log them.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from livery.engines.engine import (
    Conversation,
    Decoding,
    Facts,
    Generation,
    Grammar,
    OnText,
    Prompt,
    Tools,
)
from livery.errors import UserError, shown
from livery.interactions import LOG_HEADER
from livery.json_schema import find_error
from livery.progress import OnProgress
from livery.reading import parse_json

TIMEOUT = 300.0  # seconds for a whole answer
ATTEMPTS = 4
LARGEST_ANSWER = 8 << 20  # bytes
PARALLEL = 16  # answers asked for at once, whatever the batch size: servers queue the rest anyway
_AGAIN = {408, 429, 500, 502, 503, 504}


def open(
    model: str,
    adapter: str | None = None,
    *,
    url: str,
    template_kwargs: Mapping[str, Any] | None = None,
) -> HTTPEngine:
    """Use the endpoint at `url`; nothing is sent yet.

    Args:
        model: the name under which the base is served.
        adapter: the name under which the tuned model is served.
        template_kwargs: variables of the chat template, sent with each request where there are any
            (vLLM and llama.cpp's server take them).
        url: ends in /v1, as other clients take it. The API key is read from OPENAI_API_KEY.

    Raises:
        UserError: `url` is not an http address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, half an IPv6 address
        good = False
    if not good or not (url.isascii() and url.isprintable()) or " " in url:
        raise UserError(f"{shown(url)}: not an http address, such as http://127.0.0.1:8000/v1")
    return HTTPEngine(model, adapter, url.rstrip("/"), template_kwargs or {})


class HTTPEngine:
    """See `livery.engines.engine.Engine`."""

    def __init__(
        self, model: str, adapter: str | None, url: str, template_kwargs: Mapping[str, Any]
    ):
        self._template_kwargs = dict(template_kwargs)
        self._model, self._adapter, self._url = model, adapter, url
        self._on = adapter is not None

    @property
    def has_adapter(self) -> bool:
        return self._adapter is not None

    def use_adapter(self, on: bool) -> None:
        """See Engine: the endpoint is asked for the other name."""
        if on and self._adapter is None:
            raise UserError("There is no adapter to switch on; name the one the endpoint serves.")
        self._on = on

    def prompt(self, messages: Conversation, tools: Tools = ()) -> Prompt:
        """See Engine; the endpoint tokenizes."""
        return Prompt(tuple(messages), tools=tuple(tools))

    def text_prompt(self) -> Prompt:
        """Not over this interface, which has chat alone."""
        raise UserError("The http engine has no log-probabilities; use --engine mlx.")

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, progress: OnProgress | None = None
    ) -> list[Generation]:
        """See Engine.

        Raises:
            UserError: a grammar was asked for that is no JSON Schema, an answer is not valid
                under its schema, or the endpoint does not answer.
        """
        grammars = [prompt.grammar or decoding.grammar for prompt in prompts]
        if any(grammar is not None and grammar.kind != "json_schema" for grammar in grammars):
            raise UserError(
                "The http engine cannot hold an endpoint to a grammar. Add --unconstrained, or "
                "score the adapter with --engine mlx."
            )
        found: dict[int, Generation] = {}
        with ThreadPoolExecutor(min(PARALLEL, decoding.batch_size)) as pool:
            waiting = {
                pool.submit(self._answer, prompt, decoding, row): row
                for row, prompt in enumerate(prompts)
            }
            try:
                for future in as_completed(waiting):
                    found[waiting[future]] = future.result()
                    if progress is not None:
                        progress(len(found), len(prompts))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [found[row] for row in range(len(prompts))]

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """See Engine; the text comes in one piece."""
        [answer] = self.generate([prompt], decoding)
        on_text(answer.text)
        return answer

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """Not over this interface: chat endpoints tell no probabilities of given answers."""
        raise UserError("The http engine has no log-probabilities; use --engine mlx.")

    def facts(self) -> Facts:
        """See Engine."""
        return Facts(
            engine="http",
            version=self._url,
            model=self._model,
            adapter=self._adapter if self._on else None,
            device="the endpoint's",
            dtype="the endpoint's",
        )

    def _answer(self, prompt: Prompt, decoding: Decoding, row: int) -> Generation:
        began = time.monotonic()
        grammar = prompt.grammar or decoding.grammar
        found = self._post(
            {
                "model": self._adapter if self._on else self._model,
                "messages": list(prompt.messages),
                "max_tokens": decoding.max_tokens,
                "temperature": decoding.temperature,
                "seed": decoding.seed + row,
                **(
                    {"chat_template_kwargs": self._template_kwargs} if self._template_kwargs else {}
                ),
                **({"tools": list(prompt.tools)} if prompt.tools else {}),
                **({"top_p": decoding.top_p} if decoding.top_p < 1 else {}),
                **({"response_format": _response_format(grammar)} if grammar else {}),
            }
        )
        try:
            choice = found["choices"][0]
            text = _said(choice["message"])
            finished = choice.get("finish_reason") != "length"
            count = (found.get("usage") or {}).get("completion_tokens") or 0
            if type(count) is not int or not 0 <= count <= LARGEST_ANSWER:
                raise TypeError
        except (KeyError, IndexError, TypeError, AttributeError, UserError):
            raise UserError(
                f"{self._url}: answered with something other than a chat completion: {shown(found)}"
            ) from None
        if grammar and finished and (wrong := _invalid(grammar, text)):
            raise UserError(
                f"{self._url}: did not hold the answer to the JSON Schema ({wrong}). It may not "
                "support response_format; score with --unconstrained, or use another engine."
            )
        return Generation((), text, finished, time.monotonic() - began, count)

    def _post(self, body: dict[str, Any]) -> Any:
        """POST to /chat/completions, patiently where the endpoint is busy."""
        headers = {"Content-Type": "application/json", LOG_HEADER: "off"}
        if key := os.environ.get("OPENAI_API_KEY"):
            if not (key.isascii() and key.isprintable()):
                raise UserError("OPENAI_API_KEY holds characters that no key has; set it again.")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self._url}/chat/completions", json.dumps(body).encode(), headers
        )
        for attempt in range(1, ATTEMPTS + 1):
            try:
                code, answer = _exchange(request)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, TimeoutError):
                    raise UserError(
                        f"{self._url}: no complete answer within {TIMEOUT:g} seconds."
                    ) from None
                if attempt == ATTEMPTS or isinstance(reason, ConnectionRefusedError):
                    raise UserError(
                        f"{self._url}: cannot be reached ({shown(reason)}). Is the server running?"
                    ) from None
            else:
                if 200 <= code < 300:
                    return self._parse(answer)
                if code not in _AGAIN or attempt == ATTEMPTS:
                    said = " ".join(answer[:500].decode("utf-8", "replace").split())
                    raise UserError(f"{self._url}: refused the request ({code}): {shown(said)}")
            time.sleep(0.25 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _parse(self, answer: bytes) -> Any:
        if len(answer) > LARGEST_ANSWER:
            raise UserError(f"{self._url}: answered more than {LARGEST_ANSWER >> 20} MB.")
        try:
            return parse_json(answer, "its answer")
        except UserError as error:
            raise UserError(f"{self._url}: did not answer in JSON. ({error})") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would go on without the question, and hand the key to whatever address is named."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        return None


def _exchange(request: urllib.request.Request) -> tuple[int, bytes]:
    """(status, at most LARGEST_ANSWER + 1 bytes) of one request.

    Raises:
        TimeoutError: not all of it came within TIMEOUT. The socket's own limit starts again with
            each byte, so the request runs in a thread that is left to itself.
        OSError, HTTPException: what urllib raises for the connection.
    """
    outcome: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()
    opener = urllib.request.build_opener(_NoRedirects)

    def run() -> None:
        try:
            try:
                response = opener.open(request, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                code, place = int(response.status or 0), response.headers.get("Location")
                if 300 <= code < 400:
                    outcome.put((code, f"it names another address: {place}".encode()))
                else:
                    outcome.put((code, response.read(LARGEST_ANSWER + 1)))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = outcome.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _response_format(grammar: Grammar) -> dict[str, Any]:
    schema = parse_json(grammar.text, "the JSON Schema")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def _invalid(grammar: Grammar, text: str) -> str:
    """What is wrong with an answer under its schema; "" for nothing."""
    try:
        return find_error(grammar.text, parse_json(text, "it", finite=True))
    except UserError as error:
        return shown(error, 200)


def _said(message: dict[str, Any]) -> str:
    """An answer's text. Endpoints take the calls of tools out of it: each follows as JSON, a line
    of its own.

    Raises:
        TypeError, KeyError, AttributeError: it is not a message.
        UserError: a call's arguments are not JSON.
    """
    calls: list[str] = []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            arguments = parse_json(arguments, "a call's arguments")
        said = {"name": function["name"], "arguments": arguments}
        calls.append(json.dumps(said, ensure_ascii=False))
    text = (message.get("content") if calls else message["content"]) or ""
    if not isinstance(text, str):
        raise TypeError
    return "\n".join([text, *calls] if text.strip() else calls) if calls else text
