"""A wheel of a Python package index, fetched so that a fetch that was cut off continues.

pip begins anew with whatever a killed process, a full disk or a lost network cut off, so the index
is asked here: its page of the package by the simple API (PEP 503, and PEP 691 where it answers in
JSON), and the file by HTTP ranges (RFC 9110, 14). Which index, behind which proxy and with which
certificates, is what pip's own configuration says: no index is named here. What only pip itself can
do (passwords, client certificates, folders of wheels) is left to it: see `Configured.plain`.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import html.parser
import http.client
import importlib.util
import json
import os
import re
import ssl
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livery.files import is_full_disk
from livery.progress import Progress

_JSON = "application/vnd.pypi.simple.v1+json"
_PATIENCE = 10.0  # seconds until an index that says nothing is taken for out of reach
_TRIES = 5  # in a row that bring nothing more, until a download is given up
_BLOCK = 1 << 18
_LARGEST_PAGE = 32 << 20
# Of pip's configuration: what this module does as pip does, and what changes nothing here.
_FOLLOWED = {"index-url", "extra-index-url", "proxy", "cert", "no-index"}
_PIPS_OWN = {"find-links", "client-cert", "trusted-host", "keyring-provider", "use-feature"}


class Unreachable(Exception):
    """No index could be asked, or the file broke off and did not go on; the text says why."""


class Elsewhere(Exception):
    """The indexes that were asked do not have the file, or not in a way that is known here."""


class Wrong(Exception):
    """What came is another file than the one that is pinned."""


@dataclass(frozen=True)
class Configured:
    """What pip's configuration says of where packages come from.

    Attributes:
        indexes: pages of the simple API that are asked, in this order; of http and https only.
        plain: there is nothing besides them that pip itself could find more with.
        proxy: for http and https, in place of the environment's; "" for none.
        cert: a bundle or folder of certificates to trust; "" for the system's.
    """

    indexes: tuple[str, ...] = ()
    plain: bool = True
    proxy: str = ""
    cert: str = ""


def configured() -> Configured:
    """As pip's files and variables say, and its own index where they name none; without any pip,
    what PIP_INDEX_URL says."""
    listed = _ask_pip("config", "list")
    named = "index-url" in _settings(listed)
    return read_configuration(
        listed, "" if named else default_index(_ask_pip("download", "--help"))
    )


def _ask_pip(*words: str) -> str:
    """What pip prints: this Python's, or the one that `venv` would put into a new environment."""
    spec = importlib.util.find_spec("ensurepip")  # some systems' Pythons come without
    # Where a system's Python keeps its wheels in a folder of the system's, Python says which.
    places = [sysconfig.get_config_var("WHEEL_PKG_DIR") or ""]
    places += [str(Path(spec.origin).parent / "_bundled")] if spec and spec.origin else []
    bundled = [wheel for place in filter(None, places) for wheel in Path(place).glob("pip-*.whl")]
    for pip in (["-m", "pip"], *([f"{wheel}/pip"] for wheel in bundled)):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [sys.executable, *pip, "--disable-pip-version-check", *words],
                stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
                timeout=60, check=False, env={**os.environ, "COLUMNS": "1000"},
            )  # fmt: skip
            if done.returncode == 0:
                return done.stdout
    return ""


def default_index(told: str) -> str:
    """The index that pip takes where nobody names one, by what its --help says of the option."""
    option = re.search(r"--index-url\b.*?\(default\s+(\S+)\)", told, re.DOTALL)
    return option[1] if option else os.environ.get("PIP_INDEX_URL", "")


def read_configuration(listed: str, default: str) -> Configured:
    """From what `pip config list` prints.

    Args:
        default: the index where none is listed; "" for none.
    """
    found = _settings(listed)
    own = found.get("index-url", default)
    named = [*([own] if own else ()), *found.get("extra-index-url", "").split()]
    if found.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        named = []
    asked = [url for url in named if url.startswith(("http://", "https://")) and "@" not in url]
    plain = len(asked) == len(named) > 0 and not any(found.get(key) for key in _PIPS_OWN)
    return Configured(tuple(asked), plain, found.get("proxy", ""), found.get("cert", ""))


def _settings(listed: str) -> dict[str, str]:
    """From lines `SECTION.KEY='VALUE'`. Later sections win: all of pip's, the command's own, the
    environment."""
    found: dict[str, str] = {}
    for section in ("global", "download", ":env:"):
        for line in listed.splitlines():
            match = re.fullmatch(rf"{re.escape(section)}\.([\w-]+)=(.*)", line.strip())
            if match:
                with contextlib.suppress(ValueError, SyntaxError):
                    found[match[1].replace("_", "-")] = str(ast.literal_eval(match[2])).strip()
    return found


@dataclass(frozen=True)
class Pinned:
    """A wheel: its package and version on an index, the SHA-256 and bytes that it must have."""

    package: str
    version: str
    digest: str
    size: int


def fetch(pinned: Pinned, part: Path, what: str, where: Configured) -> None:
    """Fetch a wheel to `part`, going on behind what is there.

    Only one process at a time may do so (`livery.files.one_at_a_time`).

    Args:
        part: kept where the fetch is cut off, and removed where it is the wrong file.
        what: for the progress bar, "fetching smollm2-135m".

    Raises:
        Unreachable, Elsewhere, Wrong: see there.
        OSError: the disk is full, or the folder may not be written.
    """
    session, began = _Session(where), True
    while began:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as file:
            there = _Part(file)
            there.read()
            began = there.have > 0
            if there.have < pinned.size:
                address = session.find(pinned)
                size = pinned.size // 1_000_000
                with Progress(what, size, "MB", done=there.have // 1_000_000) as progress:
                    _download(session, address, pinned, there, progress)
            if there.total.hexdigest() == pinned.digest:
                return
        part.unlink()  # what it began with may have been another file's: once more, from nothing
    raise Wrong(f"{pinned.package} {pinned.version} is not the file that it was")


@dataclass
class _Part:
    """A file on its way: what is there of it, and its SHA-256 so far."""

    file: Any
    total: Any = field(default_factory=hashlib.sha256)
    have: int = 0

    def read(self) -> None:
        """Take up what an earlier fetch left."""
        self.file.seek(0)
        while block := self.file.read(1 << 20):
            self.total.update(block)
            self.have += len(block)

    def add(self, block: bytes) -> None:
        self.file.write(block)
        self.total.update(block)
        self.have += len(block)

    def restart(self) -> None:
        self.file.truncate(0)
        self.total, self.have = hashlib.sha256(), 0


def _download(
    session: _Session, address: str, pinned: Pinned, part: _Part, progress: Progress
) -> None:
    """All that is missing, over as many connections as it takes."""
    idle, why = 0, ""
    while part.have < pinned.size:
        before = part.have
        try:
            for block in session.read_from(address, part):
                part.add(block)
                progress.update(min(part.have, pinned.size) // 1_000_000)
                if part.have > pinned.size:
                    return
        except (OSError, http.client.HTTPException) as error:
            if is_full_disk(error):
                raise
            why = _reason(error)
        idle = 0 if part.have > before else idle + 1
        time.sleep(min(1.0, 0.2 * idle))
        if idle == _TRIES:
            raise Unreachable(
                f"{why or 'the connection was closed'}, after {part.have / 1e6:.0f} of "
                f"{pinned.size / 1e6:.0f} MB, which are kept: the next fetch goes on behind them"
            )


@dataclass
class _Session:
    """Requests by one configuration."""

    where: Configured
    opener: urllib.request.OpenerDirector = field(init=False)

    def __post_init__(self) -> None:
        context = ssl.create_default_context()
        with contextlib.suppress(ImportError, OSError, ssl.SSLError):
            import certifi  # comes with huggingface_hub; some Pythons know no certificates at all

            context.load_verify_locations(certifi.where())
        if cert := self.where.cert:
            with contextlib.suppress(OSError, ssl.SSLError):
                folder = os.path.isdir(cert)  # noqa: PTH112
                context.load_verify_locations(**{"capath" if folder else "cafile": cert})
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
        if proxy := self.where.proxy:
            handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        self.opener = urllib.request.build_opener(*handlers)

    def find(self, pinned: Pinned) -> str:
        """The wheel's address, by the first index that has it."""
        why: list[str] = []
        asked = False
        for index in self.where.indexes:
            page = f"{index.rstrip('/')}/{pinned.package}/"
            request = urllib.request.Request(page, headers={"Accept": f"{_JSON}, text/html;q=0.5"})
            try:
                with self.opener.open(request, timeout=_PATIENCE) as answer:
                    kind, base = answer.headers.get_content_type(), answer.geturl()
                    text = answer.read(_LARGEST_PAGE).decode("utf-8", "replace")
            except urllib.error.HTTPError as error:
                asked = True
                why.append(f"{index}: HTTP {error.code}")
                continue
            except (OSError, http.client.HTTPException, ValueError) as error:
                why.append(f"{index}: {_reason(error)}")
                continue
            asked = True
            for name, address in _files(text, kind):
                if _is_wheel(name, pinned):
                    return urllib.parse.urldefrag(urllib.parse.urljoin(base, address))[0]
            why.append(f"{index}: no {pinned.package} {pinned.version}")
        told = "; ".join(why) or "pip's configuration names no index that can be asked"
        raise Elsewhere(told) if asked or not why else Unreachable(told)

    def read_from(self, address: str, part: _Part) -> Iterator[bytes]:
        """What follows what is there; all of it from a server that knows no ranges."""
        ranged = {"Range": f"bytes={part.have}-"} if part.have else {}
        request = urllib.request.Request(address, headers=ranged)
        try:
            answer = self.opener.open(request, timeout=_PATIENCE)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # what is there is not part of this file
                    part.restart()
                    return
                if error.code < 500 and error.code not in (408, 425, 429):
                    raise Elsewhere(f"{address}: HTTP {error.code}") from None
                raise
        with answer:
            if part.have and answer.status != 206:
                part.restart()
            while block := answer.read(_BLOCK):
                yield block


def _files(text: str, kind: str) -> list[tuple[str, str]]:
    """(file name, address) of all files on a package's page."""
    if kind == _JSON:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            return [(str(one["filename"]), str(one["url"])) for one in json.loads(text)["files"]]
        return []
    page = _Links()
    with contextlib.suppress(AssertionError):  # html.parser's, for a broken declaration
        page.feed(text)
    found: list[tuple[str, str]] = []
    for address in page.addresses:
        with contextlib.suppress(ValueError):
            name = urllib.parse.unquote(urllib.parse.urlsplit(address).path.rpartition("/")[2])
            found.append((name, address))
    return found


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href")
        if tag == "a" and address:
            self.addresses.append(address)


def _is_wheel(name: str, pinned: Pinned) -> bool:
    package, _, rest = name.partition("-")
    normal = re.sub(r"[-_.]+", "-", package).lower()
    return (
        normal == pinned.package
        and rest.startswith(f"{pinned.version}-")
        and name.endswith(".whl")
    )  # fmt: skip


def _reason(error: BaseException) -> str:
    """What a failed request says, in a few words."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        error = inner
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return f"HTTP {code}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")
