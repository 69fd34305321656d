"""How much memory a torch run will take, from its settings and the model's config.json alone.

Nothing is loaded and torch is not imported, so `--dry-run` can say in advance what would not fit.
What a block keeps for its backward pass is counted tensor by tensor, as transformers' blocks with
PEFT's LoRA save them; two factors, for what is alive besides while one block runs backward, were
fitted to 180 measured peaks (`tests/cuda_train/test_torch_memory.py` measures some of them again).
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cuda_train.route import LONGEST_TREE, Route, Shape, cheaper, no_cache
from livery.config.settings import TrainSettings
from livery.models import text_config
from livery.training.footprint import BYTES, Estimate, Sizes, read_sizes, stored
from livery.training.plan import bucket

# Of a chunk of the head's logits; see `cuda_train.head`.
LOGITS_BYTES = 48 << 20
# On a CPU a run's memory is its process's. Python, torch, transformers and PEFT take 0.4 GB, the
# programs that oneDNN makes for the shapes of a step 0.1 GB; a torch that is built for CUDA brings
# another 0.37 GB on a machine without a GPU, too. Between arrays that come and go the heap keeps
# holes that none of the next fits into.
_LIBRARIES, _OF_CUDA, HOLES = 500_000_000, 370_000_000, 1.3
# Blocks of a sharded base that are whole at a time: the one that runs, and two gathers' buffers.
GATHERED = 3
# Numbers alive besides in the block that runs backward: by feed-forward width, and by scores.
_RUNNING_INNER, _RUNNING_SCORES = 1.0, 0.5


def estimate(
    settings: TrainSettings,
    config: Mapping[str, Any],
    shapes: Iterable[Shape],
    *,
    dtype: str,
    folder: Path | None = None,
    eager: bool | None = None,
    on_cpu: bool = False,
    ranks: int = 1,
) -> Estimate:
    """Bytes by part at the peak of the largest micro-batch's step.

    Args:
        config: the model's config.json.
        shapes: the run's micro-batches; the largest counts.
        dtype: of the base's weights on the device, e.g. "bfloat16".
        folder: the model's, where it is here already: its parameters are then counted.
        eager: attention makes its scores in full; None says as the family does by default.
        on_cpu: it trains on a CPU, where attention goes branch by branch, trees come in few
            lengths, and the memory is the whole process's.
        ranks: processes that a sharded base is spread over.
    """
    sizes = read_sizes(config)
    if eager is None:  # a soft cap on the scores exists in eager attention alone
        eager = settings.attention == "eager" or bool(
            text_config(config).get("attn_logit_softcapping")
        )
    step = Step(
        sizes, settings, BYTES[dtype], eager, branches=on_cpu and not eager, few_lengths=on_cpu
    )
    activations, logits = max((step.peak(shape) for shape in shapes), default=(0.0, 0.0), key=sum)
    trained = sizes.lora_parameters(settings)
    moments = 2 * (1.02 if settings.optimizer == "adamw_8bit" else 4)
    # Weights, gradients, moments; the step makes two more vectors of their length.
    adapter = int(trained * (4 + 4 + moments + 8))
    holes, libraries = (HOLES, _libraries()) if on_cpu else (1.0, 0)
    weights = base_bytes(settings, sizes, dtype, folder, ranks)
    return Estimate(weights, adapter, int(holes * activations), int(holes * logits), libraries)


def _libraries() -> int:
    """Bytes of the libraries that a run on a CPU loads; torch itself is not imported for it."""
    found = importlib.util.find_spec("torch")
    places = found.submodule_search_locations or () if found else ()
    for_cuda = any(any(Path(place, "lib").glob("libtorch_cuda.*")) for place in places)
    return _LIBRARIES + (_OF_CUDA if for_cuda else 0)


def base_bytes(
    settings: TrainSettings, sizes: Sizes, dtype: str, folder: Path | None, ranks: int = 1
) -> int:
    """Bytes of the base's weights on the device; quantized or sharded, the tables stay whole."""
    full = BYTES[dtype]
    counted, _ = stored(folder) if folder is not None else (0, 0)
    count = counted or sizes.parameters()
    tables = sizes.vocabulary * sizes.hidden * (1 if sizes.tied else 2)
    if settings.shard_base and settings.quantize is None:
        blocks = max(0, count - tables)
        return int(full * (min(count, tables) + blocks / ranks + GATHERED * blocks / sizes.layers))
    if settings.quantize is None:
        return count * full
    # NF4's scales, themselves in 8 bits, come to another eighth of a bit a weight.
    packed = {4: 0.52, 8: 1.01}.get(settings.quantize, full)
    return int(max(0, count - tables) * packed + min(count, tables) * full)


class Step:
    """One step of a run: bytes alive at its peak."""

    def __init__(
        self,
        sizes: Sizes,
        settings: TrainSettings,
        width: int,
        eager: bool,
        *,
        branches: bool = False,
        few_lengths: bool = False,
    ) -> None:
        self.sizes, self.settings, self.width, self.eager = sizes, settings, width, eager
        self.branches = branches
        self.few_lengths = few_lengths  # see cuda_train.tree

    def route(self, shape: Shape) -> Route:
        if not self.settings.share_prefix:
            return "plain"
        trained = self.sizes.lora_parameters(self.settings) // self.sizes.layers
        return cheaper(
            shape,
            branches=self.branches,
            weight=self.sizes.block_weights() + trained,
            hidden=self.sizes.hidden,
            recomputes=no_cache(self.settings),
        )

    def peak(self, shape: Shape, route: Route | None = None) -> tuple[float, float]:
        """(bytes of activations, bytes of logits) at the peak.

        Logits are gone when the first block runs backward: the larger of the two counts.
        """
        s, route = self.sizes, route or self.route(shape)
        if self.few_lengths and route in ("tree", "branches"):
            more = bucket(shape.places) - shape.places
            shape = dataclasses.replace(shape, suffixes=shape.suffixes + more)
        places, keys, pairs = _extent(shape, route)
        block = self.block(places, keys, pairs, route)
        # The embeddings, the last norm and what leaves it; the mask, made once for all blocks.
        kept = places * s.hidden * (2 * self.width + 4)
        kept += self.width * pairs if route not in ("plain", "branches") else 0
        running = self.running(places, pairs)
        if self.settings.grad_checkpoint:
            kept += s.layers * places * s.hidden * self.width
            running += block
        else:
            kept += s.layers * block
        # A chunk of logits in float32, become their gradients; and both in the base's dtype.
        chunk = min(4 * shape.supervised * s.vocabulary, LOGITS_BYTES)
        logits = chunk * (1 if self.width == 4 else 2)
        return kept + running, max(0.0, logits - running)

    def running(self, places: int, pairs: int) -> float:
        """Gradients and copies within the block whose backward runs."""
        s = self.sizes
        floats = _RUNNING_INNER * places * s.active * s.feed_forward
        if self.eager:
            floats += _RUNNING_SCORES * s.heads * pairs
        return 4 * floats + self.stacks()  # the gradient of changed stacks

    def block(self, places: int, keys: int, pairs: int, route: Route) -> float:
        """Bytes that a block keeps: for norms, for LoRA's inputs, for attention, for the rest."""
        s, w = self.sizes, self.width
        norms = 4 * places * (s.norms * s.hidden + s.head_norms * (s.q + s.kv))
        masked = route not in ("plain", "branches")
        # Keys and values are repeated for the heads that share them, where a mask is given.
        of_keys = s.q if masked or self.eager else s.kv
        attention = w * (2 * places * s.q + 2 * keys * of_keys)
        if self.eager:
            attention += s.heads * pairs * (4 if w == 4 else 4 + w)
        return norms + attention + self.inner(places) + self.lora(places) + self.stacks()

    def inner(self, places: int) -> float:
        """What the feed-forward layer keeps of its own."""
        s = self.sizes
        # Both projections and the activated one; or one, or all terms of its formula.
        kept = 3 if s.gated else 4 if s.written_out else 1
        numbers = kept * s.feed_forward + (s.hidden if s.experts else 0)
        return self.width * places * s.active * numbers

    def stacks(self) -> float:
        """Stacks of experts with the adapter's change added, and the change as it was made."""
        s = self.sizes
        named = s.adapted_experts(self.settings.lora)
        if not named:
            return 0.0
        one = s.experts * s.hidden * s.feed_forward
        stacks = 2 * bool(named.keys() - {"down_proj"}) + ("down_proj" in named)
        return one * stacks * self.width

    def lora(self, places: int) -> float:
        """Inputs of the adapted layers and of their B, as `cuda_train.delta` keeps them; PEFT's own
        forward, for what that does not do, keeps float32 ones."""
        lora = self.settings.lora
        found = self.sizes.adapted(lora)
        by_peft = lora.dora or lora.dropout > 0 or self.settings.quantize is not None
        if self.width == 4 or not by_peft:  # one for all that read it
            shared = {**_INPUT, "up_proj": "attention"} if self.sizes.parallel else _INPUT
            inputs = {shared.get(name, name): shape[0] for name, shape in found.items()}
            inputs.pop("o_proj", None)  # attention keeps its output already
            kept = sum(inputs.values())
        else:  # a cast for each
            kept = sum(shape[0] for shape in found.values())
        if lora.dropout:
            kept += 1.25 * sum(shape[0] for shape in found.values())
        if lora.dora:
            kept += 2 * sum(shape[1] for shape in found.values())
        if by_peft:
            return 4 * places * (kept + 2 * len(found) * lora.rank)
        return self.width * places * (kept + len(found) * lora.rank)


# Layers that read the same input.
_INPUT = {
    "q_proj": "attention", "k_proj": "attention", "v_proj": "attention",
    "gate_proj": "inner", "up_proj": "inner",
}  # fmt: skip


def _extent(shape: Shape, route: Route) -> tuple[int, int, int]:
    """(positions that run, rows of keys that are kept, pairs of query and key)."""
    start, rows, width = shape.prefix, shape.rows, shape.width
    if route == "branches":
        return shape.places, shape.places, start**2 + rows * width * (start + width)
    if route == "tree":
        # Longer trees are split where no cache may be used.
        places = min(shape.places, max(LONGEST_TREE, start + width))
        return places, places, places**2
    if route == "cache":
        keys = start + rows * (start + width)
        return start + rows * width, keys, start**2 + rows * width * (start + width)
    places = rows * (start + width)
    return places, places, rows * (start + width) ** 2
