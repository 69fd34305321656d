"""Requests made from the OpenAPI document, valid and not: none is answered by a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

from tests import PATIENCE
from tests.serve.run_folders import make_run
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter

# Half of the requests are for what is there.
REAL = {
    "/api/runs/": {"name": "run"},
    "/api/adapters/": {"name": "adapter"},
    "/api/datasets/": {"name": "rows", "n": 1},
}
# Starts processes of Livery's, for a second each; tests of their own ask it.
LONG = ("/api/machine",)
EACH = 8


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_of(tmp_path_factory.mktemp("schema") / "root")
    make_run(settings.root, "run")
    make_adapter(settings.root, "adapter", "peft", "gguf")
    (settings.data / "rows").mkdir()
    (settings.data / "rows" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with served(settings) as client:
        yield client


def ask_all(client: Client, operation: Any, answered: list[int]) -> None:
    """Send what is made for one operation; a failure names its request."""
    real = next((v for start, v in REAL.items() if operation.path.startswith(start)), {})

    @hypothesis.settings(max_examples=EACH, database=None, phases=[hypothesis.Phase.generate])
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        if len(answered) % 2 and case.path_parameters:
            named = {key: value for key, value in real.items() if key in case.path_parameters}
            case.path_parameters.update(named)
        if case.path.endswith("/events"):
            case.query = {**(case.query or {}), "follow": "false"}
        answer = case.call(base_url=client.address, timeout=PATIENCE)
        # 503: what answers it is not installed on this machine.
        assert answer.status_code < 500 or answer.status_code == 503, (
            case.method, case.formatted_path, case.query, case.body, answer.text,
        )  # fmt: skip
        answered.append(answer.status_code)

    ask()


@pytest.mark.slow
def test_no_request_made_from_the_document_is_a_server_error(client: Client) -> None:
    import schemathesis

    answered: list[int] = []
    schema = schemathesis.openapi.from_url(f"{client.address}/openapi.json")
    for found in schema.get_all_operations():
        operation: Any = found.ok()
        if operation.path not in LONG:
            ask_all(client, operation, answered)
    assert {200, 404, 422} <= set(answered)
    assert len(answered) > 200
