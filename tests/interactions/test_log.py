"""The log of interactions: whole lines from several writers, limits, and what a reader makes of
lines that are none."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from livery import cli
from livery.errors import UserError
from livery.files import CannotWrite
from livery.interactions import Log, Mark, read
from livery.interactions.log import LONGEST
from livery.paths import python_path
from tests import PATIENCE

ASKED = [{"role": "user", "content": "I am ann@example.org"}]


def test_what_is_logged_is_redacted_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    log = Log(path)
    one = log.record(ASKED, "Hello ann@example.org", skill="persona", adapter="a", finished=False)
    two = log.record(ASKED, "Hello", confidence=0.25, flags=["said 4111111111111111"])
    log.mark(one, "bad")
    log.mark(one, "good", corrected="Mail bob@example.org")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "example" not in path.read_text(encoding="utf-8")
    first, second = read(path).interactions
    assert (first.id, second.id) == (one, two)
    assert (first.asked, first.answer) == ("I am [email 1]", "Hello [email 1]")
    assert first.redactions == {"email": 1}
    assert (first.skill, first.finished, first.facts) == ("persona", False, {"adapter": "a"})
    assert isinstance(first.mark, Mark)
    assert (first.mark.verdict, first.mark.corrected) == ("good", "Mail [email 1]")
    assert (second.confidence, second.flags, second.mark) == (0.25, ("said [card 1]",), None)

    path.chmod(0o644)
    log.record(ASKED, "Hello")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", [b"my notes\n", b'{"messages": []}\n', b"\n\n", b'{"id": "x'])
def test_nothing_is_added_to_a_file_that_is_no_log(tmp_path: Path, text: bytes) -> None:
    """Nor is it closed to others, or shortened by the limits of a log."""
    path = tmp_path / "notes.jsonl"
    path.write_bytes(text)
    path.chmod(0o644)
    log = Log(path)
    for act in (log.check, lambda: log.record(ASKED, "x"), lambda: log.mark("i", "bad")):
        with pytest.raises(UserError, match="not a log that Livery wrote"):
            act()
    assert path.read_bytes() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_lines_of_others_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path).record(ASKED, "first")
    with path.open("ab") as file:
        file.write(b'{"messages": []}\n[1]\nnot json\n\xff\xfe\n')
        file.write(b'{"livery": "interaction", "format": 1, "id": 7}\n')
        file.write(b'{"livery": "interaction", "format": 9, "id": "x"}\n')
        file.write(b'{"x": "' + b"y" * LONGEST + b'"}\n')
        file.write(b'{"livery": "mark", "format": 1, "id": "gone", "verdict": "bad"}\n')
        file.write(b'{"livery": "mark", "format": 1, "id": "gone", "verdict": "maybe"}\n')
        file.write(b'{"livery": "interaction", "form')
    Log(path).record(ASKED, "second")  # on a line of its own
    found = read(path)
    assert [one.answer for one in found.interactions] == ["first", "second"]
    for number, said in (
        (2, "no line of a log"), (3, "a list where"), (4, "not valid JSON"), (5, "UTF-16"),
        (6, "'at' is missing"), (7, "format 9"), (8, "longer than"), (10, "verdict"), (11, "JSON"),
    ):  # fmt: skip
        [note] = [note for note in found.notes if note.startswith(f"{path}:{number}: ")]
        assert any(part in note for part in said.split("|")), note
    assert any("1 of its marks" in note for note in found.notes)

    foreign = tmp_path / "rows.jsonl"
    foreign.write_text('{"text": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.jsonl: no line of it is an interaction"):
        read(foreign)
    (tmp_path / "cut.jsonl").write_bytes(path.read_bytes()[:-5])
    assert read(tmp_path / "cut.jsonl").notes[-2].endswith("cut off; left out.")


WRITER = """
import sys
from livery.interactions import Log
log = Log(sys.argv[1])
for n in range(int(sys.argv[2])):
    log.record([{"role": "user", "content": "x" * 3000}], f"{sys.argv[3]} {n}")
    if n == 2:
        print("going", flush=True)
"""


def writer(path: Path, count: int, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": python_path()}
    )


@pytest.mark.slow
def test_several_writers_and_one_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    endless = writer(path, 10**9, "killed")
    assert endless.stdout is not None
    assert endless.stdout.readline() == b"going\n"
    others = [writer(path, 40, name) for name in "ab"]
    for process in others:
        assert process.wait(PATIENCE) == 0
    endless.send_signal(signal.SIGKILL)
    endless.wait(PATIENCE)
    Log(path).record(ASKED, "after")
    answers = [one.answer for one in read(path).interactions]
    for name in "ab":
        assert [a for a in answers if a.startswith(name + " ")] == [
            f"{name} {n}" for n in range(40)
        ]
    assert answers[-1] == "after"


def test_old_interactions_and_those_beyond_the_size_go_with_their_marks(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, days=30)
    old = log.record(ASKED, "old")
    log.mark(old, "bad")
    path.write_text(
        path.read_text(encoding="utf-8").replace('"at": "20', '"at": "19', 1), encoding="utf-8"
    )
    log.record(ASKED, "new")
    assert [one.answer for one in read(path).interactions] == ["new"]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    small = Log(tmp_path / "small.jsonl", megabytes=0.01)
    for n in range(60):
        small.record(ASKED, f"{n} " + "x" * 500)
        assert Path(small.path).stat().st_size <= 0.01 * (1 << 20)
    kept = [int(one.answer.split()[0]) for one in read(small.path).interactions]
    assert kept == list(range(kept[0], 60))
    assert len(kept) > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "small.jsonl"]


def test_what_cannot_be_logged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path / "log.jsonl")
    for messages, answer, said in (
        ([], "x", "needs messages"),
        ([{"role": "user"}], "x", "a role and its content"),
        (ASKED, "x" * LONGEST, "It was not written"),
        (ASKED, "\ud800", "cannot be written as JSON"),
    ):
        with pytest.raises(UserError, match=said):
            log.record(messages, answer)
    with pytest.raises(UserError, match="good or bad"):
        log.mark("x", "fine")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="above 0"):
        Log(tmp_path / "log.jsonl", days=0)
    with pytest.raises(UserError, match="is no file"):
        Log("/dev/null").record(ASKED, "x")
    # Told before a model is loaded, for which there is none of this name.
    asked = ["generate", "--model", str(tmp_path / "none"), "--log", "/dev/null", "Hello"]
    assert cli.run(asked) == 1
    assert "/dev/null: is no file" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="is a file"):
        Log(tmp_path / "file" / "log.jsonl").record(ASKED, "x")


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import resource, signal, sys\n"
        "from livery.interactions import Log\n"
        "log = Log(sys.argv[1])\n"
        "asked = [{'role': 'user', 'content': 'x'}]\n"
        "log.record(asked, 'kept')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "log.record(asked, 'y' * 2000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": python_path()}, check=False,
    )  # fmt: skip
    assert "the disk is full while logging" in done.stderr
    assert [json.loads(line)["answer"] for line in path.read_text().splitlines()] == ["kept"]
