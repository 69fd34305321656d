"""A root with something of everything that the web page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from livery.files import write_json
from tests.serve.run_folders import add_checkpoint, make_run
from tests.serve.test_adapters import make_adapter

MARKUP = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>"


def fill(root: Path) -> None:
    """Runs, checkpoints, an adapter in two forms, its evaluation, a dataset with markup in it."""
    make_run(root, "date-keys", 200, total=400)
    done = make_run(root, "persona", 120, total=120, done=True)
    make_adapter(root, "persona", "peft", "gguf")
    for step in range(20, 121, 20):
        add_checkpoint(done, step)
    with (done / "samples.jsonl").open("a") as file:
        said = {"step": 120, "prompt": MARKUP, "expected": "sir", "answer": MARKUP}
        file.write(json.dumps(said) + "\n")
    write_json(done / "evaluation.json", evaluation())
    (root / "data" / "mine").mkdir(parents=True)
    (root / "data" / "mine" / "train.jsonl").write_text(rows(60))
    (root / "data" / "identity").mkdir()
    kinds = ["profile"] * 3 + ["trust"] * 2 + [MARKUP]
    sections = [
        json.loads(row) | {"metadata": {"section": kind}}
        for row, kind in zip(rows(6).splitlines(), kinds, strict=True)
    ]
    (root / "data" / "identity" / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in sections)
    )


def rows(count: int) -> str:
    """Rows of a conversation each; the first holds markup."""
    texts = [MARKUP, *(f"Call me at {hour} o'clock tomorrow" for hour in range(1, count))]
    said = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": f'["in_{n}_days"]'}]
        for n, text in enumerate(texts)
    ]
    return "".join(json.dumps({"messages": messages}) + "\n" for messages in said)


def evaluation() -> dict[str, Any]:
    """A record as `livery eval` writes it, of two arms and three cases."""

    def arm(correct: int, tuned: bool) -> dict[str, Any]:
        return {
            "tuned": tuned, "constrained": False, "correct": correct, "total": 3,
            "accuracy": correct / 3, "interval": [0.1, 0.9],
        }  # fmt: skip

    cases = [
        {"id": f"case-{n}", "category": "some", "text": f"What is {n}? {MARKUP}",
         "expected": "sir", "expected_text": "sir",
         "answers": {"base": {"correct": False, "answer": "no"},
                     "tuned": {"correct": n > 0, "answer": "sir" if n else MARKUP}}}
        for n in range(3)
    ]  # fmt: skip
    return {
        "accuracy": 2 / 3, "headline": "tuned", "target": 0.6, "passed": True,
        "skill": {"name": "persona"}, "set": {"name": "validation", "cases": 3},
        "facts": {"engine": "torch"}, "arms": {"base": arm(0, False), "tuned": arm(2, True)},
        "comparisons": [{"before": "base", "after": "tuned", "gained": ["case-1", "case-2"],
                         "lost": [], "p_value": 0.25}],
        "cases": cases,
    }  # fmt: skip
