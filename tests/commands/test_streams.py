"""Standard streams that are closed, full or gone; and the net under every command."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from livery import faults
from tests import PATIENCE


def shell(line: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a line of bash in which $LIVERY is the command."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        cwd=cwd,
        env={**os.environ, "LIVERY": f"{sys.executable} -m livery", **environment},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_one_line_and_a_failure(unbuffered: str) -> None:
    expected = "Error: standard output: No space left on device. What the command printed"
    for line in ("$LIVERY --help >/dev/full", "$LIVERY train --json --data nope >/dev/full"):
        code, _, said = shell(line, PYTHONUNBUFFERED=unbuffered)
        assert code == 1
        assert said.startswith(expected)
        assert said.count("\n") == 1


@pytest.mark.slow
def test_a_closed_stream_is_a_wish_not_to_hear() -> None:
    assert shell("$LIVERY --version >&-") == (0, "", "")
    assert shell("$LIVERY --version <&- >&- 2>&-") == (0, "", "")
    assert shell("$LIVERY xyzzy 2>&-") == (2, "", "")
    assert shell("$LIVERY xyzzy 2>/dev/full") == (2, "", "")


def test_the_number_of_a_closed_stream_goes_to_no_file(tmp_path: Path) -> None:
    """Else what a library prints to standard output would stand in the next file we open."""
    code = (
        "from livery import streams; streams.prepare(); import os, sys\n"
        "file = open('kept', 'w'); file.write('whole'); file.flush()\n"
        "os.write(1, b'noise'); os.write(2, b'noise'); print('more')\n"
        "sys.exit(len(open('kept').read()) != 5)"
    )
    done = shell(f'{sys.executable} -c "$CODE" <&- >&- 2>&-', tmp_path, CODE=code)
    assert done == (0, "", "")


def test_a_reader_that_goes_away_ends_the_command_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "livery", "train", "--help"],
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("<&-", 2, "Error: Nothing to answer"),
        ("</dev/null", 2, "Error: Nothing to answer"),
        ("</dev/zero", 1, "Error: standard input:1: a line of more than 1 MB."),
        (r"< <(printf 'caf\xe9\n')", 1, "Error: standard input: not utf-8 text"),
    ],
)
def test_generate_reads_any_standard_input(given: str, code: int, message: str) -> None:
    found, out, said = shell(f"$LIVERY generate {given}", PYTHONIOENCODING="utf-8:strict")
    assert (found, out) == (code, "")
    assert said.splitlines()[-1].startswith(message)


@pytest.mark.slow
def test_names_in_arguments_are_printed_escaped() -> None:
    for line, code, message in (
        (r"check $'a\nb/\e[31mc\u202e'", 1, r"a\nb/\x1b[31mc\u202e"),
        (r"check $'caf\xe9'", 2, r"Error: caf\udce9: not UTF-8. Rename the file or folder."),
        (r"train --batch-size $'4\n5'", 2, r"'4\n5' is not a whole number"),
    ):
        found, out, said = shell(f"$LIVERY {line}")
        assert (found, out) == (code, "")
        assert message in said.splitlines()[-1]
        assert all(c.isprintable() for c in said.replace("\n", ""))


BROKEN = (
    "import sys, click, livery.cli as cli\n"
    "asked = click.Option(['--json'], is_flag=True)\n"
    "command = click.Command('x', params=[asked], callback=lambda json: {})\n"
    "cli.LazyGroup.get_command = lambda *_: command\n"
    "cli.main(['train', *sys.argv[1:]])\n"
)


def broken(raising: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    code = BROKEN.format(f"(_ for _ in ()).throw({raising})")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_fault_of_ours_is_told_as_one_and_kept_in_a_file(tmp_path: Path) -> None:
    code, out, said = broken(r"KeyError('rank\x1b')", TMPDIR=str(tmp_path))
    assert (code, out) == (faults.FAULT, "")
    assert "Error: This is a bug in Livery, not a mistake of yours: KeyError: 'rank\\x1b'" in said
    assert "Traceback" not in said
    (kept,) = tmp_path.glob("livery-fault-*.txt")
    assert str(kept) in said
    assert "Traceback" in kept.read_text()
    assert "livery ['train']" in kept.read_text()
    shown = broken("KeyError('rank')", LIVERY_DEBUG="1", TMPDIR=str(tmp_path))
    assert shown[0] == faults.FAULT
    assert "Traceback" in shown[2]
    assert len(list(tmp_path.iterdir())) == 1
    nowhere = broken("KeyError('rank')", TMPDIR=str(tmp_path / "none"), PYTHONHASHSEED="0")
    assert nowhere[0] == faults.FAULT


@pytest.mark.parametrize(
    ("raising", "code", "message"),
    [
        ("MemoryError()", 1, "Error: Out of memory. Close other programs"),
        ("RuntimeError('CUDA out of memory. Tried')", 1, "Error: Out of memory (CUDA out of"),
        ("OSError(28, 'No space left on device')", 1, "Error: The disk is full."),
        ("OSError(28, 'No space left on device', 'a/b')", 1, "Error: a/b: No space left"),
        ("OSError(36, 'File name too long', 'x' * 9999)", 1, "(9,999 characters): File name too"),
        ("OSError(40, 'Too many levels', 'a')", 1, "Error: a: Too many levels."),
        ("PermissionError(13, 'Permission denied', 'a')", 1, "Change its permissions"),
        ("NotADirectoryError(20, 'Not a directory', 'a')", 1, "A part of this path is a file"),
        ("FileNotFoundError(2, 'No such file or directory')", 1, "current folder no longer"),
        ("ModuleNotFoundError('x', name='fastapi')", 1, "fastapi is not installed."),
        ("KeyboardInterrupt()", 130, "Interrupted."),
        (
            "RecursionError('deep')",
            faults.FAULT,
            "a mistake of yours: RecursionError",
        ),
        ("BrokenPipeError(32, 'Broken pipe')", faults.FAULT, "ended too soon (BrokenPipe"),
        ("EOFError()", faults.FAULT, "ended too soon (EOFError"),
    ],
)
def test_what_nobody_foresaw(raising: str, code: int, message: str, tmp_path: Path) -> None:
    assert errno.ENAMETOOLONG == 36 or sys.platform != "linux"
    found, out, said = broken(raising, TMPDIR=str(tmp_path))
    assert (found, out) == (code, "")
    assert message in said
    assert "Traceback" not in said
    as_json = broken(raising, "--json", TMPDIR=str(tmp_path))
    assert json.loads(as_json[1])["error"]["exit_code"] == code


def test_the_net_hides_nothing_in_process() -> None:
    """`cli.run`, which tests call, lets what nobody foresaw through."""
    import click

    from livery import cli

    def fail() -> None:
        raise KeyError("rank")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("x", callback=fail))
        with pytest.raises(KeyError):
            cli.run(["train"])
