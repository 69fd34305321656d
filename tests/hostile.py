"""Inputs for hostile command lines and fuzzing: a tiny base, an adapter of it in every format,
rows, a run's folder; and what no option should be given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.tiny_models import tiny_model

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"say {n}"},
            {"role": "assistant", "content": str(n)},
        ]
    }
    for n in range(6)
]


@dataclass(frozen=True)
class Inputs:
    """What a valid command line needs."""

    base: Path
    peft: Path
    mlx: Path
    gguf: Path
    zip: Path
    rows: Path
    run: Path


def make(root: Path) -> Inputs:
    """Write them all below `root`."""
    from commands.convert import convert_command
    from commands.pack import pack_command

    base = tiny_model("llama", root / "base")
    peft = root / "peft"
    write_peft(base, peft)
    for kind in ("mlx", "gguf"):
        arguments = [str(peft), str(root / kind), "--to", kind, "--base", str(base)]
        convert_command.main(arguments, standalone_mode=False)
    (gguf,) = (root / "gguf").rglob("*.gguf")
    pack_command.main([str(peft), "--out", str(root / "packed.zip")], standalone_mode=False)
    rows = root / "rows"
    rows.mkdir()
    for name in ("train", "valid"):
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
        (rows / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return Inputs(
        base, peft, root / "mlx", gguf, root / "packed.zip", rows, write_run(root / "run")
    )


def write_peft(base: Path, folder: Path) -> None:
    """A random adapter on two modules, as PEFT would save it."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    width, random = config["hidden_size"], np.random.default_rng(3)
    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_{half}.weight": random.normal(
            size=shape
        ).astype(np.float32)
        for layer in range(config["num_hidden_layers"])
        for name in ("q_proj", "o_proj")
        for half, shape in (("A", (4, width)), ("B", (width, 4)))
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"],
        "base_model_name_or_path": str(base), "task_type": "CAUSAL_LM", "bias": "none",
        "rank_pattern": {}, "alpha_pattern": {}, "lora_dropout": 0.0, "use_rslora": False,
        "modules_to_save": None, "layers_to_transform": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_run(folder: Path) -> Path:
    """The logs and records of a finished run, without its weights."""
    from livery.config.layers import resolve

    folder.mkdir()
    settings = resolve(environment={}).settings.as_dict()
    metrics = [{"step": n, "loss": 1 / n, "learning_rate": 1e-3} for n in range(1, 6)]
    samples = [{"step": n, "prompt": "p", "expected": "e", "answer": "a"} for n in (2, 4)]
    metrics.append({"step": 4, "eval_loss": 0.5})
    for name, value in (
        ("run_config.json", {"settings": settings}),
        ("training_metadata.json", {"steps": 5, "eval_loss": 0.5, "model": "m"}),
    ):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    for name, rows in (("training_metrics.jsonl", metrics), ("samples.jsonl", samples)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8")
    return folder


def values(folder: Path) -> list[str]:
    """What no option should be given."""
    file = folder / "file"
    file.write_text("text\n", encoding="utf-8")
    return [
        "", " ", "-", "--", ".", "/", str(folder), str(file), str(file / "below"), "/dev/null",
        "/dev/zero", "/dev/full", "0", "-1", "1e400", "nan", "inf", "-inf", "1e-400", "0x10", "1_0",
        "9" * 30, "9" * 5000, "²", "٣", "１", "a" * 5000, "a\nb\x1b[31m\u202e", "{}", "{0}", "%s",
        "~nobody", "$HOME", "*", "../..", "None", "true", "[1]", "\U0001f600",
    ]  # fmt: skip
