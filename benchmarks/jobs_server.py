"""The part "server" of `python -m benchmarks.jobs`: a job ordered over HTTP while the server dies.

A client submits the job with an Idempotency-Key and, as one that is never sure, submits it again
and asks for the job and its run in every round. `livery serve` is killed (SIGKILL) meanwhile: half
of the times while it starts, half while it answers. It is started again on another port, and the
client goes on there. The worker that the first server started goes on with the job.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from livery.paths import python_path
from livery.serve.jobs.jobs import Jobs

STARTING = 3.0  # seconds after its start within which a server is killed, for half of the kills


class Server:
    """`livery serve` of a root; `address` is None while it does not answer."""

    def __init__(self, jobs: Jobs, models: Path) -> None:
        self.root, self.models = jobs.layout.root, models
        self.log = self.root / "server.log"
        self.root.mkdir(parents=True, exist_ok=True)
        self.address: str | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "livery", "serve", "--root", str(self.root), "--port", "0",
                 "--models", str(self.models), "--json"],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": python_path()},
            )  # fmt: skip
        threading.Thread(target=self.hear, args=(self.process,), daemon=True).start()

    def hear(self, process: subprocess.Popen[str]) -> None:
        """Take the address from what it prints, unless it has died and another is there."""
        assert process.stdout is not None
        if (said := process.stdout.readline()) and process is self.process:
            self.address = json.loads(said)["address"]

    def answers(self) -> bool:
        """Wait until it does; False where it ends instead."""
        while self.address is None and self.process.poll() is None:
            time.sleep(0.02)
        return self.address is not None

    def kill(self) -> None:
        self.address = None
        self.process.kill()
        self.process.wait()

    def kill_workers(self) -> None:
        """Those that the servers have started, as they said."""
        for pid in re.findall(r"to stop it: kill (\d+)", self.log.read_text()):
            said = subprocess.run(
                ["ps", "-o", "args=", "-p", pid], capture_output=True, text=True, check=False
            )
            if str(self.root) in said.stdout:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


@dataclass
class Client:
    """Somebody who orders one job, and orders it again until it has ended.

    Attributes:
        ids: of the job in every answer; more than one would be a job made twice.
        orders: that were answered.
        cut: requests that the server died on, or was not there for.
        refused: answers that are no success, and none are expected.
    """

    server: Server
    body: dict[str, Any]
    ids: set[str] = field(default_factory=set[str])
    orders: int = 0
    cut: int = 0
    refused: list[str] = field(default_factory=list[str])
    ended: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        while not self.ended.is_set():
            address = self.server.address
            if address is None:
                time.sleep(0.02)
                continue
            try:
                job = self.ask(address, "POST", "/api/jobs")["id"]
                self.ids.add(job)
                self.orders += 1
                self.ask(address, "GET", f"/api/jobs/{job}")
                self.ask(address, "GET", "/api/runs")
            except (OSError, http.client.HTTPException):
                self.cut += 1
            self.ended.wait(0.1)  # a server takes ten orders a second from one address

    def ask(self, address: str, method: str, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        try:
            body = json.dumps(self.body) if method == "POST" else None
            kind = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, {**kind, "Idempotency-Key": "the-job"})
            answer = connection.getresponse()
            said = answer.read().decode()
            if answer.status not in (200, 201):
                self.refused.append(f"{method} {path}: {answer.status} {said}")
                raise http.client.HTTPException(said)
            return json.loads(said)
        finally:
            connection.close()


def one(
    jobs: Jobs, models: Path, body: dict[str, Any], kills: int, longest: float, draw: random.Random
) -> dict[str, Any]:
    """Order one job and see it to its end: how many kills there were, and what the client heard."""
    server = Server(jobs, models)
    client = Client(server, body)
    asking = threading.Thread(target=client.work)
    asking.start()
    done = answering = 0
    try:
        while any(job.state in ("queued", "running") for job in jobs.list()) or not client.ids:
            if done < kills:
                if ready := draw.random() < 0.5:
                    ready = server.answers()
                time.sleep(draw.uniform(0.0, longest if ready else STARTING))
                answering += server.address is not None
                server.kill()
                done += 1
                server.start()
            elif server.process.poll() is not None:
                raise SystemExit(f"The server has ended by itself: {server.log.read_text()}")
            else:
                time.sleep(0.2)
    finally:
        client.ended.set()
        server.kill()
        asking.join()
        server.kill_workers()
    return {
        "kills": done, "answering": answering, "orders": client.orders, "cut": client.cut,
        "refused": client.refused, "jobs": len(client.ids | {job.id for job in jobs.list()}),
    }  # fmt: skip
