"""A base that is larger than one GPU: each process keeps a share of every block (torch's FSDP2).

Before a block runs, forward or backward, its weights are gathered from all processes; behind it
they are dropped. So a process holds 1/n of the blocks, and whole ones only while they run; the
adapter, the embeddings and the head it holds whole. What is computed stays what it was.

A gather needs every process, and micro-batches do not come out even: of a step, of an evaluation,
of samples, which the first process alone answers. So each pass through the blocks is announced, and
a process that has come to the next sum runs along on a few tokens, without effect, until all have.

    process 0    pass   pass   pass   sum
    process 1    pass   along  along  sum
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cuda_train.head import hidden_of
from cuda_train.lora import block_paths
from cuda_train.ranks import Ranks, processes
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training.self_check import FAMILY_ERRORS, first_line

# What a process is about to do with the blocks; the largest of all comes first.
_NOTHING, _FORWARD, _BACKWARD = 0, 1, 2


def check(settings: TrainSettings) -> None:
    """Refuse what cannot be sharded, before anything is loaded.

    Raises:
        UserError: there is one process, the base is to be quantized, or torch is too old.
    """
    from torch.distributed.fsdp import FSDPModule

    if settings.quantize:
        raise UserError(
            f"--shard-base with --quantize {settings.quantize}: bitsandbytes' packed weights and "
            "their scales cannot be sharded. Leave one of the two out."
        )
    if processes() == 1:
        raise UserError(
            "--shard-base spreads the base over several processes, and this is the only one. Start "
            "one for each GPU: torchrun --nproc-per-node N -m cuda_train ... --shard-base"
        )
    if not hasattr(FSDPModule, "reset_iter_state"):
        raise UserError(
            f"--shard-base: torch {torch.__version__} is too old for it. Update it: "
            "pip install -U torch"
        )


def spread(
    model: Any, adapter: Iterable[nn.Parameter], ranks: Ranks, device: torch.device
) -> Ranks:
    """Move a model that is in the machine's memory to `device`, of its blocks a share alone.

    Args:
        model: transformers', with LoRA in it.
        adapter: parameters that stay whole on every process, and are trained.

    Returns:
        The same processes, whose sums wait for passes that others have yet to make.

    Raises:
        UserError: the device or the model does not allow it.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kind, paths = model.config.model_type, block_paths(model)
    if device.type not in ("cuda", "cpu"):
        raise UserError(f"--shard-base needs CUDA, and the device is {device}. Leave it out.")
    if not paths:
        raise UserError(f"--shard-base: no blocks were found in {kind}. Leave it out.")
    blocks = [model.get_submodule(path) for path in paths]
    adapter = set(adapter)
    # Of two places, or a number by itself: gathered with none of the blocks.
    places = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    whole = {p for p in model.parameters() if p in adapter or places[id(p)] > 1 or not p.ndim}
    for path, block in zip(paths, blocks, strict=True):
        for name, parameter in block.named_parameters():
            if not parameter.is_floating_point() or type(parameter) is not nn.Parameter:
                raise UserError(
                    f"--shard-base: {path}.{name} is quantized, and packed weights cannot be "
                    "sharded. Leave --shard-base out, or take a dense base."
                )
            parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (ranks.world,))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
    sharded = {p for block in blocks for p in block.parameters()} - whole
    # Around all of them, it has the next block gathered while one runs.
    root = model.get_submodule(_common(paths))
    fully_shard(root, mesh=mesh, ignored_params=set(model.parameters()) - sharded)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor not in sharded:
            tensor.data = tensor.data.to(device)
    passes = _Passes(root, device)
    try:
        passes.run(_FORWARD)
    except FAMILY_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"--shard-base: {kind} cannot run with its blocks sharded ({first_line(error)}). Leave "
            "it out, or take another base."
        ) from error
    passes.announce()
    return Ranks(ranks.rank, ranks.world, passes.join)


def _common(paths: list[str]) -> str:
    """The innermost module that runs all of these blocks: its path."""
    steps = zip(*(path.split(".")[:-2] for path in paths), strict=False)
    return ".".join(one[0] for one in takewhile(lambda step: len(set(step)) == 1, steps))


class _Passes:
    """Passes through the blocks, in step with those of the other processes."""

    def __init__(self, root: Any, device: torch.device) -> None:
        self._root, self._device = root, device
        self._along = False  # this pass was announced by somebody else

    def announce(self) -> None:
        """From now on, tell the others of every pass."""
        self._root.register_forward_pre_hook(self._before, prepend=True)

    def join(self) -> None:
        """Run along until no process has a pass to make."""
        self._wait(_NOTHING)

    def run(self, kind: int) -> None:
        """A pass over a few tokens whose gradient is 0."""
        tokens = torch.arange(1, 6, device=self._device)[None]
        with torch.set_grad_enabled(kind == _BACKWARD):
            hidden = hidden_of(self._root, tokens)
            if hidden.requires_grad:
                hidden.backward(torch.zeros_like(hidden))

    def _before(self, *_: Any) -> None:
        self._root.reset_iter_state()  # of a pass that ended in an exception
        if not self._along:
            self._wait(_BACKWARD if torch.is_grad_enabled() else _FORWARD)

    def _wait(self, kind: int) -> None:
        """Run along with what comes before this: the first process may still be answering samples
        while others have begun the next step."""
        while (first := self._agree(kind)) != kind:
            self._along = True
            try:
                self.run(first)
            finally:
                self._along = False

    def _agree(self, kind: int) -> int:
        """What happens next, by what each process is about to do."""
        told = torch.tensor(kind, device=self._device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return int(told)
