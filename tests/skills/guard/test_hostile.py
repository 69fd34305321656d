"""Anything may be asked of the guard: it answers, soon, and hiding does not lower a level."""

from __future__ import annotations

import random
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livery.skills.actions.guard import Level, classify
from livery.skills.actions.guard.classify import FAULT
from tests.skills.guard.table import read_cases

CASES = read_cases()
SHELLS = ("bash", "powershell", "auto")
PIECES = [
    *"rm|-rf|/|~|$X|$(|)|`|'|{a,b}|;|&&|<<E\n|E\n|>|<(|sudo|sh -c|eval|if|then|fi|for i in|do|done"
    "|${|}|\\|\n|iex|$env:|[IO.File]::|@{|git -c|find . -exec|awk '|sed 's/|python -c|\u200b"
    '|\u202e|\x00|é|"'.split("|"),
    "|",
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from(SHELLS))
def test_no_mixture_of_shell_words_makes_it_fail(words: list[str], shell: str) -> None:
    risk = classify(" ".join(words), shell)  # type: ignore[arg-type]
    assert FAULT not in str(risk.reasons)
    risk.shown.encode("utf-8")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.sampled_from(SHELLS))
def test_no_text_makes_it_fail(text: str, shell: str) -> None:
    assert FAULT not in str(classify(text, shell).reasons)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["echo $000", "echo ${000}", "echo $²", "$00 x"])
def test_odd_parameters_are_read(text: str) -> None:
    assert FAULT not in str(classify(text, "bash").reasons)


def test_commands_broken_anywhere_are_judged() -> None:
    """Characters taken out, doubled and put elsewhere; the same ones in every process."""
    rng = random.Random(7)
    for case in rng.sample(CASES, 300):
        signs = list(case.command)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(signs) + 1)
            signs[at : at + rng.randint(0, 2)] = rng.choice([*"'\"`$({\\|", ""])
        assert FAULT not in str(classify("".join(signs), case.shell).reasons)


BASH = [case for case in CASES if case.shell == "bash" and "\n" not in case.command]
WRAPPED = (
    "{}\n", "true; {}", "true && {}", "( {} )", "{{ {}; }}", "if true; then {}; fi", "! {}",
    "A=1 && {}", "while true; do {}; done",
)  # fmt: skip


@pytest.mark.parametrize("form", WRAPPED)
def test_what_stands_around_a_command_never_lowers_its_level(form: str) -> None:
    """A chain, a block, a condition: the dangerous ones stay as dangerous."""
    apart = ("#", "<<", "()", "function", "&")  # not within a line, or not within a block
    whole = [
        c for c in BASH if c.least is Level.CRITICAL and not any(s in c.command for s in apart)
    ]
    for case in whole:
        assert classify(form.format(case.command), "bash").level is Level.CRITICAL, case.command


ABOVE = (
    "ls", "ls # c", "ls \\\n-l", "# c", "echo 'a\nb'", "echo \\\\", "x=$(ls)", "export X=1",
    "ls > x", "! ls", "cat <<E\nx\nE", "if true; then ls; fi", "f() { ls; }", "ls &", "ls &&",
    "ls |", "echo {a,b}", "ls <<< x",
)  # fmt: skip
BELOW = (
    "rm -rf /", "\\rm -rf /", "\\\nrm -rf /", " \\\n\\\n rm -rf /", "'rm' -rf /", "$'rm' -rf /",
    "{ rm -rf /; }", "(rm -rf /)", "! rm -rf /", "A=1 rm -rf /", "> x rm -rf /", "2>&1 rm -rf /",
    "%1; rm -rf /", "time { rm -rf /; }", "f() { rm -rf /; }", "\trm -rf /", "]; rm -rf /",
    "coproc { rm -rf /; }", "if ! for i in 1; do rm -rf /; done; then :; fi",
)  # fmt: skip


@pytest.mark.parametrize("above", ABOVE)
def test_a_line_hides_nothing_from_the_line_below(above: str) -> None:
    """The grammar takes a line that begins with a backslash for the end of the one before."""
    for below in BELOW:
        assert classify(f"{above}\n{below}", "bash").level is Level.CRITICAL, below


@pytest.mark.parametrize(
    "text",
    [
        "true; " * 170_000 + "rm -rf ~", "$(echo " * 50_000, "(" * 1_000_000, "{a,b}" * 200_000,
        "a=xxxxxxxxxx; " + "a=$a$a$a$a; " * 20 + "echo $a", "echo " + "{a,b}" * 30, "`" * 1_000_001,
        "rm -rf " + "../" * 300_000, "\u200b" * 1_000_000, "python -c '" + "(" * 50_000 + "'",
    ],
    ids=range(10),
)  # fmt: skip
@pytest.mark.slow
def test_a_megabyte_of_anything_is_judged_within_seconds(text: str) -> None:
    began = time.process_time()
    level = classify(text, "bash").level
    assert level >= Level.HIGH or len(text) < 1000
    assert time.process_time() - began < 20  # 1 here; unbounded they take hours


def test_a_command_of_200_characters_takes_milliseconds() -> None:
    text = (
        "git log --oneline -5 | grep -v merge && python -m pytest tests/skills -q -k 'not slow' "
        '2>&1 | tee out.log; for f in src/*.py; do wc -l "$f"; done; echo "done: $(date)" >> log'
    )
    assert 150 <= len(text) <= 210
    classify(text, "bash")
    times: list[float] = []
    for _ in range(31):
        began = time.process_time()
        classify(text, "bash")
        times.append(time.process_time() - began)
    assert statistics.median(times) < 0.02  # below 0.001 here


@pytest.mark.parametrize("sign", ["\u200b", "\u202e", "\u2066", "\ufeff", "\u00ad", "\x1b"])
def test_what_a_reader_does_not_see_is_shown_and_raises_the_level(sign: str) -> None:
    risk = classify(f"ls {sign}src", "bash")
    assert risk.level is Level.HIGH
    assert sign not in risk.shown
    assert sign.encode("unicode_escape").decode("ascii") in risk.shown


@pytest.mark.parametrize(
    "text", ["echo '👨\u200d👩\u200d👧'", "echo '❤\ufe0f'", "echo 'क्\u200dष'", "echo 'naïve'"]
)
def test_joiners_within_emoji_and_letters_are_writing(text: str) -> None:
    assert classify(text, "bash").level is Level.LOW
