"""One adapter as one zip that every runtime's user can unpack: PEFT, tokenizer, `mlx/`, `gguf/`.

Forms that the folder lacks are made; those it has are read, compared with each other, and packed
byte for byte. The same folder gives the same bytes on every machine.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert import archive
from convert.adapters import formats
from convert.archive import ABOUT, GGUF_FILES, MLX_FILES, PEFT_FILES, TOKENIZER_FILES
from convert.base import Base, load_base
from convert.check.case import Form
from convert.check.forms import find_forms
from convert.pack import card
from convert.pack.folder import verdicts_on
from livery import outputs
from livery.adapter import Adapter, Format, Pair
from livery.errors import UserError, printable
from livery.files import CannotWrite, atomic_write, sha256
from livery.models import find_base
from livery.progress import OnProgress
from livery.temporary import Scratch

_FILES: Mapping[Format, tuple[str, ...]] = {
    "peft": PEFT_FILES,
    "mlx": MLX_FILES,
    "gguf": GGUF_FILES,
}
# Two forms of one adapter differ by what they are rounded to; q8_0 by a 254th of a block's largest.
_ROUNDING = 2.0**-7


@dataclass(frozen=True)
class Contents:
    """What goes into the zip.

    Attributes:
        members: name in the zip -> file.
        made: formats that were made for it.
        left_out: format -> why it is not there.
        notes: for the user.
    """

    adapter: Adapter
    members: Mapping[str, Path]
    made: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()


def pack(
    adapter: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write the zip and say what is in it.

    Args:
        adapter: a folder, a .gguf file or a zip.
        out: the new zip.
        base: the base model, for the forms that need it, and the tokenizer; by default the one
            that the adapter names, where it is here.
        overwrite: replace a zip that an earlier call wrote.
        progress: called with (bytes written, bytes in all).

    Returns:
        "path", "bytes", "sha256", "files" (name -> bytes), "made" (formats that the folder lacked),
        "left_out" (format -> why) and "notes".

    Raises:
        UserError: the adapter cannot be read, its forms are not the same adapter, it has no PEFT
            form, or something in the folder is not what it should be; `out` exists.
    """
    out = Path(out)

    def check_free(*read: outputs.Input) -> None:
        outputs.check_file(
            out,
            overwrite=overwrite,
            inputs=read,
            ours=archive.is_packed,
            what="an adapter's zip as livery pack writes it",
        )

    check_free(adapter, base)
    with Scratch("pack") as scratch:
        found = gather(Path(adapter), base, scratch)
        check_free(adapter, base, *found.members.values())
        total = sum(file.stat().st_size for file in found.members.values())
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress(done, total)

        archive.write_zip(out, found.members, moved)
        sizes = {name: file.stat().st_size for name, file in sorted(found.members.items())}
    return {
        "path": str(out),
        "bytes": out.stat().st_size,
        "sha256": sha256(out),
        "files": sizes,
        "made": list(found.made),
        "left_out": dict(found.left_out),
        "notes": list(found.notes),
    }


def gather(path: Path, base: str | Path | None, scratch: Path) -> Contents:
    """Collect the files, making what is missing in `scratch`. Raises UserError, see `pack`."""
    if archive.is_zip(path):
        path = archive.unpack(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        for name in sorted(archive.MEMBERS):
            if os.path.lexists(path / name):  # before anything of it is opened
                check_file(path / name, (path,))
    known, forms = _read(path, base)
    first = next(iter(forms.values()))
    assert first.adapter is not None
    adapter = formats.with_base(first.adapter, known)
    members: dict[str, Path] = {}
    for format, form in forms.items():
        members.update(_members(format, form))
        _check_same(first, form)
    made: list[str] = []
    left_out: dict[str, str] = {}
    notes = list(adapter.notes)
    for format in formats.FORMATS:
        if format in forms:
            continue
        try:
            notes += _make(adapter, format, scratch, known, first.format)
        except CannotWrite:
            raise
        except UserError as error:
            if format == "peft":
                raise
            left_out[format] = str(error)
            continue
        members.update({name: scratch / name for name in _FILES[format]})
        made.append(format)
    tokenizer = _tokenizer(folder if path.is_dir() else None, known)
    if not tokenizer:
        notes.append(
            "no tokenizer: neither in this folder nor in a base on this machine; give --base."
        )
    members.update(tokenizer)
    members.update(_about(path, adapter, members, made, left_out, scratch, known))
    if Path(adapter.base_model).is_absolute():
        notes.append(f"names its base by a path of this machine: {adapter.base_model}")
    if "training_metadata.json" in members and re.search(rb'": "(/|[A-Z]:)', _metadata(members)):
        notes.append("training_metadata.json names paths of this machine.")
    for file in members.values():
        check_file(file, (folder, scratch, *((known.folder,) if known else ())))
    return Contents(adapter, members, tuple(made), left_out, tuple(notes))


def _read(path: Path, base: str | Path | None) -> tuple[Base | None, dict[Format, Form]]:
    """The base and the forms, every one readable."""
    known = load_base(base) if base else None
    forms = find_forms(path, known)
    if known is None:
        named = [form.adapter.base_model for form in forms.values() if form.adapter]
        here = next((name for name in named if find_base(name)), None)
        if here:
            known = load_base(here)
            forms = find_forms(path, known)
    for form in forms.values():
        if form.adapter is None:
            raise UserError(form.refusal)
    return known, forms


def _metadata(members: Mapping[str, Path]) -> bytes:
    return members["training_metadata.json"].read_bytes()


def _members(format: Format, form: Form) -> dict[str, Path]:
    if format == "gguf":
        return {GGUF_FILES[0]: form.path}
    return {name: form.path / name.rpartition("/")[2] for name in _FILES[format]}


def _make(
    adapter: Adapter, format: Format, scratch: Path, base: Base | None, source: Format
) -> list[str]:
    place = scratch if format == "peft" else scratch / format
    return formats.write_adapter(adapter, place, format, base=base, source=source)


def _tokenizer(folder: Path | None, base: Base | None) -> dict[str, Path]:
    """The adapter's own tokenizer files, else its base's."""
    for place in (folder, base.folder if base else None):
        if place is None:
            continue
        found = {name: place / name for name in TOKENIZER_FILES if (place / name).is_file()}
        if "tokenizer_config.json" in found or "tokenizer.json" in found:
            return found
    return {}


def _about(
    path: Path,
    adapter: Adapter,
    members: Mapping[str, Path],
    made: list[str],
    left_out: Mapping[str, str],
    scratch: Path,
    base: Base | None,
) -> dict[str, Path]:
    """Card, licence and metadata; the card is written or completed where forms were made."""
    found = {name: path / name for name in ABOUT if (path / name).is_file()}
    if "README.md" in found and not made and not left_out:
        return found
    held = [format for format in formats.FORMATS if _FILES[format][0] in members]
    for name, file in members.items():
        if not (scratch / name).exists():  # what check looks at, in one folder
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).symlink_to(file.resolve())
    verdicts = verdicts_on(adapter, scratch, base)
    says: dict[str, Any] = {"formats": held, "left_out": left_out, "verdicts": verdicts}
    if "README.md" in found:
        check_file(found["README.md"], (path,))
        old = found["README.md"].read_text(encoding="utf-8", errors="replace")
        text = card.with_loading(old, adapter, **says)
    else:
        text = card.render(adapter, {}, **says)
    with atomic_write(scratch / "README.md", "w") as file:
        file.write(text)
    return {**found, "README.md": scratch / "README.md"}


def check_file(file: Path, roots: tuple[Path, ...]) -> None:
    """A plain file that is where it seems to: below one of `roots`, or in the hub's cache.

    Raises:
        UserError: it is not a file, or a link that leads elsewhere: its target was never meant to
            be shared.
    """
    target = file.resolve()
    if not target.exists() or not stat.S_ISREG(target.stat().st_mode):
        raise UserError(f"{file}: not a plain file; an adapter consists of files alone.")
    allowed = [root.resolve() for root in roots]
    # The hub's cache keeps snapshots/REVISION/name as links to blobs/.
    allowed += [root.parent.parent / "blobs" for root in allowed if root.parent.name == "snapshots"]
    if not any(target.is_relative_to(root) for root in allowed):
        raise UserError(
            f"{file}: a link to {target}, which lies outside the adapter's folder. Put the file "
            "itself there, or pack the folder that it leads to."
        )


def _check_same(first: Form, other: Form) -> None:
    """Refuse a form that is another adapter than the first: an older one that stayed behind."""
    one, two = first.adapter, other.adapter
    assert one is not None
    assert two is not None
    odd = sorted(one.pairs.keys() ^ two.pairs.keys())
    odd += [m for m in one.pairs if m in two.pairs and not _close(one.pairs[m], two.pairs[m])]
    if odd:
        raise UserError(
            f"{other.path}: not the adapter that {first.path} is (they differ at {odd[0]}): from "
            f"another run? {_every_form(first)} writes every form again."
        )


def _every_form(first: Form) -> str:
    """The command; only PEFT's form stands where the whole folder would be written."""
    source, made, more = first.path, first.path, ["--overwrite"]
    if first.format != "peft":
        folder = first.path.parent.resolve()
        made, more = folder.with_name(f"{folder.name}-all"), []
    words = ["livery", "convert", str(source), str(made), "--to", "all", *more]
    return printable(shlex.join(words))


def _close(one: Pair, two: Pair) -> bool:
    vectors = (one.magnitude, two.magnitude), (one.bias, two.bias)
    for x, y in vectors:
        if (x is None) != (y is None) or (x is not None and y is not None and not _near(x, y)):
            return False
    if one.a.shape == two.a.shape and one.b.shape == two.b.shape:
        halves = ((one.a, two.a), (one.b * np.float32(one.scale), two.b * np.float32(two.scale)))
        if all(_near(x, y) for x, y in halves):
            return True
    if one.features != two.features or one.a.shape[:-2] != two.a.shape[:-2]:
        return False
    return _near(_delta(one), _delta(two))


def _delta(pair: Pair) -> np.ndarray:
    return (pair.b.astype(np.float32) @ pair.a.astype(np.float32)) * np.float32(pair.scale)


def _near(one: np.ndarray, two: np.ndarray) -> bool:
    if one.shape != two.shape:
        return False
    one, two = one.astype(np.float32), two.astype(np.float32)
    most = float(np.abs(one).max(initial=0.0))
    return bool(np.abs(one - two).max(initial=0.0) <= _ROUNDING * most)


def gguf_member(contents: Contents) -> Path:
    """The GGUF adapter. Raises UserError where there is none, saying why."""
    if GGUF_FILES[0] not in contents.members:
        raise UserError(contents.left_out["gguf"])
    return contents.members[GGUF_FILES[0]]
