"""The table of what other services have asked for, beside the jobs that it becomes.

A row's outcome is written once, when its job has ended, and is what the callback says; the row is
also the outbox, so a delivery that was due is due again after any restart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from livery.serve.jobs import store as job_store

_TABLES = sa.MetaData()
ORDERS = sa.Table(
    "livery_orders",
    _TABLES,
    sa.Column("id", sa.Text, primary_key=True),  # as the other service calls it
    sa.Column("key", sa.Text, unique=True, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of what was asked for
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("about", sa.Text, nullable=False),  # JSON: node, base, hash, this server's address
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("url", sa.Text),
    sa.Column("auth", sa.Text),  # until it is delivered
    sa.Column("outcome", sa.Text, index=True),  # JSON
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due", sa.Float, index=True),  # None: nothing is to be delivered any more
    sa.Column("delivered", sa.Float),
    sa.Column("problem", sa.Text),  # of the last try
)


def create(engine: sa.Engine) -> None:
    """Make the table where it is missing; several processes may do it at once."""
    job_store.create(engine, _TABLES)


def add(engine: sa.Engine, row: Mapping[str, Any]) -> None:
    """Raises IntegrityError where there is one of that id or key."""
    with engine.begin() as connection:
        connection.execute(ORDERS.insert().values(**row))


def get(engine: sa.Engine, **where: str) -> sa.Row[Any] | None:
    """The row whose columns have these values."""
    if any("\0" in value for value in where.values()):  # which Postgres does not take for text
        return None
    query = ORDERS.select()
    for column, value in where.items():
        query = query.where(ORDERS.c[column] == value)
    with engine.connect() as connection:
        return connection.execute(query).first()


def open_ones(engine: sa.Engine) -> list[sa.Row[Any]]:
    """Rows whose outcome is not known yet."""
    with engine.connect() as connection:
        return list(connection.execute(ORDERS.select().where(ORDERS.c.outcome.is_(None))))


def due(engine: sa.Engine, limit: int) -> list[sa.Row[Any]]:
    """Rows whose outcome is to be delivered now, the longest due first."""
    query = ORDERS.select().where(ORDERS.c.outcome.is_not(None), ORDERS.c.due <= time.time())
    with engine.connect() as connection:
        return list(connection.execute(query.order_by(ORDERS.c.due).limit(limit)))


def change(engine: sa.Engine, order: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(ORDERS.update().where(ORDERS.c.id == order).values(**values))


def settle(engine: sa.Engine, order: str, outcome: str) -> None:
    """Write the outcome, once."""
    query = ORDERS.update().where(ORDERS.c.id == order, ORDERS.c.outcome.is_(None))
    with engine.begin() as connection:
        connection.execute(query.values(outcome=outcome))
