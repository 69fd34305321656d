"""A GGUF file as a Hugging Face folder, decoded once and kept in the user's cache.

    folder = decoded("smollm2.gguf")         # config.json, safetensors, tokenizer, template, card

The folder is named by the digest of the file's content and of the code here, so a file that moved
is found again and one that changed is decoded again. It is made beside its place and renamed into
it; of several processes that want the same one decodes, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.files import (
    atomic_directory,
    atomic_write,
    explain_os_errors,
    one_at_a_time,
    sha256,
    write_json,
)
from livery.paths import cache_folder
from livery.progress import Progress, megabytes
from livery.reading import open_file

MAGIC = b"GGUF"
PROVENANCE = "gguf.json"
_SOON = 256 << 20  # bytes of float32 that are decoded before anybody asks what is going on
_HASHED = 64 << 20  # bytes of a file that are hashed between two looks at the progress


def is_gguf(path: str | Path) -> bool:
    """Whether this is a GGUF file, whatever it is called."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # a name too long, nobody's "~"
        path = Path(path).expanduser()
        if not path.is_file():
            return False
        with open_file(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    return False


def cache() -> Path:
    """Where decoded bases are kept; safe to delete at any time."""
    return cache_folder() / "bases-of-gguf"


def decoded(path: str | Path) -> Path:
    """The Hugging Face folder of a GGUF model, made where it is not there yet.

    Raises:
        UserError: the file is no complete model, of a family, a type of weights or a tokenizer that
            is not known here, or the disk has no room.
    """
    path = Path(path).expanduser().resolve()
    place = cache() / f"{_stem(path)}-{_name(digest(path))}"
    if not (place / "config.json").is_file():
        with one_at_a_time(place, "decoding a GGUF file"):
            if not (place / "config.json").is_file():  # made by whoever had the turn before
                _decode(path, place)
    return place


def tokenizer_folder(path: str | Path) -> Path:
    """A folder with a GGUF model's tokenizer, template and configuration, without its weights.

    Raises:
        UserError: as `decoded`, but for the weights.
    """
    path = Path(path).expanduser().resolve()
    place = cache() / f"{_stem(path)}-{_name(_state(path))}-tokenizer"
    with one_at_a_time(place):
        if not (place / "tokenizer.json").is_file():
            from livery.gguf_base import tokenizer
            from livery.gguf_reader import open_gguf

            file = open_gguf(path, known_types=False)
            architecture = str(file.metadata.get("general.architecture", ""))
            made = tokenizer.make_tokenizer(file, architecture)
            with atomic_directory(place) as fresh:
                _write_all(fresh, made)
                _write_generation(fresh, file)
    return place


def digest(path: Path) -> str:
    """SHA-256 of a file, remembered by its place, size and time of change."""
    kept = cache() / "digests" / _state(path)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = kept.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    size = path.stat().st_size
    if size <= _HASHED:
        found = sha256(path)
    else:
        total = hashlib.sha256()
        with (
            explain_os_errors(path, "reading"),
            open_file(path) as file,
            Progress(f"reading {path.name}", size // 1_000_000, "MB") as progress,
        ):
            while block := file.read(_HASHED):
                total.update(block)
                progress.update(file.tell() // 1_000_000)
        found = total.hexdigest()
    with atomic_write(kept, "w") as file:
        file.write(found)
    return found


def _state(path: Path) -> str:
    """Digest of what tells whether a file is still the same, without reading it."""
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    named = f"{path}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ino}"
    return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()


def _stem(path: Path) -> str:
    """A name that a person recognises: of Ollama's blobs, which have none, the digest's start."""
    return re.sub(r"[^\w.-]+", "-", path.name.removesuffix(".gguf"))[:60].strip(".-") or "model"


def _name(content: str) -> str:
    return hashlib.sha256(f"{content}:{_version()}".encode()).hexdigest()[:16]


@functools.cache
def _version() -> str:
    """Digest of the decoder's code: a folder that older code made is made again."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def _decode(path: Path, place: Path) -> None:
    from livery.gguf_base import card, config, tensors, tokenizer
    from livery.gguf_reader import open_gguf
    from livery.safetensors_file import write_parts

    file = open_gguf(path, known_types=False)
    made = config.make_config(file)
    texts = tokenizer.make_tokenizer(file, str(made["model_type"]))
    parts = list(tensors.parts(file, made))
    _check_whole(path, [name for part in parts for name in part.tensors])
    matrices = file.entries["token_embd.weight"].dtype
    made["torch_dtype"] = matrices if matrices in ("float16", "bfloat16") else "float32"
    made.update(tokenizer.special_ids(file))
    made.pop("unk_token_id", None)
    total, quantization = sum(part.size for part in parts), quantization_of(file.metadata)
    with atomic_directory(place) as fresh:
        with megabytes(f"decoding {path.name}", shown=total > _SOON) as moved:
            done = 0

            def make(number: int) -> Mapping[str, Any]:
                nonlocal done
                arrays = parts[number].make()
                done += parts[number].size
                if moved:
                    moved(done, total)
                return arrays

            write_parts(
                fresh / "model.safetensors",
                [part.tensors for part in parts],
                make,
                {"format": "pt"},
            )
        write_json(fresh / "config.json", made)
        _write_all(fresh, texts)
        _write_generation(fresh, file)
        content = digest(path)
        write_json(
            fresh / PROVENANCE,
            {
                "file": str(path),
                "sha256": content,
                "quantization": quantization,
                "architecture": file.metadata["general.architecture"],
                "general": card.facts(file),
            },
        )
        with atomic_write(fresh / "README.md", "w") as about:
            about.write(card.write_card(file, path.name, quantization, content))


def quantization_of(metadata: Mapping[str, Any]) -> str:
    """How a model's matrices are stored, as its metadata says: "F16", "Q4_1"; "GGUF" where it does
    not say, or says a number that nothing here has a name for."""
    from gguf import LlamaFileType

    number = metadata.get("general.file_type")
    if type(number) is not int or number not in {int(one) for one in LlamaFileType}:
        return "GGUF"
    return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")


def _check_whole(path: Path, names: list[str]) -> None:
    """No two tensors have one place. What is missing the readers of folders tell."""
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: has {twice} twice, under two names. Download the file again.")


def _write_all(folder: Path, texts: Mapping[str, Any]) -> None:
    for name, value in texts.items():
        if isinstance(value, str):
            with atomic_write(folder / name, "w") as file:
                file.write(value)
        else:
            write_json(folder / name, value)


def _write_generation(folder: Path, file: Any) -> None:
    from livery.gguf_base import tokenizer

    ids = tokenizer.special_ids(file)
    ends = tokenizer.end_ids(file)
    made: dict[str, Any] = {k: v for k, v in ids.items() if k in ("bos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", {**made, "eos_token_id": ends or None})
