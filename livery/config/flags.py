"""Command-line flags made from the table in `livery.config.settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from livery.config.foreign import IGNORED_FLAGS, REFUSED_FLAGS, VALUELESS_FLAGS
from livery.config.options import Option
from livery.config.settings import OPTIONS, PREFERENCE, by_name
from livery.config.values import Kind, Several, Switch


class _Value(click.ParamType):
    """A kind of `livery.config.values` as click wants it; a wrong value is a usage error."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = kind.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.kind.read(value)
        except ValueError as error:
            self.fail(f"{value!r} is not {error}.", param, ctx)


def training_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for every option; the command takes them as `**flags` (see `given_flags`). A flag
    for pairs of answers says which command has it."""
    pairs = {flag for name in PREFERENCE for flag in by_name(name).flags}
    plain = [option for option in OPTIONS if option.name not in PREFERENCE]
    return _with_flags(function, plain, [*REFUSED_FLAGS, *sorted(pairs - REFUSED_FLAGS.keys())])


def preference_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for the command that trains on pairs."""
    refused = [flag for flag in REFUSED_FLAGS if flag not in ("--pairs", "--beta")]
    return _with_flags(function, OPTIONS, refused)


def _with_flags(
    function: Callable[..., Any], options: Sequence[Option], refused: Iterable[str]
) -> Callable[..., Any]:
    for option in reversed(options):
        function = _decorator(option)(function)
    for flag in refused:
        function = _refused(flag)(function)
    for flag in IGNORED_FLAGS:
        function = _ignored(flag)(function)
    return function


def option_flags(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the flags of some options, by name, for commands that read data as training does."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            function = _decorator(by_name(name))(function)
        return function

    return add


def given_flags(arguments: dict[str, Any]) -> dict[str, Any]:
    """Pick the training flags that were given, by option name, out of a command's arguments."""
    return {
        option.name: arguments[option.parameter]
        for option in OPTIONS
        if arguments.get(option.parameter) is not None
    }


def _decorator(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    names = (option.parameter, *option.flags)
    if isinstance(option.kind, Switch):
        return click.option(*names, default=None, help=option.help)
    kind = _Value(option.kind)
    more: dict[str, Any] = {}
    if isinstance(option.kind, Several):
        more = {"multiple": True, "callback": _joined}
    return click.option(*names, type=kind, metavar=option.kind.metavar, help=option.help, **more)


def _joined(context: click.Context, parameter: click.Parameter, given: tuple[Any, ...]) -> Any:
    """The words of a flag that was given several times; None where it was not given."""
    return tuple(dict.fromkeys(word for words in given for word in words)) if given else None


def _ignored(flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A flag of an older trainer, hidden from --help, that changes nothing and is told so."""

    def say(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            click.echo(f"note: {flag} is not used: {IGNORED_FLAGS[flag]}.", err=True)

    return click.option(flag, hidden=True, expose_value=False, callback=say)


def _refused(flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A flag of an older trainer, hidden from --help, that says what to do instead."""

    def refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            what = REFUSED_FLAGS.get(flag, REFUSED_FLAGS["--beta"])
            raise click.UsageError(f"{flag} is not one of Livery's flags: {what}.", context)

    return click.option(
        flag,
        hidden=True,
        expose_value=False,
        callback=refuse,
        is_flag=flag in VALUELESS_FLAGS or "/" in flag,
    )
