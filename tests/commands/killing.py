"""A command that is killed again and again at changes of files, and started again each time.

    python -m tests.commands.killing PLACE '[3, "evaluation.json"]' WORDS…

`livery WORDS` runs in PLACE, in forks of one process. Each but the last dies by SIGKILL before its
Nth change of a file below PLACE, or before what has that name takes its place there. A run in
PLACE/run is resumed. Prints the exit statuses as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

from livery import cli
from tests import forks
from tests.runs import die_at


def main() -> None:
    place, kills, *words = sys.argv[1:]
    ended = [
        forks.child(partial(run, Path(place), kill, words)) for kill in [*json.loads(kills), 0]
    ]
    print(json.dumps(ended))


def run(place: Path, kill: int | str, words: list[str]) -> int:
    os.dup2(2, 1)  # what the command prints
    os.chdir(place)
    more = ["--resume"] if (place / "run" / "run_config.json").exists() else []
    if kill:
        die_at(kill, place)
    return cli.run([*words, *more])


if __name__ == "__main__":
    main()
