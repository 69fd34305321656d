"""Requests made from the OpenAPI document, valid and not: none is answered by a server error."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

from tests.serve.schema import ask_all, example


@pytest.mark.slow
def test_each_request_made_from_the_document_is_answered_as_it_says(tmp_path: Path) -> None:
    with example(tmp_path / "root") as client:
        asked = ask_all(client, each=3)
    assert {200, 404, 422} <= asked.statuses.keys()
    assert asked.operations > 70
    assert asked.requests > 250
