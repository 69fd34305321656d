"""`--init-adapter`: a run that starts from the weights of an adapter made earlier or elsewhere."""

from __future__ import annotations

from livery.adapter import Adapter, to_portable
from livery.adapter_origin import adapter_folder, read_origin
from livery.config.layers import Config, Value, resolve
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.models import resolve_name
from livery.paths import RUN_CONFIG
from livery.training.backend import Backend, PortableState

# Of the run that made an adapter, what a run that goes on from it does alike.
_ALIKE = ("model", "quantize", "chat_template", "chat_template_kwargs", "template_date",
          "max_length", "train_on")  # fmt: skip


def adopt(config: Config) -> Config:
    """The configuration with what nobody said taken from the adapter that the run starts from: its
    base, its template, its shape.

    Raises:
        UserError: the adapter cannot be read.
    """
    start = config.settings.init_adapter
    if start is None:
        return config
    origin = read_origin(start)
    record = adapter_folder(start) / RUN_CONFIG
    known = resolve({}, recorded=record).values if record.is_file() else {}
    if not known and origin.model:
        known = {"model": Value(resolve_name(origin.model), "")}
    names = [*_ALIKE]
    # Dropout is no part of the shape, and would make margins noise.
    shape = [n for n in config.values if n.startswith("lora.") and n != "lora.dropout"]
    if all(config.values[name].source == "default" for name in shape):
        if not record.is_file():
            its_own = config.values["model"].source == "default" and "model" in known
            base = str(known["model"].value) if its_own else config.settings.model
            known |= _shape(start, base)
        names += shape
    taken = {
        name: Value(known[name].value, f"adapter {start}")
        for name in names
        if name in known and config.values[name].source == "default"
    }
    return config.with_values(taken)


def _shape(start: str, model: str) -> dict[str, Value]:
    """The settings of LoRA that an adapter of somebody else's has."""
    from convert.adapters.formats import read_adapter
    from convert.base import load_base

    adapter = read_adapter(start, load_base(model))
    first = next(iter(adapter.pairs.values()))
    shape = {
        "lora.rank": first.rank, "lora.alpha": float(first.alpha), "lora.rslora": first.rslora,
        "lora.dora": adapter.dora, "lora.targets": tuple(_leaves(adapter)),
    }  # fmt: skip
    return {name: Value(value, "") for name, value in shape.items()}


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
        flags.append(f"--lora-targets {','.join(_leaves(adapter))}")
    return flags


def _leaves(adapter: Adapter) -> list[str]:
    """The names of its modules, without where they are."""
    return sorted({module.rpartition(".")[2] for module in adapter.pairs})
