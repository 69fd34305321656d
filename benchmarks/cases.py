"""What the training benchmarks train: kinds of data, their models, the arithmetic.

The cases of SmolLM2 train the real base, which `livery base get smollm2-135m` fetches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Case
from livery.config.settings import LoraSettings
from livery.dataset.load import load_dataset
from livery.dataset.template import load_chat
from livery.files import read_json
from livery.machine import has_gpu
from livery.models import find_base
from livery.paths import HOME
from livery.training.plan import Example, Plan, work
from livery.training.prefixes import shared_groups

LORA = LoraSettings(
    rank=16,
    alpha=32.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
RATE = 1e-4
# What the queries of a schema share at least: 1,000 tokens of it, and the instruction before it.
SCHEMA_TOKENS = 1040
GEMMA_270M: dict[str, Any] = {
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}


def date_keys(folder: Path) -> Case:
    """The skill's own training data on the embedded base."""
    from datagen.make import make_data

    out = folder / "date-keys"
    if not out.exists():
        make_data("date-keys", out, seed=7, count=2400)
    model = str(HOME / "base_model")
    found = load_dataset(out / "train.jsonl", load_chat(model), max_length=2048)
    return model, list(found.examples), 16


def long_prompt(folder: Path) -> Case:
    """Gemma-3-270M's shape, random: 400 shared prompt tokens, 20 of its own, 20 of the answer."""
    rng = np.random.default_rng(1)
    shared = rng.integers(10, 200_000, 400)
    rows = [np.concatenate([shared, rng.integers(10, 200_000, 40)]) for _ in range(24)]
    return gemma(folder), [_example(row, 20) for row in rows], 8


def nothing_shared(folder: Path) -> Case:
    """Rows of 64 to 256 tokens with nothing in common, half of each supervised."""
    rng = np.random.default_rng(2)
    rows = [rng.integers(10, 4000, int(n)) for n in rng.integers(64, 257, 256)]
    return str(HOME / "base_model"), [_example(row, len(row) // 2) for row in rows], 8


def smollm2_long_prompt(folder: Path) -> Case:
    """SmolLM2-135M: 400 shared prompt tokens, 20 of its own, 20 of the answer."""
    rng = np.random.default_rng(1)
    shared = rng.integers(20, 49_000, 400)
    rows = [np.concatenate([shared, rng.integers(20, 49_000, 40)]) for _ in range(enough(48))]
    return smollm2(), [_example(row, 20) for row in rows], 8


def smollm2_short_prompts(folder: Path) -> Case:
    """SmolLM2-135M on the skill's rows, which share the template's system text alone."""
    date_keys(folder)
    found = load_dataset(
        folder / "date-keys" / "train.jsonl",
        load_chat(smollm2()),
        max_length=2048,
        first=enough(320),
    )
    return smollm2(), list(found.examples), 16


def smollm2_nothing_shared(folder: Path) -> Case:
    """SmolLM2-135M: rows of 64 to 256 tokens with nothing in common, half of each supervised."""
    rng = np.random.default_rng(2)
    rows = [rng.integers(20, 49_000, int(n)) for n in rng.integers(64, 257, enough(64))]
    return smollm2(), [_example(row, len(row) // 2) for row in rows], 8


def smollm2_schemas(folder: Path) -> Case:
    """SmolLM2-135M on the skill dsl: schemas of 1,000 tokens and more, each with its 8 queries."""
    from datagen.dsl import GROUP
    from datagen.make import make_data

    out = folder / "dsl"
    if not out.exists():
        make_data("dsl", out, seed=7, count=60 * GROUP)
    found = load_dataset(out / "train.jsonl", load_chat(smollm2()), max_length=4096)
    rows = list(found.examples)
    groups = shared_groups([row.tokens[: row.prompt_length - 1] for row in rows], GROUP)
    long = [g for g in groups if g.prefix >= SCHEMA_TOKENS and len(g.rows) == GROUP]
    return smollm2(), [rows[at] for group in long for at in group.rows], GROUP


# Without a name the first three run: they need nothing that is not in the checkout.
CASES: dict[str, Callable[[Path], Case]] = {
    "date-keys": date_keys,
    "long-prompt": long_prompt,
    "nothing-shared": nothing_shared,
    "smollm2-long-prompt": smollm2_long_prompt,
    "smollm2-short-prompts": smollm2_short_prompts,
    "smollm2-nothing-shared": smollm2_nothing_shared,
    "smollm2-schemas": smollm2_schemas,
}
BUILT_IN = tuple(CASES)[:3]


def facts(model: str, plan: Plan, parameters: int, seconds: float, peak: float) -> dict[str, float]:
    """Padding, rates and the share of the matmul peak that an epoch of `plan` reached.

    Counted are the matmuls of the body, forward and backward (frozen weights need no gradient of
    their own), and the head's rows where supervised; attention and LoRA's share are left out.

    Args:
        parameters: of the base, embedding included.
        peak: FLOP/s of a large matmul here.
    """
    config: dict[str, Any] = read_json(Path(model) / "config.json")
    head = config["vocab_size"] * config["hidden_size"]
    body = parameters - head * (1 if config.get("tie_word_embeddings", True) else 2)
    done = work(plan)
    return {
        "padding_share": done.padding / done.computed,
        "positions": done.computed,
        "plain_positions": done.plain,
        "supervised": done.supervised,
        "examples_per_second": done.examples / seconds,
        "tokens_per_second": done.plain / seconds,
        "matmul_share": 4.0 * (body * done.computed + head * done.supervised) / seconds / peak,
    }


def _example(tokens: np.ndarray, answer: int) -> Example:
    mask = np.zeros(len(tokens), bool)
    mask[-answer:] = True
    return Example(tokens.astype(np.int32), mask)


def enough(rows: int) -> int:
    """As many rows as an epoch needs that is not over before it has warmed up: more on a GPU."""
    return rows * (10 if has_gpu() else 1)


def smollm2() -> str:
    """The real base's folder."""
    folder = find_base("smollm2-135m")
    if folder is None:
        raise SystemExit("These cases need the real base: livery base get smollm2-135m")
    return str(folder)


def gemma(folder: Path) -> str:
    """A random model of Gemma-3-270M's shape on disk, float32."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    path = folder / "gemma"
    if not path.exists():
        torch.manual_seed(0)
        Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA_270M)).save_pretrained(path)
    return str(path)
