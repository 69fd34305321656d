"""Every page in both colour schemes: no fault of accessibility, no fault in the console, and all of
it on a phone's width and from the keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from tests import ROOT
from tests.serve.conftest import Opened
from tests.serve.page_root import fill
from tests.serve.serving import Client, served, settings_of

pytestmark = pytest.mark.slow
AXE = ROOT / "tests" / "serve" / "axe" / "axe.min.js"
# A place of the page, and what shows that it is there.
PLACES = {
    "runs": "table",
    "runs/date-keys": ".u-wrap",
    "runs/persona/samples": ".sample",
    "runs/persona/checkpoints": "table",
    "runs/persona/evaluations": ".arms",
    "runs/persona/config": "table",
    "runs/persona/log": ".log",
    "runs/persona/export": ".forms",
    "compare?run=date-keys&run=persona": ".u-wrap",
    "train": "form",
    "jobs": "table",
    "adapters": "table",
    "adapters/persona": ".forms",
    "data": "table",
    "data/mine": ".rows",
    "data/identity?section=trust": "tr.ours",
    "evaluations": "table",
    "evaluations/persona/evaluation.json": ".arms",
    "improve": "table",
    "improve/persona": ".figures",
    "playground": "form",
    "machine": "table",
    "nowhere": ".empty",
}
# Dialogs, by the button that opens them.
ASKING = {"improve/persona": "Retrain", "data/mine": "Delete"}
FAULTS = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
    ".flatMap(one => one.nodes.map(node => [one.id, node.target.join(), node.html])))"
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("page")
    fill(root)
    with served(settings_of(root)) as client:
        job = client.post("/api/jobs", {"skill": "persona", "name": "waits", "steps": ["train"]})
        assert job.status == 201, job.text
        assert client.get("/api/machine").status == 200  # it takes some seconds, once
        yield client


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_fault_of_accessibility(client: Client, tab: Opened, scheme: str) -> None:
    with tab(client.address, color_scheme=scheme, reduced_motion="reduce") as one:
        one.page.goto(client.address)
        one.page.evaluate(AXE.read_text())
        faults: dict[str, Any] = {}
        for place, seen in PLACES.items():
            one.page.evaluate("place => { location.hash = '#/' + place }", place)
            one.page.locator(f"main {seen}").first.wait_for()
            faults[place] = one.page.evaluate(FAULTS)
            if place in ASKING:
                one.page.get_by_role("button", name=ASKING[place], exact=True).click()
                one.page.locator("dialog .actions").wait_for()
                faults[f"{place}: {ASKING[place]}"] = one.page.evaluate(FAULTS)
                one.page.keyboard.press("Escape")
                expect(one.page.locator("dialog")).to_have_count(0)
        assert {place: found for place, found in faults.items() if found} == {}


def test_every_page_fits_on_a_phone(client: Client, tab: Opened) -> None:
    with tab(client.address, viewport={"width": 360, "height": 740}) as one:
        one.page.goto(client.address)
        for place, seen in PLACES.items():
            one.page.evaluate("place => { location.hash = '#/' + place }", place)
            one.page.locator(f"main {seen}").first.wait_for()
            assert one.page.evaluate("document.documentElement.scrollWidth") <= 360, place


def test_the_keyboard_is_enough_and_the_focus_is_seen(client: Client, tab: Opened) -> None:
    focused = "document.activeElement"
    with tab(client.address) as one:
        one.open("runs", "table")
        one.page.keyboard.press("Tab")
        expect(one.page.get_by_text("Skip to the content")).to_be_focused()
        one.page.keyboard.press("Enter")
        expect(one.page.locator("#main")).to_be_focused()
        for _ in range(40):
            one.page.keyboard.press("Tab")
            assert one.page.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none"
            if one.page.evaluate(f"{focused}.textContent") == "date-keys":
                break
        one.page.keyboard.press("Enter")
        one.page.get_by_role("heading", name="date-keys").wait_for()
        expect(one.page).to_have_title(re.compile("^date-keys"))
        # Who opened a page reads on from its beginning.
        expect(one.page.locator("#main")).to_be_focused()


def test_light_and_dark_are_the_systems_until_somebody_chooses(client: Client, tab: Opened) -> None:
    with tab(client.address, color_scheme="dark") as one:
        ground = one.page.locator("html")
        one.open("runs", "table")
        dark = ground.evaluate("all => getComputedStyle(all).backgroundColor")
        one.page.get_by_label("Appearance").select_option("light")
        expect(ground).not_to_have_css("background-color", dark)
        light = ground.evaluate("all => getComputedStyle(all).backgroundColor")
        one.page.reload()
        one.page.locator("table").wait_for()
        expect(ground).to_have_css("background-color", light)
        one.page.get_by_label("Appearance").select_option("system")
        expect(ground).to_have_css("background-color", dark)
        one.page.emulate_media(color_scheme="light")
        expect(ground).to_have_css("background-color", light)


def test_who_wants_no_motion_sees_none(client: Client, tab: Opened) -> None:
    moving = "getComputedStyle(document.querySelector('.sidebar nav a')).transitionDuration"
    with tab(client.address, reduced_motion="reduce") as one:
        one.open("runs", "table")
        assert set(one.page.evaluate(moving).split(", ")) == {"0s"}


@pytest.mark.parametrize("path", [AXE], ids=["axe"])
def test_what_looks_for_faults_finds_one(client: Client, tab: Opened, path: Path) -> None:
    with tab(client.address) as one:
        one.open("runs", "table")
        one.page.evaluate(path.read_text())
        one.page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        found = one.page.evaluate("axe.run().then(found => found.violations.map(one => one.id))")
        assert "label" in found
