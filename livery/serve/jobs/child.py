"""The wrapper of a step: runs a command, and writes down how it ended.

    python -m livery.serve.jobs.child RECORD FD,FD LOG_START COMMAND…

It is the leader of the step's session. The descriptors are locks, which it and the command hold as
long as they live (see `livery.serve.jobs.process`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from livery.files import write_json
from livery.serve.jobs.process import boot, host, oom_kills

# What the kernel killed up to two of these seconds before the command's end may have been it.
_WINDOW = 15.0


def main(arguments: list[str]) -> None:
    record, descriptors, log_start, *command = arguments
    locks = [int(word) for word in descriptors.split(",")]
    early: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Meant for the command, which gets its own copy. A handler and not SIG_IGN, which the
        # command would inherit.
        signal.signal(number, lambda number, _: early.append(number))
    facts: dict[str, Any] = {
        "pid": os.getpid(), "host": host(), "boot": boot(),
        "log_start": int(log_start), "started": time.time(),
    }  # fmt: skip
    write_json(record, facts)
    before = now = oom_kills()
    process = subprocess.Popen(command, pass_fds=locks)
    for number in early:  # came before there was a command to take it
        process.send_signal(number)
    while True:
        try:
            code = process.wait(_WINDOW)
            break
        except subprocess.TimeoutExpired:
            before, now = now, oom_kills()  # long ago is somebody else's
    facts |= {"ended": time.time(), "oom": oom_kills() > before}
    facts |= {"signal": -code} if code < 0 else {"code": code}
    write_json(record, facts)
    # What the command has left running, and this process with it: the locks are free after that.
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    main(sys.argv[1:])
