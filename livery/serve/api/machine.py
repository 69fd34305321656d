"""What this machine can do, and every setting that training takes."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter

from livery.config import settings as table
from livery.config.layers import FILE_NAME, own_file, resolve
from livery.config.options import Option
from livery.config.values import Choice, Columns, Integer, Names, Number, Several, Switch, Variables
from livery.serve.api.services import Livery, Services
from livery.serve.commands import livery as run_livery
from livery.serve.known import known
from livery.skills import skill_names

router = APIRouter(prefix="/api", tags=["machine"])
_one = threading.Lock()
# What the panel of settings calls its parts; what none of them names is in "run".
GROUPS = {
    "base": "model quantize dtype device attention compile check_base grad_checkpoint shard_base "
    "share_prefix backend threads",
    "data": "data valid_data columns train_on strict max_samples val_split max_length mask_prompt "
    "chat_template chat_template_kwargs template_date",
    "optimizer": "max_steps epochs batch_size grad_accum learning_rate schedule warmup_steps "
    "min_lr_ratio optimizer weight_decay beta1 beta2 eps max_grad_norm seed",
    "pairs": " ".join(table.PREFERENCE),
    "evaluation": "steps_per_eval eval_max_samples samples sample_tokens keep early_stop_patience "
    "early_stop_min_delta",
}


@dataclass(frozen=True)
class Machine:
    """What this machine can do.

    Attributes:
        facts: as `livery doctor --json` prints them.
        backends: that train here.
        engines: that answer here.
        devices: GPUs by name, or "cpu".
        bases: as `livery base list --json` prints them.
        skills: by name.
    """

    facts: dict[str, Any]
    backends: list[str]
    engines: list[str]
    devices: list[str]
    bases: dict[str, Any]
    skills: list[str]


@dataclass(frozen=True)
class Setting:
    """A setting of training.

    Attributes:
        default: with the base that comes with Livery; other bases may have another.
        min, max: bounds of a number; `above` and `below` say that they are not reached.
        choices: words to choose from.
        group: base, data, adapter, optimizer, pairs, evaluation or run.
    """

    name: str
    type: Literal["integer", "number", "boolean", "choice", "list", "mapping", "text"]
    default: Any
    min: float | None
    max: float | None
    above: bool
    below: bool
    choices: list[str] | None
    help: str
    group: str
    flag: str


@dataclass(frozen=True)
class Options:
    """Every setting of training."""

    options: list[Setting]


@router.get("/machine")
async def machine(livery: Livery, fresh: bool = False) -> Machine:
    """Engines, backends, bases and devices; looked up once, which takes some seconds."""
    return await livery.slowly(_look, livery, fresh)


def _look(livery: Services, fresh: bool) -> Machine:
    with _one:
        found = livery.shared.get("machine")
        if found is None or fresh:
            root = livery.settings.root
            facts = run_livery("doctor", cwd=root)
            found = _machine(facts, run_livery("base", "list", cwd=root))
            livery.shared["machine"] = found
        return found


def _machine(facts: dict[str, Any], bases: dict[str, Any]) -> Machine:
    mlx, torch = facts["mlx"], facts["torch"]
    engines = [name for name, one in (("mlx", mlx), ("torch", torch)) if one["usable"]]
    if importlib.util.find_spec("xllamacpp") is not None:
        engines.append("llamacpp")
    gpus: list[str] = [str(name) for name in torch.get("gpus", ())]
    if mlx["usable"] and mlx.get("device") == "gpu":
        gpus.append("mlx gpu")
    return Machine(
        facts, list(facts["can_train"]), engines, gpus or ["cpu"], bases, list(skill_names())
    )


@router.get("/options")
def options(livery: Livery) -> Options:
    """The settings of training, with type, default, bounds, choices and help."""
    own = livery.settings.root / FILE_NAME

    def read() -> Options:
        values = resolve({}, environment={}, file=own if own.is_file() else own_file()).settings
        return Options([_setting(o, values) for o in table.OPTIONS if _is_field(o, values)])

    return known.of(("options", own), [own], read)


def _is_field(option: Option, values: table.TrainSettings) -> bool:
    """Neither another way to give a field, nor what a job decides itself."""
    holder: Any = values.lora if option.name.startswith("lora.") else values
    ours = option.name not in ("output_dir", "data", "backend")
    return ours and hasattr(holder, option.name.removeprefix("lora."))


def _setting(option: Option, values: table.TrainSettings) -> Setting:
    kind: Any = option.kind
    holder: Any = values.lora if option.name.startswith("lora.") else values
    default = getattr(holder, option.name.removeprefix("lora."))
    choices: list[str] | None = None
    low, high = getattr(kind, "minimum", None), getattr(kind, "maximum", None)
    if isinstance(kind, Choice):
        words = [word for word, meaning in kind.values.items() if meaning == default]
        default = words[0] if words else default
        choices = list(kind.values)
    elif isinstance(kind, Several):
        choices = list(kind.choices)
    return Setting(
        name=option.name,
        type=_type(kind),
        default=list(default) if isinstance(default, tuple) else default,
        min=low,
        max=None if high == float("inf") else high,
        above=bool(getattr(kind, "above", False)),
        below=bool(getattr(kind, "below", False)),
        choices=choices,
        help=option.help,
        group=_group(option.name),
        flag=option.flags[0].partition("/")[0],
    )


def _type(kind: Any) -> Any:
    names = {
        Integer: "integer", Number: "number", Switch: "boolean", Choice: "choice", Names: "list",
        Several: "list", Columns: "mapping", Variables: "mapping",
    }  # fmt: skip
    return names.get(type(kind), "text")


def _group(name: str) -> str:
    if name.startswith("lora.") or name == "init_adapter":
        return "adapter"
    return next((group for group, names in GROUPS.items() if name in names.split()), "run")
