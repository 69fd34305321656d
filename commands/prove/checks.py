"""The checks, in the order in which they run: their descriptions, and the time each may take.

A check is a function of a scratch folder that returns an `Outcome` or raises `Skip`. It is named
here and imported by its own process, so nothing that it needs is needed to list it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Attributes:
    name: in the report and for --only.
    what: is proven.
    where: "module:function", of this package where the module has no dot.
    limit: seconds, of a machine that does nothing else, after which it counts as hung.
    """

    name: str
    what: str
    where: str
    limit: float

    @property
    def function(self) -> str:
        """The same with the module's whole name."""
        return self.where if "." in self.where.partition(":")[0] else f"{__package__}.{self.where}"


CHECKS = (
    Check("torch-tree", "torch float32: the tree mask gives the plain gradients",
          "gradients:tree", 120),
    Check("torch-branches", "torch float32 on a CPU: branch by branch gives the plain gradients",
          "gradients:branches", 120),
    Check("torch-cache", "torch float32: a cached prefix gives the plain gradients",
          "gradients:cache", 120),
    Check("torch-bf16", "torch bfloat16 against float32, same weights and batch",
          "gradients:bfloat16", 120),
    Check("mps-float16", "MPS float16 against float32 on the CPU",
          "gradients:mps_float16", 120),
    Check("torch-nf4", "torch NF4 against float32 of the decoded weights",
          "gradients:nf4", 150),
    Check("adamw-8bit", "AdamW with 8-bit moments follows AdamW",
          "optimizer:eight_bits", 120),
    Check("flex", "flex attention: sdpa's gradients, and how fast",
          "flex:flex", 150),
    Check("cuda-graphs", "steps recorded as CUDA graphs: the same gradients, and how fast",
          "flex:graphs", 150),
    Check("two-ranks", "two processes give one process's gradients",
          "ranks:two", 150),
    Check("memory", "the memory forecast is near the peak",
          "speed:memory", 150),
    Check("matmul-share", "the share of the measured matmul peak",
          "speed:matmul_share", 120),
    Check("speed-trl", "time and memory beside TRL",
          "peers:trl", 150),
    Check("speed-unsloth", "time and memory beside Unsloth",
          "peers:unsloth", 120),
    Check("torch-resume", "torch: a killed and resumed run ends like an undisturbed one",
          "resume:torch", 150),
    Check("mlx-shared", "MLX float32: shared prompts give the plain gradients",
          "mlx:shared", 120),
    Check("mlx-bf16", "MLX bfloat16: shared prompts give the plain gradients",
          "mlx:bfloat16", 120),
    Check("mlx-compile", "MLX compiled and not: the same step, and how fast",
          "mlx:compiled", 150),
    Check("mlx-wired", "MLX: the wired limit is set and memory is counted",
          "mlx:wired", 120),
    Check("mlx-memory", "MLX: the memory forecast is near the peak",
          "mlx:memory", 120),
    Check("speed-mlx-lm", "time and memory beside mlx_lm.lora",
          "peers:mlx_lm", 120),
    Check("mlx-resume", "MLX: a killed and resumed run ends like an undisturbed one",
          "resume:mlx", 120),
)  # fmt: skip
