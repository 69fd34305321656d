"""`livery serve` as people start it, the page at /, and names that lead to paths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi")

from commands.serving.serve import serve_command
from livery.errors import UserError
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import executor, is_taken
from livery.serve.server import only_server
from livery.serve.settings import ServeSettings, read_token
from tests import PATIENCE
from tests.serve.jobs_run import wait_for
from tests.serve.serving import TOKEN, served, settings_of


@contextmanager
def started(
    root: Path, *words: str, worker: bool = False
) -> Generator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A server in a process of its own; what it says once it answers."""
    none = [] if worker else ["--no-worker"]
    command = ["serve", "--root", str(root), "--port", "0", "--json", *none, *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "livery", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.slow
def test_a_server_says_where_it_is_and_has_its_root_alone(tmp_path: Path) -> None:
    with started(tmp_path) as (said, process):
        assert said["root"] == str(tmp_path)
        with urllib.request.urlopen(f"{said['address']}/api/runs") as answer:
            assert json.load(answer) == {"runs": [], "before": None}
        told = json.loads((tmp_path / ".livery" / "serve.lock").read_text())
        assert told == {"address": said["address"], "pid": process.pid}
        second = subprocess.run(
            [sys.executable, "-m", "livery", "serve", "--root", str(tmp_path), "--port", "0"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert second.stderr.startswith(f"Error: {tmp_path}: another server has this folder")
        assert second.stderr.count("\n") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) is not None


@pytest.mark.slow
def test_a_worker_that_is_killed_is_followed_by_another(tmp_path: Path) -> None:
    """As long as the server lives; the last one outlives it, and the server said how to end it."""
    with started(tmp_path, worker=True) as (said, process):
        assert process.stderr is not None

        def workers() -> int:
            with urllib.request.urlopen(f"{said['address']}/api/jobs") as answer:
                return json.load(answer)["workers"]

        first = worker_of(process.stderr.readline())
        assert os.getsid(first) == first  # it outlives the server's terminal
        wait_for(lambda: workers() == 1)
        os.kill(first, signal.SIGKILL)
        assert f"the worker {first} was ended by SIGKILL" in process.stderr.readline()
        second = worker_of(process.stderr.readline())
        assert second != first
        wait_for(lambda: workers() == 1)
    lock = Layout(tmp_path).lock("worker", executor("auto"))
    assert is_taken(lock)
    os.kill(second, signal.SIGTERM)
    wait_for(lambda: not is_taken(lock))


def worker_of(told: str) -> int:
    """The process of a worker that a server says it has started."""
    assert "goes on when this server ends" in told
    return int(told.rpartition("kill ")[2])


@pytest.mark.slow
def test_a_server_for_other_machines_says_that_it_needs_a_name(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    words = ["--host", "0.0.0.0", "--token-file", str(tmp_path / "token")]
    for more, noted in (([], True), (["--allow-host", "my.lan"], False)):
        with started(tmp_path, *words, *more) as (_, process):
            process.terminate()
            _, told = process.communicate(timeout=PATIENCE)
            assert ("--allow-host" in told) is noted


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--host", "::"], "--token-file"),
        (["--port", "70000"], "from 0 to 65535"),
        (["--root", "nowhere"], "is not a folder"),
        (["--token-file", "nowhere"], "nowhere"),
        (["--allow-host", "http://x/"], "is not a host"),
        (["--host", "203.0.113.7", "--token-file", "token"], "cannot listen here"),
    ],
)
def test_what_cannot_be_served_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    log = ["--log", "nowhere/log.jsonl"]
    result = CliRunner().invoke(serve_command, [*words, "--no-worker", *log])
    assert isinstance(result.exception, UserError)
    assert told in str(result.exception)
    assert "--root" not in words or not (tmp_path / "nowhere").exists()


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("commands.serving.serve.NEEDED", ("fastapi", "no_such_package"))
    result = CliRunner().invoke(serve_command, ["--root", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("Not installed: no_such_package. Install with: ")


def test_a_token_is_long_and_without_spaces(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"  {TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
    for token in ("short", "a" * 31, "a " * 32, "ü" * 40, ""):
        with pytest.raises(UserError, match="32 characters"):
            ServeSettings(tmp_path, token=token)
    assert TOKEN not in repr(ServeSettings(tmp_path, token=TOKEN))


# -- the page --------------------------------------------------------------------------------------


def test_the_page_is_served_without_the_token_and_nothing_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "vendor").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html><title>Livery</title>")
    (page / "vendor" / "a.js").write_text("export {}")
    (tmp_path / "secret.js").write_text("secret")
    (page / "link.js").symlink_to(tmp_path / "secret.js")
    with served(settings_of(tmp_path / "root", token=TOKEN), page=page) as client:
        for path, kind in (("/", "text/html"), ("/vendor/a.js", "text/javascript")):
            answer = client.get(path)
            assert answer.status == 200
            assert answer.headers["content-type"].startswith(kind)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-cache"
            assert client.get(path, If_None_Match=answer.headers["etag"]).status == 304
        followed = client.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
        assert followed.status == 200  # a link to it
        assert client.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
        for path in ("/../secret.js", "/%2e%2e/secret.js", "/vendor/../../secret.js", "/link.js"):
            assert b"secret" not in client.get(path, Authorization=f"Bearer {TOKEN}").body
        assert client.get("/api/runs").status == 401


def test_what_a_killed_server_was_sent_is_cleared_away(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.uploads.mkdir(parents=True)
    (settings.uploads / "half.jsonl").write_text("{")
    with only_server(settings, "http://here"):
        assert not settings.uploads.exists()
        settings.uploads.mkdir()
        with pytest.raises(UserError, match="another server"), only_server(settings, "http://b"):
            pass
        assert settings.uploads.exists()
