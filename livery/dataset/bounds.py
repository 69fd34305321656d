"""Steps and sizes that a chat template may not exceed, and the operators that check them.

Whatever can make a long value of short ones looks at its arguments first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence, Sized
from typing import Any, NoReturn

import jinja2

STEPS = 2_000_000  # passes through loops and macros, in one rendering
SIZE = 64_000_000  # characters, or items, of one value or of the whole text
VALUES = (
    1_000_000  # within one value that is written out or compared, the same one twice counted so
)
SECONDS = 10.0  # of the processor's time, for one rendering
# What can make a long text of short ones.
GROWING = (
    "batch", "center", "format", "indent", "join", "pprint", "replace", "slice", "urlize",
    "wordwrap", "xmlattr",
)  # fmt: skip
# What writes a value out, or compares what is in it.
READING = (
    "capitalize", "e", "escape", "forceescape", "groupby", "lower", "max", "min", "safe", "sort",
    "string", "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode",
    "wordcount",
)  # fmt: skip
COMPARING = ("eq", "==", "equalto", "ne", "!=", "lt", "<", "le", "<=", "gt", ">", "ge", ">=",
             "lessthan", "greaterthan", "in")  # fmt: skip
METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "join", "replace",
     "translate", "to_bytes"}
)  # fmt: skip


class Refused(Exception):
    """The template did not take the conversation; the text says why, in one line."""


class OutOfBounds(Refused):
    """The template looped on, or made more text than any conversation has."""


def first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


class Bounds:
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


def sized(value: Any) -> Any:
    try:
        size = len(value)
    except TypeError:  # numbers are added too
        return value
    refuse_size(size if isinstance(value, str) else 16 * size)
    return value


def flat(value: Any) -> Any:
    """The value itself, where it is not too much to write out or to compare.

    A list that holds another ten times takes the room of ten references and writes ten lists: some
    steps of that are more than any machine writes.
    """
    if not isinstance(value, dict | list | tuple):
        return value
    left, room = VALUES, SIZE
    waiting: list[Any] = [value]
    while waiting:
        one: Any = waiting.pop()
        inner: list[Any] = [*one, *one.values()] if isinstance(one, dict) else [*one]
        left -= 1 + len(inner)
        if left < 0:
            raise OutOfBounds(f"it writes or compares a value of more than {VALUES:,} values")
        for part in inner:
            if isinstance(part, str):
                room -= len(part)
            elif isinstance(part, dict | list | tuple):
                waiting.append(part)
        refuse_size(SIZE - room)
    return value


def reading(one: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test that looks into its first two arguments; Jinja's marks on it are kept."""
    skip = 1 if hasattr(one, "jinja_pass_arg") else 0

    def checked(*args: Any, **kwargs: Any) -> Any:
        for value in args[skip : skip + 2]:
            flat(value)
        return one(*args, **kwargs)

    if skip:
        checked.jinja_pass_arg = one.jinja_pass_arg  # type: ignore[attr-defined]
    return checked


def bounded_filter(one: Callable[..., Any]) -> Callable[..., Any]:
    """A filter with its arguments and its value checked; Jinja's marks on it are kept."""
    skip = 1 if hasattr(one, "jinja_pass_arg") else 0

    def bounded(*args: Any, **kwargs: Any) -> Any:
        for value in args[skip:]:
            flat(value)
        if one.__name__ == "do_format":
            refuse_format(str(args[0]), (args[1:], kwargs))
        elif one.__name__.endswith("join"):
            pieces = [str(piece) for piece in args[skip]] if not kwargs and len(args) < 4 else ()
            glue = args[skip + 1] if len(args) > skip + 1 else ""
            refuse_size(sum(map(len, pieces)) + len(str(glue)) * len(pieces))
            args = (*args[:skip], pieces, *args[skip + 1 :]) if pieces else args
        elif one.__name__ == "do_replace" and len(args) > skip + 2:
            refuse_replaced(*args[skip : skip + 3])
        else:
            refuse_wide(*args[skip:], **kwargs)
        return sized(one(*args, **kwargs))

    if skip:
        bounded.jinja_pass_arg = one.jinja_pass_arg  # type: ignore[attr-defined]
    return bounded


def refuse_wide(value: Any, *args: Any, **kwargs: Any) -> None:
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, int) and not isinstance(argument, bool) and argument > 100_000:
            raise OutOfBounds(f"it asks for a width of {argument:,}")
        if isinstance(argument, str) and isinstance(value, str) and len(argument) > 1000:
            refuse_size(len(argument) * (len(value) + 1))


def refuse_size(size: int) -> None:
    if size > SIZE:
        raise OutOfBounds(f"it makes a value of more than {SIZE:,} characters")


def refuse_format(form: str, values: Any) -> None:
    """Widths within format strings; a width may be a value too, as in `%*d`."""
    digits = run = 0
    for letter in form:
        run = run + 1 if letter.isdigit() else 0
        digits = max(digits, run)
    if digits > 5 and ("%" in form or "{" in form):
        raise OutOfBounds("it asks for a text wider than 99,999")
    fields = form.count("{") + form.count("%")
    refuse_size(len(form) + fields * _longest(values))
    computed = "*" in form or "{" in form.partition(":")[2]
    if computed and _large_number(values):
        raise OutOfBounds("it formats by a width it computed")


def _longest(values: Any) -> int:
    if isinstance(values, dict):
        return max(map(_longest, values.values()), default=0)
    if isinstance(values, list | tuple):
        return max(map(_longest, values), default=0)
    return len(values) if isinstance(values, str) else 0


def refuse_replaced(text: Any, old: Any, new: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    count = text.count(old) if old else len(text) + 1
    refuse_size(len(text) + count * max(0, len(new) - len(old)))


def _large_number(values: Any) -> bool:
    if isinstance(values, dict):
        return any(map(_large_number, values.values()))
    if isinstance(values, list | tuple):
        return any(map(_large_number, values))
    return isinstance(values, int) and not isinstance(values, bool) and abs(values) > 100_000


@jinja2.pass_context
def product(_context: Any, left: Any, right: Any) -> Any:
    """Takes the context so that Jinja does not compute it when it compiles, and write the value
    into the code: a list of lists of lists is small, and its source is not."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, int) and isinstance(other, Sized):
            refuse_size(len(other) * max(0, one))
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length())
    return left * right


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() * abs(right))
    return left**right


def modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        flat(right)
        refuse_format(left, right)
    return left % right


def _refuse_bits(bits: int) -> None:
    if bits > 4096:
        raise OutOfBounds("it computes with numbers of thousands of digits")


def tojson(
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
        flat(value), ensure_ascii=ensure_ascii, indent=indent,
        separators=(separators[0], separators[1]) if separators else None, sort_keys=sort_keys,
    )  # fmt: skip


def raise_exception(message: Any) -> NoReturn:
    raise Refused(first_line(jinja2.TemplateError(str(message))))
