"""Steps recorded as CUDA graphs: one launch in place of thousands.

A step of a small base is some 7,000 kernels of a few microseconds, and launching them one by one
takes a processor far longer than the GPU computes: on an H100 SmolLM2-135M computed for 33 ms in
steps of over 300. A graph is recorded once for a shape and launched as a whole from then on, on
inputs that are copied into the arrays it was recorded with; so trees are padded to few shapes, with
places that nothing attends to and targets of weight 0. What it saves depends on card and base, so a
run tries both on its first batch and keeps the faster; before that it compares the gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cuda_train import tree
from cuda_train.body import Body, run
from cuda_train.head import Head
from cuda_train.route import shape_of
from cuda_train.trial import Trial, fastest
from livery.config.settings import TrainSettings
from livery.training.numerics import row_arrays
from livery.training.plan import MicroBatch
from livery.training.self_check import FAMILY_ERRORS, first_line

# Shapes beyond these run unrecorded: each graph keeps some megabytes.
_SHAPES = 64
# The kernels are the same, and so are their results, but for the order of some additions.
_APART = {"float32": 1e-4}
_APART_IN_FEW_BITS = 1e-2

# Runs a function now or later; what it returns runs it again on whatever its arrays then hold.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True)
class Graph:
    """What was recorded for one shape.

    Attributes:
        inputs: the arrays that it reads.
        total: () float32, the loss that it leaves.
        replay: computes the loss, and adds the gradient to the parameters'.
    """

    inputs: Mapping[str, torch.Tensor]
    total: torch.Tensor
    replay: Callable[[], None]


class Graphs:
    """The weighted loss of trees and its gradient, by graphs that are kept by shape."""

    def __init__(
        self, body: Body, head: Head, device: torch.device, *, record: Recorder | None = None
    ) -> None:
        """
        Args:
            record: instead of recording a CUDA graph.
        """
        self._body, self._head, self._device = body, head, device
        self._record: Recorder = record or _Recorder()
        self._kept: dict[tuple[int, int], Graph] = {}
        self._met: set[tuple[int, int]] = set()
        self._full = False

    def add_gradient(self, batch: MicroBatch) -> float | None:
        """Add the gradient of a micro-batch's loss under `livery.training.numerics.SFT`; returns
        that loss, or None where the caller had better run the batch itself: a shape that is met
        first may be met only once, and memory may end."""
        shape = padded_shape(batch)
        if shape not in self._kept and (shape not in self._met or self._full):
            self._met.add(shape)
            return None
        inputs = padded(batch, self._device)
        if shape not in self._kept:
            try:
                self.record(shape, inputs)
            except torch.OutOfMemoryError:
                self._forget()
                self._full = True
                return None
        graph = self._kept[shape]
        for name, array in inputs.items():
            graph.inputs[name].copy_(array)
        graph.replay()
        return float(graph.total)

    def record(self, shape: tuple[int, int], inputs: Mapping[str, torch.Tensor]) -> None:
        """Keep a graph for inputs of this shape. The parameters' gradients stay as they are."""
        own = {name: array.clone() for name, array in inputs.items()}
        own["weights"].zero_()  # whatever runs meanwhile adds zeros
        total = torch.zeros((), dtype=torch.float32, device=self._device)

        def step() -> None:
            loss = self._loss(own)
            loss.backward()
            total.copy_(loss.detach())

        self._kept[shape] = Graph(own, total, self._record(step))
        self._full = len(self._kept) >= _SHAPES

    def try_out(
        self, batch: MicroBatch, eager: Callable[[], float], grads: torch.Tensor, dtype: str
    ) -> Trial:
        """Compare a recorded step with `eager`, by its gradients and by its time. Leaves `grads`
        at 0.

        Args:
            batch: one that runs as a tree.
            eager: adds the same gradient unrecorded, and returns the loss.
            grads: (p,) the parameters' gradients, which both add into.
            dtype: of the base's weights.
        """

        def gradient(run: Callable[[], float | None]) -> torch.Tensor:
            grads.zero_()
            run()
            return grads.clone()

        def recorded() -> float | None:
            return self.add_gradient(batch)

        try:
            wanted = gradient(eager)
            # Recorded on other tokens: a replay that read those would be found out.
            other = dataclasses.replace(batch, tokens=np.ascontiguousarray(batch.tokens[:, ::-1]))
            self.record(padded_shape(other), padded(other, self._device))
            got = gradient(recorded)
            fast, slow = (1e3 * fastest(each, self._device) for each in (recorded, eager))
        except (*FAMILY_ERRORS, torch.OutOfMemoryError) as error:
            self._forget()
            return Trial(
                False, False, f"Steps are not recorded as CUDA graphs: {first_line(error)}."
            )
        finally:
            grads.zero_()
        apart = float((got - wanted).norm() / wanted.norm().clamp_min(1e-30))
        if not apart <= _APART.get(dtype, _APART_IN_FEW_BITS):
            self._forget()
            text = f"their gradients are {apart:.1e} from those of a step that is not"
            return Trial(False, False, f"Steps are not recorded as CUDA graphs: {text}.")
        chosen = "recorded" if fast < slow else "not recorded"
        return Trial(
            True,
            fast < slow,
            f"A step takes {fast:.0f} ms as a CUDA graph and {slow:.0f} ms launched kernel by "
            f"kernel: steps are {chosen}.",
        )

    def _forget(self) -> None:
        self._kept.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _loss(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """() float32: the weighted sum of the targets' losses."""
        laid = tree.Tree(
            inputs["tokens"], inputs["positions"], inputs["branch"], inputs["at"], inputs["targets"]
        )
        masks = self._body.attention.masks(lambda window: tree.tree_mask(laid, window))
        hidden = run(self._body, laid.tokens, attention_mask=masks, position_ids=laid.positions)
        losses = self._head.losses(hidden[0].index_select(0, laid.at), laid.targets)
        return (losses * inputs["weights"]).sum()


def padded_shape(batch: MicroBatch) -> tuple[int, int]:
    """(places N, targets n) of what `padded` makes of a micro-batch."""
    shape = shape_of(batch)
    return coarse(shape.places), 1 << max(8, (shape.supervised - 1).bit_length())


def padded(batch: MicroBatch, device: torch.device) -> dict[str, torch.Tensor]:
    """A micro-batch's tree with its places (N) and targets (n) padded to few numbers.

    Returns:
        tokens, positions: (1, N) int64; branch: (N,) int64, of padding one that is no row's; at,
        targets: (n,) int64; weights: (n,) float32, 0 for padding.
    """
    laid = tree.lay_out(batch, device)
    places, targets = padded_shape(batch)
    after, more = places - len(laid.branch), targets - len(laid.at)
    supervised = (batch.targets >= 0).sum(axis=1)
    weights = torch.from_numpy(np.repeat(row_arrays(batch)["weights"], supervised)).to(device)
    return {
        "tokens": functional.pad(laid.tokens, (0, after)),
        "positions": functional.pad(laid.positions, (0, after)),
        "branch": functional.pad(laid.branch, (0, after), value=len(batch.lengths)),
        "at": functional.pad(laid.at, (0, more)),
        "targets": functional.pad(laid.targets, (0, more)),
        "weights": functional.pad(weights, (0, more)),
    }


def coarse(places: int) -> int:
    """The next of few numbers of places, eight from each power of two to the next."""
    step = max(32, 1 << max(0, (places - 1).bit_length() - 4))
    return -(-places // step) * step


def why_not(settings: TrainSettings, device: torch.device) -> str:
    """Why no step of this run is recorded; "" where it can be tried."""
    if device.type != "cuda":
        return f"{device.type} has no CUDA graphs"
    if settings.compile == "off":
        return "compile is off"
    for name, given in (
        ("grad_checkpoint", settings.grad_checkpoint),
        ("shard_base", settings.shard_base),
        ("quantize", settings.quantize),
        ("lora_dropout", settings.lora.dropout),
    ):
        if given:
            return f"{name} is set"
    return ""


class _Recorder:
    """Records a function's kernels. All graphs share the memory between their inputs and outputs,
    since none runs while another does."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._pool: Any = None

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        if self._stream is None:
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        # Once unrecorded: libraries make their plans and workspaces then.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            function()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            function()
        return graph.replay
