"""The model card: what the adapter is, what it scored, and how each runtime loads it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from convert.check.check import NAMES, Verdict
from convert.check.vllm import RANKS, serve
from convert.naming import leaf
from livery.adapter import Adapter
from livery.errors import shown


def render(
    adapter: Adapter,
    facts: Mapping[str, Any],
    *,
    formats: Sequence[str],
    left_out: Mapping[str, str],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """README.md of an adapter folder.

    Args:
        facts: what the run knows, all optional: "title", "description", "license", "prompt" (an
            example), "training" and "results" (mappings that become tables).
        formats: what the folder holds: "peft", "mlx", "gguf".
        left_out: format -> why it is not there.
        verdicts: what `livery check` says of the folder; a runtime that is not among them is taken
            to load it.
    """
    base = base_name(adapter)
    title = str(facts.get("title") or f"LoRA adapter for {base}").replace("<", "&lt;")
    parts = [_front_matter(adapter, facts), f"# {title}"]
    if facts.get("description"):
        parts.append(str(facts["description"]))
    parts.append(_shape(adapter))
    for name in ("training", "results"):
        rows = facts.get(name)
        if isinstance(rows, Mapping) and rows:
            parts.append(f"## {name.capitalize()}\n\n" + _table(rows))
    prompt = str(facts.get("prompt") or "Hello")
    parts.append(section(adapter, prompt, formats, left_out, verdicts))
    return "\n\n".join(parts) + "\n"


def with_loading(
    text: str,
    adapter: Adapter,
    *,
    formats: Sequence[str],
    left_out: Mapping[str, str],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Somebody's card, its section on loading (the last one of ours) replaced or added."""
    before = text.partition(f"\n{TITLE}\n")[0].rstrip()
    return f"{before}\n\n{section(adapter, 'Hello', formats, left_out, verdicts)}\n"


def _front_matter(adapter: Adapter, facts: Mapping[str, Any]) -> str:
    lines = ["---"]
    if adapter.base_model:
        lines.append(f"base_model: {_scalar(adapter.base_model)}")
    if facts.get("license"):
        lines.append(f"license: {_scalar(str(facts['license']))}")
    lines += ["library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora", "- livery"]
    return "\n".join([*lines, "---"])


def _scalar(text: str) -> str:
    """Text as YAML on one line, whatever is in it."""
    import yaml

    style = None if text.isprintable() else '"'
    dumped = yaml.safe_dump(text, default_style=style, width=math.inf, allow_unicode=True)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _shape(adapter: Adapter) -> str:
    kind = "DoRA" if adapter.dora else "LoRA"
    if any(pair.rslora for pair in adapter.pairs.values()):
        kind = f"rank-stabilised {kind}"
    ranks = ", ".join(str(rank) for rank in adapter.ranks)
    scales = ", ".join(f"{s:g}" for s in sorted({p.scale for p in adapter.pairs.values()}))
    targets = ", ".join(sorted({leaf(module) for module in adapter.pairs}))
    rows = {
        "Base model": shown(adapter.base_model) or "unknown",
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
        cell = shown(text, 1000).replace("|", "/").replace("<", "&lt;")
        lines.append(f"| {shown(key)} | {cell} |")
    return "\n".join(lines)


TITLE = "## Loading it"


def base_name(adapter: Adapter) -> str:
    """What the card's commands call the base: its name, unless that would not stay in them."""
    name = adapter.base_model
    plain = bool(name) and name.isprintable() and "`" not in name and len(name) <= 300
    return name if plain else "BASE_MODEL"


def section(
    adapter: Adapter,
    prompt: str,
    formats: Sequence[str],
    left_out: Mapping[str, str],
    verdicts: Sequence[Verdict],
) -> str:
    """The whole section, for the folder that holds `formats`; see `card.render`."""
    base = base_name(adapter)
    judged = {verdict.runtime: verdict for verdict in verdicts}
    parts = [f"{TITLE}\n\nRun from this folder."]
    if "peft" in formats:
        parts.append(_peft(base, prompt))
    snippets = {
        "vllm": ("peft", _vllm(adapter, base, prompt)),
        "mlx": ("mlx", _mlx(base, prompt)),
        "llamacpp": ("gguf", _llamacpp(base, prompt)),
        "ollama": ("gguf", _ollama(base)),
    }
    for runtime, (wanted, snippet) in snippets.items():
        verdict = judged.get(runtime)
        if wanted not in formats:
            continue
        if verdict and not verdict.taken:
            parts.append(f"### {NAMES[runtime]}\n\n{_refusal(verdict)}")
        else:
            notes = [shown(finding.why, 2000) for finding in verdict.findings] if verdict else []
            parts.append("\n\n".join([f"### {NAMES[runtime]}", snippet, *notes]))
    for name, why in left_out.items():
        parts.append(f"There is no {name.upper()} form in this folder: {shown(why, 2000)}")
    return "\n\n".join(parts)


def _refusal(verdict: Verdict) -> str:
    first = verdict.findings[0]
    text = f"{NAMES[verdict.runtime]} does not load this adapter: {shown(first.why, 2000)}"
    safe = first.remedy and "`" not in first.remedy and first.remedy.isprintable()
    return f"{text}\n\n```sh\n{first.remedy}\n```" if safe else text


def _peft(base: str, prompt: str) -> str:
    return f"""### transformers with PEFT

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({_python(base)}), ".")
messages = [{{"role": "user", "content": {_python(prompt)}}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def _vllm(adapter: Adapter, base: str, prompt: str) -> str:
    rank = max(adapter.ranks)
    legal = next((value for value in RANKS if value >= rank), RANKS[-1])
    experts = any(pair.kind == "experts" for pair in adapter.pairs.values())
    command = serve(base, ".", legal, mixed_moe=experts)
    return f"""```sh
{command}
curl http://localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d {_request("adapter", prompt)}
```

A server started with `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1` takes it while it
runs, by a POST of `{{"lora_name": "adapter", "lora_path": "PATH"}}` to `/v1/load_lora_adapter`.
In a program:

```python
from vllm import LLM
from vllm.lora.request import LoRARequest

llm = LLM({_python(base)}, enable_lora=True, max_lora_rank={legal})
messages = [{{"role": "user", "content": {_python(prompt)}}}]
print(llm.chat(messages, lora_request=LoRARequest("adapter", 1, "."))[0].outputs[0].text)
```"""


def _mlx(base: str, prompt: str) -> str:
    model = shlex.quote(base)
    return f"""```sh
mlx_lm.generate --model {model} --adapter-path mlx --prompt {shlex.quote(prompt)}
mlx_lm.server --model {model} --adapter-path mlx
```"""


def _llamacpp(base: str, prompt: str) -> str:
    return f"""```sh
livery gguf --model {shlex.quote(base)} --out base.gguf
llama-server --model base.gguf --lora gguf/adapter.gguf
curl http://localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d {_request("base", prompt)}
```

A request may say how strongly it applies, `"lora": [{{"id": 0, "scale": 0.5}}]`; `--lora-scaled`
and a POST to `/lora-adapters` say it for all."""


def _ollama(base: str) -> str:
    return f"""```sh
livery gguf --model {shlex.quote(base)} --out base.gguf
livery pack . --ollama --from base.gguf --out ollama
ollama create adapter -f ollama/Modelfile
ollama run adapter
```

`livery pack` writes the Modelfile: `FROM` the base, `ADAPTER ./gguf/adapter.gguf` (give Ollama the
GGUF adapter, not the safetensors one), the chat template and the stop tokens."""


def _python(text: str) -> str:
    """A Python string."""
    return json.dumps(text, ensure_ascii=False)


def _request(model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return shlex.quote(json.dumps(body, ensure_ascii=False))
