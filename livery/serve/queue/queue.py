"""Adapters that other services order: taken once, trained once, and told of when they are there.

queue = Queue(settings, jobs)
queue.enqueue(Order(job_id="7", idempotency_key="7", ttl_seconds=86400, ...))
queue.state("7")["status"]  # "queued", "running", "succeeded", "failed", "expired", ...
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import os
import re
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError

from livery.config.foreign import TRAIN_COMMAND
from livery.errors import UserError, quoted
from livery.files import sha256
from livery.serve.adapters import packed_zip
from livery.serve.errors import Conflict, NotFound, Refused, Unavailable
from livery.serve.jobs import store as job_store
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.request import JobRequest, confined
from livery.serve.queue import store
from livery.serve.queue.data import Ref, freeze
from livery.serve.queue.send import check_url
from livery.serve.settings import ServeSettings

log = logging.getLogger("livery.serve")
PUBLIC = "JARVIS_ADAPTER_PUBLIC_URL_PREFIX"
# What the contract calls settings, and what Livery does; other names are Livery's own.
PARAMS = {
    "rank": "lora.rank", "alpha": "lora.alpha", "dropout": "lora.dropout",
    "max_seq_len": "max_length",
}  # fmt: skip
_AUTH = re.compile(r"[!-~][ -~]{0,8191}")


@dataclass(frozen=True)
class Order:
    """What another service asks for.

    Attributes:
        job_id, idempotency_key: its own names of the order; the second time either comes, it is the
            same order.
        ttl_seconds: how long it may wait to be begun.
        node_id: whom the adapter is for.
        base_model_id: the base, as `--model` takes it.
        dataset: a dataset of this server, by its name; or the rows (`livery.serve.queue.data.Ref`).
        dataset_hash: that it must have (`livery.serve.queue.data.dataset_hash`).
        params: settings of training.
        url: of the callback; None for none.
        auth: value of the callback's Authorization header.
    """

    job_id: str
    idempotency_key: str
    ttl_seconds: float
    node_id: str
    base_model_id: str
    dataset: Ref
    dataset_hash: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    url: str | None = None
    auth: str = field(default="", repr=False)

    @property
    def digest(self) -> str:
        """Of all that is asked for; whoever renews the callback's token asks for the same."""
        said = dataclasses.asdict(self)
        del said["auth"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Accepted:
    """The answer to an order; `deduped` where it had come before."""

    accepted: bool
    job_id: str
    deduped: bool


class Queue:
    """The orders of one server.

    Args:
        jobs: that they become.
    """

    def __init__(self, settings: ServeSettings, jobs: Jobs) -> None:
        self.settings, self.jobs, self.engine = settings, jobs, jobs.engine
        store.create(self.engine)

    def enqueue(self, order: Order, *, base_url: str = "") -> Accepted:
        """Take an order. Everything about it is checked before anything is queued.

        Args:
            base_url: of this server, as the other one reaches it.

        Raises:
            Refused: it asks for what this server does not do.
            Conflict: an id or key stands for another order, or the data is not what was meant.
        """
        if (earlier := self._earlier(order)) is not None:
            return earlier
        if order.url is not None:
            check_url(order.url, self.settings.callback_hosts)
        if order.auth and not _AUTH.fullmatch(order.auth):
            raise Refused("callback.auth must be one line of ASCII.", key="callback.auth")
        place, digest = freeze(self.settings, order.dataset, order.dataset_hash)
        request = self._request(order, place, digest)
        job, cached = self._job(order, request)
        about = {
            "node_id": order.node_id, "base_model_id": order.base_model_id,
            "dataset_hash": digest, "base_url": base_url,
        }  # fmt: skip
        row: dict[str, Any] = {
            "id": order.job_id, "key": order.idempotency_key, "digest": order.digest, "job": job.id,
            "cached": cached, "about": json.dumps(about), "created": job_store.now(),
            "url": order.url, "auth": order.auth or None, "tries": 0,
            "due": None if order.url is None else 0.0,
        }  # fmt: skip
        try:
            store.add(self.engine, row)
        except IntegrityError:  # the same order, at the same time
            if (earlier := self._earlier(order)) is None:
                raise
            return earlier
        self._try_to_settle(store.get(self.engine, id=order.job_id))
        return Accepted(True, order.job_id, False)

    def state(self, order: str) -> dict[str, Any]:
        """What is known of an order. Raises NotFound."""
        row = self._row(order)
        about = json.loads(row.about)
        job = self.jobs.get(row.job)
        said: dict[str, Any] = {"status": job.state}
        if row.outcome:
            said = json.loads(row.outcome)
        error: dict[str, Any] = said.get("error") or {}
        if error.get("code") == "expired":
            said = {**said, "status": "expired"}
        if row.url is None:
            callback: dict[str, Any] = {"state": "none"}
        elif row.delivered is not None:
            callback = {"state": "delivered", "tries": row.tries}
        else:
            state = "waiting" if row.due is not None else "given up"
            callback = {"state": state, "tries": row.tries, "problem": row.problem}
        return {
            "job_id": row.id, "status": said["status"], "job": row.job, "step": job.step,
            "node_id": about["node_id"], "base_model_id": about["base_model_id"],
            "dataset_hash": about["dataset_hash"], "cached": bool(row.cached),
            "created_at": _iso(row.created), "finished_at": said.get("finished_at"),
            "result": said.get("result"), "error": said.get("error"), "callback": callback,
        }  # fmt: skip

    def artefact(self, order: str) -> Path:
        """The zip that came of an order.

        Raises:
            NotFound: there is no such order.
            Conflict: it has not come yet, or another adapter has taken its place.
        """
        row = self._row(order)
        said = json.loads(row.outcome) if row.outcome else {}
        if said.get("status") != "succeeded":
            raise Conflict(f"The order {quoted(order)} is {self.state(order)['status']}.")
        path = self.jobs.get(row.job).artefact
        wanted = said["result"]["artifact_metadata"]["sha256"]
        if not path.is_file() or sha256(path) != wanted:
            raise Conflict(f"The adapter of {quoted(order)} is no longer there: order it again.")
        return path

    def settle(self) -> None:
        """Write down the outcome of every order whose job has ended, or has expired."""
        active = self.jobs.list(state=job_store.ACTIVE)
        waiting = {job.id for job in active if not job.is_late}
        for row in store.open_ones(self.engine):
            if row.job not in waiting:
                self._try_to_settle(row)

    def _try_to_settle(self, row: Any) -> None:
        """A fault of one order must not hold up the others."""
        try:
            self._settle(row)
        except DBAPIError:
            raise
        except Exception:
            log.exception("order %s: a fault of Livery's own", row.id)

    def _settle(self, row: Any) -> None:
        self.jobs.expire(row.job)
        outcome = _outcome(row, self.jobs.get(row.job))
        if outcome is not None:
            store.settle(self.engine, row.id, json.dumps(outcome))

    def _earlier(self, order: Order) -> Accepted | None:
        for key, value in (("id", order.job_id), ("key", order.idempotency_key)):
            row = store.get(self.engine, **{key: value})
            if row is None:
                continue
            if key == "id" and row.digest != order.digest:
                raise Conflict(
                    f"job_id {quoted(value)} belongs to another order.", key="job_id"
                )  # fmt: skip
            same = dataclasses.replace(order, job_id=row.id)
            if same.digest != row.digest:
                raise Conflict(
                    f"idempotency_key {quoted(value)} belongs to another order.",
                    key="idempotency_key",
                )
            return Accepted(True, row.id, True)
        return None

    def _request(self, order: Order, place: Path, digest: str) -> JobRequest:
        """The job that an order becomes, named by what decides its result."""
        command = train_command()
        params = {PARAMS.get(key, key): value for key, value in order.params.items()}
        try:
            request = JobRequest(
                data=str(place),
                steps=("train", "pack"),
                settings={**({} if command else params), "model": order.base_model_id},
                overwrite=True,
                begin_by=job_store.now() + order.ttl_seconds,
            )
            confined(request, self.settings.root, self.settings.models)
        except UserError as error:
            raise Refused(f"request.params: {error}", key="request") from None
        if command:
            variables = {
                "JARVIS_TRAIN_JOB_ID": order.job_id, "JARVIS_TRAIN_NODE_ID": order.node_id,
                "JARVIS_TRAIN_BASE_MODEL_ID": order.base_model_id,
                "JARVIS_TRAIN_DATASET_HASH": digest,
            }  # fmt: skip
            trainer = {"argv": command, "params": dict(order.params), "variables": variables}
            request = dataclasses.replace(request, trainer=trainer)
        return dataclasses.replace(request, name=f"order-{request.fingerprint[:16]}")

    def _job(self, order: Order, request: JobRequest) -> tuple[Job, bool]:
        """(the job that makes this adapter, whether it is there already)."""
        made = self.jobs.find(fingerprint=request.fingerprint, state=job_store.DONE)
        if made is not None and packed_zip(self.settings, made.run_folder) is not None:
            return made, True
        for _ in range(2):
            active = self.jobs.find(fingerprint=request.fingerprint, state=job_store.ACTIVE)
            if active is not None:
                self.jobs.prolong(active.id, request.begin_by or 0.0)
                return active, False
            try:
                return self.jobs.submit(request, key=f"order:{order.job_id}"), False
            except job_store.NameTaken:  # the same adapter, ordered at the same time
                continue
        raise Unavailable("The same adapter is being ordered just now. Ask again.")

    def _row(self, order: str) -> Any:
        row = store.get(self.engine, id=order)
        if row is None:
            raise NotFound(f"There is no order {quoted(order)}.", key="job_id")
        if row.outcome is None:
            self._settle(row)
            row = store.get(self.engine, id=order)
        return row


def train_command() -> list[str]:
    """The words of the program that trains in place of Livery; none for Livery itself.

    Raises:
        Unavailable: the variable holds no command.
    """
    try:
        words = shlex.split(os.environ.get(TRAIN_COMMAND, ""))
    except ValueError as error:
        raise Unavailable(f"This server's {TRAIN_COMMAND} is not a command: {error}.") from None
    return [] if words == ["livery", "train"] else words


def _outcome(row: Any, job: Job) -> dict[str, Any] | None:
    """How an order ended, as its callback says it; None before that."""
    if job.state not in job_store.ENDED or job.ended is None:
        return None
    about = json.loads(row.about)
    began = job.started or job.ended
    taken = 0 if row.cached else round(1000 * (job.ended - began))
    said: dict[str, Any] = {
        "job_id": row.id,
        "job_type": "adapter_train",
        "delivery_id": hashlib.sha256(f"{row.id} {row.created}".encode()).hexdigest()[:32],
        "finished_at": _iso(row.created if row.cached else job.ended),
        "timing": {"processing_ms": taken},
    }
    forms = _forms(job.artefact) if job.state == job_store.DONE else ""
    if forms:
        prefix = os.environ.get(PUBLIC, "") or about["base_url"]
        metadata = {
            "node_id": about["node_id"], "base_model_id": about["base_model_id"],
            "dataset_hash": about["dataset_hash"], "adapter_format": forms,
            "artifact_size_bytes": job.artefact.stat().st_size, "sha256": sha256(job.artefact),
            "train_duration_seconds": taken / 1000, "cached": bool(row.cached),
        }  # fmt: skip
        url = f"{prefix.rstrip('/')}/v1/adapters/train/{row.id}/adapter.zip"
        return said | {
            "status": "succeeded", "result": {"artifact_url": url, "artifact_metadata": metadata}
        }  # fmt: skip
    code, message = "artifact_missing", "its adapter is no longer there, or is damaged"
    if job.state == job_store.FAILED and job.cause is not None:
        code, message = job.cause.kind.replace(" ", "_"), job.cause.detail
    elif job.state == job_store.CANCELLED:
        code, message = job.state, "the job was cancelled"
    return said | {"status": "failed", "error": {"code": code, "message": message}}


def _forms(artefact: Path) -> str:
    """The formats in a zip, as the contract names them: "peft_lora+mlx+gguf"; "" of none."""
    try:
        with zipfile.ZipFile(artefact) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return ""
    forms = {"mlx": "mlx/adapters.safetensors", "gguf": "gguf/adapter.gguf"}
    return "+".join(["peft_lora", *(form for form, name in forms.items() if name in names)])


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
