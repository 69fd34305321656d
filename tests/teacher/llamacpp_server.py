"""llama.cpp's own HTTP server in a process of its own: python -m tests.teacher.llamacpp_server F.

Prints its address, and serves until its standard input ends.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    import xllamacpp

    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # llama.cpp's log
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 512, 1, 0
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, file=channel, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
