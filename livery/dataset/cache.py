"""Encoded rows, kept from one run to the next under the digest of all that decides them.

    data = load_cached(default_cache(), sources, chat, reader, max_length=2048)

gives what `livery.dataset.load.load_dataset` gives, told the same, and sooner.

A file (`livery/encoded/DIGEST.safetensors` in the user's cache folder) holds the tokens of all
examples one after the other, their masks likewise, their lengths, and everything else as JSON. It
carries the digest of its own content, so that one that was damaged is never believed. It may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery import __version__, reading
from livery.dataset.conversation import Dropped
from livery.dataset.load import Dataset, load_dataset
from livery.dataset.packed import Source
from livery.dataset.reader import Reader, Told
from livery.dataset.template import ChatTemplate
from livery.errors import UserError
from livery.files import atomic_write, sha256
from livery.paths import cache_folder
from livery.training.plan import Example

FORMAT = 1
SWITCH = "LIVERY_CACHE"
# Encoding that takes less is repeated: to look a file up takes up to half a second of it.
_SLOW = 5.0  # seconds
# Files of fewer bytes are encoded in less than that whatever they hold, packed ones too.
_SMALL = 1 << 18
_MOST = 2 << 30  # bytes of all files; those used longest ago go first
ROOM = 1 << 30  # bytes of the disk that are left to others
_PACKAGES = ("transformers", "tokenizers", "jinja2", "pyarrow")
_ENDING = ".safetensors"


@dataclass(frozen=True)
class Kept:
    """What reading and encoding a split gave.

    Attributes:
        told: what its reader tells once for all rows, and which columns it saw.
    """

    data: Dataset
    told: Told


@dataclass(frozen=True)
class Cache:
    """A folder of encoded splits.

    Attributes:
        slow: seconds that encoding takes before it is worth keeping.
        small: files of fewer bytes are not looked up.
        most: bytes that all files may take together.
    """

    folder: Path
    slow: float = _SLOW
    small: int = _SMALL
    most: int = _MOST

    def key(self, sources: Sequence[Source], chat: ChatTemplate, reader: Reader, **how: Any) -> str:
        """Hex SHA-256 over all that decides what becomes of the rows; "" where they are not kept:
        they are few, a file is none, or the tokenizer is a program that no digest describes.

        Args:
            how: what `load_dataset` was asked, as JSON values.
        """
        try:
            infos = [source.path.stat() for source in sources]
            if not all(stat.S_ISREG(info.st_mode) for info in infos):
                return ""
            if not chat.tokenizer.is_fast or sum(info.st_size for info in infos) < self.small:
                return ""
            paths = {source.path for source in sources}
            digests = {path: sha256(path) for path in paths}
        except (OSError, UserError):  # told when it is read
            return ""
        total = hashlib.sha256()
        columns = reader.columns
        for part in (
            [FORMAT, __version__, [package_version(name) for name in _PACKAGES], code_digest()],
            # Rows are named by their file, so a copy of it elsewhere is another one.
            [[str(source), source.format, digests[source.path]] for source in sources],
            [sorted(columns.named.items()), sorted(columns.ignored), reader.train_on, reader.pairs],
            _template(chat),
            _tokenizer(chat.tokenizer),
            how,
        ):
            text = json.dumps(part, sort_keys=True, default=repr)
            total.update(f"{len(text)}\n{text}".encode())
        return total.hexdigest()

    def read(self, key: str) -> Kept | None:
        """What is kept under a key; None where there is nothing, or nothing whole."""
        path = self.folder / (key + _ENDING)
        if not key or not path.is_file():
            return None
        try:
            if path.stat().st_size > self.most:
                raise ValueError("larger than any file that is written here")
            kept = _unpack(_load(path), key)
        except OSError:
            return None
        except Exception:  # however it is damaged, it is of no use, and encoding makes another one
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: others go before it
        return kept

    def write(self, key: str, kept: Kept) -> None:
        """Keep a split, and let go what was used longest ago. Whatever hinders it (no room, no
        permission), the run continues without."""
        with contextlib.suppress(UserError, OSError):
            tensors = _pack(kept, key)
            size = sum(tensor.nbytes for tensor in tensors.values())
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > self.most or shutil.disk_usage(self.folder).free < size + ROOM:
                return
            self._make_room(size)
            with atomic_write(self.folder / (key + _ENDING)) as file:
                _save(tensors, file)

    def size(self) -> int:
        """Bytes that all files take."""
        return sum(size for _, size, _ in self._files())

    def _make_room(self, size: int) -> None:
        files = self._files()
        free = self.most - sum(taken for _, taken, _ in files)
        for _, taken, path in sorted(files):
            if free >= size:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                free += taken

    def _files(self) -> list[tuple[int, int, Path]]:
        """(when it was used, its bytes, the file) of each."""
        found: list[tuple[int, int, Path]] = []
        for path in self.folder.glob("*" + _ENDING):
            with contextlib.suppress(OSError):
                info = path.stat()
                found.append((info.st_mtime_ns, info.st_size, path))
        return found


def default_cache() -> Cache | None:
    """The user's cache; None where LIVERY_CACHE=off (or no, 0, false) says that none is kept."""
    if os.environ.get(SWITCH, "").strip().lower() in ("off", "no", "0", "false"):
        return None
    return Cache(cache_folder() / "encoded")


def load_cached(
    cache: Cache | None, sources: Sequence[Source], chat: ChatTemplate, reader: Reader, **how: Any
) -> Dataset:
    """`load_dataset`, but for what the cache holds already.

    Args:
        how: further arguments of `load_dataset`, as JSON values.

    Raises:
        UserError: as `load_dataset`.
    """
    if cache is None or not (key := cache.key(sources, chat, reader, **how)):
        return load_dataset(sources, chat, reader=reader, **how)
    if kept := cache.read(key):
        reader.take(kept.told, sources[0])
        reader.check_columns()
        return kept.data
    begun = time.monotonic()
    own = reader.fork()
    data = load_dataset(sources, chat, reader=own, **how)
    took = time.monotonic() - begun
    reader.take(own.told, sources[0])
    # The files may have been written to meanwhile, and a template's day may have ended.
    if took >= cache.slow and cache.key(sources, chat, reader, **how) == key:
        cache.write(key, Kept(data, own.told))
    return data


# -- the key --------------------------------------------------------------------------------------


def package_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def code_digest() -> str:
    """Digest of the code that reads and encodes rows, which a checkout changes between versions."""
    total = hashlib.sha256()
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(reading.__file__)):
        total.update(path.read_bytes())
    return total.hexdigest()


def _template(chat: ChatTemplate) -> Any:
    settings = chat.settings
    today = datetime.date.today().isoformat() if chat.reads_date else ""
    own: Any = chat.tokenizer.chat_template
    date = settings.date or today
    return [own, settings.template, dict(settings.kwargs), date, chat.vocabulary]


def _tokenizer(tokenizer: Any) -> Any:
    """All that decides how a tokenizer of the tokenizers library splits a text."""
    # A call sets it to neither pad nor cut, as every call of ours does.
    tokenizer("a", add_special_tokens=False, verbose=False)
    whole = tokenizer.backend_tokenizer.to_str()
    return [
        type(tokenizer).__name__,
        hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest(),
        len(tokenizer),
        [tokenizer.bos_token_id, tokenizer.eos_token_id],
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        {str(i): repr(token) for i, token in sorted(tokenizer.added_tokens_decoder.items())},
        {name: repr(value) for name, value in tokenizer.init_kwargs.items()},
    ]


# -- the file -------------------------------------------------------------------------------------

_PIECE = 4096  # rows joined at a time
_DTYPES = {"about": "uint8", "lengths": "int32", "supervised": "bool", "tokens": "int32"}


def _pack(kept: Kept, key: str) -> dict[str, np.ndarray | _Joined]:
    data, told = kept.data, kept.told
    about = {
        "key": key,
        "where": [example.where for example in data.examples],
        "dropped": [[row.where, row.reason] for row in data.dropped],
        "digest": data.digest,
        "asked": [list(pair) for pair in data.asked.items()],
        "more": data.more,
        "reasons": data.reasons,
        "told": [told.remarks, told.columns],
    }
    text = json.dumps(about, ensure_ascii=False).encode("utf-8", "surrogatepass")
    tensors: dict[str, np.ndarray | _Joined] = {
        "about": np.frombuffer(text, np.uint8),
        "lengths": np.array([len(example.tokens) for example in data.examples], np.int32),
        "supervised": _Joined([e.supervised for e in data.examples], np.dtype(bool)),
        "tokens": _Joined([e.tokens for e in data.examples], np.dtype(np.int32)),
    }
    return {**tensors, "digest": np.frombuffer(_digest(tensors), np.uint8)}


@dataclass(frozen=True)
class _Joined:
    """Arrays one after the other, of which a few thousand at a time are copied: joined at once they
    would take as much memory as the rows themselves.

    Attributes:
        rows: (n_i,) each, of one dtype.
    """

    rows: Sequence[np.ndarray]
    dtype: np.dtype[Any]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def shape(self) -> tuple[int]:
        return (sum(map(len, self.rows)),)

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        for at in range(0, len(self.rows), _PIECE):
            yield np.concatenate(self.rows[at : at + _PIECE], dtype=self.dtype)


_Tensors = Mapping[str, np.ndarray | _Joined]


def _pieces(tensor: np.ndarray | _Joined) -> Iterable[np.ndarray]:
    return tensor.pieces() if isinstance(tensor, _Joined) else [np.ascontiguousarray(tensor)]


def _digest(tensors: _Tensors) -> bytes:
    total = hashlib.sha256()
    for name, dtype in _DTYPES.items():
        total.update(f"{name} {dtype} {tensors[name].shape}\n".encode())
        for piece in _pieces(tensors[name]):
            total.update(piece.data)
    return total.digest()


def _save(tensors: _Tensors, file: Any) -> None:
    """Write a safetensors file without a second copy of its tensors in memory."""
    header: dict[str, Any] = {}
    at = 0
    tags = {"uint8": "U8", "int32": "I32", "bool": "BOOL"}
    # The widest first, so that each is at a multiple of its own width.
    names = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    for name in names:
        tensor = tensors[name]
        header[name] = {
            "dtype": tags[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        for piece in _pieces(tensors[name]):
            file.write(piece.data)


def _load(path: Path) -> Mapping[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _unpack(tensors: Mapping[str, np.ndarray], key: str) -> Kept:
    """Raises ValueError, KeyError or TypeError where a file holds anything else than was written.

    Examples are views into two arrays, which takes a third less memory than arrays of their own.
    """
    for name, dtype in _DTYPES.items():
        if tensors[name].ndim != 1 or str(tensors[name].dtype) != dtype:
            raise ValueError(f"{name}: of another shape")
    if tensors["digest"].tobytes() != _digest(tensors):
        raise ValueError("damaged")
    tokens, supervised, lengths = (tensors[n] for n in ("tokens", "supervised", "lengths"))
    about: Any = json.loads(tensors["about"].tobytes().decode("utf-8", "surrogatepass"))
    ends = np.cumsum(lengths, dtype=np.int64)
    whole = int(ends[-1]) if len(ends) else 0
    if about["key"] != key or len(tokens) != whole or len(supervised) != whole:
        raise ValueError("of another split")
    starts = (ends - lengths).tolist()
    examples = tuple(
        Example(tokens[start:end], supervised[start:end], where)
        for start, end, where in zip(starts, ends.tolist(), about["where"], strict=True)
    )
    data = Dataset(
        examples,
        tuple(Dropped(where, reason) for where, reason in about["dropped"]),
        about["digest"],
        dict(about["asked"]),
        about["more"],
        about["reasons"],
    )
    remarks, columns = about["told"]
    told = Told(
        tuple((remark, first, rows, tuple(fields)) for remark, first, rows, fields in remarks),
        tuple(columns),
    )
    return Kept(data, told)
