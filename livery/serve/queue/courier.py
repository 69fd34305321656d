"""Tells the services that ordered adapters how it went, until they say that they have heard it.

What is due is in the database, so a server that was stopped goes on where it was. A delivery whose
answer was lost is made again under the same id: each is made at least once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from livery.serve.errors import Refused
from livery.serve.queue import store
from livery.serve.queue.queue import Queue
from livery.serve.queue.send import SECONDS, Resolve, check_url, resolve, send

log = logging.getLogger("livery.serve")
TRIES = 40  # the last of them a day and a half after the first
AT_ONCE = 8


def wait(tries: int) -> float:
    """Seconds to wait after so many tries that failed: 2, 4, 8, … up to an hour."""
    return float(min(2**tries, 3600))


class Courier:
    """Looks after the orders of a queue.

    Args:
        resolver: (host, port) -> addresses.
        wait: tries that failed -> seconds until the next.
        seconds: for one delivery.
    """

    def __init__(
        self, queue: Queue, *, resolver: Resolve = resolve, wait: Callable[[int], float] = wait,
        seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self.queue, self.resolver, self.wait, self.seconds = queue, resolver, wait, seconds

    def look(self) -> int:
        """Settle what has ended and make the deliveries that are due; how many were made. What a
        stop of the server interrupts is delivered again after the next start."""
        self.queue.settle()
        rows = store.due(self.queue.engine, AT_ONCE)
        return sum(asyncio.run(self._deliver_all(rows))) if rows else 0

    async def _deliver_all(self, rows: list[Any]) -> list[bool]:
        return await asyncio.gather(*map(self._deliver, rows))

    async def _deliver(self, row: Any) -> bool:
        outcome, allowed = json.loads(row.outcome), self.queue.settings.callback_hosts
        try:
            problem = await send(
                check_url(row.url, allowed), json.dumps(outcome).encode(),
                delivery=outcome["delivery_id"], auth=row.auth or "", allowed=allowed,
                resolver=self.resolver, seconds=self.seconds,
            )  # fmt: skip
        except Refused as error:  # the list has changed since
            problem = str(error)
        except Exception as error:  # or it would be due again at once, for ever
            log.exception("callback of %s: a fault of Livery's own", row.id)
            problem = f"a fault of Livery's own ({type(error).__name__})"
        tries = row.tries + 1
        if not problem:
            done: dict[str, Any] = {"delivered": time.time(), "due": None, "auth": None}
        elif tries >= TRIES:
            done = {"due": None, "auth": None}
        else:
            done = {"due": time.time() + self.wait(tries)}
        store.change(self.queue.engine, row.id, tries=tries, problem=problem or None, **done)
        if problem:
            log.warning("callback of %s, try %d: %s", row.id, tries, problem)
        return not problem
