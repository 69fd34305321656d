"""The table of jobs, in the database that DBOS keeps its workflows in: SQLite, or Postgres by URL.

A row is what is known of a job: where it is, and what is wanted of it. A change of its state names
the state that it comes from, so of two processes that change one job only one succeeds.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError

from livery.errors import UserError, shown
from livery.serve.errors import Conflict

# A queued job waits for a worker; of a running one a worker sees to the processes.
QUEUED, RUNNING, PAUSED = "queued", "running", "paused"
FAILED, CANCELLED, DONE = "failed", "cancelled", "done"
ACTIVE = (QUEUED, RUNNING, PAUSED)
ENDED = (FAILED, CANCELLED, DONE)

_TABLES = sa.MetaData()
JOBS = sa.Table(
    "livery_jobs",
    _TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, unique=True),  # of a submission that may be sent twice
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("request", sa.Text, nullable=False),  # JSON
    sa.Column("fingerprint", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("wanted", sa.Text, nullable=False),  # run, pause or cancel
    # How often it was given to a queue; each of its workflows is called ID-LEG.
    sa.Column("leg", sa.Integer, nullable=False),
    sa.Column("step", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("cause", sa.Text),  # JSON
    sa.Column("created", sa.Float, nullable=False, index=True),
    sa.Column("started", sa.Float),
    sa.Column("ended", sa.Float),
)
# Two jobs that write one adapter folder would be in each other's way.
sa.Index(
    "livery_jobs_one_active", JOBS.c.name, unique=True,
    sqlite_where=JOBS.c.state.in_(ACTIVE), postgresql_where=JOBS.c.state.in_(ACTIVE),
)  # fmt: skip
# Which folder the database belongs to.
ROOT = sa.Table(
    "livery_root", _TABLES,
    sa.Column("only", sa.Integer, primary_key=True), sa.Column("mark", sa.Text, nullable=False),
)  # fmt: skip


def open_engine(url: str) -> sa.Engine:
    """A pool of connections. Raises UserError where the URL is none of ours.

    Its errors are logged, so they do not show what was to be written: callbacks have tokens.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        secretless = re.sub(r":[^:/@]*@", ":***@", url)
        raise UserError(f"{shown(secretless)}: not the URL of a database. {_URLS}") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        engine = sa.create_engine(parsed, hide_parameters=True)
        event.listen(engine, "connect", _as_dbos_connects)
        return engine
    if kind not in ("postgresql", "postgres"):
        said = parsed.render_as_string()
        raise UserError(f"{said}: not a database that jobs can be kept in. {_URLS}")
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=5,
        hide_parameters=True,
    )  # fmt: skip


_URLS = "Take postgresql://USER:PASSWORD@HOST/NAME, or leave it out for SQLite in the folder."


def _as_dbos_connects(connection: Any, _: Any) -> None:
    """Writers wait for each other, from the beginning of a transaction, as DBOS's own do."""
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA busy_timeout=30000")


def create(engine: sa.Engine, tables: sa.MetaData = _TABLES) -> None:
    """Make tables where they are missing; several processes may do it at once."""
    for turn in range(3):
        try:
            tables.create_all(engine)
            return
        except (OperationalError, IntegrityError, ProgrammingError):
            if turn == 2:  # not another process that made them in the same moment
                raise


def mark(engine: sa.Engine, mine: str) -> str:
    """The mark of the folder that the database belongs to: `mine` where it had none."""
    find = sa.select(ROOT.c.mark)
    try:
        with engine.begin() as connection:
            found = connection.execute(find).scalar()
            if found is None:
                connection.execute(ROOT.insert().values(only=1, mark=mine))
            return found or mine
    except IntegrityError:  # another process marked it in the same moment
        with engine.connect() as connection:
            return connection.execute(find).scalar_one()


def get(engine: sa.Engine, job: str) -> sa.Row[Any] | None:
    """A job's row; None where there is none."""
    if "\0" in job:  # which Postgres does not take for text
        return None
    with engine.connect() as connection:
        return connection.execute(JOBS.select().where(JOBS.c.id == job)).first()


def rows(
    engine: sa.Engine, *, limit: int | None = None, before: float | None = None, **where: Any
) -> list[sa.Row[Any]]:
    """Rows, the newest first; `where` are columns and the value, or values, they have."""
    query = JOBS.select().order_by(JOBS.c.created.desc(), JOBS.c.id.desc())
    if before is not None:
        query = query.where(JOBS.c.created < before)
    with engine.connect() as connection:
        return list(connection.execute(query.where(*_having(where)).limit(limit)))


def change(engine: sa.Engine, job: str, values: Mapping[str, Any], **where: Any) -> bool:
    """Change a row if its columns have the values of `where`; whether they had."""
    with changing(engine) as connection:
        return change_in(connection, job, values, **where)


def change_in(connection: sa.Connection, job: str, values: Mapping[str, Any], **where: Any) -> bool:
    """`change` within a transaction."""
    query = JOBS.update().where(JOBS.c.id == job, *_having(where))
    return connection.execute(query.values(**values)).rowcount == 1


def _having(where: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """That columns have these values; of a tuple, one of them."""
    return [
        JOBS.c[column].in_(value) if isinstance(value, tuple) else JOBS.c[column] == value
        for column, value in where.items()
    ]


@contextmanager
def changing(engine: sa.Engine) -> Generator[sa.Connection]:
    """A transaction. Raises UserError where another active job has the adapter's name."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError as error:
        if "livery_jobs_one_active" not in str(error) and "livery_jobs.name" not in str(error):
            raise
        raise NameTaken(
            "Another job that has not ended makes an adapter of this name. Wait for it, cancel it, "
            "or choose another name."
        ) from None


@contextmanager
def still(engine: sa.Engine) -> Generator[None]:
    """No row is added or changed by anybody within the block; all may read."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            # The first statement that writes takes the file's lock, also one that finds no row.
            connection.execute(sa.delete(JOBS).where(sa.false()))
        else:
            connection.execute(sa.text(f"LOCK TABLE {JOBS.name} IN SHARE ROW EXCLUSIVE MODE"))
        yield


class NameTaken(Conflict):
    """Two jobs would write one folder."""


def now() -> float:
    """Seconds since 1970."""
    return time.time()


def as_json(value: Any) -> str:
    """For a column of text."""
    return json.dumps(value, ensure_ascii=False)
