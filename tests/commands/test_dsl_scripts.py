"""The described system's script names: each answers --help, and hands its flags on."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from livery.paths import HOME
from tests import PATIENCE

SCRIPTS = HOME / "scripts"
PYTHON = sorted(
    path.name for path in SCRIPTS.glob("*.py") if "from livery.cli import main" in path.read_text()
)
SHELL = sorted(path.name for path in SCRIPTS.glob("*.sh") if "exec livery " in path.read_text())


@pytest.mark.parametrize("name", PYTHON)
def test_a_script_answers_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    assert left.value.code in (0, None)
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize("name", SHELL)
def test_a_runner_answers_help(name: str, tmp_path: Path) -> None:
    """By a `livery` of this checkout on the PATH."""
    program = tmp_path / "livery"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m livery "$@"\n')
    program.chmod(0o755)
    done = ran(name, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def ran(name: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [bash, str(SCRIPTS / name), *words], cwd=place, capture_output=True, text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(HOME)}, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "here", "wanted"),
    [
        (["--max-steps", "3"], False, "train|--max-steps|3|"),
        (["--max-steps", "3"], True, "train|--config|config/defaults.json|--max-steps|3|"),
        (["--config", "a b.json"], True, "train|--config|a b.json|"),
        (["--resume", "--output-dir", "x"], True, "train|--resume|--output-dir|x|"),
    ],
)
def test_training_takes_the_configuration_that_is_here(
    words: list[str], here: bool, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if here:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "defaults.json").write_text("{}")
    program = tmp_path / "livery"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    assert ran("runTraining.sh", tmp_path, *words).stdout == wanted
    taken: list[list[str]] = []
    monkeypatch.setattr("livery.cli.main", taken.append)
    monkeypatch.chdir(tmp_path)
    for name, command in (("train_student_unsloth", "train"), ("train_alignment_dpo", "dpo")):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        assert "|".join([*taken.pop(), ""]) == wanted.replace("train", command, 1)
