"""What arrives is bounded: how long a body is, how slowly it comes, how often a client asks.

By what arrives and not by what headers promise.
"""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from livery.serve.errors import Refused
from livery.serve.settings import Limits

_CLIENTS = 4096  # whose rates are remembered


class Body:
    """`receive`, which ends a body that is too long or comes too slowly."""

    def __init__(self, receive: Receive, limits: Limits, upload: bool, headers: Headers) -> None:
        self.receive = receive
        self.limits = limits
        self.upload = upload
        self.most = limits.upload if upload else limits.body
        self.got = 0
        self.began = time.monotonic()
        self.whole = False
        promised = headers.get("content-length", "0")
        # What is promised is believed only where it is too much.
        if promised.isascii() and promised.isdigit() and int(promised[:20]) > self.most:
            raise self.too_large()

    async def __call__(self) -> Message:
        if self.whole:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self.seconds())
        except TimeoutError:
            raise HTTPException(408, "The body of the request came too slowly.") from None
        if message["type"] == "http.request":
            self.got += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self.got > self.most:
                # FastAPI makes 400 of any other exception while it reads a body.
                raise HTTPException(413, str(self.too_large()))
        return message

    def seconds(self) -> float:
        """Until the next part must be here."""
        passed = time.monotonic() - self.began
        allowed = self.limits.body_seconds
        if self.upload:
            allowed += self.got / self.limits.upload_rate
        return max(0.0, allowed - passed)

    def too_large(self) -> Refused:
        return Refused(f"The request's body has more than {self.most:,} bytes.", status=413)


class Rates:
    """A bucket of permissions for each client, filled at `rate` a second up to `burst`."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self.buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str, now: float | None = None) -> bool:
        """Take one permission, if there is one."""
        now = time.monotonic() if now is None else now
        left, then = self.buckets.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - then) * self.rate)
        if len(self.buckets) >= _CLIENTS:
            del self.buckets[next(iter(self.buckets))]  # the one that asked longest ago
        self.buckets[client] = (left - 1 if left >= 1 else left, now)
        return left >= 1
