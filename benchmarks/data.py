"""Large data sets: how long `data check` and `train --dry-run` take, and how much memory.

    python -m benchmarks.data --json data.json                 # 300,000 rows of 100 tokens
    python -m benchmarks.data --rows 30000

Each command is a process of its own, start-up included, with an empty cache; `again` is the same
`train --dry-run` once the encoded rows are kept. Peak memory is that process's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.convert import process
from benchmarks.measure import machine, report
from livery.paths import HOME

ROWS = 300_000
HELD_OUT = 1000
# With the system prompt and the template's own tokens these make 100 tokens of the embedded base's.
ASKED, ANSWERED = 36, 24


def make_rows(path: Path, count: int, words: list[str], seed: int) -> None:
    """Conversations of random words: none repeats another."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            asked = " ".join(rng.choices(words, k=ASKED))
            turns = [
                {"role": "system", "content": "You answer briefly."},
                {"role": "user", "content": f"{asked} {seed} {number}"},
                {"role": "assistant", "content": " ".join(rng.choices(words, k=ANSWERED))},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Large data sets: time and memory.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    text = (HOME / "datagen" / "date_keys" / "words.txt").read_text(encoding="utf-8")
    words = sorted({word for word in text.split() if word.isalpha()})
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        make_rows(data / "train.jsonl", arguments.rows, words, 1)
        make_rows(data / "valid.jsonl", HELD_OUT, words, 2)
        livery = [sys.executable, "-m", "livery"]
        cases = {
            "data-check": [*livery, "data", "check", str(data), "--model", "base_model"],
            "dry-run": [*livery, "train", "--dry-run", "--data", str(data)],
            "dry-run, again": [*livery, "train", "--dry-run", "--data", str(data)],
        }
        os.environ["XDG_CACHE_HOME"] = folder
        for name, command in cases.items():
            sample = process(command)
            results[name] = {"seconds": sample.seconds, "memory_mb": sample.memory / 1e6}
            rate = arguments.rows / sample.seconds
            print(
                f"{name}: {sample.seconds:.1f} s, {rate:,.0f} rows/s, {sample.memory / 1e6:.0f} MB",
                flush=True,
            )
    report(results, arguments.json)


if __name__ == "__main__":
    main()
