"""Answers of a server over HTTP: tiny models, a real engine in its process, a real server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("mlx_lm")

from livery.engines.engine import Decoding, Grammar, open_engine
from livery.errors import UserError
from livery.interactions import read
from livery.paths import python_path
from livery.serve.answers import hybrid
from livery.serve.answers.finish import finish
from livery.serve.answers.formats import grammar_of
from livery.serve.answers.host import Host, HostSettings
from livery.serve.answers.question import NoAnswer, Question
from livery.skills import date_keys, persona, skill_names
from tests import PATIENCE
from tests.engines.asked import COMMANDS, conversation
from tests.engines.libraries import mlx_adapter
from tests.serve.serving import Answer, Client, served, settings_of
from tests.tiny_models import tiny_model

FOREVER = 20_000  # tokens: nobody waits for that


@dataclass(frozen=True)
class Server:
    """A server, its engine's host, and what it serves."""

    client: Client
    host: Host
    base: Path

    def chat(self, model: str = "one", text: str = COMMANDS[0], **more: Any) -> Answer:
        return self.client.post("/v1/chat/completions", asking(model, text, **more))

    @property
    def adapters(self) -> Path:
        return self.client.settings.adapters


def asking(model: str, text: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": conversation(text), "max_tokens": 12, **more}


def add_adapter(folder: Path, base: Path, **changes: Any) -> Path:
    """An adapter as `livery train` leaves it, which says what its base is."""
    mlx_adapter(base, folder / "mlx", **changes)
    record = {"settings": {"model": str(base), "data": "", "quantize": None}}
    (folder / "run_config.json").write_text(json.dumps(record))
    return folder


@contextlib.contextmanager
def serving(root: Path, **host: Any) -> Generator[Server]:
    settings = settings_of(root, engine="mlx", log=root / "log.jsonl")
    made = Host(HostSettings(settings.engine_log, "mlx", **host))
    with served(settings, host=made) as client:
        yield Server(client, made, tiny_model("llama", root / "models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serve")
    base = tiny_model("llama", root / "models")
    add_adapter(root / "adapters" / "one", base)
    add_adapter(root / "adapters" / "date-keys", base, keys=["mlp.down_proj"])
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, waiting=40) as made:
        yield made


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- the wire ------------------------------------------------------------------------------------


def test_models_are_the_base_and_each_adapter(server: Server) -> None:
    found = server.client.get("/v1/models").json()
    assert found["object"] == "list"
    assert [row["id"] for row in found["data"]] == ["base", "date-keys", "one"]
    assert found["data"][1]["livery"] == {
        "skill": "date-keys", "base": "date-keys:base",
        "system_prompt": date_keys.SKILL.system_prompt,
        "response_format": {"type": "livery_skill", "skill": "date-keys"},
    }  # fmt: skip
    assert found["data"][2]["livery"]["response_format"] is None
    assert all(row["object"] == "model" and row["owned_by"] == "livery" for row in found["data"])
    assert server.client.get("/v1/models/one:base").json()["id"] == "one:base"
    assert server.client.get("/v1/models/two").status == 404


def test_an_answer_on_the_wire(server: Server) -> None:
    engine = open_engine("mlx", str(server.base), str(server.adapters / "one"))
    prompt = engine.prompt(conversation(COMMANDS[0]))
    [expected] = engine.generate([prompt], Decoding(max_tokens=12))
    found = server.chat(n=1, user="me", logit_bias={}, frequency_penalty=0.0, stop=None)
    assert found.status == 200
    body = found.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "one"
    [choice] = body["choices"]
    assert choice == {
        "index": 0, "logprobs": None, "finish_reason": "length",
        "message": {"role": "assistant", "content": expected.text, "refusal": None},
    }  # fmt: skip
    assert body["usage"] == {
        "prompt_tokens": len(prompt.tokens), "completion_tokens": 12,
        "total_tokens": len(prompt.tokens) + 12,
    }  # fmt: skip
    assert body["livery"]["engine"]["adapter"] == "one"

    # The same in pieces, asked for in parts of text.
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]}
             for m in conversation(COMMANDS[0])]  # fmt: skip
    found = server.chat(messages=parts, stream=True, stream_options={"include_usage": True})
    assert found.headers["content-type"].startswith("text/event-stream")
    *chunks, end = [line.removeprefix("data: ") for line in found.text.split("\n\n") if line]
    assert end == "[DONE]"
    first, *pieces, last, usage = map(json.loads, chunks)
    assert {chunk["id"] for chunk in (first, *pieces, last, usage)} == {first["id"]}
    assert {chunk["object"] for chunk in (first, last, usage)} == {"chat.completion.chunk"}
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = [piece["choices"][0]["delta"]["content"] for piece in pieces]
    assert len(said) > 3
    assert "".join(said) == expected.text
    assert {piece["choices"][0]["finish_reason"] for piece in (first, *pieces)} == {None}
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]) == ([], body["usage"])
    assert all(chunk["usage"] is None for chunk in (first, *pieces, last))
    assert "usage" not in json.loads(server.chat(stream=True).text.split("\n\n")[0][6:])


def test_a_stop_ends_an_answer(server: Server) -> None:
    whole = server.chat().json()["choices"][0]["message"]["content"]
    stop = whole[4:6]
    for stream in (False, True):
        found = server.chat(stop=[stop, "never said"], stream=stream)
        if stream:
            chunks = [json.loads(c[6:]) for c in found.text.split("\n\n")[:-2]]
            text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
            reason = chunks[-1]["choices"][0]["finish_reason"]
        else:
            [choice] = found.json()["choices"]
            text, reason = choice["message"]["content"], choice["finish_reason"]
        assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_sampling_is_the_seed_s(server: Server) -> None:
    def said(**more: Any) -> str:
        return server.chat(temperature=1.5, **more).json()["choices"][0]["message"]["content"]

    assert said(seed=3) == said(seed=3) != said(seed=4)
    assert said(seed=3, top_p=1e-6) == server.chat().json()["choices"][0]["message"]["content"]
    first = said()
    assert any(said() != first for _ in range(20))  # two may be alike by chance


SCHEMA = {
    "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["n"], "additionalProperties": False,
}  # fmt: skip


def test_our_own_client_gets_what_the_engine_says(server: Server) -> None:
    """Free and held to a JSON Schema, tuned and not: the server adds nothing and loses nothing."""
    direct = open_engine("mlx", str(server.base), str(server.adapters / "one"))
    client = open_engine("http", "one:base", "one", url=f"{server.client.address}/v1")
    held = Decoding(max_tokens=24, grammar=Grammar("json_schema", json.dumps(SCHEMA)))
    for decoding in (Decoding(max_tokens=10), held):
        for on in (True, False):
            found = []
            for engine in (direct, client):
                engine.use_adapter(on)
                prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
                answers = engine.generate(prompts, decoding)
                found.append([(a.text, a.finished, a.count) for a in answers])
            assert found[0] == found[1]
            assert len({text for text, *_ in found[0]}) > 1


@pytest.mark.parametrize(
    ("form", "model", "good"),
    [
        ({"type": "json_object"}, "one", lambda said: isinstance(json.loads(said), dict)),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, "one",
         lambda said: json.loads(said)["n"] in range(10)),
        ({"type": "livery_skill", "skill": "date-keys"}, "one:base", date_keys.parse),
        ({"type": "livery_skill"}, "date-keys", date_keys.parse),
        ({"type": "text"}, "one", lambda said: not said.startswith(("{", "["))),
    ],
)  # fmt: skip
def test_a_response_format_holds_the_answer(
    server: Server, form: dict[str, Any], model: str, good: Callable[[str], Any]
) -> None:
    said = server.chat(model, response_format=form, max_tokens=400).json()["choices"][0]
    assert said["finish_reason"] == "stop" or form["type"] in ("text", "json_object")
    if said["finish_reason"] == "stop":
        assert good(said["message"]["content"]) is not False


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"n": 2}, "n", "only 1 is possible"),
        ({"logprobs": True}, "logprobs", "only false"),
        ({"n": True}, "n", "only 1"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "Leave it out"),
        ({"top_k": 40}, "top_k", "Leave it out"),
        ({"guided_regex": "a+"}, "guided_regex", "does not know this field"),
        ({"temprature": 0.5}, "temprature", "does not know this field"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "differ"),
        ({"max_tokens": "12"}, "max_tokens", "valid integer"),
        ({"stop": [""]}, "stop", "not empty"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stream_options": {"include_usage": True}}, "stream_options", '"stream": true'),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "'user'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages.0.content.0", "'text'"),
        ({"messages": [{"role": "user"}]}, "messages", "content"),
        ({"tool_choice": "required"}, "tool_choice", "'auto' or 'none'"),
        ({"tools": [{"type": "function"}]}, "tools", "no name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "offer tools"),
        ({"response_format": {"type": "xml"}}, "response_format.type",
         "type: xml is not one of 'text', 'json_object', 'json_schema', 'livery_skill'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "type": "object", "patternProperties": {"^a": {"not": {"type": "null"}}}}}}},
         "response_format.json_schema.schema", "has no grammar"),
        ({"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "string", "pattern": "(?=a)b"}}}},
         "response_format.json_schema.schema", "look-ahead and look-behind, is not supported"),
        ({"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": 7}}}}, "response_format.json_schema.schema", "schema"),
        ({"response_format": {"type": "livery_skill", "skill": "auto"}}, "response_format",
         "which skill"),
        ({"response_format": {"type": "livery_skill", "skill": "/tmp/evil.py"}},
         "response_format.skill", "no such skill"),
        ({"response_format": {"type": "livery_skill", "skill": "persona"}},
         "response_format.skill", "no grammar"),
        ({"response_format": {"type": "livery_skill", "skill": "state"}}, "messages", "state"),
        ({"response_format": {"type": "livery_skill", "skill": "dsl"}}, "messages", "SCHEMA"),
        ({"livery": {"finish": "evil.py"}}, "livery.finish", "no such skill"),
        ({"livery": {"finnish": "persona"}}, "livery.finnish", "does not know this field"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    server: Server, changes: dict[str, Any], param: str, said: str
) -> None:
    answer = server.chat(**changes)
    assert answer.status == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    error = problem["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param), error
    assert problem["key"] == error["param"]
    assert error["message"] == problem["detail"]
    assert said in error["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b'{"model": "\\ud800"}',
                                  b"[" * 100_000, b'{"model": NaN}'])  # fmt: skip
def test_a_body_that_is_no_request(server: Server, body: bytes) -> None:
    answer = server.client.ask("POST", "/v1/chat/completions", body)
    assert answer.status in (400, 404)
    assert answer.json()["error"]["message"]


def test_models_that_are_not_there(server: Server, tmp_path: Path) -> None:
    (server.adapters / "linked").symlink_to(tmp_path)
    for name in ("two", "", "../one", "one:base:base", "one/../one", "linked", ".", "a" * 500):
        answer = server.chat(name)
        assert answer.status == 404, name
        assert answer.json()["error"]["code"] == "model_not_found"
    (server.adapters / "linked").unlink()


def test_an_adapter_that_cannot_be_opened_harms_no_other(server: Server, tmp_path: Path) -> None:
    other = tiny_model("llama", tmp_path, hidden_size=32)
    broken = add_adapter(server.adapters / "broken", other)
    record = {"settings": {"model": str(server.base)}}
    (broken / "run_config.json").write_text(json.dumps(record))
    before = server.chat().json()["choices"]
    answer = server.chat("broken")
    assert answer.status == 409
    assert answer.json()["error"]["code"] == "model_not_usable"
    assert "does not fit this base model" in answer.json()["detail"]
    assert server.chat().json()["choices"] == before
    # Trained anew, it answers: nobody has to start the server again.
    for file in (broken / "mlx").iterdir():
        file.unlink()
    (broken / "mlx").rmdir()
    add_adapter(broken, server.base)
    assert server.chat("broken").json()["choices"] == before
    shutil.rmtree(broken)


# -- beside the answer ---------------------------------------------------------------------------


def test_a_finished_answer_stands_beside_the_raw_one(server: Server) -> None:
    asked = persona.messages("Good day", address="madam")
    raw = server.chat(messages=asked).json()
    assert "finished" not in raw["livery"]
    found = server.chat(messages=asked, livery={"finish": "persona"}).json()
    text = raw["choices"][0]["message"]["content"]
    assert found["choices"] == raw["choices"]
    expected = {"skill": "persona", "text": persona.finish(text, "madam")}
    assert found["livery"]["finished"] == expected
    for address, right in ((None, "madam"), ("Ada", "Ada")):
        finished = finish("persona", "Good day to you, sir, sir!", asked, address)
        assert finished == {"skill": "persona", "text": f"Good day to you, {right}!"}
    wrong = server.chat(livery={"finish": "persona", "address": "1!"}).json()["livery"]["finished"]
    assert "no form of address" in wrong["error"]
    stream = server.chat("date-keys", stream=True, response_format={"type": "livery_skill"},
                         livery={"finish": "auto"}, max_tokens=99).text  # fmt: skip
    chunks = [json.loads(chunk[6:]) for chunk in stream.split("\n\n")[:-2]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert chunks[-1]["livery"]["finished"] == {
        "skill": "date-keys", "value": [*date_keys.parse(said)],
    }  # fmt: skip
    guard = server.chat(livery={"finish": "actions"}).json()["livery"]["finished"]
    assert guard["skill"] == "actions"
    assert {"allowed", "to_confirm", "blocked", "problem", "level"} == set(guard["guard"])


def test_what_is_asked_and_answered_is_logged_redacted(server: Server) -> None:
    found = server.chat("date-keys", "Mail ann@example.org at seven").json()
    log = server.client.settings.log
    assert log is not None
    [one] = [o for o in read(log).interactions if o.id == found["livery"]["interaction"]]
    assert one.asked == "Mail [email 1] at seven"
    assert one.skill == "date-keys"
    assert one.facts["adapter"] == "date-keys"
    assert "ann@example" not in log.read_text()
    # What is not somebody's use is not.
    before = log.read_text()
    path, body = "/v1/chat/completions", asking("date-keys", "x")
    for headers, field in (({"X-Livery-Log": "OFF"}, {}), ({}, {"store": False})):
        said = server.client.ask("POST", path, body | field, headers).json()["livery"]
        assert "interaction" not in said
    engine = open_engine("http", "one", url=f"{server.client.address}/v1")
    engine.generate([engine.prompt(conversation("x"))], Decoding(max_tokens=2))
    assert log.read_text() == before
    odd = server.client.ask("POST", path, body, {"X-Livery-Log": "maybe"})
    assert (odd.status, odd.json()["error"]["param"]) == (400, "X-Livery-Log")
    assert "interaction" in server.chat(store=True).json()["livery"]


# -- the engine's process ------------------------------------------------------------------------


@contextlib.contextmanager
def streaming(server: Server, **more: Any) -> Generator[tuple[http.client.HTTPResponse, Any]]:
    """An answer that goes on for ever, its first chunks read."""
    connection = http.client.HTTPConnection(
        server.client.host, server.client.port, timeout=PATIENCE
    )
    body = asking("one", COMMANDS[0], **{"stream": True, "max_tokens": FOREVER, **more})
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    try:
        for _ in range(4):
            assert response.readline().startswith((b"data: {", b"\n"))
        yield response, connection
    finally:
        response.close()
        connection.close()


def test_a_client_that_goes_away_stops_its_answer(server: Server) -> None:
    with streaming(server):
        assert server.host.load == 1
    until(lambda: server.host.load == 0)
    pid = server.host.pid
    # One that waits for the whole answer, and goes while another is answered.
    with streaming(server), socket.create_connection(
        (server.client.host, server.client.port)
    ) as other:  # fmt: skip
        body = json.dumps(asking("one", "x", max_tokens=FOREVER)).encode()
        head = f"Host: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        other.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + body)
        until(lambda: server.host.load == 2)
        other.close()
        until(lambda: server.host.load == 1)
    assert server.chat().status == 200
    assert server.host.pid == pid


def test_who_goes_away_while_waiting_is_not_waited_for(tmp_path: Path) -> None:
    async def go_away() -> None:
        host = Host(HostSettings(tmp_path / "engine.log"))
        asked = host.ask(Question(({"role": "user", "content": "x"},)))
        reading = asyncio.create_task(asked.whole())
        asked.stop()
        with pytest.raises(NoAnswer, match="Nobody waits"):
            await asyncio.wait_for(reading, PATIENCE)
        await host.close()

    asyncio.run(go_away())


@pytest.mark.slow
def test_an_engine_that_dies_is_started_again(folder: Path, server: Server) -> None:
    expected = server.chat("date-keys", "x").json()["choices"]
    with (
        serving(folder) as fresh,
        streaming(fresh) as (response, _),
        waiting(fresh, "date-keys") as other,  # which is not open, and so not begun with
    ):
        until(lambda: fresh.host.load == 2)
        pid = fresh.host.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        *_, last = [line for line in response.read().split(b"\n\n") if line]
        assert json.loads(other().read())["choices"] == expected
        assert fresh.host.pid not in (None, pid)
    error = json.loads(last.removeprefix(b"data: "))
    assert error["status"] == 503
    assert error["error"]["code"] == "engine_failed"
    assert "signal 9 (SIGKILL)" in error["detail"]
    assert "out of memory" in error["detail"]


@pytest.mark.slow
def test_the_line_is_bounded_and_in_order(folder: Path) -> None:
    with (
        serving(folder, waiting=1) as server,
        streaming(server) as (first, connection),
        streaming(server),
        waiting(server) as third,
    ):
        until(lambda: server.host.load == 3)
        fourth = server.chat()
        assert fourth.status == 429
        assert int(fourth.headers["retry-after"]) > 0
        assert fourth.json()["error"]["code"] == "queue_full"
        first.close()
        connection.close()
        assert json.loads(third().read())["choices"][0]["finish_reason"] == "length"


@contextlib.contextmanager
def waiting(
    server: Server, model: str = "one"
) -> Generator[Callable[[], http.client.HTTPResponse]]:
    """A request that is sent and waits for its turn."""
    connection = http.client.HTTPConnection(
        server.client.host, server.client.port, timeout=PATIENCE
    )
    connection.request("POST", "/v1/chat/completions", json.dumps(asking(model, "x")))
    try:
        yield connection.getresponse
    finally:
        connection.close()


@pytest.mark.slow
def test_an_idle_engine_is_ended_and_comes_back(folder: Path) -> None:
    base = str(tiny_model("llama", folder / "models"))
    with serving(folder, idle=0.05, model=base) as server:
        assert server.host.pid is None
        first = server.chat("one:base").json()["choices"]
        until(lambda: server.host.pid is None)
        # The server's base is that of all questions.
        assert server.chat("base").json()["choices"] == first


def test_the_engine_ends_with_whoever_started_it() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "livery.serve.answers.child", "mlx"],
        stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(PATIENCE) == 0


@pytest.mark.slow
def test_the_server_itself_imports_no_framework(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from livery.serve.api.app import create_app; "
        "from livery.serve.settings import ServeSettings; "
        "create_app(ServeSettings(pathlib.Path(sys.argv[1]))).openapi(); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[2:])))"
    )
    heavy = ["torch", "mlx", "transformers", "tokenizers", "numpy", "fasttext", "llguidance"]
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *heavy], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    assert found.stdout.strip() == "[]"


def test_an_engine_that_is_not_installed_is_named(folder: Path) -> None:
    settings = settings_of(folder, engine="teletype")
    with served(settings) as client:
        answer = client.post("/v1/chat/completions", asking("one", "x"))
        assert answer.status == 409
        assert "teletype: is not an engine of a server" in answer.json()["detail"]


# -- skills --------------------------------------------------------------------------------------


def test_how_each_skill_is_asked(server: Server) -> None:
    found = {one["name"]: one for one in server.client.get("/v1/skills").json()["skills"]}
    assert {*found} == {*skill_names()}
    for name, one in found.items():
        asked = {"system": one["system_prompt"]} if one["system_prompt"] else {}
        said = {turn["role"]: turn["content"] for turn in one["example"]}
        assert said.keys() == {*asked, "user"}, name
        assert said.get("system", "").startswith(one["system_prompt"])
        if one["response_format"]:  # the example's answers have that grammar
            assert one["response_format"] == {"type": "livery_skill", "skill": name}
            assert grammar_of(one["response_format"], one["example"]) is not None
    place = "/v1/skills/date-keys/messages"
    put = server.client.post(place, {"text": "Call Bob Tmrw @ 3P, please!"}).json()
    assert put["messages"] == date_keys.messages("Call Bob Tmrw @ 3P, please!")
    refused = server.client.post("/v1/skills/dsl/messages", {"text": "which hives are weak"})
    assert refused.status == 400
    assert "[SCHEMA]" in refused.json()["detail"]
    for name in ("nobody", "..%2fx.py"):
        assert server.client.post(f"/v1/skills/{name}/messages", {"text": "a"}).status == 404


def test_the_vocabularies(server: Server) -> None:
    found = server.client.get("/v1/adapters/date-keys")
    assert found.json() == date_keys.vocabulary(adapter_trained=True)
    assert server.client.get("/v1/adapters/actions").json()["adapter_trained"] is False
    for name in ("persona", "nobody", "..%2fx.py"):
        assert server.client.get(f"/v1/adapters/{name}").status == 404


@pytest.mark.slow
def test_date_keys_by_what_is_there(server: Server, tmp_path: Path) -> None:
    def keys(client: Client, text: str, **more: Any) -> Any:
        return client.post("/v1/date-keys", {"text": text, **more})

    found = keys(server.client, "wake me at 7 am").json()
    assert (found["source"], found["adapter"], found["fasttext"]) == ("adapter", "date-keys", None)
    assert all(date_keys.is_key(key) for key in found["keys"])
    [missing] = found["missing"]
    assert "livery fasttext train" in missing
    assert keys(server.client, "x", adapter="nobody").status == 404
    assert keys(server.client, "x", fasttext="one").status == 404
    assert keys(server.client, "").status == 422
    with served(settings_of(tmp_path)) as client:
        answer = keys(client, "wake me at 7 am")
        assert answer.status == 409
        assert "livery run date-keys" in answer.json()["detail"]
        assert "livery fasttext train" in answer.json()["detail"]


def test_an_answer_that_is_cut_short_is_no_fault_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid, "TOKENS", 1)
    answer = server.client.post("/v1/date-keys", {"text": "wake me at 7 am"})
    assert answer.status == 409, answer.text
    assert "adapter: its answer is not JSON" in answer.json()["detail"]


@pytest.mark.skipif(importlib.util.find_spec("fasttext") is None, reason="needs fasttext")
def test_date_keys_by_fasttext_where_it_is_sure(server: Server, tmp_path: Path) -> None:
    from livery.skills.date_keys.fasttext import FastTextSettings, train, write_record

    rows = [(f"wake me at {h} am", (f"at_{h}am",)) for h in range(1, 12)]
    rows += [(f"buy {h} eggs", ()) for h in range(20, 40)]
    folder = server.adapters / "date-keys-fasttext"
    folder.mkdir()
    record = train(rows * 20, folder, FastTextSettings(epochs=10, buckets=500, dim=8))

    def ask(threshold: float | None) -> Any:
        calibration = None if threshold is None else {"threshold": threshold}
        write_record(folder, {**record, "calibration": calibration})
        return server.client.post("/v1/date-keys", {"text": "wake me at 9 am"}).json()

    sure = ask(0.01)
    assert (sure["source"], sure["keys"], sure["missing"]) == ("fasttext", ["at_9am"], [])
    assert (sure["fasttext"], sure["adapter"]) == ("date-keys-fasttext", "date-keys")
    for threshold in (1.0, None):  # never sure; no threshold kept its promise
        unsure = ask(threshold)
        assert unsure["source"] == "adapter"
        assert unsure["confidence"] == sure["confidence"] < 1
    with served(settings_of(tmp_path)) as client:
        folder.rename(client.settings.adapters / folder.name)
        found = client.post("/v1/date-keys", {"text": "wake me at 9 am"}).json()
        assert (found["source"], found["keys"]) == ("fasttext", ["at_9am"])
        assert "livery run date-keys" in found["missing"][0]


@pytest.mark.skipif(importlib.util.find_spec("tree_sitter") is None, reason="needs tree-sitter")
def test_the_guard(server: Server) -> None:
    def judge(**body: Any) -> Any:
        return server.client.post("/v1/guard", body)

    found = judge(command="rm -rf ~").json()
    assert found["level"] == "critical"
    assert found["reasons"]
    assert judge(command="Remove-Item x", shell="powershell").json()["shell"] == "powershell"
    answer = "Done.\n[SHELL]ls[/SHELL]\n[SHELL]rm -r old[/SHELL]"
    found = judge(answer=answer).json()
    assert [row["tag"] for row in found["allowed"]] == ["[SHELL]ls[/SHELL]"]
    assert [row["level"] for row in found["to_confirm"]] == ["high"]
    agreed = judge(answer=answer, asked=answer, said="yes").json()
    assert [row["released"] for row in agreed["allowed"]] == [False, True]
    for wrong in ({}, {"command": "ls", "answer": "x"}, {"command": "ls", "said": "yes"},
                  {"command": "ls", "shell": "fish"}, {"command": "x" * 70_000}):  # fmt: skip
        assert judge(**wrong).status == 422


def test_a_name_of_our_own_is_an_error_of_the_client_s(server: Server) -> None:
    engine = open_engine("http", "nobody", url=f"{server.client.address}/v1")
    with pytest.raises(UserError, match="There is no model 'nobody'"):
        engine.generate([engine.prompt(conversation("x"))], Decoding())
