"""No import runs up, none sideways, none in a circle; no folder is too full (ARCHITECTURE.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.architecture import Picture, picture
from tests.trips import followed

FILES_A_FOLDER = 25


@pytest.fixture(scope="module")
def house() -> Picture:
    return picture(ROOT)


def test_no_import_runs_up_or_sideways(house: Picture) -> None:
    assert house.up == []
    assert house.sideways == []


def test_no_imports_run_in_a_circle(house: Picture) -> None:
    assert house.circles == []


def test_no_folder_is_too_full(house: Picture) -> None:
    assert {name: n for name, n in house.files.items() if n > FILES_A_FOLDER} == {}
    assert sum(house.files.values()) > 150  # the picture shows the house


def test_the_training_loop_is_read_from_top_to_bottom() -> None:
    """What validation, resuming and threads do is beside it, so that it stays one reading."""
    loop = ROOT / "livery" / "training" / "loop.py"
    assert len(loop.read_text(encoding="utf-8").splitlines()) < 300


SMALL = {
    "commands/run.py": "import convert.join\nfrom livery import files",
    "convert/join.py": "from livery.files import write",
    "eval/cases.py": "from livery import files",
    "livery/files.py": "import json\nfrom livery import errors",
    "livery/errors.py": "",
}


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("livery/files.py", "import json", []),
        ("livery/files.py", "from convert.join import join", ["up", "circles"]),
        ("livery/errors.py", "def f():\n    import commands.run", ["up", "circles"]),
        ("eval/cases.py", "if TYPE_CHECKING:\n    from commands import run", ["up"]),
        ("eval/cases.py", "from convert.join import join", ["sideways"]),
        ("convert/join.py", "from eval import cases", ["sideways"]),
        ("livery/errors.py", "from livery.files import write", ["circles"]),
    ],
)
def test_a_broken_rule_is_caught(tmp_path: Path, file: str, line: str, broken: list[str]) -> None:
    """In a small house with one import more."""
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n{line}\n" if name == file else text)
    seen = picture(tmp_path)
    assert [name for name in ("up", "sideways", "circles") if getattr(seen, name)] == broken


def test_a_reader_follows_each_function_once(tmp_path: Path) -> None:
    """a calls b twice and b calls c: three files, and two ways back."""
    code = {
        "c": "def leaf(): pass",
        "b": "def middle():\n    c['leaf']()\n    c['leaf']()",
        "a": "def top():\n    b['middle']()\n    b['middle']()",
    }
    spaces: dict[str, Any] = {}
    for name, text in code.items():
        spaces[name] = dict(spaces)
        exec(compile(text, str(tmp_path / "livery" / f"{name}.py"), "exec"), spaces[name])
    with followed(tmp_path) as trip:
        spaces["a"]["top"]()
    assert [Path(file).stem for file in trip.path] == ["a", "b", "c", "b", "a"]
    assert (trip.files, trip.returns) == (3, 2)
