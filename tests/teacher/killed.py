"""A process that asks the teacher, to be killed: python -m tests.teacher.killed URL RECORDS N."""

from __future__ import annotations

import sys

from livery.teacher import ask_each
from tests.teacher.endpoint import question, teacher


def main() -> None:
    url, records, count = sys.argv[1:]
    many = [question(f"q{n}", f"question {n}") for n in range(int(count))]
    for result in ask_each(many, teacher(url, concurrency=8), records):
        assert result.fault is None, result.fault
        print(result.at, flush=True)
    print("all", flush=True)


if __name__ == "__main__":
    main()
