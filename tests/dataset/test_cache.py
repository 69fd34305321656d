"""Encoded rows from the cache are those that encoding gives; whatever decides them misses."""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import json
import os
import re
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.training.data import describe_dropped, load_data
from livery.config.settings import TemplateSettings, TrainSettings
from livery.dataset import cache as caching
from livery.dataset.cache import Cache, Kept, default_cache, load_cached
from livery.dataset.columns import read_columns
from livery.dataset.load import Dataset
from livery.dataset.packed import Source
from livery.dataset.reader import Reader, Told
from livery.dataset.template import ChatTemplate
from livery.errors import UserError
from livery.models import EMBEDDED
from livery.paths import HOME
from livery.training.plan import Example
from tests.dataset import templates

THINKS = [
    {"role": "user", "content": "Größe?\r\n\t🦊"},
    {"role": "assistant", "content": "b", "reasoning_content": "because", "name": "x"},
]
ROWS: list[dict[str, Any]] = [
    {"prompt": "Hello", "completion": "Good day"},
    {"messages": THINKS, "id": 3},
    {"prompt": "Hello", "completion": ""},
    {"prompt": "<|im_end|> " * 9, "completion": "long " * 300},
    {"messages": [*THINKS, *THINKS]},
    {"text": "a whole text"},
]


def made(folder: Path, **more: Any) -> Cache:
    return dataclasses.replace(Cache(folder / "encoded", slow=0.0, small=0), **more)


def written(folder: Path, rows: list[dict[str, Any]], name: str = "train.jsonl") -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(folder / name)


@lru_cache
def tokenizer() -> Any:
    return templates.tokenizer(templates.FAMILIES["chatml"])


def own() -> Any:
    return templates.tokenizer(templates.FAMILIES["chatml"])


def chat(**more: Any) -> ChatTemplate:
    return ChatTemplate(tokenizer(), TemplateSettings(**more))


def plain(data: Dataset) -> Any:
    examples = [
        (e.tokens.dtype, e.tokens.tolist(), e.supervised.dtype, e.supervised.tolist(), e.where)
        for e in data.examples
    ]
    rest = {name: getattr(data, name) for name in ("digest", "more", "reasons", "dropped")}
    return examples, rest, list(data.asked.items())


def files(cache: Cache) -> list[Path]:
    return sorted(cache.folder.glob("*"))


def load(cache: Cache | None, source: Source, made: ChatTemplate | None = None, **how: Any) -> Any:
    reader = Reader()
    how = {"max_length": 200, **how}
    data = load_cached(cache, [source], made or chat(), reader, **how)
    return plain(data), reader.notes(), reader.told


def never(*_: object, **__: object) -> Any:
    raise AssertionError("encoded again")


def test_a_second_run_takes_the_very_same_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, source = made(tmp_path), written(tmp_path, ROWS)
    hows: list[dict[str, Any]] = [{}, {"first": 3, "with_questions": True}, {"mask_prompt": False}]
    for how in hows:
        fresh = load(None, source, **how)
        assert fresh[0][1]["dropped"]
        assert load(cache, source, **how) == fresh
        with monkeypatch.context() as patch:
            patch.setattr(caching, "load_dataset", never)
            assert load(cache, source, **how) == fresh
    assert len(files(cache)) == 3


texts = st.text(max_size=12)
odd_rows = st.lists(
    st.one_of(
        st.fixed_dictionaries({"prompt": texts, "completion": texts}),
        st.fixed_dictionaries({"text": texts}),
        st.fixed_dictionaries({"prompt": texts, "completion": texts, "system": texts}),
        st.just({"messages": THINKS}),
        st.just({"prompt": "word " * 300, "completion": "too long"}),
    ),
    max_size=6,
)


@pytest.mark.slow
@given(odd_rows, st.booleans(), st.integers(0, 3))
def test_odd_data_come_back_as_they_were(
    rows: list[dict[str, Any]], questions: bool, first: int
) -> None:
    how: dict[str, Any] = {"with_questions": questions, "first": first}
    with tempfile.TemporaryDirectory() as name:
        cache, source = made(Path(name)), written(Path(name), rows)
        try:
            fresh, reason = load(None, source, **how), ""
        except UserError as error:
            fresh, reason = None, re.escape(str(error))
        if reason:
            with pytest.raises(UserError, match=f"^{reason}$"):
                load(cache, source, **how)
            assert files(cache) == []
            return
        assert load(cache, source, **how) == fresh
        assert len(files(cache)) == 1
        assert load(cache, source, **how) == fresh


Key = Callable[..., str]


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """The key of one split, but for what is said to differ."""
    cache = made(tmp_path)
    source = written(tmp_path, ROWS)

    def find(**changed: Any) -> str:
        columns = read_columns(changed.pop("columns", ()))
        reader = Reader(columns, changed.pop("train_on", "all"))
        sources = changed.pop("sources", [source])
        template = changed.pop("chat", None) or chat()
        how = {"max_length": 200, "mask_prompt": True, "first": 0, **changed}
        return cache.key(sources, template, reader, **how)

    return find


def with_token(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["<new>"])
    return tokenizer


def changed(**attributes: Any) -> ChatTemplate:
    tokenizer = own()
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    return ChatTemplate(tokenizer)


OTHER: dict[str, Callable[[], dict[str, Any]]] = {
    "max_length": lambda: {"max_length": 199},
    "mask_prompt": lambda: {"mask_prompt": False},
    "first": lambda: {"first": 1},
    "questions": lambda: {"with_questions": True},
    "columns": lambda: {"columns": ["prompt=q"]},
    "ignored columns": lambda: {"columns": ["ignore=q"]},
    "train_on": lambda: {"train_on": "last"},
    "template": lambda: {"chat": changed(chat_template=templates.FAMILIES["gemma"])},
    "kwargs": lambda: {"chat": chat(kwargs={"enable_thinking": False})},
    "named template": lambda: {"chat": chat(template="default")},
    "date": lambda: {"chat": chat(date="2025-01-31")},
    "vocabulary": lambda: {"chat": ChatTemplate(own(), TemplateSettings(), 99)},
    "a token more": lambda: {"chat": ChatTemplate(with_token(own()))},
    "another end": lambda: {"chat": changed(eos_token="<|im_start|>")},
}


@pytest.mark.parametrize("name", OTHER)
def test_whatever_decides_the_rows_is_in_the_key(key: Key, name: str) -> None:
    assert key() == key() == key(chat=ChatTemplate(own()))
    assert key(**OTHER[name]()) != key()


def test_the_files_are_in_the_key(key: Key, tmp_path: Path) -> None:
    first = written(tmp_path, ROWS)
    before = key(sources=[first])
    assert key(sources=[first, first]) != before
    assert key(sources=[written(tmp_path / "b", ROWS)]) != before  # rows are named otherwise
    info = first.path.stat()
    first.path.write_bytes(first.path.read_bytes().replace(b"Good day", b"Bad news"))
    os.utime(first.path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert first.path.stat().st_size == info.st_size
    assert key(sources=[first]) != before


def test_livery_and_its_code_are_in_the_key(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    for name, value in (
        ("FORMAT", 0),
        ("__version__", "0"),
        ("code_digest", str),
        ("package_version", str),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(caching, name, value)
            assert key() != before, name
    assert key() == before


def test_a_template_that_writes_the_date_lasts_a_day(
    key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime.date):
        @classmethod
        def today(cls) -> Any:
            return datetime.date.fromordinal(datetime.date.max.toordinal())

    def dated(date: str) -> ChatTemplate:
        tokenizer = own()
        tokenizer.chat_template = "{{ strftime_now('%d') }}" + tokenizer.chat_template
        return ChatTemplate(tokenizer, TemplateSettings(date=date))

    today, fixed = key(chat=dated("")), key(chat=dated("2025-01-31"))
    plain = key()
    monkeypatch.setattr(caching.datetime, "date", Tomorrow)
    assert key(chat=dated("")) != today
    assert key(chat=dated("2025-01-31")) == fixed
    assert key() == plain


def test_few_rows_and_slow_tokenizers_are_not_looked_up(tmp_path: Path) -> None:
    source = written(tmp_path, ROWS)
    assert made(tmp_path, small=1 << 20).key([source], chat(), Reader()) == ""
    slow = chat()
    slow.tokenizer = type("Slow", (), {"is_fast": False})()
    assert made(tmp_path).key([source], slow, Reader()) == ""
    assert made(tmp_path).key([Source(tmp_path / "none")], chat(), Reader()) == ""
    load(made(tmp_path, slow=60.0), source)
    assert not (tmp_path / "encoded").exists()


def test_data_that_change_while_they_are_encoded_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, source = made(tmp_path), written(tmp_path, ROWS)
    encode = caching.load_dataset

    def while_it_grows(*args: Any, **more: Any) -> Dataset:
        data = encode(*args, **more)
        written(tmp_path, [*ROWS, ROWS[0]])
        return data

    with monkeypatch.context() as patch:
        patch.setattr(caching, "load_dataset", while_it_grows)
        load(cache, source)
    assert files(cache) == []


@pytest.mark.parametrize("at", [0, 9, 60, 400, -700, -40, -1])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_file_is_replaced(tmp_path: Path, at: int, cut: bool) -> None:
    cache, source = made(tmp_path), written(tmp_path, ROWS)
    fresh = load(cache, source)
    [path] = files(cache)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 0x15
    path.write_bytes(whole[:at] if cut else damaged)
    assert load(cache, source) == fresh
    assert path.read_bytes() == whole


def test_a_file_under_the_name_of_another_is_not_taken(tmp_path: Path) -> None:
    cache = made(tmp_path)
    load(cache, written(tmp_path, ROWS))
    [path] = files(cache)
    other = written(tmp_path, ROWS[:1])
    name = cache.key([other], chat(), Reader(), max_length=200)
    path.rename(cache.folder / f"{name}.safetensors")
    assert load(cache, other) == load(None, other)
    assert len(load(None, other)[0][0]) == 1


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    source = written(tmp_path, ROWS)
    load(made(tmp_path), source)
    [first] = files(made(tmp_path))
    cache = made(tmp_path, most=int(2.5 * first.stat().st_size))
    load(cache, source, max_length=201)
    second = next(path for path in files(cache) if path != first)
    for age, path in ((50, first), (90, second)):
        os.utime(path, (1e9 - age, 1e9 - age))
    load(cache, source)  # used
    os.utime(second, (1e9, 1e9))
    load(cache, source, max_length=202)
    assert first in files(cache)
    assert second not in files(cache)
    assert len(files(cache)) == 2
    assert cache.size() <= cache.most
    load(made(tmp_path / "small", most=100), source)
    assert not (tmp_path / "small").exists() or not files(made(tmp_path / "small"))


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path, ROWS)
    fresh = load(None, source)
    (tmp_path / "file").write_text("")
    assert load(Cache(tmp_path / "file" / "below", slow=0, small=0), source) == fresh
    assert load(Cache(tmp_path / "file", slow=0, small=0), source) == fresh
    full = made(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(caching, "ROOM", 1 << 62)
        assert load(full, source) == fresh
    assert files(full) == []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raise_full)
        assert load(full, source) == fresh
    assert files(full) == []


def raise_full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_examples_are_views_into_two_arrays(tmp_path: Path) -> None:
    cache = made(tmp_path)
    source = written(tmp_path, ROWS[:2])
    load(cache, source)
    kept = cache.read(cache.key([source], chat(), Reader(), max_length=200))
    assert kept is not None
    one, two = kept.data.examples
    assert one.tokens.base is two.tokens.base is not None
    assert one.supervised.base is two.supervised.base is not None
    assert one.tokens.flags.writeable  # frameworks warn of arrays that are not
    assert one.tokens.dtype == np.int32
    assert one.supervised.dtype == bool


def test_training_and_a_dry_run_share_it_and_a_switch_turns_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "train.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    )
    written(tmp_path, ROWS[:2], "valid.jsonl")
    wanted = TrainSettings(model=str(HOME / EMBEDDED), data=str(tmp_path))
    plain_data = load_data(wanted)
    assert not (tmp_path / "home").exists()  # off, as in all tests
    monkeypatch.setenv("LIVERY_CACHE", "")
    cache = default_cache()
    assert cache is not None
    assert cache.folder == tmp_path / "home" / "livery" / "encoded"
    eager = dataclasses.replace(cache, slow=0.0, small=0)
    monkeypatch.setattr("commands.training.data.default_cache", lambda: eager)
    for _ in range(2):
        data = load_data(wanted)
        assert plain(data.train) == plain(plain_data.train)
        assert plain(data.valid) == plain(plain_data.valid)
        assert describe_dropped(data) == describe_dropped(plain_data)
        assert len(files(eager)) == 2
        monkeypatch.setattr(caching, "load_dataset", never)


def test_a_column_that_no_row_has_is_refused_from_the_cache_too(tmp_path: Path) -> None:
    cache = made(tmp_path)
    first = written(tmp_path, [{"q": "a", "completion": "b"}])
    second = written(tmp_path, [{"prompt": "a", "completion": "b"}], "valid.jsonl")
    columns = read_columns(["ignore=q"])
    for _ in range(2):
        reader = Reader(columns)
        with pytest.raises(UserError, match=r"valid\.jsonl: no row has the column 'q'"):
            load_cached(cache, [second], chat(), reader, max_length=200)
    columns = read_columns(["ignore=note"])
    noted = written(tmp_path, [{"prompt": "a", "completion": "b", "note": ""}])
    for _ in range(2):  # a column that the first split had, and the second has not
        reader = Reader(columns)
        for source in (noted, second):
            load_cached(cache, [source], chat(), reader, max_length=200)
    assert first.path == noted.path
    with pytest.raises(UserError, match=r"no row has the column 'note'"):
        load_cached(cache, [second], chat(), Reader(columns), max_length=200)


@pytest.mark.slow
def test_rows_are_written_without_a_second_copy_of_them_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 400, 20_000)
    examples = tuple(
        Example(rng.integers(0, 9000, n).astype(np.int32), rng.integers(0, 2, n) == 1, f"x:{at}")
        for at, n in enumerate(lengths)
    )
    size = 5 * int(lengths.sum())  # 20 MB
    cache = Cache(tmp_path)
    tracemalloc.start()
    try:
        cache.write("key", Kept(Dataset(examples), Told()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 2
    kept = cache.read("key")
    assert kept is not None
    for read, wrote in zip(kept.data.examples, examples, strict=True):
        assert np.array_equal(read.tokens, wrote.tokens)
        assert np.array_equal(read.supervised, wrote.supervised)
        assert read.where == wrote.where
