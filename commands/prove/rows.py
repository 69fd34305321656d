"""Rows and a model folder for the checks that train as a run does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from livery.config.settings import LoraSettings
from livery.training.plan import Example

LORA = LoraSettings(
    rank=16,
    alpha=32.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
RATE = 1e-4
SYSTEM = "Answer with the number that stands in the question, and nothing else at all, please."


def make_rows(vocabulary: int, count: int, prefix: int, longest: int) -> list[Example]:
    """Examples that share a prompt of `prefix` tokens and end in an answer of a third."""
    rng = np.random.default_rng(0)
    shared = rng.integers(3, vocabulary, prefix)
    found: list[Example] = []
    for length in rng.integers(longest // 2, longest + 1, count):
        tokens = np.concatenate([shared, rng.integers(3, vocabulary, int(length))])
        supervised = np.arange(len(tokens)) >= len(tokens) - max(1, int(length) // 3)
        found.append(Example(tokens.astype(np.int32), supervised))
    return found


def padded(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens, labels with -100 where nothing is learned, attention mask), each (B, T) int64."""
    width = max(len(example.tokens) for example in examples)
    tokens = np.zeros((len(examples), width), np.int64)
    labels, mask = np.full_like(tokens, -100), np.zeros_like(tokens)
    for row, example in enumerate(examples):
        count = len(example.tokens)
        tokens[row, :count], mask[row, :count] = example.tokens, 1
        labels[row, :count] = np.where(example.supervised, example.tokens, -100)
    return tokens, labels, mask


def write_model(folder: Path, shape: dict[str, Any], dtype: str) -> Path:
    """A random llama as Hugging Face lays it out, with the embedded base's tokenizer."""
    import torch

    from commands.prove.model import make_model
    from livery.paths import HOME

    path = folder / "model"
    make_model(shape).to(getattr(torch, dtype)).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((HOME / "base_model" / name).read_bytes())
    return path


def write_data(folder: Path) -> Path:
    """train.jsonl and valid.jsonl of a few dozen conversations."""
    path = folder / "data"
    path.mkdir()
    for name, first, count in (("train", 0, 64), ("valid", 1000, 8)):
        lines: list[str] = []
        for number in range(first, first + count):
            asked, answer = f"what about {number * 7} or so", f"it is {number * 7}"
            turns = [("system", SYSTEM), ("user", asked), ("assistant", answer)]
            messages = [{"role": role, "content": content} for role, content in turns]
            lines.append(json.dumps({"messages": messages}))
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
