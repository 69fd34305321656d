"""What mlx-lm refuses of an adapter folder: `load_adapters` of mlx-lm 0.32.

It puts LoRA layers where num_layers and lora_parameters say, then refuses tensors that have no such
layer or another shape; of tensors that are missing it says nothing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from convert.adapters import mlx as mlx_format
from convert.check.case import Case, Finding, Form, suffix_halves
from convert.naming import leaf
from livery.adapter_names import mlx_to_hf
from livery.errors import shown

_LEAVES = ("lora_a", "lora_b", "m")


def findings(case: Case) -> Iterator[Finding]:
    """Everything that mlx-lm has against the adapter's MLX form, which is there."""
    form = case.forms["mlx"]
    for rule in (_config, _types, _full, _names, _halves, _rank, _placed, _experts, _heads, _scale):
        yield from rule(case, form)


def _parameters(form: Form) -> Mapping[str, Any]:
    given = form.config.get("lora_parameters")
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {}


def _anew(case: Case) -> str:
    """The command that writes the MLX form again: from another form, or from itself."""
    other = next((f for f in case.forms.values() if f.format != "mlx" and f.adapter), None)
    source = str(case.place(other or case.forms["mlx"]))
    words = ["livery", "convert", source, f"{case.path}-mlx", "--to", "mlx"]
    return shlex.join([*words, "--base", case.base_name])


def _config(case: Case, form: Form) -> Iterator[Finding]:
    given = _parameters(form)
    missing = [k for k in ("num_layers", "lora_parameters") if k not in form.config]
    if given:
        missing += [f"lora_parameters.{k}" for k in ("rank", "scale", "dropout") if k not in given]
    if missing and form.config.get("fine_tune_type") != "full":
        alpha = " (it has alpha; mlx-lm's scale is alpha / rank)" if "alpha" in given else ""
        why = f"adapter_config.json lacks {', '.join(missing)}{alpha}."
        yield Finding("config", True, why, _anew(case))


def _types(case: Case, form: Form) -> Iterator[Finding]:
    """mlx-lm makes arrays and layers of these values as they are."""
    given = _parameters(form)
    for key, value, words in [*mlx_format.faults(given), *_layer_fault(form)]:
        said = shown(json.dumps(value, default=str), 80)
        where = key if key == "num_layers" else f"lora_parameters.{key}"
        yield Finding(
            "config-types",
            True,
            f"{where} is {said}; it must be {words}.",
            _corrected(case, form, key),
        )


def _layer_fault(form: Form) -> Iterator[tuple[str, Any, str]]:
    if form.config.get("fine_tune_type") != "full" and "num_layers" in form.config:
        count = form.config["num_layers"]
        if type(count) is not int:
            yield "num_layers", count, "a whole number"


def _corrected(case: Case, form: Form, key: str) -> str:
    """The command that sets a value to what the tensors say; the scale they do not say."""
    modules = suffix_halves(form)
    shapes = [shape for halves in modules.values() for shape in halves.values()]
    if key == "scale" or not shapes:
        other = any(f.format != "mlx" and f.adapter for f in case.forms.values())
        return _anew(case) if other else case.retrain()
    if key == "num_layers":
        return case.correct(form, num_layers=max(_layers(modules), default=0) + 1)
    ranks = [h["A"][1] for h in modules.values() if len(h.get("A", ())) > 1]
    value = {"rank": ranks[0] if ranks else 1, "dropout": 0.0, "keys": sorted(modules)}[key]
    return case.correct(form, lora_parameters={**_parameters(form), key: value})


def _layers(modules: Iterable[str]) -> list[int]:
    places = (_inner(module) for module in modules)
    return [place[0] for place in places if place is not None]


def _scale(case: Case, form: Form) -> Iterator[Finding]:
    note = mlx_format.old_scale(_parameters(form))
    if note:
        yield Finding("scale", False, note)


def _full(case: Case, form: Form) -> Iterator[Finding]:
    if form.config.get("fine_tune_type") == "full":
        why = "fine_tune_type is full: whole weights, which mlx-lm loads, but not an adapter."
        command = f"mlx_lm.fuse --model {case.base_name} --adapter-path {form.path}"
        yield Finding("full-weights", False, why, command)


def _names(case: Case, form: Form) -> Iterator[Finding]:
    if form.config.get("fine_tune_type") == "full":
        return
    odd = [name for name in form.shapes if leaf(name) not in _LEAVES]
    magnitudes = [name for name in form.shapes if leaf(name) == "m"]
    if form.config.get("fine_tune_type") != "dora":
        odd += magnitudes
    if odd:
        why = f"{shown(odd[0])}: not an adapter parameter; mlx-lm refuses tensors that fit nowhere."
        yield Finding("tensor-names", True, why, _anew(case))


def _halves(case: Case, form: Form) -> Iterator[Finding]:
    for module, halves in suffix_halves(form).items():
        if len(halves) == 1:
            here, lost = ("a", "b") if "A" in halves else ("b", "a")
            why = (
                f"{shown(module)} has lora_{here} but no lora_{lost}: mlx-lm loads it silently and "
                "leaves that half at its starting values."
            )
            yield Finding("half-pair", True, why, _anew(case))
            return


def _rank(case: Case, form: Form) -> Iterator[Finding]:
    rank = _parameters(form).get("rank")
    for module, halves in suffix_halves(form).items():
        shape = halves.get("A")
        if shape is None or len(shape) < 2 or type(rank) is not int:
            continue
        own = shape[1]  # (in, r), or (E, r, in) for experts
        if own != rank:
            why = (
                f"{shown(module)}: lora_a is {shape}, but rank is {rank}: mlx-lm has one rank for "
                "all."
            )
            yield Finding("rank", True, why, _anew(case))
            return


def _placed(case: Case, form: Form) -> Iterator[Finding]:
    """A module is adapted if `keys` has its full path, or its path within one of the last
    num_layers layers; without `keys`, all linear modules of those layers are."""
    keys, count = _parameters(form).get("keys"), form.config.get("num_layers")
    if case.base is None or type(count) is not int:
        return
    for module in suffix_halves(form):
        inner = _inner(module)
        late = inner is not None and inner[0] >= case.base.layers - max(count, 0)
        if isinstance(keys, list):
            listed = module in keys or (late and inner is not None and inner[1] in keys)
        else:
            listed = late
        if not listed:
            why = (
                f"{shown(module)}: lora_parameters.keys and num_layers ({count} of "
                f"{case.base.layers}) put no LoRA there, and mlx-lm refuses tensors "
                "that have no place."
            )
            yield Finding("placement", True, why, _anew(case))
            return


def _inner(module: str) -> tuple[int, str] | None:
    """(layer, path within it); None outside the layers."""
    _, found, rest = module.partition("layers.")
    number, _, inner = rest.partition(".")
    return (int(number), inner) if found and number.isdigit() else None


def _experts(case: Case, form: Form) -> Iterator[Finding]:
    stacked = any(".experts." in mlx_to_hf(module) for module in suffix_halves(form))
    if stacked and form.config.get("fine_tune_type") == "dora":
        why = "mlx-lm has no DoRA on experts."
        yield Finding("dora-experts", True, why, case.merge())


def _heads(case: Case, form: Form) -> Iterator[Finding]:
    if case.base is None or not case.base.tied:
        return
    for module in suffix_halves(form):
        name = leaf(mlx_to_hf(module))
        if name == "lm_head":
            why = "lm_head: the base ties its head to the embedding; mlx-lm has no lm_head there."
            yield Finding("tied-head", True, why, case.retrain("lm_head"))
        elif name == "embed_tokens":
            why = (
                "embed_tokens: the base ties its head to the embedding, and mlx-lm applies the "
                "adapter to both. PEFT applies it to the embedding alone."
            )
            yield Finding("tied-embedding", False, why)
