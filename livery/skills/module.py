"""A skill in a Python file of the user's: its functions found, called, and blamed by line.

docs/your-own-skill.md says what such a file may hold. Whatever goes wrong in it is a UserError that
names file, line and function, never a traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib
import inspect
import re
import sys
import traceback
import types
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from livery.errors import LiveryError, UserError, shown
from livery.reading import read_text
from livery.skills.contract import CORRECT, PARSED, AnswerError, Metric

SIGNATURES = {
    "generate": "generate(rng)",
    "score": "score(case, value)",
    "parse": "parse(answer)",
    "render": "render(value)",
    "messages": "messages(text)",
    "grammar": "grammar(case)",
    "look_over": "look_over(messages, answer)",
}
FUNCTIONS = tuple(SIGNATURES)
CONSTANTS: dict[str, tuple[type, ...]] = {
    "NAME": (str,),
    "VERSION": (str,),
    "SYSTEM_PROMPT": (str,),
    "JSON_SCHEMA": (dict,),
    "GRAMMAR": (str, type(None)),
    "CATEGORIES": (tuple, list),
    "METRICS": (tuple, list),
    "CASES": (str, Path, list, tuple),
    "TRAIN_ROWS": (int,),
}
PAGE = "docs/your-own-skill.md says what a skill's file holds."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class OwnModule:
    """A module that holds a skill and is not part of Livery.

    Attributes:
        name: of the skill.
        file: of the module; a package's is its __init__.py.
        module: the module itself.
        digest: hex SHA-256 of the file, or of every Python file of the package.
    """

    name: str
    file: Path
    module: types.ModuleType
    digest: str

    def get(self, name: str, default: Any = None) -> Any:
        """A constant or function of the module; `default` where it has none."""
        return getattr(self.module, name, default)

    def function(self, name: str, what_for: str) -> Callable[..., Any]:
        """A function of the module.

        Raises:
            UserError: it has none of that name.
        """
        found = self.get(name)
        if found is None:
            mine = [
                key
                for key, value in vars(self.module).items()
                if isinstance(value, types.FunctionType)
            ]
            close = difflib.get_close_matches(name, mine, n=1, cutoff=0.7)
            hint = f" It has {close[0]}(); is that the one?" if close else ""
            raise UserError(
                f"{self.file}: has no {name}(), which is needed {what_for}.{hint} {PAGE}"
            )
        return found

    def line(self, name: str) -> str:
        """Where a function begins: "my_skill.py:12"."""
        code = getattr(self.get(name), "__code__", None)
        return f"{self.file}:{code.co_firstlineno}" if code is not None else str(self.file)

    @contextlib.contextmanager
    def blamed(self, doing: str, hint: str = "") -> Generator[None]:
        """Turn what the module's code raises into a UserError that says where.

        Args:
            doing: what was called, such as "generate()".
            hint: a remedy; by default to correct the line.
        """
        try:
            # What it prints is for people: standard output may be one JSON object.
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except (LiveryError, AnswerError):
            raise
        except (Exception, SystemExit) as error:
            remedy = hint or "Correct it there, then give the command again."
            raise UserError(f"{self._place(error)}: {_raised(doing, error)}. {remedy}") from error

    def call(self, name: str, *arguments: Any, doing: str, hint: str = "") -> Any:
        """Call one of the module's functions.

        Args:
            doing, hint: as `blamed` takes them.

        Raises:
            UserError: it takes other arguments, or raises anything but an AnswerError.
        """
        function = self.get(name)
        with contextlib.suppress(ValueError):  # a builtin without a signature
            try:
                inspect.signature(function).bind(*arguments)
            except TypeError:
                raise UserError(
                    f"{self.line(name)}: {name}() is called as {SIGNATURES[name]}; take these "
                    "arguments."
                ) from None
        with self.blamed(doing, hint):
            return function(*arguments)

    def _place(self, error: BaseException) -> str:
        """The last line of the module (or its package) that the error passed through."""
        place = str(self.file)
        inside = self.file.parent if self.file.name == "__init__.py" else self.file
        for frame, line in traceback.walk_tb(error.__traceback__):
            file = Path(frame.f_code.co_filename)
            if file == inside or inside in file.parents:
                place = f"{file}:{line}"
        return place


def _raised(doing: str, error: BaseException) -> str:
    said = shown(str(error).strip(), 300)
    return f"{doing} raised {type(error).__name__}" + (f": {said}" if said else "")


# -- modules -----------------------------------------------------------------------------------


def load_file(path: str | Path) -> OwnModule:
    """Import the skill in a Python file; one whose text was imported before is not run again.

    Raises:
        UserError: there is no such file, it is not Python, it fails, or it holds no skill.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{shown(file)}: is a folder; give the path of the skill's Python file.")
    if not file.exists():
        raise UserError(f"{shown(file)}: no such file; a skill is a Python file, or a name.")
    if file.suffix != ".py":
        raise UserError(f"{shown(file)}: is not a Python file (.py), so it is not a skill.")
    return _run(file.resolve(), read_text(file).removeprefix("\ufeff"))


@functools.lru_cache(maxsize=32)
def _run(file: Path, source: str) -> OwnModule:
    digest = hashlib.sha256(source.encode()).hexdigest()
    # Compiled from the text that was read, never from a .pyc that may be of an earlier one.
    try:
        code = compile(source, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f"{file}:{line}" if line else str(file)
        raise UserError(
            f"{place}: is not Python: {getattr(error, 'msg', error)}. Correct it."
        ) from None
    name = f"livery_skill_{file.stem}_{digest[:12]}"
    module = types.ModuleType(name, None)
    module.__file__ = str(file)
    # At the end: what is beside the file may be imported, and shadows nothing.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(code, module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise _import_error(OwnModule("", file, module, ""), error) from error
    return _checked(file.stem.replace("_", "-"), file, module, digest)


def load_entry(entry: metadata.EntryPoint) -> OwnModule:
    """Import the skill that an installed package brings.

    Raises:
        UserError: it cannot be imported, or holds no skill.
    """
    try:
        module = importlib.import_module(entry.module)
    except (Exception, SystemExit) as error:
        package = entry.dist.name if entry.dist is not None else entry.module
        raise UserError(
            f"The skill {shown(entry.name)} of the package {package} cannot be imported: "
            f"{_raised(entry.module, error)}. Install the package again, or ask its author."
        ) from error
    if entry.attr:
        raise UserError(
            f"The entry point {shown(entry.name)} is {shown(entry.value)}; it must name "
            f"the skill's module alone: {entry.module}."
        )
    if not module.__file__:
        raise UserError(f"{entry.module}: has no file; a skill is a module or a package.")
    file = Path(module.__file__).resolve()
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    total = hashlib.sha256()
    for one in files:
        total.update(hashlib.sha256(one.read_bytes()).digest())
    return _checked(entry.name, file, module, total.hexdigest())


def _import_error(own: OwnModule, error: BaseException) -> UserError:
    if isinstance(error, ModuleNotFoundError):
        remedy = f"Install it with: pip install {str(error.name).partition('.')[0]}"
    elif isinstance(error, SystemExit):
        remedy = 'Put what is to run as a program under: if __name__ == "__main__":'
    else:
        remedy = "Correct it there, then give the command again."
    return UserError(f"{own._place(error)}: {_raised('importing it', error)}. {remedy}")  # pyright: ignore[reportPrivateUsage]


def _checked(name: str, file: Path, module: types.ModuleType, digest: str) -> OwnModule:
    """The module, where all that it holds under the seam's names is of the right type."""
    held = [key for key in (*FUNCTIONS, *CONSTANTS) if hasattr(module, key)]
    if not held:
        raise UserError(
            f"{file}: holds no skill: none of {', '.join((*FUNCTIONS, 'SYSTEM_PROMPT'))}. {PAGE}"
        )
    for key in held:
        value = getattr(module, key)
        if key in FUNCTIONS:
            if not callable(value):
                raise UserError(f"{file}: {key} is {short(value)}; it must be a function. {PAGE}")
        elif not isinstance(value, CONSTANTS[key]) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in CONSTANTS[key])
            raise UserError(f"{file}: {key} is {short(value)}; it must be a {wanted}. {PAGE}")
    chosen = getattr(module, "NAME", name)
    if not _NAME.fullmatch(chosen):
        raise UserError(
            f"{file}: its name would be {shown(chosen)!r}, and a skill's name is of the "
            'letters a to z, digits, "-", "_" and ".". Rename the file, or give NAME = "..." in it.'
        )
    for at, metric in enumerate(getattr(module, "METRICS", ())):
        if not isinstance(metric, Metric):
            raise UserError(
                f"{file}: METRICS[{at}] is {short(metric)}; each is a livery.skills.Metric(name, "
                "help)."
            )
    names = [CORRECT.name, PARSED.name, "error", *(m.name for m in getattr(module, "METRICS", ()))]
    for metric_name, count in Counter(names).items():
        if count > 1:
            raise UserError(
                f"{file}: METRICS hold {shown(metric_name)!r}, which is taken; give each metric a "
                "name of its own (correct, parsed and error stand for themselves)."
            )
    for category in getattr(module, "CATEGORIES", ()):
        if not isinstance(category, str):
            raise UserError(f"{file}: CATEGORIES hold {short(category)}; each is a text.")
    return OwnModule(chosen, file, module, digest)


def short(value: Any, limit: int = 120) -> str:
    """A value of the user's as a message shows it."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = shown(text, limit)
    return repr(text) if isinstance(value, str) else text
