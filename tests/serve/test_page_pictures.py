"""The pictures of docs/page.md, made anew where somebody asks for them:

LIVERY_PICTURES=docs/images ./test.sh tests/serve/test_page_pictures.py
"""

from __future__ import annotations

import fcntl
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from livery.files import write_json
from livery.interactions import Log
from livery.paths import LOCK, METADATA
from livery.serve import improve
from livery.skills import get_skill
from livery.training import run_folder
from livery.training.events import Evaluated, Metrics, Sampled
from tests import ROOT
from tests.serve.conftest import Opened
from tests.serve.run_folders import make_run
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter

PICTURES = os.environ.get("LIVERY_PICTURES")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PICTURES is None, reason="makes pictures where LIVERY_PICTURES says so"),
]
SHOWN = {
    "runs": ("runs", "light", "table"),
    "run": ("runs/date-keys", "light", ".u-wrap"),
    "run-dark": ("runs/date-keys", "dark", ".u-wrap"),
    "train": ("train", "light", "form"),
    "data": ("data/date-keys-7?section=relative_days", "light", ".rows"),
    "playground": ("playground?adapter=dates", "dark", "form"),
    "improve": ("improve/dates", "light", ".rows"),
}
PRESSED = {"playground": "Put in an example"}


def train(root: Path, name: str, steps: int, total: int, *, low: float, **settings: Any) -> None:
    """A run whose loss falls as losses do."""
    folder = make_run(root, name, 0, total=total, **settings)
    dice = random.Random(name)
    log = run_folder.log_events(folder)
    for step in range(5, steps + 1, 5):
        loss = low + 2.6 * math.exp(-step / 60) + dice.gauss(0, 0.03)
        rate = 1.4e-3 * min(1, step / 20) * (0.5 + 0.5 * math.cos(math.pi * step / total))
        speed = 5200 + dice.gauss(0, 120)
        log(Metrics(step, step / 100, loss, 0.6 + dice.random() / 5, rate, speed, 50.0, 1480.0))
        if step % 40 == 0:
            log(Evaluated(step, step / 100, loss + 0.06, 0.1, 1.0, 1.0))
            log(Sampled(step, "Call me tomorrow morning", '["tomorrow"]', '["tomorrow"]'))
    if steps == total:
        write_json(folder / METADATA, {"steps": steps})


def make_dates(client: Client) -> None:
    """An adapter that learns from rows that a generator made, with an answer to look at."""
    settings, skill = client.settings, get_skill("date-keys")
    made = client.post("/api/finetune/generate", {"skill": "date-keys", "count": 300, "seed": 7})
    assert made.status == 200, made.text
    rows = client.get("/api/datasets/date-keys-7/rows?section=relative_days").json()["rows"]
    for row, status in zip(rows, ("approved", "rejected"), strict=False):
        place = f"/api/datasets/date-keys-7/rows/{row['n']}"
        assert client.ask("PUT", place, {"status": status}).status == 200
    folder = make_adapter(settings.root, "dates", "peft")
    write_json(folder / "run_config.json", {"settings": {"data": "data/date-keys-7"}})
    improve.set_logging(settings, on=True)
    log = Log(improve.log_file(settings))
    for text, answer in (
        ("remind me the day after tomorrow", '["tomorrow", "later"]'),
        ("call the plumber first thing on friday", "I do not know"),
    ):
        log.record(skill.messages(text), answer, skill="date-keys", adapter="dates")


def test_pictures_of_the_page(tmp_path: Path, tab: Opened) -> None:
    train(tmp_path, "persona-first", 400, 400, low=0.9)
    train(tmp_path, "persona-rank-32", 400, 400, low=0.8)
    train(tmp_path, "actions", 600, 600, low=0.35)
    train(tmp_path, "date-keys", 420, 700, low=0.12)
    out = ROOT / str(PICTURES)
    out.mkdir(parents=True, exist_ok=True)
    lock = tmp_path / "adapters" / "date-keys" / LOCK
    with lock.open("w") as held, served(settings_of(tmp_path)) as client:
        fcntl.flock(held, fcntl.LOCK_EX)  # as the process does that trains
        client.get("/api/machine")
        make_dates(client)
        for name, (place, scheme, seen) in SHOWN.items():
            size = {"width": 1180, "height": 760}
            with tab(client.address, color_scheme=scheme, viewport=size) as one:
                one.open(place, f"main {seen}")
                if name in PRESSED:
                    one.page.get_by_role("button", name=PRESSED[name]).click()
                one.page.screenshot(path=out / f"{name}.png")
                assert (out / f"{name}.png").stat().st_size < 150_000
