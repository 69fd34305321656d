"""The contract of actions: answers read strictly, written, constrained; verbs and their table."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.engines.constrain import checker
from livery.engines.engine import Grammar
from livery.errors import UserError
from livery.skills import AnswerError, actions, get_skill
from livery.skills.actions import VERBS, Answer, Tag, Verb, action, parse_answer, render, shell

CLICK = "Opening it.\n[ACTION]open: firefox[/ACTION]"


def test_an_answer_is_words_and_tags_with_exact_positions():
    text = (
        "  Sure, both.\n[ action ] Open App :  Firefox [/Action]\n"
        "[Shell]\nls -la\n  | head\n[ / SHELL ]\nThere you are."
    )
    answer = parse_answer(text)
    assert answer.text == "Sure, both.\nThere you are."
    first, second = answer.tags
    assert (first.kind, first.verb, first.argument) == ("ACTION", "launch_app", "Firefox")
    assert text[first.start : first.end] == "[ action ] Open App :  Firefox [/Action]"
    assert (second.kind, second.argument, second.runs) == ("SHELL", "ls -la\n  | head", "shell")
    assert text[second.start :].startswith("[Shell]")
    assert text[: second.end].endswith("[ / SHELL ]")


@pytest.mark.parametrize(
    "text",
    [
        "```\nHere.\n[SHELL]ls[/SHELL]\n```",
        "Here.\n```bash\n[SHELL]ls[/SHELL]\n```",
        "Here.\n[SHELL]```bash\nls\n```[/SHELL]",
        "Here.\n[SHELL]\n```\nls\n```\n[/SHELL]",
        "Here.\n[SHELL]`ls`[/SHELL]",
        "Here.\n[SHELL]```ls```[/SHELL]",
        "Here.\n`[SHELL]ls[/SHELL]`",
        "~~~\nHere.\n[SHELL] ls [/SHELL]\n~~~",
        "Here.\r\n[SHELL]\r\nls\r\n[/SHELL]\r\n",
    ],
)
def test_a_fence_and_white_space_are_no_part_of_an_answer(text: str):
    answer = parse_answer(text)
    assert (answer.text, [tag.argument for tag in answer.tags]) == ("Here.", ["ls"])
    assert render(answer) == "Here.\n[SHELL]ls[/SHELL]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ok.\n[SHELL]ls", r"\[SHELL\] is not closed at character 4"),
        ("Ok.\n[SHELL]ls[/ACTION]", r"\[SHELL\] is closed by \[/ACTION\] at character 13"),
        ("Ok. ls[/SHELL]", r"\[/SHELL\] closes nothing at character 6"),
        (
            "[SHELL]echo [ACTION]mute[/ACTION][/SHELL]",
            r"\[ACTION\] stands inside \[SHELL\] at character 12",
        ),
        ("[SHELL] \n [/SHELL]", r"\[SHELL\] is empty at character 0"),
        ("[ACTION]:[/ACTION]", "unknown verb '' at character 8"),
        ("[ACTION]open: [/ACTION]", "'launch_app' has no argument at character 8"),
        ("[ACTION] system_info: cpu[/ACTION]", "'system_info' takes no argument.* at character 9"),
        ("[ACTION]opn_app: x[/ACTION]", "unknown verb 'opn_app'; did the model mean 'open_app'"),
        ("[ACTION]open firefox[/ACTION]", "no colon after the verb 'open' at character 8"),
        ('[ACTION]{"verb": "open"}[/ACTION]', "unknown verb '{\"verb\"' at character 8"),
        ("Ok.\n[SHELL ls]", r"'\[SHELL' is no tag that can be read at character 4"),
        ("Ok.\n[RUN]ls[/SHEL]", r"'\[/SHEL\]' is no tag that can be read at character 11"),
        ("Ok.\n[SHELL]ls[/SHELL]\n[SHE", "is no tag that can be read at character 22"),
        ("[SHELL]ls\x07[/SHELL]", r"a control character \(U\+0007\) in a tag at character 9"),
        ("[SHELL]ls\rrm x[/SHELL]", r"a control character \(U\+000D\)"),
        ("[SHELL]ls\u2028rm x[/SHELL]", r"a control character \(U\+2028\)"),
    ],
)
def test_within_a_tag_nothing_is_forgiven(text: str, message: str):
    with pytest.raises(AnswerError, match=message):
        parse_answer(text)


@pytest.mark.parametrize(
    "text",
    [
        "See item [3] of the list, or [this one].",
        "An actıon has no dotless i: [actıon]x[/actıon]",
        "[A\u200bCTION]open: x",
        "[Action items] are in the notes.",
    ],
)
def test_other_brackets_are_words(text: str):
    assert parse_answer(text) == Answer(text)


def test_a_command_is_known_whichever_tag_holds_it():
    answer = parse_answer(
        "[ACTION]run: ls[/ACTION][SHELL]df[/SHELL][ACTION]coding: print(1)[/ACTION]"
        "[EXEC_CODE]print(2)[/EXEC_CODE][ACTION]mute[/ACTION]"
    )
    assert [(tag.runs, tag.argument) for tag in answer.tags] == [
        ("shell", "ls"),
        ("shell", "df"),
        ("code", "print(1)"),
        ("code", "print(2)"),
        ("", ""),
    ]
    assert actions.as_answer(json.loads(json.dumps(actions.as_value(answer)))) == answer


@pytest.mark.slow
def test_a_megabyte_is_read_at_once():
    for text in ("[" * 1_000_000, "[ " * 500_000, "[" + " " * 1_000_000, "`" * 1_000_000):
        with contextlib.suppress(AnswerError):
            parse_answer(text)
    assert len(parse_answer("[SHELL]" + "a" * 1_000_000 + "[/SHELL]").tags[0].argument) == 10**6


WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="[]`~"), min_size=1)
ARGUMENTS = WORDS | st.sampled_from(["[ -f x ] && ls", "[System.IO.File]::Exists('a')", "a: b"])
GIVEN = [verb.name for verb in VERBS.verbs if verb.takes == "required"]
TAGS = (
    st.builds(shell, ARGUMENTS)
    | st.builds(action, st.sampled_from(GIVEN), ARGUMENTS)
    | st.just(action("system_info"))
    | st.builds(lambda code: Tag("EXEC_CODE", "exec_code", code, runs="code"), ARGUMENTS)
)


@given(WORDS, st.lists(TAGS, max_size=4))
def test_what_is_written_is_read_back(words: str, tags: list[Tag]):
    text = render(Answer(words, tuple(tags)))
    again = parse_answer(text)
    assert again.text == words
    assert [tag.written for tag in again.tags] == [tag.written for tag in tags]
    assert "".join(text[tag.start : tag.end] for tag in again.tags) == "".join(
        tag.written for tag in tags
    )
    assert render(again) == text


@given(st.text(st.sampled_from("[]/ \n:`aACTIONSHELLEXEC_CODEopen\x00"), max_size=60))
def test_anything_is_read_or_refused(text: str):
    with contextlib.suppress(AnswerError):
        for tag in parse_answer(text).tags:
            assert text[tag.start] == "["
            assert text[tag.end - 1] == "]"


def test_what_cannot_be_read_back_is_not_written():
    for answer in (
        Answer("Say [SHELL]ls[/SHELL]"),
        Answer("Ok.", (shell("echo [/SHELL]"),)),
        Answer("Ok.", (shell(""),)),
        Answer("Ok.", (shell(" ls"),)),
        Answer("Ok.", (Tag("ACTION", "fly", "home"),)),
        Answer("Ok.\n\nMore."),
    ):
        with pytest.raises(ValueError, match="read back"):
            render(answer)


REFUSED = checker(Grammar("lark", actions.grammar()))


@given(WORDS.map(lambda w: w[:200]), st.lists(TAGS, max_size=4))
def test_the_grammar_admits_rendered_answers(words: str, tags: list[Tag]):
    tags = [tag for tag in tags if len(tag.argument) <= 100]
    assert REFUSED(render(Answer(words, tuple(tags)))) == ""


@pytest.mark.parametrize(
    "text",
    [
        CLICK,  # an alias
        "Ok.\n[SHELL]ls",
        "Ok.\n[SHELL][SHELL]ls[/SHELL][/SHELL]",
        "Ok.\n[SHELL]echo [ shell ][/SHELL]",
        "Ok.\n[ACTION]mute: now[/ACTION]",
        "Ok.\n[ACTION]open_url[/ACTION]",
        "Ok.\n[SHELL] [/SHELL]",
        "Ok.\n[SHELL]a\nb[/SHELL]",
        "[SHELL]ls[/SHELL]",
        "Ok.\n" + "\n".join(["[ACTION]mute[/ACTION]"] * 5),
        "a" * 300,
    ],
)
def test_the_grammar_admits_nothing_else(text: str):
    assert REFUSED(text) != ""


@given(st.text(st.sampled_from("Ok.\n[]/ SHELLsACTIONmutea:"), max_size=30))
def test_what_the_grammar_admits_is_read(text: str):
    for answer in (text, f"Ok.\n[SHELL]{text}[/SHELL]"):
        if not REFUSED(answer):
            parse_answer(answer)


def test_the_verbs_and_their_aliases():
    for said, name in (
        ("Open-App", "launch_app"), ("browse", "open_url"), ("new tab", "open_url"),
        ("sysinfo", "system_info"), ("notification", "notify"), ("play", "play_music"),
        ("music", "play_music"), ("run", "shell"), ("coding", "exec_code"),
    ):  # fmt: skip
        found = VERBS.verb(said)
        assert found is not None
        assert found.name == name
    assert VERBS.verb("fly") is None
    assert parse_answer("[ACTION]notify: Tea | it is ready[/ACTION]").tags[0].argument == (
        "Tea | it is ready"
    )


def test_a_table_of_the_users(tmp_path: Path):
    path = tmp_path / "verbs.json"
    path.write_text(
        json.dumps(
            {"lights_on": {"aliases": ["lamp_on"], "about": "a room"}, "panic": {"takes": "none"}}
        )
    )
    table = actions.read_verbs(path)
    assert parse_answer("[ACTION]Lamp On: attic[/ACTION]", table).tags[0].verb == "lights_on"
    assert parse_answer(CLICK, table) == parse_answer(CLICK)
    answer = parse_answer("Ok.\n[ACTION]panic[/ACTION]", table)
    refused = checker(Grammar("lark", actions.grammar(table)))
    assert refused(render(answer, table)) == ""
    assert "lights_on" in actions.system_prompt("powershell", table)
    with pytest.raises(AnswerError, match="unknown verb 'panic'"):
        parse_answer("[ACTION]panic[/ACTION]")
    with pytest.raises(ValueError, match="unknown verb"):
        render(answer)
    for content, message in (
        ('{"Fly": {}}', "not a valid verb: use lower-case letters"),
        ('{"fly": {"aliases": ["open"]}}', "'open' is a name of 'launch_app' and of 'fly'"),
        ('{"fly": {"takes": "maybe"}}', "takes is 'maybe'; it must be required, optional, none"),
        ('{"fly": {"alias": []}}', "fly holds 'alias'; it may hold aliases"),
        ('{"fly": 3}', "fly is 3; it must be an object"),
        ("[]", "object"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            actions.read_verbs(path)
    assert Verb("mute", takes="optional") in VERBS.extended([Verb("mute", takes="optional")]).verbs


def test_messages_ask_in_turns():
    skill = get_skill("actions")
    value = skill.parse(CLICK)
    asked = skill.messages("open firefox", value)
    assert [m["role"] for m in asked] == ["system", "user", "assistant"]
    assert asked[-1]["content"] == "Opening it.\n[ACTION]launch_app: firefox[/ACTION]"
    turns = actions.conversation(["delete it", "Shall I run: rm x?", "yes"], shell="powershell")
    assert [m["role"] for m in turns] == ["system", "user", "assistant", "user"]
    assert "PowerShell" in turns[0]["content"]
    with pytest.raises(ValueError, match="2 turns"):
        actions.conversation(["a", "b"])
    described = actions.vocabulary(True)
    assert described["verbs"]["open_url"]["aliases"] == ["url", "browse", "new_tab", "open_website"]
