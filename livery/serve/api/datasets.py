"""Datasets: rows with what a reviewer thinks of them, uploads that are checked, exports."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from livery.dataset.packed import FORMATS
from livery.errors import UserError, quoted
from livery.files import explain_os_errors
from livery.serve import datasets, exports
from livery.serve.api.files import send_file
from livery.serve.api.services import Livery
from livery.serve.commands import run
from livery.serve.datasets import Dataset, Row
from livery.serve.errors import Refused
from livery.serve.lines import place_of
from livery.serve.removal import remove_dataset
from livery.serve.review import Status, set_status
from livery.serve.settings import ServeSettings

router = APIRouter(prefix="/api/datasets", tags=["datasets"])
SplitName = Literal["train", "valid", "test"]
_SHOWN = 50  # problems of an upload


@dataclass(frozen=True)
class DatasetList:
    """Datasets, by name."""

    datasets: list[Dataset]


@dataclass(frozen=True)
class Rows:
    """Some rows of a split, and how many there are (that match, where something is asked for)."""

    split: str
    total: int
    rows: list[Row]


@dataclass(frozen=True)
class Reviewed:
    """How many rows were given a status."""

    rows: int


@dataclass(frozen=True)
class Added:
    """A new dataset, and what the check says of it."""

    dataset: Dataset
    check: dict[str, Any]


class RowStatus(BaseModel):
    """What a reviewer thinks of a row; `id` is refused where the row has changed meanwhile."""

    model_config = ConfigDict(extra="forbid")
    status: Status
    id: str | None = Field(None, max_length=64)


class ManyStatus(BaseModel):
    """What a reviewer thinks of several rows; without `ids`, of all that are new."""

    model_config = ConfigDict(extra="forbid")
    split: SplitName = "train"
    status: Status
    ids: list[str] | None = Field(None, max_length=10_000)


class Copy(BaseModel):
    """A dataset of those rows that are not left out."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=128)
    leave_out: list[Status] = Field(default=["rejected"], max_length=3)


@router.get("")
def list_datasets(livery: Livery) -> DatasetList:
    """Every dataset in the root's data folder."""
    return DatasetList(datasets.every(livery.settings))


@router.get("/{name}")
def one_dataset(name: str, livery: Livery) -> Dataset:
    """A dataset at a glance."""
    return datasets.describe(livery.settings, name)


@router.delete("/{name}", status_code=204)
async def delete_dataset(name: str, livery: Livery) -> None:
    """Delete a dataset, with what reviewers thought of its rows.

    Refused (409) while a job that has not ended needs it.
    """
    place_of(livery.settings, name)
    await livery.slowly(remove_dataset, livery.settings, livery.jobs, name)


@router.get("/{name}/rows")
async def list_rows(
    name: str,
    livery: Livery,
    split: SplitName = "train",
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    q: Annotated[str, Query(max_length=200, description="Text that a value holds.")] = "",
    status: Annotated[list[Status] | None, Query(max_length=3)] = None,
    section: Annotated[
        str | None, Query(max_length=1000, description='Their kind; "" for rows without one.')
    ] = None,
) -> Rows:
    """Rows of a split, each with its status."""
    some = functools.partial(
        datasets.rows, offset=offset, limit=limit, query=q, status=status or (), section=section
    )
    found, total = await livery.slowly(some, livery.settings, name, split)
    return Rows(split, total, found)


@router.put("/{name}/rows/{n}")
async def review_row(
    name: str, n: int, said: RowStatus, livery: Livery, split: SplitName = "train"
) -> Reviewed:
    """Approve a row, reject it, or take that back. The file of rows stays as it is."""
    say = functools.partial(set_status, n=n, expected=said.id)
    return Reviewed(await livery.slowly(say, livery.settings, name, split, said.status))


@router.post("/{name}/review")
async def review_rows(name: str, said: ManyStatus, livery: Livery) -> Reviewed:
    """Approve or reject several rows, or all that are new."""
    say = functools.partial(set_status, ids=said.ids)
    return Reviewed(await livery.slowly(say, livery.settings, name, said.split, said.status))


@router.post("/{name}/copy", status_code=201)
async def copy(name: str, said: Copy, livery: Livery) -> Dataset:
    """Make a dataset of the rows that were not rejected, to train on."""
    settings = livery.settings
    await livery.slowly(exports.copy, settings, name, said.name, said.leave_out)
    return await livery.slowly(datasets.describe, settings, said.name)


@router.get("/{name}/export", response_class=Response)
async def export(
    name: str,
    livery: Livery,
    request: Request,
    format: Literal["jsonl", "parquet"] = "jsonl",
    split: SplitName = "train",
    status: Annotated[list[Status] | None, Query(max_length=3)] = None,
) -> Response:
    """A split's rows as one file."""
    path = await livery.slowly(exports.export, livery.settings, name, split, format, status or ())
    kind = {"jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}[format]
    stem = name.partition(".")[0]
    return send_file(path, request, media_type=kind, filename=f"{stem}-{split}.{format}")


@router.post(
    "",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def upload(
    livery: Livery,
    request: Request,
    name: Annotated[str, Query(max_length=128, description="Of the new dataset.")],
    filename: Annotated[str, Query(max_length=255, description="Its ending tells the format.")],
    split: SplitName = "train",
) -> Added:
    """Add a file of rows (JSONL, JSON, CSV, TSV, Parquet) or a zip of such files.

    The body is the file. It is checked as `livery data check` does: what training would refuse is
    not kept; what would only make it or its scores worse (leaks, repeats) is told.
    """
    settings = livery.settings
    suffix = Path(filename).suffix.lower()
    if suffix not in (*FORMATS, ".zip"):
        kinds = ", ".join((*FORMATS, ".zip"))
        raise UserError(f"filename is {quoted(filename)}: send one of {kinds}.")
    with explain_os_errors(settings.uploads, "taking an upload"):
        settings.uploads.mkdir(parents=True, exist_ok=True)
    received = settings.uploads / f"{secrets.token_hex(8)}{suffix}"
    try:
        with received.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        check = await livery.slowly(_add, settings, name, received, split)
    finally:
        received.unlink(missing_ok=True)
    return Added(await livery.slowly(datasets.describe, settings, name), check)


def _add(settings: ServeSettings, name: str, received: Path, split: str) -> dict[str, Any]:
    check: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        if received.suffix == ".zip":
            limits = settings.limits
            words = (str(received), str(folder), str(limits.unpacked), str(limits.entries))
            run("livery.serve.rows", "unpack", *words, cwd=settings.root)
        else:
            received.rename(folder / f"{split}{received.suffix}")
        # A split that is not for training is checked as if it were: its rows have the same form.
        only = next(iter(folder.iterdir())) if received.suffix != ".zip" else folder
        said = run("livery.serve.rows", "check", str(only), str(_SHOWN), cwd=settings.root)
        problems = _told(said["problems"], folder)
        refused = [one for one in problems if one["kind"] == "form"] or (
            [] if any(said["rows"].values()) else problems
        )
        if refused:
            first = refused[0]
            what = f"{first['where']}: {first['message']}"
            raise Refused(what, status=422, problems=problems)
        check.update(
            {"ok": said["ok"], "rows": said["rows"], "notes": said["notes"],
             "problems": problems}
        )  # fmt: skip

    exports.add(settings, name, fill)
    return check


def _told(problems: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Without the path of the folder that an upload waits in."""
    return [
        {key: value.replace(f"{folder}/", "") if isinstance(value, str) else value
         for key, value in one.items()}
        for one in problems
    ]  # fmt: skip
