"""The search for cycles is rarer while rows come in, and as it was afterwards."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from livery.collecting import few_collections
from livery.dataset.load import load_dataset
from livery.dataset.template import load_chat
from livery.errors import UserError
from tests.tiny_models import tiny_model


@pytest.mark.slow
def test_rows_are_read_with_hardly_a_search_for_cycles(tmp_path: Path) -> None:
    chat = load_chat(tiny_model("llama", tmp_path / "model"))
    rows = [{"prompt": f"say {number}", "completion": "yes"} for number in range(2000)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    before = gc.get_threshold()
    searches: list[str] = []

    def count(phase: str, _: dict[str, int]) -> None:
        searches.append(phase)

    gc.callbacks.append(count)
    try:
        assert len(load_dataset(path, chat, max_length=64).examples) == 2000
    finally:
        gc.callbacks.remove(count)
    assert searches.count("start") < 5
    assert gc.get_threshold() == before


def test_the_search_is_as_it_was_after_an_error_and_where_it_was_rarer_or_off() -> None:
    own = gc.get_threshold()
    with pytest.raises(UserError), few_collections():
        raise UserError("no rows")
    assert gc.get_threshold() == own
    try:
        for rarer in (0, 1_000_000):
            gc.set_threshold(rarer, *own[1:])
            with few_collections():
                assert gc.get_threshold()[0] == rarer
    finally:
        gc.set_threshold(*own)
