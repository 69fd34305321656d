"""Chat templates are rendered as transformers renders them, and none can hang or flood a run."""

from __future__ import annotations

import datetime
import re
import time
from typing import Any

import pytest

from livery.dataset.bounds import OutOfBounds, Refused
from livery.dataset.sandbox import Template, compiled
from tests.dataset.templates import FAMILIES, TOOLS, trl_templates

TURNS = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "good day"},
    {"role": "user", "content": "again"},
]


def variables(**more: Any) -> dict[str, Any]:
    return {
        "messages": TURNS,
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
        **more,
    }


# Of TRL's, one of each family: not the variants for training, nor older revisions.
VENDORS = {
    name: source
    for name, source in trl_templates().items()
    if not re.search(r"_training$|_v\d$", name)
}


@pytest.mark.parametrize("name", sorted({**FAMILIES, **VENDORS}))
def test_what_is_rendered_is_what_transformers_renders(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source = {**FAMILIES, **VENDORS}[name]
    system = [{"role": "system", "content": "Be brief."}]
    for messages in (TURNS, system + TURNS[:2]):
        for tools in (None, TOOLS):
            given = variables(messages=messages, tools=tools)
            given.pop("documents")
            chat = given.pop("messages")
            try:
                (want,), _ = render_jinja_template([chat], chat_template=source, **given)
            except Exception:
                with pytest.raises(Refused):
                    compiled(source).render(variables(messages=messages, tools=tools))
            else:
                assert compiled(source).render(variables(messages=messages, tools=tools)) == want


_LISTS = (
    "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(40) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
)
HOSTILE = {
    "nested loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}"
    "{% endfor %}",
    "loops over text": "{% for a in 'x' * 9000 %}{% for b in 'x' * 9000 %}{% endfor %}{% endfor %}",
    "a large range": "{% for a in range(10 ** 9) %}{% endfor %}",
    "a repeated text": "{{ 'x' * 10 ** 10 }}",
    "a repeated list": "{{ ([0] * 10 ** 10) | length }}",
    "turned round": "{{ 10 ** 10 * 'x' }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "doubling by tilde": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(40) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by a macro": "{% macro f(x, n) %}{% if n %}{{ f(x + x, n - 1) }}{% endif %}"
    "{% endmacro %}{{ f('x', 60) }}",
    "doubling by join": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = [n.x, n.x] | join %}{% endfor %}",
    "doubling by a method": "{% set n = namespace(x='xx') %}{% for i in range(40) %}"
    "{% set n.x = n.x.replace('x', 'xx') %}{% endfor %}",
    "doubling by format": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = '%s%s' % (n.x, n.x) %}{% endfor %}",
    "doubling by str.format": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = '{}{}'.format(n.x, n.x) %}{% endfor %}",
    "doubling by a block": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "a branching macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "an endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a branching loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "squares": "{% set n = namespace(x=7) %}{% for i in range(60) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}",
    "a power": "{{ 10 ** (10 ** 8) }}",
    "a width": "{{ 'x' | center(10 ** 10) }}",
    "a method's width": "{{ 'x'.ljust(10 ** 10) }}",
    "a format's width": "{{ '%9999999999d' % 1 }}",
    "a format's computed width": "{{ '%*d' % (10 ** 10, 1) }}",
    "a str.format's width": "{{ '{:>9999999999}'.format(1) }}",
    "a str.format's computed width": "{{ '{:>{}}'.format(1, 10 ** 10) }}",
    "a filter's width": "{{ '%9999999999d' | format(1) }}",
    "indented JSON": "{{ [[1]] | tojson(indent=10 ** 10) }}",
    "indented text": "{{ 'x\nx' | indent(10 ** 10) }}",
    "a flood": "{% for i in range(90000) %}{% for m in messages %}{{ 'x' * 100000 }}"
    "{% endfor %}{% endfor %}",
    "a flood within a macro": "{% macro f() %}{% for i in range(90000) %}{{ 'x' * 100000 }}"
    "{% endfor %}{% endmacro %}{{ f() }}",
    "slow work": "{% set x = 'x' * 9000000 %}{% for i in range(90000) %}"
    "{% if x.replace('x', 'y') %}{% endif %}{% endfor %}",
    **{
        f"lists within lists: {how}": _LISTS + how
        for how in (
            "{{ n.x }}", "{{ n.x | tojson }}", "{{ n.x | string }}", "{{ 'a' ~ n.x }}",
            "{{ [n.x] | join }}", "{{ '%s' % [n.x] }}", "{{ '%s' | format(n.x) }}",
            "{{ '{}'.format(n.x) }}", "{{ n.x | upper }}", "{{ n.x | trim }}", "{{ n.x == n.y }}",
            "{{ n.x in [n.y] }}", "{{ n.x is eq(n.y) }}", "{{ n.x != n.y }}", "{{ n.x > n.y }}",
            "{{ [n.y].index(n.x) }}", "{{ [n.x, n.y] | sort }}", "{{ [n.x, n.y] | max }}",
            "{{ n.x | pprint }}", "{{ n.x | e }}", "{{ raise_exception(n.x) }}",
            "{{ [n.y, n.x] | select('in', [n.x]) | list }}", "{{ n.x | replace('1', '2') }}",
            "{% macro f(v) %}{{ v }}{% endmacro %}{{ f(n.x) }}", "{{ {'a': n.x} | tojson }}",
            "{{ {'a': n.x} | urlencode }}", "{{ n.x | sum(start=[]) }}{{ n.x }}",
        )
    },
    "a list of lists as JSON": "{{ ([[[1] * 1000] * 1000] * 1000) | tojson }}",
    "a long text a thousand times": "{{ ['x' * 1000000] * 1000 }}",
    "lorem ipsum": "{{ lipsum(100000) }}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_template_hangs_or_floods(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livery.dataset.bounds.SECONDS", 0.5)
    monkeypatch.setattr("livery.dataset.bounds.STEPS", 200_000)
    monkeypatch.setattr("livery.dataset.bounds.VALUES", 50_000)
    template = Template(HOSTILE[name])
    began = time.thread_time()
    with pytest.raises(Refused) as caught:
        template.render(variables())
    assert time.thread_time() - began < 10  # of the hours that it would take
    assert "\n" not in str(caught.value)
    # And it is good for the next rendering.
    with pytest.raises(Refused):
        template.render(variables())


def test_bounds_are_wide_enough_for_long_conversations() -> None:
    turns = [{"role": ("user", "assistant")[i % 2], "content": "word " * 50} for i in range(20_000)]
    text = compiled(FAMILIES["chatml"]).render(variables(messages=turns))
    assert text.count("word") == 1_000_000


def test_arithmetic_and_formats_stay_what_they_are() -> None:
    source = (
        "{{ 7 % 4 }} {{ '%s-%03d' % ('a', 5) }} {{ 2 ** 10 }} {{ '=' * 5 }} {{ 3 * 4 }} "
        "{{ '{:>4}'.format('x') }} {{ ['a', 'b'] | join(', ') }} {{ ', '.join(['a', 'b']) }} "
        "{{ 'ab' | replace('b', 'c') }} {{ 'ab'.replace('b', 'c') }} {{ 'x' | center(3) }} "
        "{{ [1, 2] + [3] }} {{ messages | map(attribute='role') | join('/') }} {{ 1 + 2 }}"
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %} {{ twice('ab') }}"
        "{% set y %}<{{ 'z' }}>{% endset %} {{ y }} {{ 'a' ~ 1 }}"
    )
    assert Template(source).render(variables()) == (
        "3 a-005 1024 ===== 12    x a, b a, b ac ac  x  [1, 2, 3] user/assistant/user 3 abab <z> a1"
    )


def test_the_date_is_the_one_given() -> None:
    template = Template("{{ strftime_now('%d %b %Y') }}")
    assert template.asks_date
    assert template.render(variables(), datetime.datetime(2024, 7, 26)) == "26 Jul 2024"
    assert not Template("{{ messages }}").asks_date


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ x", "{% include 'a' %}", "{{ ().__class__.x }}"]
)
def test_what_is_no_template_or_reaches_out_is_refused(source: str) -> None:
    with pytest.raises(Refused):
        Template(source).render(variables())


def test_out_of_bounds_is_told_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livery.dataset.bounds.STEPS", 10_000)
    with pytest.raises(OutOfBounds, match="steps"):
        Template(HOSTILE["a branching macro"]).render(variables())
    with pytest.raises(Refused, match="no roles here") as caught:
        Template("{{ raise_exception('no roles here') }}").render(variables())
    assert not isinstance(caught.value, OutOfBounds)


def test_a_short_rendering_does_not_ask_for_the_processors_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking takes longer than rendering a row, and a data set has hundreds of thousands."""
    template = Template(FAMILIES["chatml"])
    asked: list[float] = []
    monkeypatch.setattr(
        "livery.dataset.bounds.time.thread_time", lambda: asked.append(0.0) or asked[-1]
    )
    turns = [{"role": ("user", "assistant")[i % 2], "content": "word"} for i in range(64)]
    assert template.render(variables(messages=turns)).count("word") == 64
    assert not asked


def test_a_template_sees_every_global_and_leaves_them_as_they_are() -> None:
    source = "{% set range = 1 %}{{ range }}{{ namespace(a=2).a }}{{ dict(b=3).b }}"
    template = Template(source)
    assert [template.render(variables()) for _ in range(2)] == ["123", "123"]
    assert Template("{{ range(2) | list }}").render(variables()) == "[0, 1]"
