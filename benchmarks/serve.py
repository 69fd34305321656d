"""How fast `livery serve` answers, and what it takes: python -m benchmarks.serve --json F

A folder of made runs, each with a thousand lines of metrics and the first with 300 checkpoints, is
served by a process of its own, and clients ask one question after the other. With --train a real
training runs meanwhile. Latency is what a client waits; `server_ms` is the processor time that the
server takes for a request (Linux), which does not depend on what else the machine does.

What a page reads comes first, then what programs send: commands to the guard, jobs, and with
--answer completions of the embedded base, by --askers clients alone, since an engine answers two at
a time.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.files import write_json
from livery.paths import METADATA, METRICS, RUN_CONFIG

# The server with its limits on rates out of the way: all clients have one address here.
SERVER = """
import dataclasses, sys
from pathlib import Path
from livery.serve.api.app import create_app
from livery.serve.server import serve
from livery.serve.settings import Limits, ServeSettings
limits = dataclasses.replace(
    Limits(), rate=1e9, burst=10**9, writes=1e9, write_burst=10**9, streams=1000
)
settings = ServeSettings(Path(sys.argv[1]), port=0, limits=limits)
serve(create_app(settings), settings, lambda address: print(address, flush=True))
"""


@dataclass(frozen=True)
class Asked:
    """A request. `body` makes that of the n-th one; without it, it is a GET."""

    path: str
    body: Callable[[int], dict[str, Any]] | None = None

    def __str__(self) -> str:
        return self.path if self.body is None else f"POST {self.path}"


READ = tuple(
    Asked(path)
    for path in (
        "/api/runs?limit=100", "/api/runs/run-0", "/api/runs/run-0/metrics?points=200",
        "/api/runs/run-0/checkpoints", "/api/adapters", "/api/jobs", "/api/options",
        "/api/datasets/rows/rows?limit=50",
    )
)  # fmt: skip
GUARD = Asked("/v1/guard", lambda n: {"command": f"cd build-{n} && rm -rf out && git push --force"})
JOBS = Asked("/api/jobs", lambda n: {"data": "rows", "name": f"made-{n}", "steps": ["train"]})
ANSWER = Asked(
    "/v1/chat/completions",
    lambda n: {
        "model": "base", "max_tokens": 8,
        "messages": [{"role": "user", "content": f"wake me at {n % 12 + 1} tomorrow"}],
    },
)  # fmt: skip
NUMBER = itertools.count()


def main() -> None:
    """Measure, print a table, and write it as JSON where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=40, help="of each client")
    parser.add_argument(
        "--pause", type=float, default=1.0,
        help="seconds between a client's requests, as a page that looks again; 0 asks at once",
    )  # fmt: skip
    parser.add_argument("--answer", action="store_true", help="ask for completions, too")
    parser.add_argument("--askers", type=int, default=4, help="clients that ask for those")
    parser.add_argument("--train", action="store_true", help="train meanwhile")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="livery-serve-") as folder:
        root = Path(folder)
        make(root, given.runs)
        result = measure(root, given)
    if given.json:
        write_json(given.json, result)


def measure(root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """{what: {"p50_ms", "p99_ms", "per_second"}} and memory in MB, idle and afterwards."""
    cases: dict[str, tuple[tuple[Asked, ...], int]]
    cases = {str(one): ((one,), given.clients) for one in READ}
    cases["all of them"] = (READ, given.clients)
    cases |= {str(one): ((one,), given.clients) for one in (GUARD, JOBS)}
    if given.answer:
        cases[str(ANSWER)] = ((ANSWER,), given.askers)
    training = start_training(root) if given.train else None
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        host, _, port = server.stdout.readline().strip().removeprefix("http://").rpartition(":")
        result: dict[str, Any] = {}

        def say(name: str, case: dict[str, float]) -> None:
            result[name] = case
            figures = "  ".join(f"{key} {value:,.1f}" for key, value in case.items())
            print(f"{name:<40} {figures}", flush=True)

        say("idle", {"memory_mb": resident(server.pid)})
        for what, _ in cases.values():  # what is read, imported or loaded once
            ask(host, int(port), what, 1)
        for name, (what, clients) in cases.items():
            before = processor(server.pid)
            case = latencies(host, int(port), what, clients, given.requests, given.pause)
            if before is not None and (after := processor(server.pid)) is not None:
                asked = clients * max(1, given.requests // len(what)) * len(what)
                case["server_ms"] = 1000 * (after - before) / asked
            say(name, case)
        say("afterwards", {"memory_mb": resident(server.pid)})
        if training is not None:
            say("training", {"still_running": float(training.poll() is None)})
        return result
    finally:
        server.terminate()
        server.wait()
        if training is not None:
            training.terminate()
            training.wait()


def latencies(
    host: str, port: int, what: tuple[Asked, ...], clients: int, requests: int, pause: float
) -> dict[str, float]:
    """Of clients that ask in turn, each on a connection that it keeps."""
    found: list[list[float]] = [[] for _ in range(clients)]

    def client(number: int) -> None:
        turned = what[number % len(what) :] + what[: number % len(what)]
        time.sleep(pause * number / clients)  # not all at once
        found[number] = ask(host, port, turned, max(1, requests // len(what)), pause)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    every = sorted(one for own in found for one in own)
    return {
        "p50_ms": 1000 * every[len(every) // 2],
        "p99_ms": 1000 * every[math.ceil(len(every) * 0.99) - 1],
        "per_second": len(every) / seconds,
    }


def ask(
    host: str, port: int, what: tuple[Asked, ...], times: int, pause: float = 0.0
) -> list[float]:
    """Seconds of each request."""
    connection = http.client.HTTPConnection(host, port)
    found: list[float] = []
    for one in what * times:
        body = json.dumps(one.body(next(NUMBER))) if one.body else None
        kind = {"Content-Type": "application/json"} if body else {}
        began = time.perf_counter()
        connection.request("POST" if body else "GET", one.path, body, kind)
        answer = connection.getresponse()
        answer.read()
        found.append(time.perf_counter() - began)
        if answer.status not in (200, 201):
            raise SystemExit(f"{one}: {answer.status}")
        time.sleep(pause)
    connection.close()
    return found


def make(root: Path, runs: int, lines: int = 1000, checkpoints: int = 300) -> None:
    """Runs and rows; of the first run the checkpoints too."""
    for number in range(runs):
        folder = root / "adapters" / f"run-{number}"
        folder.mkdir(parents=True)
        write_json(
            folder / RUN_CONFIG,
            {"settings": {"model": "base_model"}, "total_steps": lines, "backend": "torch"},
        )
        write_json(folder / METADATA, {"steps": lines})
        with (folder / METRICS).open("w") as file:
            for step in range(1, lines + 1):
                row: dict[str, Any] = {
                    "step": step, "epoch": step / 100, "loss": 3 - step / lines, "grad_norm": 1.0,
                    "learning_rate": 1e-3, "tokens_per_second": 1234.5,
                    "supervised_tokens_per_second": 200.0, "peak_memory_mb": 500.0,
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")
                if step % 100 == 0:
                    file.write(json.dumps({"step": step, "eval_loss": 3 - step / lines}) + "\n")
        (folder / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 16}')
        (folder / "adapter_model.safetensors").write_bytes(b"x")
    for step in range(10, 10 * checkpoints + 1, 10):
        place = root / "adapters/run-0/checkpoints" / f"step-{step:06d}"
        place.mkdir(parents=True)
        (place / "state.json").write_text("{}")
        (place / "state.safetensors").write_bytes(b"x")
    (root / "data" / "rows").mkdir(parents=True)
    with (root / "data" / "rows" / "train.jsonl").open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({"prompt": f"question {number}", "completion": "yes"}) + "\n")


def start_training(root: Path) -> subprocess.Popen[bytes]:
    """A training of the embedded base, long enough to outlast the measurement."""
    livery = [sys.executable, "-m", "livery"]
    subprocess.run(
        [*livery, "data", "date-keys", "--out", "data/dates", "--count", "2000"],
        cwd=root, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    words = [
        "train",
        "--data",
        "data/dates",
        "--output-dir",
        "adapters/trained",
        "--steps-per-eval",
    ]
    with (root / "train.log").open("wb") as log:
        training = subprocess.Popen(
            [*livery, *words, "0", "--max-steps", "100000"], cwd=root, stdout=log, stderr=log
        )
    metrics = root / "adapters/trained" / METRICS
    while training.poll() is None and not metrics.exists():
        time.sleep(0.5)
    return training


def processor(pid: int) -> float | None:
    """Seconds of processor time that a process has had; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MB of memory that a process has."""
    said = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(said.stdout) / 1024


if __name__ == "__main__":
    main()
