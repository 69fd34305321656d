"""What each runtime would say of an adapter, before it is deployed.

The rules are in a file a runtime: `check_vllm`, `check_mlx`, `check_llamacpp` (and Ollama). This
module finds the adapter's forms, picks the one that a runtime reads, and adds what is the same for
all: a form that is missing, cannot be read, or does not fit the base.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.adapters.formats import refuse
from convert.base import Base, check_fits, load_base
from convert.check import llamacpp as check_llamacpp
from convert.check import mlx as check_mlx
from convert.check import vllm as check_vllm
from convert.check.case import Case, Finding, Form, GgufBase, Runtime
from convert.check.forms import find_forms, gguf_shapes, open_gguf_base
from livery.adapter import LONGEST_NAME, Format
from livery.errors import UserError
from livery.models import find_base

RUNTIMES: tuple[Runtime, ...] = ("vllm", "llamacpp", "ollama", "mlx")
READS: Mapping[Runtime, Format] = {
    "vllm": "peft",
    "llamacpp": "gguf",
    "ollama": "gguf",
    "mlx": "mlx",
}
NAMES = {"vllm": "vLLM", "llamacpp": "llama.cpp", "ollama": "Ollama", "mlx": "mlx-lm"}
FORM_NAMES = {"peft": "PEFT folders", "gguf": "GGUF adapters", "mlx": "its own folders"}
_RULES: Mapping[Runtime, Callable[[Case], Iterator[Finding]]] = {
    "vllm": check_vllm.findings,
    "llamacpp": check_llamacpp.findings,
    "ollama": check_llamacpp.ollama_findings,
    "mlx": check_mlx.findings,
}


@dataclass(frozen=True)
class Verdict:
    """What one runtime makes of the adapter.

    Attributes:
        form: the file or folder that it would be given; "" where there is none.
        findings: refusals first.
    """

    runtime: Runtime
    form: str
    findings: tuple[Finding, ...]

    @property
    def taken(self) -> bool:
        return not any(finding.refused for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "taken": self.taken,
            "form": self.form,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    path: str | Path,
    *,
    base: str | Path | None = None,
    runtimes: Sequence[Runtime] = RUNTIMES,
    max_lora_rank: int = check_vllm.DEFAULT_RANK,
    mixed_moe: bool = False,
) -> list[Verdict]:
    """One verdict a runtime.

    Args:
        path: an adapter folder or file of any format.
        base: the base model: its folder, a downloaded hub id, or a .gguf file. Where it is not
            given and the adapter names a base that is here, that one is taken.
        max_lora_rank, mixed_moe: how vLLM is started (--max-lora-rank,
            --enable-mixed-moe-lora-format).

    Raises:
        UserError: there is no adapter at `path`, or the base cannot be read.
    """
    return judge(gather(Path(path), base, max_lora_rank, mixed_moe), runtimes)


def judge(case: Case, runtimes: Sequence[Runtime] = RUNTIMES) -> list[Verdict]:
    """One verdict a runtime on what `gather` found."""
    return [_verdict(case, runtime) for runtime in runtimes]


def gather(
    path: Path,
    base: str | Path | None,
    max_lora_rank: int = check_vllm.DEFAULT_RANK,
    mixed_moe: bool = False,
) -> Case:
    """Read what the rules look at. Raises UserError, see `check`."""
    gguf_base: GgufBase | None = None
    known: Base | None = None
    if base is not None and Path(base).is_file():
        gguf_base = open_gguf_base(Path(base))
    elif base is not None:
        known = load_base(base)
    forms = find_forms(path, known)
    named = _named_base(forms)
    if base is None and find_base(named):
        known = load_base(named)
        forms = find_forms(path, known)
    if gguf_base and named and find_base(named):
        name = named
    else:
        name = str(base) if base and not gguf_base else (named or "BASE_MODEL")
    return Case(path, forms, known, gguf_base, name, max_lora_rank, mixed_moe)


def _named_base(forms: Mapping[Format, Form]) -> str:
    """The base that the adapter itself names, whatever form says it."""
    for form in forms.values():
        for name in (
            form.adapter.base_model if form.adapter else "",
            form.config.get("base_model_name_or_path"),
            form.config.get("model"),
        ):
            if isinstance(name, str) and name and len(name) <= LONGEST_NAME:
                return name
    return ""


def _verdict(case: Case, runtime: Runtime) -> Verdict:
    form = case.forms.get(READS[runtime])
    found: list[Finding] = []
    if form is None:
        found.append(_missing(case, runtime))
        if runtime == "ollama":
            found += check_llamacpp.ollama_findings(case)
    else:
        found += _RULES[runtime](case)
        found += _common(case, form, found)
    found.sort(key=lambda finding: not finding.refused)
    return Verdict(runtime, str(case.place(form)) if form else "", tuple(found))


def _missing(case: Case, runtime: Runtime) -> Finding:
    """The runtime's own form is not there: how to make it, or why it cannot be made."""
    wanted = READS[runtime]
    have = ", ".join(form.format.upper() for form in case.forms.values())
    why = f"{NAMES[runtime]} reads {FORM_NAMES[wanted]}; this is {have}."
    if runtime == "ollama" and "peft" in case.forms:
        why += " (Its own import of safetensors adapters permutes the wrong half; use GGUF.)"
    source = next((form for form in case.forms.values() if form.adapter is not None), None)
    if source is None or source.adapter is None:
        first = next(iter(case.forms.values()))
        why += f" It cannot be converted: {first.refusal}"
        remedy = _with_base(case) if "Give --base" in first.refusal else _restore(case, first)
        return Finding("format", True, why, remedy)
    adapter = source.adapter
    if case.base and not adapter.heads:
        adapter = adapter.replace(heads=(case.base.heads, case.base.kv_heads))
    try:
        refuse(adapter, wanted, case.base, source.format)
    except UserError as error:
        remedy = _way_out(case, runtime, str(error))
        return Finding("format", True, f"{why} {error}", remedy)
    return Finding("format", True, why, case.convert(wanted))


def _restore(case: Case, form: Form) -> str:
    """The command for a form that cannot be read: from a form that is whole, or by the program
    that can read it, or by training it again."""
    whole = next((f for f in case.forms.values() if f.adapter is not None), None)
    if whole is not None:
        words = ["livery", "convert", str(case.place(whole)), f"{case.path}-whole", "--to", "all"]
        return shlex.join([*words, "--base", case.base_name])
    if form.format == "peft" and form.shapes and not form.nonfinite:
        return case.peft_merge()
    return case.retrain()


def _way_out(case: Case, runtime: Runtime, error: str) -> str:
    """The command for an adapter that has no form for `runtime`."""
    adapter = case.adapter
    if "--base" in error:
        return case.convert(READS[runtime])
    if adapter and adapter.alora_invocation_tokens is not None:
        return case.convert("gguf")
    return case.merged(runtime)


def _common(case: Case, form: Form, found: Sequence[Finding]) -> Iterator[Finding]:
    """What any runtime has against a form that cannot be read or does not fit the base."""
    if form.nonfinite:
        yield Finding("nonfinite", True, form.refusal, _restore(case, form))
        return
    if form.adapter is None:
        needs_base = "Give --base" in form.refusal
        if needs_base:
            yield Finding("not-compared", False, form.refusal, _with_base(case))
        elif not any(finding.refused for finding in found):
            # llama.cpp takes what convert cannot carry over (norms, other architectures).
            strict = form.format == "gguf" and bool(form.shapes)
            # So does vLLM what PEFT refuses of the config's types.
            typed = bool(form.shapes) and any(finding.rule == "config-types" for finding in found)
            if typed:
                return
            if not strict:
                yield Finding("unreadable", True, form.refusal, _restore(case, form))
            elif not found:
                yield Finding("not-read", False, form.refusal)
        return
    unknown = _not_compared(case, form)
    if unknown:
        remedy = "" if case.base else _with_base(case)
        yield Finding("not-compared", False, f"not compared with the base: {unknown}.", remedy)
        return
    if case.base is None:
        return
    if form.format == "gguf" or any(finding.refused for finding in found):
        return  # compared tensor by tensor, or refused anyway
    try:
        check_fits(form.adapter, case.base)
    except UserError as error:
        other = shlex.join(["livery", "check", str(case.path), "--base", _trained_on(form)])
        yield Finding("base", True, str(error), other)


def _not_compared(case: Case, form: Form) -> str:
    """Why modules and shapes were not held against the base's; "" where they were."""
    if case.base is None:
        of_gguf = case.gguf_base is not None and form.format == "gguf"
        return "" if of_gguf else "its folder is unknown"
    if not case.base.shapes:
        return "it holds no weights whose shapes can be read (quantized?)"
    if form.format == "gguf" and gguf_shapes(case.base) is None:
        return f"Livery does not know how llama.cpp lays out {case.model_type!r}"
    return ""


def _trained_on(form: Form) -> str:
    return (form.adapter.base_model if form.adapter else "") or "MODEL"


def _with_base(case: Case) -> str:
    return shlex.join(["livery", "check", str(case.path), "--base", case.base_name])
