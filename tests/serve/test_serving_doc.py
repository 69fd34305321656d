"""docs/serving.md is taken at its word: each curl command in it is run as it stands there, against
a server that has what the commands speak of."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("mlx_lm")
pytest.importorskip("tree_sitter", reason="the guard needs it")

from livery.serve.answers.host import Host, HostSettings
from livery.skills import date_keys
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_chat import add_adapter
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")

DOC = Path(__file__).parents[2] / "docs" / "serving.md"
WRITTEN = "http://127.0.0.1:8765"
# Answers that are none of 200 to 202: no worker makes this order's zip here.
OTHER = {"/v1/adapters/train/7f3a/adapter.zip": 409}


def commands() -> list[list[str]]:
    """The words of each curl command, in the order of the page."""
    found: list[list[str]] = []
    for block in re.findall(r"```bash\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL):
        command = ""
        for line in block.splitlines():
            command += line
            try:
                words = shlex.split(command, comments=True)
            except ValueError:  # a quotation goes on in the next line
                command += "\n"
                continue
            if words[:1] == ["curl"]:
                found.append(words)
            command = ""
        assert not command, command
    return found


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = settings_of(tmp_path / "root", engine="mlx", callback_hosts=("hub.example",))
    base = tiny_model("llama", tmp_path / "models")
    add_adapter(settings.adapters / "date-keys", base)
    (settings.adapters / "date-keys" / "gguf").mkdir()
    (settings.adapters / "date-keys" / "gguf" / "adapter.gguf").write_bytes(b"GGUF and the rest")
    host = Host(HostSettings(settings.engine_log, "mlx"))
    with served(settings, host=host) as found:
        yield found


@pytest.mark.slow
def test_every_curl_command_does_what_the_page_says(client: Client, tmp_path: Path) -> None:
    rows = [
        {"messages": [*date_keys.messages(said), {"role": "assistant", "content": answer}]}
        for said, answer in (("see you tomorrow", '["tomorrow"]'), ("a cup of tea", "[]"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = commands()
    assert len(asked) >= 10
    # An answer is asked for as the skill asks for it, with its prompt.
    [said] = [json.loads(w) for words in asked for w in words if '"response_format"' in w]
    assert said["messages"] == date_keys.messages("wake me at half seven")
    for words in asked:
        [address] = [word for word in words if word.startswith(WRITTEN)]
        there = address.replace(WRITTEN, client.address)
        if address.endswith("/events"):  # which go on for as long as somebody listens
            there += "?follow=false"
        words = [there if word == address else word for word in words]
        ended = subprocess.run(
            [*words, "--silent", "--show-error", "--write-out", "\n%{http_code}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, (words, ended.stderr)
        body, _, status = ended.stdout.rpartition("\n")
        expected = OTHER.get(address.removeprefix(WRITTEN))
        good = int(status) == expected if expected else 200 <= int(status) <= 202
        assert good, (words, status, body)
    saved = tmp_path / "date-keys.gguf"
    assert saved.read_bytes() == b"GGUF and the rest"
