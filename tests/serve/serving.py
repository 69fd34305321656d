"""A real server on loopback, on a port that the system chooses, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.serve.settings import Limits, ServeSettings
from tests import PATIENCE

TOKEN = "t0ken-of-the-tests-with-32-characters"
# No test depends on how fast this machine asks, or on how long it stands still while it does: rates
# and waiting are tried with limits of their own.
UNHURRIED = Limits(
    rate=1e6, burst=10**6, writes=1e6, write_burst=10**6, body_seconds=PATIENCE,
    header_seconds=PATIENCE,
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """Status, headers by their small names, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Client:
    """Asks a server. Every request has a connection of its own."""

    host: str
    port: int
    settings: ServeSettings

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; a body that is neither bytes nor None goes as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.ask("POST", path, {} if body is None else body, named)


@contextlib.contextmanager
def served(settings: ServeSettings, **more: Any) -> Generator[Client]:
    """Serve `create_app(settings, **more)` in a thread while the block runs."""
    import uvicorn

    from livery.serve.api.app import create_app
    from livery.serve.server import bound, configuration

    with bound(settings) as listening:
        server = uvicorn.Server(configuration(create_app(settings, **more), settings.limits))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        try:
            host, port = listening.getsockname()[:2]
            yield Client(host, port, settings)
        finally:
            server.should_exit = True
            thread.join()


def settings_of(root: Path, **more: Any) -> ServeSettings:
    """Of a new root with adapters/ and data/ in it, on a port that the system chooses."""
    (root / "adapters").mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    return ServeSettings(root, port=0, **{"limits": UNHURRIED, **more})
