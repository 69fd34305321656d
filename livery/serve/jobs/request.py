"""What a job is asked to do: one frozen value, checked before anything is written or started."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livery.config.layers import resolve
from livery.config.options import Option
from livery.config.settings import OPTIONS, PREFERENCE
from livery.config.values import Choice, Columns, Names, Several, Switch, Variables
from livery.errors import UserError, quoted, sentence, shown
from livery.models import EMBEDDED
from livery.paths import HOME
from livery.serve.errors import Refused
from livery.skills import skill_names

STEPS = ("data", "train", "eval", "convert", "pack", "promote")
ENGINES = ("mlx", "torch", "llamacpp")
# What the job itself decides.
_OURS = {"data": "data", "output_dir": "name", "backend": "backend"}
_DEPTH = 32
_LARGEST = 1 << 63
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class JobRequest:
    """One adapter to be made.

    Attributes:
        skill: whose rows are made and scored: a name, or the path of a Python file.
        data: a folder of rows in root/data, or a path, in place of the skill's own rows.
        name: of the adapter's folder in root/adapters; by default the skill's or the data's.
        steps: some of `STEPS`; by default all that there is something to do for.
        settings: of training, by name ("max_steps", "lora.rank") or as mlx_config.yaml writes them.
        backend: auto, mlx or torch.
        engine: that evaluates; by default the one of the backend.
        target: share of cases that must be right, else the job fails.
        data_seed: of the skill's generator.
        attempts: how often a step is started before a killed process fails the job.
        overwrite: an older adapter of that name makes way, and is kept aside.
        over: the adapter whose place the new one takes in the step promote, if it is better.
        begin_by: seconds since 1970; a job that has not begun by then expires.
        trainer: what trains in place of `livery train`: {"argv": [...], "params": {...},
            "variables": {...}}. Never taken from a request: whoever runs the server sets it.

    Raises:
        UserError: naming the key that is unknown or out of bounds.
    """

    skill: str | None = None
    data: str | None = None
    name: str = ""
    steps: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    backend: str = "auto"
    engine: str | None = None
    target: float | None = None
    data_seed: int = 7
    attempts: int = 5
    overwrite: bool = False
    over: str | None = None
    begin_by: float | None = None
    trainer: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, wanted in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
                raise UserError(f"{name} is {quoted(value)}, which is not {_WORDS[wanted]}.")
        for name, value in (("settings", self.settings), ("trainer", self.trainer)):
            if not _is_shallow(value):
                raise UserError(f"{name} has lists or objects nested more than {_DEPTH} deep.")
        if not all(isinstance(step, str) for step in self.steps):
            raise UserError(f"steps is {quoted(self.steps)}; name some of: {', '.join(STEPS)}.")
        forms = bool(self.steps) and {*self.steps} <= {"convert", "pack"}  # of an adapter there is
        if not self.skill and not self.data and not (forms and self.name):
            raise UserError("A job needs a skill, or data to train on: give one of them.")
        if self.skill and self.skill not in skill_names() and not self.skill.endswith(".py"):
            raise UserError(_unknown("skill", self.skill, skill_names()))
        object.__setattr__(self, "name", self.name or _default_name(self.skill, self.data))
        check_name("name", self.name)
        if self.data and not Path(self.data).is_absolute():
            check_name("data", self.data)
        if self.over is not None:
            check_name("over", self.over)
        self._check_steps()
        object.__setattr__(self, "settings", read_settings(self.settings))
        _one_of("backend", self.backend, ("auto", "mlx", "torch"))
        if self.engine is not None:
            _one_of("engine", self.engine, ENGINES)
        if self.target is not None and not 0 <= self.target <= 1:
            raise UserError(f"target is {self.target:g}; it must be a share from 0 to 1.")
        if not -_LARGEST <= self.data_seed < _LARGEST:
            raise UserError(f"data_seed is {quoted(self.data_seed)}; it must fit into 64 bits.")
        if self.attempts < 1:
            raise UserError(f"attempts is {self.attempts}; it must be at least 1.")
        training_flags(self)  # two settings that contradict each other

    def _check_steps(self) -> None:
        able = tuple(
            step for step in STEPS
            if not (step == "data" and self.data)
            and (self.skill or step not in ("data", "eval", "promote"))
            and (self.over or step != "promote")
        )  # fmt: skip
        for step in self.steps:
            _one_of("steps", step, STEPS)
            if step not in able:
                why = "the data is given" if self.skill else "no skill is named"
                why = "over names no adapter" if step == "promote" and not self.over else why
                raise UserError(f"steps: {step} has nothing to do, because {why}; leave it out.")
        chosen = self.steps or able
        object.__setattr__(self, "steps", tuple(step for step in STEPS if step in chosen))

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of what decides the result: two requests with the same one make the same
        adapter from the same data."""
        said = self.as_dict()
        for key in ("name", "attempts", "overwrite", "begin_by", "trainer"):
            del said[key]
        if self.trainer is not None:
            said["trainer"] = {key: self.trainer[key] for key in ("argv", "params")}
        said["settings"] = {
            name: value for name, value in said["settings"].items() if name not in _INDIFFERENT
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; `read_request` is its inverse."""
        return {**dataclasses.asdict(self), "steps": list(self.steps)}


_TYPES: dict[str, Any] = {
    "skill": str | None, "data": str | None, "name": str, "steps": tuple | list,
    "settings": Mapping, "backend": str, "engine": str | None, "target": float | int | None,
    "data_seed": int, "attempts": int, "overwrite": bool, "begin_by": float | int | None,
    "trainer": Mapping | None, "over": str | None,
}  # fmt: skip
_WORDS: dict[Any, str] = {
    str: "text", str | None: "text", int: "a whole number", float | int | None: "a number",
    bool: "true or false", tuple | list: "a list of steps", Mapping: "a mapping of settings",
    Mapping | None: "a mapping",
}  # fmt: skip
# Settings that may be paths; relative ones start in the root folder, where a job's commands run.
PATHS = ("model", "valid_data", "init_adapter", "chat_template")
# Neither decides what comes out.
_INDIFFERENT = {"threads", "report_to", "project_name", "save_every", "save_total", "check_base"}


def read_request(said: Any) -> JobRequest:
    """A request out of JSON.

    Raises:
        UserError: it is no object, or has a key that is unknown or a value out of bounds.
    """
    if not isinstance(said, Mapping):
        raise UserError('A job is a JSON object, such as {"skill": "date-keys"}.')
    known = [one.name for one in dataclasses.fields(JobRequest)]
    for key in said:
        if key not in known:
            raise UserError(_unknown("key", key, known))
    return JobRequest(**{str(key): value for key, value in said.items()})


def stored_request(said: Mapping[str, Any]) -> JobRequest:
    """A request as it was recorded. It was checked when it came, and is not checked again: the
    record of a job outlives the skill and the bounds that it was made with."""
    request = object.__new__(JobRequest)
    for one in dataclasses.fields(JobRequest):
        made = one.default_factory
        default = one.default if made is dataclasses.MISSING else made()
        value = said.get(one.name, default)
        object.__setattr__(request, one.name, tuple(value) if one.name == "steps" else value)
    return request


def read_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings under their own names, as plain JSON.

    Raises:
        UserError: a key is unknown or the job's own, or a value is out of bounds.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        option = _OPTIONS.get(key)
        if option is None:
            raise UserError(_unknown("setting", key, _OPTIONS))
        if option.name in _OURS:
            raise UserError(
                f"settings: {key} is not set here; give the job's {_OURS[option.name]}."
            )
        if option.name in PREFERENCE:
            raise UserError(f"settings: {key} is for pairs of answers, which a job does not train.")
        try:
            option.kind.read(value)
            found[option.name] = json.loads(json.dumps(value, allow_nan=False))
        except (ValueError, TypeError) as error:
            said = error if type(error) is ValueError else "a JSON value"
            raise UserError(
                sentence(f"settings: {shown(key)}: {quoted(value)} is not {said}")
            ) from None
    return dict(sorted(found.items()))


def confined(request: JobRequest, root: Path, models: Sequence[Path] = ()) -> None:
    """Raises Refused where a request that came over the network names a path outside `root`.

    On the command line a skill may be a Python file and data any path: whoever types it owns the
    machine. Over the network the same request could run any file and read any folder.

    Args:
        models: folders whose bases may be named by path.
    """
    if request.trainer is not None:
        raise Refused("A request does not say which program trains.", key="trainer")
    if request.skill and request.skill not in skill_names():
        raise Refused("A skill is given by its name here, not as a file.", key="skill")
    top = root.resolve()
    if request.data and not _is_below(top / "data" / request.data, [top]):
        raise Refused("data is given by its name here, not as a path.", key="data")
    allowed = [top, HOME / EMBEDDED, *(folder.resolve() for folder in models)]
    for name in PATHS:
        said = request.settings.get(name)
        if said is None:
            continue
        text = str(said)
        odd = "\\" in text or text.startswith("~") or ".." in Path(text).parts
        if odd or not _is_below(top / text, allowed):
            raise Refused(
                f"settings: {name} is {quoted(said)}, which is outside this server's folder.",
                key=name,
            )


def _is_shallow(value: Any) -> bool:
    """Whether JSON is not nested beyond what every later reader of it can follow."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            item for held in level if isinstance(held, Mapping | list | tuple)
            for item in (held.values() if isinstance(held, Mapping) else held)
        ]  # fmt: skip
    return not level


def _is_below(place: Path, folders: Sequence[Path]) -> bool:
    """Whether a path, followed to its end, is one of the folders or in one."""
    found = place.resolve()
    return any(found.is_relative_to(folder) for folder in folders)


def training_flags(request: JobRequest) -> list[str]:
    """The settings as flags of `livery train`. They outrank every file and variable that the
    process will find.

    Raises:
        UserError: two settings contradict each other.
    """
    read = {name: _OPTIONS[name].kind.read(value) for name, value in request.settings.items()}
    resolve(read, environment={}, search=False)
    flags = [f"--backend={request.backend}"]
    for name, value in read.items():
        option = _OPTIONS[name]
        if isinstance(option.kind, Switch):
            yes, _, no = option.flags[0].partition("/")
            flags.append(yes if value else no)
        else:
            flags.append(f"{option.flags[0]}={_word(option, request.settings[name], value)}")
    return flags


def _word(option: Option, raw: Any, value: Any) -> str:
    """A value as a shell would have it."""
    if isinstance(option.kind, Names | Several | Columns):
        return ",".join(value) or "none"
    if isinstance(option.kind, Variables):
        return json.dumps(value)
    if isinstance(option.kind, Choice) and isinstance(raw, bool):
        return "on" if raw else "off"
    return str(raw)


def check_name(what: str, name: str) -> None:
    """Raises UserError where a name could lead out of its folder, or be another adapter's zip."""
    if not _NAME.fullmatch(name) or name.lower().endswith((".", "-", ".zip")):
        raise UserError(
            f"{what} is {quoted(name)}; take up to 100 letters, digits, dots, dashes and "
            "underscores. It begins with a letter, digit or underscore, and does not end in a dot, "
            "a dash or .zip."
        )


def _default_name(skill: str | None, data: str | None) -> str:
    return Path(data or skill or "").name.removesuffix(".py").removesuffix(".jsonl")


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(_unknown(what, value, known))


def _unknown(what: str, name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
    return f"{what}: there is no {quoted(name)}. {hint}"


def _by_key() -> dict[str, Option]:
    found: dict[str, Option] = {}
    for option in OPTIONS:
        for key in (option.name, option.key, *option.also, option.parameter):
            found.setdefault(key, option)
    return found


_OPTIONS = _by_key()
