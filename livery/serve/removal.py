"""Runs, adapters and datasets taken away for good, unless a job or a process needs them.

From the look for those who need it until it is out of sight, no job is added or changes its state,
and of a run or an adapter no process takes the folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from livery.errors import UserError
from livery.files import explain_os_errors
from livery.paths import RUN_CONFIG
from livery.serve import improve, review, runs, switches
from livery.serve.errors import Conflict
from livery.serve.jobs import steps, store
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.request import PATHS
from livery.serve.settings import ServeSettings
from livery.training.run_lock import locked

# In front of the name of what is being deleted: no request can name it, and no list has it.
_GOING = ".deleted-"
_ADAPTER = ("adapter_config.json", "mlx", "gguf")  # what a folder of an adapter has one of


def remove_adapter(settings: ServeSettings, jobs: Jobs, name: str) -> None:
    """Delete adapters/NAME, a run and its adapter, with its zip, what its promotions keep, and its
    schedule.

    Args:
        name: of a folder that is there.

    Raises:
        Conflict: a job that has not ended needs it, a process works in it, or it is a link.
    """
    folder = settings.adapters / name
    places, packed = [folder], settings.adapters / f"{name}.zip"
    if not packed.is_dir():  # else an adapter of that name
        places.append(packed)
    kept = settings.adapters / f"{name}.kept"
    if not any((kept / file).exists() for file in (RUN_CONFIG, *_ADAPTER)):  # else one of that name
        places.append(kept)
    what = f"The adapter {name}"
    _check_link(what, folder)
    with _held(folder, name):
        with store.still(jobs.engine):
            _check_free(settings, jobs, what, places)
            # First, so that a server killed in between leaves nothing to an adapter of this name.
            improve.set_schedule(settings, name, None)
            going = _hide(settings.adapters, places)
        _erase(going)


def remove_dataset(settings: ServeSettings, jobs: Jobs, name: str) -> None:
    """Delete data/NAME, with what reviewers thought of its rows.

    Raises:
        Conflict: a job that has not ended needs it, or it is a link.
    """
    what, place = f"The dataset {name}", settings.data / name
    _check_link(what, place)
    with store.still(jobs.engine):
        _check_free(settings, jobs, what, (place,))
        # First, so that a server killed in between leaves nothing to a dataset of the same name.
        review.forget(settings, name)
        for made in (settings.state / "rows").glob(f"{name}-*.jsonl"):
            # SPLIT-MARK, of no other dataset
            if made.name.removeprefix(f"{name}-").count("-") == 1:
                made.unlink(missing_ok=True)
        switches.forget(settings, name)
        going = _hide(settings.data, (place,))
    _erase(going)


def sweep(settings: ServeSettings) -> None:
    """Delete what a server that was killed had begun to delete."""
    for folder in (settings.adapters, settings.data):
        _erase([*folder.glob(f"{_GOING}*")])


@contextlib.contextmanager
def _held(folder: Path, name: str) -> Generator[None]:
    """The folder's lock. Raises Conflict where a process has it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, "deleting it"))
        except UserError:
            if not runs.is_running(folder):
                raise
            raise Conflict(
                f"A process works in adapters/{name}. Wait until it has ended.", key="name"
            ) from None
        yield


def _check_link(what: str, place: Path) -> None:
    if place.is_symlink():
        raise Conflict(f"{what} is a link. Remove it where it was made.", key="name")


def _check_free(settings: ServeSettings, jobs: Jobs, what: str, places: Sequence[Path]) -> None:
    for job in jobs.list(state=store.ACTIVE):
        if any(_within(used, place) for used in _used(settings, job) for place in places):
            raise Conflict(
                f"{what} is needed by job {job.id}, which is {job.state}. Cancel it, or wait until "
                "it has ended.",
                key="name",
            )


def _used(settings: ServeSettings, job: Job) -> Iterator[Path]:
    """What a job reads and writes in the folder that is served."""
    yield job.run_folder
    if job.request.over:
        yield settings.adapters / job.request.over
    if job.request.data or job.request.skill:
        yield settings.root / steps.data_of(job.request)
    for name in PATHS:
        if said := job.request.settings.get(name):
            yield Path(os.path.normpath(settings.root / str(said)))


def _within(used: Path, place: Path) -> bool:
    """Whether a path is in a place, as it is written or by the links on its way."""
    return used.is_relative_to(place) or used.resolve().is_relative_to(place.resolve())


def _hide(folder: Path, places: Sequence[Path]) -> list[Path]:
    """Take places out of sight, each at once and the first one last: until that one is gone,
    whoever asks again finds the rest. Returns where they are now."""
    going: list[Path] = []
    with explain_os_errors(places[0], "deleting"):
        for place in reversed(places):
            if os.path.lexists(place):
                going.append(folder / f"{_GOING}{secrets.token_hex(8)}")
                os.rename(place, going[-1])
    return going


def _erase(places: Sequence[Path]) -> None:
    for place in places:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            with explain_os_errors(place, "deleting"):
                place.unlink(missing_ok=True)
