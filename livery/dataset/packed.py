"""A file of rows as it is on the disk, and its bytes: unpacked, out of a zip, within bounds.

    for chunk in read_chunks(Source(Path("rows.zip"), "train.jsonl.gz")): ...

A damaged file is a UserError that says so, and one that grows beyond what data grow to is refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from livery.errors import UserError, shown
from livery.reading import open_file

ReadSoFar = Callable[[int], None]
FORMATS = {
    ".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".csv": "table", ".tsv": "table",
    ".parquet": "parquet",
}  # fmt: skip
PACKED = (".gz", ".zst", ".bz2", ".xz")
# Text may grow to so many times its packed size, and to so many bytes more: rows that share a long
# prompt shrink some fiftyfold.
_GROWTH, FLOOR = 200, 64 << 20
CHUNK = 1 << 18
_FAULTS = (
    OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file of rows: on the disk, or a member of a zip.

    Attributes:
        path: of the file, or of the zip that holds it.
        member: its name within the zip; "" for a file of its own.
    """

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return shown(f"{self.path}/{self.member}" if self.member else self.path, 1000)

    def size(self) -> int:
        """Bytes that it takes on the disk."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).compress_size
        return self.path.stat().st_size

    @property
    def format(self) -> str:
        """One of the values of FORMATS; a name of no known ending is taken for JSON lines."""
        return FORMATS.get(Path(self.plain_name).suffix.lower(), "lines")

    @property
    def packing(self) -> str:
        """One of PACKED, or ""."""
        suffix = Path(self.member or self.path.name).suffix.lower()
        return {".zstd": ".zst"}.get(suffix, suffix if suffix in PACKED else "")

    @property
    def plain_name(self) -> str:
        """The file's name without the ending of its packing."""
        name = self.member or self.path.name
        return name[: -len(Path(name).suffix)] if self.packing else name


def most_bytes(packed: int) -> int:
    """Bytes that a file of so many packed bytes may grow to."""
    return _GROWTH * packed + FLOOR


def bomb(source: Source, packed: int) -> UserError:
    remedy = "Write its rows as JSON lines" if source.format == "parquet" else "Unpack it yourself"
    return UserError(
        f"{source}: grows from {packed:,} to more than {most_bytes(packed):,} bytes, which no "
        f"data set does: a bomb, or damaged. {remedy} if it is what you meant."
    )


def import_pyarrow(source: Source, what: str) -> Any:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"{source}: {what} are read with pyarrow, which cannot be imported ({error}). Install "
            "it with: pip install 'livery[data]'"
        ) from None
    return pyarrow


def read_chunks(source: Source, read: ReadSoFar = lambda size: None) -> Generator[bytes]:
    """The file's bytes, unpacked."""
    with _opened(source) as (file, size, position), explained(source):
        most = most_bytes(size)
        packed = bool(source.packing or source.member)
        total = 0
        read_some: Any = getattr(file, "read1", file.read)  # what comes before a fault is kept
        while chunk := read_some(CHUNK):
            total += len(chunk)
            if packed and total > most:
                raise bomb(source, size)
            read(position())
            yield chunk


@contextmanager
def _opened(source: Source) -> Generator[tuple[IO[bytes], int, Callable[[], int]]]:
    """(the unpacked stream, its size while packed, how much of that is read)."""
    with open_file(source.path) as file, explained(source):
        size = source.path.stat().st_size
        stream: Any = file
        position = file.tell
        if source.member:
            archive = zipfile.ZipFile(file)
            entry = archive.getinfo(source.member)
            member = stream = archive.open(entry)
            size = entry.compress_size

            def position() -> int:
                return size * member.tell() // max(1, entry.file_size)

        yield _UNPACK[source.packing](stream, source) if source.packing else stream, size, position


@contextmanager
def seekable(source: Source) -> Generator[IO[bytes]]:
    if not (source.member or source.packing):
        with open_file(source.path) as file:
            yield file
        return
    import tempfile

    with tempfile.TemporaryFile() as file:
        for chunk in read_chunks(source):
            file.write(chunk)
        file.seek(0)
        yield file


def _zstd(file: IO[bytes], source: Source) -> Any:
    try:
        from compression import zstd  # Python 3.14  # pyright: ignore[reportMissingImports]
    except ImportError:
        arrow = import_pyarrow(source, ".zst files")
        return arrow.CompressedInputStream(arrow.PythonFile(file, mode="r"), "zstd")
    return zstd.ZstdFile(file)


_UNPACK: dict[str, Callable[[IO[bytes], Source], Any]] = {
    ".gz": lambda file, source: gzip.GzipFile(fileobj=file),
    ".bz2": lambda file, source: bz2.BZ2File(file),
    ".xz": lambda file, source: lzma.LZMAFile(file),  # noqa: SIM115
    ".zst": _zstd,
}


@contextmanager
def explained(source: Source, faults: tuple[type[Exception], ...] = ()) -> Generator[None]:
    """Turn a reader's refusals of a damaged file into a UserError."""
    try:
        yield
    except UserError:
        raise
    except (*_FAULTS, *faults) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        kind = source.packing or ("zip" if source.member else source.format)
        raise UserError(
            f"{source}: not a complete {kind.lstrip('.')} file: {shown(reason)}. Download or make "
            "it again."
        ) from None
