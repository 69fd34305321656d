"""Continuous improvement over HTTP: the log, weak answers, marks, review, retraining, promotion."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from livery.serve import adapters, improve
from livery.serve.api.jobs import told
from livery.serve.api.problems import from_root
from livery.serve.api.services import Livery
from livery.serve.jobs.request import confined, read_request
from livery.serve.settings import ServeSettings, inside

router = APIRouter(prefix="/api/improve", tags=["improvement"])
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_-]+$")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Text = Annotated[str, Field(max_length=improve.LONGEST)]


class Logging(BaseModel):
    """Whether answers are logged."""

    model_config = ConfigDict(extra="forbid")
    on: bool


class Mark(BaseModel):
    """What a user says of an answer."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    verdict: Literal["good", "bad"]
    corrected: Text = ""


class Decision(BaseModel):
    """What a reviewer decides of an answer."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    choice: Literal["approve", "correct", "drop"]
    answer: Text = Field("", description="The right one, for correct.")


class Retrain(BaseModel):
    """Train anew; what is left out is as it was."""

    model_config = ConfigDict(extra="forbid")
    data: Name | None = None
    settings: dict[str, Any] | None = None
    approve_marked: bool = Field(False, description="Users' marks decide first.")
    promote: bool = Field(True, description="Take its place, if it is shown to be better.")


class Promote(BaseModel):
    """The adapter that is to take another one's place."""

    model_config = ConfigDict(extra="forbid")
    new: Name


class NewSchedule(BaseModel):
    """Train anew every so many hours, if something was approved since."""

    model_config = ConfigDict(extra="forbid")
    hours: float = Field(ge=0.1, le=24 * 366)
    approve_marked: bool = False


@router.get("/log")
def get_logging(livery: Livery) -> dict[str, Any]:
    """Whether answers are logged, and how much there is."""
    path = improve.log_file(livery.settings)
    size = path.stat().st_size if path.exists() else 0
    return {"on": improve.is_logging(livery.settings), "bytes": size}


@router.put("/log")
def put_logging(said: Logging, livery: Livery) -> dict[str, Any]:
    """Log answers from now on, redacted; or stop to."""
    improve.set_logging(livery.settings, said.on)
    return get_logging(livery)


@router.get("/{adapter}")
def get_overview(adapter: str, livery: Livery) -> dict[str, Any]:
    """Schedule, retrainings, the last promotion, and what is kept to go back to."""
    return from_root(improve.overview(livery.settings, livery.jobs, adapter), livery.settings)


@router.get("/{adapter}/weak")
async def get_weak(adapter: str, livery: Livery, every: bool = False) -> dict[str, Any]:
    """Answers that nobody decided on: weak or marked ones, or every one."""
    find = functools.partial(improve.weak, every=every)
    return await livery.slowly(find, livery.settings, adapter)


@router.post("/{adapter}/marks", status_code=201)
def post_mark(adapter: str, said: Mark, livery: Livery) -> Mark:
    """Mark an answer good or bad; its id is the `interaction` that came with it."""
    adapters.find(livery.settings, adapter)
    improve.mark(livery.settings, said.id, said.verdict, said.corrected)
    return said


@router.post("/{adapter}/review", status_code=201)
async def post_decision(adapter: str, said: Decision, livery: Livery) -> Decision:
    """Approve, correct or drop an answer. What the skill's contract refuses is not approved."""
    told = (adapter, said.id, said.choice, said.answer)
    await livery.slowly(improve.decide, livery.settings, *told)
    return said


@router.post("/{adapter}/retrain", status_code=202)
async def post_retrain(adapter: str, said: Retrain, livery: Livery) -> dict[str, Any]:
    """Queue the training on what was approved, with the comparison at its end."""
    settings = livery.settings
    if said.settings is not None:  # as any request over the network
        confined(
            read_request({"data": "x", "settings": said.settings}), settings.root, settings.models
        )
    retrain = functools.partial(
        improve.retrain, data=_data(settings, said.data), train=said.settings,
        approve_marked=said.approve_marked, promote=said.promote,
    )  # fmt: skip
    job = await livery.slowly(retrain, settings, livery.jobs, adapter)
    return told(job, settings)


@router.post("/{adapter}/promote", status_code=202)
def post_promote(adapter: str, said: Promote, livery: Livery) -> dict[str, Any]:
    """Queue the comparison with another adapter, which takes the place if it is better."""
    job = improve.promote(livery.settings, livery.jobs, adapter, said.new)
    return told(job, livery.settings)


@router.post("/{adapter}/roll-back")
async def post_roll_back(adapter: str, livery: Livery) -> dict[str, Any]:
    """Give the adapter back what it was before the last promotion."""
    done = await livery.slowly(improve.roll_back, livery.settings, adapter)
    return from_root(done, livery.settings)


@router.put("/{adapter}/schedule")
def put_schedule(adapter: str, said: NewSchedule, livery: Livery) -> dict[str, Any]:
    """Train anew by schedule; the first time is when the hours have passed."""
    due = time.time() + 3600 * said.hours
    planned = improve.Schedule(said.hours, due, said.approve_marked)
    improve.set_schedule(livery.settings, adapter, planned)
    return asdict(planned)


@router.delete("/{adapter}/schedule", status_code=204)
def delete_schedule(adapter: str, livery: Livery) -> None:
    """No longer."""
    improve.set_schedule(livery.settings, adapter, None)


def _data(settings: ServeSettings, name: str | None) -> str | None:
    return None if name is None else inside(settings.data, name, what="dataset").name
