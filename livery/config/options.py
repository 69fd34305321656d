"""How a setting is declared: `setting` on a field of `livery.config.settings`.

A field declares its default, the values it takes, its help, and what it decides; the flags, the
file's keys, the environment and docs/configuration.md are made from that.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from livery.config.values import Bounded, Kind, Switch

T = TypeVar("T")

# What a setting decides. "step": what a step computes; a checkpoint made under another value is not
# continued. "result": which of those steps become the adapter, or what the data's digest tells too;
# `livery run` trains the adapter again. "": neither.
Decides = Literal["step", "result", ""]


@dataclass(frozen=True)
class Option:
    """One setting, as a user gives it.

    Attributes:
        name: of the field in TrainSettings; "lora.rank" is in its LoraSettings. An alternative
            (see `alternative`) has a name that is not a field.
        key: in the configuration file; a dot leads into a mapping.
        flags: on the command line; a switch's are written "--x/--no-x".
        kind: what values it takes.
        help: one line.
        also: other keys that the file may use.
        variables: environment variables besides LIVERY_….
        decides: see `Decides`.
        alternatives: other ways to give the same field.
    """

    name: str
    key: str
    flags: tuple[str, ...]
    kind: Kind
    help: str
    also: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    decides: Decides = "step"
    alternatives: tuple[Option, ...] = ()

    @property
    def parameter(self) -> str:
        """Name of the command's Python argument."""
        return self.name.replace(".", "_")

    def environment(self) -> tuple[str, ...]:
        """Variables that set this option, the most usual first."""
        ours = [self.name, self.key.replace("lora_parameters.", "lora.")]
        names = ["LIVERY_" + name.replace(".", "_").upper() for name in ours]
        return (*dict.fromkeys(names), *self.variables)


def setting(
    default: T,
    kind: Kind,
    help: str,
    *,
    key: str = "",
    flags: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
    decides: Decides = "step",
    alternatives: tuple[Option, ...] = (),
) -> T:
    """A dataclass field that is a setting; see `Option`.

    Args:
        key: its name in the file, if that differs from the field's.
        flags: where there are others than "--field-name"; a switch's without their "--no-" twins.
    """
    option = Option("", key, flags, kind, help, also, variables, decides, alternatives)
    metadata = {"option": option}
    if isinstance(default, dict):
        made: Any = dataclasses.field(
            default_factory=lambda: copy.deepcopy(default), metadata=metadata
        )
    else:
        made = dataclasses.field(default=default, metadata=metadata)
    return cast("T", made)


def alternative(name: str, kind: Kind, help: str, **more: Any) -> Option:
    """Another way to give a field, such as `bf16` for dtype; `livery.config.layers` turns it into
    the field's value."""
    flags = more.pop("flags", ())
    return Option(name, more.pop("key", name), _flags(name, flags, kind), kind, help, **more)


def declared(settings: type[Any], prefix: str = "") -> Generator[Option]:
    """The options that a dataclass declares, in its order; `prefix` is "lora." in the inner one."""
    for field in dataclasses.fields(settings):
        option: Option | None = field.metadata.get("option")
        if option is None:  # a dataclass of settings itself
            yield from declared(type(field.default), f"{field.name}.")
            continue
        key = option.key or ("lora_parameters." if prefix else "") + field.name
        flags = _flags(field.name, option.flags, option.kind)
        yield dataclasses.replace(option, name=prefix + field.name, key=key, flags=flags)
        yield from option.alternatives


def check(settings: Any) -> None:
    """Hold the values of a dataclass of settings to what its fields declare.

    Raises:
        UserError: naming the first field that is out of bounds.
    """
    for field in dataclasses.fields(settings):
        option: Option | None = field.metadata.get("option")
        value = getattr(settings, field.name)
        optional = value is None and field.default is None
        if option is not None and isinstance(option.kind, Bounded) and not optional:
            option.kind.check(field.name, value)


def _flags(name: str, flags: tuple[str, ...], kind: Kind) -> tuple[str, ...]:
    flags = flags or ("--" + name.replace("_", "-"),)
    if isinstance(kind, Switch):
        return tuple(f"{flag}/--no-{flag.removeprefix('--')}" for flag in flags)
    return flags
