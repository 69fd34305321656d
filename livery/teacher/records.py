"""The records: every answer that was good, by its key, and every failure with its trace.

An answer is here before anybody sees it, so a run that is killed asks nothing twice but what was
under way. A failure is never taken for an answer: its question is asked again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError, shown
from livery.files import disk_full, explain_os_errors, says_full_disk
from livery.teacher.question import Fault, Ingredients, Question, characters

_VERSION = 1
_TABLES = """
create table if not exists answers (
    key text primary key, name text not null, asked_at text not null,
    model text not null, prompt text not null, schema text not null, parameters text not null,
    text text not null, provenance text not null,
    characters integer not null, prompt_tokens integer not null, completion_tokens integer not null
);
create index if not exists answers_by_name on answers (name);
create table if not exists failures (
    key text not null, name text not null, asked_at text not null, model text not null,
    cause text not null, message text not null, trail text not null
);
"""


@dataclass(frozen=True)
class Found:
    """An answer that is on record.

    Attributes:
        text: the teacher's.
        provenance: where it came from.
        length: tokens of the answer itself, without those of the attempts before it.
    """

    text: str
    provenance: dict[str, Any]
    length: int


class Records:
    """A file of records, open. One process has it at a time (`files.one_at_a_time`)."""

    def __init__(self, path: str | Path):
        """Open the file, or make it.

        Raises:
            UserError: it is no file of records, or cannot be written.
        """
        self.path = Path(path)
        with explain_os_errors(self.path.parent, "opening the teacher's records"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.is_file():  # a pipe would be waited for
            raise UserError(f"{self.path}: is no file; choose another for the teacher's records.")
        with self._explained():
            self._file = sqlite3.connect(self.path, timeout=60)
            try:
                self._open()
            except BaseException:
                self._file.close()
                raise

    def _open(self) -> None:
        (version,) = self._file.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise UserError(
                f"{self.path}: records of another version of Livery; choose another file."
            )
        tables = self._file.execute("select name from sqlite_master where type = 'table'")
        theirs = {str(name) for (name,) in tables} - {"answers", "failures"}
        if not version and theirs:  # before the version is there, a kill may leave our own tables
            raise UserError(
                f"{self.path}: a database of another program (it holds {shown(min(theirs), 40)}); "
                "choose another file for the teacher's records."
            )
        # In this mode a commit survives the death of the process, costs no wait for the disk, and
        # others may read meanwhile.
        self._file.execute("pragma journal_mode = wal")
        self._file.execute("pragma synchronous = normal")
        with self._file:
            self._file.executescript(_TABLES)
            self._file.execute(f"pragma user_version = {_VERSION}")

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._file.close()

    def find(self, key: str) -> Found | None:
        """The answer with this key; None where there is none, or none that can be read."""
        query = "select text, provenance from answers where key = ?"
        with self._explained():
            row = self._file.execute(query, (key,)).fetchone()
        try:
            text, read = str(row[0]), dict(json.loads(row[1]))
            # Older records have the sum of all attempts alone.
            alone = read["completion_tokens"] if read["requests"] == 1 else 0
            return Found(text, read, int(read.get("answer_tokens", alone)))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None

    def earlier(self, name: str) -> Ingredients | None:
        """Of the last answer to a question of this name."""
        query = (
            "select model, prompt, schema, parameters from answers where name = ? "
            "order by asked_at desc limit 1"
        )
        with self._explained():
            row = self._file.execute(query, (name,)).fetchone()
        return Ingredients(*map(str, row)) if row else None

    def averages(self, model: str) -> tuple[float, float] | None:
        """(characters per token of prompts, tokens per answer) of this model; None before any."""
        query = (
            "select sum(characters), sum(prompt_tokens), sum(completion_tokens), count(*) "
            "from answers where model = ?"
        )
        with self._explained():
            letters, prompts, answers, count = self._file.execute(query, (model,)).fetchone()
        return (letters / prompts, answers / count) if count and prompts else None

    def keep(
        self, question: Question, made_of: Ingredients, text: str, provenance: Mapping[str, Any]
    ) -> None:
        """Add an answer, in place of one with the same key."""
        row = (
            made_of.key, question.name, provenance["asked_at"],
            made_of.model, made_of.prompt, made_of.schema, made_of.parameters,
            text, json.dumps(provenance),
            characters(question.messages), provenance["prompt_tokens"],
            provenance["completion_tokens"],
        )  # fmt: skip
        with self._explained(), self._file:
            self._file.execute(f"insert or replace into answers values ({_marks(row)})", row)

    def keep_failure(
        self, question: Question, made_of: Ingredients, asked_at: str, fault: Fault
    ) -> None:
        """Add a failure with its trace."""
        trail = json.dumps(list(fault.trail))
        row = (
            made_of.key, question.name, asked_at, made_of.model, fault.cause, fault.message, trail
        )  # fmt: skip
        with self._explained(), self._file:
            self._file.execute(f"insert into failures values ({_marks(row)})", row)

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if says_full_disk(str(error)):
                raise disk_full(self.path, "keeping an answer of the teacher") from error
            raise UserError(
                f"{self.path}: cannot be used as the teacher's records ({shown(error)}). Choose "
                "another file, or remove this one if its answers are not wanted."
            ) from error


def _marks(row: tuple[Any, ...]) -> str:
    return ", ".join("?" * len(row))
