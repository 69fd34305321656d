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

SCRIPTS = ["train_mac.sh", "train_cuda.sh", "test.sh", "scripts/setup.sh", ".ci/run"]


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
    for tool in ("uname", "cat", "cksum", "dirname", "env", "bash", "sh", "readlink"):
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
    assert log.read_text().count("\n") == 1
    assert "--constraint constraints.txt --editable .[mlx]" in log.read_text()

    second = bash("./train_mac.sh", checkout, path)
    assert "livery -m livery run" in second.stdout
    assert "Installing" not in second.stdout
    assert log.read_text().count("\n") == 1

    with (checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert bash("./train_mac.sh", checkout, path).returncode == 0
    assert log.read_text().count("\n") == 2


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
    assert (home / "installed").read_text().count("\n") == 1, "one place, installed once"
    assert {p.name for p in (*decoy.rglob("*"), *elsewhere.iterdir())} == {
        "a check out", "once", "twice"
    }  # fmt: skip


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


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is preloaded on Linux alone")
def test_openblas_is_preloaded_where_it_is_and_asked_for_where_it_is_not(checkout: Path) -> None:
    show = '. scripts/setup.sh; preload_openblas; printf %s "${LD_PRELOAD:-}"'
    done = bash(show, checkout)
    if "not installed" in done.stderr:
        assert done.stdout == ""
        assert "libopenblas0-pthread" in done.stderr
    else:
        assert done.stdout == "libopenblas.so.0"
    missing = bash(show.replace("scripts/setup.sh;", "./absent.sh;"), absent(checkout))
    assert missing.stdout == ""
    assert "OpenBLAS is not installed" in missing.stderr
    assert "sudo apt install libopenblas0-pthread" in missing.stderr


def absent(checkout: Path) -> Path:
    """The same function, looking for a library that no machine has."""
    text = (checkout / "scripts" / "setup.sh").read_text()
    (checkout / "absent.sh").write_text(text.replace("libopenblas.so.0", "libno-such-blas.so.0"))
    return checkout
