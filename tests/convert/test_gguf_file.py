"""The GGUF container: what it holds comes back, what is damaged or hostile is refused at once."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.adapters import gguf as gguf_format
from convert.base import load_base
from convert.convert import convert
from convert.gguf.file import write_gguf
from convert.gguf.model import write_model
from livery import gguf_reader
from livery.adapter import Adapter, Pair
from livery.engines.llamacpp import files as llamacpp_files
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from tests import takes_less
from tests.convert import convert_cases as cases
from tests.tiny_models import tiny_model

pytestmark = cases.QUIET

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
VALUES = (
    st.text(max_size=20)
    | st.booleans()
    | st.integers(0, 2**32 - 1)
    | st.lists(st.integers(0, 2**32 - 1), max_size=5)
    | st.lists(st.text(max_size=9), min_size=1, max_size=5)
)


@pytest.mark.slow
@given(fields=st.dictionaries(NAMES, VALUES, max_size=6), names=st.sets(NAMES, max_size=4))
def test_what_is_written_comes_back(fields: dict[str, Any], names: set[str], tmp_path: Path):
    fields.pop("general.alignment", None)
    tensors = {name: np.full((2, 3 + at), at, np.float32) for at, name in enumerate(sorted(names))}
    write_gguf(tmp_path / "f.gguf", fields, tensors, dict.fromkeys(tensors, "float32"))
    found = open_gguf(tmp_path / "f.gguf")
    back = {k: v.tolist() if isinstance(v, memoryview) else v for k, v in found.metadata.items()}
    assert back == fields
    assert found.entries.keys() == tensors.keys()
    assert all((found.read(name) == array).all() for name, array in tensors.items())


@pytest.fixture(scope="session")
def adapter_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small adapter for a qwen2 model."""
    file = tmp_path_factory.mktemp("gguf") / "a.gguf"
    rng = np.random.default_rng(0)
    pairs = {
        f"model.layers.{n}.self_attn.v_proj": Pair(
            rng.normal(size=(4, 64)).astype(np.float32),
            rng.normal(size=(32, 4)).astype(np.float32),
            8.0,
        )
        for n in range(2)
    }
    gguf_format.write(Adapter(pairs, model_type="qwen2"), file)
    return file.read_bytes()


@pytest.mark.slow
@given(data=st.data())
def test_no_damage_leads_to_anything_but_a_user_error(
    data: st.DataObject, adapter_bytes: bytes, tmp_path: Path
):
    raw = bytearray(adapter_bytes)
    # Where the header is: a flip among the tensors' numbers would change nothing here.
    header = adapter_bytes.rindex(b"lora_b") + 40
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header))
        patch = data.draw(st.sampled_from([b"\xff", b"\x00", b"\x7f" * 8, b"\xff" * 8, b"\x09"]))
        raw[at : at + len(patch)] = patch
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    file = tmp_path / "a.gguf"
    file.write_bytes(raw)
    for read in (open_gguf, gguf_format.read):
        with contextlib.suppress(UserError):
            read(file)


# -- hostile --------------------------------------------------------------------------------------


def head(fields: int, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def array(key: str, kind: int, count: int) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, kind, count)


def long_file(path: Path, start: bytes, size: int) -> Path:
    """`start` and zeros up to `size` bytes, of which the disk holds almost none."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


HOSTILE: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "numbers": (lambda: head(1) + array("a", 4, 10**8), 4 * 10**8 + 100, ""),
    "texts": (lambda: head(1) + array("a", 8, 10**8), 9 * 10**8, "an array of 100000000 texts"),
    "arrays of arrays": (lambda: head(1) + array("a", 9, 10**7), 3 * 10**8, "elements of type 9"),
    "fields": (lambda: head(10**6), 10**8, "1000000 fields do not fit in it"),
    "tensors": (lambda: head(0, 10**6), 10**8, "1000000 tensors"),
    "a name": (lambda: head(1) + struct.pack("<Q", 10**7), 10**8, "a name of 10000000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_costs_next_to_nothing(kind: str, tmp_path: Path):
    start, size, says = HOSTILE[kind]
    file = long_file(tmp_path / "f.gguf", start(), size)

    def look() -> None:
        if says:
            with pytest.raises(UserError, match=says):
                open_gguf(file)
        else:
            assert len(open_gguf(file).metadata["a"]) == 10**8

    tracemalloc.start()
    try:
        assert takes_less(2, look)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10e6


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_engine_refuses_a_hostile_base_as_quickly(kind: str, tmp_path: Path):
    start, size, says = HOSTILE[kind]
    file = long_file(tmp_path / "f.gguf", start(), size)

    def look(read: Callable[[Path], object]) -> None:
        if says or read is engine_vocabulary:
            with pytest.raises(UserError, match=says or "holds no vocabulary") as refused:
                read(file)
            assert "\n" not in str(refused.value)
        else:
            assert read(file) == "GGUF"

    for read in (llamacpp_files.file_type, engine_vocabulary):
        assert takes_less(2, partial(look, read))


@pytest.mark.parametrize("layout", ["no power of two", "one over the other", "cut off"])
def test_the_engine_refuses_a_base_of_a_broken_layout(layout: str, tmp_path: Path):
    file = file_of(tmp_path / "m.gguf", *LAYOUTS[layout][:3])
    for read in (llamacpp_files.file_type, engine_vocabulary):
        with pytest.raises(UserError, match=LAYOUTS[layout][3]):
            read(file)


@pytest.mark.parametrize(
    ("value", "says"), [(1, "F16"), (7, "Q8_0"), (999, "GGUF"), ("f16", "GGUF"), (True, "GGUF")]
)
def test_the_type_that_a_base_says_it_has(value: Any, says: str, tmp_path: Path):
    write_gguf(tmp_path / "m.gguf", {"general.file_type": value}, {}, {})
    assert llamacpp_files.file_type(tmp_path / "m.gguf") == says


def engine_vocabulary(file: Path) -> None:
    class Tokenizer:
        backend_tokenizer = None

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    llamacpp_files.check_vocabulary(file, Tokenizer(), "m")


def test_texts_are_counted_over_the_whole_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gguf_reader, "MOST_STRINGS", 100)
    arrays = [array(key, 8, 50) + bytes(8 * 50) for key in "abc"]
    (tmp_path / "f.gguf").write_bytes(head(2) + arrays[0] + arrays[1])
    assert open_gguf(tmp_path / "f.gguf").metadata["b"] == [""] * 50
    (tmp_path / "f.gguf").write_bytes(head(3) + b"".join(arrays))
    with pytest.raises(UserError, match="an array of 50 texts"):
        open_gguf(tmp_path / "f.gguf")


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "p.gguf")
    with pytest.raises(UserError, match="not a regular file"):
        open_gguf(tmp_path / "p.gguf")
    (tmp_path / "e.gguf").touch()
    with pytest.raises(UserError, match="does not start with GGUF"):
        open_gguf(tmp_path / "e.gguf")
    with pytest.raises(UserError, match="no such file"):
        open_gguf(tmp_path / "none.gguf")
    with pytest.raises(UserError, match="not a regular file"):
        open_gguf(tmp_path)


# -- what llama.cpp refuses -----------------------------------------------------------------------


def entry(name: str, shape: tuple[int, ...], offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return text(name) + dims + struct.pack("<IQ", 0, offset)


def file_of(path: Path, alignment: int | None, offsets: tuple[int, int], size: int) -> Path:
    """An adapter for the tiny llama's blk.0.attn_v, (32, 64), of rank 4."""
    fields = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
    raw = head(len(fields) + 1 + bool(alignment), 2)
    for key, value in fields.items():
        raw += text(key) + struct.pack("<I", 8) + text(value)
    raw += text("adapter.lora.alpha") + struct.pack("<If", 6, 8.0)
    if alignment:
        raw += text("general.alignment") + struct.pack("<II", 4, alignment)
    raw += entry("blk.0.attn_v.weight.lora_a", (4, 64), offsets[0])
    raw += entry("blk.0.attn_v.weight.lora_b", (32, 4), offsets[1])
    raw += bytes(-len(raw) % (alignment or 32))
    path.write_bytes(raw + np.ones(size // 4, np.float32).tobytes())
    return path


LAYOUTS: dict[str, tuple[int | None, tuple[int, int], int, str]] = {
    "as it should be": (None, (0, 1024), 1536, ""),
    "another alignment": (64, (0, 1024), 1536, ""),
    "no power of two": (3, (0, 1024), 1536, "general.alignment is 3, not a power of two"),
    "off the alignment": (None, (0, 1028), 1600, "begins at 1028, after 1024 bytes"),
    "one over the other": (None, (0, 512), 1536, "begins at 512"),
    "a gap": (None, (0, 2048), 4096, "begins at 2048"),
    "the other way round": (None, (512, 0), 1536, "begins at 512, after 0 bytes"),
    "cut off": (None, (0, 1024), 1400, "ends beyond the file's end"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_refused_where_llama_cpp_refuses_it(layout: str, root: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    alignment, offsets, size, says = LAYOUTS[layout]
    file = file_of(tmp_path / "a.gguf", alignment, offsets, size)
    write_model(tiny_model("llama", root), tmp_path / "m.gguf", "f32")
    job = {"model": str(tmp_path / "m.gguf"), "adapter": str(file), "prompts": [[7, 8]]}
    if not says:
        assert len(open_gguf(file).entries) == 2
        assert cases.llama_cpp(tmp_path, **job)["adapted"]
        return
    with pytest.raises(UserError, match=says):
        open_gguf(file)
    if layout != "cut off":
        with pytest.raises(AssertionError):
            cases.llama_cpp(tmp_path, **job)


# -- what it loads --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["q4_0", "q8_0", "q5_1"])
def test_an_adapter_in_blocks(kind: str, root: Path, tmp_path: Path):
    """q4_0 adapters load in llama.cpp; what is read of them is what it computes with."""
    pytest.importorskip("xllamacpp")
    base = tiny_model("qwen2", root)
    ranks = {"v_proj": 32, "o_proj": 32}  # rows of a whole block
    cases.peft_adapter(
        "qwen2", root, tmp_path / "peft", target_modules=list(ranks), rank_pattern=ranks
    )
    convert(tmp_path / "peft", tmp_path / "whole.gguf", "gguf", base=base)
    whole = open_gguf(tmp_path / "whole.gguf")
    fields = {key: value for key, value in whole.metadata.items() if "livery" not in key}
    tensors = {name: whole.read(name) for name in whole.entries}
    write_gguf(tmp_path / "a.gguf", fields, tensors, dict.fromkeys(tensors, kind))
    convert(tmp_path / "a.gguf", tmp_path / "back", "peft", base=base)
    logits = cases.peft_logits(base, tmp_path / "back")[[1, 8]].astype(np.float64)
    wanted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    write_model(base, tmp_path / "m.gguf", "f32")
    files = {"model": str(tmp_path / "m.gguf"), "adapter": str(tmp_path / "a.gguf")}
    found = cases.llama_cpp(
        tmp_path, **files, prompts=[cases.TOKENS[0, :n].tolist() for n in (2, 9)]
    )
    # llama.cpp rounds the other factor to 8 bits where one is in blocks.
    assert np.abs(np.array(found["adapted"]) - wanted).max() < 0.15
    assert np.abs(np.array(found["base"]) - wanted).max() > 0.5


@pytest.mark.slow
def test_an_empty_list_of_invocation_tokens(root: Path, tmp_path: Path):
    """llama.cpp takes it for a plain adapter, and so do we."""
    pytest.importorskip("xllamacpp")
    base = tiny_model("qwen2", root)
    cases.peft_adapter("qwen2", root, tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "plain.gguf", "gguf", base=base)
    plain = open_gguf(tmp_path / "plain.gguf")
    fields = {**plain.metadata, "adapter.alora.invocation_tokens": []}
    tensors = {name: plain.read(name) for name in plain.entries}
    write_gguf(tmp_path / "a.gguf", fields, tensors, dict.fromkeys(tensors, "float32"))
    assert gguf_format.read(tmp_path / "a.gguf").alora_invocation_tokens is None
    write_model(base, tmp_path / "m.gguf", "f32")
    found = [
        cases.llama_cpp(
            tmp_path,
            model=str(tmp_path / "m.gguf"),
            adapter=str(tmp_path / name),
            prompts=[cases.TOKENS[0, :9].tolist()],
        )["adapted"]
        for name in ("plain.gguf", "a.gguf")
    ]
    assert found[0] == found[1]
    write_gguf(
        tmp_path / "odd.gguf",
        {**fields, "adapter.alora.invocation_tokens": "now"},
        tensors,
        dict.fromkeys(tensors, "float32"),
    )
    with pytest.raises(UserError, match="not an array of u32"):
        gguf_format.read(tmp_path / "odd.gguf")


def test_the_number_of_experts(root: Path, tmp_path: Path):
    """llama.cpp writes beyond its memory where it is wrong."""
    base = load_base(tiny_model("mixtral", root))

    def adapter(*counts: int) -> Adapter:
        pairs = {
            f"model.layers.{n}.mlp.experts.up_proj": Pair(
                np.ones((count, 2, 64), np.float32), np.ones((count, 128, 2), np.float32), 4.0,
                kind="experts",
            )
            for n, count in enumerate(counts)
        }  # fmt: skip
        return Adapter(pairs, model_type="mixtral", heads=(4, 2))

    gguf_format.write(adapter(4, 4), tmp_path / "a.gguf", base)
    assert len(gguf_format.read(tmp_path / "a.gguf", base).pairs) == 2
    with pytest.raises(UserError, match=r"up_proj: 8 experts, the base has 4"):
        gguf_format.write(adapter(8, 8), tmp_path / "b.gguf", base)
    with pytest.raises(UserError, match=r"layers\.1.*: 2 experts, other modules have 4"):
        gguf_format.write(adapter(4, 2), tmp_path / "b.gguf")
    gguf_format.write(adapter(8, 8), tmp_path / "b.gguf")
    with pytest.raises(UserError, match=r"b\.gguf: .*8 experts, the base has 4"):
        gguf_format.read(tmp_path / "b.gguf", base)
