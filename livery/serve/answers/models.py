"""The names under which a server's adapters answer, and which skill each was trained for.

base           the server's base, without an adapter
NAME           the adapter in root/adapters/NAME
NAME:base      the base that it was trained on, prompted as the adapter is
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livery.errors import quoted
from livery.serve import adapters
from livery.serve.errors import NotFound
from livery.serve.settings import ServeSettings

BASE = "base"
_UNTUNED = f":{BASE}"


@dataclass(frozen=True)
class Model:
    """What answers.

    Attributes:
        settings: of the server.
        name: as it was asked for.
        adapter: its folder; None for "base".
        tuned: whether the adapter is on.
    """

    settings: ServeSettings
    name: str
    adapter: Path | None = None
    tuned: bool = True

    @property
    def skill(self) -> str:
        """The adapter's; "" where it is not known. Read from its files."""
        return skill_of(self.settings, self.adapter) if self.adapter is not None else ""


def all_models(settings: ServeSettings) -> Iterator[Model]:
    """The base and the adapters, by name."""
    yield Model(settings, BASE, tuned=False)
    for name in sorted(adapter.name for adapter in adapters.every(settings)):
        yield Model(settings, name, settings.adapters / name)


def find_model(settings: ServeSettings, name: str) -> Model:
    """What `name` means.

    Raises:
        NotFound: there is no such adapter.
    """
    if name == BASE:
        return Model(settings, name, tuned=False)
    of, untuned, rest = name.partition(_UNTUNED)
    try:
        if rest:
            raise NotFound("")
        return Model(settings, name, adapters.find(settings, of), not untuned)
    except NotFound:
        known = ", ".join(model.name for model in all_models(settings))
        raise NotFound(
            f"There is no model {quoted(name)}; there are: {known}.", key="model"
        ) from None


def skill_of(settings: ServeSettings, adapter: Path) -> str:
    """The skill that an adapter was trained for: as its files say, else its folder's name where
    that is one's; "" where nothing says."""
    from livery.skills import skill_names

    found = adapters.describe(settings, adapter).skill
    return found or (adapter.name if adapter.name in skill_names() else "")
