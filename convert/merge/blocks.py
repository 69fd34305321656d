"""Model tensors computed and written in blocks of rows, by all cores, in memory that is used again.

Every thread reads a block, widens it to float32, lets the changes work on it in place, rounds it
once to the stored type and writes it where it belongs in the file. Blocks are small enough to stay
in a core's cache through all of that; what a merge costs beyond copying is hardly more than the
matrix product.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from livery.blas import numpy_on_one_thread
from livery.machine import cores
from livery.progress import OnProgress
from livery.safetensors_file import Entry, TensorFile, encode

BLOCK = 1 << 18  # values in a block: 1 MB of float32
COPIED = 4 << 20  # bytes copied at a time
_BITS = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}


class Workspace:
    """A thread's arrays and open files, used again for every block."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}
        self._files: dict[tuple[Path, str], IO[bytes]] = {}

    def array(self, key: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised array of that shape in the buffer called `key`."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        found = self._buffers.get(key)
        if found is None or found.nbytes < size:
            found = self._buffers[key] = np.empty(size, np.uint8)
        return found[:size].view(dtype).reshape(shape)

    def file(self, path: Path, mode: str) -> IO[bytes]:
        """The file, open and unbuffered."""
        if (path, mode) not in self._files:
            self._files[path, mode] = path.open(mode, buffering=0)
        return self._files[path, mode]

    def read(self, path: Path, start: int, into: np.ndarray) -> np.ndarray:
        """Fill a contiguous array from the file's bytes at `start`; returns it."""
        file, view = self.file(path, "rb"), _bytes(into)
        file.seek(start)
        while view:
            count = file.readinto(view)  # pyright: ignore[reportAttributeAccessIssue]
            if not count:
                raise OSError(f"{path} ended at byte {file.tell()} while it was read")
            view = view[count:]
        return into

    def write(self, path: Path, start: int, array: np.ndarray) -> None:
        """Write a contiguous array's bytes at `start`."""
        file, view = self.file(path, "r+b"), _bytes(array)
        file.seek(start)
        while view:
            view = view[file.write(view) :]

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _bytes(array: np.ndarray) -> memoryview:
    """A contiguous array's own bytes."""
    return array.reshape(-1).data.cast("B") if array.size else memoryview(b"")


class Change(Protocol):
    """What an adapter does to one tensor."""

    @property
    def whole(self) -> bool:
        """It needs all rows of the tensor at once."""
        ...

    def apply(self, rows: np.ndarray, first: int, space: Workspace) -> None:
        """Change float32 rows (n, …) in place; they are rows `first` … of the tensor."""
        ...


class Source(Protocol):
    """Where a tensor's float32 values come from."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def step(self) -> int:
        """Blocks begin at multiples of so many rows."""
        ...

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        """Rows first … last-1, float32 (n, …), in an array of the workspace."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor that is stored as floats."""

    file: TensorFile
    name: str
    step: int = 1

    @property
    def entry(self) -> Entry:
        return self.file.entries[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        dtype = self.file.dtype(self.name)
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        start = self.entry.start + first * math.prod(self.shape[1:]) * WIDTH[dtype]
        rows = space.array("rows", np.float32, shape)
        if dtype == "float32":
            return space.read(self.file.path, start, rows)
        raw = space.read(self.file.path, start, space.array("raw", _BITS[dtype], shape))
        if dtype == "float16":
            np.copyto(rows, raw)
        else:
            bits = rows.view(np.uint32)
            np.copyto(bits, raw)
            np.left_shift(bits, 16, out=bits)
        return rows


@dataclass(frozen=True)
class Zeros:
    """A tensor of zeros."""

    shape: tuple[int, ...]
    step: int = 1

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        rows = space.array("rows", np.float32, (last - first, *self.shape[1:]))
        rows.fill(0.0)
        return rows


def view(file: TensorFile, name: str, shape: tuple[int, ...], skip: int = 0) -> Stored:
    """A part of a stored tensor in another shape, from its value number `skip` on."""
    entry, width = file.entries[name], WIDTH[file.dtype(name)]
    start = entry.start + skip * width
    part = Entry(entry.tag, shape, start, start + math.prod(shape) * width)
    assert part.end <= entry.end
    return Stored(TensorFile(file.path, {name: part}, {}), name)


@dataclass(frozen=True)
class Computed:
    """A tensor to be written: values, what changes them, and where the result goes."""

    name: str
    source: Source
    changes: Sequence[Change]
    dtype: str
    path: Path
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.source.shape) * WIDTH[self.dtype]


@dataclass(frozen=True)
class Copied:
    """Bytes that are copied as they are; `dtype` where they are the floats of the tensor `name`."""

    source: Path
    first: int
    last: int
    path: Path
    start: int
    name: str = ""
    dtype: str = ""

    @property
    def nbytes(self) -> int:
        return self.last - self.first


Job = Computed | Copied


@dataclass
class Odd:
    """Values that are NaN or infinite in one tensor.

    Attributes:
        base: how many there were before anything changed it.
        written: how many were written.
    """

    base: int = 0
    written: int = 0


@dataclass
class Account:
    """What was seen while tensors were written, by name; only those with odd values."""

    odd: dict[str, Odd] = field(default_factory=dict[str, Odd])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, base: int, written: int) -> None:
        if base or written:
            with self.lock:
                entry = self.odd.setdefault(name, Odd())
                entry.base += base
                entry.written += written


def write(jobs: Sequence[Job], moved: OnProgress | None = None) -> dict[str, Odd]:
    """Do all jobs; the files they write to exist already and are long enough.

    Returns the tensors that hold NaN or infinity, and how many.
    """
    account = Account()
    total = sum(job.nbytes for job in jobs)
    done = 0
    if moved:
        moved(0, total)
    local = threading.local()
    spaces: list[Workspace] = []

    def work(task: Task) -> int:
        if not hasattr(local, "space"):
            local.space = Workspace()
            spaces.append(local.space)
        return task(local.space, account)

    workers = cores()
    tasks = (task for job in jobs for task in _tasks(job))
    waiting: set[Future[int]] = set()
    try:
        with numpy_on_one_thread(), ThreadPoolExecutor(workers) as pool:
            for task in tasks:
                waiting.add(pool.submit(work, task))
                if len(waiting) > 4 * workers:
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    done += sum(future.result() for future in ended)
                    if moved:
                        moved(done, total)
            done += sum(future.result() for future in waiting)
    finally:
        for space in spaces:
            space.close()
    if moved:
        moved(done, total)
    return account.odd


Task = Callable[[Workspace, Account], int]


def _tasks(job: Job) -> Iterable[Task]:
    if isinstance(job, Copied):
        for first in range(job.first, job.last, COPIED):
            last = min(first + COPIED, job.last)
            yield lambda space, account, first=first, last=last: _copy(
                job, first, last, space, account
            )
        return
    count = job.source.shape[0] if job.source.shape else 1
    rows = count
    if not any(change.whole for change in job.changes):
        row = math.prod(job.source.shape[1:])
        rows = max(BLOCK // max(row, 1) // job.source.step, 1) * job.source.step
    for first in range(0, count, max(rows, 1)):
        last = min(first + rows, count)
        yield lambda space, account, first=first, last=last: compute(
            job, first, last, space, account
        )


def _copy(job: Copied, first: int, last: int, space: Workspace, account: Account) -> int:
    block = space.read(job.source, first, space.array("raw", np.uint8, (last - first,)))
    space.write(job.path, job.start + first - job.first, block)
    if job.dtype:
        count = _count_odd(block.view(_BITS[job.dtype]), job.dtype, space)
        account.add(job.name, count, count)
    return last - first


# Bits that are all set in NaN and infinity, and in nothing else.
_EXPONENT = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}


def _count_odd(values: np.ndarray, dtype: str, space: Workspace) -> int:
    """How many of the values, in `dtype`'s bits, are NaN or infinite."""
    if not values.size:
        return 0
    mask = _EXPONENT[dtype]
    whole = values.view("<u4" if dtype == "float32" else "<u2")
    bits = space.array("exponents", whole.dtype, whole.shape)
    np.bitwise_and(whole, whole.dtype.type(mask), out=bits)
    return 0 if bits.max() < mask else int((bits == mask).sum())


def compute(job: Computed, first: int, last: int, space: Workspace, account: Account) -> int:
    rows = job.source.read(first, last, space)
    before = _count_odd(rows, "float32", space)
    for change in job.changes:
        change.apply(rows, first, space)
    bits = _rounded(rows, job.dtype, space)
    row = math.prod(job.source.shape[1:]) * WIDTH[job.dtype]
    space.write(job.path, job.start + first * row, bits)
    account.add(job.name, before, _count_odd(bits, job.dtype, space))
    return bits.nbytes


def _rounded(rows: np.ndarray, dtype: str, space: Workspace) -> np.ndarray:
    """The rows in `dtype`'s bits, as `safetensors_file.encode` has them; `rows` is used up."""
    if dtype == "float32" or not rows.size:
        return rows
    if dtype == "float16" or np.isnan(rows.max()):  # a NaN anywhere is the maximum
        return encode(rows, dtype)
    bits = rows.view(np.uint32)
    odd = space.array("odd", np.uint32, bits.shape)
    np.right_shift(bits, 16, out=odd)
    np.bitwise_and(odd, 1, out=odd)
    np.add(odd, 0x7FFF, out=odd)
    np.add(bits, odd, out=bits)
    np.right_shift(bits, 16, out=bits)
    out = space.array("out", "<u2", bits.shape)
    np.copyto(out, bits, casting="unsafe")
    return out
