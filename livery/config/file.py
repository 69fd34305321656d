"""Read a configuration file, ours or mlx-lm's, into settings with the line each is on.

Keys are mlx-lm's where it has them. A key that mlx-lm knows and Livery does not use gives a
note; a key that neither knows is an error that suggests the right one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livery.config import yaml_lines
from livery.config.foreign import IGNORED_FLAG_KEYS, IGNORED_KEYS, REFUSED_KEYS, RENAMED_KEYS
from livery.config.options import Option
from livery.config.settings import OPTIONS, by_name
from livery.config.yaml_lines import Node
from livery.dataset.columns import read_columns
from livery.errors import UserError


@dataclass(frozen=True)
class Given:
    """A value that somebody gave: for which option, what, where, and under which name."""

    name: str
    value: Any
    source: str
    written: str


@dataclass
class Reading:
    """What a file gives: values, and notes for the user about it."""

    path: Path
    given: list[Given] = field(default_factory=list[Given])
    notes: list[str] = field(default_factory=list[str])
    decay_steps: int | None = None

    def at(self, node: Node) -> str:
        """Where a node is, for people."""
        return f"{self.path}:{node.line}"

    def add(self, option: Option, node: Node, written: str) -> None:
        """Read one value. Raises UserError naming file, line and key."""
        try:
            value = option.kind.read(node.plain())
        except ValueError as error:
            raise UserError(
                f"{self.at(node)}: {written}: {_show(node.plain())} is not {error}."
            ) from None
        self.given.append(Given(option.name, value, self.at(node), written))


def read(path: str | Path, section: str = "training") -> Reading:
    """Read a configuration file.

    Args:
        section: of a file that configures a whole pipeline, what is read: "training", or
            "alignment" where the file has it.

    Raises:
        UserError: not readable, an unknown key, a value of the wrong kind, or something that would
            change what is trained and that we cannot do. File, line and key are named.
    """
    reading = Reading(Path(path))
    entries = yaml_lines.load(path).value
    aligns = section == "alignment" and section in entries
    for key, node in entries.items():
        if aligns and key == "training":
            reading.notes.append(
                f"{reading.at(node)}: {key}: not used: `livery dpo` reads {section}."
            )
        elif aligns and key == section:
            _alignment(reading, node)
        elif node.value is None:
            _check_known(reading, key, node)
        elif key in _TOP:
            reading.add(_TOP[key], node, key)
        elif key in _NESTED:
            _NESTED[key](reading, node)
        elif key in (*IGNORED_FLAG_KEYS, *IGNORED_KEYS):
            _say(reading, key, node, key)
        elif key in REFUSED_KEYS:
            if node.value != REFUSED_KEYS[key][0]:
                raise UserError(f"{reading.at(node)}: {key}: {REFUSED_KEYS[key][1]}")
        else:
            raise _unknown(reading, key, node, _known_top(), _LORA)
    _merge_columns(reading)
    _warn_of_step_units(reading)
    return reading


def _training(reading: Reading, node: Node) -> None:
    """The `training` section of a file that configures a whole pipeline, its keys flat."""
    _flat(reading, node, "training", _FLAT)


def _alignment(reading: Reading, node: Node) -> None:
    """Its `alignment` section: the same keys, and where pairs and the first adapter are."""
    _flat(reading, node, "alignment", _FLAT | _ALIGNED, read_elsewhere=("eval_results",))


def _flat(
    reading: Reading,
    node: Node,
    section: str,
    known: dict[str, Option],
    read_elsewhere: tuple[str, ...] = (),
) -> None:
    for key, child in _mapping(reading, node, section).items():
        if key not in (*known, *IGNORED_FLAG_KEYS, *IGNORED_KEYS, *read_elsewhere):
            raise _unknown(reading, key, child, [*known], {}, f"{section}.")
        if child.value is None or key in read_elsewhere:
            continue
        if key in known:
            reading.add(known[key], child, f"{section}.{key}")
        else:
            _say(reading, key, child, f"{section}.{key}")


def _say(reading: Reading, key: str, node: Node, written: str) -> None:
    """Note what is read and changes nothing."""
    note = IGNORED_KEYS[key](node.plain()) if key in IGNORED_KEYS else IGNORED_FLAG_KEYS[key]
    if note:
        reading.notes.append(f"{reading.at(node)}: {written}: {note}")


def _lora_parameters(reading: Reading, node: Node) -> None:
    for key, child in _mapping(reading, node, "lora_parameters").items():
        if key not in _LORA:
            raise _unknown(reading, key, child, list(_LORA), _TOP, "lora_parameters.")
        if child.value is not None:
            reading.add(_LORA[key], child, f"lora_parameters.{key}")


def _lr_schedule(reading: Reading, node: Node) -> None:
    """mlx-lm's {name, warmup, warmup_init, arguments: [peak, steps, end]}."""
    entries = _mapping(reading, node, "lr_schedule")
    for key, child in entries.items():
        if key not in ("name", "warmup", "warmup_init", "arguments"):
            raise _unknown(
                reading, key, child, ["name", "warmup", "warmup_init", "arguments"], {},
                "lr_schedule.",
            )  # fmt: skip
    if "name" not in entries or "arguments" not in entries:
        raise UserError(f"{reading.at(node)}: lr_schedule: needs both name and arguments.")
    name, arguments = entries["name"], entries["arguments"]
    shapes = {"cosine_decay": "cosine", "linear_schedule": "linear"}
    if name.value not in shapes:
        raise UserError(
            f"{reading.at(name)}: lr_schedule.name: {_show(name.value)} is not one of: "
            f"{', '.join(shapes)}. For a constant rate leave lr_schedule out and write "
            "schedule: constant."
        )
    values = _numbers(reading, arguments, "lr_schedule.arguments")
    if name.value == "linear_schedule":  # mlx: init, end, steps
        if len(values) != 3:
            raise UserError(
                f"{reading.at(arguments)}: lr_schedule.arguments: linear_schedule takes "
                "[peak, end, steps]."
            )
        values = [values[0], values[2], values[1]]
    if len(values) not in (2, 3):
        raise UserError(
            f"{reading.at(arguments)}: lr_schedule.arguments: cosine_decay takes "
            "[peak, steps, end]; end may be left out."
        )
    peak, steps, end = values[0], values[1], values[2] if len(values) == 3 else 0.0
    if not 0 <= end <= peak or peak <= 0:
        raise UserError(
            f"{reading.at(arguments)}: lr_schedule.arguments: the rate must fall from a peak above "
            f"0 to an end within [0, peak]; these are {peak:g} and {end:g}."
        )
    reading.decay_steps = int(steps)
    at = reading.at(arguments)
    reading.given += [
        Given("schedule", shapes[name.value], reading.at(name), "lr_schedule.name"),
        Given("min_lr_ratio", end / peak, at, "lr_schedule.arguments"),
    ]
    _take_peak(reading, peak, at)
    warmup = entries.get("warmup")
    if warmup is None:
        reading.given.append(Given("warmup_steps", 0, reading.at(node), "lr_schedule"))
    else:
        reading.add(_TOP["warmup_steps"], warmup, "lr_schedule.warmup")
    start = entries.get("warmup_init")
    if start is not None and start.value:
        reading.notes.append(
            f"{reading.at(start)}: lr_schedule.warmup_init: Livery's warm-up always starts from 0."
        )


def _take_peak(reading: Reading, peak: float, at: str) -> None:
    """The schedule's peak comes before learning_rate, as in mlx-lm, but not without a word."""
    reading.given.append(Given("learning_rate.peak", peak, at, "lr_schedule.arguments"))


def _optimizer_config(reading: Reading, node: Node) -> None:
    """mlx-lm's {optimizer name: {betas, eps, weight_decay, bias_correction}}."""
    for name, child in _mapping(reading, node, "optimizer_config").items():
        entries = _mapping(reading, child, f"optimizer_config.{name}")
        if name not in ("adam", "adamw"):
            if entries:
                reading.notes.append(
                    f"{reading.at(child)}: optimizer_config.{name}: not used; the optimizer here "
                    "is AdamW."
                )
            continue
        for key, value in entries.items():
            _adam_key(reading, name, key, value)


def _adam_key(reading: Reading, name: str, key: str, node: Node) -> None:
    written = f"optimizer_config.{name}.{key}"
    if key == "betas":
        betas = _numbers(reading, node, written)
        if len(betas) != 2:
            raise UserError(f"{reading.at(node)}: {written}: expected [beta1, beta2].")
        reading.add(_TOP["beta1"], Node(betas[0], node.line), written)
        reading.add(_TOP["beta2"], Node(betas[1], node.line), written)
    elif key in ("eps", "weight_decay"):
        reading.add(_TOP[key], node, written)
    elif key == "bias_correction":
        if not node.value:
            reading.notes.append(
                f"{reading.at(node)}: {written}: false is not used: Livery always corrects "
                "AdamW's bias, so that MLX and torch take the same steps."
            )
    else:
        known = ["betas", "eps", "weight_decay", "bias_correction"]
        raise _unknown(reading, key, node, known, {}, f"optimizer_config.{name}.")


def _column(reading: Reading, name: str, key: str, node: Node) -> None:
    """mlx-lm's prompt_feature and the like: the name of one column."""
    if not isinstance(node.value, str) or not node.value.strip():
        raise UserError(f"{reading.at(node)}: {key}: {_show(node.plain())} is not a column's name.")
    if node.value != name:
        words = (f"{name}={node.value}",)
        reading.given.append(Given("columns", words, reading.at(node), key))


def _hf_dataset(reading: Reading, node: Node) -> None:
    """mlx-lm's {path, prompt_feature, ..., train_split, valid_split, config}."""
    if isinstance(node.value, list):
        if len(node.value) != 1:
            raise UserError(
                f"{reading.at(node)}: hf_dataset: a list of {len(node.value)} data sets; Livery "
                "trains on one. Put their rows into one folder and name it under data."
            )
        node = node.value[0]
    entries = _mapping(reading, node, "hf_dataset")
    for key, child in entries.items():
        written = f"hf_dataset.{key}"
        if key in _FEATURES:
            _column(reading, _FEATURES[key], written, child)
        elif key == "path":
            reading.add(_TOP["data"], child, written)
        elif key in ("train_split", "valid_split", "test_split"):
            names = {"train": ["train"], "valid": ["valid", "validation", "val", "dev"]}
            if key != "test_split" and child.value not in names[key.removesuffix("_split")]:
                raise UserError(
                    f"{reading.at(child)}: {written}: {_show(child.plain())}: Livery takes the "
                    "data set's own splits train and valid. Remove this key; val_split holds a "
                    "share of the training rows out."
                )
        elif key == "config" and child.value:
            raise UserError(
                f"{reading.at(child)}: {written}: is not passed on. Download the data set and name "
                "the folder of the configuration you want under data."
            )
        elif key != "config":
            known = ["path", *_FEATURES, "train_split", "valid_split", "test_split", "config"]
            raise _unknown(reading, key, child, known, {}, "hf_dataset.")
    if "path" not in entries:
        raise UserError(f"{reading.at(node)}: hf_dataset: needs a path.")
    if not {"train_split", "valid_split"} <= entries.keys():
        reading.notes.append(
            f"{reading.at(node)}: hf_dataset: without splits mlx_lm.lora takes the first 80 % of "
            "train and evaluates its last 10 %; Livery takes the data set's own splits (val_split "
            "holds rows out)."
        )


def _merge_columns(reading: Reading) -> None:
    """`columns` and mlx-lm's keys for single columns are one setting."""
    found = [given for given in reading.given if given.name == "columns"]
    if len(found) < 2:
        return
    words = tuple(dict.fromkeys(word for given in found for word in given.value))
    last = found[-1]
    try:
        read_columns(words)
    except UserError as error:
        raise UserError(f"{last.source}: columns: {str(error).removeprefix('columns: ')}") from None
    reading.given = [given for given in reading.given if given.name != "columns"]
    reading.given.append(Given("columns", words, last.source, last.written))


def _mapping(reading: Reading, node: Node, written: str) -> dict[str, Node]:
    if node.value is None:
        return {}
    if not isinstance(node.value, dict):
        raise UserError(
            f"{reading.at(node)}: {written}: expected `key: value` lines under it, "
            f"not {_show(node.plain())}."
        )
    return node.value


def _numbers(reading: Reading, node: Node, written: str) -> list[float]:
    raw = node.plain()
    try:
        if not isinstance(raw, list) or any(isinstance(item, bool) for item in raw):
            raise ValueError
        return [float(item) for item in raw]
    except (TypeError, ValueError):
        raise UserError(
            f"{reading.at(node)}: {written}: {_show(raw)} is not a list of numbers."
        ) from None


def _check_known(reading: Reading, key: str, node: Node) -> None:
    if key not in {*_TOP, *_NESTED, *IGNORED_FLAG_KEYS, *IGNORED_KEYS, *REFUSED_KEYS}:
        raise _unknown(reading, key, node, _known_top(), _LORA)


def _unknown(
    reading: Reading,
    key: str,
    node: Node,
    known: list[str],
    other_level: dict[str, Option],
    prefix: str = "",
) -> UserError:
    where = f"{reading.at(node)}: {prefix}{key}: no such key"
    if key in other_level and key not in known:
        home = "the top level" if prefix else "lora_parameters"
        return UserError(f"{where} here; it belongs under {home}.")
    hint = RENAMED_KEYS.get(key)
    if hint is None or (hint not in known and "." not in hint):
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = close[0] if close else None
    if hint:
        return UserError(f"{where}; did you mean {hint}?")
    return UserError(f"{where}. docs/configuration.md lists all keys.")


def _warn_of_step_units(reading: Reading) -> None:
    """mlx-lm counts iterations; with accumulation a step is several of them."""
    accumulation = next((g.value for g in reading.given if g.name == "grad_accum"), 1)
    counted = [
        g
        for g in reading.given
        if g.name in ("steps_per_report", "steps_per_eval", "save_every") and g.value
    ]
    if accumulation > 1 and counted and any(g.name == "iters" for g in reading.given):
        reading.notes.append(
            f"{reading.path}: {', '.join(g.written for g in counted)} count optimizer steps here; "
            f"mlx_lm.lora counts iterations, {accumulation} to a step."
        )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_top() -> list[str]:
    return [*_TOP, *_NESTED, *IGNORED_KEYS, *REFUSED_KEYS]


_TOP = {
    key: option
    for option in OPTIONS
    for key in (option.key, *option.also)
    if not key.startswith("lora_parameters.")
}
_LORA = {
    option.key.removeprefix("lora_parameters."): option
    for option in OPTIONS
    if option.key.startswith("lora_parameters.")
}
# Keys of a `training` section: ours, and LoRA's without a mapping of their own.
_FLAT = {
    **_TOP,
    **_LORA,
    **{
        name: _LORA[key]
        for key, names in {
            "rank": ("lora_r", "lora_rank"), "alpha": ("lora_alpha",), "scale": ("lora_scale",),
            "dropout": ("lora_dropout",), "keys": ("target_modules",), "rslora": ("use_rslora",),
        }.items()
        for name in names
    },
}  # fmt: skip
_ALIGNED = {
    **dict.fromkeys(("pairs", "pairs_out"), by_name("data")),
    "adapter": by_name("init_adapter"),
}
# mlx-lm's names of columns -> ours.
_FEATURES = {
    "prompt_feature": "prompt",
    "completion_feature": "completion",
    "chat_feature": "messages",
    "text_feature": "text",
}
_NESTED: dict[str, Callable[[Reading, Node], None]] = {
    **{
        key: lambda reading, node, key=key, name=name: _column(reading, name, key, node)
        for key, name in _FEATURES.items()
    },
    "hf_dataset": _hf_dataset,
    "training": _training,
    "lora_parameters": _lora_parameters,
    "lr_schedule": _lr_schedule,
    "optimizer_config": _optimizer_config,
}
