"""The two files that llama.cpp loads, base and adapter as GGUF: found, or made from other formats.

Making them is the conversion layer's business, which nothing here imports: a command hands it in as
`ToGguf`.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError, quoted, shown
from livery.gguf_base.folder import is_gguf, quantization_of
from livery.paths import HOME, cache_folder
from livery.reading import read_object
from livery.temporary import Scratch


@dataclass(frozen=True)
class ToGguf:
    """The conversions that this part does not know.

    Attributes:
        model: (model folder or hub id, file to write, type such as "f16").
        adapter: (adapter folder or file, file to write, base folder or None).
        find: a model folder or hub id -> its folder; raises UserError where there is none.
        version: changes with the code, so that nothing made by older code is taken from the cache.
    """

    model: Callable[[Path, Path, str], None]
    adapter: Callable[[Path, Path, Path | None], None]
    find: Callable[[str], Path]
    version: str


def converter_version() -> str:
    """Digest of the converter's code, `ToGguf.version`: a model made by older code is made
    again."""
    total = hashlib.sha256()
    for file in sorted((HOME / "convert").rglob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def is_file(model: str) -> bool:
    """Whether a file is meant, and not a folder or a hub id."""
    path = Path(model).expanduser()
    return path.is_file() or path.suffix == ".gguf"


def model_file(model: str, kind: str, to_gguf: ToGguf | None) -> Path:
    """The base as GGUF: `model` itself, or made from its folder and kept in the cache.

    Raises:
        UserError: there is no such model, or it cannot be converted.
    """
    path = Path(model).expanduser()
    if is_gguf(path):
        return path
    if is_file(model):
        raise UserError(f"{path}: {'not a GGUF file' if path.is_file() else 'no such file'}.")
    if to_gguf is None:
        raise UserError(
            f"{model}: llama.cpp runs GGUF files. Make one with: livery gguf --model "
            f"{shlex.quote(model)} --out model.gguf"
        )
    folder = to_gguf.find(model)
    place = folder.resolve()
    name = re.sub(r"[^\w.-]+", "-", place.name)
    name += f"-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}-{kind}"
    made = cache() / f"{name}-{_state(folder, to_gguf.version)[:16]}.gguf"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        print(f"Writing {model} as GGUF ({kind}) to {made}", file=sys.stderr, flush=True)
        to_gguf.model(folder, made, kind)
        for old in made.parent.glob(f"{name}-*.gguf"):  # of the same model, before it changed
            if old != made:
                old.unlink(missing_ok=True)
    return made


def adapter_file(
    adapter: str, base: Path | None, to_gguf: ToGguf | None, folder: Path
) -> tuple[Path, bool]:
    """The adapter as GGUF, and whether it had to be made (into `folder`).

    A GGUF file is taken as it is, and so is the one in an adapter folder: what is exported is what
    runs.

    Raises:
        UserError: there is no adapter, or it has no GGUF form.
    """
    path = Path(adapter).expanduser()
    for place in (path, path / "gguf" / "adapter.gguf", path / "adapter.gguf"):
        if is_gguf(place):
            return place, False
    if not path.exists():
        raise UserError(f"{path}: no such adapter.")
    if to_gguf is None:
        raise UserError(
            f"{path}: holds no gguf/adapter.gguf. Make one with: livery convert "
            f"{shlex.join([str(path), str(path / 'gguf' / 'adapter.gguf')])} --to gguf --base MODEL"
        )
    made = folder / "adapter.gguf"
    to_gguf.adapter(path, made, base)
    return made, True


def cache() -> Path:
    """Where converted models are kept; safe to delete at any time."""
    return cache_folder() / "gguf"


def scratch() -> Scratch:
    """A folder that lasts as long as its owner."""
    return Scratch("gguf")


def _state(folder: Path, version: str) -> str:
    """Digest of a model folder's files by name, size and time of change, and of the converter."""
    total = hashlib.sha256(version.encode())
    for file in sorted(folder.iterdir()):
        if file.is_file():
            facts = file.stat()
            total.update(f"{file.name}:{facts.st_size}:{facts.st_mtime_ns};".encode())
    return total.hexdigest()


def file_type(path: Path) -> str:
    """How the matrices of a model are stored, as its metadata says: "F16", "Q8_0"; "GGUF" where it
    does not say, or says a number that nothing here has a name for.

    Raises:
        UserError: the file is not a complete GGUF file.
    """
    return quantization_of(_metadata(path))


def check_vocabulary(path: Path, tokenizer: Any, named: str) -> None:
    """The tokenizer's ids mean in the model what they mean in the tokenizer.

    Raises:
        UserError: they do not, naming the first that differs.
    """
    tokens = _tokens(path)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    own = backend.get_vocab(with_added_tokens=False) if backend else tokenizer.get_vocab()
    for token, number in sorted(own.items(), key=lambda item: item[1]):
        if number >= len(tokens) or tokens[number] != token:
            there = f"'{shown(tokens[number], 60)}'" if number < len(tokens) else "nothing"
            raise UserError(
                f"{path}: token {number} is {there} there and {quoted(token)} in the tokenizer of "
                f"{named}. Is that the tokenizer of this model?"
            )


def _tokens(path: Path) -> Sequence[str]:
    tokens = _metadata(path).get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        raise UserError(f"{path}: holds no vocabulary (tokenizer.ggml.tokens).")
    return tokens


def _metadata(path: Path) -> Mapping[str, Any]:
    from livery.gguf_reader import open_gguf

    return open_gguf(path, known_types=False).metadata


def model_config(folder: Path | None) -> dict[str, Any]:
    """config.json of a model folder; {} where there is none to ask."""
    if folder is None or not (folder / "config.json").is_file():
        return {}
    return read_object(folder / "config.json")
