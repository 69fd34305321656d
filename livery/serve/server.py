"""An application on a socket: one server a root, bounded headers, and an end without hanging."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Generator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from livery.errors import UserError, shown
from livery.files import explain_os_errors
from livery.serve.api.problems import MEDIA_TYPE, document
from livery.serve.removal import sweep
from livery.serve.settings import Limits, ServeSettings


def serve(app: Any, settings: ServeSettings, ready: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        app: from `create_app`.
        ready: told the address, once connections are accepted.

    Raises:
        UserError: the address is taken or not this machine's, or another server has this root.
    """
    with bound(settings) as listening:
        address = address_of(listening)
        with only_server(settings, address):
            server = _Server(configuration(app, settings.limits), lambda: ready(address))
            server.run(sockets=[listening])


def configuration(app: Any, limits: Limits) -> uvicorn.Config:
    """How uvicorn runs an application: h11, which bounds headers, and no guesses about proxies."""
    bounds = {"header_seconds": limits.header_seconds, "most": limits.connections}
    protocol = type("Patient", (_Patient,), bounds)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32 << 10,
    )


@contextlib.contextmanager
def bound(settings: ServeSettings) -> Generator[socket.socket]:
    """A listening socket. Raises UserError where the address cannot be had."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, settings.port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"{shown(settings.host)}:{settings.port}: cannot listen here ({why}). Choose another "
            "--port (0 lets the system choose) or --host."
        ) from None
    with listening:
        yield listening


def address_of(listening: socket.socket) -> str:
    """http://HOST:PORT of a socket, as a browser on this machine takes it."""
    port: int = listening.getsockname()[1]
    host: str = listening.getsockname()[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def only_server(settings: ServeSettings, address: str) -> Generator[None]:
    """Hold the root against other servers; the lock's file says where this one is.

    Raises:
        UserError: another server holds it.
    """
    with explain_os_errors(settings.lock, "starting the server"):
        settings.state.mkdir(exist_ok=True)
        handle = os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            said = os.read(handle, 1000).decode(errors="replace")
            raise UserError(
                f"{settings.root}: another server has this folder ({shown(said) or 'unknown'})."
            ) from None
        shutil.rmtree(settings.uploads, ignore_errors=True)  # of a server that was killed
        sweep(settings)
        os.truncate(handle, 0)
        os.write(handle, json.dumps({"address": address, "pid": os.getpid()}).encode())
        yield
    finally:
        os.close(handle)


class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class _Patient(H11Protocol):
    """Closes a connection whose request line and headers do not arrive in time. What is no request,
    and one connection too many, it answers with a problem document, as the application would."""

    header_seconds = 20.0
    most = 400  # connections, and requests on their way
    _due: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.within, self.app = self.app, self._bounded

    async def _bounded(self, scope: Any, receive: Any, send: Any) -> None:
        # Both with the one that asks.
        if len(self.connections) < self.most and len(self.tasks) <= self.most:
            await self.within(scope, receive, send)
            return
        said = "This server has as many connections as it takes. Close one, or try again."
        head, body = _refusal(503, said, scope["path"])
        head.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": 503, "headers": head})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def send_400_response(self, msg: str) -> None:
        head, body = _refusal(400, "This is no HTTP request.")
        start = h11.Response(status_code=400, headers=head, reason=b"Bad Request")
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._came()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.header_seconds, self.transport.close)

    def _came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def _refusal(status: int, said: str, path: str = "") -> tuple[list[tuple[bytes, bytes]], bytes]:
    """(headers, body) of a problem document that ends its connection."""
    body = json.dumps(document(status, said, path)).encode()
    head = [
        (b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"), (b"connection", b"close"),
    ]  # fmt: skip
    return head, body
