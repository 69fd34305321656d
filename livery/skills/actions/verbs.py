"""The verbs of [ACTION] tags: their aliases, whether they take an argument, and a user's own.

table = VERBS.extended({"lights_on": {"aliases": ["lamp_on"], "about": "a room's name"}})
table.verb("Lamp On").name          # "lights_on"
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from livery.errors import UserError, shown
from livery.reading import read_object

Takes = Literal["required", "optional", "none"]
# What a runtime does with the argument: nothing but the verb's own act, run it as a command of the
# shell, or run it as code.
Runs = Literal["", "shell", "code"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: as it is written in training data.
        aliases: other names that are read as it, never written.
        takes: whether an argument follows the colon.
        about: what the argument is, for the prompt and for messages.
        runs: "shell" where the argument is a command line that the runtime executes, "code" where
            it is a program's text; "" for every other verb.
    """

    name: str
    aliases: tuple[str, ...] = ()
    takes: Takes = "required"
    about: str = ""
    runs: Runs = ""

    def __post_init__(self) -> None:
        """Raises ValueError where a name or `takes` is none."""
        for name in (self.name, *self.aliases):
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a valid verb: use lower-case letters, digits and _, and "
                    "begin with a letter"
                )
        if self.takes not in get_args(Takes):
            raise ValueError(f"takes is {self.takes!r}; it must be {', '.join(get_args(Takes))}")
        if self.runs not in get_args(Runs):
            raise ValueError(f"runs is {self.runs!r}; it must be shell, code or nothing")


@dataclass(frozen=True)
class Verbs:
    """A table of verbs, found by name or alias."""

    verbs: tuple[Verb, ...]
    _by_name: Mapping[str, Verb] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError where two verbs share a name or alias."""
        by_name: dict[str, Verb] = {}
        for verb in self.verbs:
            for name in (verb.name, *verb.aliases):
                if name in by_name:
                    raise ValueError(
                        f"{name!r} is a name of {by_name[name].name!r} and of {verb.name!r}"
                    )
                by_name[name] = verb
        object.__setattr__(self, "_by_name", by_name)

    @property
    def names(self) -> tuple[str, ...]:
        """The verbs as they are written, without their aliases."""
        return tuple(verb.name for verb in self.verbs)

    def verb(self, said: str) -> Verb | None:
        """The verb of a name or alias, in any case, with spaces or hyphens for _; else None."""
        return self._by_name.get(re.sub(r"[\s_-]+", "_", said.strip().lower()))

    def close_to(self, said: str) -> str:
        """The name that `said` was perhaps meant to be, or ""."""
        close = difflib.get_close_matches(said.strip().lower(), list(self._by_name), n=1)
        return close[0] if close else ""

    def extended(self, more: Mapping[str, Any] | Sequence[Verb]) -> Verbs:
        """This table and `more` verbs; one of a name that is there takes its place.

        Args:
            more: Verbs, or their table as JSON has it: {"lights_on": {"aliases": ["lamp_on"],
                "takes": "required", "about": "a room's name", "runs": ""}}, every key optional.

        Raises:
            ValueError: a name, key or value is none, or two verbs share a name.
        """
        added = tuple(more) if isinstance(more, Sequence) else _read(more)
        names = {verb.name for verb in added}
        return Verbs((*(verb for verb in self.verbs if verb.name not in names), *added))


def read_verbs(path: str | Path, base: Verbs | None = None) -> Verbs:
    """A user's own table, a JSON file of the form that `Verbs.extended` takes, on top of `base`.

    Args:
        base: None takes the verbs that ship.

    Raises:
        UserError: the file is missing or malformed, or says what no table can.
    """
    try:
        return (VERBS if base is None else base).extended(read_object(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}. Correct the table of verbs.") from None


def _read(table: Mapping[str, Any]) -> tuple[Verb, ...]:
    found: list[Verb] = []
    known = ("aliases", "takes", "about", "runs")
    for name, said in table.items():
        if not isinstance(said, Mapping):
            raise ValueError(
                f'{shown(name)} is {said!r}; it must be an object, such as {{"about": "…"}}'
            )
        for key in said:
            if key not in known:
                raise ValueError(
                    f"{shown(name)} holds {shown(key)!r}; it may hold {', '.join(known)}"
                )
        aliases = said.get("aliases", ())
        if isinstance(aliases, str) or not all(isinstance(one, str) for one in aliases):
            raise ValueError(f"{shown(name)}: aliases must be a list of names")
        found.append(Verb(name, tuple(aliases), **{k: said[k] for k in known[1:] if k in said}))
    return tuple(found)


VERBS = Verbs(
    (
        Verb("launch_app", ("open_app", "open", "launch", "start_app"), about="name of an app"),
        Verb("open_url", ("url", "browse", "new_tab", "open_website"), about="address"),
        Verb("search", ("web_search", "google"), about="what to look for on the web"),
        Verb("search_system", ("find_file", "search_files"), about="name of a file"),
        Verb("open_folder", ("show_folder",), about="path"),
        Verb("file_read", ("read_file",), about="path"),
        Verb("file_write", ("write_file",), about="path | text"),
        Verb("file_list", ("list_files",), about="path"),
        Verb("play_music", ("music", "play"), about="song, artist or genre"),
        Verb("set_volume", ("volume",), about="0 to 100"),
        Verb("mute", ("unmute",), "none"),
        Verb("set_timer", ("timer",), about="how long, as in 10 minutes"),
        Verb("notify", ("notification",), about="title | message"),
        Verb("screenshot", ("take_screenshot",), "none"),
        Verb("lock_screen", ("lock",), "none"),
        Verb("clipboard_get", ("get_clipboard",), "none"),
        Verb("clipboard_set", ("set_clipboard",), about="text"),
        Verb("new_desktop", ("create_desktop",), "none"),
        Verb("switch_desktop", ("desktop",), about="next, previous or a number"),
        Verb("system_info", ("sysinfo",), "none"),
        Verb("shell", ("run",), about="command", runs="shell"),
        Verb("exec_code", ("coding",), about="program", runs="code"),
    )
)
