"""The playground in a real browser: base and tuned of a tiny model, streamed by a real engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
pytest.importorskip("mlx_lm")

from playwright.sync_api import expect

from livery.interactions import read
from livery.skills import get_skill
from tests.serve.conftest import Opened
from tests.serve.test_chat import Server, add_adapter, serving
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("answers")
    for name in ("one", "date-keys"):
        add_adapter(root / "adapters" / name, tiny_model("llama", root / "models"))
    with serving(root) as made:
        yield made


def test_base_and_tuned_answer_side_by_side(server: Server, tab: Opened) -> None:
    with tab(server.client.address) as one:
        one.open("playground?adapter=one", "form")
        expect(one.page.get_by_label("Adapter")).to_have_value("one")
        one.page.get_by_label("Longest answer").fill("12")
        one.page.get_by_label("Prompt", exact=True).fill("tomorrow")
        one.page.get_by_role("button", name="Ask both").click()
        said: dict[str, str] = {}
        for side, model in (("Base", "one:base"), ("Tuned", "one")):
            answer = one.page.get_by_role("region", name=f"{side} answer")
            answer.get_by_text(" pieces in ").wait_for()
            one.page.locator(f"[aria-label='{side} answer'][aria-busy=false]").wait_for()
            asked = {
                "model": model, "max_tokens": 12, "temperature": 0,
                "messages": [{"role": "user", "content": "tomorrow"}],
            }  # fmt: skip
            whole = server.client.post("/v1/chat/completions", asked).json()
            said[side] = whole["choices"][0]["message"]["content"]
            assert answer.locator(".said").text_content() == said[side]
        assert said["Base"] != said["Tuned"]


def test_an_adapter_is_asked_as_its_skill_asks_and_its_answer_is_marked(
    server: Server, tab: Opened
) -> None:
    skill = get_skill("date-keys")
    text = "Call Bob Tmrw @ 3P, please!"
    with tab(server.client.address) as one:
        page = one.page
        one.open("playground?adapter=date-keys", "form")
        expect(page.get_by_label("Asked as")).to_have_value("date-keys")
        expect(page.get_by_label("System prompt")).to_have_value(skill.system_prompt)
        held = page.get_by_label("Only answers that the skill's grammar admits")
        expect(held).to_be_checked()
        page.get_by_role("button", name="Put in an example").click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(
            skill.messages("Wake me at half seven tomorrow morning")[-1]["content"]
        )
        page.get_by_label("Longest answer").fill("24")
        page.get_by_label("Prompt", exact=True).fill(text)
        page.get_by_role("button", name="Ask both").click()
        asked = {
            "model": "date-keys", "max_tokens": 24, "messages": skill.messages(text),
            "response_format": {"type": "livery_skill"}, "store": False,
        }  # fmt: skip
        whole = server.client.post("/v1/chat/completions", asked).json()
        answer = page.get_by_role("region", name="Tuned answer")
        answer.get_by_label("If it is wrong, the right answer").fill('["tomorrow"]')
        assert answer.locator(".said").text_content() == whole["choices"][0]["message"]["content"]
        answer.get_by_role("button", name="Bad").click()
        answer.get_by_text("Marked bad.").wait_for()
        # The answer of the tuned model alone is logged: nobody uses the base's.
        assert server.client.settings.log is not None
        (logged,) = [i for i in read(server.client.settings.log).interactions if i.skill]
        assert logged.messages == tuple(skill.messages(text))
        assert logged.facts["adapter"] == "date-keys"
        assert logged.mark is not None
        assert (logged.mark.verdict, logged.mark.corrected) == ("bad", '["tomorrow"]')

        # Another skill brings its own prompt; what it cannot read is told.
        one.expected.append("Failed to load resource")
        page.get_by_label("Asked as").select_option("dsl")
        expect(page.get_by_label("System prompt")).to_have_value("")
        page.get_by_role("button", name="Ask both").click()
        expect(page.get_by_role("alert")).to_contain_text("it has no [SCHEMA]")
        page.get_by_label("Asked as").select_option("persona")
        expect(held).to_have_count(0)
        page.get_by_label("Asked as").select_option("state")
        expect(page.get_by_label("System prompt")).to_have_value(re.compile("== STATE =="))
