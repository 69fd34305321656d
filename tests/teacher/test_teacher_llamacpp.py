"""The teacher's client against llama.cpp's own server, with a tiny model of random weights.

What such a model says is noise; that it is noise of the schema's form is the server's doing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")

from convert.gguf.model import write_model
from livery.teacher import Parameters, ask
from tests import ROOT
from tests.teacher.endpoint import SCHEMA, question, teacher
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_model(tiny_model("llama", root), file, "f32")
    command = [sys.executable, "-m", "tests.teacher.llamacpp_server", str(file)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        yield child.stdout.readline().strip()
        child.kill()


def test_a_real_server_is_asked_and_holds_to_the_schema(url: str, tmp_path: Path):
    closed = {**SCHEMA, "properties": {"colour": {"enum": ["red", "green"]},
                                       "count": {"enum": [1, 2]}}}  # fmt: skip
    one = question(schema=closed, parameters=Parameters(max_tokens=100))
    [result] = ask([one], teacher(url), tmp_path / "teacher" / "r.sqlite")
    assert result.fault is None
    assert result.value["colour"] in ("red", "green")
    assert result.provenance["format"] == "json_schema"
    assert result.provenance["counted"] == "by the endpoint"
    assert result.provenance["prompt_tokens"] > 0


def test_a_real_server_that_leaves_out_of_a_schema_what_it_does_not_know_gets_its_equivalent(
    url: str, tmp_path: Path
):
    """Of alternatives that only require names, llama.cpp makes a grammar of any JSON value."""
    either = {
        "type": "object",
        "properties": {"red": {"enum": [1]}, "green": {"enum": [1]}},
        "additionalProperties": False,
        "oneOf": [{"required": ["red"]}, {"required": ["green"]}],
    }
    one = question(schema=either, parameters=Parameters(max_tokens=200))
    [result] = ask([one], teacher(url), tmp_path / "teacher" / "r.sqlite")
    assert result.value in ({"red": 1}, {"green": 1})
    assert result.provenance["format"] == "rewritten_schema"
    assert result.provenance["repaired"] is True


def test_a_real_server_refuses_a_prompt_that_is_too_long(url: str, tmp_path: Path):
    long = question(text="word and another, " * 600)
    [result] = ask([long], teacher(url), tmp_path / "teacher" / "r.sqlite")
    assert result.fault is not None
    assert result.fault.cause == "refused"
    assert "context" in result.fault.message
    assert result.provenance["requests"] == 1


def test_a_real_servers_answer_that_is_cut_is_called_so(url: str, tmp_path: Path):
    short = question(parameters=Parameters(max_tokens=1))
    [result] = ask([short], teacher(url), tmp_path / "teacher" / "r.sqlite")
    assert result.fault is not None
    assert result.fault.cause == "length"
    assert result.provenance["requests"] == 2
