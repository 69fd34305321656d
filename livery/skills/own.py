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
import json
import re
import sys
import traceback
import types
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from livery.engines.engine import Grammar
from livery.errors import LiveryError, UserError, shown
from livery.reading import read_text
from livery.skills.contract import AnswerError, Message, Metric, Skill

FUNCTIONS = ("generate", "score", "parse", "render", "messages", "grammar")
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
    "SKILL": (Skill,),
}
PAGE = "docs/your-own-skill.md says what a skill's file holds."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class OwnModule:
    """A module that holds a skill and is no part of Livery.

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
            yield
        except (LiveryError, AnswerError):
            raise
        except Exception as error:
            remedy = hint or "Correct it there, then give the command again."
            raise UserError(f"{self._place(error)}: {_raised(doing, error)}. {remedy}") from error

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
        UserError: there is no such file, it is no Python, it fails, or it holds no skill.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{shown(file)}: is a folder; give the path of the skill's Python file.")
    if not file.exists():
        raise UserError(f"{shown(file)}: no such file; a skill is a Python file, or a name.")
    if file.suffix != ".py":
        raise UserError(f"{shown(file)}: is no Python file (.py), so no skill.")
    return _run(file.resolve(), read_text(file))


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
    # At the end: what lies beside the file may be imported, and shadows nothing.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module  # dataclasses look their module up
    try:
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
    skill = getattr(module, "SKILL", None)
    chosen = skill.name if skill is not None else getattr(module, "NAME", name)
    if not _NAME.fullmatch(chosen):
        raise UserError(
            f"{file}: its name would be {shown(chosen)!r}, and a skill's name is of letters, "
            'digits, "-", "_" and ".". Rename the file, or give NAME = "..." in it.'
        )
    for at, metric in enumerate(getattr(module, "METRICS", ())):
        if not isinstance(metric, Metric):
            raise UserError(
                f"{file}: METRICS[{at}] is {short(metric)}; each is a livery.skills.Metric(name, "
                "help)."
            )
    return OwnModule(chosen, file, module, digest)


# -- the contract ------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def skill_of(own: OwnModule) -> Skill:
    """The contract that a module's functions and constants make, with the defaults of the rest.

    Raises:
        UserError: JSON_SCHEMA is no JSON Schema, or parse() stands without render().
    """
    if (skill := own.get("SKILL")) is not None:
        return skill
    schema = _schema(own)
    validate = _validator(own, schema) if schema is not None else None
    if own.get("parse") and not own.get("render") and schema is None:
        render: Callable[[Any], str] = functools.partial(_text, "render() beside parse()")
    else:
        render = functools.partial(_render, own, schema)
    has_grammar = hasattr(own.module, "GRAMMAR")
    grammar: str | None = own.get("GRAMMAR")
    return Skill(
        name=own.name,
        version=own.get("VERSION", "1"),
        messages=functools.partial(_messages, own, render),
        render=render,
        parse=functools.partial(_parse, own, validate),
        summary=(own.module.__doc__ or "").strip().partition("\n")[0],
        system_prompt=own.get("SYSTEM_PROMPT", ""),
        grammar=None if grammar is None else lambda: grammar,
        json_schema=None if schema is None or has_grammar else lambda: schema,
    )


def own_grammar(own: OwnModule, asked: Any) -> Grammar | None:
    """The grammar of one case's answers, by the module's grammar(case); None takes the skill's.

    Args:
        asked: a case or row, with `messages`, `text`, `tools`, `category` and `meta`.

    Raises:
        UserError: grammar() fails, or returns neither Lark text nor a JSON Schema.
    """
    if own.get("grammar") is None:
        return None
    with own.blamed(f"grammar({short(asked.text)})"):
        found = own.get("grammar")(asked)
    if found is None:
        return None
    if isinstance(found, str):
        return Grammar("lark", found)
    if isinstance(found, dict):
        with own.blamed(f"the schema of grammar({short(asked.text)})"):
            return Grammar("json_schema", json.dumps(found, ensure_ascii=False))
    raise UserError(
        f"{own.line('grammar')}: grammar() returned {short(found)}; it must return Lark text, a "
        "dict that is a JSON Schema, or None."
    )


def _schema(own: OwnModule) -> dict[str, Any] | None:
    """JSON_SCHEMA as JSON has it: Python's tuples are lists."""
    schema = own.get("JSON_SCHEMA")
    try:
        return None if schema is None else json.loads(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{own.file}: JSON_SCHEMA holds what JSON cannot: {error}. Correct it."
        ) from None


def _validator(own: OwnModule, schema: dict[str, Any]) -> Callable[[Any], str]:
    """value -> what is wrong with it, "" for nothing."""
    import jsonschema
    from jsonschema.validators import validator_for

    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        raise UserError(
            f"{own.file}: JSON_SCHEMA is no JSON Schema{f', at {where}' if where else ''}: "
            f"{shown(error.message)}."
        ) from None
    check = kind(schema)

    def wrong(value: Any) -> str:
        error = next(check.iter_errors(value), None)
        if error is None:
            return ""
        where = "/".join(map(str, error.absolute_path))
        return shown(error.message) + (f" (at {where})" if where else "")

    return wrong


def _parse(own: OwnModule, validate: Callable[[Any], str] | None, answer: str) -> Any:
    if (parse := own.get("parse")) is not None:
        hint = "For an answer that breaks the contract raise ValueError; correct anything else."
        with own.blamed(f"parse({short(answer)})", hint):
            try:
                return parse(answer)
            except AnswerError:
                raise
            except ValueError as error:
                raise AnswerError(shown(error) or "refused by parse()") from None
    if validate is None:
        return answer.strip()
    try:
        value = json.loads(answer, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise AnswerError(f"not JSON{where}: {short(answer)}") from None
    if wrong := validate(value):
        raise AnswerError(wrong)
    return value


def _render(own: OwnModule, schema: dict[str, Any] | None, value: Any) -> str:
    if (render := own.get("render")) is not None:
        with own.blamed(f"render({short(value)})"):
            text = render(value)
        if not isinstance(text, str):
            raise UserError(
                f"{own.line('render')}: render() returned {short(text)}; it must return the "
                "answer as a text."
            )
        return text
    if schema is None:
        return _text("JSON_SCHEMA, or parse() and render(),", value)
    try:
        return json.dumps(_ordered(value, schema), separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be written as JSON ({error})") from None


def _text(remedy: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it is no text. Give it as one, or add {remedy} to the file")
    return value.strip()


def _ordered(value: Any, schema: Any) -> Any:
    """The value with its keys in the schema's order, which is the order that the grammar takes."""
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, dict):
        known: dict[str, Any] = schema.get("properties") or {}
        keys = [key for key in known if key in value] + [key for key in value if key not in known]
        return {key: _ordered(value[key], known.get(key)) for key in keys}
    if isinstance(value, list | tuple):
        return [_ordered(item, schema.get("items")) for item in value]
    return value


def _messages(
    own: OwnModule, render: Callable[[Any], str], text: str, value: Any = None
) -> list[Message]:
    if (messages := own.get("messages")) is not None:
        with own.blamed(f"messages({short(text)})"):
            asked = messages(text)
        asked = turns(asked, f"{own.line('messages')}: messages() returned")
    else:
        system = own.get("SYSTEM_PROMPT", "")
        asked = [{"role": "system", "content": system}] if system else []
        asked.append({"role": "user", "content": text})
    return asked if value is None else [*asked, {"role": "assistant", "content": render(value)}]


def turns(value: Any, where: str) -> list[Message]:
    """Turns up to the answer, each {"role", "content"} with whatever else it holds.

    Args:
        where: what a message begins with, such as "my_skill.py:12: messages() returned".

    Raises:
        UserError: it is no such list.
    """
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f'{where} {short(value)}; it must be a list of {{"role", "content"}}.')
    for at, turn in enumerate(value):
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in _ROLES or not isinstance(turn.get("content"), str):
            raise UserError(
                f'{where} a turn [{at}] that is {short(turn)}; it must be {{"role", "content"}}, '
                f"the role one of {', '.join(_ROLES)} and the content a text."
            )
    if value[-1]["role"] not in ("user", "tool"):
        raise UserError(
            f"{where} turns that end with the {value[-1]['role']}; the user's come last."
        )
    return [dict(turn) for turn in value]


def _no_constant(token: str) -> float:
    raise ValueError(f"{token} is no JSON")


def short(value: Any, limit: int = 120) -> str:
    """A value of the user's as a message shows it."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = shown(text, limit)
    return repr(text) if isinstance(value, str) else text
