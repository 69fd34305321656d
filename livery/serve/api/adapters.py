"""Adapters: what is there of each, exports, and jobs that make the forms that are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from livery.serve import adapters
from livery.serve.adapters import Adapter, Form, WholeAdapter
from livery.serve.api.files import send_file
from livery.serve.api.services import Livery
from livery.serve.jobs.request import JobRequest
from livery.serve.removal import remove_adapter

router = APIRouter(prefix="/api/adapters", tags=["adapters"])


@dataclass(frozen=True)
class AdapterList:
    """Adapters, by name."""

    adapters: list[Adapter]


@dataclass(frozen=True)
class Submitted:
    """A job that was queued; see `/api/jobs/ID`."""

    job: str


class NewForm(BaseModel):
    """A form that is to be made."""

    model_config = ConfigDict(extra="forbid")
    to: Literal["peft", "mlx", "gguf", "zip"]


def find_adapter(name: str, livery: Livery) -> Path:
    """The folder of the adapter that a path names."""
    return adapters.find(livery.settings, name)


Folder = Annotated[Path, Depends(find_adapter)]


@router.get("")
def list_adapters(livery: Livery) -> AdapterList:
    """Every adapter in the root's adapters folder."""
    return AdapterList(adapters.every(livery.settings))


@router.get("/{name}")
async def one_adapter(folder: Folder, livery: Livery) -> WholeAdapter:
    """An adapter with its files, their hashes, and its evaluations."""
    return await livery.slowly(adapters.whole, livery.settings, folder)


@router.delete("/{name}", status_code=204)
async def delete_adapter(name: str, folder: Folder, livery: Livery) -> None:
    """Delete the adapter with its run, its zip, what its promotions keep, and its schedule.

    Refused (409) while a job that has not ended needs it, or a process works in its folder.
    """
    await livery.slowly(remove_adapter, livery.settings, livery.jobs, name)


@router.get("/{name}/export", response_class=Response)
async def export(
    folder: Folder,
    livery: Livery,
    request: Request,
    form: Form = "zip",
    start: Annotated[
        str, Query(alias="from", max_length=128, description="For Ollama: the base's name there.")
    ] = "",
) -> Response:
    """The adapter in one form: a GGUF file, or a zip of the others.

    Where the form is not there yet, the answer (409) holds the job to post.
    """
    path, filename = await livery.slowly(adapters.export, livery.settings, folder, form, start)
    kind = "application/zip" if filename.endswith(".zip") else "application/octet-stream"
    return send_file(path, request, media_type=kind, filename=filename)


@router.post("/{name}/forms", status_code=202)
def make_form(folder: Folder, said: NewForm, livery: Livery) -> Submitted:
    """Queue the job that makes a form: every format from the one that is there, and the zip."""
    steps = ("convert", "pack") if said.to == "zip" else ("convert",)
    return Submitted(livery.jobs.submit(JobRequest(name=folder.name, steps=steps)).id)
