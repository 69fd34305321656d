"""What the routers work with: one frozen value on the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request

from livery.serve.answers.host import Host
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.keeper import Keeper
from livery.serve.settings import ServeSettings

T = TypeVar("T")
_SLOW = 4  # requests at once that wait for a process of ours


@dataclass(frozen=True)
class Services:
    """What a router may use.

    Attributes:
        settings: of the server.
        jobs: of the server's root.
        host: what answers prompts.
        keeper: sees that the jobs have a worker, where this server does.
        shared: what a router keeps between requests, by its own name.
    """

    settings: ServeSettings
    jobs: Jobs
    host: Host
    keeper: Keeper | None = None
    shared: dict[str, Any] = field(default_factory=dict[str, Any])

    async def slowly(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do in a thread what may take seconds. A few at once: the threads that all other requests
        are answered in stay free, however many ask."""
        limiter = self.shared.setdefault("slowly", anyio.CapacityLimiter(_SLOW))
        return await to_thread.run_sync(work, *arguments, limiter=limiter)


def services(request: Request) -> Services:
    """Of the application that a request came to."""
    return request.app.state.livery


Livery = Annotated[Services, Depends(services)]
