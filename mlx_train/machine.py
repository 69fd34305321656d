"""What this machine lets MLX do: how many cores to keep busy, how much memory to hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import mlx.core as mx

from livery import blas
from livery.errors import UserError
from livery.machine import cores, free_swap, memory
from livery.reading import read_json
from mlx_train.deal import parts_of


def on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


def work_side_by_side() -> None:
    """On a CPU let MLX schedule streams in turn; call it before anything is evaluated.

    MLX orders a graph breadth first up to a width (20 nodes) and beyond it depth first. Then the
    rows of one stream come after those of the other, and since only a hundred operations or so may
    be on their way, one core waits: both were busy half the time. Wide enough, they run side by
    side, 1.45 times as fast on two cores. The operations and their numbers are the same.
    """
    if on_cpu():
        os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")


def set_memory_limits() -> None:
    """On Metal keep the model wired and stop the allocator before macOS would kill the process."""
    if not mx.metal.is_available():
        return
    limit: Any = mx.device_info().get("max_recommended_working_set_size")
    if limit:
        mx.set_wired_limit(int(limit))
        mx.set_memory_limit(int(limit))


def free_memory() -> tuple[int, int]:
    """(bytes that a run may hold, bytes that it may swap out beyond them).

    On Metal it is what macOS lets a GPU keep wired, the limit that `set_memory_limits` sets; on a
    CPU what the machine has free.
    """
    if mx.metal.is_available() and not on_cpu():
        limit: Any = mx.device_info().get("max_recommended_working_set_size")
        return int(limit or memory()[1]), 0
    return memory()[1], free_swap()


class Cores:
    """The cores of a CPU, shared out between MLX's streams and the BLAS.

    On a CPU MLX runs everything but matrix products on one thread a stream, and those other things
    are half of a small model's step. So a micro-batch's rows are dealt to as many streams as there
    are cores, each with a single-threaded BLAS. On a GPU there is one stream and nothing to share.

    Attributes:
        count: cores that this process may keep busy.
    """

    def __init__(self) -> None:
        self._blas = blas.handle() if on_cpu() else None
        self.count = 1
        if on_cpu():
            free = self._blas.openblas_get_num_threads() if self._blas else _allowed()
            self.count = max(1, int(free) // processes_here())
        self._streams: list[Any] = []

    def use(self, count: int) -> None:
        """Keep so many cores busy from now on."""
        self.count = count
        if self._blas is not None:
            self._blas.openblas_set_num_threads(count)

    def streams(self, prefix: int, rows: int, width: int) -> list[Any]:
        """Streams for a micro-batch of `rows` rows of `width` after `prefix` shared tokens; empty
        where it should stay whole."""
        parts = parts_of(self.count, prefix, rows, width)
        if parts == 1:
            return []
        while len(self._streams) < parts:
            self._streams.append(mx.new_stream(mx.Device(mx.cpu)))
        return self._streams[:parts]

    @contextlib.contextmanager
    def shared_between(self, streams: int) -> Generator[None]:
        """Inside, the BLAS takes an equal share of the cores for each of `streams` streams."""
        if self._blas is None:
            yield
            return
        before = self._blas.openblas_get_num_threads()
        self._blas.openblas_set_num_threads(max(1, self.count // max(1, streams)))
        try:
            yield
        finally:
            self._blas.openblas_set_num_threads(before)


def processes_here() -> int:
    """Processes of this run on this machine, by the file that mlx.launch hands to each."""
    name, rank = os.environ.get("MLX_HOSTFILE"), os.environ.get("MLX_RANK")
    if not name or not rank or not Path(name).is_file():
        return 1
    hosts = read_json(name)
    try:
        addresses = [str(host[0]).rpartition(":")[0] for host in hosts if host]
        mine = int(rank)
    except (TypeError, ValueError, LookupError):
        raise UserError(
            f"MLX_HOSTFILE {name} and MLX_RANK {rank!r} are not what mlx.launch sets; unset them."
        ) from None
    return max(1, addresses.count(addresses[mine])) if mine < len(addresses) else 1


def _allowed() -> int:
    """Cores this process may run on, by the system and by OMP_NUM_THREADS."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(asked)) if asked.isdigit() and int(asked) else cores()
