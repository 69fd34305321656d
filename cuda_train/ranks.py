"""Several processes under torchrun: who am I, and one sum over all."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from livery.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among all of them; alone where world is 1.

    Attributes:
        join: what to do before a sum, where the others may need this process before they come to
            it (see `cuda_train.shard`).
    """

    rank: int = 0
    world: int = 1
    join: Callable[[], None] | None = None

    def sum_(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, in place; (n,) on this process's device."""
        if self.join:
            self.join()
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def sum(self, values: np.ndarray, device: torch.device) -> np.ndarray:
        """(n,) float64: the sum over all processes, by way of this one's device."""
        if self.world == 1:
            return values
        tensor = torch.from_numpy(np.asarray(values, np.float64)).to(device)
        return self.sum_(tensor).cpu().numpy()


def processes() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: torch.device) -> Ranks:
    """Join the processes that torchrun started, over NCCL on GPUs and gloo elsewhere.

    Raises:
        UserError: the others cannot be reached, or there are fewer GPUs than processes.
    """
    if processes() == 1:
        return Ranks()
    if not dist.is_initialized():
        kind = "nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(kind)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"The processes of this run cannot reach each other ({error}). Start them with: "
                "torchrun --nproc-per-node N -m cuda_train ..."
            ) from error
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())
