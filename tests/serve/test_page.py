"""The web page in a real browser, over the real `livery serve`."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from livery.paths import LOCK
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import executor, taken
from tests import PATIENCE
from tests.serve.conftest import Opened
from tests.serve.page_root import MARKUP, fill, rows
from tests.serve.run_folders import add_checkpoint, go_on, make_run
from tests.serve.serving import TOKEN, Client, served, settings_of

pytestmark = pytest.mark.slow
# What a browser says in the console of an answer that is no success.
REFUSED = "Failed to load resource"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("page")
    fill(root)
    with served(settings_of(root)) as client:
        assert client.get("/api/machine").status == 200  # it takes some seconds, once
        yield client


def server(root: Path, port: int = 0) -> tuple[str, subprocess.Popen[str]]:
    """`livery serve` in a process of its own: its address, once it answers, and the process.

    A port that a server had before may be another's for a moment: it is asked for again.
    """
    until = time.monotonic() + PATIENCE
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "livery", "serve", "--root", str(root), "--port", str(port),
             "--no-worker", "--json"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        if said := process.stdout.readline():
            return json.loads(said)["address"], process
        process.communicate(timeout=PATIENCE)
        assert port, "it does not start"
        assert time.monotonic() < until


# -- training --------------------------------------------------------------------------------------


def test_a_training_is_described_started_paused_resumed_and_cancelled(
    client: Client, tab: Opened
) -> None:
    with tab(client.address) as one:
        page = one.page
        one.open("train", "form")
        page.get_by_label("Skill", exact=True).select_option("persona")
        page.get_by_label("Name of the adapter").fill("from-the-page")
        steps = page.get_by_label("max_steps", exact=True)
        steps.fill("0")
        page.get_by_role("button", name="Review and start").click()
        expect(page.get_by_text("It must be at least 1.")).to_be_visible()
        expect(steps).to_be_focused()
        assert steps.get_attribute("id") == "setting-max_steps"
        seed = page.get_by_label("Seed of the data")
        seed.fill("x")
        expect(page.get_by_text("It must be a whole number, at least 0.")).to_be_visible()
        seed.fill("11")
        expect(page.get_by_text("It must be a whole number, at least 0.")).to_be_hidden()
        steps.fill("7")
        page.get_by_text("All other settings").click()
        page.get_by_label("lora.dropout", exact=True).fill("1")
        expect(page.get_by_text("It must be below 1.")).to_be_visible()
        page.get_by_label("lora.dropout", exact=True).fill("0.05")
        page.get_by_label("Make the data").uncheck()
        page.get_by_label("Make the data").check()
        page.get_by_role("button", name="Review and start").click()

        dialog = page.get_by_role("dialog", name="The full configuration")
        ours = dialog.locator("tr.ours")
        expect(ours).to_have_text(["max_steps7you", "lora.dropout0.05you"])
        options = client.get("/api/options").json()["options"]
        offered = [option for option in options if option["group"] != "pairs"]
        assert dialog.locator("tbody tr").count() > len(offered) - 5
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Review and start").click()
        dialog.get_by_role("button", name="Start").click()

        page.get_by_role("heading", name="from-the-page").wait_for()
        (job,) = [j for j in client.get("/api/jobs").json()["jobs"] if j["name"] == "from-the-page"]
        assert job["request"]["settings"] == {"max_steps": 7, "lora.dropout": 0.05}
        assert (job["request"]["data_seed"], job["request"]["attempts"]) == (11, 5)
        alone = page.get_by_role("alert").filter(has_text="No worker lives")
        expect(alone).to_contain_text("livery jobs worker")
        with taken(Layout(client.settings.root).lock("worker", executor("auto"))):
            expect(alone).to_be_hidden()
        for button, state in (("Pause", "paused"), ("Resume", "queued"), ("Cancel", "cancelled")):
            page.get_by_role("button", name=f"{button} from-the-page").click()
            page.locator("h1 .badge", has_text=state).wait_for()
            assert client.get(f"/api/jobs/{job['id']}").json()["state"] == state


def test_what_the_server_refuses_is_told(client: Client, tab: Opened) -> None:
    with tab(client.address) as one:
        one.expected.append(REFUSED)
        one.open("train", "form")
        one.page.get_by_label("Name of the adapter").fill("persona")
        one.page.get_by_role("button", name="Review and start").click()
        one.page.get_by_role("button", name="Start", exact=True).click()
        told = one.page.get_by_role("alert")
        expect(told).to_contain_text("holds a run already")


def test_only_what_this_machine_has_is_offered(client: Client, tab: Opened) -> None:
    machine = client.get("/api/machine").json()
    with tab(client.address) as one:
        one.open("train", "form")
        offered = one.page.get_by_label("Backend", exact=True).locator("option")
        expect(offered).to_have_text(["auto", *machine["backends"]])
        one.page.get_by_text("All other settings").click()
        expect(one.page.get_by_label("lora.dropout", exact=True)).to_be_visible()
        assert one.page.get_by_label("label_smoothing", exact=True).count() == 0  # of pairs
        if not machine["facts"]["torch"].get("cuda"):
            kinds = one.page.get_by_label("optimizer", exact=True).locator("option")
            kinds.first.wait_for(state="attached")
            assert not [kind for kind in kinds.all_text_contents() if "8bit" in kind]


# -- runs ------------------------------------------------------------------------------------------


def test_a_run_is_followed_over_a_killed_server_and_a_closed_browser(
    tmp_path: Path, tab: Opened
) -> None:
    folder = make_run(tmp_path, "one", 20, total=60)
    (tmp_path / "data").mkdir()
    address, process = server(tmp_path)
    try:
        with tab(address) as one:
            one.expected += [REFUSED, "ERR_CONNECTION"]
            step = one.page.locator(".figures div", has_text="Step").locator("dd")
            one.open("runs/one", ".figures")
            one.page.get_by_text(re.compile("^20")).first.wait_for()
            go_on(folder, 20, 30)
            step.filter(has_text=re.compile("^30")).wait_for()

            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=PATIENCE)
            one.page.get_by_role("status").filter(has_text="Not connected").wait_for()
            go_on(folder, 30, 44)
            _, process = server(tmp_path, int(address.rpartition(":")[2]))
            step.filter(has_text=re.compile("^44")).wait_for()
            one.page.get_by_role("status").filter(has_text="Connected").wait_for()
            one.page.get_by_text("The newest values as a table").click()
            # Nothing that happened meanwhile is missing, nothing came twice.
            lines = [n for n in range(2, 45, 2) for _ in range(1 if n % 10 else 2)]
            steps = one.page.locator("details table tbody td:first-child")
            expect(steps).to_have_text([str(step) for step in lines[::-1][:20]])
        with tab(address) as again:
            again.open("runs/one", ".figures")
            again.page.get_by_text(re.compile("^44")).first.wait_for()
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_speed_memory_and_the_time_that_is_left_are_shown_as_they_change(
    tmp_path: Path, tab: Opened
) -> None:
    folder = make_run(tmp_path, "one", 20, total=60)
    with (
        (folder / LOCK).open("w") as held,
        served(settings_of(tmp_path)) as client,
        tab(client.address) as one,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)  # as the process does that trains
        page = one.page

        def figures(card: Any, *told: tuple[str, str]) -> None:
            for name, value in told:
                shown = card.locator("div", has=page.get_by_text(name, exact=True)).locator("dd")
                expect(shown).to_have_text(value)

        # 100 tokens a step, 500 a second.
        now = (("Tokens/s", "500"), ("Memory", "322 MB"), ("Time left", "8 s"))
        one.open("runs", ".card.now")
        figures(page.locator(".card.now .figures"), *now)
        page.locator(".card.now").get_by_role("link", name="one").click()
        figures(page.locator("main > .figures"), *now)
        memory = "Most memory so far: MB from 321.5 to 321.5 at step"
        expect(page.get_by_role("img", name=f"{memory} 20.")).to_be_visible()
        go_on(folder, 20, 40)
        figures(page.locator("main > .figures"), ("Time left", "4 s"))
        expect(page.get_by_role("img", name=f"{memory} 40.")).to_be_visible()


def test_what_others_wrote_is_shown_as_text(client: Client, tab: Opened) -> None:
    with tab(client.address) as one:
        for place, seen in (
            ("runs/persona/samples", ".sample"),
            ("data/mine", ".rows"),
            ("data/identity", ".rows"),
            ("evaluations/persona/evaluation.json", ".rows"),
        ):
            one.open(place, f"main {seen}")
            one.page.get_by_text(MARKUP).first.wait_for(state="attached")
            assert one.page.locator("main img, main b").count() == 0, place
            assert "taken" not in one.page.title()


def test_a_thousand_runs_and_hundreds_of_checkpoints_are_shown_by_pages(
    tmp_path: Path, tab: Opened
) -> None:
    for number in range(1001):
        make_run(tmp_path, f"run-{number:04}", 2)
    for step in range(1, 401):
        add_checkpoint(tmp_path / "adapters" / "run-0070", step)
    with served(settings_of(tmp_path)) as client, tab(client.address) as one:
        one.open("runs", "tbody tr")
        rows = one.page.locator("tbody tr")
        expect(rows).to_have_count(50)
        expect(one.page.get_by_text("Page 1 of 20")).to_be_visible()
        expect(one.page.get_by_text("The newest 1,000 runs are shown.")).to_be_visible()
        one.page.get_by_role("searchbox").fill("run-0070")
        one.page.get_by_role("link", name="run-0070").click()
        one.page.get_by_role("link", name="Checkpoints").click()
        one.page.get_by_text("Page 1 of 8").wait_for()
        expect(rows).to_have_count(50)
        expect(rows.first).to_have_text(re.compile("^400"))
        one.page.get_by_role("button", name="Next").click()
        one.page.get_by_text("Page 2 of 8").wait_for()
        expect(rows.first).to_have_text(re.compile("^350"))
        one.open("compare?run=run-0000&run=run-1000", "table")
        table = one.page.get_by_role("region", name="Compared runs")
        expect(table.locator("tbody tr")).to_have_count(1)
        told = one.page.get_by_text("Not in the table, which has the newest 1,000 runs: run-0000.")
        expect(told).to_be_visible()


def test_runs_are_compared_and_base_stands_against_tuned(client: Client, tab: Opened) -> None:
    with tab(client.address) as one:
        one.open("runs", "table")
        for name in ("date-keys", "persona"):
            one.page.get_by_label(f"Compare {name}").check()
        one.page.get_by_role("button", name="Compare (2)").click()
        charts = one.page.get_by_role("img", name=re.compile("^Loss: date-keys from .*; persona"))
        charts.wait_for()
        one.page.locator("canvas").first.wait_for()
        one.open("runs/persona/evaluations", ".arms")
        arms = one.page.locator(".arms tbody tr").all_inner_texts()
        assert [re.split(r"\s{1,}", arm.strip())[0] for arm in arms] == ["base", "tuned"]
        assert "66.7 %" in arms[1]


def test_an_adapter_is_taken_away_or_the_job_that_makes_its_form_is_posted(
    client: Client, tab: Opened
) -> None:
    with tab(client.address) as one:
        one.open("runs/persona/export", ".forms")
        with one.page.expect_download() as saved:
            one.page.get_by_role("link", name="Save GGUF").click()
        assert saved.value.suggested_filename == "persona.gguf"
        one.page.get_by_label("Base's name in Ollama").fill("llama3.2:1b")
        saved_as = re.compile(r"/export\?form=ollama&from=llama3\.2%3A1b$")
        expect(one.page.get_by_role("link", name="Save Ollama")).to_have_attribute("href", saved_as)
        one.page.get_by_role("button", name="Make MLX").click()
        one.page.get_by_role("heading", name="persona queued").wait_for()
        (job,) = [j for j in client.get("/api/jobs").json()["jobs"] if j["name"] == "persona"]
        assert job["request"]["steps"] == ["convert"]


# -- data ------------------------------------------------------------------------------------------


def test_rows_are_uploaded_found_approved_and_exported(
    client: Client, tab: Opened, tmp_path: Path
) -> None:
    (tmp_path / "more.jsonl").write_text(rows(40))
    (tmp_path / "bad.jsonl").write_text('{"messages": 7}\n')
    with tab(client.address) as one:
        page = one.page
        one.expected.append(REFUSED)
        one.open("data", "form")
        page.get_by_label("File").set_input_files(tmp_path / "bad.jsonl")
        page.get_by_role("button", name="Upload and check").click()
        page.get_by_role("alert").filter(has_text="messages").wait_for()
        page.get_by_label("File").set_input_files(tmp_path / "more.jsonl")
        page.get_by_role("button", name="Upload and check").click()
        page.get_by_role("heading", name="more", exact=True).wait_for()
        page.get_by_text("40 rows").first.wait_for()
        page.get_by_role("searchbox").fill("at 17 o'clock")
        page.get_by_text("1 rows").wait_for()
        page.get_by_role("button", name="Approve row 18").click()
        page.locator(".rows .badge", has_text="approved").wait_for()
        page.get_by_role("searchbox").fill("")
        page.get_by_text("Page 1 of 2").wait_for()
        page.get_by_role("button", name="Reject row 2", exact=True).click()
        page.locator(".rows .badge", has_text="rejected").wait_for()
        page.get_by_label("Status").select_option("rejected")
        page.get_by_text("1 rows").wait_for()
        assert client.get("/api/datasets/more").json()["review"] == {"approved": 1, "rejected": 1}
        with page.expect_download() as saved:
            page.get_by_role("link", name="JSONL").click()
        assert Path(saved.value.path()).read_text().count("\n") == 40
        page.get_by_label("Name of the new dataset").fill("kept")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("heading", name="kept", exact=True).wait_for()
        assert client.get("/api/datasets/kept/rows").json()["total"] == 39


def test_sections_are_looked_through_approved_and_switched_off(tmp_path: Path, tab: Opened) -> None:
    fill(tmp_path)
    with served(settings_of(tmp_path)) as client, tab(client.address) as one:
        page = one.page
        one.open("data", "table")
        page.get_by_role("switch", name="Train on mine").uncheck()
        expect(page.get_by_text("1 of 2 datasets")).to_be_visible()
        page.get_by_role("link", name="identity").click()
        page.get_by_role("link", name="Show section trust").click()
        expect(page.locator(".rows > li")).to_have_count(2)
        page.get_by_role("button", name="Approve section trust").click()
        expect(page.locator(".rows .badge")).to_have_text(["approved", "approved"])
        expect(page.locator("tr.ours")).to_contain_text("2 approved")
        page.get_by_role("button", name="Reject section profile").click()
        page.get_by_role("link", name="All sections").click()
        expect(page.locator(".rows .badge", has_text="rejected")).to_have_count(3)
        page.get_by_role("switch", name=f"Train on section {MARKUP}").uncheck()
        expect(page.get_by_role("switch", name=f"Train on section {MARKUP}")).not_to_be_checked()
        page.reload()
        expect(page.get_by_role("switch", name=f"Train on section {MARKUP}")).not_to_be_checked()

        # What is off or rejected is not in what is trained on.
        one.open("data", "table")
        expect(page.get_by_role("switch", name="Train on mine")).not_to_be_checked()
        page.get_by_role("button", name="Put together").click()
        page.get_by_role("heading", name="aios_combined").wait_for()
        expect(page.locator(".rows > li")).to_have_count(2)
        found = client.get("/api/datasets/aios_combined/rows").json()["rows"]
        assert [row["row"]["metadata"]["section"] for row in found] == ["trust", "trust"]


def test_what_is_deleted_is_asked_for_twice(tmp_path: Path, tab: Opened) -> None:
    fill(tmp_path)
    with served(settings_of(tmp_path)) as client, tab(client.address) as one:
        page = one.page
        one.expected.append(REFUSED)
        said = {"data": "mine", "name": "waits", "steps": ["train"]}
        job = client.post("/api/jobs", said).json()["id"]
        one.open("data/mine", ".rows")
        page.get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog", name="Delete mine?")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Delete").click()
        dialog.get_by_role("button", name="Delete for good").click()
        expect(dialog.get_by_role("alert")).to_contain_text(f"is needed by job {job}")
        client.post(f"/api/jobs/{job}/cancel")
        dialog.get_by_role("button", name="Delete for good").click()
        page.get_by_role("link", name="identity").wait_for()
        expect(page.get_by_role("link", name="mine")).to_have_count(0)
        for place in ("runs/date-keys", "adapters/persona"):
            one.open(place, "main .figures")
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("button", name="Delete for good").click()
            expect(page).not_to_have_url(re.compile(place))
        expect(page.get_by_text("No adapters yet.")).to_be_visible()
        assert client.get("/api/runs").json()["runs"] == []


def test_rows_are_generated(tmp_path: Path, tab: Opened) -> None:
    with served(settings_of(tmp_path)) as client, tab(client.address) as one:
        page = one.page
        one.expected.append(REFUSED)
        one.open("data", "form")
        form = page.locator(".card", has=page.get_by_role("heading", name="Generate"))
        form.get_by_label("Skill").select_option("date-keys")
        form.get_by_label("Rows to train on").fill("30")
        form.get_by_label("Seed").fill("3")
        form.get_by_role("button", name="Generate").click()
        page.get_by_role("heading", name="date-keys-3", exact=True).wait_for()
        expect(page.get_by_text("30 rows").first).to_be_visible()
        # The same again is refused, and told.
        one.open("data", "form")
        form.get_by_label("Skill").select_option("date-keys")
        form.get_by_label("Seed").fill("3")
        form.get_by_role("button", name="Generate").click()
        expect(form.get_by_role("alert")).to_contain_text("There is a dataset named date-keys-3")


# -- the token -------------------------------------------------------------------------------------


def test_a_server_with_a_token_asks_for_it_once(tmp_path: Path, tab: Opened) -> None:
    make_run(tmp_path, "one")
    with served(settings_of(tmp_path, token=TOKEN)) as client, tab(client.address) as one:
        one.expected.append(REFUSED)
        one.open("runs/one", "#token")
        one.page.get_by_label("Token").fill("not it at all, and of the right length")
        one.page.get_by_role("button", name="Open").click()
        one.page.get_by_role("alert").wait_for()
        one.page.get_by_label("Token").fill(TOKEN)
        one.page.keyboard.press("Enter")
        one.page.get_by_role("heading", name="one").wait_for()
        one.page.locator(".u-wrap").first.wait_for()  # also what the stream of events tells
        one.page.reload()
        one.page.get_by_role("heading", name="one").wait_for()
        assert TOKEN not in json.dumps(one.page.evaluate("[document.cookie, {...localStorage}]"))


def test_the_policy_stops_what_is_inline(client: Client, tab: Opened) -> None:
    with tab(client.address) as one:
        one.expected.append("Content Security Policy")
        one.open("runs", "table")
        one.page.evaluate(
            "() => { const one = document.createElement('script');"
            " one.textContent = 'window.ran = 1'; document.head.append(one) }"
        )
        assert one.page.evaluate("window.ran") is None
