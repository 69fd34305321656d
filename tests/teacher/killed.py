"""A process that asks the teacher N questions, to be killed before it has taken more than MOST.

python -m tests.teacher.killed URL RECORDS N MOST
"""

from __future__ import annotations

import signal
import sys

from livery.teacher import ask_each
from tests.teacher.endpoint import question, teacher


def main() -> None:
    url, records, count, most = sys.argv[1:]
    many = [question(f"q{n}", f"question {n}") for n in range(int(count))]
    for taken, result in enumerate(ask_each(many, teacher(url, concurrency=8), records)):
        if taken == int(most):
            signal.pause()
        assert result.fault is None, result.fault
        print(result.at, flush=True)
    print("all", flush=True)


if __name__ == "__main__":
    main()
