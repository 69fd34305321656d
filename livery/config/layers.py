"""Where settings come from: defaults < file < environment < flags; every value knows its source.

config = resolve(flags={"learning_rate": 5e-4})
config.settings          # TrainSettings
config.values["seed"]    # Value(0, "mlx_config.yaml:18")
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.config import file as config_file
from livery.config.file import Given
from livery.config.foreign import OTHER_VARIABLES, TRAIN_COMMAND, train_command_note
from livery.config.settings import OPTIONS, LoraSettings, TrainSettings, by_name, can_be
from livery.errors import UserError, shown
from livery.models import EMBEDDED, is_embedded, resolve_name
from livery.paths import HOME, finished_run
from livery.reading import read_object

FILE_NAME = "mlx_config.yaml"
# What fits one base and one set of data alone.
RECIPE = frozenset(
    """
    max_steps iters epochs batch_size grad_accum learning_rate schedule warmup_steps min_lr_ratio
    lora.rank lora.alpha lora.scale steps_per_eval save_every keep
    """.split()
)


@dataclass(frozen=True)
class Value:
    """A setting and where it came from: "default", "FILE:LINE", "environment X", "flag --x"."""

    value: Any
    source: str


@dataclass(frozen=True)
class Config:
    """A resolved configuration.

    Attributes:
        settings: what the run is asked to do.
        values: every field by name ("lora.rank"), with its source.
        notes: what the user must be told: keys that are not honoured, substitutions.
        file: the configuration file that was read.
    """

    settings: TrainSettings
    values: dict[str, Value]
    notes: tuple[str, ...]
    file: Path | None

    def with_values(self, changes: Mapping[str, Value]) -> Config:
        """The configuration with some values changed."""
        plain, lora = _fields(changes)
        settings = dataclasses.replace(
            self.settings, **plain, lora=dataclasses.replace(self.settings.lora, **lora)
        )
        return dataclasses.replace(self, settings=settings, values=self.values | dict(changes))


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    file: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    recorded: Path | None = None,
    search: bool = True,
    section: str = "training",
) -> Config:
    """Resolve a training run's settings.

    Args:
        flags: by option name ("lora.rank"), already of the right kind; None where not given.
        file: the configuration file; without one mlx_config.yaml of the working folder, else, for
            the embedded base alone, the one that comes with Livery.
        environment: in place of os.environ.
        recorded: the run_config.json of a resumed run; it stands in for file and environment.
        search: without a file that is named, take the one that is there.
        section: what is read of a file that configures a whole pipeline (see `file.read`).

    Raises:
        UserError: a value is wrong, or two of one layer contradict each other; file, line and key
            are named.
    """
    values = defaults()
    if recorded is not None:
        _apply_record(values, recorded)
        environment = {}
    variables = os.environ if environment is None else environment
    from_environment, environment_notes = read_environment(variables)
    layers = [from_environment, _from_flags(flags or {})]
    notes: list[str] = []
    decay_steps = None
    path = None
    if recorded is None and (search or file is not None):
        path = find_file(file, _named_model(layers))
    if path is not None:
        reading = config_file.read(path, section)
        given = _with_peak(reading)
        notes += reading.notes
        decay_steps = reading.decay_steps
        named = _named_model(layers)
        if file is None and is_embedded(_named_model([given])) and not is_embedded(named):
            notes.append(
                f"{path}: written for {EMBEDDED}, so its rank, learning rate, batch and length of "
                f"training are not used with {named} (--config {path} uses them)."
            )
            given = [one for one in given if one.name not in RECIPE]
            decay_steps = None
        layers.insert(0, given)
    notes += environment_notes
    for layer in layers:
        _apply(values, _flatten(layer), notes)
    for name in ("lora.scale", "iters"):  # other ways to write alpha and max_steps
        values.pop(name, None)
    settings = _build(values)
    notes += _schedule_notes(settings, values, decay_steps)
    return Config(settings, values, tuple(notes), path)


def find_file(file: str | Path | None = None, model: str = EMBEDDED) -> Path | None:
    """The configuration file to read: the one named, the working folder's, or Livery's own.

    Livery's own says how the small embedded base is trained, so it is not read where the
    environment or a flag names another `model`.
    """
    if file is not None:
        return Path(file)
    if Path(FILE_NAME).is_file():
        return Path(FILE_NAME)
    ours = own_file()
    return ours if ours.is_file() and is_embedded(model) else None


def own_file() -> Path:
    """The configuration that comes with Livery: in the wheel beside this module, in a checkout at
    its top."""
    packaged = Path(__file__).with_name(FILE_NAME)
    return packaged if packaged.is_file() else HOME / FILE_NAME


def _named_model(layers: Sequence[Sequence[Given]]) -> str:
    named = [given.value for layer in layers for given in layer if given.name == "model"]
    return str(named[-1]) if named else EMBEDDED


def defaults() -> dict[str, Value]:
    """Every field of TrainSettings with its default, LoRA's as "lora.…"."""
    plain = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(TrainSettings)
        if f.name != "lora"
    }
    lora = {f"lora.{f.name}": f.default for f in dataclasses.fields(LoraSettings)}
    return {name: Value(value, "default") for name, value in (plain | lora).items()}


def _apply_record(values: dict[str, Value], recorded: Path) -> None:
    """Take the settings that a run wrote down when it began."""
    settings = read_object(recorded).get("settings")
    lora = settings.pop("lora", {}) if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(lora, dict):
        raise UserError(f"{recorded}: damaged: it holds no settings. Start over with --overwrite.")
    for name, value in (settings | {f"lora.{key}": value for key, value in lora.items()}).items():
        if name not in values:
            raise UserError(
                f"{recorded}: {shown(name)}: no such setting in this version of Livery. Resume "
                "with the version that began the run."
            )
        value = tuple(value) if isinstance(value, list) else value
        if not can_be(name, value):
            raise UserError(
                f"{recorded}: {name}: {shown(repr(value), 60)} is not a value that a run can have. "
                "Put back the value it began with, or start over with --overwrite."
            )
        values[name] = Value(value, str(recorded))


# Of Livery as a whole rather than of a run.
_SWITCHES = ("LIVERY_CACHE", "LIVERY_DEBUG")


def read_environment(environment: Mapping[str, str]) -> tuple[list[Given], list[str]]:
    """What LIVERY_… and the older JARVIS_… and AIOS_FT_… variables set, and notes about them.

    Raises:
        UserError: a value of the wrong kind; the variable is named.
    """
    known = {name: option for option in OPTIONS for name in option.environment()}
    given: list[Given] = []
    notes: list[str] = []
    for name, text in sorted(environment.items()):
        if name in known and text.strip():
            option = known[name]
            try:
                value = option.kind.read(text.strip())
            except ValueError as error:
                raise UserError(f"environment {name}: {text!r} is not {error}.") from None
            given.append(Given(option.name, value, f"environment {name}", name))
        elif name == TRAIN_COMMAND and text.strip():
            notes += [note] if (note := train_command_note(text)) else []
        elif name in OTHER_VARIABLES and text.strip():
            notes.append(f"environment {name}: not used; {OTHER_VARIABLES[name]}.")
        elif name in OTHER_VARIABLES:
            continue
        elif (
            name.startswith(("LIVERY_", "AIOS_FT_")) and name not in known and name not in _SWITCHES
        ):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            notes.append(f"environment {name}: no setting of that name{hint}")
    return given, notes


def _from_flags(flags: Mapping[str, Any]) -> list[Given]:
    given: list[Given] = []
    for name, value in flags.items():
        if value is not None:
            flag = by_name(name).flags[0].split("/")[0]
            given.append(Given(name, value, f"flag {flag}", flag))
    return given


def _with_peak(reading: config_file.Reading) -> list[Given]:
    """Let lr_schedule's peak stand for learning_rate, as mlx-lm does, and say so if they differ."""
    peak = next((g for g in reading.given if g.name == "learning_rate.peak"), None)
    if peak is None:
        return reading.given
    kept: list[Given] = []
    for given in reading.given:
        if given.name == "learning_rate":
            if not math.isclose(given.value, peak.value, rel_tol=1e-9):
                reading.notes.append(
                    f"{given.source}: learning_rate {given.value:g} is not used: lr_schedule's "
                    f"peak of {peak.value:g} ({peak.source}) takes precedence, as in mlx_lm.lora."
                )
        elif given is not peak:
            kept.append(given)
    return [*kept, dataclasses.replace(peak, name="learning_rate")]


# Options that are another way to write a field: name -> (field, value -> field's value).
_VIEWS = {
    "load_in_4bit": ("quantize", lambda on: 4 if on else None),
    "load_in_8bit": ("quantize", lambda on: 8 if on else None),
    "bf16": ("dtype", lambda on: "bfloat16" if on else "auto"),
}


def _flatten(layer: Sequence[Given]) -> dict[str, Given]:
    """One layer as {option: given}; saying one thing twice differently is an error."""
    flat: dict[str, Given] = {}
    # "No 4 bits" beside "8 bits" contradicts nothing, whichever is first.
    bits = any(g.value for g in layer if g.name in ("load_in_4bit", "load_in_8bit"))
    for given in layer:
        if bits and given.name in ("load_in_4bit", "load_in_8bit") and not given.value:
            continue
        if given.name in _VIEWS:
            name, convert = _VIEWS[given.name]
            given = dataclasses.replace(given, name=name, value=convert(given.value))
        before = flat.get(given.name)
        if before is not None and before.value != given.value:
            raise UserError(
                f"{given.source}: {given.written} says {given.value}, but {before.written} "
                f"({before.source}) says {before.value}. Keep one of them."
            )
        flat[given.name] = given
    return flat


def _apply(values: dict[str, Value], layer: dict[str, Given], notes: list[str]) -> None:
    """Lay one layer over the values so far."""
    for name, given in layer.items():
        if name == "optimizer" and given.value == "adam":
            _take_adam(values, layer, given, notes)
        elif name == "init_adapter":
            values[name] = Value(_adapter_folder(given), given.source)
        elif name not in ("lora.alpha", "lora.scale", "iters", "max_steps", "epochs"):
            values[name] = Value(given.value, given.source)
    _apply_scale(values, layer)
    _apply_length(values, layer, notes)


def _take_adam(
    values: dict[str, Value], layer: dict[str, Given], given: Given, notes: list[str]
) -> None:
    values["optimizer"] = Value("adamw", given.source)
    if "weight_decay" not in layer:
        values["weight_decay"] = Value(0.0, given.source)
        notes.append(f"{given.source}: {given.written}: adam is read as adamw without decay.")
    elif layer["weight_decay"].value:
        raise UserError(
            f"{given.source}: {given.written}: adam has no decoupled weight decay; write adamw, "
            f"or remove {layer['weight_decay'].written}."
        )


def _adapter_folder(given: Given) -> str:
    """mlx-lm names the weights' file, we the folder that holds it."""
    path = Path(given.value)
    if path.suffix == ".safetensors":
        if path.name not in ("adapters.safetensors", "adapter_model.safetensors"):
            raise UserError(
                f"{given.source}: {given.written}: name the adapter's folder (with its "
                "adapter_config.json), not one weights file."
            )
        return str(path.parent)
    return finished_run(given.value)


def _apply_scale(values: dict[str, Value], layer: dict[str, Given]) -> None:
    """rank, alpha and scale: any two settle the third, and three must agree.

    Alpha stays where a later layer changes the rank alone, as in PEFT; if only a scale was ever
    given, as in mlx-lm's files, the scale stays.
    """
    alpha, scale = layer.get("lora.alpha"), layer.get("lora.scale")
    divisor = _divisor(values)
    if alpha and scale and not math.isclose(alpha.value / divisor, scale.value, rel_tol=1e-6):
        rule = "alpha / sqrt(rank)" if values["lora.rslora"].value else "alpha / rank"
        rank = values["lora.rank"]
        raise UserError(
            f"{scale.source}: {scale.written} is {scale.value:g}, but {rule} is "
            f"{alpha.value / divisor:g} with {alpha.written} {alpha.value:g} ({alpha.source}) and "
            f"rank {rank.value} ({rank.source}). Correct one, or remove alpha or scale."
        )
    if alpha:
        values["lora.alpha"] = Value(alpha.value, alpha.source)
        values.pop("lora.scale", None)
    elif scale:
        values["lora.scale"] = Value(scale.value, scale.source)
    fixed = values.get("lora.scale")
    if fixed:
        source = f"{fixed.source} (scale {fixed.value:g})"
        values["lora.alpha"] = Value(fixed.value * divisor, source)


def _divisor(values: dict[str, Value]) -> float:
    rank = values["lora.rank"].value
    return math.sqrt(rank) if values["lora.rslora"].value else float(rank)


def _apply_length(values: dict[str, Value], layer: dict[str, Given], notes: list[str]) -> None:
    """max_steps, iters and epochs: a later layer's word on the length replaces an earlier one's."""
    steps, iters, epochs = (layer.get(name) for name in ("max_steps", "iters", "epochs"))
    if steps is None and iters is None and epochs is not None:
        values["max_steps"] = Value(None, epochs.source)
        values.pop("iters", None)
    if epochs is not None:
        values["epochs"] = Value(epochs.value, epochs.source)
        over = steps or iters
        if over is not None:
            notes.append(
                f"{epochs.source}: {epochs.written} is not used: {over.written} "
                f"({over.source}) comes before it."
            )
    if iters is not None:
        values["iters"] = Value(iters.value, iters.source)
    counted = values.get("iters")
    total = math.ceil(counted.value / values["grad_accum"].value) if counted else 0
    if steps is not None:
        if iters is not None and steps.value != total:
            raise UserError(
                f"{steps.source}: {steps.written} is {steps.value}, but {iters.written} "
                f"({iters.source}) comes to {total} steps. Keep one of them."
            )
        values["max_steps"] = Value(steps.value, steps.source)
        values.pop("iters", None)
    elif counted:
        values["max_steps"] = Value(total, f"{counted.source} (iters {counted.value})")


def _build(values: dict[str, Value]) -> TrainSettings:
    plain, lora = _fields(values)
    plain["model"] = resolve_name(plain["model"])
    return TrainSettings(lora=LoraSettings(**lora), **plain)


def _fields(values: Mapping[str, Value]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of TrainSettings, and of its LoraSettings."""
    plain = {name: v.value for name, v in values.items() if not name.startswith("lora.")}
    lora = {n.removeprefix("lora."): v.value for n, v in values.items() if n.startswith("lora.")}
    return plain, lora


def _schedule_notes(
    settings: TrainSettings, values: dict[str, Value], decay_steps: int | None
) -> list[str]:
    """mlx-lm's schedule has a length of its own; ours ends with the run."""
    total = settings.max_steps
    if decay_steps is None or total is None or settings.schedule == "constant":
        return []
    if values["max_steps"].source.startswith(("flag", "environment")):
        return []
    if abs(settings.warmup_steps + decay_steps - total) <= 1:
        return []
    return [
        f"lr_schedule.arguments: {decay_steps} steps of decay are not used: the decay ends "
        f"with the run, after {total - settings.warmup_steps} steps."
    ]
