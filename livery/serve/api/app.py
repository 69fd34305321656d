"""The application: every router there is, the page at /, and what all requests pass through."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Collection
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match, Mount
from starlette.types import Scope

from livery import __version__
from livery.serve.answers.host import Host, HostSettings
from livery.serve.api import (
    adapters,
    chat,
    datasets,
    documents,
    evaluations,
    finetune,
    improve,
    jobs,
    machine,
    problems,
    queue,
    runs,
    session,
    skills,
)
from livery.serve.api.security import Guard
from livery.serve.api.services import Services
from livery.serve.improve import run_due
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.keeper import Keeper
from livery.serve.queue.courier import Courier
from livery.serve.queue.queue import Queue
from livery.serve.repeating import Repeating
from livery.serve.settings import ServeSettings

PAGE = Path(__file__).resolve().parent.parent / "page"
ROUTERS = (
    session, documents, machine, runs, adapters, datasets, evaluations, jobs, queue, improve, chat,
    skills, finetune,
)  # fmt: skip
DESCRIPTION = """\
Runs, jobs, adapters, datasets and evaluations of one folder, and answers of its adapters.

Errors are RFC 9457 problem documents (`application/problem+json`). A server that is reached from
other machines asks for its token: `Authorization: Bearer TOKEN`.
"""


def create_app(
    settings: ServeSettings,
    *,
    jobs: Jobs | None = None,
    host: Host | None = None,
    keeper: Keeper | None = None,
    page: Path = PAGE,
) -> FastAPI:
    """The API and the page of one root.

    Args:
        jobs: by default those of the settings' root or database.
        host: what answers prompts; by default the one of the settings.
        keeper: sees that the jobs have a worker; None where others see to that.
        page: folder of the web page; served where it has an index.html.
    """
    asked = host or Host(HostSettings(settings.engine_log, settings.engine, settings.model))
    made = jobs or Jobs(settings.root, settings.database)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        courier = Courier(Queue(settings, made))
        helpers = [
            Repeating("callbacks", courier.look, 1.0),
            Repeating("schedules", lambda: run_due(settings, made, time.time()), 5.0),
        ]
        if keeper is not None:
            helpers.append(Repeating("worker", keeper.look, 1.0))
        for helper in helpers:
            helper.start()
        yield
        for helper in helpers:
            await run_in_threadpool(helper.stop)
        await asked.close()

    app = FastAPI(
        title="Livery",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.RESPONSES,
    )
    app.state.livery = Services(settings, made, asked, keeper)
    problems.install(app, settings)
    for resource in ROUTERS:
        app.include_router(resource.router)
    public = {"/"}
    if (page / "index.html").is_file():
        public |= {f"/{file.relative_to(page)}" for file in page.rglob("*") if file.is_file()}
        app.router.routes.append(_Page(page, public))
    app.add_middleware(Guard, settings=settings, public=public)
    return app


class _Page(Mount):
    """The page's own files. Any other path is the API's affair, or nobody's."""

    def __init__(self, folder: Path, paths: Collection[str]) -> None:
        super().__init__("/", StaticFiles(directory=folder, html=True), name="page")
        self._paths = frozenset(paths)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"] not in self._paths:
            return Match.NONE, {}
        found, child = super().matches(scope)
        return (found if scope["method"] in ("GET", "HEAD") else Match.PARTIAL), child
