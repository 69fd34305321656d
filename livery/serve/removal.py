"""Runs, adapters and datasets taken away for good, unless a job or a process needs them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from livery.files import explain_os_errors
from livery.paths import RUN_CONFIG
from livery.serve import improve, review, runs, switches
from livery.serve.errors import Conflict
from livery.serve.jobs import steps, store
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.request import PATHS
from livery.serve.settings import ServeSettings

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
    _check_free(settings, jobs, f"The adapter {name}", places)
    if runs.is_running(folder):
        raise Conflict(f"A process works in adapters/{name}. Wait until it has ended.", key="name")
    # First, so that a server killed in between leaves nothing to an adapter of the same name.
    improve.set_schedule(settings, name, None)
    _delete(settings.adapters, places)


def remove_dataset(settings: ServeSettings, jobs: Jobs, name: str) -> None:
    """Delete data/NAME, with what reviewers thought of its rows.

    Raises:
        Conflict: a job that has not ended needs it, or it is a link.
    """
    place = settings.data / name
    _check_free(settings, jobs, f"The dataset {name}", (place,))
    # First, so that a server killed in between leaves nothing to a dataset of the same name.
    review.forget(settings, name)
    for made in (settings.state / "rows").glob(f"{name}-*.jsonl"):
        if made.name.removeprefix(f"{name}-").count("-") == 1:  # SPLIT-MARK, of no other dataset
            made.unlink(missing_ok=True)
    switches.forget(settings, name)
    _delete(settings.data, (place,))


def sweep(settings: ServeSettings) -> None:
    """Delete what a server that was killed had begun to delete."""
    for folder in (settings.adapters, settings.data):
        for place in folder.glob(f"{_GOING}*"):
            _erase(place)


def _check_free(settings: ServeSettings, jobs: Jobs, what: str, places: Sequence[Path]) -> None:
    if places[0].is_symlink():
        raise Conflict(f"{what} is a link. Remove it where it was made.", key="name")
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


def _delete(folder: Path, places: Sequence[Path]) -> None:
    """Take places out of sight, each at once and the first one last, and then erase them: until
    that one is gone, whoever asks again finds the rest."""
    with explain_os_errors(places[0], "deleting"):
        going: list[Path] = []
        for place in reversed(places):
            if os.path.lexists(place):
                going.append(folder / f"{_GOING}{secrets.token_hex(8)}")
                os.rename(place, going[-1])
        for place in going:
            _erase(place)


def _erase(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
