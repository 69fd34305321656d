"""`livery generate --json-schema`: answers of any model are documents of the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from livery import cli
from tests.engines.test_engine_http import server
from tests.tiny_models import tiny_model

# What llguidance itself refuses: if, oneOf and not.
BOOK: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"enum": ["novel", "atlas"]}, "pages": {"enum": [1, 2]}, "b": {}},
    "required": ["kind"],
    "additionalProperties": False,
    "oneOf": [{"required": ["pages"]}, {"properties": {"kind": {"not": {"const": "novel"}}}}],
    "if": {"properties": {"kind": {"const": "novel"}}},
    "then": {"not": {"required": ["b"]}},
    "else": {"properties": {"b": {"const": "x"}}},
}


@pytest.fixture
def book(tmp_path: Path) -> str:
    path = tmp_path / "book.json"
    path.write_text(json.dumps(BOOK))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("schemas"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "mlx", "llamacpp"])
def test_every_engine_keeps_to_the_schema(
    engine: str, model: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core", "llamacpp": "xllamacpp"}[engine])
    command = ["generate", "--engine", engine, "--model", str(model), "--json-schema", book]
    command += ["--max-tokens", "120", "--temperature", "3", "--json", "a", "b", "c"]
    if engine == "llamacpp":
        command += ["--gguf-type", "f32"]
    assert cli.run(command) == 0
    for row in json.loads(capsys.readouterr().out)["answers"]:
        assert row["finished"]
        jsonschema.validate(row["value"], BOOK)
        assert row["answer"] == json.dumps(row["value"], separators=(",", ":"))


def test_an_endpoint_is_sent_the_schema_and_its_answer_is_checked(
    book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = '{"kind": "atlas"}'

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        return 200, {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}

    with server(answer) as (url, seen):
        command = ["generate", "--engine", "http", "--url", url, "--model", "m", "a book"]
        assert cli.run([*command, "--json-schema", book]) == 0
        assert seen[-1]["response_format"]["json_schema"]["schema"] == BOOK
        said = '{"kind": "novel"}'
        capsys.readouterr()
        assert cli.run([*command, "--json-schema", book]) == 1
        assert "did not hold the answer to the JSON Schema" in " ".join(
            capsys.readouterr().err.split()
        )
        assert cli.run(command) == 0
        assert "response_format" not in seen[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "array", "uniqueItems": true}', "has no grammar: at # (uniqueItems)"),
        ('{"type": "strin"}', "not a JSON Schema at type"),
        ("{", "book.json"),
    ],
)
def test_what_cannot_be_held_to_is_told_before_a_model_is_loaded(
    text: str, said: str, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(book).write_text(text)
    assert cli.run(["generate", "--model", "/nowhere", "--json-schema", book, "x"]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    command = ["generate", "--skill", "date-keys", "--json-schema", book, "x"]
    assert cli.run(command) == 1
    assert "leave out --json-schema" in " ".join(capsys.readouterr().err.split())
