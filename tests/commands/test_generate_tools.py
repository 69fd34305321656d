"""`livery generate --tools`: the model is offered tools as rows of training data offer them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livery import cli
from livery.dataset.encode import encode
from livery.dataset.rows import read_row
from livery.dataset.template import TemplateSettings, load_chat
from livery.engines.engine import Decoding, open_engine
from livery.errors import UserError
from tests.dataset.templates import FAMILIES, TOOLS
from tests.engines.test_engine_http import server
from tests.tiny_models import tiny_model

ASKED = {"role": "user", "content": "Weather in Oslo?"}
CALL = {"function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([tool["function"] for tool in TOOLS]))  # as rows may hold them, too
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("tools"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "mlx"])
def test_a_model_is_prompted_with_tools_as_it_was_trained(
    engine: str, model: Path, offered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[engine])
    template = tmp_path / "tools.jinja"
    template.write_text(FAMILIES["tools"])
    chosen = TemplateSettings(template=str(template))
    answer = {"role": "assistant", "content": "It is 3 degrees."}
    row = read_row({"tools": TOOLS, "messages": [ASKED, answer]}, "x")
    (example,) = encode(row, load_chat(model, chosen)).examples
    opened = open_engine(engine, str(model), template=chosen)
    prompt = opened.prompt([ASKED], TOOLS)
    assert list(prompt.tokens) == example.tokens[: example.prompt_length].tolist()
    assert len(prompt.tokens) > len(opened.prompt([ASKED]).tokens)
    command = ["generate", "--engine", engine, "--model", str(model), "--max-tokens", "8", "--json"]
    command += ["--tools", str(offered), ASKED["content"]]
    assert cli.run([*command, "--chat-template", str(template)]) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["tokens"]
    assert cli.run(command) == 1
    assert "The chat template does not offer tools to the model" in capsys.readouterr().out


def test_an_endpoint_is_sent_the_tools_and_its_calls_are_shown(
    offered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        message: dict[str, Any] = {"content": "No tools."}
        if body.get("tools"):
            message = {"content": None, "tool_calls": [CALL, CALL]}
        return 200, {"choices": [{"message": message, "finish_reason": "tool_calls"}]}

    said = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
    with server(answer) as (url, seen):
        command = ["generate", "--engine", "http", "--url", url, "--model", "m", ASKED["content"]]
        assert cli.run([*command, "--tools", str(offered)]) == 0
        assert capsys.readouterr().out == f"{said}\n{said}\n"
        assert seen[-1]["tools"] == [{"type": "function", "function": TOOLS[0]["function"]}]
        assert cli.run(command) == 0
        assert capsys.readouterr().out == "No tools.\n"
        assert "tools" not in seen[-1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{]", "not valid JSON"), ("3", "not a list of tools"), ('[{"type": "function"}]', "name"),
        ("[]", "no tools"), (None, "no such file"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_tools(
    text: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tools.json"
    if text is not None:
        path.write_text(text)
    command = ["generate", "--engine", "http", "--url", "http://127.0.0.1:9/v1", "--model", "m"]
    assert cli.run([*command, "--tools", str(path), "x"]) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert complaint in said


def test_a_skill_has_its_own_prompt(offered: Path) -> None:
    from eval.generate import Request, answers

    with pytest.raises(UserError, match="leave out --tools"):
        answers(Request(("x",), skill="date-keys", tools=str(offered)))


@pytest.mark.parametrize("call", [{}, {"function": {"name": "f", "arguments": "{"}}, 3])
def test_a_call_that_is_none(call: Any) -> None:
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    with server(lambda *_: (200, body)) as (url, _):
        engine = open_engine("http", "m", url=url)
        with pytest.raises(UserError, match="other than a chat completion"):
            engine.generate([engine.prompt([ASKED])], Decoding())
