"""Processes that ask the teacher N questions, one after the other, to be killed:

    python -m tests.teacher.killed URL RECORDS N

For each line on standard input, which says how many results it may take at most, one is forked; its
number is printed, then each result that it takes, and "over" once it has ended.
"""

from __future__ import annotations

import os
import signal
import sys

import livery.teacher.connections  # noqa: F401  # pyright: ignore[reportUnusedImport]  # once for all
from livery.teacher import ask_each
from tests.teacher.endpoint import question, teacher


def main() -> None:
    url, records, count = sys.argv[1:]
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                take(url, records, int(count), int(line))
            finally:
                os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("over", flush=True)


def take(url: str, records: str, count: int, most: int) -> None:
    many = [question(f"q{n}", f"question {n}") for n in range(count)]
    for taken, result in enumerate(ask_each(many, teacher(url, concurrency=8), records)):
        if taken == most:
            signal.pause()
        assert result.fault is None, result.fault
        print("taken", flush=True)


if __name__ == "__main__":
    main()
