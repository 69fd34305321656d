"""What a server is told when it starts, and the one way from a name in a request to a path."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from livery.errors import UserError, quoted, shown
from livery.reading import read_text
from livery.serve.errors import NotFound

PORT = 8765
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TOKEN = re.compile(r"[!-~]{32,4096}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]")


@dataclass(frozen=True)
class Limits:
    """How much a client may ask of the server.

    Attributes:
        body: bytes of a request that is no upload.
        upload: bytes of an uploaded file.
        unpacked: bytes of all that an uploaded zip or Parquet file holds.
        entries: files in an uploaded zip.
        body_seconds: for a whole body that is no upload, and between two parts of an upload.
        upload_rate: bytes a second that an upload must keep up on average, after `body_seconds`.
        header_seconds: from connecting to the end of the request's headers.
        rate, burst: requests a second from one address, and how many at once.
        writes, write_burst: the same, of those that change something.
        streams: event streams open at once.
        connections: open at once.
    """

    body: int = 1 << 20
    upload: int = 256 << 20
    unpacked: int = 1 << 30
    entries: int = 1000
    body_seconds: float = 20.0
    upload_rate: int = 16 << 10
    header_seconds: float = 20.0
    rate: float = 100.0
    burst: int = 400
    writes: float = 10.0
    write_burst: int = 60
    streams: int = 64
    connections: int = 400


@dataclass(frozen=True)
class ServeSettings:
    """A server, its folder, and who may talk to it.

    Attributes:
        root: holds `adapters/` and `data/`; the server's own files are in `.livery/`.
        host, port: where it listens; port 0 lets the system choose.
        token: what every request must bring as `Authorization: Bearer`; None on loopback alone.
        allowed_hosts: names besides loopback's own that a request's Host may have.
        callback_hosts: names that a job's callback may be sent to; by default none.
        models: folders whose bases a request may name by their path.
        database: URL of a PostgreSQL database for the jobs; by default SQLite in the root.
        engine: what answers: "auto" (what this machine has), "mlx", "torch" or "llamacpp".
        model: the base of every answer; None takes the one that an adapter was trained on.
        log: the file that questions and answers are appended to, redacted; None keeps none.

    Raises:
        UserError: it would listen beyond this machine without a token, or a value is malformed.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    callback_hosts: tuple[str, ...] = ()
    models: tuple[Path, ...] = ()
    database: str | None = None
    engine: str = "auto"
    model: str | None = None
    log: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        root = Path(self.root).absolute()
        if not root.is_dir():
            raise UserError(f"{shown(root)}: is not a folder. Make it, or name another --root.")
        object.__setattr__(self, "root", root.resolve())
        object.__setattr__(self, "models", tuple(folder.resolve() for folder in self.models))
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: a port is a number from 0 to 65535.")
        for name in (*self.allowed_hosts, *self.callback_hosts):
            if not _HOST.fullmatch(name):
                raise UserError(
                    f"{quoted(name)}: is not a host. Write a name or address without scheme, port "
                    "or path."
                )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise UserError(
                "The token must have 32 characters or more, without spaces. Make one with: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if self.token is None and not is_loopback(self.host):
            raise UserError(
                f"--host {shown(self.host)} can be reached from other machines: give --token-file "
                "with a file that holds a token of 32 characters or more."
            )

    @property
    def adapters(self) -> Path:
        """Runs and adapters, a folder each."""
        return self.root / "adapters"

    @property
    def data(self) -> Path:
        """Datasets, a folder each."""
        return self.root / "data"

    @property
    def state(self) -> Path:
        """The server's own files."""
        return self.root / ".livery"

    @property
    def jobs_file(self) -> Path:
        """The jobs, where there is no `database`."""
        return self.state / "jobs.sqlite"

    @property
    def logs(self) -> Path:
        """A log for each job."""
        return self.state / "logs"

    @property
    def engine_log(self) -> Path:
        """What the process of the engine prints."""
        return self.logs / "engine.log"

    @property
    def uploads(self) -> Path:
        """Uploads that are not yet checked."""
        return self.state / "uploads"

    @property
    def lock(self) -> Path:
        """Held by the server that serves this root."""
        return self.state / "serve.lock"

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in the same time whatever is wrong with it."""
        expected = (self.token or "").encode()
        return self.token is not None and hmac.compare_digest(given.encode(), expected)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token that a file holds. Raises UserError where the file cannot be read."""
    return read_text(path, limit=8192).strip()


def is_name(text: str) -> bool:
    """Whether a text may stand for a folder or file in a request."""
    return _NAME.fullmatch(text) is not None and not text.endswith((".", "-"))


def inside(root: Path, name: str, *more: str, what: str = "") -> Path:
    """The path of what is called `name` in `root` (and `more`, below it), followed to its end.

    A name has letters, digits, dots, dashes and underscores; no name, and no link on the way,
    leads out of `root`.

    Args:
        what: it is, for the message: "run", "dataset".

    Raises:
        NotFound: there is no such thing, or it is elsewhere.
    """
    place = root.joinpath(name, *more)
    if all(is_name(part) for part in (name, *more)):
        found = place.resolve()
        if found.exists() and found.is_relative_to(root.resolve()):
            return found
    said = "/".join((name, *more))
    raise NotFound(f"There is no {what or 'file'} named {quoted(said)}.", key="name")
