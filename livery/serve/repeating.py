"""A thread of the server that looks for what is due, again and again, whatever a look ends in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import DBAPIError

log = logging.getLogger("livery.serve")


class Repeating:
    """Calls a function every so often, from `start` until `stop`.

    Args:
        name: what it looks for, for the log.
        look: is called in the thread.
        period: seconds between two looks.
    """

    def __init__(self, name: str, look: Callable[[], Any], period: float) -> None:
        self.name, self.look, self.period = name, look, period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Look for the first time at once."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is due stays due."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except DBAPIError as error:
                log.warning("%s: the database cannot be reached: %s", self.name, type(error.orig))
            except Exception:
                log.exception("%s: a fault of Livery's own", self.name)
            self._stop.wait(self.period)
