"""What is done with files of rows that people send, in a process of its own with bounds on it.

    python -m livery.serve.rows unpack UPLOAD FOLDER BYTES ENTRIES
    python -m livery.serve.rows check FILE_OR_FOLDER PROBLEMS
    python -m livery.serve.rows jsonl DATASET SPLIT OUT BYTES
    python -m livery.serve.rows parquet ROWS.jsonl OUT

Prints one JSON object. A file that is made to take all memory takes this process's.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import resource
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from livery.dataset.conversation import RowError
from livery.dataset.packed import FORMATS
from livery.dataset.raw import raw_rows
from livery.dataset.sources import find
from livery.errors import LiveryError, UserError, quoted, shown
from livery.files import atomic_write, read_jsonl
from livery.serve.settings import is_name

_MEMORY = 4 << 30
_SECONDS = 300
_CHUNK = 1 << 18
_DAMAGE = (
    zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, zlib.error,
    lzma.LZMAError, OSError,
)  # fmt: skip
_ABOUT = ("manifest", "readme", "license")  # may lie beside rows, whatever their endings


def main(words: list[str]) -> None:
    """Do what the words say and print what came of it."""
    doing: dict[str, Callable[..., dict[str, Any]]] = {
        "unpack": unpack, "check": check, "jsonl": write_jsonl, "parquet": write_parquet,
    }  # fmt: skip
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # a system without that limit
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
    try:
        said = doing[words[0]](*words[1:])
    except MemoryError:
        said = {"error": {"message": "It takes more memory than a file of rows should."}}
    except LiveryError as error:
        said = {"error": {"message": str(error)}}
    print(json.dumps(said))


def unpack(upload: str, folder: str, most: str, entries: str) -> dict[str, Any]:
    """Write the files of a zip that are rows into a new folder.

    Raises:
        UserError: it holds something else, too many files or bytes, or is damaged.
    """
    _check_directory(Path(upload), int(entries))
    left = int(most)
    names: list[str] = []
    try:
        with zipfile.ZipFile(upload) as archive:
            if len(archive.infolist()) > int(entries):  # whatever the table said of itself
                raise _too_many(entries)
            listed = [one for one in archive.infolist() if not one.is_dir()]
            chosen = [one for one in listed if not _hidden(one.filename)]
            for entry in chosen:
                _check_entry(entry)
            # A folder that holds everything is left out.
            tops = {one.filename.partition("/")[0] for one in chosen}
            top = f"{tops.pop()}/" if len(tops) == 1 else ""
            for entry in chosen:
                name = entry.filename
                name = name.removeprefix(top) if "/" in name else name
                place = Path(folder, *PurePosixPath(name).parts)
                if place.exists():
                    raise UserError(f"The zip holds {quoted(name)} twice.")
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, place.open("xb") as out:
                    while chunk := source.read(_CHUNK):
                        left -= len(chunk)
                        if left < 0:
                            raise UserError(
                                f"The zip unpacks to more than {int(most):,} bytes: a zip bomb, or "
                                "more than this server takes."
                            )
                        out.write(chunk)
                names.append(name)
    except (FileExistsError, NotADirectoryError):
        raise UserError("The zip holds a file and a folder of one name.") from None
    except _DAMAGE as error:
        raise UserError(f"Not a complete zip file: {shown(error, 200)}.") from None
    if not names:
        raise UserError("The zip holds no files of rows.")
    return {"files": names}


def _check_directory(path: Path, entries: int) -> None:
    """Refuse a zip whose table of files is too large to be read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 65_557))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise UserError("Not a complete zip file: its table of files is missing.")
    count, table = struct.unpack_from("<HI", tail, at + 10)
    # 0xFFFF and 0xFFFFFFFF stand for more than 65,534 files, or for 4 GB. A second table of that
    # kind would be read in place of this one, whatever this one says.
    if count > entries or table > entries * 1024 or b"PK\x06\x07" in tail[max(0, at - 20) : at]:
        raise _too_many(entries)


def _too_many(entries: int | str) -> UserError:
    return UserError(f"The zip holds more than {int(entries):,} files, or is a ZIP64 file.")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    known = Path(name).suffix.lower() in FORMATS or Path(name).stem.lower() in _ABOUT
    if len(parts) > 4 or not all(map(is_name, parts)):
        raise UserError(f"The zip holds {quoted(name)}, which is not a plain file name.")
    if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
        raise UserError(f"The zip holds {quoted(name)}, which is a link or encrypted.")
    if not known:
        kinds = ", ".join(FORMATS)
        raise UserError(f"The zip holds {quoted(name)}, which is not a file of rows ({kinds}).")


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in name.split("/"))


def check(place: str, most: str) -> dict[str, Any]:
    """What `livery data check` says, within this process's bounds, with so many of its problems:
    first of those that training would refuse.

    Raises:
        UserError: it did not come to an end.
    """
    words = [sys.executable, "-m", "livery", "data", "check", place, "--json"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it was ended"])[-1]
        raise UserError(
            "The rows cannot be checked within the memory and time that a file of rows may take "
            f"({shown(last, 200)})."
        ) from None
    if "problems" in said:
        said["problems"] = sorted(said["problems"], key=_not_refused)[: int(most)]
    return said


def _not_refused(problem: dict[str, Any]) -> bool:
    return problem["kind"] != "form"


def write_jsonl(dataset: str, split: str, out: str, most: str) -> dict[str, Any]:
    """Write a split's rows, of whatever format and however many files, as JSON lines.

    A row that cannot be read becomes {"error": why}: line N is row N all the same.

    Raises:
        UserError: they would take more bytes than `most`; nothing is left of them.
    """
    count, left = 0, int(most)
    with atomic_write(Path(out), "w") as file:
        for source in dict(find(dataset).items()).get(split, ()):
            for _, row in raw_rows(source):
                said = {"error": str(row)} if isinstance(row, RowError) else row
                line = json.dumps(said, ensure_ascii=False) + "\n"
                left -= len(line.encode())
                if left < 0:
                    raise UserError(
                        f"{split} grows to more than {int(most):,} bytes as JSON lines: a bomb, or "
                        "more than is shown here. Write its rows as JSON lines."
                    )
                file.write(line)
                count += 1
    return {"rows": count}


def write_parquet(rows: str, out: str) -> dict[str, Any]:
    """Write JSON lines as Parquet, a column a key.

    Raises:
        UserError: pyarrow is missing, or the rows do not have one type a column; what was written
            is read again and compared.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "Parquet is written with pyarrow, which is not installed: pip install 'livery[data]'"
        ) from None
    found = [row for _, row in read_jsonl(rows)]
    keys = list(dict.fromkeys(key for row in found for key in row))
    columns: list[Any] = []
    for key in keys:
        try:
            columns.append(pyarrow.array([row.get(key) for row in found]))
        except (pyarrow.ArrowException, OverflowError) as error:
            raise UserError(
                f"{quoted(key)} does not have one type in all rows ({_first(error)}). Export JSONL."
            ) from None
    try:
        table = pyarrow.table(dict(zip(keys, columns, strict=True)))
        with atomic_write(Path(out), "wb") as file:
            pyarrow.parquet.write_table(table, file)
    except pyarrow.ArrowException as error:
        raise UserError(f"The rows have no Parquet form ({_first(error)}). Export JSONL.") from None
    again = pyarrow.parquet.read_table(out).to_pylist()
    for number, (row, back) in enumerate(zip(found, again, strict=True), start=1):
        if _without_null(row) != _without_null(back):
            Path(out).unlink()
            raise UserError(f"Row {number} would read differently as Parquet. Export JSONL.")
    return {"rows": len(found)}


def _without_null(value: Any) -> Any:
    """What a Parquet file cannot tell from a missing key, left out."""
    if isinstance(value, dict):
        kept = {key: _without_null(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def _first(error: Exception) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0], 200)


if __name__ == "__main__":
    main(sys.argv[1:])
