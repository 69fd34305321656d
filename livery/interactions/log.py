"""The log: a line of JSON for each interaction and each mark, in a file that its owner alone reads.

{"livery": "interaction", "format": 1, "id": …, "at": …, "skill": …, "messages": […], "answer": …}
{"livery": "mark", "format": 1, "id": …, "at": …, "verdict": "bad", "corrected": …}

Several processes may write to it: each line is appended whole under a lock. A line that a kill cut
off is left as it is, and the next one begins on a line of its own.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from livery.errors import UserError, shown
from livery.files import atomic_write, explain_os_errors
from livery.interactions.redact import Redactor
from livery.reading import open_file, parse_row

FORMAT = 1
LONGEST = 1 << 20  # bytes of one line
DAYS, MEGABYTES = 30.0, 64.0
LOG_HEADER = "X-Livery-Log"  # of a request to a server: "off" where its answer is nobody's use

_BEGINS = b'{"livery": '  # of every line that Livery appends
_AT = re.compile(rb'"at": "([^"]+)"')

Verdict = Literal["good", "bad"]


@dataclass(frozen=True)
class Mark:
    """What a user said of an answer.

    Attributes:
        verdict: "good" or "bad".
        corrected: what the answer should have been; "" where nobody said.
        at: when, ISO 8601 in UTC.
    """

    verdict: Verdict
    corrected: str = ""
    at: str = ""


@dataclass(frozen=True)
class Interaction:
    """One answer, as it was logged.

    Attributes:
        id: unique.
        at: when, ISO 8601 in UTC.
        messages: the conversation up to the answer.
        answer: the model's own text, before any post-processor.
        skill: its name; "" for none.
        finished: False where the answer was cut off.
        confidence: of whatever decided who answers (a hybrid's classifier); None for none.
        flags: what the program itself noticed: "the guard blocked a command".
        redactions: {kind: how many} of what was taken out before it was written.
        facts: what else the program wrote: model, adapter.
        mark: the user's last one.
    """

    id: str
    at: str
    messages: tuple[dict[str, Any], ...]
    answer: str
    skill: str = ""
    finished: bool = True
    confidence: float | None = None
    flags: tuple[str, ...] = ()
    redactions: Mapping[str, int] = field(default_factory=dict[str, int])
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    mark: Mark | None = None

    @property
    def asked(self) -> str:
        """The last thing that the user said."""
        turns = (m["content"] for m in reversed(self.messages) if m["role"] == "user")
        return next(turns, "")


@dataclass(frozen=True)
class Read:
    """What a log holds.

    Attributes:
        interactions: in the order of the file, each with its last mark.
        notes: what was left out: "log.jsonl:7: cut off".
    """

    interactions: tuple[Interaction, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Log:
    """A log to write to; made on the first line.

    Attributes:
        path: the file, of mode 0600.
        days: interactions older than that are dropped.
        megabytes: where the file grows beyond this, its oldest tenth and more is dropped.
    """

    path: str | Path
    days: float = DAYS
    megabytes: float = MEGABYTES

    def __post_init__(self) -> None:
        """Raises UserError where a limit keeps nothing."""
        for name, value in (("days", self.days), ("megabytes", self.megabytes)):
            if not value > 0:
                raise UserError(f"The log's limit of {name} is {value:g}; it must be above 0.")

    def record(
        self,
        messages: Sequence[Mapping[str, Any]],
        answer: str,
        *,
        skill: str = "",
        finished: bool = True,
        confidence: float | None = None,
        flags: Sequence[str] = (),
        **facts: Any,
    ) -> str:
        """Append an interaction; returns its id.

        Raises:
            UserError: it is no conversation, too long, or the file cannot be written.
        """
        redactor = Redactor()
        turns = [_turn(message) for message in messages]
        if not turns or not isinstance(answer, str):
            raise UserError("An interaction needs messages and an answer, which are texts.")
        row = {
            "livery": "interaction", "format": FORMAT, "id": secrets.token_hex(8), "at": _now(),
            "skill": skill,
            "messages": [{**turn, "content": redactor.text(turn["content"])} for turn in turns],
            "answer": redactor.text(answer), "finished": finished, "confidence": confidence,
            "flags": [redactor.text(str(flag)) for flag in flags],
            "facts": redactor.value(facts),
        }  # fmt: skip
        self._append({**row, "redactions": dict(redactor.counts)})
        return str(row["id"])

    def mark(self, id: str, verdict: Verdict, corrected: str = "") -> None:
        """Append what the user says of an answer; the last mark of an interaction counts.

        Raises:
            UserError: the verdict is none, or the file cannot be written.
        """
        if verdict not in ("good", "bad"):
            raise UserError(f"A mark is good or bad, not {shown(verdict, 40)!r}.")
        row = {
            "livery": "mark", "format": FORMAT, "id": id, "at": _now(), "verdict": verdict,
            "corrected": Redactor().text(corrected),
        }  # fmt: skip
        self._append(row)

    def check(self) -> None:
        """Raises UserError where nothing could be appended."""
        with _opened(Path(self.path)):
            pass

    def _append(self, row: dict[str, Any]) -> None:
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        except (UnicodeEncodeError, TypeError, ValueError) as error:
            raise UserError(f"The interaction cannot be written as JSON: {error}.") from None
        if len(line) > LONGEST:
            raise UserError(
                f"The interaction has {len(line):,} bytes; a log takes {LONGEST:,}. It was not "
                "written."
            )
        append_line(Path(self.path), line)
        self._prune()

    def _prune(self) -> None:
        """Drop what is beyond the limits; looks at the first line only where none is."""
        path = Path(self.path)
        limit = int(self.megabytes * (1 << 20))
        oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=self.days)
        with _opened(path) as held:
            size = os.fstat(held).st_size
            if size <= limit and not _is_old(os.pread(held, 300, 0), oldest):
                return
            with open(os.dup(held), "rb") as file:
                file.seek(0)
                kept = [line for line in file if not _is_old(line, oldest)]
            total = sum(map(len, kept))
            while total > (limit if size <= limit else limit * 9 // 10) and len(kept) > 1:
                total -= len(kept.pop(0))
            known = {_field(line, "id") for line in kept if b'"interaction"' in line}
            kept = [
                line for line in kept if b'"interaction"' in line or _field(line, "id") in known
            ]
            doing = "dropping what is old from the log"
            with atomic_write(path, doing=doing, private=True) as file:
                file.writelines(kept)


def read(path: str | Path) -> Read:
    """What a log holds; lines that are cut off, foreign or too long are left out and named.

    Raises:
        UserError: it cannot be read, or no line of it is a log's.
    """
    path = Path(path)
    found: dict[str, Interaction] = {}
    marks: dict[str, Mark] = {}
    notes: list[str] = []
    count = 0
    for number, raw in lines(path):
        if not raw.strip():
            continue
        count += 1
        where = f"{shown(path)}:{number}"
        if len(raw) > LONGEST:
            notes.append(f"{where}: longer than {LONGEST:,} bytes; left out.")
        elif (fault := _read_line(raw, path, number, found, marks)) is not None:
            notes.append(fault)
    if count and not found:
        first = notes[0] if notes else f"{shown(path)}: it holds marks alone."
        raise UserError(
            f"{shown(path)}: no line of it is an interaction that Livery logged. {first}"
        )
    if unknown := [id for id in marks if id not in found]:
        notes.append(f"{shown(path)}: {len(unknown)} of its marks are of interactions not in it.")
    rows = (replace(one, mark=marks.get(one.id)) for one in found.values())
    return Read(tuple(rows), tuple(notes))


def append_line(path: Path, line: bytes) -> None:
    """Append a line whole, or nothing; the file is made with mode 0600.

    Raises:
        UserError: it cannot be written; a full disk leaves it as it was.
    """
    with _opened(path) as held, explain_os_errors(path, "logging"):
        size = os.fstat(held).st_size
        if size and os.pread(held, 1, size - 1) != b"\n":
            line = b"\n" + line  # behind a line that a kill cut off
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(held, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(held, size)
            raise


@contextlib.contextmanager
def _opened(path: Path) -> Generator[int]:
    """The file, locked against other writers; another may have replaced it meanwhile."""
    with explain_os_errors(path, "logging"):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            if path.exists() and not path.is_file():
                raise UserError(f"{shown(path)}: is no file; name another for the log.")
            held = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)
            try:
                if os.path.samestat(path.stat(), os.fstat(held)):
                    break
            except FileNotFoundError:
                pass
            os.close(held)
    try:
        if not _BEGINS.startswith(os.pread(held, len(_BEGINS), 0)):
            raise UserError(
                f"{shown(path)}: is not a log that Livery wrote, and nothing is added to it. Name "
                "another file for the log."
            )
        if stat.S_IMODE(os.fstat(held).st_mode) & 0o077:
            with explain_os_errors(path, "closing the log to other users"):
                os.fchmod(held, 0o600)
        yield held
    finally:
        os.close(held)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line); of one that is too long, a byte more than LONGEST."""
    with open_file(path) as file:
        number = 0
        while raw := file.readline(LONGEST + 1):
            number += 1
            rest = raw
            while len(rest) > LONGEST and not rest.endswith(b"\n"):
                rest = file.readline(LONGEST + 1)
            yield number, raw


def _read_line(
    raw: bytes, path: Path, number: int, found: dict[str, Interaction], marks: dict[str, Mark]
) -> str | None:
    """Put one line where it belongs; what is wrong with it, if anything is."""
    where = f"{shown(path)}:{number}"
    try:
        row = parse_row(raw, path, number)
    except UserError as error:
        return f"{where}: cut off; left out." if not raw.endswith(b"\n") else f"{error} Left out."
    kind = row.get("livery")
    if kind not in ("interaction", "mark"):
        return f"{where}: no line of a log; left out."
    if row.get("format") != FORMAT:
        return f"{where}: of format {shown(row.get('format'), 20)}, not {FORMAT}; left out."
    try:
        if kind == "mark":
            mark = Mark(row["verdict"], row.get("corrected", ""), row.get("at", ""))
            good = mark.verdict in ("good", "bad") and isinstance(mark.corrected, str)
            if not good or not isinstance(row["id"], str):
                raise TypeError("verdict")
            marks[row["id"]] = mark
        else:
            one = _interaction(row)
            found.setdefault(one.id, one)
    except (KeyError, TypeError, UserError) as error:
        return f"{where}: its {shown(error, 80)} is missing or wrong; left out."
    return None


def _interaction(row: Mapping[str, Any]) -> Interaction:
    texts = {name: row[name] for name in ("id", "at", "answer")}
    texts["skill"] = row.get("skill", "")
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(name)
    confidence = row.get("confidence")
    if confidence is not None and (
        isinstance(confidence, bool) or not isinstance(confidence, int | float)
    ):
        raise TypeError("confidence")
    redactions, facts = row.get("redactions") or {}, row.get("facts") or {}
    flags = row.get("flags") or []
    for name, value, kind in (
        ("redactions", redactions, dict), ("facts", facts, dict), ("flags", flags, list),
        ("messages", row["messages"], list), ("finished", row.get("finished", True), bool),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise TypeError(name)
    messages = tuple(_turn(message) for message in row["messages"])
    if not messages:
        raise TypeError("messages")
    return Interaction(
        **texts, messages=messages, finished=row.get("finished", True), confidence=confidence,
        flags=tuple(map(str, flags)), redactions=redactions, facts=facts,
    )  # fmt: skip


def _turn(message: Any) -> dict[str, Any]:
    if (
        not isinstance(message, Mapping)
        or message.get("role") not in ("system", "user", "assistant", "tool")
        or not isinstance(message.get("content"), str)
    ):
        raise UserError("messages: each is a role and its content, a text.")
    return {"role": message["role"], "content": message["content"]}


def _is_old(line: bytes, oldest: datetime.datetime) -> bool:
    """Whether a line's time is before another; a line without one stays."""
    found = _AT.search(line[:300])
    try:
        return found is not None and datetime.datetime.fromisoformat(found[1].decode()) < oldest
    except (ValueError, TypeError):
        return False


def _field(line: bytes, name: str) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row.get(name) if isinstance(row, dict) else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
