"""Skills as services: the keys of a command, and how dangerous a command or an answer is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from livery.errors import UserError, quoted
from livery.serve.answers import asking, hybrid
from livery.serve.answers.finish import guarded
from livery.serve.answers.models import all_models
from livery.serve.api.services import Livery
from livery.serve.errors import NotFound, Unavailable
from livery.skills import get_skill, skill_names

router = APIRouter(prefix="/v1", tags=["skills"])

LONGEST_TEXT, LONGEST_COMMAND = 4_000, 65_536  # characters
Name = Annotated[str, Field(max_length=128)]


class Command(BaseModel):
    """A command whose date keys are wanted; adapter and classifier are found where not named."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    adapter: Name | None = None
    fasttext: Name | None = None


class Said(BaseModel):
    """What a user says to a skill."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_COMMAND)]


class ToJudge(BaseModel):
    """A shell command, or an assistant's answer with the turns before it."""

    model_config = ConfigDict(extra="forbid")
    command: Annotated[str, Field(max_length=LONGEST_COMMAND)] | None = None
    answer: Annotated[str, Field(max_length=LONGEST_COMMAND)] | None = None
    shell: Literal["auto", "bash", "powershell"] = "auto"
    asked: Annotated[str, Field(max_length=LONGEST_COMMAND)] | None = None
    said: Annotated[str, Field(max_length=LONGEST_COMMAND)] = ""

    @model_validator(mode="after")
    def _one(self) -> ToJudge:
        if (self.command is None) == (self.answer is None):
            raise ValueError("give either a command or an answer")
        if self.command is not None and (self.asked is not None or self.said):
            raise ValueError("asked and said belong to an answer")
        return self


@router.get("/skills")
def list_skills() -> dict[str, list[asking.Asking]]:
    """How each skill is asked: system prompt, `response_format`, an example."""
    return {"skills": asking.every()}


@router.post("/skills/{skill}/messages")
def put_in_messages(skill: str, said: Said) -> dict[str, list[dict[str, Any]]]:
    """What a user says, as the messages that an adapter of the skill was trained on."""
    return {"messages": asking.messages_of(skill, said.text)}


@router.get("/adapters/{skill}")
def get_vocabulary(skill: str, livery: Livery) -> dict[str, Any]:
    """What a program must know of a skill's answers: date-keys, actions."""
    found = get_skill(skill).vocabulary if skill in skill_names() else None
    if found is None:
        raise NotFound(f"There is no vocabulary of {quoted(skill)}.", key="skill")
    return found(any(model.skill == skill for model in all_models(livery.settings)))


@router.post("/date-keys")
async def find_date_keys(command: Command, livery: Livery) -> hybrid.Found:
    """The date and time keys of a command, and whether FastText or the adapter found them."""

    def start() -> tuple[hybrid.Hybrid, hybrid.Found | None]:
        made = hybrid.Hybrid(
            hybrid.find_adapter(livery.settings, command.adapter),
            hybrid.find_fasttext(livery.settings, command.fasttext),
        )
        kept: hybrid.Classifiers = livery.shared.setdefault("classifiers", hybrid.Classifiers())
        return made, made.sure(command.text, kept)

    made, found = await run_in_threadpool(start)
    return found or await made.ask(command.text, livery.host)


@router.post("/guard")
def judge(asked: ToJudge) -> JSONResponse:
    """How dangerous a command is and why, or what becomes of each tag of an answer."""
    from livery.skills.actions.guard import classify, guard

    try:
        if asked.command is not None:
            return JSONResponse(classify(asked.command, asked.shell).as_dict())
        found = guard(asked.answer or "", asked=asked.asked, said=asked.said, shell=asked.shell)
        return JSONResponse(guarded(found))
    except UserError as error:  # the extra is not installed
        raise Unavailable(str(error)) from None
