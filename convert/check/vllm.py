"""What vLLM refuses of a PEFT adapter: tried on vLLM 0.33, with that version's messages.

vLLM checks adapter_config.json, then the names and shapes of the tensors. It reads PEFT folders
alone.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from convert.adapters.peft_config import faults, start_of
from convert.check import vllm_models
from convert.check.case import Case, Finding, Form, peft_halves
from convert.naming import leaf
from livery.errors import counted, shown

# What --max-lora-rank may be.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK = 16
# Whether a family's embed_tokens and lm_head take LoRA; families that are missing were not tried.
EMBEDDINGS = {
    "llama": True, "qwen3": True, "phi3": True, "mixtral": True, "qwen3_moe": True,
    "mistral": False, "qwen2": False, "gemma2": False, "gemma3": False, "gemma3_text": False,
}  # fmt: skip
_HEADS = ("classifier", "score")
_NAMES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")
# Copies of the base's own weights, which vLLM passes over.
_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")

_FUSED = (".experts", ".experts.base_layer")

Config = Mapping[str, Any]


@dataclass(frozen=True)
class ConfigRule:
    """A key of adapter_config.json that must not be set; `remedy` makes the command."""

    name: str
    hit: Callable[[Config], bool]
    why: str
    remedy: Callable[[Case], str]


def _saves_modules(config: Config) -> bool:
    saved = config.get("modules_to_save")
    return bool(saved) and not (isinstance(saved, list) and all(name in _HEADS for name in saved))


CONFIG_RULES = (
    ConfigRule("dora", lambda c: bool(c.get("use_dora")), "vLLM does not load DoRA", Case.merge),
    ConfigRule(
        "lora-bias",
        lambda c: bool(c.get("lora_bias")),
        "lora_bias is set: vLLM has no bias on B",
        lambda case: case.merged("vllm"),
    ),
    ConfigRule(
        "bias",
        lambda c: c.get("bias", "none") is None,
        'bias is null; vLLM (and PEFT) want "none"',
        lambda case: case.correct(case.forms["peft"], bias="none"),
    ),
    ConfigRule(
        "bias",
        lambda c: c.get("bias") not in (None, "none"),
        "bias is not none: vLLM has no trained biases",
        Case.merge,
    ),
    ConfigRule(
        "modules-to-save",
        _saves_modules,
        "modules_to_save is set: vLLM replaces no whole modules other than score and classifier",
        lambda case: case.merged("vllm"),
    ),
    ConfigRule(
        "initialisation",
        lambda c: start_of(c) == "changes the base",
        "init_lora_weights changed the base's own weights, which vLLM does not repeat",
        Case.peft_merge,
    ),
    ConfigRule(
        "initialisation",
        lambda c: start_of(c) == "unknown",
        "init_lora_weights is a name that vLLM (and PEFT) do not know; where the tensors are a "
        "plain LoRA's it should say true",
        lambda case: case.correct(case.forms["peft"], init_lora_weights=True),
    ),
    ConfigRule(
        "alora",
        lambda c: bool(c.get("alora_invocation_tokens")),
        "an activated LoRA (alora_invocation_tokens): vLLM would apply it to every token; "
        "llama.cpp has it",
        lambda case: case.convert("gguf"),
    ),
    ConfigRule(
        "layer-replication",
        lambda c: bool(c.get("layer_replication")),
        "layer_replication is set: vLLM does not repeat layers",
        Case.peft_merge,
    ),
    ConfigRule(
        "variant",
        lambda c: bool(c.get("use_qalora") or c.get("use_bdlora")),
        "a variant of LoRA (use_qalora, use_bdlora) that vLLM does not have",
        Case.peft_merge,
    ),
)


def findings(case: Case) -> Iterator[Finding]:
    """Everything that vLLM has against the adapter's PEFT form, which is there."""
    form = case.forms["peft"]
    for rule in CONFIG_RULES:
        if rule.hit(form.config):
            yield Finding(rule.name, True, f"{rule.why}.", rule.remedy(case))
    for rule in (
        _architecture, _types, _required, _rank, _names, _halves, _embeddings, _mixtral, _experts,
        _dense_parameters, _scales,
    ):  # fmt: skip
        yield from rule(case, form)


def _architecture(case: Case, form: Form) -> Iterator[Finding]:
    if case.base is None:
        return
    name, taken = vllm_models.takes_lora(case.base.config)
    if taken is False:
        why = f"{name}: vLLM {vllm_models.VERSION} has no LoRA for this architecture."
        yield Finding("architecture", True, why, case.merge())
    elif taken is None:
        why = (
            f"{shown(name) or 'the base names no architecture'}: whether vLLM "
            f"{vllm_models.VERSION} has LoRA for it is unknown; where it refuses, merge."
        )
        yield Finding("architecture", False, why, case.merge())


# Keys that vLLM computes with as they are; of the others it asks whether they are set.
_COMPUTED = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")


def _types(case: Case, form: Form) -> Iterator[Finding]:
    """Values of the wrong type: some end vLLM's loading, flags are true whatever text they hold."""
    for key, value, words in faults(form.config):
        if key in ("bias", "init_lora_weights"):
            continue  # rules of their own
        said = shown(json.dumps(value, default=str), 80)
        if isinstance(value, float) and value.is_integer() and key == "r":
            why = f"{key} is {said}: vLLM takes it, PEFT does not; it must be {words}."
            yield Finding("config-types", False, why, case.correct(form, **{key: int(value)}))
        elif key in _COMPUTED:
            why = f"{key} is {said}: vLLM cannot compute with it; it must be {words}."
            yield Finding("config-types", True, why, case.retrain())
        elif words == "true or false":
            why = f"{key} is {said}, which vLLM and PEFT take for {str(bool(value)).lower()}."
            yield Finding("config-types", False, why, case.correct(form, **{key: bool(value)}))
        else:
            why = f"{key} is {said}: vLLM does not read it, PEFT wants {words}."
            yield Finding("config-types", False, why, case.correct(form, **{key: None}))


def _required(case: Case, form: Form) -> Iterator[Finding]:
    missing = [k for k in ("r", "lora_alpha", "target_modules") if k not in form.config]
    if missing:
        words = ["livery", "convert", str(case.path), f"{case.path}-whole", "--to", "peft"]
        yield Finding(
            "required-keys",
            True,
            f"adapter_config.json lacks {', '.join(missing)}, for which vLLM has no default.",
            shlex.join(words),
        )


def _rank(case: Case, form: Form) -> Iterator[Finding]:
    halves = {m: shapes.get("A") for m, shapes in peft_halves(form).items()}
    # A stack of experts has its rank once an expert; its own rank is in the config.
    ranks = [a[0] for m, a in halves.items() if a and len(a) == 2 and not m.endswith(_FUSED)]
    stated = form.config.get("r")
    patterns = form.config.get("rank_pattern")
    values = [stated, *(patterns.values() if isinstance(patterns, dict) else ())]
    ranks += [value for value in values if type(value) is int]
    if not ranks or max(ranks) <= case.max_lora_rank:
        return
    rank = max(ranks)
    legal = next((value for value in RANKS if value >= rank), None)
    if legal is None:
        why = f"rank {rank}: vLLM supports up to {RANKS[-1]}."
        yield Finding("rank", True, why, case.merge())
        return
    yield Finding(
        "rank",
        True,
        f"rank {rank} is above max_lora_rank {case.max_lora_rank} "
        f"(it may be {', '.join(map(str, RANKS))}).",
        _serve(case, legal),
    )


def _serve(case: Case, rank: int, *, mixed_moe: bool = False) -> str:
    folder, first = case.served()
    return first + serve(case.base_name, folder, rank, mixed_moe=mixed_moe)


def serve(base: str, path: str, rank: int, *, mixed_moe: bool = False) -> str:
    """The command that serves `base` with the adapter in the folder `path`."""
    words = ["vllm", "serve", base, "--enable-lora", "--max-lora-rank", str(rank)]
    module = f"adapter={path}"
    if mixed_moe:
        words.append("--enable-mixed-moe-lora-format")
        module = f'{{"name": "adapter", "path": "{path}", "is_3d_lora_weight": true}}'
    return shlex.join([*words, "--lora-modules", module])


def _names(case: Case, form: Form) -> Iterator[Finding]:
    explained = any(rule.hit(form.config) for rule in CONFIG_RULES if rule.name in _EXPLAINS_NAMES)
    odd = [n for n in form.shapes if not n.endswith((*_NAMES, *_COPIES)) and not _head(n)]
    if odd and not explained:
        yield Finding(
            "tensor-names",
            True,
            f"{shown(odd[0])}: vLLM knows lora_A, lora_B and lora_embedding_A, lora_embedding_B "
            "alone.",
            case.merge(),
        )


# Rules whose tensors have other names: one finding is enough.
_EXPLAINS_NAMES = ("dora", "lora-bias", "bias", "modules-to-save")


def _head(name: str) -> bool:
    return name.rpartition(".")[0].rpartition(".")[2] in _HEADS


def _halves(case: Case, form: Form) -> Iterator[Finding]:
    for module, halves in peft_halves(form).items():
        if len(halves) == 1:
            here, lost = ("A", "B") if "A" in halves else ("B", "A")
            why = f"{shown(module)} has lora_{here} but no lora_{lost}: the file is incomplete."
            yield Finding("half-pair", True, why, _from_another_form(case))
            return


def _from_another_form(case: Case) -> str:
    whole = next((f for f in case.forms.values() if f.adapter is not None), None)
    if whole is None:
        return case.retrain()
    words = ["livery", "convert", str(case.place(whole)), f"{case.path}-whole", "--to", "all"]
    return shlex.join([*words, "--base", case.base_name])


def _embeddings(case: Case, form: Form) -> Iterator[Finding]:
    touched = [m for m in peft_halves(form) if leaf(m) in ("embed_tokens", "lm_head")]
    if not touched:
        return
    taken = EMBEDDINGS.get(case.model_type)
    if taken is False:
        why = f"{shown(touched[0])}: vLLM's {case.model_type} takes no LoRA there."
        yield Finding("embeddings", True, why, case.merged("vllm"))
    elif taken is None:
        known = ", ".join(family for family, yes in EMBEDDINGS.items() if yes)
        yield Finding(
            "embeddings",
            False,
            f"{shown(touched[0])}: whether vLLM takes LoRA there depends on the family "
            f"({case.model_type or 'unknown'}); it does on {known}.",
            "" if case.base else f"livery check {shlex.quote(str(case.path))} --base MODEL",
        )


def _mixtral(case: Case, form: Form) -> Iterator[Finding]:
    if case.model_type != "mixtral":
        return
    lost = [m for m in peft_halves(form) if ".mlp.gate" in m or ".mlp.experts" in m]
    if lost:
        yield Finding(
            "mixtral-experts",
            True,
            f"{shown(lost[0])}: vLLM's Mixtral names its router and experts block_sparse_moe and "
            "ignores tensors of other names, with only a line in its debug log.",
            case.merge(),
        )


def _experts(case: Case, form: Form) -> Iterator[Finding]:
    if case.model_type == "mixtral":
        return  # `_mixtral`
    fused = any(module.endswith(_FUSED) for module in peft_halves(form))
    if fused and not case.mixed_moe:
        yield Finding(
            "fused-experts",
            True,
            "the experts are adapted as one fused parameter (3D), which vLLM reads only when told.",
            _serve(case, case.max_lora_rank, mixed_moe=True),
        )


def _dense_parameters(case: Case, form: Form) -> Iterator[Finding]:
    """Dense layers among experts (`livery.peft_rules`): vLLM finds their tensors by name; PEFT
    wraps the parameter, which a base in 4 bits keeps as packed bytes."""
    listed = form.config.get("target_parameters")
    names: list[Any] = cast("list[Any]", listed) if isinstance(listed, list) else []
    dense = [name for name in names if isinstance(name, str) and name.endswith(".weight")]
    if not dense:
        return
    packed = bool(case.base and case.base.config.get("quantization_config"))
    why = (
        f"dense layers stand in target_parameters ({shown(dense[0])}), as PEFT needs them on such "
        "models; on a base loaded in 4 bits PEFT has no form for them"
        + (", and this base is quantized." if packed else ".")
    )
    yield Finding("peft-4bit", False, why, case.merge() + " --dequantize" * packed)


def _scales(case: Case, form: Form) -> Iterator[Finding]:
    """Patterns are read since 0.33 (`PEFTHelper.get_rank_and_scaling`); before, all modules had one
    lora_alpha / r."""
    config, adapter = form.config, form.adapter
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if adapter is None or type(rank) is not int or not isinstance(alpha, int | float):
        return
    if rank < 1:
        return
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    other = [m for m, p in adapter.pairs.items() if abs(p.scale - scale) > 1e-6 * abs(scale)]
    if other:
        yield Finding(
            "scale-patterns",
            False,
            f"another scale than {scale:g} for {counted(len(other), 'module')} (rank_pattern, "
            "alpha_pattern; "
            f"{shown(other[0])}: {adapter.pairs[other[0]].scale:g}). vLLM 0.33 gives each its own; "
            "0.30 and older give all of them the same. Merge for those.",
            case.merge(),
        )
