"""The model card: what the adapter is, what it scored, and how each runtime loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convert.naming import leaf
from livery.adapter import Adapter

# Ranks that vLLM's --max-lora-rank accepts.
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def render(
    adapter: Adapter,
    facts: Mapping[str, Any],
    *,
    formats: Sequence[str],
    left_out: Mapping[str, str],
) -> str:
    """README.md of an adapter folder.

    Args:
        facts: what the run knows, all optional: "title", "description", "license", "prompt" (an
            example), "training" and "results" (mappings that become tables).
        formats: what the folder holds: "peft", "mlx", "gguf".
        left_out: format -> why it is not there.
    """
    base = adapter.base_model or "BASE_MODEL"
    title = str(facts.get("title") or f"LoRA adapter for {base}")
    parts = [_front_matter(adapter, facts), f"# {title}"]
    if facts.get("description"):
        parts.append(str(facts["description"]))
    parts.append(_shape(adapter))
    for name in ("training", "results"):
        rows = facts.get(name)
        if isinstance(rows, Mapping) and rows:
            parts.append(f"## {name.capitalize()}\n\n" + _table(rows))
    parts.append("## Loading it\n\nRun from this folder.")
    prompt = str(facts.get("prompt") or "Hello")
    for name in formats:
        parts.append(_SNIPPETS[name](adapter, base, prompt))
    for name, why in left_out.items():
        parts.append(f"There is no {name.upper()} form in this folder: {why}")
    return "\n\n".join(parts) + "\n"


def _front_matter(adapter: Adapter, facts: Mapping[str, Any]) -> str:
    lines = ["---"]
    if adapter.base_model:
        lines.append(f"base_model: {adapter.base_model}")
    if facts.get("license"):
        lines.append(f"license: {facts['license']}")
    lines += ["library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora", "- livery"]
    return "\n".join([*lines, "---"])


def _shape(adapter: Adapter) -> str:
    kind = "DoRA" if adapter.dora else "LoRA"
    if any(pair.rslora for pair in adapter.pairs.values()):
        kind = f"rank-stabilised {kind}"
    ranks = ", ".join(str(rank) for rank in adapter.ranks)
    scales = ", ".join(f"{s:g}" for s in sorted({p.scale for p in adapter.pairs.values()}))
    targets = ", ".join(sorted({leaf(module) for module in adapter.pairs}))
    rows = {
        "Base model": adapter.base_model or "unknown",
        "Kind": kind,
        "Rank": ranks,
        "Scale (of B·A)": scales,
        "Modules": f"{len(adapter.pairs)}: {targets}",
        "Parameters": f"{adapter.parameters:,}",
        "Stored as": adapter.dtype,
    }
    return _table(rows)


def _table(rows: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    for key, value in rows.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append(f"| {key} | {text.replace('|', '/')} |")
    return "\n".join(lines)


def _peft(adapter: Adapter, base: str, prompt: str) -> str:
    text = f"""### transformers with PEFT

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), ".")
messages = [{{"role": "user", "content": {prompt!r}}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""
    if adapter.dora:
        return text + "\n\nvLLM does not load DoRA adapters; merge this one into the base for it."
    rank = next((r for r in _VLLM_RANKS if r >= max(adapter.ranks)), max(adapter.ranks))
    if any(pair.kind == "experts" for pair in adapter.pairs.values()):
        return text + "\n\nvLLM needs `--enable-mixed-moe-lora-format` for adapted experts."
    return f"""{text}

### vLLM

```sh
vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules adapter=.
```"""


def _mlx(adapter: Adapter, base: str, prompt: str) -> str:
    return f"""### mlx-lm

```sh
mlx_lm.generate --model {base} --adapter-path mlx --prompt {prompt!r}
```"""


def _gguf(adapter: Adapter, base: str, prompt: str) -> str:
    return """### llama.cpp

```sh
llama-server --model base.gguf --lora gguf/adapter.gguf
```

### Ollama

```
FROM ./base.gguf
ADAPTER ./gguf/adapter.gguf
```

`base.gguf` is the base model in GGUF; give Ollama the GGUF adapter, not the safetensors one."""


_SNIPPETS = {"peft": _peft, "mlx": _mlx, "gguf": _gguf}
