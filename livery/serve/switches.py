"""What is trained on: datasets, and kinds of rows within them, that are switched on and off.

A section is what a row's metadata call its kind. The switches are kept in
root/.livery/modules.json, as NAME or NAME/SECTION; what nobody switched is on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.files import explain_os_errors, write_json
from livery.serve.known import facts
from livery.serve.settings import ServeSettings

MADE = ".exported"  # in a dataset that an export wrote and the next one may replace
_SECTION = ("section", "scenario", "category", "kind")
_switching = threading.Lock()


def is_on(settings: ServeSettings, name: str) -> bool:
    """Whether a dataset is on."""
    return bool(_said(settings).get(name, True))


def sections_off(settings: ServeSettings, name: str) -> frozenset[str]:
    """The sections of a dataset that are off."""
    start = f"{name}/"
    said = _said(settings)
    return frozenset(
        key[len(start) :] for key, on in said.items() if key.startswith(start) and not on
    )


def switch(settings: ServeSettings, name: str, on: bool, section: str | None = None) -> None:
    """Switch a dataset on or off, or one of its sections."""
    key = name if section is None else f"{name}/{section}"
    place = _place(settings)
    with _switching, explain_os_errors(place, "keeping what was set"):
        place.parent.mkdir(exist_ok=True)
        write_json(place, _said(settings) | {key: on})


def forget(settings: ServeSettings, name: str) -> None:
    """Keep no switch of a dataset that is gone."""
    with _switching:
        said = _said(settings)
        kept = {key: on for key, on in said.items() if key.partition("/")[0] != name}
        if kept != said:
            write_json(_place(settings), kept)


def section_of(row: Mapping[str, Any]) -> str:
    """What kind of row it is: `metadata.section`, else `meta.scenario` and the like; "" unknown."""
    for key in ("metadata", "meta"):
        said: Any = row.get(key)
        if isinstance(said, dict):
            for name in _SECTION:
                if isinstance(kind := said.get(name), str) and kind:
                    return kind
    return str(row["category"]) if isinstance(row.get("category"), str) else ""


def _said(settings: ServeSettings) -> dict[str, Any]:
    return facts(_place(settings))


def _place(settings: ServeSettings) -> Path:
    return settings.state / "modules.json"
