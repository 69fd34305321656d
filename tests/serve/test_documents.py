"""The API described: for programs as OpenAPI, for people as a page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from tests.serve.serving import Client, served, settings_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(settings_of(tmp_path_factory.mktemp("documents"))) as client:
        yield client


def test_every_operation_says_what_it_does_and_how_it_refuses(client: Client) -> None:
    document = client.get("/openapi.json").json()
    seen: set[str] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            assert operation.get("tags"), where
            refused = operation["responses"]["default"]["content"]
            assert "application/problem+json" in refused, where
            seen.add(operation["operationId"])
    assert len(seen) == sum(len(operations) for operations in document["paths"].values())
    assert {"/api/runs", "/api/datasets", "/api/adapters", "/api/jobs"} <= set(document["paths"])


def test_the_page_names_every_operation_and_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/docs")
    assert page.status == 200
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page.text
    loaded = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert loaded == ["/docs/style.css", "/openapi.json"]
    assert "<script" not in page.text
    assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")
