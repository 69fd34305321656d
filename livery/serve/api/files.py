"""Files as answers: whole or one range, as long as they were when they were asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import IO
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from livery.serve.errors import NotFound

_CHUNK = 256 << 10


def send_file(
    path: Path,
    request: Request,
    *,
    media_type: str = "application/octet-stream",
    filename: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A file, or the range of it that the request asks for.

    What is appended while it is sent is not part of the answer.

    Args:
        filename: to save it as; without one a browser may show it.

    Raises:
        NotFound: the file has gone.
        HTTPException: nothing of it is in the range (416).
    """
    try:
        file = path.open("rb")
    except OSError:
        raise NotFound("That file is not there.") from None
    stat = os.fstat(file.fileno())
    mark = f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
    sent = {
        "accept-ranges": "bytes",
        "etag": f'"{hashlib.sha256(mark.encode()).hexdigest()[:32]}"',
        "last-modified": formatdate(stat.st_mtime, usegmt=True),
        **(headers or {}),
    }
    if filename is not None:
        # Not `filename*`, which curl does not read; our names need no other characters.
        sent["content-disposition"] = f'attachment; filename="{quote(filename, safe="")}"'
    size, first, last, status = stat.st_size, 0, stat.st_size - 1, 200
    if (asked := _range(request, size, sent)) is not None:
        first, last = asked
        if first > last:
            file.close()
            raise HTTPException(
                416, f"There are {size:,} bytes, and none of them is in that range.",
                {"content-range": f"bytes */{size}"},
            )  # fmt: skip
        status = 206
        sent["content-range"] = f"bytes {first}-{last}/{size}"
    sent["content-length"] = str(last - first + 1)
    return _FileResponse(file, first, last, status, sent, media_type)


class _FileResponse(StreamingResponse):
    """Closes its file also where the client has gone before the first byte was read."""

    def __init__(
        self, file: IO[bytes], first: int, last: int, status: int, sent: dict[str, str], kind: str
    ) -> None:
        super().__init__(_read(file, first, last), status, sent, kind)
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.file:
            await super().__call__(scope, receive, send)


def _range(request: Request, size: int, sent: Mapping[str, str]) -> tuple[int, int] | None:
    """(first, last byte) of the range asked for, which `security.Guard` has found to be one."""
    asked = request.headers.get("range")
    condition = request.headers.get("if-range")
    if asked is None or condition not in (None, sent["etag"], sent["last-modified"]):
        return None
    start, _, end = asked.strip().partition("=")[2].partition("-")
    if not start:
        return max(0, size - int(end)), size - 1 if int(end) else -1
    return int(start), min(int(end), size - 1) if end else size - 1


def _read(file: IO[bytes], first: int, last: int) -> Iterator[bytes]:
    file.seek(first)
    while first <= last and (chunk := file.read(min(_CHUNK, last - first + 1))):
        first += len(chunk)
        yield chunk
