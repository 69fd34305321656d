"""Jinja chat templates, rendered as transformers renders them and within bounds.

A template comes with a model that somebody else made. transformers' sandbox keeps it from files and
processes, but not from looping for ever or from building texts of gigabytes. Here every loop and
macro counts its steps, and whatever makes long values is held to a size; the deadline catches what
is left. Counting is done by calls put into the template's syntax tree before it is compiled, so
what it writes stays the same; it costs a few percent (measured in tests/dataset/test_sandbox.py).
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

STEPS = 2_000_000  # passes through loops and macros, in one rendering
SIZE = 64_000_000  # characters, or items, of one value or of the whole text
SECONDS = 10.0  # of the processor's time, for one rendering

# What can make a long text of short ones.
_GROWING = (
    "batch", "center", "format", "indent", "join", "pprint", "replace", "slice", "urlize",
    "wordwrap", "xmlattr",
)  # fmt: skip
_METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "join", "replace",
     "translate", "to_bytes"}
)  # fmt: skip


class Refused(Exception):
    """The template did not take the conversation; the text says why, in one line."""


class OutOfBounds(Refused):
    """The template looped on, or made more text than any conversation has."""


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
            raise Refused(f"it is no Jinja template: {_first_line(error)}") from None
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
            raise OutOfBounds("it calls itself without end") from None
        except Exception as error:  # a template raises what it likes
            raise Refused(_first_line(error)) from None
        return "".join(pieces)


@lru_cache(maxsize=32)
def compiled(source: str) -> Template:
    """A template, compiled once."""
    return Template(source)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


class _Generation(Extension):
    """{% generation %} marks the assistant's text for trainers; it writes nothing itself."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Bounds:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._left = STEPS
        self._room = SIZE
        self._begun = time.monotonic()
        self._until: float | None = None

    @jinja2.pass_context
    def step(self, _context: Any, _: Any) -> None:
        """Called at each pass through a loop or a macro.

        Jinja computes what is constant when it compiles; what takes the context is not.
        """
        self._left = left = self._left - 1
        if not left & 31:
            if left <= 0:
                raise OutOfBounds(f"it takes more than {STEPS:,} steps; does it loop without end?")
            self._check_time()

    def _check_time(self) -> None:
        """To ask for the processor's time is a call of the system, and can take longer than a whole
        rendering; the clock costs nothing. So the deadline is set once a rendering has taken a
        hundredth of it, and no other rendering asks."""
        if time.monotonic() - self._begun < SECONDS / 100:
            return
        if self._until is None:
            self._until = time.thread_time() + SECONDS
        elif time.thread_time() > self._until:
            raise OutOfBounds(f"it takes more than {SECONDS:g} seconds")

    @jinja2.pass_context
    def write(self, _context: Any, value: Any) -> Any:
        """Called with what a macro or a block writes into its own text."""
        self._room -= len(value) if isinstance(value, str) else 0
        if self._room < 0:
            raise OutOfBounds(f"it writes more than {SIZE:,} characters")
        return value


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers with the bounds above. Not for several threads at once."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )  # fmt: skip
        self._bounds = _Bounds()
        self._date: datetime.datetime | None = None
        self.filters |= {name: _bounded(self.filters[name]) for name in _GROWING}
        self.filters |= {
            "tojson": _tojson,
            "livery_step": self._bounds.step,
            "livery_sized": _sized,
            "livery_written": self._bounds.write,
            "livery_mul": _product,
            "livery_pow": _power,
            "livery_mod": _modulo,
        }
        self.globals.pop("lipsum", None)
        self.globals |= {
            "raise_exception": _raise,
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
        if name in _METHODS and isinstance(owner, str | int):
            return self._checked(super().wrap_str_format(value) or value, name, owner)
        return super().wrap_str_format(value)

    @staticmethod
    def _checked(method: Callable[..., Any], name: str, owner: Any) -> Callable[..., Any]:
        def checked(*given: Any, **kwargs: Any) -> Any:
            args: Any = given
            if name in ("format", "format_map"):
                _refuse_format(str(owner), (args, kwargs))
            elif name == "replace" and len(args) > 1:
                _refuse_replaced(owner, args[0], args[1])
            elif name == "join":
                pieces: list[str] = list(args[0])
                _refuse_size(sum(map(len, pieces)) + len(owner) * len(pieces))
                args = (pieces,)
            else:
                _refuse_wide(owner, *args, **kwargs)
            return _sized(method(*args, **kwargs))

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


def _sized(value: Any) -> Any:
    try:
        size = len(value)
    except TypeError:  # numbers are added too
        return value
    _refuse_size(size if isinstance(value, str) else 16 * size)
    return value


def _bounded(one: Callable[..., Any]) -> Callable[..., Any]:
    """A filter with its arguments and its value checked; Jinja's marks on it are kept."""
    skip = 1 if hasattr(one, "jinja_pass_arg") else 0

    def bounded(*args: Any, **kwargs: Any) -> Any:
        if one.__name__ == "do_format":
            _refuse_format(str(args[0]), (args[1:], kwargs))
        elif one.__name__.endswith("join"):
            pieces = [str(piece) for piece in args[skip]] if not kwargs and len(args) < 4 else ()
            glue = args[skip + 1] if len(args) > skip + 1 else ""
            _refuse_size(sum(map(len, pieces)) + len(str(glue)) * len(pieces))
            args = (*args[:skip], pieces, *args[skip + 1 :]) if pieces else args
        elif one.__name__ == "do_replace" and len(args) > skip + 2:
            _refuse_replaced(*args[skip : skip + 3])
        else:
            _refuse_wide(*args[skip:], **kwargs)
        return _sized(one(*args, **kwargs))

    if skip:
        bounded.jinja_pass_arg = one.jinja_pass_arg  # type: ignore[attr-defined]
    return bounded


def _refuse_wide(value: Any, *args: Any, **kwargs: Any) -> None:
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, int) and not isinstance(argument, bool) and argument > 100_000:
            raise OutOfBounds(f"it asks for a width of {argument:,}")
        if isinstance(argument, str) and isinstance(value, str) and len(argument) > 1000:
            _refuse_size(len(argument) * (len(value) + 1))


def _refuse_size(size: int) -> None:
    if size > SIZE:
        raise OutOfBounds(f"it makes a value of more than {SIZE:,} characters")


def _refuse_format(form: str, values: Any) -> None:
    """Widths within format strings; a width may be a value too, as in `%*d`."""
    digits = run = 0
    for letter in form:
        run = run + 1 if letter.isdigit() else 0
        digits = max(digits, run)
    if digits > 5 and ("%" in form or "{" in form):
        raise OutOfBounds("it asks for a text wider than 99,999")
    fields = form.count("{") + form.count("%")
    _refuse_size(len(form) + fields * _longest(values))
    computed = "*" in form or "{" in form.partition(":")[2]
    if computed and _large_number(values):
        raise OutOfBounds("it formats by a width it computed")


def _longest(values: Any) -> int:
    if isinstance(values, dict):
        return max(map(_longest, values.values()), default=0)
    if isinstance(values, list | tuple):
        return max(map(_longest, values), default=0)
    return len(values) if isinstance(values, str) else 0


def _refuse_replaced(text: Any, old: Any, new: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    count = text.count(old) if old else len(text) + 1
    _refuse_size(len(text) + count * max(0, len(new) - len(old)))


def _large_number(values: Any) -> bool:
    if isinstance(values, dict):
        return any(map(_large_number, values.values()))
    if isinstance(values, list | tuple):
        return any(map(_large_number, values))
    return isinstance(values, int) and not isinstance(values, bool) and abs(values) > 100_000


def _product(left: Any, right: Any) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, int) and isinstance(other, Sized):
            _refuse_size(len(other) * max(0, one))
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() * abs(right))
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        _refuse_format(left, right)
    return left % right


def _refuse_bits(bits: int) -> None:
    if bits > 4096:
        raise OutOfBounds("it computes with numbers of thousands of digits")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: without HTML's escapes."""
    if isinstance(indent, int) and indent > 100:
        raise OutOfBounds(f"it indents JSON by {indent:,}")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent,
        separators=(separators[0], separators[1]) if separators else None, sort_keys=sort_keys,
    )  # fmt: skip


def _raise(message: Any) -> NoReturn:
    raise Refused(_first_line(jinja2.TemplateError(str(message))))
