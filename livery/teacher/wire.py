"""One request over HTTP: an answer in JSON, or what went wrong and whether it may pass."""

from __future__ import annotations

import asyncio
import email.utils
import time
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from livery.errors import UserError, shown
from livery.reading import parse_json

if TYPE_CHECKING:
    import httpcore2

LARGEST_ANSWER = 8 << 20  # bytes
LONGEST_WAIT = 600.0  # seconds that a Retry-After may ask for

CAUSES = {
    "unreachable": "the endpoint cannot be reached",
    "connection": "the endpoint broke off",
    "timeout": "no whole answer in time",
    "busy": "the endpoint asked to wait, every time",
    "server": "the endpoint failed",
    "not_served": "the endpoint has no such path or model, or wants another key",
    "refused": "the endpoint refused the request",
    "redirect": "the endpoint named another address",
    "not_an_answer": "what came back is no chat completion",
    "too_large": "more came back than any answer has",
    "cut_prompt": "the endpoint cut the prompt",
    "declined": "the model or its endpoint declined to answer",
    "length": "the answer was cut at its limit of tokens, the raised one too",
    "invalid_json": "the answer is no JSON, the repaired one either",
    "wrong_schema": "the answer is not valid under the schema, the repaired one either",
    "wrong_answer": "the answer was refused by the check, the repaired one too",
    "internal": "a fault of Livery",
    "not_asked": "it is not on record, and nothing was to be sent",
}
# What is wrong with the endpoint rather than with a question.
OF_THE_ENDPOINT = ("unreachable", "not_served", "redirect", "not_an_answer")
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_BUSY = {429, 503, 529}
_NOT_SERVED = {401, 402, 404, 405, 410}


class TroubleError(Exception):
    """A request that brought no answer.

    Attributes:
        cause: one of CAUSES.
        again: whether the same request may succeed later.
        wait: seconds that the endpoint asked for.
        status: of HTTP; 0 where there was no response.
        text: what the endpoint said, for telling what it refuses.
    """

    def __init__(
        self, cause: str, message: str, *, again: bool = False, wait: float | None = None,
        status: int = 0, text: str = "",
    ):  # fmt: skip
        super().__init__(message)
        self.cause, self.again, self.wait, self.status = cause, again, wait, status
        self.text = text


def headers_of(url: str, key: str) -> dict[str, str]:
    """The headers of a request, but for its length."""
    return {
        "Host": urllib.parse.urlsplit(url).netloc,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "livery",
        **({"Authorization": f"Bearer {key}"} if key else {}),
    }


async def exchange(
    pool: httpcore2.AsyncConnectionPool,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    timeout: float,
) -> dict[str, Any]:
    """POST `body`; the JSON object that comes back. Redirects are not followed: the prompt, and the
    key, are for this address.

    Raises:
        TroubleError: anything else came back, or nothing.
    """
    import httpcore2

    sized = [*headers.items(), ("Content-Length", str(len(body)))]
    said = bytearray()
    try:
        async with (
            asyncio.timeout(timeout),
            pool.stream("POST", url, headers=sized, content=body) as response,
        ):
            async for piece in response.aiter_stream():
                said += piece
                if len(said) > LARGEST_ANSWER:
                    raise TroubleError(
                        "too_large", f"more than {LARGEST_ANSWER >> 20} MB", status=200
                    )
    except TimeoutError:
        raise TroubleError(
            "timeout", f"no whole answer within {timeout:g} seconds", again=True
        ) from None
    except (httpcore2.ConnectError, httpcore2.ProxyError) as error:
        message = f"cannot be reached ({_why(error)})"
        raise TroubleError("unreachable", message, again=True) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
        raise TroubleError("connection", f"broke off ({_why(error)})", again=True) from None
    if response.status != 200:
        named = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
        raise _refusal(response.status, named, bytes(said))
    return _read(bytes(said))


def _why(error: Exception) -> str:
    return shown(str(error) or type(error).__name__)


def _refusal(status: int, headers: Mapping[str, str], said: bytes) -> TroubleError:
    text = _said(said)
    if 300 <= status < 400:
        place = shown(headers.get("location", "nowhere"))
        return TroubleError("redirect", f"{status}, to {place}; give that address", status=status)
    message = f"{status}: {shown(text, 500) or 'without a word'}"
    if status not in _MAY_PASS:
        cause = "not_served" if status in _NOT_SERVED else "refused"
        return TroubleError(cause, message, status=status, text=text)
    wait = _retry_after(headers.get("retry-after", ""))
    cause = "busy" if status in _BUSY else "server"
    if wait is not None and wait > LONGEST_WAIT:
        message += f" (it asks to wait {wait:,.0f} seconds)"
        return TroubleError(cause, message, status=status, text=text)
    return TroubleError(cause, message, again=True, wait=wait, status=status, text=text)


def _said(body: bytes) -> str:
    """What an endpoint says of an error: its message where that is found, else the body."""
    text = " ".join(body[:4000].decode("utf-8", "replace").split())
    try:
        found: Any = parse_json(body, "")
        for key in ("error", "message"):
            found = found.get(key, found) if isinstance(found, dict) else found
        return found if isinstance(found, str) else text
    except UserError:
        return text


def _retry_after(value: str) -> float | None:
    """Seconds from a Retry-After header, which holds them or a date; None where it holds none."""
    value = value.strip()
    try:
        return min(max(0.0, float(value)), 1e9) if value.replace(".", "", 1).isdigit() else (
            max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        )  # fmt: skip
    except (ValueError, TypeError, OverflowError):
        return None


def _read(said: bytes) -> dict[str, Any]:
    try:
        found = parse_json(said, "the answer")
    except UserError as error:  # a body that was cut on its way may come whole the next time
        raise TroubleError("not_an_answer", shown(error), again=True, status=200) from None
    if not isinstance(found, dict):
        raise TroubleError("not_an_answer", f"JSON, but no object: {shown(found)}", status=200)
    fault = found.get("error")
    if fault and not found.get("choices") and not found.get("message"):
        code = fault.get("code") if isinstance(fault, dict) else None
        raise _refusal(code if type(code) is int and 400 <= code < 600 else 500, {}, said)
    return found
