"""Adapters in zip files: written with bytes that depend on content alone, read with suspicion.

Written: entries in the order of their names, stored (what deflate makes differs between versions
of zlib), all of 1980 and 0644. Read: every name and size of the directory is checked before
anything is unpacked, and only what an adapter consists of is.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from livery.errors import UserError, shown
from livery.files import atomic_write, explain_os_errors
from livery.reading import open_file
from livery.temporary import Scratch

# What of a base folder makes up its tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
# What an adapter's folder consists of, and its zip; everything else is left alone.
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
MLX_FILES = ("mlx/adapter_config.json", "mlx/adapters.safetensors")
GGUF_FILES = ("gguf/adapter.gguf",)
ABOUT = ("README.md", "LICENSE", "training_metadata.json")
MEMBERS = frozenset({*PEFT_FILES, *MLX_FILES, *GGUF_FILES, *TOKENIZER_FILES, *ABOUT})
_OTHERS = re.compile(r"adapters\.safetensors|(gguf/)?[^/]+\.gguf")  # folders that others zipped

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_ENTRIES = 10_000
# A zip may grow to this many times its size, and to so many bytes more: weights hardly shrink.
_GROWTH, _FLOOR = 100, 64 << 20
_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FAULTS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, ValueError,
    OverflowError, RuntimeError, MemoryError, LookupError,
)  # fmt: skip

_unpacked: list[Scratch] = []  # removed when the process ends


def is_zip(path: Path) -> bool:
    """Whether a file starts as a zip does."""
    try:
        with open_file(path) as file:
            return file.read(4) in _MAGIC
    except (UserError, OSError):
        return False  # whoever reads it says why


def is_packed(path: Path) -> bool:
    """Whether a zip holds nothing but what `write_zip` puts into an adapter's, or is not a zip and
    only called one."""
    if not is_zip(path):
        return path.suffix == ".zip"
    try:
        with zipfile.ZipFile(path) as archive:
            return all(entry.filename in MEMBERS for entry in archive.infolist())
    except (OSError, *_FAULTS):
        return False


def write_zip(
    path: Path, members: Mapping[str, Path], progress: Callable[[int], None] | None = None
) -> None:
    """Write `members` (name in the zip -> file) atomically; the same members give the same bytes.

    `progress` is called with how many bytes more were written.
    """
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, source in sorted(members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = source.stat().st_size
            with source.open("rb") as read, archive.open(entry, "w") as write:
                while chunk := read.read(_CHUNK):
                    write.write(chunk)
                    if progress:
                        progress(len(chunk))


def unpack(path: Path) -> Path:
    """Unpack the adapter in a zip to a temporary folder that lasts as long as the process.

    Raises:
        UserError: it is damaged, or holds a path that leads out of it, a link, a name twice, an
            encrypted entry, or far more than its own size.
    """
    made = Scratch("zip")
    folder = made.path
    try:
        with explain_os_errors(folder, "unpacking"), zipfile.ZipFile(path) as archive:
            for name, entry in _members(path, archive).items():
                with archive.open(entry) as source:
                    _copy(path, source, folder / name, entry)
    except UserError:
        made.cleanup()
        raise
    except _FAULTS as error:
        made.cleanup()
        raise _broken(path, str(error) or type(error).__name__) from None
    except OSError as error:
        made.cleanup()
        raise _broken(path, error.strerror or str(error)) from None
    _unpacked.append(made)
    return folder


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Name within the adapter -> entry, everything checked."""
    entries = archive.infolist()
    size = path.stat().st_size
    if len(entries) > _MOST_ENTRIES:
        raise UserError(f"{path}: holds {len(entries):,} files; an adapter has about a dozen.")
    if sum(entry.compress_size for entry in entries) > size:
        raise UserError(f"{path}: its entries overlap: a zip bomb or a damaged file.")
    total = sum(entry.file_size for entry in entries)
    if total > _GROWTH * size + _FLOOR:
        raise UserError(
            f"{path}: would unpack from {size:,} to {total:,} bytes, which no adapter does."
        )
    seen: set[str] = set()
    for entry in entries:
        _check_entry(path, entry)
        folded = entry.filename.rstrip("/").casefold()
        if folded in seen:
            raise UserError(f"{path}: {entry.filename!r} occurs twice; repack it.")
        seen.add(folded)
    files = {entry.filename: entry for entry in entries if not entry.is_dir()}
    top = _only_folder(files)
    found = {name.removeprefix(top): entry for name, entry in files.items()}
    return {n: e for n, e in found.items() if n in MEMBERS or _OTHERS.fullmatch(n)}


def _only_folder(names: Mapping[str, zipfile.ZipInfo]) -> str:
    """ "name/" where all files are in one folder (macOS adds its own beside it); else ""."""
    tops = {name.partition("/")[0] for name in names if not name.startswith("__MACOSX/")}
    inside = all("/" in name for name in names)
    top = next(iter(tops)) if len(tops) == 1 and inside else ""
    return f"{top}/" if top and top not in ("mlx", "gguf") else ""


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or ".." in parts
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or any(not char.isprintable() for char in name)
    ):
        raise UserError(f"{path}: {name!r} leads out of the folder or is not a plain file name.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{path}: {name!r} is a link or a device, not a file.")
    if entry.flag_bits & 1:
        raise UserError(f"{path}: {name!r} is encrypted; repack it without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{path}: {name!r} is compressed in a way Livery cannot read; use deflate.")


def _copy(path: Path, source: IO[bytes], target: Path, entry: zipfile.ZipInfo) -> None:
    target.parent.mkdir(exist_ok=True)
    left = entry.file_size
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _broken(path, f"{entry.filename!r} is longer than its entry says")
            file.write(chunk)
    if left:
        raise _broken(path, f"{entry.filename!r} is shorter than its entry says")


def _broken(path: Path, why: str) -> UserError:
    # zipfile quotes a damaged header whole.
    return UserError(
        f"{path}: not a complete zip file: {shown(why, 200)}. Download or pack it again."
    )


def copy_file(source: Path, target: Path) -> None:
    """Copy one file, whole or not at all."""
    with source.open("rb") as read, atomic_write(target) as write:
        shutil.copyfileobj(read, write, _CHUNK)
