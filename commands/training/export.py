"""Write a run's adapter folder, with what the run knows of itself on the model card."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livery import __version__
from livery.adapter import from_portable
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.files import atomic_write, explain_os_errors
from livery.models import is_embedded, name_model
from livery.progress import show_seconds
from livery.temporary import Scratch
from livery.training.backend import PortableState
from livery.training.preference import MARGIN
from livery.weights import name_some

Say = Callable[[str], None]


def export(
    settings: TrainSettings, tokenizer: Any, state: PortableState, facts: dict[str, Any], say: Say
) -> dict[str, Any]:
    """Write the folder that PEFT, vLLM, mlx-lm and llama.cpp load.

    Returns what the run's record says of it: the formats written, and those left out with why.

    Args:
        tokenizer: saved with the adapter where the run gave it another chat template; else the
            base's own files are copied.
        facts: of the run, for the model card.
        say: called with what a format cannot hold.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    from convert.base import load_base
    from convert.pack.folder import write_adapter_folder

    folder = Path(settings.output_dir)
    base = load_base(settings.model)
    adapter = from_portable(
        state.weights,
        settings.lora,
        base_model=name_model(settings.model),
        model_type=base.model_type,
    )
    report = write_adapter_folder(adapter, folder, base.folder, card_facts(settings, facts))
    for note in report.notes:
        say(note)
    for name, why in report.left_out.items():
        say(f"{name} is left out of the adapter folder: {why}")
    if settings.chat_template is not None:
        save_tokenizer(tokenizer, folder)
    return {"formats": list(report.formats), "left_out": dict(report.left_out)}


def rehearse(
    settings: TrainSettings, tokenizer: Any, state: PortableState, keep: Path | None = None
) -> list[str]:
    """Export a run's first state into a scratch folder and read it back, so that whatever fails at
    export fails before the first step. Returns what a format will not carry, for the user.

    Args:
        keep: a folder to write to that stays.

    Raises:
        UserError: the adapter has no form, does not fit the base, or reads back as another one.
    """
    from convert.adapters.formats import read_adapter

    facts: dict[str, Any] = {
        "examples": 0, "valid_examples": 0, "data_digest": "", "base_digest": "", "steps": 0,
        "epochs": 0.0, "kept_step": 0, "seconds": 0.0, "backend": settings.backend, "dtype": "",
    }  # fmt: skip
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = keep or stack.enter_context(Scratch("export"))
        tried = dataclasses.replace(settings, output_dir=str(folder))
        export(tried, tokenizer, state, facts, notes.append)
        written = read_adapter(folder, None)
        modules = {name.rpartition(".")[0] for name in state.weights}
        if set(written.pairs) != modules:
            lost = name_some(modules ^ set(written.pairs))
            raise UserError(
                f"{settings.model}: the adapter folder could not hold what is trained: {lost} "
                "would be lost or changed. Train other targets (--lora-targets)."
            )
        _load_in_peft(settings, folder)
    return notes


# Families whose folders from MLX are held against PEFT in tests; others are tried where PEFT is.
_PROVEN = frozenset(
    "gemma gemma2 gemma3 gemma3_text llama mistral mixtral phi phi3 qwen2 qwen3 qwen3_moe".split()
)


def _load_in_peft(settings: TrainSettings, folder: Path) -> None:
    """Let PEFT itself load the folder, where it is installed, onto the base's modules without
    weights: what it reads differently from how it was written shows here.

    Raises:
        UserError: PEFT would not load all of it, or none.
    """
    from livery.models import find_base, read_config

    base = find_base(settings.model)
    known = base is not None and read_config(base).get("model_type") in _PROVEN
    if settings.backend != "torch" and known:
        return
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft")):
        return
    from livery.engines.torch.adapter import attach_adapter
    from livery.engines.torch.load import outline

    try:
        attach_adapter(outline(base or settings.model), folder)
    except UserError as error:
        raise UserError(
            f"{settings.model}: PEFT would not load the adapter that this run makes. Nothing was "
            f"trained. Train other targets (--lora-targets).\n{error}"
        ) from error


def card_facts(settings: TrainSettings, facts: dict[str, Any]) -> dict[str, Any]:
    """What the model card says of the training."""
    loss = facts.get("eval_loss")
    training = {
        "Data": f"{facts['examples']:,} examples, {facts['valid_examples']:,} for validation",
        "Data's digest": facts["data_digest"][:16],
        "Base's digest": facts["base_digest"][:16],
        "Steps": f"{facts['steps']} ({facts['epochs']:.2f} epochs); those of {facts['kept_step']}"
        " kept",
        "Learning rate": f"{settings.learning_rate:g}, {settings.schedule}",
        "eval_loss": "-" if loss is None else f"{loss:.4f}",
        **_preference(settings, facts),
        "Time": f"{show_seconds(facts['seconds'])} with {facts['backend']} in {facts['dtype']}",
        "Made with": f"Livery {__version__}; run_config.json holds every setting",
    }
    about = (
        "Its base is Livery's embedded one: a small synthetic model for trying things out offline."
        if is_embedded(settings.model)
        else ""
    )
    return {"title": Path(settings.output_dir).name, "description": about, "training": training}


def _preference(settings: TrainSettings, facts: dict[str, Any]) -> dict[str, str]:
    """What the card of an adapter that was trained on pairs says besides."""
    if not settings.paired:
        return {}
    said = {"Preference": f"{settings.loss_type}, beta {settings.beta:g}"}
    if (margin := facts.get(f"eval_{MARGIN}")) is not None:
        right = facts["eval_rewards/accuracies"]
        said["Held-out pairs"] = f"margin {margin:.4f}, {right:.1%} the right way round"
    return said


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save the tokenizer's files beside the adapter, each whole or not at all."""
    with explain_os_errors(folder, "saving the tokenizer"), Scratch("tokenizer") as fresh:
        tokenizer.save_pretrained(fresh)
        for source in sorted(fresh.rglob("*")):
            if source.is_file():
                place = folder / source.relative_to(fresh)
                with source.open("rb") as read, atomic_write(place) as write:
                    shutil.copyfileobj(read, write)
