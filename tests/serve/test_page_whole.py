"""The page from the first click to the last: real trainings by a real worker.

A training is described, followed until it stops early, and its adapter taken away; an adapter is
made better from weak answers, and the better one rolled back.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi")
pytest.importorskip("playwright")
pytest.importorskip("mlx_lm")

from playwright.sync_api import expect

from livery.interactions import Log
from livery.serve import improve
from livery.serve.jobs import store
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
from livery.skills import get_skill
from tests import PATIENCE
from tests.serve.conftest import Opened
from tests.serve.jobs_run import working
from tests.serve.page_root import rows
from tests.serve.serving import served, settings_of
from tests.serve.test_chat import add_adapter
from tests.serve.test_improve import CHORES, TRAINING
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow
LONG = 1000 * PATIENCE  # milliseconds for a job
ENDED = re.compile("done|failed|cancelled")


def wait_for_job(page: Any) -> None:
    """Until the job that the page shows is done."""
    badge = page.locator("h1 .badge")
    expect(badge).to_have_text(ENDED, timeout=LONG)
    assert badge.text_content() == "done", page.get_by_label("Log of job").text_content()


def test_a_training_is_described_followed_to_its_early_end_and_taken_away(
    tmp_path: Path, tab: Opened
) -> None:
    settings = settings_of(tmp_path)
    (settings.data / "mine").mkdir()
    for split, count in (("train", 24), ("valid", 4)):
        (settings.data / "mine" / f"{split}.jsonl").write_text(rows(count))
    with served(settings) as client, working(Jobs(settings.root)), tab(client.address) as one:
        page = one.page
        one.open("train", "form")
        page.get_by_label("a dataset of this server").check()
        expect(page.get_by_label("Evaluate", exact=True)).to_have_count(0)  # it teaches no skill
        page.get_by_label("Name of the adapter").fill("first")
        page.get_by_label("Backend", exact=True).select_option("mlx")
        page.get_by_label("Attempts").fill("2")
        for name, value in {
            "max_steps": "12", "batch_size": "4", "lora.rank": "4", "lora.alpha": "8",
            "steps_per_eval": "1", "early_stop_patience": "2",
        }.items():  # fmt: skip
            page.get_by_label(name, exact=True).fill(value)
        page.get_by_text("All other settings").click()
        # No evaluation is that much better than another: it stops after the second.
        page.get_by_label("early_stop_min_delta", exact=True).fill("100")
        page.get_by_label("steps_per_report", exact=True).fill("1")
        page.get_by_role("button", name="Review and start").click()
        page.get_by_role("button", name="Start", exact=True).click()
        wait_for_job(page)
        request = client.get("/api/jobs").json()["jobs"][0]["request"]
        assert (request["attempts"], request["steps"]) == (2, ["train", "convert", "pack"])

        page.get_by_role("link", name="Its run").click()
        run = client.get("/api/runs/first").json()
        assert run["step"] < 12
        early = f"Stopped early, after step {run['step']} of 12."
        expect(page.get_by_text(early)).to_be_visible()
        for figure, seen in (("Tokens/s", r"^\d"), ("Memory", r"^\d.* MB$"), ("Loss", r"^\d")):
            expect(page.locator(".figures div", has_text=figure).first.locator("dd")).to_have_text(
                re.compile(seen)
            )
        for chart in ("Loss: loss from ", "Tokens a second: ", "Most memory so far: MB from "):
            expect(
                page.get_by_role("img", name=re.compile(f"^{chart}.*{run['step']}"))
            ).to_be_visible()
        page.get_by_role("link", name="Log", exact=True).click()
        expect(page.locator(".log")).to_contain_text("Stopped early after step")
        page.get_by_role("link", name="Export", exact=True).click()
        for words in ("PEFT", "MLX", "GGUF"):
            expect(page.get_by_role("link", name=f"Save {words}")).to_be_visible()
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save Zip").click()
        with zipfile.ZipFile(io.BytesIO(Path(saved.value.path()).read_bytes())) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert {"adapter_model.safetensors", "adapters.safetensors", "adapter.gguf"} <= names


def test_weak_answers_become_a_better_adapter_which_is_rolled_back(
    tmp_path: Path, tab: Opened
) -> None:
    """The adapter that there is answers at random; the one that was corrected finds nothing, which
    is right for more of the cases."""
    skill = get_skill("date-keys")
    model = tiny_model("llama", tmp_path / "models")
    settings = settings_of(tmp_path / "root", models=(tmp_path,), engine="mlx")
    data = settings.data / "mine"
    data.mkdir()
    (data / "manifest.json").write_text('{"skill": "date-keys"}')
    for split in ("train", "valid"):
        turns = [
            *skill.messages(f"{split} it"), {"role": "assistant", "content": skill.render([])},
        ]  # fmt: skip
        (data / f"{split}.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    folder = add_adapter(settings.adapters / "dates", model)
    record = {"settings": {"model": str(model), "data": "data/mine", "quantize": None}}
    (folder / "run_config.json").write_text(json.dumps(record))
    before = (folder / "mlx" / "adapters.safetensors").read_bytes()
    jobs = Jobs(settings.root)
    asked = JobRequest(
        skill="date-keys", data="mine", name="dates", steps=("train",), overwrite=True,
        settings={**TRAINING, "model": str(model)}, backend="mlx",
    )  # fmt: skip
    store.change(jobs.engine, jobs.submit(asked).id, {"state": store.DONE})
    log = Log(improve.log_file(settings))
    answers = ["I do not know", *['["tomorrow"]'] * (len(CHORES) - 1)]
    for chore, answer in zip(CHORES, answers, strict=True):
        messages = skill.messages(chore)
        id = log.record(messages, answer, skill="date-keys", adapter="dates")
        if answer != answers[0]:
            log.mark(id, "bad", "[]")

    with served(settings) as client, working(jobs), tab(client.address) as one:
        page = one.page
        one.open("improve/dates", ".rows")
        weak = page.locator(".rows > li", has_text="I do not know")
        weak.get_by_label("The right answer").fill("[]")
        weak.get_by_role("button", name="Correct").click()
        expect(weak).to_have_count(0)

        page.get_by_role("button", name="Retrain", exact=True).click()
        dialog = page.get_by_role("dialog", name="Retrain dates")
        dialog.get_by_label("Users' marks decide first").check()
        dialog.get_by_role("button", name="Start").click()
        page.get_by_role("heading", name="dates-next-1").wait_for()
        wait_for_job(page)
        request = client.get("/api/jobs").json()["jobs"][0]["request"]
        assert request["settings"] == {**TRAINING, "model": str(model)}
        assert request["steps"] == ["train", "convert", "pack", "promote"]

        one.open("improve/dates", ".figures")
        kept = page.locator(".figures div", has_text="Kept to go back to").locator("dd")
        expect(kept).to_have_text("1")
        expect(page.get_by_role("heading", name="The last comparison")).to_be_visible()
        assert (folder / "mlx" / "adapters.safetensors").read_bytes() != before
        page.get_by_role("button", name="Roll back").click()
        told = page.get_by_role("status").filter(has_text="The adapter before is in use again.")
        expect(told).to_have_count(1)
        assert (folder / "mlx" / "adapters.safetensors").read_bytes() == before
