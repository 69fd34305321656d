"""What takes seconds leaves the threads free that all other requests are answered in."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import select
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("dbos", reason="needs the extra serve")

from livery.serve.api.app import ROUTERS
from livery.serve.api.services import Services
from livery.serve.jobs import process
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
from tests import PATIENCE
from tests.serve.serving import served, settings_of

POOL = 40  # threads that requests are answered in, of anyio
# Routes that read or hash whole files, wait for a process of ours, or for processes to end.
SLOW = {
    "GET /api/machine", "GET /api/adapters/{name}", "DELETE /api/adapters/{name}",
    "GET /api/adapters/{name}/export", "DELETE /api/runs/{name}", "DELETE /api/datasets/{name}",
    "GET /api/datasets/{name}/rows", "PUT /api/datasets/{name}/rows/{n}",
    "POST /api/datasets/{name}/review", "POST /api/datasets/{name}/copy",
    "GET /api/datasets/{name}/export", "POST /api/datasets", "POST /api/jobs/{job}/cancel",
    "POST /v1/adapters/train", "GET /v1/adapters/train/{job_id}",
    "GET /v1/adapters/train/{job_id}/adapter.zip", "GET /api/improve/{adapter}/weak",
    "POST /api/improve/{adapter}/review", "POST /api/improve/{adapter}/retrain",
    "POST /api/improve/{adapter}/roll-back", "GET /api/finetune/data",
    "GET /api/finetune/export/stats", "GET /api/finetune/modules/{name}/preview",
    "GET /api/finetune/modules/{name}/sections", "PUT /api/finetune/modules/{name}/enabled",
    "GET /api/finetune/unified", "POST /api/finetune/start", "POST /api/finetune/export",
    "POST /api/finetune/export/{thread}", "POST /api/finetune/generate",
    "POST /api/finetune/sections/generated/approve",
}  # fmt: skip


def test_slow_routes_are_no_functions_of_the_pool() -> None:
    """A plain function is called in one of the pool's threads; these give their work elsewhere."""
    found: dict[str, Any] = {
        f"{method} {route.path}": route.endpoint
        for resource in ROUTERS
        for route in resource.router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert set(found) >= SLOW
    for name in SLOW:
        assert inspect.iscoroutinefunction(found[name]), name
        assert "slowly(" in inspect.getsource(found[name]), name


@pytest.mark.slow
def test_more_slow_requests_than_threads_hold_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that a worker sees to, and does not end, is cancelled by more clients than there are
    threads."""
    monkeypatch.setattr(process, "GRACE", float(PATIENCE))
    arrived = threading.Semaphore(0)
    slowly = Services.slowly

    async def counted(self: Services, work: Any, *arguments: Any) -> Any:
        arrived.release()
        return await slowly(self, work, *arguments)

    monkeypatch.setattr(Services, "slowly", counted)
    settings = settings_of(tmp_path)
    jobs = Jobs(settings.root)
    job = jobs.submit(JobRequest(skill="date-keys")).id
    with served(settings) as client, contextlib.ExitStack() as clients:
        with process.attending(jobs.layout, job) as ours:
            assert ours
            waiting: list[Any] = []
            for _ in range(POOL + 5):
                one = http.client.HTTPConnection(client.host, client.port, timeout=PATIENCE)
                clients.callback(one.close)
                one.request("POST", f"/api/jobs/{job}/cancel")
                waiting.append(one)
            for _ in waiting:
                assert arrived.acquire(timeout=PATIENCE)
            assert client.get("/api/runs").status == 200
            answered, _, _ = select.select([one.sock for one in waiting], [], [], 0)
            assert answered == []
        for one in waiting:
            answer = one.getresponse()
            assert (answer.status, b'"cancelled"' in answer.read()) == (200, True)
