"""Chat templates as Ollama's: what Go's text/template writes is what transformers' Jinja writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convert.chat_template import Tokenizer, load_tokenizer, renderer
from convert.pack import chat_turns
from convert.pack.chat_turns import derive, stops
from livery.errors import UserError
from livery.paths import HOME
from tests.convert import go_templates
from tests.convert.go_templates import FAMILIES

SYSTEM = {"role": "system", "content": 'Answer in "JSON".\nBe brief; {{ }} are braces.'}
TALK = [
    {"role": "user", "content": "Who are you?\n\nSay."},
    {"role": "assistant", "content": '{"name": "x"}'},
    {"role": "user", "content": "And {{ .you }}?"},
    {"role": "assistant", "content": "Also."},
    {"role": "user", "content": "Thanks."},
]
TALKS = [TALK[:1], TALK[:3], TALK, [SYSTEM, *TALK[:1]], [SYSTEM, *TALK]]


def tokenizer(family: str) -> Tokenizer:
    template, tokens = FAMILIES[family]
    return Tokenizer(Path(family), template, tokens, tuple(tokens.values()), False)


@pytest.mark.parametrize("family", FAMILIES)
def test_turns_are_those_of_the_template(family: str) -> None:
    one = tokenizer(family)
    turns, render = derive(one), renderer(one)
    for talk in TALKS:
        if turns.system_refused and talk[0] is SYSTEM:
            continue
        assert turns.render(talk) == render(talk, True)


@pytest.mark.skipif(not go_templates.go(), reason="no Go on PATH")
def test_go_writes_what_jinja_writes(tmp_path: Path) -> None:
    jobs: list[tuple[str, list[dict[str, str]]]] = []
    wanted: list[str] = []
    ours = load_tokenizer(HOME / "base_model")
    assert ours is not None
    for one in [*map(tokenizer, FAMILIES), ours]:
        turns, render = derive(one), renderer(one)
        for talk in TALKS:
            jobs.append((turns.go_template(), talk))
            refused = turns.system_refused and talk[0] is SYSTEM
            wanted.append(turns.render(talk) if refused else render(talk, True))
    assert go_templates.go_render(jobs, tmp_path) == wanted


def test_the_go_template_of_chatml() -> None:
    assert derive(tokenizer("chatml")).go_template() == (
        '{{ $n := 0 }}{{ $last := "" }}{{ range $i, $m := .Messages }}{{ if eq $m.Role "user" }}'
        "{{ if $n }}<|im_end|>\n<|im_start|>user\n{{ else }}{{ if $.System }}"
        "<|im_start|>system\n{{ $.System }}<|im_end|>\n<|im_start|>user\n{{ else }}"
        "<|im_start|>user\n{{ end }}{{ end }}{{ $m.Content }}{{ $n = 1 }}"
        '{{ else if eq $m.Role "assistant" }}<|im_end|>\n<|im_start|>assistant\n{{ $m.Content }}'
        '{{ end }}{{ $last = $m.Role }}{{ end }}{{ if eq $last "user" }}'
        "<|im_end|>\n<|im_start|>assistant\n{{ end }}"
    )


def test_the_system_message_stands_where_the_template_puts_it() -> None:
    places = {family: derive(tokenizer(family)).system_at for family in FAMILIES}
    assert places.pop("mistral") == "last"
    assert set(places.values()) == {"first"}
    assert derive(tokenizer("gemma")).system_refused
    assert not derive(tokenizer("gemma3")).system_refused


def test_without_tools_and_with_a_fixed_date() -> None:
    turns = derive(tokenizer("llama3 with a date"))
    assert "ipython" not in turns.start
    assert "Today Date: 26 Jul 2024\n\n<|eot_id|>" in turns.start
    assert turns.before_system.endswith("26 Jul 2024\n\n")


def test_bos_is_left_to_the_runtime_that_puts_it_there() -> None:
    turns = derive(tokenizer("llama3"))
    assert turns.start.startswith("<|begin_of_text|>")
    again = turns.without_bos("<|begin_of_text|>")
    assert "<|begin_of_text|>" not in again.go_template()
    assert again.without_bos("") == again


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("chatml", ["<|im_end|>"]),
        ("llama3", ["<|eot_id|>"]),
        ("mistral", ["</s>"]),
        ("phi3", ["<|endoftext|>"]),
        ("gemma", ["<eos>"]),
    ],
)
def test_stops(family: str, ends: list[str]) -> None:
    one = tokenizer(family)
    assert stops(one, derive(one)) == ends


def test_stops_of_the_embedded_base() -> None:
    ours = load_tokenizer(HOME / "base_model")
    assert ours is not None
    assert stops(ours, derive(ours)) == ["<|end|>"]
    assert chat_turns.known_as(derive(ours)) == "turns of its own"


def test_an_end_of_turn_that_is_no_end_of_text_stops_too() -> None:
    template, tokens = FAMILIES["gemma"]
    one = Tokenizer(Path("g"), template, tokens, ("<eos>", "<end_of_turn>"), False)
    assert stops(one, derive(one)) == ["<end_of_turn>", "<eos>"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "there is none"),
        ("{% for x in y", "not a Jinja"),
        ("{{ messages[0]['content'] }}", "leaves a message out"),
        ("{{ messages[-1]['content'] | upper }}", "changes it"),
        (
            "{% for m in messages %}{{ loop.index ~ m['role'] + m['content'] }}{% endfor %}",
            "more than join turns",
        ),
        ("{{ strftime_now('%d') }}{{ messages[0]['content'] }}", "strftime_now"),
        ("{{ raise_exception('never') }}", "never"),
    ],
)
def test_what_is_refused(template: str, says: str) -> None:
    one = Tokenizer(Path("odd"), template, {}, (), False)
    with pytest.raises(UserError, match=says) as caught:
        derive(one)
    assert "--template FILE" in str(caught.value)
    assert "odd" in str(caught.value)


_OFTEN = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (_OFTEN, "does it loop without end"),
        ("{{ messages[0]['content'] }}{{ 'xxxxxxxx' * 10000000 }}", "more than 64,000,000"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself endlessly"),
    ],
)
def test_a_template_without_end_is_stopped(template: str, says: str) -> None:
    with pytest.raises(UserError, match=f"{says}.*--template FILE"):
        derive(Tokenizer(Path("base"), template, {}, (), False))


def test_a_template_cannot_reach_out() -> None:
    code = "{{ messages.__class__.__mro__[1].__subclasses__() }}{{ messages[0]['content'] }}"
    with pytest.raises(UserError, match="no equivalent in Ollama"):
        derive(Tokenizer(Path("odd"), code, {}, (), False))


def test_tokenizer_files(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None
    settings = {
        "bos_token": {"content": "<s>"},
        "eos_token": None,
        "chat_template": [
            {"name": "tools", "template": "no"},
            {"name": "default", "template": "d"},
        ],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    one = load_tokenizer(tmp_path)
    assert one is not None
    assert (one.template, dict(one.tokens), one.adds_bos) == ("d", {"bos_token": "<s>"}, True)
    (tmp_path / "chat_template.jinja").write_text("j")
    one = load_tokenizer(tmp_path)
    assert one is not None
    assert one.template == "j"
