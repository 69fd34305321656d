"""From logged answers to a better adapter, for every skill: log, weak answers, review, retraining
by a button or a schedule, promotion only of what is shown to be better, and the way back.

What is known between restarts is in root/.livery/improve.json: whether answers are logged, and the
schedules. The work is that of `livery data review` and `merge`, `livery promote`, and of jobs.
"""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from livery.errors import UserError
from livery.files import explain_os_errors, write_json
from livery.interactions import Log
from livery.serve import adapters
from livery.serve.answers import models
from livery.serve.commands import livery as run_livery
from livery.serve.errors import Conflict, NotFound, Refused
from livery.serve.jobs import store as job_store
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.request import JobRequest
from livery.serve.known import facts
from livery.serve.settings import ServeSettings
from livery.skills import skill_names

LONGEST = 60_000  # characters of an answer: it is an argument of a command
_NEXT = "-next-"  # before the number of a retrained adapter, and of its data
_changing = threading.Lock()

Choice = Literal["approve", "correct", "drop"]


@dataclass(frozen=True)
class Schedule:
    """When an adapter is trained anew.

    Attributes:
        hours: from one time to the next.
        due: the next time, in seconds since 1970.
        approve_marked: users' marks decide, as `livery data review --approve-marked` has it.
        said: what came of the last time.
    """

    hours: float
    due: float
    approve_marked: bool = False
    said: str = ""


# -- the log ---------------------------------------------------------------------------------------


def log_file(settings: ServeSettings) -> Path:
    """Where answers are logged, if they are."""
    return settings.log or settings.state / "interactions.jsonl"


def is_logging(settings: ServeSettings) -> bool:
    """Whether answers are logged: as somebody said last, else as the server was started."""
    said = _state(settings).get("log")
    return said if isinstance(said, bool) else settings.log is not None


def set_logging(settings: ServeSettings, on: bool) -> None:
    """Log answers from now on, or stop to; what is in the log stays."""
    _change(settings, log=on)


def weak(settings: ServeSettings, adapter: str, *, every: bool = False) -> dict[str, Any]:
    """What `livery data review --json` finds of an adapter: weak and marked answers first of all.

    Args:
        every: also those that nothing speaks against.
    """
    words = _review_words(settings, adapter)
    if not log_file(settings).exists():
        return {"interactions": [], "notes": []}
    found = run_livery(*words, *(["--all"] if every else []), cwd=settings.root)
    mine = [one for one in found["interactions"] if _is_of(one, adapter)]
    return {"interactions": mine, "notes": found["notes"]}


def mark(settings: ServeSettings, id: str, verdict: Literal["good", "bad"], corrected: str) -> None:
    """Put a user's word on an answer. Raises NotFound where none can be in the log."""
    path = log_file(settings)
    if not path.exists():
        raise NotFound("Nothing has been logged yet.", key="id")
    Log(path).mark(id, verdict, corrected)


def decide(settings: ServeSettings, adapter: str, id: str, choice: Choice, answer: str) -> None:
    """Decide on an answer, as a reviewer.

    Raises:
        UserError: it is not there, or the skill's contract refuses the answer.
    """
    if len(answer) > LONGEST or "\0" in answer:
        raise Refused(f"answer has more than {LONGEST:,} characters, or a null.", key="answer")
    if not log_file(settings).exists():
        raise NotFound("Nothing has been logged yet.", key="id")
    words = (f"--decide={id}", f"--choice={choice}", f"--answer={answer}", "--by=the web page")
    run_livery(*_review_words(settings, adapter), *words, cwd=settings.root)


# -- retraining, promotion, the way back -----------------------------------------------------------


def retrain(
    settings: ServeSettings,
    jobs: Jobs,
    adapter: str,
    *,
    data: str | None = None,
    train: dict[str, Any] | None = None,
    approve_marked: bool = False,
    promote: bool = True,
) -> Job:
    """Queue the training of an adapter on its data and all that was approved since.

    Args:
        data: a dataset, in place of the one that it was trained on.
        train: settings of training, in place of those it was trained with.
        approve_marked: let users' marks decide first.
        promote: it takes the adapter's place if it is shown to be better.

    Raises:
        Conflict: nothing was approved since, or a retraining has not ended.
    """
    skill = skill_of(settings, adapter)
    done = jobs.list(name=adapter, state=job_store.DONE)
    former = next((job for job in done if "train" in job.request.steps), None)
    if any(_base_name(job.name) == adapter for job in jobs.list(state=job_store.ACTIVE)):
        raise Conflict(f"{adapter} is being retrained already.", key="adapter")
    path = log_file(settings)
    if not path.exists():
        raise Conflict("Nothing has been logged yet, so there is nothing to learn from.")
    if approve_marked:
        run_livery(*_review_words(settings, adapter), "--approve-marked", cwd=settings.root)
    start = data or (former.request.data if former else None) or skill
    newest = _newest(settings.data, start) or start
    number = 1 + max(_number(newest), _number(_newest(settings.adapters, adapter) or ""))
    fresh = f"{_base_name(newest)}{_NEXT}{number}"
    try:
        merged = run_livery(
            "data", "merge", str(path), f"--skill={skill}", f"--data=data/{newest}",
            f"--out=data/{fresh}", "--replace", "--overwrite", cwd=settings.root,
        )  # fmt: skip
    except UserError as error:  # nothing is approved, most of the time
        raise Conflict(str(error).replace(f"{settings.root}/", "")) from None
    if not merged["added"]:
        raise Conflict(f"Nothing was approved that data/{newest} does not have.", left_out=merged)
    used = train if train is not None else dict(former.request.settings) if former else {}
    base = adapters.describe(settings, adapters.find(settings, adapter)).base
    steps = ("train", "convert", "pack", *(["promote"] if promote else []))
    request = JobRequest(
        skill=skill, data=fresh, name=f"{adapter}{_NEXT}{number}", steps=steps,
        settings={"model": base, **used} if base else used,
        backend=former.request.backend if former else "auto",
        engine=former.request.engine if former else None, over=adapter if promote else None,
    )  # fmt: skip
    return jobs.submit(request)


def promote(settings: ServeSettings, jobs: Jobs, adapter: str, new: str) -> Job:
    """Queue the comparison of two adapters; the new one takes the place if it is better."""
    skill = skill_of(settings, adapter)
    adapters.find(settings, new)
    if new == adapter:
        raise Refused("new is the adapter itself.", key="new")
    return jobs.submit(JobRequest(skill=skill, name=new, steps=("promote",), over=adapter))


def roll_back(settings: ServeSettings, adapter: str) -> dict[str, Any]:
    """Give an adapter's folder what it held before the last promotion."""
    adapters.find(settings, adapter)
    return run_livery("promote", f"--roll-back=adapters/{adapter}", cwd=settings.root)


def overview(settings: ServeSettings, jobs: Jobs, adapter: str) -> dict[str, Any]:
    """Everything about the improvement of one adapter, the newest retraining first."""
    folder = adapters.find(settings, adapter)
    planned = schedule(settings, adapter)
    kept = folder.with_name(f"{adapter}.kept")
    return {
        "adapter": adapter,
        "skill": models.skill_of(settings, folder) or None,
        "logging": is_logging(settings),
        "schedule": asdict(planned) if planned else None,
        "promotion": facts(folder / "promotion.json") or None,
        "kept": sorted(path.name for path in kept.glob("[0-9]*")) if kept.is_dir() else [],
        "jobs": [
            {"id": job.id, "name": job.name, "state": job.state, "step": job.step,
             "cause": job.cause and job.cause.detail}
            for job in jobs.list(200) if job.request.over == adapter or (
                _NEXT in job.name and _base_name(job.name) == adapter)
        ],
    }  # fmt: skip


def skill_of(settings: ServeSettings, adapter: str) -> str:
    """The skill of an adapter.

    Raises:
        NotFound: there is no such adapter.
        Conflict: it does not say what it is for.
    """
    skill = models.skill_of(settings, adapters.find(settings, adapter))
    if skill not in skill_names():
        raise Conflict(
            f"{adapter} does not say which skill it is for. Evaluate it (a job with the step eval) "
            "or train it on data whose manifest.json names the skill.",
            key="adapter",
        )
    return skill


# -- schedules -------------------------------------------------------------------------------------


def schedule(settings: ServeSettings, adapter: str) -> Schedule | None:
    """An adapter's schedule."""
    return schedules(settings).get(adapter)


def schedules(settings: ServeSettings) -> dict[str, Schedule]:
    """Every schedule, by adapter."""
    return {name: Schedule(**one) for name, one in _state(settings).get("schedules", {}).items()}


def set_schedule(settings: ServeSettings, adapter: str, planned: Schedule | None) -> None:
    """Plan an adapter's training, or no longer."""
    if planned is not None:
        skill_of(settings, adapter)
    with _changing:
        _keep(settings, adapter, planned)


def _keep(settings: ServeSettings, adapter: str, planned: Schedule | None) -> None:
    before = schedules(settings)
    if planned is None and adapter not in before:
        return
    every = {name: asdict(one) for name, one in before.items() if name != adapter}
    if planned is not None:
        every[adapter] = asdict(planned)
    _write(settings, {**_state(settings), "schedules": every})


def run_due(settings: ServeSettings, jobs: Jobs, now: float) -> list[str]:
    """Retrain what is due; returns which. What was due several times meanwhile is due once."""
    done: list[str] = []
    for name, one in schedules(settings).items():
        if one.due > now:
            continue
        try:
            said = f"job {retrain(settings, jobs, name, approve_marked=one.approve_marked).id}"
        except UserError as error:  # nothing new, most of the time; or the adapter is gone
            said = str(error)
        again = Schedule(one.hours, now + 3600 * one.hours, one.approve_marked, said)
        with _changing:
            if schedule(settings, name) == one:  # nobody planned otherwise meanwhile
                _keep(settings, name, again)
        done.append(name)
    return done


def _review_words(settings: ServeSettings, adapter: str) -> list[str]:
    skill = skill_of(settings, adapter)
    return ["data", "review", str(log_file(settings)), f"--skill={skill}"]


def _is_of(interaction: dict[str, Any], adapter: str) -> bool:
    """Whether an answer is the adapter's, or nobody said whose it is."""
    return (interaction.get("facts") or {}).get("adapter") in (None, adapter)


def _base_name(name: str) -> str:
    return re.sub(rf"{_NEXT}\d+$", "", name)


def _number(name: str) -> int:
    found = re.search(rf"{_NEXT}(\d+)$", name)
    return int(found[1]) if found else 0


def _newest(folder: Path, name: str) -> str | None:
    """Of what a retraining made of `name`, the newest."""
    made = [path.name for path in folder.glob(f"{_base_name(name)}{_NEXT}*") if path.is_dir()]
    return max((one for one in made if _number(one)), key=_number, default=None)


def _state(settings: ServeSettings) -> dict[str, Any]:
    return facts(settings.state / "improve.json")


def _change(settings: ServeSettings, **values: Any) -> None:
    with _changing:
        _write(settings, {**_state(settings), **values})


def _write(settings: ServeSettings, said: dict[str, Any]) -> None:
    place = settings.state / "improve.json"
    with explain_os_errors(place, "keeping what was set"):
        place.parent.mkdir(exist_ok=True)
    write_json(place, said)
