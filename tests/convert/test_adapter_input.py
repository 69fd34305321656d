"""Adapters that somebody else made: NaN, patterns without end, damaged records, names that act."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.adapters import formats, peft_config, record
from convert.check.check import check
from convert.convert import convert
from convert.gguf.file import write_gguf
from convert.merge.folders import merge_folders
from convert.pack.pack import pack
from livery.adapter import Adapter, NotFinite, Pair
from livery.cli import cli
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from livery.safetensors_file import open_tensors, write_tensors
from tests import takes_less
from tests.convert.test_convert_errors import BASE, edit_config, plain
from tests.tiny_models import tiny_model

Q, K = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
NAN, INF = float("nan"), float("inf")


def fitting(base: Path) -> Adapter:
    """One that fits a tiny llama."""
    rng = np.random.default_rng(1)

    def pair(out: int) -> Pair:
        a, b = rng.normal(size=(2, 64)), rng.normal(size=(out, 2))
        return Pair(a.astype(np.float32), b.astype(np.float32), 4.0)

    return Adapter({Q: pair(64), K: pair(32)}, str(base), "llama", (4, 2))


# --- NaN and infinity -------------------------------------------------------------------------


def spoil(path: Path, *values: float) -> str:
    """Put values into the last tensor of an adapter's file; returns the tensor's name."""
    if path.suffix == ".gguf":
        file = open_gguf(path)
        arrays = {name: np.array(file.read(name)) for name in file.entries}
    else:
        file = open_tensors(path)
        arrays = {name: np.array(file.read(name)) for name in file.entries}
    name = sorted(arrays)[-1]
    arrays[name].reshape(-1)[: len(values)] = values
    dtypes = dict.fromkeys(arrays, "float32")
    if path.suffix == ".gguf":
        write_gguf(path, dict(open_gguf(path).metadata), arrays, dtypes)
    else:
        write_tensors(path, arrays, dtypes, open_tensors(path).metadata)
    return name


PLACES = {
    "peft": ("", "adapter_model.safetensors"),
    "mlx": ("", "adapters.safetensors"),
    "gguf": ("adapter.gguf", "adapter.gguf"),
}


@pytest.mark.slow
@pytest.mark.parametrize("target", PLACES)
def test_nan_is_refused_by_every_command(target: Any, root: Path, tmp_path: Path) -> None:
    base = tiny_model("llama", root)
    place, file = PLACES[target]
    source = tmp_path / "a" / place
    formats.write_adapter(fitting(base), source, target)
    name = spoil(tmp_path / "a" / file, NAN, NAN, INF)
    says = rf"{file}: .*{name.rpartition('.')[0]}.*: 2 NaN and 1 infinite of \d+ values"
    with pytest.raises(NotFinite, match=says):
        formats.read_adapter(source)
    for other in ("peft", "mlx", "gguf", "all"):
        with pytest.raises(NotFinite, match="2 NaN"):
            convert(source, tmp_path / "out", other, base=base)
    with pytest.raises(NotFinite, match="2 NaN"):
        merge_folders(base, (source,), tmp_path / "out")
    with pytest.raises(UserError, match="2 NaN"):
        pack(source, tmp_path / "out", base=base)
    assert not (tmp_path / "out").exists()
    reads = {"peft": "vllm", "mlx": "mlx", "gguf": "llamacpp"}[target]
    (verdict,) = [v for v in check(source, base=base) if v.runtime == reads]
    assert [f.rule for f in verdict.findings if f.refused] == ["nonfinite"]
    assert "livery train" in verdict.findings[0].remedy


def test_somebody_must_have_nan(root: Path, tmp_path: Path) -> None:
    base = tiny_model("llama", root)
    formats.write_adapter(fitting(base), tmp_path / "a", "peft")
    spoil(tmp_path / "a" / "adapter_model.safetensors", NAN)
    words = [
        "convert",
        str(tmp_path / "a"),
        str(tmp_path / "m"),
        "--to",
        "mlx",
        "--base",
        str(base),
    ]
    runner = CliRunner()
    assert "1 NaN" in str(runner.invoke(cli, words).exception)
    assert runner.invoke(cli, [*words, "--allow-nonfinite"]).exit_code == 0
    made = formats.read_adapter(tmp_path / "m", allow_nonfinite=True)
    assert sum(int(np.isnan(p.b).sum() + np.isnan(p.a).sum()) for p in made.pairs.values()) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_overflows_when_it_is_rounded_is_refused(dtype: str, tmp_path: Path) -> None:
    large = 7e4 if dtype == "float16" else 3.4e38
    big = plain()
    pairs = {**big.pairs, Q: Pair(big.pairs[Q].a, np.full((16, 2), large, np.float32), 4.0)}
    formats.write_adapter(big.replace(pairs=pairs), tmp_path / "a", "peft")
    with pytest.raises(UserError, match=rf"q_proj: b: 32 of 32 values .* {dtype} holds"):
        convert(tmp_path / "a", tmp_path / "b", "peft", dtype=dtype)
    assert not (tmp_path / "b").exists()
    convert(tmp_path / "a", tmp_path / "b", "peft", dtype="float32")
    # Where the dtype was not asked for, such a tensor is stored as float32.
    adapter = formats.read_adapter(tmp_path / "a").replace(dtype=dtype)
    formats.write_adapter(adapter, tmp_path / "c", "peft")
    assert np.isfinite(formats.read_adapter(tmp_path / "c").pairs[Q].b).all()


# --- patterns ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_pattern_that_matches_wins() -> None:
    """As PEFT's get_pattern_key, plain paths and expressions mixed, in both orders."""
    from peft.utils.other import get_pattern_key

    keys = [
        "q_proj", "layers.1.self_attn.q_proj", r"layers\.[0-9].*", "self_attn.q_proj", ".*",
        "model.layers.1.self_attn.q_proj", "layers.1.self.attn.q_proj", r"1.self_attn.(q|k)_proj",
        "k_proj|v_proj", "x)|(o_proj", "^model.*k_proj", "proj", "", "attn.q_proj",
    ]  # fmt: skip
    paths = [f"model.layers.{n}.self_attn.{leaf}_proj" for n in (1, 2, 11) for leaf in "qkvo"]
    for order in (keys, keys[::-1], keys[3:] + keys[:3], keys[7:] + keys[:7], keys[-1:] + keys[:5]):
        pattern = {key: number + 1 for number, key in enumerate(order)}
        for path in paths:
            wanted = pattern.get(get_pattern_key(list(pattern), path), 999)
            assert peft_config.resolve({"r": 999, "rank_pattern": pattern}, path)[0] == wanted, path
    assert peft_config.resolve({"rank_pattern": {"q_proj": 3, ".*q_proj": 5}}, Q)[0] == 3
    assert peft_config.resolve({"rank_pattern": {".*q_proj": 5, "q_proj": 3}}, Q)[0] == 5


@pytest.mark.slow
def test_one_pattern_a_module(tmp_path: Path) -> None:
    """1,400 tensors with 1,400 patterns took 17 s."""
    pairs: dict[str, Pair] = {}
    for layer in range(100):
        for leaf in "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split():
            rank = 1 + (layer * 7 + len(pairs)) % 5
            a, b = np.ones((rank, 4), np.float32), np.ones((4, rank), np.float32)
            pairs[f"model.layers.{layer}.mlp.{leaf}"] = Pair(a, b, float(1 + layer % 3))
    formats.write_adapter(Adapter(pairs), tmp_path, "peft")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    ranks = {module: pair.rank for module, pair in pairs.items()}
    alphas = {module: pair.alpha for module, pair in pairs.items()}
    config |= {"rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": list(pairs)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert len(open_tensors(tmp_path / "adapter_model.safetensors").entries) == 1400
    assert takes_less(4, lambda: formats.read_adapter(tmp_path))  # 0.2 here
    read = formats.read_adapter(tmp_path)
    assert {m: (p.rank, p.alpha) for m, p in read.pairs.items()} == {
        m: (p.rank, p.alpha) for m, p in pairs.items()
    }
    assert takes_less(4, lambda: formats.write_adapter(read, tmp_path / "again", "peft"))


ENDLESS = r"(?:.|..)*[A-Z]"  # for the matcher that we use, too; Python's own ends with none of them
SLOW = [ENDLESS, "(([a-z._0-9]+)+)+!", r"(a|a?)+xxx$", r"(?:[a-z_.0-9]+)*\d[A-Z]"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern", "target_modules"])
@pytest.mark.parametrize("text", SLOW)
def test_expressions_end(key: str, text: str, tmp_path: Path) -> None:
    module = "model.layers.0.self_attn." + "q_proj_with_a_long_name_0" * 3
    a, b = np.ones((2, 4), np.float32), np.ones((4, 2), np.float32)
    formats.write_adapter(Adapter({module: Pair(a, b, 4.0)}), tmp_path / "a", "peft")
    value = text if key == "target_modules" else {text: 3}
    edit_config(tmp_path / "a", **{key: value})

    def all_of_it() -> None:
        try:
            convert(tmp_path / "a", tmp_path / "b", "peft")
        except UserError as error:
            assert key in str(error)  # noqa: PT017
            assert "take longer than" in str(error)  # noqa: PT017
        check(tmp_path / "a")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.adapters.peft_patterns.SECONDS", 0.1)
        assert takes_less(20, all_of_it)  # of a busy machine; unbounded it takes for ever


def test_an_expression_that_would_never_end_is_said_to(tmp_path: Path) -> None:
    from convert.adapters.peft_patterns import Clock, compile_expression

    clock = Clock("adapter_config.json: rank_pattern", 0.2)
    expression = compile_expression(ENDLESS, clock)
    with pytest.raises(UserError, match=r"rank_pattern: .* List the module paths"):
        expression.hits("a" * 64)


@pytest.mark.parametrize(
    "text", ["(", "[", "a{99999999999}", "(" * 5000 + ")" * 5000, "(?P<x>a)(?P<x>b)", "x" * 200_000]
)
@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern", "target_modules"])
def test_what_is_no_expression_is_one_line(key: str, text: str, tmp_path: Path) -> None:
    formats.write_adapter(plain(), tmp_path / "a", "peft", base=BASE)
    value = text if key == "target_modules" else {f"({text}": 2}
    edit_config(tmp_path / "a", **{key: value})
    with pytest.raises(UserError, match=rf"adapter_config\.json: {key}: ") as refused:
        convert(tmp_path / "a", tmp_path / "b", "peft", dtype="float32")
    assert len(str(refused.value)) < 500
    assert len(check(tmp_path / "a")) == 4


# --- values of the wrong type -----------------------------------------------------------------

WRONG: dict[str, Any] = {
    "r": [0, 4.0, "4", True, None, 10**400],
    "lora_alpha": ["8", True, None, [8], 10**400],
    "lora_dropout": ["0", True, [0]],
    "use_rslora": ["no", 0, 1, []],
    "use_dora": ["false", 1],
    "lora_bias": ["none", 1],
    "fan_in_fan_out": ["no"],
    "bias": [None, "odd", False],
    "rank_pattern": [["q_proj"], {"q_proj": 2.0}, {"q_proj": "2"}, {"q_proj": True}, "q_proj"],
    "alpha_pattern": [["q_proj"], {"q_proj": "2"}, {"q_proj": None}],
    "target_modules": [5, [5], {"q_proj": 1}, [None]],
    "target_parameters": ["mlp.experts", [5]],
    "modules_to_save": ["norm", [5]],
    "exclude_modules": [5, [5]],
    "layers_pattern": [5],
    "layers_to_transform": ["0", [0.5], True],
    "init_lora_weights": [5, ["gaussian"], "odd"],
    "alora_invocation_tokens": [5, ["5"], [-1], [True], [2**32]],
    "base_model_name_or_path": [5, ["a"], True],
    "peft_version": [0.21],
    "task_type": [5],
    "revision": [1],
}


@pytest.mark.parametrize("key", WRONG)
def test_types_are_checked_by_file_and_key(key: str, tmp_path: Path) -> None:
    formats.write_adapter(plain(), tmp_path, "peft", base=BASE)
    whole = (tmp_path / "adapter_config.json").read_text()
    for value in WRONG[key]:
        (tmp_path / "adapter_config.json").write_text(whole)
        edit_config(tmp_path, **{key: value})
        with pytest.raises(UserError, match=rf"adapter_config\.json:\d* ?.*\b{key}\b|{key}: "):
            formats.read_adapter(tmp_path)


@pytest.mark.parametrize("key", ["use_dora", "lora_bias"])
def test_flag_and_tensors_agree(key: str, tmp_path: Path) -> None:
    """PEFT starts a missing magnitude anew, from the base's norms, and drops one not announced."""
    formats.write_adapter(plain(), tmp_path / "a", "peft", base=BASE)
    edit_config(tmp_path / "a", **{key: True})
    with pytest.raises(UserError, match=rf"{key} is true, but .*k_proj does not have"):
        formats.read_adapter(tmp_path / "a")
    part = {"use_dora": "magnitude", "lora_bias": "bias"}[key]
    more: Any = {part: None}
    pairs: dict[str, Pair] = {}
    for module, pair in plain().pairs.items():
        more[part] = np.ones(pair.b.shape[0], np.float32)
        pairs[module] = Pair(pair.a, pair.b, pair.alpha, **more)
    formats.write_adapter(plain().replace(pairs=pairs), tmp_path / "b", "peft", base=BASE)
    formats.read_adapter(tmp_path / "b")
    edit_config(tmp_path / "b", **{key: False})
    with pytest.raises(UserError, match=rf"{key} is not true: PEFT would leave it out"):
        formats.read_adapter(tmp_path / "b")


# --- mlx-lm's form of 2024 --------------------------------------------------------------------


def test_alpha_beside_scale_is_said(tmp_path: Path) -> None:
    """mlx_lm/tuner/lora.py of early 2024: scale * (alpha / r); today's takes scale."""
    formats.write_adapter(plain(), tmp_path / "a", "mlx", base=BASE)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    given = {**config["lora_parameters"], "rank": 2, "scale": 10.0, "alpha": 16.0}
    edit_config(tmp_path / "a", lora_parameters=given, lora_layers=1)
    report = convert(tmp_path / "a", tmp_path / "b", "peft")
    assert {p.scale for p in formats.read_adapter(tmp_path / "b").pairs.values()} == {10.0}
    (note,) = [note for note in report["notes"] if "2024" in note]
    assert "uses the scale 10" in note
    assert "scale·alpha/rank = 80" in note
    (verdict,) = check(tmp_path / "a", runtimes=["mlx"])
    assert any(f.rule == "scale" and "80" in f.why for f in verdict.findings)


# --- records ----------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FACTS = (
    "base_model model_type heads dtype dropout task alora_invocation_tokens peft_config provenance"
).split()
ROWS = st.lists(st.sampled_from([1, 2, 0, -1, "x", None, 2.0, True, 10**400, NAN]) | VALUES)


@pytest.mark.slow
@given(data=st.data())
def test_damaged_records_are_not_believed(data: st.DataObject, tmp_path_factory: Any) -> None:
    """An adapter whose record was damaged is read for what its tensors are."""
    folder = tmp_path_factory.mktemp("record")
    target: Any = data.draw(st.sampled_from(["peft", "mlx"]))
    formats.write_adapter(plain(), folder, target, base=BASE)
    (path,) = folder.glob("*.safetensors")
    file = open_tensors(path)
    arrays = {name: np.array(file.read(name)) for name in file.entries}
    value: Any = json.loads(file.metadata["livery"])
    kind = data.draw(st.sampled_from(["row", "fact", "part", "whole"]))
    if kind == "row":
        value["pairs"][Q] = data.draw(ROWS)
    elif kind == "fact":
        value["facts"][data.draw(st.sampled_from(FACTS))] = data.draw(VALUES)
    elif kind == "part":
        value[data.draw(st.sampled_from(["facts", "pairs"]))] = data.draw(VALUES)
    else:
        value = data.draw(VALUES)
    write_tensors(path, arrays, dict.fromkeys(arrays, "float32"), {"livery": json.dumps(value)})
    read = formats.read_adapter(folder)
    for module, pair in plain().pairs.items():
        one, two = (p.scale * p.b @ p.a for p in (pair, read.pairs[module]))
        assert np.allclose(one, two, rtol=1e-5)
    formats.write_adapter(read, folder / "again", target, base=BASE)


@pytest.mark.slow
def test_a_record_cannot_inflate(tmp_path: Path) -> None:
    """What it keeps of a tensor unpacks to that tensor's size at most."""
    import base64

    bomb = base64.b64encode(zlib.compress(bytes(200 << 20))).decode()
    pair = Pair(np.ones((2, 4), np.float32), np.ones((4, 2), np.float32), 4.0)
    original = record.Original(2, 4.0, False, 3.0, bomb)
    assert record.undo(pair, original, 2.0) is None


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["peft", "mlx"])
def test_a_name_without_end_is_refused(target: Any, tmp_path: Path) -> None:
    formats.write_adapter(plain(), tmp_path / "a", target, base=BASE)
    key = {"peft": "base_model_name_or_path", "mlx": "model"}[target]
    edit_config(tmp_path / "a", **{key: "x" * 100_000})
    with pytest.raises(UserError, match="100,000 characters") as refused:
        convert(tmp_path / "a", tmp_path / "b", "gguf")
    assert len(str(refused.value)) < 500
    for verdict in check(tmp_path / "a"):
        assert len(json.dumps(verdict.as_dict())) < 10_000
    edit_config(tmp_path / "a", **{key: "a\0b"})
    check(tmp_path / "a")


def test_names_from_a_file_do_not_act_on_the_terminal(tmp_path: Path) -> None:
    odd = "model.\x1b]0;gone\x07\x1b[2J\u202eq_proj"
    a, b = np.ones((2, 4), np.float32), np.ones((4, 2), np.float32)
    for target, name in (
        ("peft", f"base_model.model.{odd}.lora_A.weight"),
        ("mlx", f"{odd}.lora_a"),
    ):
        place = tmp_path / target
        kind: Any = target
        formats.write_adapter(Adapter({odd: Pair(a, b, 4.0)}), place, kind)
        (path,) = place.glob("*.safetensors")
        write_tensors(path, {name: a}, {name: "float32"}, {})
        for words in (
            ["check", str(place)],
            ["convert", str(place), str(tmp_path / "o"), "--to", "all"],
        ):
            shown = CliRunner().invoke(cli, words, standalone_mode=False)
            text = shown.output + str(shown.exception)
            assert not set(text) & set("\x1b\x07\u202e"), words
            assert "\\x1b" in text, words


@pytest.mark.parametrize(
    "name",
    [
        "evil\n---\nlicense: x\n", "a: b", "- x", "#x", "yes", "`x`\n```\n# Heading", "x\x1b[2J",
        "\u202etxt", "'\"", "a|b<script>", "x" * 4000, "\x85\u2028---", "&a *b !c", "123", "..", "",
    ],
)  # fmt: skip
def test_a_base_s_name_does_not_break_the_card(name: str, tmp_path: Path) -> None:
    """The front matter says that name and nothing more; nothing leaves its place in the text."""
    import yaml

    from convert.pack.folder import write_adapter_folder

    write_adapter_folder(plain().replace(base_model=name), tmp_path, None)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    start, front, body = text.split("---\n", 2)
    assert not start
    read = yaml.safe_load(front)
    assert read.get("base_model", "") == name
    assert set(read) - {"base_model"} == {"library_name", "pipeline_tag", "tags"}
    assert sum(line.startswith("```") for line in body.splitlines()) % 2 == 0
    assert [line for line in body.splitlines() if line.startswith("# ")] == [
        line for line in body.splitlines() if line.startswith("# LoRA adapter for ")
    ]
    assert not set(body) & set("\x1b\u202e\x85\u2028")
    assert "<script>" not in body.partition("## Loading it")[0]


# --- files ------------------------------------------------------------------------------------

ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "F8_E4M3", "C64"]) | ODD,
        "shape": st.lists(st.integers(-1, 9) | st.integers(), max_size=10) | ODD,
        "data_offsets": st.lists(st.integers(-4, 400) | ODD, max_size=3) | ODD,
    },
)
NAMES = st.text(max_size=20) | st.sampled_from(
    ["__metadata__", *(f"base_model.model.{Q}.lora_{h}.weight" for h in "AB")]
)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    header=st.dictionaries(NAMES, ENTRIES | ODD | st.dictionaries(st.text(), ODD), max_size=6),
    data=st.binary(max_size=400),
    cut=st.integers(-20, 20) | st.just(0),
)
def test_headers_are_read_or_refused(header: Any, data: bytes, cut: int) -> None:
    """Whatever a header says: an adapter or one line, without a look at more than the file."""
    with tempfile.TemporaryDirectory() as folder:
        formats.write_adapter(plain(), Path(folder), "peft", base=BASE)
        raw = json.dumps(header).encode()
        length = max(len(raw) + cut, 0).to_bytes(8, "little")
        (Path(folder) / "adapter_model.safetensors").write_bytes(length + raw + data)
        with pytest.raises(UserError) as refused:
            formats.read_adapter(folder)
        assert len(str(refused.value)) < 1000


JSON = st.recursive(
    ODD | st.sampled_from(["q_proj", ".*", "(", "(.*)*", 10**30, 1e400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(changes=st.dictionaries(st.sampled_from([*WRONG, "peft_type"]), JSON, min_size=1))
def test_configs_are_read_or_refused(changes: dict[str, Any]) -> None:
    """Read, the adapter is one that every format writes or refuses by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        formats.write_adapter(plain(), folder, "peft", base=BASE)
        edit_config(folder, **changes)
        try:
            adapter = formats.read_adapter(folder)
            for number, target in enumerate(formats.FORMATS):
                formats.write_adapter(adapter, folder / str(number), target, base=BASE)
        except UserError as error:
            assert len(str(error)) < 1000  # noqa: PT017


@pytest.mark.parametrize("name", ["a.zip", "adapter_model.safetensors", "adapter_config.json"])
def test_nothing_waits_on_a_pipe(name: str, tmp_path: Path) -> None:
    formats.write_adapter(plain(), tmp_path / "a", "peft", base=BASE)
    (tmp_path / "a" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "a" / name)
    source = tmp_path / "a" / name if name.endswith("zip") else tmp_path / "a"
    with pytest.raises(UserError):
        convert(source, tmp_path / "b", "mlx")
    with pytest.raises(UserError):
        pack(source, tmp_path / "b.zip")


@pytest.mark.parametrize(
    "row",
    [["x", 4.0, False], [2, "x", False], [2, 10**400, False], [2, 4.0, "no"],
     [2, 4.0, False, "y", ""], [2, 4.0, False, 1.0, 5], [0, 4.0, False], [2], {}, None],
)  # fmt: skip
def test_a_row_of_another_kind_is_none(row: Any) -> None:
    text = json.dumps({"facts": {}, "pairs": {Q: row, K: [2, 4.0, False]}})
    assert record.parse(text) == record.Record()


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"target_modules": ["q_proj"]}, "self_attn.k_proj"),
        ({"target_modules": r".*\.q_proj"}, "self_attn.k_proj"),
        ({"exclude_modules": ["k_proj"]}, "self_attn.k_proj"),
        ({"layers_to_transform": [1]}, "self_attn.k_proj and 1 more"),
        ({"layers_to_transform": 0}, ""),
        ({"target_modules": "all-linear"}, ""),
        ({"target_modules": [Q, K], "layers_to_transform": [1]}, ""),
    ],
)
def test_what_peft_would_leave_out_is_told(
    changes: dict[str, Any], lost: str, root: Path, tmp_path: Path
) -> None:
    """PEFT loads what the config selects, and only warns of the other tensors; asked of PEFT."""
    from peft import PeftModel

    from tests.convert.convert_cases import torch_base

    base = tiny_model("llama", root)
    formats.write_adapter(fitting(base), tmp_path, "peft")
    edit_config(tmp_path, **{"target_modules": ["q_proj", "k_proj"], **changes})
    notes = formats.read_adapter(tmp_path).notes
    assert len(notes) == bool(lost)
    assert all(f"does not select model.layers.0.{lost}" in note for note in notes)
    loaded = {name for name, _ in PeftModel.from_pretrained(torch_base(base), str(tmp_path))
              .named_parameters() if "lora_A" in name and ".layers.0." in name}  # fmt: skip
    assert (len(loaded) < 2) == bool(lost)
