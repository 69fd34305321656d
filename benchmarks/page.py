"""What the web page weighs and when it is painted: python -m benchmarks.page --loads 15

`livery serve` serves a folder of made runs in a process of its own, and a headless Chromium opens
the page, each time in a context of its own, whose cache is empty. The times are the browser's own:
PerformancePaintTiming's first paint and first contentful paint, and the moment at which the list of
runs is there. The weight is of the page's own files, uncompressed, as the server sends them: those
that were there at the first contentful paint, those that the first page loads, and all there are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.serve import make
from livery.files import write_json
from livery.serve.api.app import PAGE

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PARTS = (".html", ".js", ".mjs", ".css", ".svg")  # of the page; licences lie beside them
WAIT = 120_000  # milliseconds, on a machine however busy
# Says when the list of runs is there.
SEEN = """
new MutationObserver((_, watching) => {
  if (document.querySelector("main tbody th[scope=row]")) {
    window.livery_seen = performance.now();
    watching.disconnect();
  }
}).observe(document, {childList: true, subtree: true});
"""
TOLD = """async () => {
  const all = kind => performance.getEntriesByType(kind);
  while (window.livery_seen === undefined || all("paint").length < 2)
    await new Promise(next => setTimeout(next, 20));
  return {
    paints: Object.fromEntries(all("paint").map(one => [one.name, one.startTime])),
    seen: window.livery_seen,
    files: ["navigation", "resource"].flatMap(all)
      .map(one => ({name: one.name, bytes: one.encodedBodySize, end: one.responseEnd})),
  };
}"""


def main() -> None:
    """Load, print medians, and write every load as JSON where that was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--loads", type=int, default=15)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="livery-page-") as folder:
        make(Path(folder), given.runs)
        loads = measure(Path(folder), given.loads)
    for name in ("first_paint_ms", "first_contentful_paint_ms", "runs_shown_ms"):
        found = [one[name] for one in loads]
        print(f"{name:<28} median {statistics.median(found):,.0f}, {min(found):,.0f} to "
              f"{max(found):,.0f}")  # fmt: skip
    for name in ("painted_bytes", "first_page_bytes", "files"):
        print(f"{name:<28} {statistics.median(one[name] for one in loads):,.0f}")
    whole = [file for file in PAGE.rglob("*") if file.suffix in PARTS]
    print(f"{'all_bytes':<28} {sum(file.stat().st_size for file in whole):,} in {len(whole)} files")
    if given.json:
        write_json(given.json, {"loads": loads})


def measure(root: Path, loads: int) -> list[dict[str, Any]]:
    """What each load took; one that is not counted goes before them, so that both programs are
    awake."""
    browser_at = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser_at is None:
        sys.exit("Chromium is not installed: Debian's package is called chromium.")
    server = subprocess.Popen(
        [sys.executable, "-m", "livery", "serve", "--root", str(root), "--port", "0", "--no-worker",
         "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["address"]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=browser_at, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            found = [load(browser, address) for _ in range(loads + 1)][1:]
            browser.close()
        return found
    finally:
        server.terminate()
        server.wait()


def load(browser: Browser, address: str) -> dict[str, Any]:
    """Open the page once, with an empty cache."""
    context = browser.new_context(locale="en-US")
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.add_init_script(SEEN)
    page.goto(address)
    told = page.evaluate(TOLD)
    context.close()
    ours = [one for one in told["files"] if not one["name"].startswith(f"{address}/api/")]
    painted = told["paints"]["first-contentful-paint"]
    return {
        "first_paint_ms": told["paints"]["first-paint"],
        "first_contentful_paint_ms": painted,
        "runs_shown_ms": told["seen"],
        "painted_bytes": sum(one["bytes"] for one in ours if one["end"] <= painted),
        "first_page_bytes": sum(one["bytes"] for one in ours),
        "files": len(ours),
    }


if __name__ == "__main__":
    main()
