"""The playground in a real browser: base and tuned of a tiny model, streamed by a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
pytest.importorskip("mlx_lm")

from playwright.sync_api import expect

from tests.serve.conftest import Opened
from tests.serve.test_chat import Server, add_adapter, serving
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("answers")
    add_adapter(root / "adapters" / "one", tiny_model("llama", root / "models"))
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
