"""LoRA's initial A, from one framework-free generator: every backend starts from the same numbers.

A is uniform on (-1/sqrt(in), 1/sqrt(in)), as PEFT (Kaiming-uniform with a = sqrt 5) and mlx-lm draw
it; B starts at zero, so an untrained adapter changes nothing. The draw depends on the seed and the
module's name alone: adapting one module more leaves the others as they were.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np


def initial_a(seed: int, module: str, rank: int, in_features: int) -> np.ndarray:
    """A (rank, in_features), float32, of the module with this Hugging Face path.

    Args:
        seed: of the run.
        module: e.g. "model.layers.0.self_attn.q_proj".
    """
    key = hashlib.sha256(f"{seed}\n{module}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))
    bound = 1.0 / math.sqrt(in_features)
    # Drawn as float64 and rounded: numpy's float32 stream is not promised to stay as it is.
    return generator.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
