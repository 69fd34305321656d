"""What is sent by somebody who should not: each attack with the answer it gets, and beside it the
honest request that passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import Request

from livery.errors import UserError
from livery.serve.api.files import send_file
from livery.serve.settings import ServeSettings
from tests.serve.serving import TOKEN, Client, served, settings_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_of(tmp_path_factory.mktemp("open"), allowed_hosts=("my.lan",))
    with served(settings) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(settings_of(tmp_path_factory.mktemp("token"), token=TOKEN)) as client:
        yield client


# -- Host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8765",
        "localhost@evil.example", "localhost.", "", "[::1", "127.0.0.2", "0.0.0.0", "0x7f.1",
        "localhost:80:80", "localhost/", "localhost evil",
    ],
)  # fmt: skip
def test_a_request_for_another_host_is_refused(client: Client, host: str) -> None:
    """A name of an attacker's that resolves to 127.0.0.1 (DNS rebinding) comes with that name."""
    answer = client.get("/api/session", Host=host)
    assert answer.status in (400, 421)
    if answer.status == 421:
        assert answer.json()["key"] == "Host"


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:9", "[::1]:8765", "LOCALHOST:1", "my.lan", "my.lan:443"]
)
def test_our_own_names_pass_at_any_port(client: Client, host: str) -> None:
    assert client.get("/api/session", Host=host).status == 200


# -- Origin --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:99999999999"},
        {"Origin": "file://"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_pages_of_other_origins_neither_read_nor_change(
    client: Client, method: str, headers: dict[str, str]
) -> None:
    answer = client.ask(method, "/api/session", headers={"Host": "localhost:8765"} | headers)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8765"},
        {"Origin": "https://LOCALHOST:8765", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_our_own_page_and_programs_pass(client: Client, headers: dict[str, str]) -> None:
    answer = client.ask("DELETE", "/api/session", headers={"Host": "localhost:8765"} | headers)
    assert answer.status == 204


# -- the token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my.lan", ""])
def test_nothing_listens_beyond_this_machine_without_a_token(client: Client, host: str) -> None:
    root = client.settings.root
    with pytest.raises(UserError, match="--token-file"):
        ServeSettings(root, host=host)
    with pytest.raises(UserError, match="32 characters"):
        ServeSettings(root, host=host, token="short")
    assert ServeSettings(root, host=host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \u00e9"},
        {"Cookie": f"livery_session={TOKEN}"},
        {"Cookie": "livery_session="},
    ],
)
@pytest.mark.parametrize("path", ["/api/runs", "/openapi.json", "/docs", "/v1/models", "/nothing"])
def test_without_the_token_nothing_is_told(
    guarded: Client, path: str, headers: dict[str, str]
) -> None:
    answer = guarded.get(path, **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    told = answer.json().get("error")
    assert (told and told["code"]) == ("invalid_api_key" if path == "/v1/models" else None)


def test_the_token_opens_and_so_does_the_cookie_it_buys(guarded: Client) -> None:
    assert guarded.get("/openapi.json", Authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.post("/api/session", {"token": "wrong"}).status == 401
    bought = guarded.post("/api/session", {"token": TOKEN})
    assert bought.status == 204
    cookie, *attributes = bought.headers["set-cookie"].split("; ")
    assert {"httponly", "samesite=strict"} <= {a.lower() for a in attributes}
    assert TOKEN not in cookie
    assert guarded.get("/openapi.json", Cookie=cookie).status == 200
    crossing = guarded.get("/openapi.json", Cookie=cookie, Sec_Fetch_Site="cross-site")
    assert crossing.status == 403


JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"command": ', JSON, "The body is not JSON (Expecting value at character 12)."),
        (b'{"command": "ls"}', "application/x-www-form-urlencoded", "with Content-Type: " + JSON),
        (b"[]", JSON, "The body must be a JSON object"),
        (b"", JSON, "The body must be a JSON object"),
        (b"{}", JSON, "body: give either a command or an answer."),
        (b'{"command": 5}', JSON, "command: Input should be a valid string."),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    client: Client, body: bytes, kind: str, said: str
) -> None:
    answer = client.ask("POST", "/v1/guard", body, {"Content-Type": kind})
    assert answer.status == 422
    assert said in answer.json()["detail"]
    assert answer.json().get("key") == ("command" if said.startswith("command") else None)


def test_a_file_is_closed_when_the_client_has_gone_before_its_first_byte(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 1000)
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": "/", "headers": [],
        "asgi": {"version": "3.0", "spec_version": "2.3"},  # uvicorn's
    }  # fmt: skip

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        await asyncio.sleep(0)

    async def answer() -> list[int]:
        response = send_file(tmp_path / "log", Request(scope))
        assert len(opened(tmp_path / "log")) == 1
        await response(scope, gone, send)
        return opened(tmp_path / "log")

    assert asyncio.run(answer()) == []


def opened(path: Path) -> list[int]:
    """This process's descriptors of a file; of others, servers here open and close some."""
    found: list[int] = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), path.stat()):
                found.append(int(name))
    return found
