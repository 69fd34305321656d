"""Is the base that MLX builds the one that the folder holds? Measured once for each base.

mlx-lm builds a model from config.json by its own reading of it, and what it misreads it computes
without a word: another theta, a window or a scaling left out. An adapter trained on such a model is
worth nothing elsewhere. torch with transformers defines what the folder means, so where it is
installed beside MLX both run a few tokens before a run begins, and the result is kept.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery import __version__
from livery.config.settings import TrainSettings
from livery.engines import parity
from livery.errors import UserError
from livery.files import read_json, write_json
from livery.machine import memory as machine_memory
from livery.models import (
    find_base,
    is_embedded,
    is_pinned,
    name_model,
    named_base,
    read_config,
)
from livery.paths import cache_folder
from livery.training.origin import base_digest
from livery.weights import read_tensors

# Of the row that is run: enough for rope, norms, windows of tiny models, experts and scalings.
TOKENS = 64
# max |Δ log p| of a base that is the same. Rounding moves it by 1e-5 to 1e-3, a GELU that is
# a table or another formula by up to 1e-2; what is misread moves it by tenths and more.
ALLOWED = 0.05
_NO_TORCH = "torch is not installed (--check-base no leaves this note out)"
_PACKAGES = ("mlx", "mlx-lm", "torch", "transformers")


@dataclass(frozen=True)
class Measured:
    """What a comparison found.

    Attributes:
        difference: max |Δ log p| between torch and MLX.
        tokens: over how many positions.
    """

    difference: float
    tokens: int

    @property
    def same(self) -> bool:
        return self.difference <= ALLOWED


def check_base(settings: TrainSettings, tokens: Sequence[int]) -> str:
    """Refuse to train where MLX computes another base than torch.

    Args:
        settings: check_base "auto" measures a base that is not known yet, where both frameworks
            are installed; "yes" measures in any case; "no" does not.
        tokens: of a training row.

    Returns:
        What to tell the user; "" where there is nothing to tell.

    Raises:
        UserError: the bases differ; or "yes", and they cannot be compared.
    """
    wanted = settings.check_base
    if settings.backend != "mlx" or wanted == "no" or not tokens:
        return ""
    folder = find_base(settings.model)
    if folder is None:
        return ""
    if wanted == "auto" and (is_embedded(str(folder)) or is_pinned(settings.model)):
        return ""  # tests/livery/test_base_check.py and test_named_bases.py measure these
    reason = _cannot(folder)
    if reason:
        if wanted == "yes":
            raise UserError(f"{settings.model}: its base cannot be compared: {reason}.")
        if reason == _NO_TORCH and named_base(settings.model):
            return ""  # of a family that is measured, and nobody is to install torch for it
        return f"The base was not compared with torch's: {reason}."
    record = _record(folder)
    known = _recall(record) if wanted == "auto" else None
    try:
        found = known or measure(folder, tokens)
    except UserError as error:
        if wanted == "yes":
            raise
        first = str(error).splitlines()[0]
        return f"The base was not compared with torch's, which does not run it here: {first}"
    if known is None:
        _remember(record, settings.model, found)
    if not found.same:
        raise UserError(_refusal(settings.model, found))
    if known is not None:
        return ""
    return (
        f"The base is the same on MLX and torch: log-probabilities agree to {found.difference:.0e} "
        f"over {found.tokens} tokens."
    )


def check_lengths(settings: TrainSettings, longest: int) -> None:
    """Refuse rows beyond the length up to which MLX's model of this family is torch's.

    Args:
        longest: tokens of the longest row.

    Raises:
        UserError: a row is longer.
    """
    folder = find_base(settings.model) if settings.backend == "mlx" else None
    if folder is None or settings.check_base == "no":
        return
    from livery.engines.mlx.model_config import longest_exact

    known = longest_exact(read_config(folder))
    if known is not None and longest > known[0]:
        limit, reason = known
        raise UserError(
            f"{settings.model}: on rows of more than {limit:,} tokens mlx-lm's model computes "
            f"something other than torch's ({reason}), and the longest row has {longest:,}. Drop "
            f"longer rows (--max-length {limit}), or train with --backend torch."
        )


def measure(folder: Path, tokens: Sequence[int]) -> Measured:
    """Run the folder's base on both frameworks, each in a process of its own.

    Raises:
        UserError: one of them does not run it.
    """
    from livery.engines.probe import probe_base

    row = list(tokens[:TOKENS])
    theirs = probe_base("torch", folder, row)
    ours = probe_base("mlx", folder, row)
    return Measured(parity.base_difference(theirs, ours), len(row))


def _cannot(folder: Path) -> str:
    """Why the two cannot be compared here; "" where they can."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return _NO_TORCH
    if "quantization" in read_config(folder):
        return "torch does not read weights that MLX quantized"
    need = 4 * sum(tensor.count for tensor in read_tensors(folder).values())
    _, free = machine_memory()
    if free and need * 1.2 > free:
        return f"it takes {need * 1.2 / 1e9:.1f} GB in float32, and {free / 1e9:.1f} GB are free"
    return ""


def _refusal(model: str, found: Measured) -> str:
    return (
        f"{model}: MLX and torch read this base differently: log-probabilities differ by "
        f"{found.difference:.2g} over {found.tokens} tokens (allowed {ALLOWED:g}). mlx-lm "
        "interprets something in its config.json differently, and an adapter trained this way "
        "would be wrong everywhere else. Train with --backend torch, or with --check-base no if "
        "the adapter will only run on this mlx-lm."
    )


# -- what is kept ---------------------------------------------------------------------------------


def _record(folder: Path) -> Path:
    """Where the result for this base, these packages and this reading of config.json is kept."""
    from livery.engines.mlx import model_config as mlx_config

    total = hashlib.sha256(base_digest(folder).encode())
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            total.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    total.update(Path(str(mlx_config.__file__)).read_bytes())
    return cache_folder() / "bases" / f"{total.hexdigest()[:32]}.json"


def _recall(record: Path) -> Measured | None:
    if not record.is_file():
        return None
    with contextlib.suppress(UserError, KeyError, TypeError, ValueError):  # damaged: measure again
        kept: Any = read_json(record)
        return Measured(float(kept["difference"]), int(kept["tokens"]))
    return None


def _remember(record: Path, model: str, found: Measured) -> None:
    """Keep a result; where the cache cannot be written, the next run measures again."""
    with contextlib.suppress(UserError, OSError):
        write_json(
            record,
            {
                "model": name_model(model),
                # JSON has no infinity.
                "difference": min(found.difference, 1e9),
                "tokens": found.tokens,
                "same": found.same,
                "livery": __version__,
                "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )
