"""What a queue can lose, found again: each worker looks every few seconds.

DBOS begins a workflow again when the worker that ran it starts under the same name. It leaves alone
what another worker had that never comes back, and a workflow that is marked as running and is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import DBAPIError

from livery.serve.jobs import process, store
from livery.serve.jobs.jobs import QUEUE, WORKFLOW, Jobs

PERIOD = 2.0
_OPEN = ("ENQUEUED", "DELAYED", "PENDING")


class Watchdog:
    """Looks after the workflows of a folder.

    Args:
        me: this worker's name.
        running: ids of the workflows that this process runs, kept by the worker.
    """

    def __init__(
        self, jobs: Jobs, me: str, running: set[str], say: Callable[[str], None],
        period: float = PERIOD,
    ) -> None:  # fmt: skip
        self.jobs, self.me, self.running, self.say, self.period = jobs, me, running, say, period
        self._idle: set[str] = set()

    def look(self) -> None:
        """Look once; an unreachable database is looked at again the next time."""
        try:
            self._stuck()
            self._lost()
        except DBAPIError as error:
            self.say(f"The database cannot be reached ({type(error.orig).__name__}); trying again.")

    def _stuck(self) -> None:
        """Workflows marked as running that nobody runs go back to the queue.

        One that is only believed to be stuck would run twice, which does no harm: a job has one
        worker at a time, and a try that was made is not made again.
        """
        idle: set[str] = set()
        for one in self._workflows(status="PENDING"):
            if one.executor_id == self.me:
                # Taken off the queue a moment ago, perhaps: only what was idle before, too.
                if one.workflow_id not in self.running:
                    idle.add(one.workflow_id)
            elif not process.is_taken(self.jobs.layout.lock("worker", str(one.executor_id))):
                self._resume(one.workflow_id, f"its worker {one.executor_id} is gone")
        for workflow in idle & self._idle:
            self._resume(workflow, "it was marked as running and was not")
        self._idle = idle - self._idle

    def _lost(self) -> None:
        """Jobs that wait for a workflow which has ended, or was never begun, get another."""
        waiting = store.rows(self.jobs.engine, state=(store.QUEUED, store.RUNNING))
        ids = [f"{row.id}-{row.leg}" for row in waiting]
        found = {one.workflow_id for one in self._workflows(workflow_ids=ids, status=list(_OPEN))}
        for row in waiting:
            if f"{row.id}-{row.leg}" not in found and self.jobs.requeue(row.id, row.leg):
                self.say(f"{row.id}: queued again, because its workflow had ended without it")

    def _resume(self, workflow: str, why: str) -> None:
        self.say(f"{workflow}: given to the queue again, because {why}")
        self.jobs.client.resume_workflow(workflow, queue_name=QUEUE)

    def _workflows(self, **where: Any) -> list[Any]:
        return self.jobs.client.list_workflows(
            name=WORKFLOW, load_input=False, load_output=False, **where
        )
