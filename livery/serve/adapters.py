"""Adapters in root/adapters: the forms that are there, and each as one file to take away."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from livery.errors import quoted
from livery.files import atomic_write, explain_os_errors, sha256
from livery.paths import METADATA, RUN_CONFIG
from livery.serve import evaluations, runs
from livery.serve.commands import livery as run_livery
from livery.serve.commands import make_room
from livery.serve.errors import Conflict, NotFound, Refused
from livery.serve.known import facts, fingerprint, known
from livery.serve.settings import ServeSettings, inside

Form = Literal["peft", "mlx", "gguf", "zip", "ollama"]
FORMS: tuple[Form, ...] = ("peft", "mlx", "gguf", "zip", "ollama")
# What makes a form, and what goes with it.
_NEEDED = {
    "peft": ("adapter_config.json", "adapter_model.safetensors"),
    "mlx": ("mlx/adapter_config.json", "mlx/adapters.safetensors"),
    "gguf": ("gguf/adapter.gguf",),
}
_ALSO = (
    "README.md", METADATA, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip
_OLLAMA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*([/:][A-Za-z0-9._-]+)*")
_exporting = threading.RLock()


@dataclass(frozen=True)
class Adapter:
    """An adapter at a glance.

    Attributes:
        base: the model that it is for, as it names it.
        forms: those that are there: name -> bytes.
        missing: those that a job can make.
        rank, alpha: of LoRA, as the PEFT form says.
        accuracy: of the newest evaluation's headline.
        changed: seconds since the epoch.
        run: whether it has a run of its own (`/api/runs/NAME`).
    """

    name: str
    base: str | None
    skill: str | None
    forms: dict[str, int]
    missing: list[str]
    rank: int | None
    alpha: float | None
    accuracy: float | None
    changed: float
    run: bool


@dataclass(frozen=True)
class WholeAdapter(Adapter):
    """An adapter with its files (name -> bytes and SHA-256) and evaluations."""

    files: dict[str, dict[str, Any]]
    evaluations: list[evaluations.Summary]


def every(settings: ServeSettings) -> list[Adapter]:
    """Adapters of which at least one form is there, by name."""
    found = (describe(settings, folder) for folder in runs.adapters(settings))
    return [one for one in found if one.forms.keys() - {"zip"}]


def names(settings: ServeSettings) -> list[str]:
    """Of those."""
    return [one.name for one in every(settings)]


def find(settings: ServeSettings, name: str) -> Path:
    """The folder of an adapter. Raises NotFound."""
    folder = inside(settings.adapters, name, what="adapter")
    if not _present(folder):
        raise NotFound(f"There is no adapter named {quoted(name)}.", key="name")
    return folder


def describe(settings: ServeSettings, folder: Path) -> Adapter:
    """An adapter at a glance."""
    files = [f"{folder}/{name}" for name in (*_kinds(), RUN_CONFIG, "mlx", "gguf")]
    packed = f"{settings.adapters}/{folder.name}.zip"
    return known.of(
        ("adapter", folder),
        [folder, *files, packed, settings.data],
        lambda: _described(settings, folder),
    )


def _described(settings: ServeSettings, folder: Path) -> Adapter:
    config = facts(folder / "adapter_config.json")
    asked = facts(folder / RUN_CONFIG).get("settings")
    forms = {form: _bytes(folder, files) for form, files in _NEEDED.items() if _has(folder, files)}
    packed = packed_zip(settings, folder)
    if packed is not None:
        forms["zip"] = packed.stat().st_size
    newest = next(iter(evaluations.of_adapter(folder)), None)
    skill = runs.skill_of(settings, folder, asked if isinstance(asked, dict) else {})
    rank, alpha = config.get("r"), config.get("lora_alpha")
    return Adapter(
        name=folder.name,
        base=base if isinstance(base := config.get("base_model_name_or_path"), str) else None,
        skill=skill or (newest.skill if newest else None),
        forms=forms,
        missing=[form for form in FORMS if form not in forms and form != "ollama"],
        rank=rank if isinstance(rank, int) else None,
        alpha=float(alpha) if isinstance(alpha, int | float) else None,
        accuracy=newest.accuracy if newest else None,
        changed=max(_changed(folder), default=0.0),
        run=(folder / RUN_CONFIG).is_file(),
    )


def whole(settings: ServeSettings, folder: Path) -> WholeAdapter:
    """An adapter with hashes, which are computed once a file."""
    files: dict[str, dict[str, Any]] = {}
    for name in (*(file for files in _NEEDED.values() for file in files), *_ALSO):
        path = folder / name
        if _is_plain(path):
            files[name] = {
                "bytes": path.stat().st_size,
                "sha256": known("sha256", path, sha256, ""),
            }
    return WholeAdapter(
        **vars(describe(settings, folder)), files=files, evaluations=evaluations.of_adapter(folder)
    )


def packed_zip(settings: ServeSettings, folder: Path) -> Path | None:
    """The zip that the step pack made of the adapter as it is now."""
    path = settings.adapters / f"{folder.name}.zip"
    if not _is_plain(path) or path.stat().st_mtime < max(_changed(folder), default=0.0):
        return None
    if not folder.with_name(f"{folder.name}.kept").is_dir():
        return path
    # Promoted or rolled back: it may be older than the zip of what was there meanwhile.
    files = [f"{folder}/{name}" for name in _kinds()]
    same = known.of(("packed", folder), [path, *files], lambda: _packs(path, folder))
    return path if same else None


def _packs(path: Path, folder: Path) -> bool:
    """Whether a zip holds an adapter's own files."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = {one.filename: one.CRC for one in archive.infolist()}
        files = [name for name in _kinds() if name in held and _is_plain(folder / name)]
        return all(_crc(folder / name) == held[name] for name in files)
    except (OSError, zipfile.BadZipFile):
        return False


def _crc(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found = zlib.crc32(chunk, found)
    return found


def export(settings: ServeSettings, folder: Path, form: Form, start: str = "") -> tuple[Path, str]:
    """(a file of the adapter in one form, the name to save it as).

    Args:
        start: for Ollama: the name of the base there.

    Raises:
        Conflict: the form is not there yet; the job that makes it is named.
    """
    if form == "ollama":
        return _ollama(settings, folder, start), f"{folder.name}-ollama.zip"
    if form == "zip":
        packed = packed_zip(settings, folder)
        if packed is None:
            raise _missing(folder, form)
        return packed, f"{folder.name}.zip"
    if not _has(folder, _NEEDED[form]):
        raise _missing(folder, form)
    if form == "gguf":
        return folder / "gguf/adapter.gguf", f"{folder.name}.gguf"
    chosen = [name for name in (*_NEEDED[form], *_ALSO) if _is_plain(folder / name)]
    members = {name.removeprefix("mlx/"): folder / name for name in chosen}
    return _zipped(settings, f"{folder.name}-{form}", members), f"{folder.name}-{form}.zip"


def _missing(folder: Path, form: str) -> Conflict:
    job = {"method": "POST", "path": f"/api/adapters/{folder.name}/forms", "body": {"to": form}}
    return Conflict(
        f"The adapter {folder.name} has no {form} form yet. Post the job that makes it.",
        key="form",
        job=job,
    )


def _ollama(settings: ServeSettings, folder: Path, start: str) -> Path:
    """A zip of what `livery pack --ollama` writes."""
    if not _OLLAMA.fullmatch(start) or len(start) > 128 or start.endswith(".gguf"):
        raise Refused(
            "from must be the name of the base in Ollama, such as llama3.2:1b: its Modelfile "
            "begins with it.",
            key="from",
        )
    mark = fingerprint([path for path in map(folder.joinpath, _kinds()) if _is_plain(path)])
    key = f"{folder.name}-ollama-{hashlib.sha256(start.encode()).hexdigest()[:8]}"
    made = settings.state / "exports" / "adapters" / f"{key}-{mark}.zip"
    if made.is_file():
        return made
    # An empty folder to work in: a name is a name, and not a file beside it.
    with tempfile.TemporaryDirectory() as scratch, _exporting:
        empty = Path(scratch, "empty")
        empty.mkdir()
        out = Path(scratch, "out")
        words = ("pack", str(folder), "--ollama", "--from", start, "--out", str(out))
        run_livery(*words, cwd=empty)
        members = {name: out / name for name in ("Modelfile", "adapter.gguf")}
        return _zipped(settings, key, members, mark)


def _zipped(settings: ServeSettings, key: str, members: Mapping[str, Path], mark: str = "") -> Path:
    """A zip of files, made once while they are the same; of the same bytes on every machine."""
    folder = settings.state / "exports" / "adapters"
    place = folder / f"{key}-{mark or fingerprint(members.values())}.zip"
    with explain_os_errors(place, "exporting"), _exporting:
        folder.mkdir(parents=True, exist_ok=True)
        if not place.is_file():
            for old in folder.glob(f"{key}-*.zip"):
                old.unlink(missing_ok=True)
            with atomic_write(place, "wb") as file, zipfile.ZipFile(file, "w") as archive:
                for name, path in members.items():
                    entry = zipfile.ZipInfo(name)  # of 1980: no clock in it
                    entry.external_attr = 0o644 << 16
                    with (
                        path.open("rb") as source,
                        archive.open(entry, "w", force_zip64=True) as out,
                    ):
                        shutil.copyfileobj(source, out, 1 << 20)
        make_room(folder, {place})
    return place


def _present(folder: Path) -> bool:
    return any(_has(folder, files) for files in _NEEDED.values())


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return all(_is_plain(folder / name) for name in files)


def _is_plain(path: Path) -> bool:
    """A file, and no link to elsewhere."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _bytes(folder: Path, files: tuple[str, ...]) -> int:
    return sum((folder / name).stat().st_size for name in files)


def _kinds() -> tuple[str, ...]:
    return tuple(name for files in _NEEDED.values() for name in files)


def _changed(folder: Path) -> list[float]:
    return [path.stat().st_mtime for name in _kinds() if _is_plain(path := folder / name)]
