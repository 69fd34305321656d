"""A job as a request over HTTP may ask for it: everything by name, nothing outside the root.

On the command line a skill may be a Python file and data any path: whoever types it owns the
machine. Over HTTP the same request could run any file and read any folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.errors import quoted
from livery.paths import HOME
from livery.serve.errors import Refused
from livery.serve.jobs.request import JobRequest, read_request
from livery.serve.settings import ServeSettings, inside
from livery.skills import skill_names

# Settings whose value may be a path.
PLACES = ("model", "valid_data", "init_adapter", "chat_template")


def job_request(settings: ServeSettings, said: Mapping[str, Any]) -> JobRequest:
    """The job that a request asks for.

    Raises:
        UserError: see `JobRequest`; or something is named by a path that leads out of the root.
    """
    skill, data = said.get("skill"), said.get("data")
    if isinstance(skill, str) and skill not in skill_names():
        raise Refused(
            f"skill is {quoted(skill)}; choose one of: {', '.join(skill_names())}.", key="skill"
        )
    if isinstance(data, str):
        inside(settings.data, data, what="dataset")
    request = read_request(said)
    for name in PLACES:
        value = request.settings.get(name)
        if isinstance(value, str):
            check_place(settings, name, value)
    return request


def check_place(settings: ServeSettings, name: str, value: str) -> None:
    """Raises Refused where a value is a path that leads out of the root and of the folders of
    models. What is not there is no path, but the name of a model on a hub or in a table."""
    given = Path(value)
    plain = not given.is_absolute() and not value.startswith(("~", ".")) and "\\" not in value
    if plain and ".." not in given.parts and not (settings.root / given).exists():
        return
    place = (settings.root / given).resolve()
    allowed = (settings.root, *settings.models, HOME / "base_model")
    if value.startswith("~") or not any(place.is_relative_to(top) for top in allowed):
        raise Refused(
            f"{name} is {quoted(value)}, which is outside the folder that is served. Name a model, "
            "or start the server with --models DIR.",
            key=f"settings.{name}",
        )
