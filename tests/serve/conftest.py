"""A real browser for the tests of the web page; they are skipped where there is none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

CHROMIUM = next(
    filter(
        None,
        map(
            shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        ),
    ),
    None,
)
WAIT = 180_000  # milliseconds for something to be seen, on a machine however busy


@dataclass
class Tab:
    """A page in the browser.

    Attributes:
        page: Playwright's.
        address: of the server; nothing else may be asked.
        faults: errors of scripts and of the console, violations of the policy among them.
        expected: parts of those that the test brings about.
    """

    page: Any
    address: str
    faults: list[str] = field(default_factory=list[str])
    expected: list[str] = field(default_factory=list[str])

    def open(self, place: str, seen: str = "h1") -> None:
        """Go to a place of the page ("runs/one") and wait until something of it is seen."""
        self.page.goto(f"{self.address}/#/{place}")
        self.page.locator(seen).first.wait_for()

    def told(self, kind: str, text: str) -> None:
        if not any(part in text for part in self.expected):
            self.faults.append(f"{kind}: {text}")


Opened = Callable[..., contextlib.AbstractContextManager[Tab]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium, one a module: its driver's loop may not outlive the module's tests."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: Debian's package is called chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=WAIT)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Opened:
    """Opens a page of a server: `with tab(address, color_scheme="dark") as one: …`.

    At the end nothing may have gone wrong in it, and nothing but the server may have been asked.
    """

    @contextlib.contextmanager
    def opened(address: str, **more: Any) -> Generator[Tab]:
        context = chromium.new_context(locale="en-US", **more)
        context.set_default_timeout(WAIT)
        one = Tab(context.new_page(), address)

        def asked(request: Any) -> None:
            if not request.url.startswith((f"{address}/", "data:", "blob:")):
                one.faults.append(f"asked elsewhere: {request.url}")

        one.page.on("request", asked)
        one.page.on("pageerror", lambda error: one.told("script", str(error)))
        one.page.on(
            "console",
            lambda said: one.told("console", said.text) if said.type == "error" else None,
        )
        try:
            yield one
            assert one.faults == []
        finally:
            context.close()

    return opened
