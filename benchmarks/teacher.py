"""Requests a second of the teacher's client, against a server on loopback that takes 50 ms each.

    python -m benchmarks.teacher --json teacher.json

With 32 requests under way at once the ideal is 640 a second. Everything is done that a real run
does: a JSON Schema is asked for and the answer validated, each answer is committed to the records.
The server runs in a process of its own. Beside it stands what the machine allows: the same requests
over bare sockets, without client, validation or records.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import machine
from livery.teacher import Parameters, Question, Teacher, ask

LATENCY = 0.05  # seconds that an answer takes
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
# As long as a compact schema with its query is.
PROMPT = "field status: open, closed; operator after, before; " * 120


class Slow(asyncio.Protocol):
    """Answers every request after LATENCY, whatever it is."""

    def __init__(self) -> None:
        message = {"role": "assistant", "content": '{"colour":"red","count":3}'}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(PROMPT) // 3, "completion_tokens": 12}
        body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._answer = head.encode() + b"\r\n\r\n" + body
        self._came = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        end = self._came.find(b"\r\n\r\n")
        if end < 0:
            return
        length = int(self._came[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._came) >= end + 4 + length:
            del self._came[: end + 4 + length]
            asyncio.get_running_loop().call_later(LATENCY, self._write)

    def _write(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.write(self._answer)


async def serve() -> None:
    """Print the port, then answer until killed."""
    server = await asyncio.get_running_loop().create_server(Slow, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def ours(port: int, count: int, concurrency: int) -> tuple[float, float]:
    """(requests a second, milliseconds of processor time a request) of `livery.teacher.ask`."""
    teacher = Teacher("m", f"http://127.0.0.1:{port}/v1", concurrency=concurrency)
    questions = [
        Question(f"q{n}", [{"role": "user", "content": f"{n} {PROMPT}"}], SCHEMA, Parameters())
        for n in range(count)
    ]
    with tempfile.TemporaryDirectory() as folder:
        began, processor = time.perf_counter(), time.process_time()
        results = ask(questions, teacher, Path(folder) / "records.sqlite", what="")
        seconds = time.perf_counter() - began
    assert all(result.fault is None for result in results)
    return count / seconds, 1000 * (time.process_time() - processor) / count


async def bare(port: int, count: int, concurrency: int) -> float:
    """Requests a second over sockets alone."""
    body = json.dumps({"messages": [{"role": "user", "content": PROMPT}]}).encode()
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    todo = iter(range(count))

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in todo:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return count / (time.perf_counter() - began)


def main() -> None:
    """Run both in turn and print the best of each: what disturbs the machine only slows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=3200, help="requests of each run")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, "-m", "benchmarks.teacher", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        rates: list[float] = []
        sockets: list[float] = []
        processor: list[float] = []
        for _ in range(given.repeats):
            sockets.append(asyncio.run(bare(port, given.count, given.concurrency)))
            rate, milliseconds = ours(port, given.count, given.concurrency)
            rates.append(rate)
            processor.append(milliseconds)
            print(f"teacher {rate:.0f}/s, {milliseconds:.2f} ms; sockets {sockets[-1]:.0f}/s")
        server.kill()
    ideal = given.concurrency / LATENCY
    found = {
        "requests_per_second": max(rates),
        "ideal": ideal,
        "share_of_ideal": max(rates) / ideal,
        "share_of_sockets": max(rates) / max(sockets),
        "processor_ms_per_request": min(processor),
        "runs": rates,
        "sockets": sockets,
        "machine": machine(),
    }
    print(
        f"{max(rates):.0f} requests/s of {ideal:.0f} ({max(rates) / ideal:.1%}); bare sockets "
        f"{max(sockets):.0f}; {min(processor):.2f} ms of processor time a request"
    )
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
