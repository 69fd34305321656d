"""The twelve behaviours of the teacher's client, each against a server that misbehaves."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import re
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from livery.errors import UserError
from livery.teacher import Parameters, ask, ask_each, make_plan
from livery.teacher.records import Records
from livery.teacher.wire import CAUSES
from tests import PATIENCE
from tests.teacher.endpoint import (
    GOOD,
    SCHEMA,
    Raw,
    chat,
    endpoint,
    native,
    question,
    status,
    teacher,
)

VALUE = {"colour": "red", "count": 3}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "teacher" / "records.sqlite"


def kept(records: Path, table: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(records) as file:
        return file.execute(f"select * from {table}").fetchall()


def asked(answers: Any, records: Path, *questions: Any, api: str = "openai", **options: Any):
    """(results, requests) of questions to an endpoint that answers so."""
    with endpoint(answers) as (url, seen):
        return ask(questions or [question()], teacher(url, api, **options), records), seen


# -- 1: a prompt that was cut ----------------------------------------------------------------------

LONG = "field status: open, closed; " * 900  # some 25,000 characters, 6,300 tokens


def test_ollama_is_told_its_context_and_the_prompt_count_is_checked(records: Path):
    short = asked([native(GOOD)], records, api="ollama")
    assert short[1][0]["path"] == "/api/chat"
    assert short[1][0]["options"]["num_ctx"] == 4096
    assert short[1][0]["truncate"] is False
    (result,), seen = asked(
        [native(GOOD, prompt=6300)], records, question("long", LONG), api="ollama"
    )
    window = seen[0]["options"]["num_ctx"]
    assert window > 6300 + 3 * 200
    assert result.value == VALUE
    assert result.provenance["prompt_tokens"] == 6300


@pytest.mark.parametrize(
    ("api", "counted", "options"),
    [
        ("ollama", 4096, {}),  # its default, whatever it was asked for
        ("ollama", 1000, {}),
        ("ollama", 5000, {"context": 5000}),
        ("openai", 4096, {}),
        ("openai", 900, {}),
        ("openai", 5000, {"context": 5000}),
    ],
)
def test_a_prompt_that_was_cut_brings_no_answer(
    records: Path, api: str, counted: int, options: dict[str, Any]
):
    said = native(GOOD, prompt=counted) if api == "ollama" else chat(GOOD, prompt=counted)
    (result,), seen = asked([said], records, question("long", LONG), api=api, **options)
    assert result.value is None
    assert result.fault is not None
    assert result.fault.cause == "cut_prompt"
    assert f"{counted:,} tokens" in result.fault.message
    assert "--teacher-context" in result.fault.message
    assert len(seen) == 1  # it would be cut again
    assert kept(records, "answers") == []


def test_a_prompt_that_was_read_whole_is_not_taken_for_a_cut_one(records: Path):
    """Compact JSON, English prose, and counts that happen to be a power of two."""
    texts = {"json": json.dumps(SCHEMA) * 40, "prose": "all of the people in the house " * 300}
    for name, text in texts.items():
        for per_token in (2.5, 3.6, 4.9):
            tokens = round(len(text) / per_token)
            [result], _ = asked(
                [chat(GOOD, prompt=tokens)], records, question(f"{name} {per_token}", text)
            )
            assert result.fault is None
    [result], _ = asked([chat(GOOD, prompt=2048)], records, question("even", "a word " * 1024))
    assert result.fault is None


# -- 2: every answer is validated ------------------------------------------------------------------


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_a_format_that_was_ignored_is_found_out(records: Path, api: str):
    wrap = native if api == "ollama" else chat
    (result,), seen = asked([wrap("Red, I think."), wrap('{"colour": "blue"}')], records, api=api)
    assert seen[0].get("format") == SCHEMA or seen[0]["response_format"]["type"] == "json_schema"
    assert result.fault is not None
    assert result.fault.cause == "wrong_schema"
    assert "'blue' is not one of" in result.fault.message
    assert kept(records, "answers") == []


def test_an_answer_on_record_is_validated_again(records: Path):
    asked([chat(GOOD)], records)
    strict = question(check=lambda value: "count must be even." if value["count"] % 2 else "")
    [result], seen = asked([chat('{"colour": "red", "count": 4}')], records, strict)
    assert len(seen) == 1
    assert not result.reused
    assert result.value["count"] == 4


@pytest.mark.parametrize(
    "text", [f"```json\n{GOOD}\n```", f"<think>\nred?\n</think>\n\n{GOOD}", f"  {GOOD}\n"]
)
def test_fences_and_thoughts_around_an_answer_are_no_part_of_it(records: Path, text: str):
    [result], seen = asked([chat(text)], records)
    assert result.value == VALUE
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (GOOD[:-1], "invalid_json"),
        ("", "invalid_json"),
        ('{"colour": "red", "count": NaN}', "invalid_json"),
        ('{"colour": "red", "count": 3, "count": 4}', "invalid_json"),
        ("[" * 5000, "invalid_json"),
        ('{"colour": "red", "count": "3"}', "wrong_schema"),
        ('{"colour": "red", "count": 3, "more": 1}', "wrong_schema"),
        (f"[{GOOD}]", "wrong_schema"),
    ],
)
def test_no_faulty_answer_passes(records: Path, text: str, cause: str):
    [result], seen = asked([chat(text)], records)
    assert result.value is None
    assert result.fault is not None
    assert result.fault.cause == cause
    assert len(seen) == 2  # the question and one repair


# -- 3: the strictest form that the endpoint takes -------------------------------------------------


def test_a_json_schema_is_asked_for_before_an_object_and_an_object_before_text(records: Path):
    def answer(body: dict[str, Any], _: int) -> Any:
        form = body.get("response_format", {}).get("type")
        if form == "json_schema":
            return status(400, {"error": {"message": "Invalid schema for response_format"}})
        if form == "json_object":
            return status(422, {"detail": "response_format is not supported"})
        return chat(GOOD)

    results, seen = asked(answer, records, question("a", "a"), question("b", "b"), concurrency=1)
    assert [r.value for r in results] == [VALUE, VALUE]
    forms = [body.get("response_format", {}).get("type") for body in seen]
    assert forms == ["json_schema", "json_object", None, None]  # learned once
    assert results[0].provenance["format"] == "text"
    assert results[0].provenance["requests"] == 3


def test_ollama_too_is_asked_for_less_where_it_does_not_take_a_schema(records: Path):
    def answer(body: dict[str, Any], _: int) -> Any:
        refused = status(500, {"error": "failed to parse grammar"})
        return refused if isinstance(body.get("format"), dict) else native(GOOD)

    [result], seen = asked(answer, records, api="ollama")
    assert result.value == VALUE
    assert [body["format"] for body in seen] == [SCHEMA, "json"]


def test_a_schema_that_one_question_cannot_have_costs_the_others_nothing(records: Path):
    def answer(body: dict[str, Any], _: int) -> Any:
        asked_for = json.dumps(body.get("response_format", {}))
        return status(400, {"error": "Unsupported json_schema"}) if "oneOf" in asked_for else (
            chat(GOOD)
        )  # fmt: skip

    odd = {**SCHEMA, "oneOf": [{}]}
    results, seen = asked(
        answer, records, question("odd", "a", schema=odd), question("plain", "b"), concurrency=1
    )
    assert [r.provenance["format"] for r in results] == ["rewritten_schema", "json_schema"]
    assert len(seen) == 3


# Red things have no count of more than 9, and only they a shade.
CONDITIONAL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green"]},
        "count": {"type": "integer"},
        "shade": {"enum": ["dark", "light"]},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
    "if": {"properties": {"colour": {"const": "red"}}, "required": ["colour"]},
    "then": {"properties": {"count": {"maximum": 9}}, "required": ["shade"]},
    "else": {"not": {"required": ["shade"]}},
}
SHADED = '{"colour": "red", "count": 3, "shade": "dark"}'


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_an_endpoint_that_cannot_compile_a_schema_gets_its_equivalent(records: Path, api: str):
    def wanted(body: dict[str, Any]) -> Any:
        if api == "ollama":
            return body["format"]
        return body["response_format"].get("json_schema", {}).get("schema")

    def answer(body: dict[str, Any], _: int) -> Any:
        unknown = [word for word in ('"if"', '"not"', '"oneOf"') if word in json.dumps(body)]
        if unknown:
            return status(400, {"error": f"grammar: unsupported keyword {unknown[0]}"})
        return (native if api == "ollama" else chat)(SHADED)

    asks = [question(name, name, schema=CONDITIONAL) for name in ("a", "b")]
    results, seen = asked(answer, records, *asks, api=api, concurrency=1)
    assert [r.value for r in results] == [json.loads(SHADED)] * 2
    assert {r.provenance["format"] for r in results} == {"rewritten_schema"}
    forms = [wanted(body) for body in seen]
    assert forms[0] == CONDITIONAL
    assert len(forms) == 3  # it is learned once
    assert forms[1] == forms[2]
    validator = jsonschema.Draft202012Validator(forms[1])
    for text, valid in ((SHADED, True), (GOOD, False), (SHADED.replace("3", "10"), False)):
        assert validator.is_valid(json.loads(text)) is valid


def test_what_is_answered_under_the_equivalent_is_validated_under_the_schema(records: Path):
    def answer(body: dict[str, Any], at: int) -> Any:
        if '"if"' in json.dumps(body["response_format"]):
            return status(400, {"error": "json_schema: if is not supported"})
        return chat(GOOD if at == 1 else SHADED)  # GOOD lacks the shade

    [result], seen = asked(answer, records, question("a", "a", schema=CONDITIONAL))
    assert result.value == json.loads(SHADED)
    assert result.provenance["repaired"] is True
    assert "shade" in result.provenance["trail"][0]["message"]
    assert len(seen) == 3


def test_an_endpoint_that_does_not_hold_to_what_it_took_is_asked_for_the_equivalent(
    records: Path,
):
    def answer(body: dict[str, Any], _: int) -> Any:
        return chat(GOOD if '"if"' in json.dumps(body["response_format"]) else SHADED)

    asks = [question(name, name, schema=CONDITIONAL) for name in ("a", "b")]
    results, seen = asked(answer, records, *asks, concurrency=1)
    assert [r.value for r in results] == [json.loads(SHADED)] * 2
    assert [r.provenance["requests"] for r in results] == [2, 1]  # learned at the first
    assert {r.provenance["format"] for r in results} == {"rewritten_schema"}
    assert len(seen) == 3


def test_where_a_schema_has_no_equivalent_an_object_is_asked_for(records: Path):
    def answer(body: dict[str, Any], _: int) -> Any:
        if body["response_format"]["type"] == "json_schema":
            return status(400, {"error": "json_schema: not supported"})
        return chat(GOOD)

    # No grammar counts which of the items are alike.
    odd = {**SCHEMA, "properties": {**SCHEMA["properties"], "all": {"not": {"uniqueItems": True}}}}
    [result], seen = asked(answer, records, question("a", "a", schema=odd))
    assert result.value == VALUE
    assert [body["response_format"]["type"] for body in seen] == ["json_schema", "json_object"]


def test_the_newer_name_of_the_limit_is_taken_where_the_older_is_refused(records: Path):
    def answer(body: dict[str, Any], _: int) -> Any:
        complaint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return status(400, {"error": {"message": complaint}}) if "max_tokens" in body else (
            chat(GOOD)
        )  # fmt: skip

    results, seen = asked(answer, records, question("a", "a"), question("b", "b"), concurrency=1)
    assert [r.value for r in results] == [VALUE, VALUE]
    assert [body.get("max_completion_tokens") for body in seen] == [None, 200, 200]


# -- 4: cut at the limit ---------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_a_cut_answer_is_asked_for_once_more_with_a_higher_limit(records: Path, api: str):
    wrap = native if api == "ollama" else chat
    [result], seen = asked([wrap('{"colour": "re', "length"), wrap(GOOD)], records, api=api)
    assert result.value == VALUE
    limits = [b["options"]["num_predict"] if api == "ollama" else b["max_tokens"] for b in seen]
    assert limits == [200, 400]
    assert seen[0]["messages"] == seen[1]["messages"]  # nothing is appended
    assert result.provenance["trail"] == [{"cause": "length", "message": "cut at 200 tokens"}]


def test_an_answer_cut_twice_is_no_json_error(records: Path):
    [result], seen = asked([chat(None, "length")], records)
    assert result.fault is not None
    assert result.fault.cause == "length"
    assert len(seen) == 2


def test_an_answer_that_is_complete_at_the_limit_counts_as_cut(records: Path):
    """Whatever it looks like: the endpoint says that it had more to say."""
    [result], _ = asked([chat(GOOD, "length"), chat('{"colour": "green", "count": 3}')], records)
    assert result.value["colour"] == "green"


# -- 5: the error rate -----------------------------------------------------------------------------


@pytest.mark.slow
def test_asking_stops_above_the_error_rate_of_questions_not_of_attempts(records: Path):
    """Every second attempt of a question fails and no question does: nothing stops."""
    fails: dict[str, int] = {}

    def flaky(body: dict[str, Any], _: int) -> Any:
        name = body["messages"][0]["content"]
        fails[name] = fails.get(name, 0) + 1
        return status(500) if fails[name] < 3 else chat(GOOD)

    many = [question(f"q{n}", f"question {n}") for n in range(60)]
    results, seen = asked(flaky, records, *many)
    assert all(r.value == VALUE for r in results)
    assert len(seen) == 180


@pytest.mark.slow
def test_asking_stops_where_most_of_the_last_questions_fail(records: Path):
    """The first 30 are answered, so the share over all of them would be low for long."""

    def answer(body: dict[str, Any], _: int) -> Any:
        return chat(GOOD if int(body["messages"][0]["content"]) < 30 else "no idea")

    many = [question(f"q{n}", str(n)) for n in range(300)]
    results: list[Any] = []
    with endpoint(answer) as (url, _):
        asking = ask_each(many, teacher(url, concurrency=1), records)
        with pytest.raises(UserError, match=r"of the last 50 \(invalid_json 26\)"):
            results.extend(asking)
    assert sum(r.fault is None for r in results) == 30
    assert len(results) == 56  # 26 of 50: the first share above a half
    assert len(kept(records, "failures")) == 26


def test_an_endpoint_that_is_none_is_not_asked_three_hundred_times(records: Path):
    many = [question(f"q{n}", str(n)) for n in range(300)]
    missing = status(404, {"error": {"message": "model 'tiny' not found"}})
    with endpoint([missing]) as (url, seen):
        with pytest.raises(UserError, match="model 'tiny' not found"):
            ask(many, teacher(url, concurrency=4), records)
        assert len(seen) <= 3 + 4
    with pytest.raises(UserError, match="cannot be reached"):
        ask(many, teacher(url, concurrency=4, retry_wait=3600), records)  # and nobody waits an hour


# -- 6: failures are kept --------------------------------------------------------------------------


def test_a_failure_is_kept_with_its_cause_and_trace_and_asked_again(records: Path):
    [result], _ = asked([status(500), chat("no"), chat('{"colour": "red"}')], records)
    assert result.fault is not None
    [(_, name, _, model, cause, message, trail)] = kept(records, "failures")
    assert (name, model, cause) == ("one", "tiny", "wrong_schema")
    assert "'count' is a required property" in message
    steps = json.loads(trail)
    assert [step["cause"] for step in steps] == ["server", "invalid_json", "wrong_schema"]
    assert [step.get("text") for step in steps] == [None, "no", '{"colour": "red"}']
    assert list(result.fault.trail) == steps
    [again], seen = asked([chat(GOOD)], records)
    assert again.value == VALUE
    assert len(seen) == 1


# -- 7 and 8: the records --------------------------------------------------------------------------


def test_what_is_on_record_is_not_asked_again(records: Path):
    many = [question(f"q{n}", f"question {n}") for n in range(20)]
    first, seen = asked(lambda *_: chat(GOOD), records, *many[:12])
    assert len(seen) == 12
    second, seen = asked(lambda *_: chat(GOOD), records, *many)
    assert len(seen) == 8
    assert [r.reused for r in second] == [True] * 12 + [False] * 8
    assert [r.at for r in second] == list(range(20))
    assert [r.value for r in first] == [r.value for r in second[:12]]
    assert first[0].provenance == second[0].provenance


def test_of_equal_questions_one_is_asked(records: Path):
    results, seen = asked([chat(GOOD)], records, *[question(f"q{n}") for n in range(9)])
    assert len(seen) == 1
    assert [r.value for r in results] == [VALUE] * 9
    assert [r.reused for r in results] == [False] + [True] * 8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": "Another prompt?"}, "the prompt changed"),
        ({"schema": {**SCHEMA, "title": "t"}}, "the schema changed"),
        ({"parameters": Parameters(temperature=0.5, max_tokens=200)}, r"parameters \(temperature"),
        ({"parameters": Parameters(seed=3, max_tokens=200)}, r"parameters \(seed"),
        ({"parameters": Parameters(top_p=0.5, max_tokens=200)}, r"parameters \(top_p"),
        ({"parameters": Parameters(effort="low", max_tokens=200)}, r"parameters \(effort"),
    ],
)
def test_whatever_decides_the_answer_is_in_the_key_and_its_change_is_named(
    records: Path, change: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
):
    asked([chat(GOOD)], records)
    capsys.readouterr()
    _, seen = asked([chat(GOOD)], records, question(**change))
    assert len(seen) == 1
    lines = capsys.readouterr().err
    assert "1 question is asked again: other than in the records, " in lines
    assert re.search(named, lines)


def test_another_model_is_asked_and_named(records: Path, capsys: pytest.CaptureFixture[str]):
    asked([chat(GOOD)], records)
    with endpoint([chat(GOOD)]) as (url, seen):
        other = teacher(url).__class__("larger", f"{url}/v1")
        ask([question()], other, records)
    assert len(seen) == 1
    assert "the model (tiny → larger) changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "before",
    [
        [chat('{"colour": "re', "length", answer=200), chat(GOOD, answer=350)],
        [chat("no", answer=150), chat(GOOD, answer=150)],
    ],
)
def test_an_answer_of_several_requests_is_not_asked_for_again(records: Path, before: Any):
    """Neither one that came under the raised limit nor a repaired one, whose attempts are longer
    than the limit only together."""
    asked(before, records)
    [result], seen = asked([chat(GOOD)], records)
    assert result.reused
    assert not seen


def test_a_success_is_reused_where_only_the_limit_grew(records: Path):
    """Or where the same answer would come under the raised limit, which is twice as long."""
    asked([chat(GOOD, answer=150)], records)
    for limit, requests in ((4000, 0), (150, 0), (75, 0), (70, 1)):
        one = question(parameters=Parameters(max_tokens=limit))
        _, seen = asked([chat(GOOD, answer=60)], records, one)
        assert len(seen) == requests


def test_a_record_that_cannot_be_read_is_asked_for_again(records: Path):
    asked([chat(GOOD)], records, question("a", "a"), question("b", "b"))
    with sqlite3.connect(records) as file:
        file.execute("update answers set provenance = 'x', text = '{' where name = 'a'")
    results, seen = asked([chat(GOOD)], records, question("a", "a"), question("b", "b"))
    assert [r.value for r in results] == [VALUE, VALUE]
    assert len(seen) == 1


def test_a_file_that_is_no_record_is_refused_and_stays(tmp_path: Path):
    file = tmp_path / "teacher" / "records.sqlite"
    file.parent.mkdir()
    file.write_text("my notes, which are long enough to be no header of a database\n" * 20)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"records\.sqlite: cannot be used"):
        ask([question()], teacher("http://127.0.0.1:9"), file)
    assert file.read_bytes() == before


def test_nothing_is_written_into_the_database_of_another_program(tmp_path: Path):
    file = tmp_path / "photos.sqlite"
    with sqlite3.connect(file) as theirs:
        theirs.execute("create table photos (name text)")
    theirs.close()
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"of another program \(it holds photos\)"):
        ask([question()], teacher("http://127.0.0.1:9"), file)
    assert file.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    for place in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match=r"is no file"):
            ask([question()], teacher("http://127.0.0.1:9"), place)


def test_damaged_columns_of_a_record_are_no_traceback(records: Path):
    asked([chat(GOOD)], records, question("a", "a"))
    with sqlite3.connect(records) as file:
        file.execute("update answers set provenance = ?, parameters = ?", ("[" * 100_000, "[1]"))
    results, seen = asked([chat(GOOD)], records, question("a", "a"))
    assert [r.value for r in results] == [VALUE]
    assert len(seen) == 1


# -- 9: retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_to_the_stated_count(records: Path, code: int):
    [result], seen = asked([status(code), status(code), chat(GOOD)], records, retries=2)
    assert result.value == VALUE
    assert len(seen) == 3
    [result], seen = asked([status(code)], records, question("other", "other"), retries=2)
    assert result.fault is not None
    assert result.fault.cause == ("busy" if code in (429, 503) else "server")
    assert len(seen) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422, 501])
def test_what_is_permanent_is_not_tried_again(records: Path, code: int):
    refused = status(code, {"error": {"message": "not like this"}})
    [result], seen = asked([refused], records)
    assert result.fault is not None
    assert result.fault.cause in ("refused", "not_served")
    assert result.fault.message == f"{code}: not like this"
    assert len(seen) == 1


def test_retry_after_is_honoured_by_all_questions(records: Path):
    """The one that was told waits, and those that were not yet sent wait too."""
    came: list[float] = []

    def answer(_: Any, at: int) -> Any:
        came.append(time.monotonic())
        return status(429, Retry_After="1") if at == 0 else chat(GOOD)

    results, seen = asked(answer, records, question("a", "a"), question("b", "b"), concurrency=1)
    assert all(r.value == VALUE for r in results)
    assert len(seen) == 3
    assert came[1] - came[0] >= 1.0


@pytest.mark.slow
def test_retry_after_may_be_a_date(records: Path):
    came: list[float] = []

    def answer(_: Any, at: int) -> Any:
        came.append(time.time())
        date = email.utils.formatdate(int(came[0]) + 2, usegmt=True)
        return status(503, Retry_After=date) if at == 0 else chat(GOOD)

    [result], _ = asked(answer, records)
    assert result.value == VALUE
    assert came[1] >= int(came[0]) + 2 - 0.01


def test_nobody_waits_for_a_day(records: Path):
    [result], seen = asked([status(429, Retry_After="86400")], records)
    assert result.fault is not None
    assert result.fault.cause == "busy"
    assert "asks to wait 86,400 seconds" in result.fault.message
    assert len(seen) == 1


# -- 10: nothing invented --------------------------------------------------------------------------


def hang(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.recv(1)  # until the client has gone


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.01)
    except OSError:
        pass


@pytest.mark.parametrize("slow", [hang, trickle])
def test_a_timeout_is_no_schema_error_and_no_row(records: Path, slow: Any):
    [result], _ = asked([Raw(slow)], records, timeout=0.3, retries=1)
    assert result.value is None
    assert result.fault is not None
    assert result.fault.cause == "timeout"
    assert result.provenance["requests"] == 2
    assert kept(records, "answers") == []


def cut(handler: BaseHTTPRequestHandler) -> None:
    body = json.dumps(chat(GOOD)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:40])
    handler.close_connection = True


def too_short(handler: BaseHTTPRequestHandler) -> None:
    body = json.dumps(chat(GOOD)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) - 5))
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def nothing(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def html(handler: BaseHTTPRequestHandler) -> None:
    body = b"<html>busy</html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [(cut, "connection"), (nothing, "connection"), (too_short, "not_an_answer"),
     (html, "not_an_answer")],
)  # fmt: skip
def test_an_answer_broken_on_its_way_is_asked_for_again(records: Path, broken: Any, cause: str):
    [result], seen = asked([Raw(broken), chat(GOOD)], records)
    assert result.value == VALUE
    assert len(seen) == 2
    [step] = result.provenance["trail"]
    assert step["cause"] == cause
    [result], seen = asked([Raw(broken)], records, question("always", "always"))
    assert result.fault is not None
    assert result.fault.cause == cause
    assert len(seen) == 3


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 40))
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        pass


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (Raw(flood), "too_large"),
        (status(302, Location="http://127.0.0.1:9/elsewhere"), "redirect"),
        ({"object": "list"}, "not_an_answer"),
        ({"choices": []}, "not_an_answer"),
        (chat(7), "not_an_answer"),
        ([1, 2], "not_an_answer"),
        ({"choices": [{"message": {"content": None, "refusal": "I will not."}}]}, "declined"),
        (chat("", "content_filter"), "declined"),
    ],
)
def test_what_is_no_answer_is_no_row(records: Path, said: Any, cause: str):
    [result], seen = asked([said], records)
    assert result.value is None
    assert result.fault is not None
    assert result.fault.cause == cause
    assert cause in CAUSES
    assert len(seen) == 1  # the same request would bring the same
    assert kept(records, "answers") == []


# -- 11: the others go on --------------------------------------------------------------------------


def test_one_bad_question_never_stops_the_others(records: Path):
    bad = [
        Raw(flood), Raw(nothing), status(302, Location="/x"), status(401), status(500), chat("x"),
        chat(None, "length"), {"choices": 3}, Raw(html), Raw(cut),
    ]  # fmt: skip

    def answer(body: dict[str, Any], _: int) -> Any:
        number = int(body["messages"][0]["content"])
        return bad[number // 3] if number % 3 == 1 else chat(GOOD)

    def check(value: Any) -> str:
        raise ZeroDivisionError("a fault in the check")

    many = [question(f"q{n}", str(n)) for n in range(30)]
    many.append(question("check", "90", check=check))
    many.append(question("schema", "93", schema={"type": 7}))
    results, _ = asked(answer, records, *many, concurrency=4, retries=1)
    assert [r.at for r in results if r.fault] == [*range(1, 30, 3), 30, 31]
    assert all(r.value == VALUE for r in results if not r.fault)
    assert {r.fault.cause for r in results[30:] if r.fault} == {"internal"}
    assert "ZeroDivisionError: a fault in the check" in str(results[30].fault)


# -- 12: tokens and cost ---------------------------------------------------------------------------


def test_tokens_and_cost_are_counted_for_every_row(records: Path):
    answers = [chat("no", prompt=100, answer=10), chat(GOOD, prompt=130, answer=20)]
    [result], _ = asked(answers, records, price_in=2.0, price_out=10.0)
    found = result.provenance
    assert (found["prompt_tokens"], found["completion_tokens"]) == (230, 30)  # the repair too
    assert found["cost"] == pytest.approx((230 * 2 + 30 * 10) / 1e6)
    assert found["counted"] == "by the endpoint"
    assert found["requests"] == 2
    [again], _ = asked([], records, price_in=99.0)
    assert again.provenance["cost"] == found["cost"]  # what it did cost


def test_tokens_are_estimated_and_called_so_where_nobody_counts(records: Path):
    [result], _ = asked([chat(GOOD, prompt=None)], records)
    assert result.provenance["counted"] == "estimated"
    assert result.provenance["prompt_tokens"] == 7  # of 27 characters
    assert result.provenance["cost"] is None
    [again], _ = asked([], records, price_in=1e6)
    assert again.provenance["cost"] == 7.0


# -- the repair round, provenance, the plan, the key -----------------------------------------------


def test_the_repair_round_tells_what_the_validator_said(records: Path):
    [result], seen = asked([chat('{"colour": "blue"}'), chat(GOOD)], records)
    assert result.value == VALUE
    question_, answer, wanted = seen[1]["messages"]
    assert question_ == seen[0]["messages"][0]
    assert answer == {"role": "assistant", "content": '{"colour": "blue"}'}
    assert "'count' is a required property at its top" in wanted["content"]
    assert "'blue' is not one of ['red', 'green'] at colour" in wanted["content"]
    assert result.provenance["repaired"] is True
    [step] = result.provenance["trail"]
    assert (step["cause"], step["text"]) == ("wrong_schema", '{"colour": "blue"}')
    assert result.provenance | {"served": "", "key": "", "asked_at": "", "seconds": 0} == {
        "model": "tiny", "endpoint": result.provenance["endpoint"], "format": "json_schema",
        "requests": 2, "repaired": True, "trail": [step], "prompt_tokens": 80,
        "completion_tokens": 14, "answer_tokens": 7, "counted": "by the endpoint", "cost": None,
        "served": "", "key": "", "asked_at": "", "seconds": 0,
    }  # fmt: skip
    assert result.provenance["served"] == "served-name"


def test_the_check_of_a_question_is_part_of_validation_and_of_the_repair(records: Path):
    even = question(check=lambda value: "count must be even" if value["count"] % 2 else "")
    [result], seen = asked([chat(GOOD), chat('{"colour": "red", "count": 4}')], records, even)
    assert result.value["count"] == 4
    assert "count must be even." in seen[1]["messages"][-1]["content"]


def test_the_plan_says_what_it_will_take_and_sends_nothing(records: Path):
    many = [question(f"q{n}", f"{n} " * 160) for n in range(10)]
    with endpoint([chat(GOOD, prompt=160, answer=50)]) as (url, seen):
        priced = teacher(url, price_in=1.0, price_out=4.0)
        plan = make_plan(many, priced, records)
        assert seen == []
        assert not records.exists()
        assert (len(plan.missing), plan.prompt_tokens, plan.completion_tokens) == (10, 1000, 2000)
        assert plan.cost == pytest.approx((1000 + 2000 * 4) / 1e6)
        assert "10 questions: 0 on record, 10 requests to send" in plan.describe()
        assert "at most 2,000 of answers" in plan.describe()
        ask(many[:4], priced, records)
        plan = make_plan(many, priced, records)
        # Both from what was counted: two characters a token, 50 tokens an answer.
        assert (len(plan.missing), plan.prompt_tokens, plan.completion_tokens) == (6, 960, 300)
        assert plan.measured
        assert len(seen) == 4
    assert "give --price-in" in make_plan(many, teacher(url), records).describe()


@pytest.mark.parametrize(
    ("api", "variable", "other"),
    [("openai", "OPENAI_API_KEY", "OLLAMA_API_KEY"), ("ollama", "OLLAMA_API_KEY", "OPENAI_API_KEY"),
     ("openai", "LLM_API_KEY", "OLLAMA_API_KEY"), ("ollama", "LLM_API_KEY", "OPENAI_API_KEY")],
)  # fmt: skip
def test_the_key_is_sent_and_written_nowhere(
    records: Path, api: str, variable: str, other: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    for name in ("LLM_API_KEY", "OPENAI_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "sk-secret-1")
    monkeypatch.setenv(other, "sk-other-2")
    wrap = native if api == "ollama" else chat
    echo = status(500, {"error": "your key sk-secret-1 is busy"})
    refusal = status(400, {"error": "Incorrect key sk-secret-1"})

    def check(value: Any) -> str:
        raise ZeroDivisionError(f"{value} and sk-secret-1")

    three = (question("a", "a"), question("b", "b"), question("c", "c", check=check))
    answers = [echo, wrap("sk-secret-1"), wrap(GOOD), refusal, wrap("sk-secret-1"), wrap(GOOD)]
    results, seen = asked(answers, records, *three, api=api, concurrency=1)
    assert {body["headers"]["Authorization"] for body in seen} == {"Bearer sk-secret-1"}
    assert [r.fault and r.fault.cause for r in results] == [None, "refused", "internal"]
    output = capsys.readouterr()
    written = b"".join(file.read_bytes() for file in records.parent.iterdir())
    everything = f"{results} {output.out} {output.err}".encode() + written
    assert b"secret-1" not in everything
    assert b"other-2" not in everything
    assert b"***" in everything


def test_a_key_that_no_header_can_hold_is_refused(records: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLM_API_KEY", "sk-\n1é")
    with pytest.raises(UserError, match="LLM_API_KEY holds characters"):
        ask([question()], teacher("http://127.0.0.1:9"), records)


def test_a_proxy_is_not_used_for_this_machine(records: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    [result], _ = asked([chat(GOOD)], records)
    assert result.value == VALUE


def test_requests_are_bounded_and_come_at_once(records: Path):
    """As many as may are under way together: each waits for the eighth."""
    under_way, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(8)

    def answer(_: Any, at: int) -> Any:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(PATIENCE)
        with lock:
            under_way -= 1
        return chat(GOOD)

    many = [question(f"q{n}", str(n)) for n in range(40)]
    results, _ = asked(answer, records, *many, concurrency=8)
    assert all(r.value == VALUE for r in results)
    assert most == 8


def test_whoever_stops_taking_results_ends_the_requests(records: Path):
    many = [question(f"q{n}", str(n)) for n in range(500)]
    with endpoint(lambda *_: chat(GOOD)) as (url, seen):
        asking = ask_each(many, teacher(url, concurrency=2), records)
        taken = [next(asking) for _ in range(3)]
        asking.close()
        count = len(seen)
    assert count < 500
    assert len(kept(records, "answers")) >= 3
    assert all(r.value == VALUE for r in taken)


def test_progress_shows_rate_time_left_and_what_was_spent(
    records: Path, capsys: pytest.CaptureFixture[str]
):
    many = [question(f"q{n}", str(n)) for n in range(12)]
    with endpoint(lambda *_: chat(GOOD)) as (url, _):
        ask(many, teacher(url, price_in=100.0), records, what="writing")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("writing: 12/12 questions (100%) · ")
    assert "questions/s" in line
    assert "564 tokens · cost 0.05" in line


def test_a_notebook_can_ask_although_its_thread_runs_a_loop(records: Path):
    async def cell() -> Any:
        return asked([chat(GOOD)], records)

    [result], _ = asyncio.run(cell())
    assert result.value == VALUE


def test_records_of_another_version_are_refused(records: Path):
    records.parent.mkdir()
    with sqlite3.connect(records) as file:
        file.execute("pragma user_version = 7")
    with pytest.raises(UserError, match="another version"):
        ask([question()], teacher("http://127.0.0.1:9"), records)


def test_a_record_that_cannot_be_written_ends_the_run_with_its_file(
    records: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, as SQLite says it: what the teacher says after that would be lost."""

    opened = Records._open

    def full(self: Records) -> None:
        opened(self)
        self._file.execute("pragma max_page_count = 1")  # as many as there are

    monkeypatch.setattr(Records, "_open", full)
    many = [question(f"q{n}", str(n)) for n in range(50)]
    with endpoint([chat(GOOD.replace(" ", " " * 5000))]) as (url, seen):
        with pytest.raises(UserError, match=r"records\.sqlite: the disk is full"):
            ask(many, teacher(url, concurrency=4), records)
        assert len(seen) <= 8
