"""What a report says about a run besides its scores, as (name, value) rows of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.record import Record
from eval.report import words
from eval.report.run_data import RunData, Sample
from livery.progress import show_bytes, show_seconds

Fact = tuple[str, str]

LONGEST_PROMPT = 120
MARGIN = "rewards/margins"  # of a run on pairs, in its metrics


def summary(data: RunData) -> str:
    """One line below the title."""
    parts: list[str] = []
    if data.evaluations:
        record = data.evaluations[0]
        headline = record["arms"][record["headline"]]
        parts.append(
            f"{words.percent(headline['accuracy'])} of {headline['total']} cases right "
            f"({words.arm_title(record['headline'])})"
        )
    if "steps" in data.metadata:
        parts.append(
            f"trained {words.count(data.metadata['steps'], 'step')} "
            f"in {show_seconds(data.metadata.get('seconds', 0))}"
        )
    model = data.metadata.get("settings", data.config.get("settings", {})).get("model")
    if model:
        parts.append(f"base: {model}")
    return "; ".join(parts)


def training(data: RunData) -> list[Fact]:
    """Time, speed, memory and losses of the training run."""
    facts, settings = data.metadata, data.metadata.get("settings", {})
    rows: list[Fact] = []
    if "steps" in facts:
        rows.append(("steps", f"{facts['steps']} ({facts.get('epochs', '?')} epochs)"))
    if "kept_step" in facts:
        rows.append(("weights kept", f"of step {facts['kept_step']}"))
    if facts.get("eval_loss") is not None:
        lowest = "" if f"eval_{MARGIN}" in facts else "lowest "
        rows.append((f"{lowest}validation loss", f"{facts['eval_loss']:.4f}"))
    if (margin := facts.get(f"eval_{MARGIN}")) is not None:
        right = facts.get("eval_rewards/accuracies", 0.0)
        rows.append(("held-out pairs", f"margin {margin:.4f}, {right:.1%} the right way round"))
    if data.losses:
        rows.append(("last training loss", f"{data.losses[-1]['loss']:.4f}"))
    if "seconds" in facts:
        rows.append(("time", show_seconds(facts["seconds"])))
    if facts.get("tokens_per_second"):
        rows.append(_token_rate(facts))
    if facts.get("peak_memory_mb"):
        rows.append(("peak memory", show_bytes(1e6 * facts["peak_memory_mb"])))
    if "examples" in facts:
        rows.append(
            ("examples", f"{facts['examples']} + {facts.get('valid_examples', '?')} for validation")
        )
    if settings:
        lora = settings.get("lora", {})
        rows.append(("LoRA", f"rank {lora.get('rank')}, alpha {lora.get('alpha')}"))
        rows.append(
            ("learning rate", f"{settings.get('learning_rate')}, {settings.get('schedule')}")
        )
        rows.append(("seed", str(settings.get("seed"))))
    for key, name in (("backend", "backend"), ("dtype", "dtype"), ("optimizer", "optimizer")):
        if key in facts:
            rows.append((name, str(facts[key])))
    for key, name in (("base_digest", "base digest"), ("data_digest", "training data digest")):
        if key in facts:
            rows.append((name, str(facts[key])))
    return rows


def _token_rate(facts: dict[str, Any]) -> Fact:
    """Both rates that a run records; runs before 0.2 recorded the supervised one alone."""
    rate, supervised = facts["tokens_per_second"], facts.get("supervised_tokens_per_second")
    if supervised is None:
        return "supervised tokens a second", f"{rate:.0f}"
    return "tokens a second", f"{rate:.0f} with prompts, {supervised:.0f} of them supervised"


def evaluation(record: Record) -> list[Fact]:
    """What answered, from which bytes, how, where and by which command."""
    found, source = record["facts"], record["set"]
    decoding = found["decoding"]
    how = "greedy" if decoding["temperature"] == 0 else f"temperature {decoding['temperature']}"
    if decoding.get("top_p", 1) < 1:
        how += f", top-p {decoding['top_p']}"
    rows: list[Fact] = [
        ("skill", f"{record['skill']['name']} {record['skill']['version']}"),
        ("system prompt", record["skill"]["system_prompt"] or "each case's own"),
        ("cases", f"{source['path']} (sha256 {source['sha256']})"),
        ("model", str(found["model"])),
        ("base digest", str(found["base_digest"])),
        ("adapter", str(found["adapter"] or "none")),
        *((f"sha256 of {name}", digest) for name, digest in found["adapter_sha256"].items()),
        (
            "engine",
            f"{found['engine']} ({found['version']}), {found['dtype']} on {found['device']}",
        ),
        (
            "decoding",
            f"{how}, at most {decoding['max_tokens']} tokens, batches of {decoding['batch_size']}, "
            f"seed {decoding['seed']}",
        ),
        ("peak memory", show_bytes(found["peak_memory"]) if found["peak_memory"] else "unknown"),
        ("time", show_seconds(found["seconds"])),
        ("begun", found["began"]),
        ("machine", _machine(found["machine"])),
        ("livery", found["livery"]),
        ("command", found["command"]),
    ]
    if record["leaks"] is not None:
        rows.insert(3, ("training file", f"{record['leaks']['path']} "
                        f"(sha256 {record['leaks']['sha256']})"))  # fmt: skip
    return rows


def short_prompts(samples: Sequence[Sample]) -> list[str]:
    """Each sample's own part of its prompt: what all prompts begin and end with is left out."""
    prompts = [sample.prompt for sample in samples]
    if len(set(prompts)) < 2:
        return [_clip(prompt) for prompt in prompts]
    first = prompts[0]
    start = _shared(prompts)
    end = len(first) - _shared([prompt[start:][::-1] for prompt in prompts])
    # Requests may begin or end alike too: cut only where the template begins or ends something.
    start = max(first.rfind(mark, 0, start) for mark in "\n>") + 1
    after = [at for mark in "\n<" if (at := first.find(mark, end)) >= 0]
    tail = len(first) - min(after, default=len(first))
    return [_clip(prompt[start : len(prompt) - tail]) for prompt in prompts]


def _shared(texts: Sequence[str]) -> int:
    """Characters that all texts begin with."""
    first, last = min(texts), max(texts)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return length


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_PROMPT else "..." + text[3 - LONGEST_PROMPT :]


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"{machine.get('chip')}, {machine.get('cores')} cores, "
        f"{show_bytes(machine.get('memory', 0))}, {machine.get('system')}, "
        f"Python {machine.get('python')}"
    )


def held_out_pairs(data: RunData) -> list[dict[str, str]]:
    """Of a run on pairs, what every evaluation found, by column; [] of any other run."""
    columns = {
        "step": ("step", "{}"), "margin": (f"eval_{MARGIN}", "{:.4f}"),
        "right way round": ("eval_rewards/accuracies", "{:.1%}"),
        "log-probability of the chosen": ("eval_logps/chosen", "{:.2f}"),
        "of the rejected": ("eval_logps/rejected", "{:.2f}"),
    }  # fmt: skip
    return [
        {name: form.format(row[key]) for name, (key, form) in columns.items()}
        for row in data.eval_losses
        if all(key in row for key, _ in columns.values())
    ]
