"""Contract of date-keys: vocabulary, answer text, parser, schema, grammar, scorer."""

from __future__ import annotations

import doctest
import json
import re

import jsonschema
import llguidance
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from commands.data import data
from eval.scorers import date_keys as scorer
from livery.errors import UserError
from livery.skills import AnswerError, date_keys, get_skill, skill_names
from tests import ROOT

CLOCK = st.builds(
    lambda h, m, half: f"at_{h}_{m:02}{half}",
    st.integers(1, 12),
    st.integers(1, 59),
    st.sampled_from(["am", "pm"]),
)
KEYS = st.one_of(
    st.sampled_from(date_keys.STATIC_KEYS),
    st.integers(1, 99_999).map("in_{}_minutes".format),
    st.integers(1, 9_999).map("in_{}_days".format),
    CLOCK,
)
LISTS = st.lists(KEYS, max_size=date_keys.MAX_KEYS, unique=True)

TOKENIZER = llguidance.LLTokenizer("byte")


def admits(grammar: str, text: str) -> bool:
    """Whether llguidance accepts `text` as a whole."""
    matcher = llguidance.LLMatcher(TOKENIZER, llguidance.LLMatcher.grammar_from_lark(grammar))
    assert not matcher.get_error()
    tokens = TOKENIZER.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_vocabulary_is_that_of_version_2():
    assert date_keys.VERSION == "2.0"
    assert len(set(date_keys.STATIC_KEYS)) == len(date_keys.STATIC_KEYS)
    some = (
        "today day_before_yesterday last_night yesterday_evening tomorrow_night this_afternoon "
        "midnight after_dinner last_sunday this_weekend next_year at_12am at_3pm"
    )
    assert set(some.split(" ")) <= set(date_keys.STATIC_KEYS)
    for key in ("yesterday_night", "last_morning", "at_13pm", "at_0am", "this_night", "at_lunch"):
        assert not date_keys.is_key(key)


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("in_30_minutes", ("30",)),
        ("in_14_days", ("14",)),
        ("at_3_30pm", ("3", "30")),
        ("at_12_05am", ("12", "05")),
    ],
)
def test_dynamic_patterns_give_the_numbers(key: str, numbers: tuple[str, ...]):
    found = [m for p in date_keys.DYNAMIC_PATTERNS if (m := re.search(p["regex"], key))]
    assert [m.groups() for m in found] == [numbers]


@given(KEYS)
def test_a_key_is_static_or_matches_one_pattern(key: str):
    dynamic = sum(bool(re.search(p["regex"], key)) for p in date_keys.DYNAMIC_PATTERNS)
    assert (key in date_keys.STATIC_KEYS) + dynamic == 1


@given(LISTS)
def test_render_parse_schema_and_grammar_agree(keys: list[str]):
    text = date_keys.render(keys)
    assert date_keys.parse(text) == tuple(keys)
    assert json.loads(text) == keys
    jsonschema.validate(keys, date_keys.json_schema())
    assert admits(date_keys.grammar(), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        '["tomorow"]',
        '["today", "noon"]',
        '["today",]',
        "[ ]",
        '["in_0_minutes"]',
        '["in_007_days"]',
        '["at_3_00pm"]',
        '["at_3_60pm"]',
        '["at_13pm"]',
        '["today"] ',
        '{"a":1}',
        json.dumps(["today"] * 9, separators=(",", ":")),
    ],
)
def test_grammar_rejects_what_render_never_writes(text: str):
    assert not admits(date_keys.grammar(), text)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("tomorrow", "not JSON"),
        ('["tomorrow"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"keys": []}', "not a JSON array"),
        ("[3]", "not a string"),
        ('["tomorrow", "soon"]', "unknown key 'soon'"),
        ('["in_٣_days"]', "unknown key"),
        (json.dumps(["today"] * 9), "9 keys"),
    ],
)
def test_parse_says_what_is_wrong(answer: str, says: str):
    with pytest.raises(AnswerError, match=re.escape(says)):
        date_keys.parse(answer)


def test_render_refuses_what_parse_would():
    for keys in (["soon"], ["today", "today"], ["noon"] * 9):
        with pytest.raises(ValueError):
            date_keys.render(keys)


@given(st.integers(0, 23), st.integers(0, 59))
def test_time_keys_are_keys_and_never_twelve(hour: int, minute: int):
    key = date_keys.time_key(hour, minute)
    assert date_keys.is_key(key)
    assert key not in ("at_12am", "at_12pm")


def test_time_key_examples():
    said = {(0, 0): "midnight", (12, 0): "noon", (15, 30): "at_3_30pm", (0, 5): "at_12_05am"}
    assert {t: date_keys.time_key(*t) for t in said} == said
    with pytest.raises(ValueError):
        date_keys.time_key(24, 0)


def test_messages_and_the_registry():
    assert get_skill("date-keys") is date_keys.SKILL is get_skill("date_keys")
    assert "date-keys" in skill_names()
    asked = date_keys.messages("wake me at noon")
    assert [m["role"] for m in asked] == ["system", "user"]
    assert date_keys.messages("wake me at noon", ["noon"]) == [
        *asked,
        {"role": "assistant", "content": '["noon"]'},
    ]
    with pytest.raises(UserError, match="date-keys"):
        get_skill("dates")


def test_scorer_compares_sets_and_notes_order():
    [case] = scorer.cases([{"text": "at noon on friday", "date_keys": ["noon", "this_friday"]}])
    assert case.messages[-1] == {"role": "user", "content": "at noon on friday"}
    right = scorer.score_case(case, '["noon","this_friday"]')
    assert right.correct
    assert right.notes == ()
    turned = scorer.score_case(case, '["this_friday", "noon"]')
    assert turned.correct
    assert turned.notes == ("order",)
    short = scorer.score_case(case, '["noon"]')
    assert not short.correct
    assert short.error == "missing this_friday"
    wrong = scorer.score_case(case, '["noon","next_friday"]')
    assert wrong.error == "missing this_friday; extra next_friday"
    broken = scorer.score_case(case, '["noon",')
    assert not broken.correct
    assert not broken.parsed
    assert broken.error.startswith("not JSON")


def test_cases_accept_conversations():
    row = {
        "messages": date_keys.messages("call mum tonight", ["tonight"]),
        "meta": {"id": "t1", "category": "relative_days"},
    }
    [case] = scorer.cases([row])
    assert (case.id, case.category, case.expected) == ("t1", "relative_days", ["tonight"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "x"}', 'no "date_keys"'),
        ('{"date_keys": []}', 'needs "text"'),
        ('{"text": "  ", "date_keys": []}', "not empty"),
        ('{"text": "x", "date_keys": "today"}', "list of strings"),
        ('{"text": "x", "date_keys": ["soon"]}', "unknown key 'soon'"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "assistant turn"),
        ('{"text": ', "not valid JSON"),
    ],
)
def test_malformed_cases_name_file_and_line(tmp_path, line: str, says: str):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "stop", "date_keys": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        scorer.cases(path)
    assert f"{path}:2" in str(error.value)
    assert says in str(error.value)


def test_no_cases_and_shared_ids_are_errors(tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(UserError, match="no cases"):
        scorer.cases(path)
    twice = [{"text": t, "date_keys": [], "id": "a"} for t in ("stop", "go")]
    with pytest.raises(UserError, match="row 2: id 'a' is already used at row 1"):
        scorer.cases(twice)


def test_the_documentation_runs():
    page = ROOT / "docs" / "date-keys.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.attempted >= 8
    assert done.failed == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("TOMORROW", "tomorrow"),
        ("“Next Monday”", "next monday"),
        ("Call Bob @ 3PM, please!", "call bob at 3 pm please"),
        ("Wake me @6:30am.", "wake me at 6:30 am"),
        ("I’d like 9:00A.M. or 6 p m", "i'd like 9 am or 6 pm"),
        ("wait... what, tomorrow?", "wait what tomorrow"),
        ("mail a@b.com at 3.30", "mail link at 3.30"),
        ("a man am i", "a man am i"),
        ("Ｔｏｍｏｒｒｏｗ ３ｐｍ", "tomorrow 3 pm"),
    ],
)
def test_commands_are_asked_as_a_recogniser_writes_them(typed: str, said: str) -> None:
    assert date_keys.normalise(typed) == said
    assert date_keys.messages(typed)[1]["content"] == said


@given(st.text(alphabet="aApPmM .,!?@'\"3’…İßﬀ\n", max_size=14) | st.text(max_size=10))
def test_what_is_normalised_stays_as_it_is(text: str) -> None:
    assert date_keys.normalise(date_keys.normalise(text)) == date_keys.normalise(text)


def test_the_vocabulary_is_what_the_endpoint_answers() -> None:
    answer = date_keys.vocabulary(adapter_trained=True)
    assert list(answer) == [
        *("version", "static_keys", "dynamic_patterns", "patterns", "notes", "adapter_trained")
    ]
    assert answer["version"] == "2.0"
    assert answer["adapter_trained"] is True
    assert {"during_breakfast", "during_dinner", "at_breakfast"} <= set(answer["static_keys"])
    for pattern in answer["dynamic_patterns"]:
        assert set(pattern) == {"pattern", "regex", "description"}
    assert json.loads(json.dumps(answer)) == answer
    answer["static_keys"].clear()
    assert date_keys.vocabulary()["static_keys"]


def test_the_command_prints_the_vocabulary(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(data, ["date-keys", "--vocabulary"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.output) == date_keys.vocabulary(adapter_trained=False)
    (tmp_path / "adapters/date-keys").mkdir(parents=True)
    (tmp_path / "adapters/date-keys/adapters.safetensors").touch()
    ran = CliRunner().invoke(data, ["date-keys", "--vocabulary"])
    assert json.loads(ran.output)["adapter_trained"] is True


def test_aliases_are_read_and_never_written() -> None:
    assert date_keys.parse('["at_noon","this_friday"]') == ("noon", "this_friday")
    [case] = scorer.cases([{"text": "at 12 am", "date_keys": ["at_midnight"]}])
    assert case.expected == ["midnight"]
    assert scorer.score_case(case, '["midnight"]').correct
    for alias in date_keys.ALIASES:
        assert not date_keys.is_key(alias)
        assert not admits(date_keys.grammar(), f'["{alias}"]')
        with pytest.raises(ValueError):
            date_keys.render([alias])
    with pytest.raises(AnswerError, match="not a string"):
        date_keys.parse('[["at_noon"]]')
