"""A command that is killed again and again at changes of files, and started again each time.

    python -m tests.commands.killing PLACE '[3, "evaluation.json"]' MODULES WORDS…

`livery WORDS` runs in PLACE, in children of one process that has imported MODULES (a,b,c). Each but
the last dies by SIGKILL before its Nth change of a file below PLACE, or before what has that name
takes its place there. A run in PLACE/run is resumed. Prints the exit statuses as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from livery import cli
from tests.runs import die_at


def main() -> None:
    place, kills, modules, *words = sys.argv[1:]
    for module in filter(None, modules.split(",")):
        importlib.import_module(module)  # once, for all children
    ended = [child(Path(place), kill, words) for kill in [*json.loads(kills), 0]]
    print(json.dumps(ended))


def child(place: Path, kill: int | str, words: list[str]) -> int:
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    code = 1
    try:
        os.dup2(2, 1)  # what the command prints
        os.chdir(place)
        more = ["--resume"] if (place / "run" / "run_config.json").exists() else []
        if kill:
            die_at(kill, place)
        code = cli.run([*words, *more])
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
