"""What cannot be converted is refused by name, and no file, however broken, does more than that."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from convert.adapters import formats
from convert.base import Base
from convert.gguf.file import write_gguf
from livery.adapter import Adapter, Pair
from livery.errors import UserError

Q, K = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1}
BASE = Base(Path("a-base"), {**CONFIG, "model_type": "llama"}, "llama", {})
TIED = Base(Path("tied"), CONFIG, "qwen3", {"model.embed_tokens": (32, 8), Q: (16, 8), K: (16, 8)})


def pair(into: int = 8, out: int = 16, rank: int = 2, **more: Any) -> Pair:
    rng = np.random.default_rng(into)
    shapes = ((rank, into), (out, rank))
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return Pair(a, b, 4.0, **more)


def plain(**more: Any) -> Adapter:
    return Adapter({Q: pair(), K: pair(out=8)}, "a/b", "llama", (4, 2), **more)


def experts(count: int = 4) -> Adapter:
    a = np.ones((count, 2, 8), np.float32)
    b = np.ones((count, 16, 2), np.float32)
    modules = [f"model.layers.0.mlp.experts.{part}_proj" for part in ("gate", "up")]
    return Adapter({m: Pair(a, b, 4.0, kind="experts") for m in modules}, model_type="qwen3_moe")


def magnitude() -> Pair:
    return pair(magnitude=np.ones(16, np.float32))


REFUSED: dict[str, tuple[Adapter, str, str, Base | None]] = {
    "dora to gguf": (Adapter({Q: magnitude()}), "gguf", "DoRA has no GGUF form.*merge", BASE),
    "dora on some": (
        Adapter({Q: magnitude(), K: pair()}), "peft", "on all modules or none", BASE
    ),
    "dora on experts": (
        Adapter({**experts().pairs, Q: magnitude()}), "mlx", "all modules or none", BASE
    ),
    "bias to mlx": (Adapter({Q: pair(bias=np.ones(16))}), "mlx", "lora_bias.*merge", BASE),
    "bias to gguf": (Adapter({Q: pair(bias=np.ones(16))}), "gguf", "lora_bias.*merge", BASE),
    "whole tensors to mlx": (plain(saved={"x.weight": np.ones(3)}), "mlx", "x.weight.*merge", BASE),
    "whole tensors to gguf": (
        plain(saved={"x.weight": np.ones(3)}), "gguf", "x.weight.*merge", BASE
    ),
    "alora to mlx": (plain(alora_invocation_tokens=(1,)), "mlx", "activated LoRA", BASE),
    "unknown architecture": (
        plain().replace(model_type="mamba"), "gguf", "'mamba'.*does not know", None
    ),
    "no architecture": (Adapter({Q: pair()}), "gguf", "--base", None),
    "no head counts": (plain().replace(heads=None), "gguf", "head counts.*--base", None),
    "no such tensor": (
        Adapter({"model.layers.0.mlp.odd": pair()}), "gguf", "no tensor for it", BASE
    ),
    "heads do not divide": (Adapter({Q: pair(out=12)}), "gguf", "4 heads", BASE),
    "all scales zero": (
        Adapter({Q: Pair(np.ones((2, 8)), np.ones((16, 2)), 0.0)}), "gguf", "reads as 1", BASE
    ),
    "experts without a type": (experts().replace(model_type=""), "mlx", "--base", None),
    "embedding, base unknown": (
        Adapter({"model.embed_tokens": pair(32, 8, kind="embedding")}), "mlx", "ties.*--base", None
    ),
    "tied embedding to mlx": (
        Adapter({"model.embed_tokens": pair(32, 8, kind="embedding")}), "mlx", "MLX applies", TIED
    ),
    "tied embedding to gguf": (
        Adapter({"model.embed_tokens": pair(32, 8, kind="embedding")}), "gguf", "aborts", TIED
    ),
    "tied head to mlx": (Adapter({"lm_head": pair(8, 32)}), "mlx", "no lm_head", TIED),
    "tied head to gguf": (Adapter({"lm_head": pair(8, 32)}), "gguf", "aborts", TIED),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path):
    adapter, target, says, base = REFUSED[case]
    kind: Any = target
    with pytest.raises(UserError, match=says):
        formats.write_adapter(adapter, tmp_path / "out", kind, base=base)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.gguf"))


def test_mlx_embedding_on_a_tied_base_has_no_peft_form(tmp_path: Path):
    adapter = Adapter({"model.embed_tokens": pair(32, 8, kind="embedding")})
    with pytest.raises(UserError, match="MLX applied it to both"):
        formats.write_adapter(adapter, tmp_path, "peft", base=TIED, source="mlx")
    formats.write_adapter(adapter, tmp_path, "peft", base=TIED, source="peft")


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        (Adapter({"model.layers.7.self_attn.q_proj": pair()}), "layers.7.*no such module"),
        (Adapter({Q: pair(into=9)}), r"\(16, 9\).*\(16, 8\)"),
        (Adapter({"lm_head": pair(8, 31)}), r"\(31, 8\).*\(32, 8\)"),
    ],
)
def test_an_adapter_of_another_base_is_refused(adapter: Adapter, says: str):
    with pytest.raises(UserError, match=says):
        formats.with_base(adapter, TIED)


def test_expert_counts_are_checked():
    shapes = dict.fromkeys(experts().pairs, (4, 16, 8))
    base = Base(Path("moe"), CONFIG, "qwen3_moe", shapes)
    formats.with_base(experts(4), base)
    with pytest.raises(UserError, match=r"\(5, 16, 8\).*\(4, 16, 8\)"):
        formats.with_base(experts(5), base)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


PEFT_Q = f"base_model.model.{Q}"
BROKEN_PEFT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no B": (lambda f: edit_tensors(f, lambda t: t.pop(f"{PEFT_Q}.lora_B.weight")), "no lora_B"),
    "no A": (lambda f: edit_tensors(f, lambda t: t.pop(f"{PEFT_Q}.lora_A.weight")), "no lora_A"),
    "rank": (lambda f: edit_config(f, r=3), "rank 3"),
    "rank zero": (lambda f: edit_config(f, r=0), "at least 1"),
    "rank text": (lambda f: edit_config(f, r="two"), "a whole number, at least 1"),
    "pattern": (lambda f: edit_config(f, rank_pattern={"(": 2}), "regular expression"),
    "unknown": (
        lambda f: edit_tensors(f, lambda t: t.update({"base_model.model.x.weight": np.ones(2)})),
        "unknown tensor",
    ),
    "prefix": (
        lambda f: edit_tensors(f, lambda t: t.update({"x.lora_A.weight": np.ones(2)})), "start with"
    ),
    "shapes": (
        lambda f: edit_tensors(
            f, lambda t: t.update({f"{PEFT_Q}.lora_B.weight": np.ones((16, 3), np.float32)})
        ),
        "share a rank",
    ),
    "integers": (
        lambda f: edit_tensors(
            f, lambda t: t.update({f"{PEFT_Q}.lora_B.weight": np.ones((16, 2), np.int32)})
        ),
        "stored as I32",
    ),
    "kind": (lambda f: edit_config(f, peft_type="IA3"), "IA3"),
    "pissa": (lambda f: edit_config(f, init_lora_weights="pissa_niter_4"), "changed the base"),
    "replicated": (lambda f: edit_config(f, layer_replication=[[0, 1]]), "replicated layers"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "no such file"),
    "config": (lambda f: (f / "adapter_config.json").write_text("{"), "adapter_config.json:1"),
    "list": (lambda f: (f / "adapter_config.json").write_text("[]"), "a JSON object was expected"),
    "empty": (lambda f: edit_tensors(f, lambda t: t.clear()), "no LoRA tensors"),
    "pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "pickle"
    ),
    "gone": (lambda f: (f / "adapter_model.safetensors").unlink(), "no adapter here"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_PEFT)
def test_broken_peft_folders(case: str, tmp_path: Path):
    formats.write_adapter(plain(), tmp_path, "peft", base=BASE)
    formats.read_adapter(tmp_path)
    spoil, says = BROKEN_PEFT[case]
    spoil(tmp_path)
    with pytest.raises(UserError, match=says):
        formats.read_adapter(tmp_path)


def lora(**changes: Any) -> dict[str, Any]:
    return {"lora_parameters": {"rank": 2, "scale": 2.0, "dropout": 0.0, **changes}}


BROKEN_MLX: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no b": (lambda f: edit_tensors(f, lambda t: t.pop(f"{Q}.lora_b")), "no lora_b"),
    "a listed module": (
        lambda f: edit_tensors(f, lambda t: [t.pop(f"{Q}.lora_{h}") for h in "ab"]),
        "keys lists.*q_proj",
    ),
    "rank": (lambda f: edit_config(f, **lora(rank=3)), "rank 3"),
    "no scale": (lambda f: edit_config(f, lora_parameters={"rank": 2}), "rank and scale"),
    "scale": (lambda f: edit_config(f, **lora(scale="x")), 'scale is "x"; it must be a number'),
    "whole": (lambda f: edit_config(f, fine_tune_type="full"), "whole weights"),
    "dora": (lambda f: edit_config(f, fine_tune_type="dora"), "no m"),
    "unknown": (
        lambda f: edit_tensors(f, lambda t: t.update({"x.weight": np.ones(2)})), "not an adapter's"
    ),
    "magnitude": (
        lambda f: edit_tensors(f, lambda t: t.update({f"{Q}.m": np.ones(16)})), "is lora"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_MLX)
def test_broken_mlx_folders(case: str, tmp_path: Path):
    formats.write_adapter(plain(), tmp_path, "mlx", base=BASE)
    formats.read_adapter(tmp_path)
    spoil, says = BROKEN_MLX[case]
    spoil(tmp_path)
    with pytest.raises(UserError, match=says):
        formats.read_adapter(tmp_path)


HEAD = {"general.architecture": "qwen3", "general.type": "adapter", "adapter.type": "lora"}
A, B = np.ones((2, 8), np.float32), np.ones((16, 2), np.float32)
PAIR = {"blk.0.attn_q.weight.lora_a": A, "blk.0.attn_q.weight.lora_b": B}
BROKEN_GGUF: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], str]] = {
    "a model": ({**HEAD, "general.type": "model"}, PAIR, "this is a model"),
    "not lora": ({**HEAD, "adapter.type": "ia3"}, PAIR, "not lora"),
    "architecture": ({**HEAD, "general.architecture": "rwkv"}, PAIR, "'rwkv'"),
    "a half": (HEAD, {"blk.0.attn_q.weight.lora_a": A}, "lacks lora_b"),
    "a norm": (HEAD, {**PAIR, "blk.0.attn_norm.weight": A}, "attn_norm.*ignores"),
    "unknown": (HEAD, {"blk.0.odd.weight.lora_a": A, "blk.0.odd.weight.lora_b": B}, "odd"),
    "ranks": (HEAD, {**PAIR, "blk.0.attn_q.weight.lora_a": np.ones((3, 8))}, "share a rank"),
    "alpha": ({**HEAD, "adapter.lora.alpha": float("nan")}, PAIR, "not a number"),
    "alpha text": ({**HEAD, "adapter.lora.alpha": "8"}, PAIR, "not a number"),
    "empty": (HEAD, {}, "no LoRA tensors"),
    "llama without heads": ({**HEAD, "general.architecture": "llama"}, PAIR, "--base"),
}


@pytest.mark.parametrize("case", BROKEN_GGUF)
def test_broken_gguf_files(case: str, tmp_path: Path):
    head, tensors, says = BROKEN_GGUF[case]
    write_gguf(tmp_path / "a.gguf", head, tensors, dict.fromkeys(tensors, "float32"))
    with pytest.raises(UserError, match=says):
        formats.read_adapter(tmp_path / "a.gguf")


@pytest.mark.parametrize("version", [None, "0.18.1"])
def test_experts_of_an_older_peft_are_ambiguous(version: str | None, tmp_path: Path):
    formats.write_adapter(experts(), tmp_path, "peft")
    edit_config(tmp_path, peft_version=version)
    with pytest.raises(UserError, match=r"before 0\.19"):
        formats.read_adapter(tmp_path)


def header_file(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


HUGE = 2**63
HOSTILE_SAFETENSORS: dict[str, bytes | Any] = {
    "not json": b"{]",
    "no object": b"[]",
    "not utf-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "overflowing shape": {"x": {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 0]}},
    "shape that wraps to 0": {"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}},
    "negative": {"x": {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]}},
    "beyond the end": {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
    "offsets backwards": {"x": {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}},
    "floats": {"x": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}},
    "booleans": {"x": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
    "unknown type": {"x": {"dtype": "C64", "shape": [], "data_offsets": [0, 8]}},
    "no type": {"x": {"shape": [], "data_offsets": [0, 8]}},
    "a list": {"x": [1, 2]},
    "metadata": {"__metadata__": {"x": 1}},
    "metadata that is a list": {"__metadata__": []},
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "twice": b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    b'"x":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}',
}


@pytest.mark.parametrize("case", HOSTILE_SAFETENSORS)
def test_hostile_safetensors(case: str, tmp_path: Path):
    formats.write_adapter(plain(), tmp_path, "mlx", base=BASE)
    header_file(tmp_path / "adapters.safetensors", HOSTILE_SAFETENSORS[case])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        formats.read_adapter(tmp_path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 200_000_000, 64])
def test_hostile_header_lengths(length: int, tmp_path: Path):
    formats.write_adapter(plain(), tmp_path, "mlx", base=BASE)
    (tmp_path / "adapters.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UserError, match="longer than the file"):
        formats.read_adapter(tmp_path)


def gguf_head(tensors: int, fields: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + rest


HOSTILE_GGUF = {
    "a billion tensors": gguf_head(10**9, 0),
    "a billion fields": gguf_head(0, 10**9),
    "a long name": gguf_head(0, 1, struct.pack("<Q", 2**63) + b"x" * 64),
    "a long array": gguf_head(0, 1, struct.pack("<Q1sIIQ", 1, b"x", 9, 4, 2**61) + b"\0" * 64),
    "an array of strings": gguf_head(
        0, 1, struct.pack("<Q1sIIQ", 1, b"x", 9, 8, 2**40) + b"\0" * 64
    ),
    "arrays in arrays": gguf_head(
        0, 1, struct.pack("<Q1sI", 1, b"x", 9) + struct.pack("<IQ", 9, 1) * 40
    ),
    "dimensions": gguf_head(1, 0, struct.pack("<Q1sI", 1, b"x", 2**31) + b"\0" * 64),
    "an overflowing shape": gguf_head(
        1, 0, struct.pack("<Q1sIQQIQ", 1, b"x", 2, 2**62, 4, 0, 0) + b"\0" * 64
    ),
    "an offset": gguf_head(1, 0, struct.pack("<Q1sIQIQ", 1, b"x", 1, 4, 0, 2**63) + b"\0" * 64),
}


@pytest.mark.parametrize("case", HOSTILE_GGUF)
def test_hostile_gguf(case: str, tmp_path: Path):
    (tmp_path / "a.gguf").write_bytes(HOSTILE_GGUF[case])
    with pytest.raises(UserError, match="not a complete GGUF file"):
        formats.read_adapter(tmp_path / "a.gguf")


@pytest.mark.parametrize("target", ["peft", "mlx", "gguf"])
def test_every_truncation_is_noticed(target: str, tmp_path: Path):
    kind: Any = target
    formats.write_adapter(plain(), tmp_path, kind, base=BASE)
    (path,) = [p for p in tmp_path.iterdir() if p.suffix in (".safetensors", ".gguf")]
    whole = path.read_bytes()
    ends = [*range(64), *range(64, len(whole), 97), len(whole) - 33]
    for end in ends:
        path.write_bytes(whole[:end])
        with pytest.raises(UserError):
            formats.read_adapter(tmp_path)


@pytest.mark.slow
@given(data=st.data())
@pytest.mark.parametrize("target", ["peft", "mlx", "gguf"])
def test_damage_is_read_or_refused(target: str, data: st.DataObject, tmp_path: Path):
    """Flipped bytes give an adapter or a UserError: never another exception, never a crash."""
    kind: Any = target
    folder = tmp_path / target
    if not folder.exists():
        formats.write_adapter(plain(), folder, kind, base=BASE)
        (path,) = [p for p in folder.iterdir() if p.suffix in (".safetensors", ".gguf")]
        (folder / "whole").write_bytes(path.read_bytes())
    (path,) = [p for p in folder.iterdir() if p.suffix in (".safetensors", ".gguf")]
    raw = bytearray((folder / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with contextlib.suppress(UserError):
        formats.read_adapter(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PEFT_KEYS = (
    "r lora_alpha rank_pattern alpha_pattern target_modules target_parameters use_rslora use_dora "
    "modules_to_save bias peft_type peft_version init_lora_weights lora_dropout "
    "alora_invocation_tokens base_model_name_or_path layer_replication"
).split()
MLX_KEYS = ["model", "fine_tune_type", "num_layers", "lora_parameters"]


@pytest.mark.slow
@given(data=st.data())
@pytest.mark.parametrize("target", ["peft", "mlx"])
def test_odd_configs_are_read_or_refused(target: str, data: st.DataObject, tmp_path: Path):
    kind: Any = target
    folder = tmp_path / target
    if not folder.exists():
        formats.write_adapter(plain(), folder, kind, base=BASE)
        config = (folder / "adapter_config.json").read_text()
        (folder / "whole").write_text(config)
    config = json.loads((folder / "whole").read_text())
    place = config
    keys = PEFT_KEYS
    if target == "mlx":
        keys = MLX_KEYS
        if data.draw(st.booleans()):
            place, keys = config["lora_parameters"], ["rank", "scale", "dropout", "keys"]
    place[data.draw(st.sampled_from(keys))] = data.draw(JSON)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with contextlib.suppress(UserError):
        formats.read_adapter(folder)
