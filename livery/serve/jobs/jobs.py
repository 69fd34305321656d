"""Jobs as everybody uses them: submit, get, list, cancel, pause, resume, retry.

What runs them is a worker (`livery.serve.jobs.worker`), a process of its own. This only keeps the
record and gives work to the queue, so it is safe in any number of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError, IntegrityError

from livery.errors import UserError, quoted, shown
from livery.files import explain_os_errors
from livery.paths import RUN_CONFIG
from livery.serve.errors import Conflict, NotFound
from livery.serve.jobs import process, store
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.request import JobRequest, stored_request
from livery.serve.jobs.serial import json_serializer

# The queue and workflow that a worker serves. DBOS runs a workflow only under the version of the
# program that began it, which it would compute from the source: a new release of Livery would never
# finish an old job. Raise it when a job begun before cannot go on.
QUEUE, WORKFLOW, APPLICATION, VERSION = "livery-jobs", "livery-job", "livery", "jobs-1"

State = Literal["queued", "running", "paused", "failed", "cancelled", "done"]


@dataclass(frozen=True)
class Cause:
    """Why a job failed.

    Attributes:
        kind: "signal", "out of memory", "exit code", "target missed" or "expired".
        detail: which signal or code, in a sentence.
        last_lines: of its log.
    """

    kind: str
    detail: str
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job as it stood when it was asked for; times are seconds since 1970.

    Attributes:
        step: that runs, or at which it stopped.
        attempt: how often that step was started, since the job was last submitted or retried.
        attempts: how often it may be.
        log: what its processes print.
        run_folder: root/adapters/NAME.
        artefact: the zip that the step pack writes.
    """

    id: str
    name: str
    request: JobRequest
    state: State
    step: str | None
    attempt: int
    attempts: int
    cause: Cause | None
    created: float
    started: float | None
    ended: float | None
    log: Path
    run_folder: Path
    artefact: Path
    fingerprint: str
    key: str | None

    @property
    def is_late(self) -> bool:
        """Whether it has not begun by the time that its request gives."""
        by = self.request.begin_by
        return by is not None and by < store.now() and self.state == store.QUEUED

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        said: dict[str, Any] = {
            **asdict(self), "request": self.request.as_dict(), "log": str(self.log),
            "run_folder": str(self.run_folder), "artefact": str(self.artefact),
        }  # fmt: skip
        if self.cause:
            said["cause"]["last_lines"] = list(self.cause.last_lines)
        return said


class NoSuchJob(NotFound):
    """There is no job of that id."""


class Jobs:
    """The jobs of one folder.

    Args:
        root: the folder that holds adapters/, data/ and .livery/.
        database: the URL of a Postgres; by default SQLite in root/.livery.

    Raises:
        UserError: the database cannot be reached, belongs to another folder, or the extra `serve`
            is not installed.
    """

    def __init__(self, root: str | Path, database: str | None = None) -> None:
        self.layout = Layout(Path(root).absolute())
        self.layout.make()
        self.url = database or f"sqlite:///{self.layout.database}"
        self.engine = store.open_engine(self.url)
        with _explained(self.url):
            _migrate(self.url)
            store.create(self.engine)
            mine = self.layout.mark()
            if store.mark(self.engine, mine) != mine:
                raise UserError(
                    f"{_show(self.url)}: holds the jobs of another folder than {root}. Workers of "
                    "one database share one folder; take another database for another folder."
                )
        self._client: Any = None

    @property
    def client(self) -> Any:
        """DBOS's client, on the same connections."""
        if self._client is None:
            from dbos import DBOSClient

            self._client = DBOSClient(
                system_database_engine=self.engine, application_name=APPLICATION, lazy=True,
                serializer=json_serializer(),
            )  # fmt: skip
        return self._client

    def submit(self, request: JobRequest, *, key: str | None = None) -> Job:
        """Queue a job.

        Args:
            key: of a submission that may be sent twice: the second time it returns the first's job.

        Raises:
            UserError: the adapter exists already, another job makes it, the data is missing, or the
                key stands for another job.
        """
        if key is not None and (found := self.find(key=key)):
            return _same(found, request)
        self._check_places(request)
        job = secrets.token_hex(8)
        row: dict[str, Any] = {
            "id": job, "key": key, "name": request.name, "fingerprint": request.fingerprint,
            "request": store.as_json(request.as_dict()), "state": store.QUEUED, "wanted": "run",
            "leg": 1, "attempt": 0, "created": store.now(),
        }  # fmt: skip
        try:
            with store.changing(self.engine) as connection:
                connection.execute(store.JOBS.insert().values(**row))
                self._enqueue(connection, job, 1)
        except (IntegrityError, store.NameTaken):  # whichever of the two a database names first
            if key is None or not (found := self.find(key=key)):
                raise
            return _same(found, request)
        return self.get(job)

    def get(self, job: str) -> Job:
        """Raises NoSuchJob."""
        return self._job(self._row(job))

    def list(
        self, limit: int | None = None, before: float | None = None, **where: Any
    ) -> list[Job]:
        """Jobs, the newest first.

        Args:
            before: only those created earlier (`Job.created` of the last one that was shown).
            where: columns and the value, or tuple of values, they have: state, name, fingerprint.
        """
        return [
            self._job(row) for row in store.rows(self.engine, limit=limit, before=before, **where)
        ]

    def find(self, **where: Any) -> Job | None:
        """The newest job whose columns have these values (key, fingerprint, name, state)."""
        return next(iter(self.list(1, **where)), None)

    def log(self, job: str) -> Path:
        """The file that the job's processes print to; it may not exist yet."""
        return self.get(job).log

    def cancel(self, job: str) -> Job:
        """End a job and all its processes. One that has ended already stays as it is.

        It returns when they have ended; where they run on another machine whose worker is gone, the
        job is still active then, and is cancelled when one starts there.
        """
        self.get(job)
        store.change(self.engine, job, {"wanted": "cancel"}, state=store.ACTIVE)
        patience = time.monotonic() + 2 * process.GRACE
        while self.get(job).state in store.ACTIVE and time.monotonic() < patience:
            # A worker that sees to the job ends it. Where none does, none can begin meanwhile.
            with process.attending(self.layout, job) as alone:
                if alone and process.end(self.layout, job):
                    done = {"state": store.CANCELLED, "ended": store.now()}
                    store.change(self.engine, job, done, state=store.ACTIVE, wanted="cancel")
            time.sleep(process.POLL / 2)
        return self.get(job)

    def pause(self, job: str) -> Job:
        """Stop a job at its next checkpoint; `resume` continues it there.

        The state of one that runs is "paused" once its process has stopped.

        Raises:
            UserError: it has ended.
        """
        self.get(job)
        if store.change(self.engine, job, {"wanted": "pause"}, state=store.RUNNING, wanted="run"):
            process.interrupt(self.layout, job)
        elif not store.change(
            self.engine, job, {"wanted": "pause", "state": store.PAUSED}, state=store.QUEUED
        ) and (found := self.get(job)).state not in (store.RUNNING, store.PAUSED):
            raise Conflict(f"Job {job} is {found.state}: there is nothing to pause.")
        return self.get(job)

    def resume(self, job: str) -> Job:
        """Continue a job that was paused, from its last checkpoint.

        Raises:
            UserError: it is not paused.
        """
        hint = "only those that are paused are; retry one that failed or was cancelled"
        return self._again(job, (store.PAUSED,), "resumed", hint)

    def retry(self, job: str) -> Job:
        """Start a job again that failed or was cancelled, at the step where it stopped.

        Raises:
            UserError: it neither failed nor was cancelled, or another job makes its adapter now.
        """
        ended = (store.FAILED, store.CANCELLED)
        return self._again(job, ended, "retried", "only those that failed or were cancelled are")

    def expire(self, job: str) -> bool:
        """Fail a job that has not begun by the time that its request gives; whether it did."""
        if not self.get(job).is_late:
            return False
        cause = {"kind": "expired", "detail": "no worker began it in time", "last_lines": []}
        values = {"state": store.FAILED, "ended": store.now(), "cause": store.as_json(cause)}
        return store.change(self.engine, job, values, state=store.QUEUED, started=None)

    def prolong(self, job: str, by: float) -> None:
        """Let a job begin until `by`, where that is later than what it says."""
        with store.changing(self.engine) as connection:
            row = connection.execute(store.JOBS.select().where(store.JOBS.c.id == job)).first()
            said = json.loads(row.request) if row else {}
            if (said.get("begin_by") or by) < by:
                values = {"request": store.as_json({**said, "begin_by": by})}
                store.change_in(connection, job, values)

    def requeue(self, job: str, leg: int) -> bool:
        """Give a job that waits for a workflow which is no more to the queue; whether it did."""
        with store.changing(self.engine) as connection:
            still = {"leg": leg, "state": (store.QUEUED, store.RUNNING)}
            changed = store.change_in(connection, job, {"leg": leg + 1}, **still)
            if changed:
                self._enqueue(connection, job, leg + 1)
        return changed

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _again(self, job: str, states: tuple[str, ...], doing: str, hint: str) -> Job:
        row = self._row(job)
        found = self._job(row)
        fresh: dict[str, Any] = {
            "state": store.QUEUED, "wanted": "run", "leg": row.leg + 1, "ended": None,
            "cause": None, "attempt": 0,
        }  # fmt: skip
        if found.request.begin_by is not None:  # it is wanted, whatever the time is
            wanted = dataclasses.replace(found.request, begin_by=None)
            fresh["request"] = store.as_json(wanted.as_dict())
        with store.changing(self.engine) as connection:
            changed = store.change_in(connection, job, fresh, state=states, leg=row.leg)
            if changed:
                self._enqueue(connection, job, row.leg + 1)
        if not changed:
            raise Conflict(f"Job {job} is {found.state}, so it cannot be {doing}: {hint}.")
        return self.get(job)

    def _enqueue(self, connection: Any, job: str, leg: int) -> None:
        from dbos import WorkflowSerializationFormat

        self.client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": WORKFLOW, "queue_name": QUEUE, "workflow_id": f"{job}-{leg}",
                "app_version": VERSION, "serialization_type": WorkflowSerializationFormat.PORTABLE,
            },
            job,
            leg,
        )  # fmt: skip

    def _check_places(self, request: JobRequest) -> None:
        folder = self.layout.adapter(request.name)
        if "data" not in request.steps and request.data:
            place = self.layout.data(request.data)
            if not place.exists():
                raise UserError(f"{place}: there is no such data.")
        if "train" not in request.steps:
            if request.steps != ("data",) and not folder.is_dir():
                raise UserError(f"{folder}: there is no such adapter, and the job trains none.")
        elif os.path.lexists(folder) and not request.overwrite:
            what = "holds a run" if (folder / RUN_CONFIG).exists() else "exists"
            raise Conflict(
                f"{folder}: {what} already. Choose another name, or set overwrite to train in its "
                "place; the older one is kept aside."
            )

    def _row(self, job: str) -> Any:
        row = store.get(self.engine, job)
        if row is None:
            raise NoSuchJob(
                f"There is no job {quoted(job)}. `livery jobs list` shows those there are."
            )
        return row

    def _job(self, row: Any) -> Job:
        request = stored_request(json.loads(row.request))
        cause = json.loads(row.cause) if row.cause else None
        if cause:
            cause = Cause(cause["kind"], cause["detail"], tuple(cause["last_lines"]))
        return Job(
            id=row.id, name=row.name, request=request, state=row.state, step=row.step,
            attempt=row.attempt, attempts=request.attempts, cause=cause, created=row.created,
            started=row.started, ended=row.ended, log=self.layout.log(row.id),
            run_folder=self.layout.adapter(row.name), artefact=self.layout.artefact(row.name),
            fingerprint=row.fingerprint, key=row.key,
        )  # fmt: skip


def _same(found: Job, request: JobRequest) -> Job:
    """The job of a key. Raises Conflict where something else is asked for under it."""
    if (found.name, found.request.fingerprint) != (request.name, request.fingerprint):
        raise Conflict(
            f"The key belongs to another job already, {found.id}. Take another key, or ask for the "
            "same.",
            key="key",
        )
    return found


def _migrate(url: str) -> None:
    """DBOS's own tables, made where they are missing."""
    try:
        from dbos import DBOS
    except ImportError:
        raise UserError(
            "dbos is not installed. Install it with: pip install 'livery[serve]'"
        ) from None
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(url)


@contextlib.contextmanager
def _explained(url: str) -> Generator[None]:
    try:
        with explain_os_errors(Path(_show(url)), "opening the jobs"):
            yield
    except DBAPIError as error:  # also of a file that is no database
        said = str(error.orig).strip().splitlines()
        raise UserError(
            f"{_show(url)}: cannot be opened: {shown(said[0] if said else error)}"
        ) from None


def _show(url: str) -> str:
    """A URL without its password."""
    import sqlalchemy as sa

    return sa.make_url(url).render_as_string()
