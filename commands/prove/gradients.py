"""Gradients by a fast route or in few bits, against float32 on the same weights and batch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from commands.prove import model as proof
from commands.prove.outcome import Outcome, Skip, judged, need
from livery.training.self_check import tolerance

# float32, in another order of additions.
EXACT = 1e-4


def tree(folder: Path) -> Outcome:
    """The tree of a micro-batch against its rows, each by itself."""
    return _exact("tree")


def cache(folder: Path) -> Outcome:
    """A prefix that ran once, whose keys and values the rows share."""
    return _exact("cache")


def branches(folder: Path) -> Outcome:
    """Attention branch by branch, which takes the tree mask's place on a CPU."""
    if (place := proof.require()).type != "cpu":
        raise Skip(f"trees are masked on {place.type}")
    return _exact("branches")


def _exact(route: str) -> Outcome:
    place = proof.require()
    shape = proof.sizes(place)
    loss = proof.adapted(proof.make_model(shape).to(place), place, "float32")
    batch = proof.make_batch(shape)
    apart = proof.compare(proof.gradient(loss, batch, route), proof.gradient(loss, batch, "own"))
    said = f"gradients differ by {apart.share:.2e} (allowed {EXACT:.0e})"
    return judged(apart.share <= EXACT, said, difference=apart.share)


def bfloat16(folder: Path) -> Outcome:
    """bfloat16, as a run trains, against float32 of the same weights."""
    place = proof.require()
    if place.type == "mps":
        raise Skip("MPS trains in float16")
    if place.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise Skip("this card has no bfloat16")
    return _few_bits(place, "bfloat16")


def mps_float16(folder: Path) -> Outcome:
    """float16 on Apple's GPU through torch."""
    if proof.require().type != "mps":
        raise Skip("torch sees no Metal GPU here")
    return _few_bits(torch.device("mps"), "float16")


def _few_bits(place: torch.device, dtype: str) -> Outcome:
    shape = proof.sizes(place)
    model = proof.make_model(shape)
    few = copy.deepcopy(model).to(getattr(torch, dtype)).to(place)
    exact = torch.device("cpu") if place.type == "mps" else place
    return _against_float32(
        proof.adapted(few, place, dtype), proof.adapted(model.to(exact), exact, "float32"), shape
    )


def nf4(folder: Path) -> Outcome:
    """NF4 weights against what they decode to, in float32: both hold the same numbers."""
    place = proof.require()
    if place.type == "mps":
        raise Skip("bitsandbytes does not run on MPS")
    need("bitsandbytes")
    from livery.engines.torch.load import keep_nf4_layout, require_bitsandbytes

    require_bitsandbytes()
    shape = proof.sizes(place)
    dtype = "bfloat16" if place.type == "cuda" else "float32"
    model = proof.make_model(shape)
    packed = _packed(copy.deepcopy(model), getattr(torch, dtype), place)
    keep_nf4_layout(packed)
    decoded = _decoded(model, packed).to(place)
    return _against_float32(
        proof.adapted(packed, place, dtype), proof.adapted(decoded, place, "float32"), shape
    )


def _packed(model: Any, dtype: torch.dtype, place: torch.device) -> Any:
    """The model with the linear layers of its blocks in NF4."""
    import bitsandbytes.nn.modules as layers

    kind: Any = layers.Params4bit

    for path, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or ".layers." not in path:
            continue
        layer: Any = layers.Linear4bit(
            module.in_features, module.out_features, bias=False, compute_dtype=dtype,
            compress_statistics=True, quant_type="nf4",
        )  # fmt: skip
        layer.weight = kind(
            module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer)
    for parameter in model.parameters():
        if not isinstance(parameter, kind):
            parameter.data = parameter.data.to(dtype)
    return model.to(place).eval().requires_grad_(False)


def _decoded(model: Any, packed: Any) -> Any:
    """`model` with the numbers that the packed layers stand for."""
    from bitsandbytes.functional import dequantize_4bit

    for path, module in packed.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            weight = model.get_submodule(path).weight
            weight.data = dequantize_4bit(module.weight.data, state).float().to(weight.device)
    return model


def _against_float32(few: Any, exact: Any, shape: dict[str, Any]) -> Outcome:
    """The route that a run takes in few bits, against the model's own forward in float32."""
    batch = proof.make_batch(shape)
    wanted = proof.gradient(exact, batch, "own")
    apart = proof.compare(proof.gradient(few, batch, few.route(batch)), wanted)
    bound = tolerance(few.dtype, shape["num_hidden_layers"])
    said = (
        f"{few.dtype} on {few.device.type}: gradients differ by {apart.share:.3g} "
        f"(allowed {bound:.3g}), cosine {apart.cosine:.5f}"
    )
    holds = apart.share <= bound
    return judged(holds, said, difference=apart.share, allowed=bound, cosine=apart.cosine)
