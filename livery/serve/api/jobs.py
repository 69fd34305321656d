"""Jobs over HTTP: queue, look at, cancel, pause, resume, retry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from livery.serve.api.files import send_file
from livery.serve.api.problems import from_root, without_paths
from livery.serve.api.services import Livery
from livery.serve.jobs import worker
from livery.serve.jobs.jobs import Job, State
from livery.serve.jobs.request import JobRequest, confined, read_request
from livery.serve.settings import ServeSettings

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


class NewJob(BaseModel):
    """A job as `livery jobs submit` has it; what is left out has the same defaults."""

    model_config = ConfigDict(extra="forbid")
    skill: str | None = Field(None, description="A skill by its name.")
    data: str | None = Field(None, description="A dataset of this server by its name.")
    name: str = Field("", description="Of the adapter; by default the skill's or the data's.")
    steps: list[str] = Field([], description="Some of data, train, eval, convert, pack.")
    settings: dict[str, Any] = Field({}, description="Settings of training: GET /api/options.")
    backend: str = "auto"
    engine: str | None = None
    target: float | None = Field(None, description="Share of cases that must be right.")
    data_seed: int = 7
    attempts: int = Field(5, ge=1, le=1000)
    overwrite: bool = False


@router.get("")
def list_jobs(
    livery: Livery,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[float | None, Query(description="`created` of the last one shown.")] = None,
    state: State | None = None,
) -> dict[str, Any]:
    """Jobs, the newest first; how many workers live, and why none does where that is known."""
    where: dict[str, Any] = {"state": state} if state else {}
    found = livery.jobs.list(limit, before, **where)
    problem = livery.keeper.problem if livery.keeper else None
    return {
        "jobs": [told(job, livery.settings) for job in found],
        "workers": worker.how_many_live(livery.jobs.layout),
        "worker_problem": without_paths(problem, livery.settings),
    }


@router.post("", status_code=201)
def submit_job(
    new: NewJob,
    livery: Livery,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> dict[str, Any]:
    """Queue a job. A second request with the same Idempotency-Key is answered with the first's."""
    request = _read(new, livery.settings)
    key = f"api:{idempotency_key}" if idempotency_key else None
    job = livery.jobs.submit(request, key=key)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return told(job, livery.settings)


@router.get("/{job}")
def get_job(job: str, livery: Livery) -> dict[str, Any]:
    """A job: where it is, and why it failed."""
    return told(livery.jobs.get(job), livery.settings)


@router.post("/{job}/cancel")
async def cancel_job(job: str, livery: Livery) -> dict[str, Any]:
    """End a job and all its processes; answered when they have ended."""
    return told(await livery.slowly(livery.jobs.cancel, job), livery.settings)


@router.post("/{job}/pause")
def pause_job(job: str, livery: Livery) -> dict[str, Any]:
    """Stop a job at its next checkpoint; it is "running" until then."""
    return told(livery.jobs.pause(job), livery.settings)


@router.post("/{job}/resume")
def resume_job(job: str, livery: Livery) -> dict[str, Any]:
    """Continue a paused job."""
    return told(livery.jobs.resume(job), livery.settings)


@router.post("/{job}/retry")
def retry_job(job: str, livery: Livery) -> dict[str, Any]:
    """Start a job again that failed or was cancelled, at the step where it stopped."""
    return told(livery.jobs.retry(job), livery.settings)


@router.get("/{job}/log", response_class=PlainTextResponse)
def job_log(job: str, livery: Livery, request: Request) -> Response:
    """What the job's processes have printed, as plain text; takes a Range."""
    place = livery.jobs.log(job)
    if not place.is_file():
        return PlainTextResponse("")
    return send_file(place, request, media_type="text/plain; charset=utf-8")


def told(job: Job, settings: ServeSettings) -> dict[str, Any]:
    """A job as JSON, with its places named from the root."""
    said = from_root(job.as_dict(), settings)
    return said | {"cause": without_paths(said["cause"], settings)}


def _read(new: NewJob, settings: ServeSettings) -> JobRequest:
    request = read_request(new.model_dump())
    confined(request, settings.root, settings.models)
    return request
