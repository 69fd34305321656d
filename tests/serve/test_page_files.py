"""The page's files: nothing inline, nothing from elsewhere; what others wrote as they wrote it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests import ROOT

PAGE = ROOT / "livery" / "serve" / "page"
OWN = sorted(
    path
    for path in PAGE.rglob("*")
    if path.suffix in (".js", ".css", ".html", ".svg") and path.parent.name != "vendor"
)
MODULES = [path for path in OWN if path.suffix == ".js"]


def test_what_others_wrote_is_as_they_wrote_it() -> None:
    vendor = PAGE / "vendor"
    told = json.loads((vendor / "vendor.json").read_text())
    there = {path.name for path in vendor.iterdir()} - {"vendor.json", "README.md"}
    assert there == set(told)
    for name, one in told.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == one["sha256"], name
    licensed = {one["package"] for name, one in told.items() if name.startswith("LICENSE")}
    assert {one["package"] for one in told.values()} <= licensed


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for path in OWN:
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", text), path.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_turns_text_into_markup_or_code(path: Path) -> None:
    words = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|srcdoc"
    assert not re.search(words, path.read_text())


def test_every_module_is_used_and_small() -> None:
    imported = {
        (path.parent / found).resolve()
        for path in MODULES
        for found in re.findall(r'(?:from|import)\s*\(?"(\.[^"]+)"', path.read_text())
    }
    named = re.findall(r'(?:src|href)="([^"#]+\.js)"', (PAGE / "index.html").read_text())
    used = imported | {PAGE / name for name in named}
    assert {path.resolve() for path in MODULES} <= used
    assert all(path.is_file() for path in used)
    assert max(len(path.read_text().splitlines()) for path in MODULES) <= 300


def test_the_first_page_is_light() -> None:
    """All that is loaded before the first run is shown: 100 kB, uncompressed."""
    html = (PAGE / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"#]+\.(?:m?js|css|svg))"', html)
    assert sum((PAGE / name).stat().st_size for name in loaded) < 100_000
