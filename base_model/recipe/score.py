"""What the base can do before any adapter: exact answers on new conversations, by family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from .dialogue import Dialogue, Task, Turn, check
from .families import FAMILIES

UNSEEN_SEED = 900_000_007


@dataclass(frozen=True)
class Case:
    family: str
    messages: tuple[dict[str, str], ...]
    answer: str


def cases(per_family: int, seed: int = UNSEEN_SEED) -> Iterator[Case]:
    """Single questions with the instruction in the system turn, from a seed never trained on."""
    for family, *_ in FAMILIES:
        name = f"{family.__module__.rsplit('.', 1)[-1]}.{family.__name__}"
        rng = Random(f"{seed} {name}")
        for _ in range(per_family):
            task: Task = family(rng)
            given, answer = task.draw(rng)
            check(Dialogue((Turn("system", task.instruction), Turn("user", given))))
            prompt = (
                {"role": "system", "content": task.instruction},
                {"role": "user", "content": given},
            )
            yield Case(name, prompt, answer)


def score(folder: Path, per_family: int = 20, batch: int = 32) -> dict[str, float]:
    """Share of exact answers by family, decoded greedily with transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    asked = list(cases(per_family))
    right: dict[str, int] = {}
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        texts = [
            tokenizer.apply_chat_template(
                list(c.messages), tokenize=False, add_generation_prompt=True
            )
            for c in part
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=120, do_sample=False)
        answers = tokenizer.batch_decode(
            out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for case, answer in zip(part, answers, strict=True):
            right[case.family] = right.get(case.family, 0) + (answer == case.answer)
    return {name: count / per_family for name, count in right.items()}
