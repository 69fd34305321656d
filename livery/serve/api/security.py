"""What every request must pass before a router sees it, and what every answer says to a browser.

A page of another site can have a browser send requests to this machine, and a name of its own
resolved to 127.0.0.1 (DNS rebinding). So a request must be for a name that is ours (Host), must not
come from another origin (Origin, Sec-Fetch-Site), and beyond loopback must bring the token. What
arrives is bounded (`livery.serve.api.bounds`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import re
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from livery.errors import quoted
from livery.serve.api import problems
from livery.serve.api.bounds import Body, Rates
from livery.serve.errors import Refused, Unavailable
from livery.serve.settings import LOOPBACK, ServeSettings

SESSION = "/api/session"
UPLOAD = "/api/datasets"
ANSWERING = ("/v1/chat/completions", "/v1/date-keys", "/v1/guard")  # these change nothing
COOKIE = "livery_session"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(:\d{1,5})?")
_RANGE = re.compile(r"bytes=(\d{1,19}-\d{0,19}|-\d{1,19})", re.IGNORECASE)
_UNIT = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?==)")


class Guard:
    """The outermost layer of the application.

    Args:
        public: paths that are read without a token: the page's own files.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, public: Collection[str]) -> None:
        self.app = app
        self.settings = settings
        self.public = frozenset(public)
        self.hosts = allowed_hosts(settings)
        limits = settings.limits
        self.reads = Rates(limits.rate, limits.burst)
        self.writes = Rates(limits.writes, limits.write_burst)
        self.streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        page = scope["path"] in self.public
        head = scope["method"] == "HEAD" and not page  # the page's own files know it themselves
        answer = _Answer(self, send, page, head)
        try:
            self.check(scope)
            body = Body(receive, self.settings.limits, _is_upload(scope), Headers(scope=scope))
            await self.app(_as_understood(scope, head), body, answer)
        except ClientDisconnect:
            return  # there is nobody to tell
        except _Told:
            return
        except Exception as error:
            if answer.told:
                return  # by whoever makes an answer in a task of its own, as event streams are
            if answer.started:
                raise
            said = problems.of(error, self.settings, scope["path"])
            with contextlib.suppress(_Told):
                await said(scope, receive, answer)
        finally:
            answer.ended()

    def check(self, scope: Scope) -> None:
        """Raises Refused where the request may not reach a router."""
        headers = Headers(scope=scope)
        host = self.check_host(headers)
        self.check_origin(scope, headers, host)
        client = (scope.get("client") or ("", 0))[0]
        changes = scope["method"] not in _SAFE and scope["path"] not in ANSWERING
        rates = self.writes if changes else self.reads
        if not rates.take(client):
            said = "Too many requests from this address. Wait a second and try again."
            seconds = max(1, math.ceil(1 / rates.rate)) if rates.rate else 1
            raise HTTPException(429, said, {"Retry-After": str(seconds)})
        self.check_token(scope, headers)
        asked = headers.getlist("range")
        if _is_of_bytes(scope, asked) and not (
            len(asked) == 1 and _RANGE.fullmatch(asked[0].strip())
        ):
            raise Refused("Ask for one range, as in bytes=0-999.", status=416, key="Range")

    def check_host(self, headers: Headers) -> str:
        """The Host header, which must have one of our names; the port is the user's affair."""
        given = headers.getlist("host")
        host = given[0].lower() if len(given) == 1 else ""
        found = _HOST.fullmatch(host)
        if not found or found["name"] not in self.hosts:
            raise Refused(
                f"This server is not {quoted(host)}. A server that is reached by another name is "
                "started with --allow-host NAME.",
                status=421,
                key="Host",
            )
        return host

    def check_origin(self, scope: Scope, headers: Headers, host: str) -> None:
        """Pages of other origins neither read nor change anything; programs send no Origin."""
        origins = headers.getlist("origin")
        if origins and (len(origins) > 1 or not _same_origin(origins[0], host)):
            said = "A page of another origin may not ask this server."
            raise Refused(said, status=403, key="Origin")
        site = headers.get("sec-fetch-site", "none")
        if site in ("same-origin", "none"):
            return
        # A link on another site may open the page itself.
        opened = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if not (opened and scope["path"] in self.public):
            said = "A page of another site may not ask this server."
            raise Refused(said, status=403, key="Sec-Fetch-Site")

    def check_token(self, scope: Scope, headers: Headers) -> None:
        """Everything but the page's own files needs the token, where there is one."""
        if self.settings.token is None or scope["path"] == SESSION:
            return
        if scope["path"] in self.public and scope["method"] in _SAFE:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.settings.is_token(given.strip()):
            return
        if not given and is_session(self.settings, _cookie(headers)):
            return
        said = "This server asks for its token: Authorization: Bearer TOKEN."
        raise Refused(said, status=401)


class _Told(Exception):
    """All of an answer that is sent has been sent: a HEAD has no body, so none need be made."""


class _Answer:
    """`send`, with the headers that every answer has, and event streams counted.

    Args:
        page: its files may be kept, if the browser asks whether they have changed.
        head: the answer to a HEAD ends before its body.
    """

    def __init__(self, guard: Guard, send: Send, page: bool, head: bool) -> None:
        self.guard = guard
        self.page = page
        self.head = head
        self.send = send
        self.started = False
        self.stream = False
        self.told = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/event-stream"):
                if self.guard.streams >= self.guard.settings.limits.streams:
                    raise Unavailable("Too many event streams are open. Close one and try again.")
                self.guard.streams += 1
                self.stream = True
            if self.page:
                headers.setdefault("cache-control", "no-cache")
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            self.started = True
        elif self.head:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
            self.told = True
            raise _Told
        await self.send(message)

    def ended(self) -> None:
        self.guard.streams -= self.stream


def allowed_hosts(settings: ServeSettings) -> frozenset[str]:
    """The names that a request may be for: loopback's, the address listened on, and those given."""
    own = settings.host.lower()
    own = f"[{own}]" if ":" in own and not own.startswith("[") else own
    wild = own in ("0.0.0.0", "[::]", "")
    given = (name.lower() for name in settings.allowed_hosts)
    return frozenset({*LOOPBACK, *given} | (set() if wild else {own}))


def session_cookie(settings: ServeSettings) -> str:
    """What the page's cookie holds instead of the token: it shows that the token was known."""
    key = (settings.token or "").encode()
    return hmac.new(key, b"livery serve session", hashlib.sha256).hexdigest()


def is_session(settings: ServeSettings, given: str) -> bool:
    """Whether a cookie is that of this server's token."""
    expected = session_cookie(settings)
    return settings.token is not None and hmac.compare_digest(given.encode(), expected.encode())


def _cookie(headers: Headers) -> str:
    for part in ";".join(headers.getlist("cookie")).split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host


def _is_of_bytes(scope: Scope, asked: Sequence[str]) -> bool:
    """Whether a Range is to be heeded: of a GET, in bytes. Another unit is one that we do not know,
    and is to be ignored (RFC 9110, 14.2)."""
    units = [found[0].lower() if (found := _UNIT.match(one.strip())) else "" for one in asked]
    return scope["method"] == "GET" and any(unit in ("bytes", "") for unit in units)


def _as_understood(scope: Scope, head: bool) -> Scope:
    """The request that the application sees: a GET where its answer is sent without a body, and
    without a Range that is to be ignored."""
    if head:
        scope = {**scope, "method": "GET"}
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    asked = [value.decode("latin-1") for name, value in headers if name == b"range"]
    if asked and (head or not _is_of_bytes(scope, asked)):
        scope = {**scope, "headers": [one for one in headers if one[0] != b"range"]}
    return scope


def _is_upload(scope: dict[str, Any] | Scope) -> bool:
    return scope["method"] == "POST" and scope["path"] == UPLOAD
