"""A trip through all formats and back is the identity, to the last bit."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from convert.adapters import formats, scales
from convert.base import Base, load_base
from livery.adapter import Adapter, Kind, Pair
from livery.safetensors_file import open_tensors, round_to, write_tensors
from tests.tiny_models import FAMILIES, tiny_model


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    root = tmp_path_factory.getbasetemp() / "tiny"
    return {family: load_base(tiny_model(family, root)) for family in FAMILIES}


def kind_of(module: str) -> Kind:
    return "experts" if ".experts." in module else "linear"


def adaptable(base: Base) -> list[str]:
    """Modules that all three formats can hold."""
    inner = [m for m, shape in base.shapes.items() if ".layers." in m and len(shape) > 1]
    return sorted(inner)


def make_pair(
    rng: np.random.Generator, module: str, shape: tuple[int, ...], rank: int, alpha: float,
    rslora: bool, dtype: str,
) -> Pair:  # fmt: skip
    *experts, out, into = shape
    # Wild exponents: where folding loses bits.
    a, b = (
        (rng.normal(size=size) * 2.0 ** rng.integers(-12, 12, size=size)).astype(np.float32)
        for size in ((*experts, rank, into), (*experts, out, rank))
    )
    a, b = (round_to(x, dtype) for x in (a, b))
    return Pair(a, b, alpha, rslora, kind_of(module))


@st.composite
def adapters(draw: Any, bases: dict[str, Base]) -> tuple[Base, Adapter]:
    base = bases[draw(st.sampled_from(sorted(bases)))]
    names = adaptable(base)
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=6, unique=True))
    rslora = draw(st.booleans())
    dtype = draw(st.sampled_from(["float32", "float32", "float16", "bfloat16"]))
    ranks = st.integers(1, 9)
    alphas = st.one_of(st.integers(1, 64), st.floats(0.01, 100.0))
    uniform = draw(st.booleans())
    rank, alpha = draw(ranks), float(draw(alphas))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pairs = {
        module: make_pair(
            rng,
            module,
            base.shapes[module],
            rank if uniform else draw(ranks),
            alpha if uniform else float(draw(alphas)),
            rslora,
            dtype,
        )
        for module in sorted(chosen)
    }
    adapter = Adapter(
        pairs,
        base_model="someone/something",
        dtype=dtype,
        dropout=draw(st.sampled_from([0.0, 0.1])),
        task={"task_name": "date keys"} if draw(st.booleans()) else {},
    )
    return base, formats.with_base(adapter, base)


def same(one: Adapter, other: Adapter) -> bool:
    if list(one.pairs) != list(other.pairs) and set(one.pairs) != set(other.pairs):
        return False
    for module, pair in one.pairs.items():
        twin = other.pairs[module]
        if (pair.alpha, pair.rslora, pair.kind) != (twin.alpha, twin.rslora, twin.kind):
            return False
        if pair.a.dtype != np.float16 and pair.b.dtype != np.float16:
            bits = [(pair.a, twin.a), (pair.b, twin.b)]
            if not all(
                np.array_equal(
                    np.ascontiguousarray(x, np.float32).view(np.uint32),
                    np.ascontiguousarray(y, np.float32).view(np.uint32),
                )
                for x, y in bits
            ):
                return False
        elif not (np.array_equal(pair.a, twin.a) and np.array_equal(pair.b, twin.b)):
            return False
    facts = ("base_model", "model_type", "heads", "dtype", "dropout", "task")
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts)


def trip(adapter: Adapter, base: Base, route: Sequence[str], folder: Path) -> Adapter:
    """Write and read in each format in turn; the base is known only where it is written."""
    source: Any = None
    for step, target in enumerate(route):
        place = folder / f"{step}-{target}"
        kind: Any = target
        formats.write_adapter(adapter, place, kind, base=base, source=source)
        adapter, source = formats.read_adapter(place), kind
    return adapter


@pytest.mark.slow
@given(data=st.data())
def test_every_route_is_the_identity(data: st.DataObject, bases: dict[str, Base]):
    base, adapter = data.draw(adapters(bases))
    routes = [list(p) for p in itertools.permutations(["peft", "mlx", "gguf"])]
    route = data.draw(st.sampled_from(routes))
    with tempfile.TemporaryDirectory() as folder:
        first = trip(adapter, base, ["peft"], Path(folder) / "first")
        back = trip(adapter, base, [*route, "peft"], Path(folder) / "trip")
        if not any(pair.kind == "experts" for pair in adapter.pairs.values()):
            assert same(adapter, back)
        assert same(first, back)


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_files_come_back_as_they_were(family: str, bases: dict[str, Base], tmp_path: Path):
    """PEFT → MLX → GGUF → PEFT: the same config, the same tensor bytes."""
    base = bases[family]
    rng = np.random.default_rng(1)
    pairs = {
        module: make_pair(rng, module, base.shapes[module], 2 + at % 3, 3.0 + at, False, "float32")
        for at, module in enumerate(adaptable(base))
    }
    adapter = formats.with_base(Adapter(pairs, base_model="a/b"), base)
    formats.write_adapter(adapter, tmp_path / "start", "peft", base=base)
    start = formats.read_adapter(tmp_path / "start")
    trip(start, base, ["mlx", "gguf", "peft"], tmp_path)
    config = (tmp_path / "start" / "adapter_config.json").read_text()
    assert json.loads((tmp_path / "2-peft" / "adapter_config.json").read_text()) == json.loads(
        config
    )
    one, other = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("start", "2-peft")
    )
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.slow
@given(exponent=st.integers(-20, 20), factor=st.floats(1e-3, 1e3), seed=st.integers(0, 2**32))
@settings(max_examples=200)
def test_unfolding_is_exact(exponent: int, factor: float, seed: int):
    b = np.random.default_rng(seed).normal(size=(16, 8)).astype(np.float32) * 2.0**exponent
    b = b.astype(np.float32)
    product = scales.fold("x", b, factor)
    back = scales.unfold(product, factor, scales.missing(b, product, factor))
    assert back.tobytes() == b.tobytes()


def test_dividing_alone_would_not_be_exact():
    """The negative control of the test above."""
    b = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    product = scales.fold("x", b, 1.9)
    assert not np.array_equal(scales.unfold(product, 1.9), b)


def test_a_record_that_no_longer_fits_is_not_believed(bases: dict[str, Base], tmp_path: Path):
    """Trained on by another program, an adapter is read for what it is."""
    base = bases["llama"]
    rng = np.random.default_rng(0)
    modules = adaptable(base)[:2]
    pairs = {
        module: make_pair(rng, module, base.shapes[module], 4, alpha, False, "float32")
        for module, alpha in zip(modules, (8.0, 11.0), strict=True)
    }
    adapter = formats.with_base(Adapter(pairs), base)
    formats.write_adapter(adapter, tmp_path, "mlx", base=base)
    file = tmp_path / "adapters.safetensors"
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    tensors = {name: array * 1.5 for name, array in load_file(file).items()}
    save_file(tensors, file, metadata=metadata)
    read = formats.read_adapter(tmp_path)
    for module, pair in pairs.items():
        found = read.pairs[module]
        b, a = pair.b.astype(np.float64), pair.a.astype(np.float64)
        wanted = 2.25 * pair.scale * (b @ a)
        made = found.scale * (found.b.astype(np.float64) @ found.a.astype(np.float64))
        assert np.abs(made - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_a_damaged_record_is_as_good_as_none(bases: dict[str, Base], tmp_path: Path):
    base = bases["qwen3"]
    module = adaptable(base)[0]
    pair = make_pair(np.random.default_rng(0), module, base.shapes[module], 4, 8.0, True, "float32")
    formats.write_adapter(Adapter({module: pair}, model_type="qwen3"), tmp_path, "mlx")
    file = tmp_path / "adapters.safetensors"
    tensors = load_file(file)
    for text in ("{", "[]", '{"facts":{},"pairs":{"x":[1]}}', '{"facts":[],"pairs":3}', "null"):
        save_file(tensors, file, metadata={"livery": text})
        found = formats.read_adapter(tmp_path).pairs[module]
        assert found.scale == pytest.approx(pair.scale)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_safetensors_agree_with_the_package(dtype: str, tmp_path: Path):
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    rng = np.random.default_rng(0)
    array = (rng.normal(size=(7, 5)) * 2.0 ** rng.integers(-30, 14, size=(7, 5))).astype(np.float32)
    write_tensors(tmp_path / "ours", {"x": array.T}, {"x": dtype}, {"format": "pt"})
    kind = getattr(torch, dtype)
    wanted = torch.tensor(array.T.copy()).to(kind)
    loaded = load_torch(tmp_path / "ours")["x"]
    assert loaded.dtype == kind
    assert torch.equal(loaded, wanted)
    save_torch({"x": wanted.contiguous()}, tmp_path / "theirs")
    file = open_tensors(tmp_path / "theirs")
    assert np.array_equal(file.read("x"), wanted.float().numpy())


def test_gguf_agrees_with_the_package(bases: dict[str, Base], tmp_path: Path):
    """The gguf package reads ours, and we read what it writes (as the common converter does)."""
    import gguf

    base = bases["llama"]
    rng = np.random.default_rng(0)
    pairs = {
        m: make_pair(rng, m, base.shapes[m], 4, 8.0, False, "float32") for m in adaptable(base)
    }
    adapter = formats.with_base(
        Adapter(pairs, "a/b", task={"task_name": "t"}, alora_invocation_tokens=(5, 6)), base
    )
    formats.write_adapter(adapter, tmp_path, "gguf", base=base)
    reader = GGUFReader(str(tmp_path / "adapter.gguf"))
    read = formats.read_adapter(tmp_path / "adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["adapter.lora.alpha"] == 8.0
    assert fields["adapter.alora.invocation_tokens"] == [5, 6]
    assert fields["adapter.lora.task_name"] == "t"
    assert read.alora_invocation_tokens == (5, 6)
    assert read.task == {"task_name": "t"}
    # A file without our record, written by the package.
    writer = gguf.GGUFWriter(str(tmp_path / "plain.gguf"), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    plain = formats.read_adapter(tmp_path / "plain.gguf", base)
    for module, pair in pairs.items():
        assert np.array_equal(plain.pairs[module].a, pair.a)
        assert np.array_equal(plain.pairs[module].b, pair.b)
        assert plain.pairs[module].scale == pair.scale


def test_alpha_zero_or_absent_means_one(bases: dict[str, Base], tmp_path: Path):
    import gguf

    for name, alpha in (("zero", 0.0), ("absent", None)):
        file = tmp_path / f"{name}.gguf"
        writer = gguf.GGUFWriter(str(file), "qwen3")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        if alpha is not None:
            writer.add_float32("adapter.lora.alpha", alpha)
        writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 64), np.float32))
        writer.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((128, 4), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (pair,) = formats.read_adapter(file, bases["qwen3"]).pairs.values()
        assert pair.scale == 1.0


def test_q8_0_is_read(bases: dict[str, Base], tmp_path: Path):
    import gguf
    from gguf.quants import dequantize, quantize

    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 64)).astype(np.float32)
    b = rng.normal(size=(128, 32)).astype(np.float32)
    a = np.concatenate([a] * 8)
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(str(tmp_path / "q.gguf"), "qwen3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", quantize(a, q8), raw_dtype=q8)
    writer.add_tensor("blk.0.attn_q.weight.lora_b", quantize(b, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    adapter = formats.read_adapter(tmp_path / "q.gguf", bases["qwen3"])
    (pair,) = adapter.pairs.values()
    assert np.array_equal(pair.a, dequantize(quantize(a, q8), q8))
    assert adapter.dtype == "float32"


def test_trips_without_a_base(bases: dict[str, Base], tmp_path: Path):
    """GGUF → PEFT → GGUF needs no base: the head counts travel along."""
    base = bases["llama"]
    rng = np.random.default_rng(0)
    pairs = {
        m: make_pair(rng, m, base.shapes[m], 4, 8.0, False, "float32") for m in adaptable(base)
    }
    adapter = formats.with_base(Adapter(pairs), base)
    formats.write_adapter(adapter, tmp_path / "a.gguf", "gguf", base=base)
    shutil.move(tmp_path / "a.gguf", tmp_path / "elsewhere.bin")
    for step, target in enumerate(("peft", "mlx", "gguf")):
        source = tmp_path / ("elsewhere.bin" if step == 0 else f"{step - 1}")
        read = formats.read_adapter(source)
        kind: Any = target
        formats.write_adapter(read, tmp_path / f"{step}", kind)
    assert same(formats.read_adapter(tmp_path / "2"), adapter.replace())
