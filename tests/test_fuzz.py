"""Files changed at random, read by the functions that the commands call: read, or refused in words.

Each example changes one file of a set of good ones: its bytes (flipped, cut, doubled, replaced), or
a value somewhere in its JSON. Whatever comes of it, the reader returns or raises UserError, within
bounded time and memory. The examples are the same in every run. By hand, for longer:

    LIVERY_FUZZ=2000 .venv/bin/python -m pytest -q tests/test_fuzz.py

Chat templates and rows have suites of their own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.adapters import formats, record
from convert.base import check_fits, load_base
from convert.check import check
from convert.gguf import tokenizer as gguf_tokenizer
from convert.gguf.file import write_gguf
from datagen import check as data_check
from eval.report.report import write_report
from eval.report.run_data import read_run
from livery import weights
from livery.adapter import Adapter, Pair
from livery.config import file as config_file
from livery.config.layers import resolve
from livery.engines.llamacpp import files as llamacpp_files
from livery.errors import UserError
from livery.reading import parse_json
from livery.safetensors_file import open_tensors
from livery.training import checkpoint, footprint
from livery.training.backend import PortableState
from livery.training.origin import base_digest
from tests import ROOT
from tests.eval.test_eval_runner import BASE, TUNED, make_case, make_record, make_run
from tests.hostile import Inputs, make

EXAMPLES = int(os.environ.get("LIVERY_FUZZ") or 25)
SECONDS = 10.0
MEGABYTES = 1000  # by which the process may grow

# What may stand in JSON in place of anything else; strings that start with RAW stand as they are.
RAW = "\0raw:"
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**9, 10**30, -(2**63), 0.5, 1e308, "", " ", "x", "\0",
    "../x", "/dev/zero", "x" * 3000, "é\u202e\x1b", "\ud83d", "(", "((a+)+)+!", ".*", "{{", "[1]",
    [], {}, [[]], [None], {"": None}, [0, -1], ["q_proj"], {"a": {"b": []}}, [1] * 300,
    RAW + "NaN", RAW + "1e999", RAW + "-Infinity", RAW + "9" * 5000, RAW + "[" * 3000, RAW + "tru",
    RAW + "[" * 90 + "]" * 90, RAW + '{"a":1,"a":2}', RAW + r'"\ude00"',
]  # fmt: skip

Reader = Callable[[Inputs], object]


def adapter(inputs: Inputs, path: Path) -> None:
    base = load_base(inputs.base)
    for known in (None, base):
        try:
            found = formats.read_adapter(path, known)
            check_fits(found, base)
        except UserError:
            continue
    check.check(path, base=inputs.base)


def base_of(inputs: Inputs) -> None:
    base = load_base(inputs.base)
    assert base.layers >= 0
    assert isinstance(base.tied, bool)
    assert base.kv_heads >= 0
    weights.read_tensors(inputs.base)
    footprint.stored(inputs.base)
    gguf_tokenizer.metadata(base, 512)


def rows(inputs: Inputs) -> None:
    for problem in data_check.check(inputs.rows).problems:
        assert len(problem.message) < 1000, "a message, not the row"


def yaml(inputs: Inputs) -> None:
    config_file.read(inputs.run / "config.yaml")
    resolve(file=inputs.run / "config.yaml", environment={})


def gguf_base(inputs: Inputs) -> None:
    """As the llama.cpp engine and the run's record read a base in GGUF."""
    path = inputs.peft.parent / "base.gguf"
    read = (
        llamacpp_files.is_gguf,
        llamacpp_files.file_type,
        lambda file: llamacpp_files.check_vocabulary(file, TOKENIZER, "m"),
        base_digest,
    )  # fmt: skip
    refusals: list[UserError] = []
    for one in read:  # each of them is tried, also where the one before refuses
        try:
            one(path)
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


TOKENIZER = types.SimpleNamespace(backend_tokenizer=None, get_vocab=lambda: {"a": 0, "b": 1})

# What is changed -> how it is read, and whether its JSON is changed as JSON (else its bytes alone).
TARGETS: dict[str, tuple[str, Reader, bool]] = {
    "peft config": ("peft/adapter_config.json", lambda i: adapter(i, i.peft), True),
    "peft weights": ("peft/adapter_model.safetensors", lambda i: adapter(i, i.peft), False),
    "mlx config": ("mlx/adapter_config.json", lambda i: adapter(i, i.mlx), True),
    "mlx weights": ("mlx/adapters.safetensors", lambda i: adapter(i, i.mlx), False),
    "zip": ("packed.zip", lambda i: adapter(i, i.zip), False),
    "base config": ("BASE/config.json", base_of, True),
    "base weights": ("BASE/model.safetensors", base_of, False),
    "tokenizer": ("BASE/tokenizer.json", base_of, True),
    "tokenizer config": ("BASE/tokenizer_config.json", base_of, True),
    "rows": ("rows/train.jsonl", rows, True),
    "yaml": ("run/config.yaml", yaml, False),
    "recorded": ("run/run_config.json",
                 lambda i: resolve(recorded=i.run / "run_config.json", environment={}), True),
    "metrics": ("run/training_metrics.jsonl", lambda i: read_run(i.run), True),
    "samples": ("run/samples.jsonl", lambda i: read_run(i.run), True),
    "metadata": ("run/training_metadata.json", lambda i: read_run(i.run), True),
    "evaluation": ("run/evaluation.json", lambda i: write_report(i.run), True),
    "state": ("run/checkpoint/state.json", lambda i: checkpoint.read(i.run / "checkpoint"), True),
    "moments": ("run/checkpoint/state.safetensors",
                lambda i: checkpoint.read(i.run / "checkpoint"), False),
    "gguf adapter": ("a.gguf", lambda i: adapter(i, i.peft.parent / "a.gguf"), False),
    "gguf base": ("base.gguf", gguf_base, False),
    "header": ("BASE/model.safetensors",
               lambda i: open_tensors(i.base / "model.safetensors"), False),
    "json": ("peft/adapter_config.json",
             lambda i: parse_json((i.peft / "adapter_config.json").read_bytes(), "x"), True),
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    made = make(tmp_path_factory.mktemp("inputs"))
    formats.write_adapter(
        formats.read_adapter(made.peft, load_base(made.base)), made.peft.parent / "a.gguf", "gguf",
        base=load_base(made.base),
    )  # fmt: skip
    fields = {"general.file_type": 1, "tokenizer.ggml.tokens": ["a", "b"]}
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
    write_gguf(made.peft.parent / "base.gguf", fields, tensors, dict.fromkeys(tensors, "float32"))
    cases = [make_case("one", "mixed"), make_case("two")]
    runs = [make_run(TUNED, cases, "11"), make_run(BASE, cases, "10")]
    evaluation = json.dumps(make_record(cases, runs))
    (made.run / "evaluation.json").write_text(evaluation, encoding="utf-8")
    shutil.copy(ROOT / "mlx_config.yaml", made.run / "config.yaml")
    arrays = {"m.lora_A": np.ones((2, 3), np.float32)}
    written = checkpoint.write(
        made.run, PortableState(arrays, arrays, arrays, 3), checkpoint.RunProgress(),
        checkpoint.Origin({"seed": 1}, "d" * 64, "b" * 64), {"backend": "mlx"},
    )  # fmt: skip
    written.rename(made.run / "checkpoint")
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_changed_is_read_or_refused(
    target: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, read, is_json = TARGETS[target]
    root = inputs.peft.parent
    path = inputs.base / name.removeprefix("BASE/") if name.startswith("BASE/") else root / name
    good = path.read_bytes()
    read(inputs)  # the negative control: unchanged, it is read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=EXAMPLES // 10 or 1 if target == "evaluation" else EXAMPLES,  # it draws plots
        derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seed=st.integers(0, 2**32))
    def one(seed: int) -> None:
        dice = random.Random(seed)
        changed = change_json(good, dice) if is_json and dice.random() < 0.8 else None
        path.write_bytes(change_bytes(good, dice) if changed is None else changed)
        began = time.process_time()
        said = "read"
        try:
            read(inputs)
        except UserError as refused:
            said = str(refused)
        assert said
        assert len(said) < 3000, "a message, not the file"
        assert time.process_time() - began < SECONDS

    try:
        one()
    finally:
        path.write_bytes(good)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10


def change_bytes(good: bytes, dice: random.Random) -> bytes:
    """One to four changes of bytes."""
    data = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1) if dice.random() < 0.5 else dice.randrange(64)
        at = min(at, len(data))
        size = dice.choice((1, 1, 2, 4, 8, 64))
        kind = dice.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = (
                dice.choice((b"\0", b"\xff", b"{", b'"', b"\n", b"\r", b"\xef\xbb\xbf")) * size
            )
        elif kind == 3:
            data[at : at + size] = dice.randbytes(size)
        elif kind == 4:
            data[at:at] = data[max(0, at - size) : at]
        elif dice.random() < 0.3:
            del data[at:]
    return bytes(data)


def change_json(good: bytes, dice: random.Random) -> bytes:
    """One to three values, keys or elements changed; of a JSON-lines file in one of its lines."""
    lines = good.split(b"\n")
    many = len(lines) > 1 and lines[0].startswith(b"{") and lines[0].endswith(b"}")
    at = dice.randrange(len(lines) - 1) if many else 0
    value = json.loads(lines[at] if many else good)
    for _ in range(dice.randint(1, 3)):
        value = changed(value, dice)
    text = json.dumps(value)
    for odd in ODD:
        if isinstance(odd, str) and odd.startswith(RAW):
            text = text.replace(json.dumps(odd), odd.removeprefix(RAW))
    if not many:
        return text.encode()
    lines[at] = text.encode()
    return b"\n".join(lines)


def changed(value: Any, dice: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or dice.random() < 0.02:
        return dice.choice(ODD)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = dice.choice(keys)
    made: Any = dict(value) if isinstance(value, dict) else list(value)
    kind = dice.random()
    if kind < 0.1:
        del made[key]
    elif kind < 0.15 and isinstance(made, dict):
        made[str(dice.choice(("", "x" * 3000, "\ud83d", "é\x1b")))] = made.pop(key)
    elif isinstance(made[key], dict | list) and made[key] and kind < 0.8:
        made[key] = changed(made[key], dice)
    else:
        made[key] = dice.choice(ODD)
    return made


def test_a_record_in_a_file_is_believed_or_not() -> None:
    """Whatever a record says, the adapter beside it is read."""
    arrays = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
    pair = Pair(arrays[0], arrays[1], 2, 4.0)
    adapter = Adapter({"model.layers.0.self_attn.q_proj": pair}, base_model="b")
    good = record.describe(adapter, {}).encode()

    @settings(max_examples=EXAMPLES * 4, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**32))
    def one(seed: int) -> None:
        found = record.parse(change_json(good, random.Random(seed)).decode())
        for original in (*found.pairs.values(), None):
            record.undo(pair, original, 2.0)
        record.believe(adapter, found, whole=True)

    one()
