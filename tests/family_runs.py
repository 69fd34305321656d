"""What a family does here: trained on a backend, exported, and loaded by the real runtimes."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from livery.training.backend import Backend
from livery.training.plan import MicroBatch
from livery.training.self_check import Settled, settle
from tests.runs import moved
from tests.tiny_models import VOCAB

TOKENS = np.random.default_rng(5).integers(5, VOCAB, (1, 24))
FACTS: dict[str, Any] = {
    "examples": 1, "valid_examples": 0, "data_digest": "0" * 64, "base_digest": "0" * 64,
    "steps": 1, "epochs": 1.0, "kept_step": 1, "seconds": 1.0, "backend": "torch",
    "dtype": "float32",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How one backend took a family.

    Attributes:
        trains: it built, its fast loss is the plain one (or it says that it runs plain), and the
            adapter was exported.
        refusal: the sentence with which it was refused; "" where it trains.
        fault: an exception that is none of ours: what must not happen.
        shared: whether prompts are shared; why not stands in `why_plain`.
        base: largest difference of a logit between MLX's base and transformers'.
        moved: largest change of a logit that the adapter makes.
        peft, mlx: largest difference of a logit between the trained model and the exported folder
            in that runtime; None where it was not tried, and why in `left_out`.
        targets: module names that were adapted.
        formats: that the exported folder holds.
    """

    trains: bool = False
    refusal: str = ""
    fault: str = ""
    shared: bool = False
    why_plain: str = ""
    base: float | None = None
    moved: float = 0.0
    peft: float | None = None
    mlx: float | None = None
    left_out: str = ""
    targets: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()


def draw(prefix: int = 20, rows: int = 3, width: int = 12) -> MicroBatch:
    """Rows of uneven length behind one prefix, the second half of each supervised."""
    rng = np.random.default_rng(0)
    lengths = np.asarray([width - 3 * (i % 4) for i in range(rows)], np.int32)
    tokens, targets = (rng.integers(5, VOCAB, (rows, width)).astype(np.int32) for _ in range(2))
    for i, length in enumerate(lengths):
        tokens[i, length:], targets[i, length:], targets[i, : length // 2] = 0, -1, -1
    first = rng.integers(5, VOCAB, prefix).astype(np.int32)
    return MicroBatch(first, tokens, targets, lengths, tuple(range(rows)))


def try_torch(folder: Path, out: Path, **lora: Any) -> Outcome:
    """Train on torch as `livery train` would, export, and load it in PEFT; never raises."""
    return _guarded(lambda: _on_torch(folder, out, _lora(**lora)))


def try_mlx(folder: Path, out: Path, **lora: Any) -> Outcome:
    """The same on MLX; its PEFT folder is loaded by PEFT, its MLX folder by mlx-lm."""
    return _guarded(lambda: _on_mlx(folder, out, _lora(**lora)))


# By the backend's name.
TRY: dict[str, Callable[..., Outcome]] = {"mlx": try_mlx, "torch": try_torch}


def _lora(**changes: Any) -> LoraSettings:
    return dataclasses.replace(LoraSettings(rank=4), **changes)


def _guarded(run: Any) -> Outcome:
    try:
        return run()
    except UserError as error:
        return Outcome(refusal=str(error))
    except Exception as error:
        last = [f for f in traceback.extract_tb(error.__traceback__) if "/livery" in f.filename or
                "_train/" in f.filename or "/convert/" in f.filename]  # fmt: skip
        at = f"{Path(last[-1].filename).name}:{last[-1].lineno}" if last else ""
        first = (str(error).strip() or "-").splitlines()[0]
        return Outcome(fault=f"{at} {type(error).__name__}: {first[:200]}")


def _train(backend: Backend) -> Settled:
    """One step of a random adapter, an evaluation and two answers."""
    moved(backend)
    batch = draw()
    settled = settle(backend, batch)
    backend.train_step([batch], step=1, learning_rate=1e-4)
    backend.logprobs(batch)
    backend.generate([[5, 6, 7], [5, 6, 8, 9]], 3)
    return settled


def _on_torch(folder: Path, out: Path, lora: LoraSettings) -> Outcome:
    import torch

    from cuda_train.backend import TorchBackend

    settings = TrainSettings(model=str(folder), output_dir=str(out), lora=lora)
    backend = TorchBackend(settings, device="cpu")
    settled = _train(backend)
    with torch.no_grad():
        wanted = backend.loss.model(input_ids=torch.tensor(TOKENS)).logits[0].numpy()
    exported = _export(settings, backend)
    plain, loaded = peft_logits(folder, out)
    moved = float(np.abs(loaded - plain).max())
    return Outcome(
        True, shared=settled.shares, why_plain=" ".join(settled.notes), moved=moved,
        peft=float(np.abs(loaded - wanted).max()), **exported,
    )  # fmt: skip


def _on_mlx(folder: Path, out: Path, lora: LoraSettings) -> Outcome:
    import mlx.core as mx

    from mlx_train.backend import MlxBackend

    settings = TrainSettings(model=str(folder), output_dir=str(out), lora=lora)
    backend = MlxBackend(settings)
    settled = _train(backend)
    model: Any = backend.model
    model.eval()
    wanted = np.array(model(mx.array(TOKENS))[0].astype(mx.float32))
    exported = _export(settings, backend)
    plain, again = mlx_logits(folder, out / "mlx") if (out / "mlx").exists() else (None, None)
    moved = 0.0 if plain is None else float(np.abs(again - plain).max())
    made = Outcome(
        True, shared=settled.shares, why_plain=" ".join(settled.notes), moved=moved,
        mlx=None if again is None else float(np.abs(again - wanted).max()), **exported,
    )  # fmt: skip
    other, loaded = peft_logits(folder, out)
    return dataclasses.replace(
        made,
        base=None if plain is None else float(np.abs(other - plain).max()),
        peft=float(np.abs(loaded - wanted).max()),
    )


def _export(settings: TrainSettings, backend: Any) -> dict[str, Any]:
    """What of an `Outcome` the export decides."""
    from commands.training.export import export, rehearse

    state = backend.get_state()
    rehearse(dataclasses.replace(settings, backend=backend.name), None, state)
    report = export(settings, None, state, FACTS, lambda text: None)
    left_out = "; ".join(f"{k}: {v}" for k, v in report["left_out"].items())
    names = {name.split(".")[-2] for name in state.weights}
    return {
        "targets": tuple(sorted(names)),
        "left_out": left_out,
        "formats": tuple(report["formats"]),
    }


def peft_logits(folder: Path, adapter: Path) -> tuple[np.ndarray, np.ndarray]:
    """(24, V) of the base and of the adapter on it, by transformers and PEFT alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    text_only = type(AutoConfig.from_pretrained(folder)) in AutoModelForCausalLM._model_mapping
    kind: Any = AutoModelForCausalLM if text_only else AutoModelForImageTextToText
    model: Any = kind.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        plain = model(input_ids=tokens).logits[0].numpy()
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
        return plain, model(input_ids=tokens).logits[0].numpy()


def mlx_logits(folder: Path, adapter: Path) -> tuple[np.ndarray, np.ndarray]:
    """(24, V) of the base and of the adapter on it, by mlx-lm's own load_adapters."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters

    from livery.engines.mlx.load import load_base

    model: Any = load_base(folder).model
    tokens = mx.array(TOKENS)
    plain = np.array(model(tokens)[0].astype(mx.float32))
    model = load_adapters(model, str(adapter))
    model.eval()
    return plain, np.array(model(tokens)[0].astype(mx.float32))
