"""What the routers work with: one frozen value on the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from livery.serve.settings import ServeSettings


@dataclass(frozen=True)
class Services:
    """What a router may use.

    Attributes:
        settings: of the server.
        jobs: `livery.serve.jobs.jobs.Jobs`.
        host: the engine host (`livery.serve.answers`).
        shared: what a router keeps between requests, by its own name.
    """

    settings: ServeSettings
    jobs: Any = None
    host: Any = None
    shared: dict[str, Any] = field(default_factory=dict[str, Any])


def services(request: Request) -> Services:
    """Of the application that a request came to."""
    return request.app.state.livery


Livery = Annotated[Services, Depends(services)]
