"""Jinja chat templates, rendered as transformers renders them and within bounds.

A template comes with a model that somebody else made. transformers' sandbox keeps it from files and
processes, but not from looping for ever or from building texts of gigabytes. Here every loop and
macro counts its steps, and whatever makes long values is held to a size; the deadline catches what
is left. Counting is done by calls put into the template's syntax tree before it is compiled, so
what it writes stays the same; it costs a few percent (measured in tests/dataset/test_sandbox.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from livery.dataset.bounds import (
    COMPARING,
    GROWING,
    METHODS,
    READING,
    SIZE,
    Bounds,
    OutOfBounds,
    Refused,
    bounded_filter,
    first_line,
    flat,
    modulo,
    power,
    product,
    raise_exception,
    reading,
    refuse_format,
    refuse_replaced,
    refuse_size,
    refuse_wide,
    sized,
    tojson,
)
from livery.errors import UserError


class Template:
    """A compiled chat template.

    Attributes:
        source: its Jinja text.
        asks_date: it reads today's date (`strftime_now`).
    """

    def __init__(self, source: str) -> None:
        """Raises Refused where `source` is no Jinja template."""
        self.source = source
        self._environment = _Environment()
        try:
            self._template = self._environment.from_string(source)
            # Jinja chains them, and goes through the chain anew at each rendering.
            self._template.globals = dict(self._template.globals)
            # Not by jinja2.meta, which computes constants: 'x' * 10 ** 10 is one.
            tree = self._environment.parse(source)
            names = {name.name for name in tree.find_all(nodes.Name)}
        except (jinja2.TemplateError, RecursionError, SyntaxError, MemoryError) as error:
            raise Refused(f"it is not a Jinja template: {first_line(error)}") from None
        self.variables = frozenset(names)
        self.asks_date = "strftime_now" in names

    def render(self, variables: Mapping[str, Any], date: datetime.datetime | None = None) -> str:
        """The text. Raises Refused, or OutOfBounds, which is one."""
        self._environment.start(date)
        pieces: list[str] = []
        size = 0
        try:
            # As generate() does, but for rewriting the errors' line numbers.
            for piece in self._template.root_render_func(
                self._template.new_context(dict(variables))
            ):
                pieces.append(piece)
                size += len(piece)
                if size > SIZE:
                    raise OutOfBounds(f"it writes more than {SIZE:,} characters")
        except Refused:
            raise
        except MemoryError:
            raise OutOfBounds("it needs more memory than there is") from None
        except RecursionError:
            raise OutOfBounds("it calls itself endlessly") from None
        except Exception as error:  # a template raises what it likes
            raise Refused(first_line(error)) from None
        return "".join(pieces)


@lru_cache(maxsize=32)
def compiled(source: str) -> Template:
    """A template, compiled once."""
    return Template(source)


class _Generation(Extension):
    """{% generation %} marks the assistant's text for trainers; it writes nothing itself."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers with the bounds above. Not for several threads at once."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation], finalize=flat,
        )  # fmt: skip
        self._bounds = Bounds()
        self._date: datetime.datetime | None = None
        self.filters |= {name: bounded_filter(self.filters[name]) for name in GROWING}
        self.filters |= {name: reading(self.filters[name]) for name in READING}
        self.tests |= {name: reading(self.tests[name]) for name in COMPARING}
        self.filters |= {
            "tojson": tojson,
            "livery_step": self._bounds.step,
            "livery_sized": sized,
            "livery_flat": flat,
            "livery_written": self._bounds.write,
            "livery_mul": product,
            "livery_pow": power,
            "livery_mod": modulo,
        }
        self.globals.pop("lipsum", None)
        self.globals |= {
            "raise_exception": raise_exception,
            "strftime_now": self._strftime,
            "dict": lambda *args, **kwargs: dict(*args, **kwargs),
        }

    def start(self, date: datetime.datetime | None) -> None:
        """Begin a rendering."""
        self._bounds.start()
        self._date = date

    def _strftime(self, form: str) -> str:
        return (self._date or datetime.datetime.now()).strftime(form)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Methods of strings that could make long ones check their arguments first.

        The sandbox asks this of every attribute that it hands out.
        """
        name = getattr(value, "__name__", "")
        owner = getattr(value, "__self__", None)
        if name in METHODS and isinstance(owner, str | int):
            return self._checked(super().wrap_str_format(value) or value, name, owner)
        return super().wrap_str_format(value)

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A function or a method, which may look into what it is given (`list.index`)."""
        if getattr(called, "__name__", "") in ("index", "count"):
            flat(getattr(called, "__self__", None))
        for value in (*args, *kwargs.values()):
            if not isinstance(value, str):
                flat(value)
        return super().call(context, called, *args, **kwargs)

    @staticmethod
    def _checked(method: Callable[..., Any], name: str, owner: Any) -> Callable[..., Any]:
        def checked(*given: Any, **kwargs: Any) -> Any:
            args: Any = given
            if name in ("format", "format_map"):
                refuse_format(str(owner), (args, kwargs))
            elif name == "replace" and len(args) > 1:
                refuse_replaced(owner, args[0], args[1])
            elif name == "join":
                pieces: list[str] = list(args[0])
                refuse_size(sum(map(len, pieces)) + len(owner) * len(pieces))
                args = (pieces,)
            else:
                refuse_wide(owner, *args, **kwargs)
            return sized(method(*args, **kwargs))

        return checked

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, _statement("livery_step", loop.lineno))
        for kind in (nodes.Macro, nodes.CallBlock):
            for block in tree.find_all(kind):
                block.body.insert(0, _statement("livery_step", block.lineno))
        for kind in (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.FilterBlock):
            for block in tree.find_all(kind):
                for output in block.find_all(nodes.Output):
                    output.nodes = [_filtered("livery_written", one) for one in output.nodes]
        _bound_sums(tree)
        return tree


def _statement(name: str, line: int) -> nodes.Node:
    node = nodes.ExprStmt(_filtered(name, nodes.Const(None)))
    return node.set_lineno(line)


def _filtered(name: str, value: Any, *arguments: Any) -> Any:
    if isinstance(value, nodes.TemplateData):
        return value
    made = nodes.Filter(value, name, list(arguments), [], None, None)
    return made.set_lineno(value.lineno or 1)


_CHECKED = {nodes.Mul: "livery_mul", nodes.Pow: "livery_pow", nodes.Mod: "livery_mod"}


def _bound_sums(node: nodes.Node) -> None:
    """Put checks around what joins and multiplies.

    A sum that is written out is counted there, and one that is part of a sum with it; what doubles
    is one that is kept or handed on.
    """
    for name, value in node.iter_fields():
        items = value if isinstance(value, list) else [value]
        for at, child in enumerate(items):
            if not isinstance(child, nodes.Node):
                continue
            _bound_sums(child)
            if isinstance(child, nodes.Concat):
                child.nodes = [_flat(part) for part in child.nodes]
            elif isinstance(child, nodes.Compare):
                _bound_comparison(child)
            joins = isinstance(child, nodes.Add | nodes.Concat)
            made: Any = child
            if joins and not isinstance(node, nodes.Output | nodes.Add | nodes.Concat):
                made = _filtered("livery_sized", child)
            elif isinstance(child, nodes.Mul | nodes.Pow | nodes.Mod):
                made = _filtered(_CHECKED[type(child)], child.left, child.right)
            if made is not child and isinstance(value, list):
                value[at] = made
            elif made is not child:
                setattr(node, name, made)


def _flat(value: Any) -> Any:
    return value if isinstance(value, nodes.Const) else _filtered("livery_flat", value)


def _bound_comparison(node: nodes.Compare) -> None:
    """What is compared with a constant is so at once, whatever it holds."""
    if isinstance(node.expr, nodes.Const) or any(isinstance(o.expr, nodes.Const) for o in node.ops):
        return
    node.expr = _flat(node.expr)
    for operand in node.ops:
        operand.expr = _flat(operand.expr)


def read_date(text: str) -> datetime.datetime | None:
    """The date of TemplateSettings; None for today. Raises UserError where it is none."""
    if not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"template_date is {text!r}; it must be a date such as 2025-01-31."
        ) from None
