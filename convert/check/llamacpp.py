"""What llama.cpp and Ollama refuse of a GGUF adapter: tried on llama.cpp b11549.

llama.cpp ends the process over most of these, so they are worth knowing beforehand. Ollama runs
llama.cpp for most architectures, and an engine of its own without LoRA for some.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from convert.check.case import Case, Finding, Form, Shape, suffix_halves
from convert.check.forms import gguf_shapes
from convert.gguf import names as gguf_names
from livery.errors import UserError, counted
from livery.gguf_base import architectures

# Architectures that Ollama runs on its own engine, which answers "loras are not yet implemented"
# (fs/ggml's OllamaEngineRequired, runner/ollamarunner): all versions since 0.7, and newer ones.
OLLAMA_WITHOUT_LORA = ("gemma3", "gemma3n", "llama4", "mistral3")
OLLAMA_SOMETIMES = ("qwen3", "qwen3moe")
_FUSED = {"attn_q": "attn_qkv", "attn_k": "attn_qkv", "attn_v": "attn_qkv", "ffn_gate": "ffn_up"}


def findings(case: Case) -> Iterator[Finding]:
    """Everything that llama.cpp has against the adapter's GGUF form, which is there."""
    form = case.forms["gguf"]
    for rule in (_kind, _architecture, _names, _halves, _alpha, _fits, _passed_over):
        yield from rule(case, form)


def ollama_findings(case: Case) -> Iterator[Finding]:
    """What Ollama has against it besides."""
    architecture = architecture_of(case)
    if architecture in OLLAMA_WITHOUT_LORA:
        why = (
            f"Ollama runs {architecture} on an engine of its own, which answers the first request "
            "with 'loras are not yet implemented'."
        )
        yield Finding("ollama-engine", True, why, case.merge_gguf())
    elif architecture in OLLAMA_SOMETIMES:
        why = (
            f"some versions of Ollama run {architecture} on an engine of its own, which answers "
            "'loras are not yet implemented'; merge if yours does."
        )
        yield Finding("ollama-engine", False, why, case.merge_gguf())
    if "gguf" in case.forms:
        yield from findings(case)


def architecture_of(case: Case) -> str:
    """llama.cpp's name of the base's architecture; "" if it is not known."""
    if case.gguf_base:
        return case.gguf_base.architecture
    if case.model_type:
        try:
            return gguf_names.for_model_type(case.model_type).name
        except UserError:
            return ""
    form = case.forms.get("gguf")
    return str(form.config.get("general.architecture") or "") if form else ""


def _anew(case: Case) -> str:
    """Write the GGUF form again from another form, where there is a readable one."""
    other = next((f for f in case.forms.values() if f.format != "gguf" and f.adapter), None)
    if other is None:
        return case.retrain()
    words = ["livery", "convert", str(case.place(other)), case.target("gguf"), "--to", "gguf"]
    return shlex.join([*words, "--base", case.base_name, "--overwrite"])


def _kind(case: Case, form: Form) -> Iterator[Finding]:
    if not form.config:
        return  # unreadable, which is reported with its reason
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        value = form.config.get(key)
        if value != wanted:
            why = f"{key} is {value!r}; llama.cpp wants {wanted!r}."
            yield Finding("kind", True, why, _anew(case))
            return


def _architecture(case: Case, form: Form) -> Iterator[Finding]:
    own = form.config.get("general.architecture")
    base = case.gguf_base.architecture if case.gguf_base else ""
    if case.base and not base:
        try:
            base = gguf_names.for_model_type(case.base.model_type).name
        except UserError:
            base = ""
    if own and base and own != base:
        why = f"the adapter is for architecture {own}, the base is {base}."
        words = ["livery", "check", str(case.path), "--base", _trained_on(case)]
        yield Finding("architecture", True, why, shlex.join(words))


def _trained_on(case: Case) -> str:
    return (case.adapter.base_model if case.adapter else "") or "MODEL"


def _names(case: Case, form: Form) -> Iterator[Finding]:
    odd = [n for n in form.shapes if not n.endswith((".lora_a", ".lora_b"))]
    norms = [n for n in odd if n.endswith("_norm.weight")]
    other = [n for n in odd if n not in norms]
    if other:
        why = f"{other[0]}: no LoRA tensor; llama.cpp refuses the file."
        yield Finding("tensor-names", True, why, _anew(case))
    if norms:
        why = f"{norms[0]}: llama.cpp silently ignores trained norms."
        yield Finding("norms", False, why, case.merge_gguf())


def _halves(case: Case, form: Form) -> Iterator[Finding]:
    for tensor, halves in suffix_halves(form).items():
        if len(halves) == 1:
            here, lost = ("a", "b") if "A" in halves else ("b", "a")
            why = f"{tensor} has lora_{here} but no lora_{lost}."
            yield Finding("half-pair", True, why, _anew(case))
            return


def _alpha(case: Case, form: Form) -> Iterator[Finding]:
    alpha = form.config.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, int):
        why = f"adapter.lora.alpha is stored as an integer ({alpha}): llama.cpp aborts on it."
        yield Finding("alpha", True, why, _anew(case))
    elif form.shapes and alpha == 0.0:
        why = "adapter.lora.alpha is 0 or missing: llama.cpp then multiplies B·A by 1."
        yield Finding("alpha", False, why)


def _fits(case: Case, form: Form) -> Iterator[Finding]:
    """Every pair has a tensor of the base, with its shape."""
    base = case.gguf_base.shapes if case.gguf_base else None
    if base is None and case.base:
        base = gguf_shapes(case.base)
    if base is None or any(True for _ in _architecture(case, form)):
        return
    for tensor, halves in suffix_halves(form).items():
        finding = _misfit(case, tensor, halves, base)
        if finding:
            yield finding
            return


def _passed_over(case: Case, form: Form) -> Iterator[Finding]:
    """LoRA that is loaded and not computed with, or not as it was trained."""
    try:
        architecture = architectures.by_name(str(form.config.get("general.architecture")))
    except UserError:
        return
    names = [tensor.removesuffix(".weight") for tensor in suffix_halves(form)]
    for rule, holds, how in (
        ("passed-over", gguf_names.passes_over, "without"),
        ("unscaled", gguf_names.leaves_unscaled, "without the experts' own scales in it"),
    ):
        lost = [name for name in names if holds(name, architecture)]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            why = (
                f"{lost[0]}{more}: llama.cpp loads LoRA on it and then computes "
                f"{architecture.name} models {how}."
            )
            yield Finding(rule, False, why, case.merge_gguf())


def _misfit(
    case: Case, tensor: str, halves: Mapping[str, Shape], base: Mapping[str, Shape]
) -> Finding | None:
    if len(halves) != 2:
        return None  # reported as half a pair
    a, b = halves["A"], halves["B"]
    wanted = base.get(tensor)
    tied = "output.weight" not in base
    other_base = shlex.join(["livery", "check", str(case.path), "--base", _trained_on(case)])
    if tensor == "token_embd.weight" and tied:
        why = (
            "token_embd: the base ties its head to the embedding, and llama.cpp ends the process "
            "over LoRA on it."
        )
        return Finding("tied-embedding", True, why, case.retrain("embed_tokens"))
    if tensor == "output.weight" and tied:
        why = "output (lm_head): the base ties its head to the embedding and has no such tensor."
        return Finding("tied-head", True, why, case.retrain("lm_head"))
    if wanted is None:
        name = tensor.removesuffix(".weight").rpartition(".")[2]
        fused = tensor.replace(name, _FUSED.get(name, name)) in base and name in _FUSED
        why = f"{tensor}: the base has no such tensor" + (
            "; it was made with fused ones, which a split adapter does not fit." if fused else "."
        )
        return Finding("absent-tensor", True, why, case.merge_gguf() if fused else other_base)
    if len(wanted) == 3 and len(a) == 3 and a[0] != wanted[0]:
        why = (
            f"{tensor}: the adapter has {counted(a[0], 'expert')}, the base {wanted[0]}; llama.cpp "
            "does not check this and would write out of bounds."
        )
        return Finding("experts", True, why, other_base)
    if _adapted(tensor, a, b) != wanted:
        why = f"{tensor}: the adapter is for {_adapted(tensor, a, b)}, the base has {wanted}."
        return Finding("shape", True, why, other_base)
    return None


def _adapted(tensor: str, a: Shape, b: Shape) -> Any:
    """The shape of the weight that a pair is for; None where the two halves do not match."""
    if tensor == "token_embd.weight":
        return (a[0], b[0]) if len(a) == len(b) == 2 and a[1] == b[1] else None
    if len(a) != len(b) or len(a) not in (2, 3) or a[-2] != b[-1] or a[:-2] != b[:-2]:
        return None
    return (*a[:-2], b[-2], a[-1])
