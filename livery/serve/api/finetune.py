"""Training as the described system's page speaks it: /api/finetune, over the same functions.

Its names stay (`base_model`, `run_name`, `grad_accumulation_steps`, `iters`, `warmup`,
`max_seq_length`), and become settings of a job.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from livery.errors import UserError
from livery.models import EMBEDDED
from livery.serve import adapters, datasets, exports, finetune, runs
from livery.serve.answers.question import Question
from livery.serve.api.machine import options
from livery.serve.api.runs import described
from livery.serve.api.services import Livery, Services
from livery.serve.commands import livery as run_livery
from livery.serve.datasets import Dataset, Row
from livery.serve.errors import Conflict, NotFound, Refused
from livery.serve.finetune import Module, Section
from livery.serve.jobs.request import confined, read_request
from livery.serve.review import Status
from livery.serve.runs import Run
from livery.skills import skill_names

router = APIRouter(prefix="/api/finetune", tags=["finetune"])
SplitName = Literal["train", "valid", "test"]
# What the page calls a setting, and what a job does.
SETTINGS = {
    "base_model": "model", "rank": "lora.rank", "alpha": "lora.alpha", "scale": "lora.scale",
    "dropout": "lora.dropout", "batch_size": "batch_size", "iters": "iters",
    "grad_accumulation_steps": "grad_accum", "learning_rate": "learning_rate",
    "warmup": "warmup_steps", "max_seq_length": "max_length", "resume_adapter": "init_adapter",
}  # fmt: skip
LOADED = "finetune: loaded"
LONGEST_SECTION = 1000  # characters of its name
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Start(BaseModel):
    """A run to be started; what is left out has the defaults of `config`."""

    model_config = ConfigDict(extra="forbid")
    base_model: str | None = Field(None, max_length=1000)
    run_name: Name | None = None
    backend: Literal["auto", "mlx", "torch"] = "auto"
    rank: int | None = None
    alpha: float | None = None
    scale: float | None = None
    dropout: float | None = None
    batch_size: int | None = None
    grad_accumulation_steps: int | None = None
    learning_rate: float | None = None
    iters: int | None = Field(None, description="Micro-batches, as mlx-lm counts.")
    warmup: int | None = None
    max_seq_length: int | None = None
    resume_adapter: Name | None = Field(None, description="An adapter to start from, by name.")
    data: Name | None = Field(None, description="A dataset; by default the modules, exported.")
    overwrite: bool = False
    data_seed: int = Field(7, description="Of a skill's generator, as jobs have it.")
    attempts: int = Field(5, ge=1, le=1000, description="Starts of a step that is killed.")


class Enabled(BaseModel):
    """Whether a module is on, or one of its sections."""

    model_config = ConfigDict(extra="forbid")
    enabled: bool
    section: str | None = Field(None, max_length=LONGEST_SECTION)


class Load(BaseModel):
    """The adapter that answers `generate`; "base" for none."""

    model_config = ConfigDict(extra="forbid")
    run_name: Name


class Generate(BaseModel):
    """A prompt for the loaded adapter; or, without one, rows for a skill's generator to make."""

    model_config = ConfigDict(extra="forbid")
    prompt: str | None = Field(None, min_length=1, max_length=100_000)
    max_tokens: int = Field(256, ge=1, le=8192)
    temperature: float = Field(0.0, ge=0, le=2)
    skill: str | None = None
    module: Name | None = Field(None, description="The new dataset; by default SKILL-SEED.")
    count: int = Field(200, ge=1, le=100_000)
    seed: int = Field(7, ge=0, le=2**31)


class Approve(BaseModel):
    """Rows to approve: of a section, by their ids, or all that are new; or to reject, or to make
    new again."""

    model_config = ConfigDict(extra="forbid")
    module: Name
    split: SplitName = "train"
    section: str | None = Field(None, max_length=LONGEST_SECTION)
    ids: list[str] | None = Field(None, max_length=10_000)
    status: Status = "approved"


class StateSection(BaseModel):
    """A section of a state block."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    description: str = Field("", max_length=1000)
    metadata: dict[str, str] = {}
    facts: dict[str, str] = {}


class BuildState(BaseModel):
    """What a state block is to say."""

    model_config = ConfigDict(extra="forbid")
    sections: list[StateSection] = Field(min_length=1, max_length=200)
    closed: bool = True


@dataclass(frozen=True)
class Exported:
    """A dataset that was written, and its rows by split."""

    dataset: str
    rows: dict[str, int]


@dataclass(frozen=True)
class Unified:
    """Rows of all modules that are on."""

    total: int
    rows: list[dict[str, Any]]


@router.get("/models")
def list_models(livery: Livery) -> dict[str, Any]:
    """Bases that have a name."""
    from livery.bases.named import TABLE

    named = [{"id": one.name, "hub": one.hub, "parameters": one.parameters} for one in TABLE]
    return {"models": [{"id": EMBEDDED, "hub": None, "parameters": None}, *named],
            "default": EMBEDDED}  # fmt: skip


@router.get("/runs")
def list_runs(livery: Livery) -> dict[str, list[Run]]:
    """Runs, the newest first."""
    return {"runs": described(livery, runs.folders(livery.settings)[:200])}


@router.get("/config")
def config(livery: Livery) -> dict[str, Any]:
    """What `start` takes, with the values that are used where it says nothing."""
    values = {one.name: one.default for one in options(livery).options}
    mine = {key: values.get(name) for key, name in SETTINGS.items()}
    mine["scale"] = values["lora.alpha"] / values["lora.rank"]
    mine["iters"] = values["max_steps"] * values["grad_accum"] or None
    return {"config": mine, "settings": values}


@router.get("/data")
async def list_data(livery: Livery) -> dict[str, list[Module]]:
    """The modules, and which are on."""
    return {"modules": await livery.slowly(finetune.modules, livery.settings)}


@router.get("/datasets")
def list_datasets(livery: Livery) -> dict[str, list[Dataset]]:
    """Every dataset, exports included."""
    return {"datasets": datasets.every(livery.settings)}


@router.get("/export/stats")
async def export_stats(livery: Livery) -> dict[str, Any]:
    """How many rows an export would have."""
    found = await livery.slowly(finetune.modules, livery.settings)
    on = [one for one in found if one.enabled]

    def count() -> int:
        return sum(finetune.rows_on(livery.settings, one, "train") for one in on)

    return {
        "modules": {one.name: one.rows for one in found},
        "enabled": [one.name for one in on],
        "total": await livery.slowly(count),
    }


@router.get("/load/status")
def load_status(livery: Livery) -> dict[str, Any]:
    """Which adapter answers `generate`, and whether its engine runs."""
    pid = livery.host.pid
    return {"loaded": livery.shared.get(LOADED), "running": pid is not None}


@router.get("/modules/{name}/preview")
async def preview(
    name: str,
    livery: Livery,
    split: SplitName = "train",
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    section: Annotated[str | None, Query(max_length=LONGEST_SECTION)] = None,
) -> dict[str, Any]:
    """The first rows of a module, or of one of its sections."""
    some = functools.partial(datasets.rows, offset=offset, limit=limit, section=section)
    found, total = await livery.slowly(some, livery.settings, name, split)
    return {"module": name, "split": split, "total": total, "rows": found}


@router.get("/modules/{name}/sections")
async def list_sections(
    name: str, livery: Livery, split: SplitName = "train"
) -> dict[str, list[Section]]:
    """The kinds of rows in a module, with how many of each are approved."""
    return {"sections": await livery.slowly(finetune.sections, livery.settings, name, split)}


@router.put("/modules/{name}/enabled")
async def enable(name: str, said: Enabled, livery: Livery) -> Module:
    """Switch a module on or off, or one of its sections: whether the next export has its rows."""
    return await livery.slowly(finetune.enable, livery.settings, name, said.enabled, said.section)


@router.get("/unified")
async def unified(
    livery: Livery,
    split: SplitName = "train",
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Unified:
    """Rows of all modules that are on, one after the other."""
    found, total = await livery.slowly(finetune.unified, livery.settings, split, offset, limit)
    return Unified(total, [_row(module, row) for module, row in found])


@router.post("/start", status_code=202)
async def start(said: Start, livery: Livery) -> dict[str, str]:
    """Export the modules that are on, and queue a job that trains on them."""
    return await livery.slowly(_start, said, livery)


def _start(said: Start, livery: Services) -> dict[str, str]:
    settings: dict[str, Any] = {
        name: value for key, name in SETTINGS.items()
        if (value := getattr(said, key)) is not None
    }  # fmt: skip
    if said.resume_adapter is not None:
        adapters.find(livery.settings, said.resume_adapter)
        settings["init_adapter"] = f"adapters/{said.resume_adapter}"
    data = said.data or finetune.COMBINED
    if said.data is not None:
        datasets.describe(livery.settings, data)
    try:
        request = read_request(
            {
                "data": data,
                "name": said.run_name or "aios",
                "backend": said.backend,
                "settings": settings,
                "overwrite": said.overwrite,
                "data_seed": said.data_seed,
                "attempts": said.attempts,
            }
        )
        confined(request, livery.settings.root, livery.settings.models)
    except UserError as error:
        raise _by_its_name(error) from None
    if said.data is None:
        finetune.export(livery.settings)
    job = livery.jobs.submit(request)
    return {"status": job.state, "job": job.id, "run_name": job.name}


def _by_its_name(error: UserError) -> UserError:
    """What is wrong with a setting, by the name that it has here."""
    said = str(error).removeprefix("settings: ")
    for key, name in SETTINGS.items():
        if said.startswith((f"{name}: ", f"{name} is ")):
            return Refused(key + said.removeprefix(name), key=key)
    return error


@router.post("/export")
async def export(livery: Livery) -> Exported:
    """Write the rows of all modules that are on into the dataset aios_combined."""
    return Exported(*await livery.slowly(finetune.export, livery.settings))


@router.post("/export/{thread}")
async def export_one(thread: str, livery: Livery) -> Exported:
    """Write the rows of one module (MODULE_train), of the generated ones (base → aios_base), or
    those that were approved (approved → user_approved)."""
    return Exported(*await livery.slowly(finetune.export, livery.settings, thread))


@router.post("/load")
def load(said: Load, livery: Livery) -> dict[str, Any]:
    """Choose the adapter that answers `generate`; its engine starts with the first question."""
    if said.run_name != "base":
        adapters.find(livery.settings, said.run_name)
    livery.shared[LOADED] = said.run_name
    return load_status(livery)


@router.post("/generate")
async def generate(said: Generate, livery: Livery) -> dict[str, Any]:
    """Answer a prompt with the loaded adapter; or make rows of a skill as a new module."""
    if said.prompt is None:
        return await livery.slowly(_make_rows, livery, said)
    loaded = livery.shared.get(LOADED)
    if loaded is None:
        raise Conflict("No adapter is loaded. POST /api/finetune/load says which.")
    folder = None if loaded == "base" else str(adapters.find(livery.settings, loaded))
    question = Question(
        messages=({"role": "user", "content": said.prompt},),
        adapter=folder,
        max_tokens=said.max_tokens,
        temperature=said.temperature,
        seed=secrets.randbelow(2**31) if said.temperature else 0,
    )
    answer = await livery.host.ask(question).whole()
    return {"run_name": loaded, "text": answer.text, "tokens": answer.tokens,
            "seconds": answer.seconds}  # fmt: skip


@router.post("/sections/generated/approve")
async def approve(said: Approve, livery: Livery) -> dict[str, int]:
    """Approve generated rows: a section, some by their ids, or all that are new."""
    approve = functools.partial(
        finetune.approve, section=said.section, ids=said.ids, status=said.status
    )
    count = await livery.slowly(approve, livery.settings, said.module, said.split)
    return {said.status: count}


@router.post("/build-state")
def build_state(said: BuildState) -> dict[str, str]:
    """A state block as the skill state reads it, written from its sections."""
    from livery.skills import state

    found = tuple(
        state.Section(
            one.name,
            one.description,
            (
                *(state.Field(k, v, "metadata", one.name) for k, v in one.metadata.items()),
                *(state.Field(k, v, "fact", one.name) for k, v in one.facts.items()),
            ),
        )
        for one in said.sections
    )
    try:
        return {"state": state.write_block(state.Block(found, said.closed))}
    except ValueError as error:
        raise UserError(f"{error}.") from None


def _make_rows(livery: Services, said: Generate) -> dict[str, Any]:
    skill = said.skill
    if skill not in skill_names():
        raise NotFound(f"Give a prompt, or a skill: {', '.join(skill_names())}.", key="skill")
    name = said.module or f"{skill}-{said.seed}"

    def fill(folder: Any) -> None:
        words = ("data", str(skill), "--out", str(folder / "rows"), f"--seed={said.seed}")
        run_livery(*words, f"--count={said.count}", cwd=livery.settings.root)
        for path in (folder / "rows").iterdir():
            path.rename(folder / path.name)
        (folder / "rows").rmdir()

    exports.add(livery.settings, name, fill)
    return {"module": finetune.module(livery.settings, name)}


def _row(module: str, row: Row) -> dict[str, Any]:
    return {"module": module, **vars(row)}
