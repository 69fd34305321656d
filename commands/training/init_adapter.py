"""`--init-adapter`: a run that starts from the weights of an adapter made earlier or elsewhere."""

from __future__ import annotations

from livery.adapter import Adapter, to_portable
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training.backend import Backend, PortableState


def start_from(folder: str, settings: TrainSettings, backend: Backend) -> str:
    """Give `backend` the weights of the adapter in `folder`; returns what to tell the user.

    Raises:
        UserError: it cannot be read, or is of another shape than the run asks for; the message
            names the flags that fit it.
    """
    from convert.adapters.formats import read_adapter
    from convert.base import load_base

    adapter = read_adapter(folder, load_base(settings.model))
    weights = to_portable(adapter)
    wanted = backend.get_state().weights
    flags = _flags_that_fit(adapter, settings, set(weights) == set(wanted))
    if flags:
        raise UserError(
            f"{folder}: is an adapter of another shape than this run's. Start from it with: "
            f"--init-adapter {folder} {' '.join(flags)}"
        )
    backend.set_state(PortableState(weights))
    return f"Starting from the adapter in {folder} ({len(adapter.pairs)} modules)."


def _flags_that_fit(adapter: Adapter, settings: TrainSettings, same_names: bool) -> list[str]:
    lora, pairs = settings.lora, list(adapter.pairs.values())
    if len(adapter.ranks) > 1 or len({round(p.scale, 6) for p in pairs}) > 1:
        raise UserError("The adapter to start from has several ranks or scales; a run has one.")
    flags: list[str] = []
    first = pairs[0]
    scale = lora.alpha / (first.rank**0.5 if lora.rslora else first.rank)
    if lora.rank != first.rank:
        flags.append(f"--lora-r {first.rank}")
    if abs(scale - first.scale) > 1e-6 * first.scale:
        alpha = first.scale * (first.rank**0.5 if lora.rslora else first.rank)
        flags.append(f"--lora-alpha {alpha:g}")
    if lora.dora != adapter.dora:
        flags.append(f"--fine-tune-type {'dora' if adapter.dora else 'lora'}")
    elif not same_names:
        leaves = sorted({module.rpartition(".")[2] for module in adapter.pairs})
        flags.append(f"--lora-targets {','.join(leaves)}")
    return flags
