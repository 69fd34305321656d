"""Adapters that other services order: POST /v1/adapters/train, and a callback at the end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from livery.serve.api.files import send_file
from livery.serve.api.services import Livery, Services
from livery.serve.queue.data import Ref
from livery.serve.queue.queue import Accepted, Order, Queue

router = APIRouter(tags=["orders"])
Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]


class DatasetRef(BaseModel):
    """A dataset of this server."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=128)


class SentRows(BaseModel):
    """Rows that come with the order."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["inline-json"]
    data: list[Any] | dict[str, Any] = Field(
        description="Rows; or rows by split (train, valid, test); or commands with examples."
    )


class Training(BaseModel):
    """What is to be trained."""

    model_config = ConfigDict(extra="forbid")
    node_id: Id
    base_model_id: str = Field(min_length=1, max_length=1000)
    dataset_ref: str | DatasetRef | SentRows = Field(
        description="A dataset by name (GET /api/datasets), or rows."
    )
    dataset_hash: str | None = Field(None, pattern=r"^(sha256:)?[0-9A-Fa-f]{64}$")
    params: dict[str, Any] = Field(
        {}, description="rank, epochs, batch_size, max_seq_len, and all of GET /api/options."
    )


class Bearer(BaseModel):
    """A token for the callback."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["bearer"] = "bearer"
    token: str = Field(min_length=1, max_length=8000, repr=False)


class Callback(BaseModel):
    """Who is told, if anybody: only hosts that this server's operator allows. "internal" stands
    for a way of its own between the described system's services: no token is sent."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(max_length=2000)
    auth: str | Bearer | None = Field(
        None, repr=False, description="Value of the Authorization header, or a token."
    )
    auth_type: Literal["bearer", "internal"] | None = None
    token: str | None = Field(None, max_length=8000, repr=False)


class NewOrder(BaseModel):
    """An order. Fields that only tell who asks (priority, trace_id, …) are taken and not used."""

    model_config = ConfigDict(extra="forbid")
    job_id: Id
    idempotency_key: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")
    ttl_seconds: float = Field(gt=0, le=366 * 86400)
    request: Training
    callback: Callback | None = None
    job_type: Literal["adapter_train"] = "adapter_train"
    job_type_version: str | None = None
    created_at: str | None = None
    priority: str | None = None
    trace_id: str | None = None
    metadata: dict[str, Any] | None = None


@router.post("/internal/queue/enqueue", status_code=202, include_in_schema=False)
@router.post("/v1/adapters/train", status_code=202)
async def order_adapter(new: NewOrder, livery: Livery, request: Request) -> Accepted:
    """Order an adapter. The same order a second time is the first one; an adapter that is there
    already, from the same rows, base and settings, is not trained again."""
    asked, callback = new.request, new.callback
    ref = asked.dataset_ref
    order = Order(
        job_id=new.job_id, idempotency_key=new.idempotency_key, ttl_seconds=new.ttl_seconds,
        node_id=asked.node_id, base_model_id=asked.base_model_id,
        dataset=ref.name if isinstance(ref, DatasetRef) else _plain(ref),
        dataset_hash=asked.dataset_hash and asked.dataset_hash.removeprefix("sha256:"),
        params=asked.params, url=callback.url or None if callback else None, auth=_auth(callback),
    )  # fmt: skip
    base_url = str(request.base_url)
    return await livery.slowly(lambda: _queue(livery).enqueue(order, base_url=base_url))


@router.get("/v1/adapters/train/{job_id}")
async def get_order(job_id: str, livery: Livery) -> dict[str, Any]:
    """An order: where it is, what came of it, and whether its callback was heard."""
    return await livery.slowly(lambda: _queue(livery).state(job_id))


@router.get("/v1/adapters/train/{job_id}/adapter.zip", response_class=Response)
async def get_artefact(job_id: str, livery: Livery, request: Request) -> Response:
    """The adapter: PEFT, tokenizer, mlx/ and gguf/, as `livery pack` writes it; takes a Range."""
    path = await livery.slowly(lambda: _queue(livery).artefact(job_id))
    return send_file(path, request, media_type="application/zip", filename="adapter.zip")


def _plain(ref: str | SentRows) -> Ref:
    return ref if isinstance(ref, str) else ref.model_dump()


def _auth(callback: Callback | None) -> str:
    if callback is None:
        return ""
    if isinstance(callback.auth, str):
        return callback.auth
    token = callback.auth.token if callback.auth else callback.token
    return f"Bearer {token}" if token else ""


def _queue(livery: Services) -> Queue:
    found = livery.shared.get("queue")
    if found is None:
        found = livery.shared["queue"] = Queue(livery.settings, livery.jobs)
    return found
