"""The contract of persona, and its post-processor: addresses mended, everything else as it was."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livery.skills import AnswerError, get_skill, persona
from livery.skills.persona import style
from livery.skills.persona.kept import kept
from livery.skills.persona.vocatives import Vocative, vocatives

FENCE = "```\nyes, sir! 😀\n```"


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("sir", "Address the user as sir."),
        ("Madam", "Address the user as madam."),
        ("Dr Okafor", "Address the user as Dr Okafor."),
        ("J. R. O'Neill", "Address the user as J. R. O'Neill."),
        ("", "Use no form of address."),
    ],
)
def test_the_prompt_sets_the_form_of_address(address: str, line: str) -> None:
    system, user = persona.messages("Good morning", address=address)
    assert system["content"].endswith(line)
    assert user == {"role": "user", "content": "Good morning"}
    read = persona.read_address(system["content"])
    assert read is not None
    assert read.lower() == address.lower()
    assert persona.messages("x", "Yes.", address=address)[-1]["content"] == "Yes."


def test_a_prompt_without_such_a_line_sets_none() -> None:
    assert persona.read_address("You are helpful.") is None
    both = f"{persona.system_message('madam')}\n{persona.system_message('')}"
    assert persona.read_address(both) == ""


@pytest.mark.parametrize("address", ["a\nb", " ", "!", "x" * 61, "sir. Ignore this.", "a<b", "Mr."])
def test_what_is_no_form_of_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no form of address"):
        persona.system_message(address)


def test_answers() -> None:
    assert get_skill("persona").parse(" Yes, sir. ") == "Yes, sir."
    with pytest.raises(AnswerError, match="empty"):
        persona.parse(" \n")
    with pytest.raises(ValueError, match="at most"):
        persona.render("a" * (persona.LONGEST_ANSWER + 1))


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("Very good, sir.", ["sir"]),
        ("Sir, sir, the tea.", ["Sir", "sir"]),
        ("Yes sir, at once, Madam!", ["sir", "Madam"]),
        ("Good evening madam", ["madam"]),
        ("Thank you, my dear sir.", ["sir"]),
        ("Sir Isaac Newton, sir.", ["sir"]),
        ("He was knighted and is called Sir.", []),
        ("Either sir or madam.", []),
        ('She wrote "Dear Sir," and sat down.', []),
        ("`yes, sir.`", []),
        ("At once, Dr Okafor.", ["Dr Okafor"]),
        ("Dr Okafor, your car is here.", ["Dr Okafor"]),
        ("Dr Okafor, the surgeon, wrote it.", []),
        ("They met Ann, Bob, Dr Okafor.", []),
        ("That was Dr Okafor.", []),
        ("At once, Dr. Okafor.", ["Dr. Okafor"]),
        ("Sir! Madam? It is done.", ["Sir", "Madam"]),
        ("It is done sir. He was made a sir.", ["sir"]),
    ],
)
def test_forms_of_address_are_found_where_somebody_is_spoken_to(
    text: str, forms: list[str]
) -> None:
    assert [v.form for v in persona.vocatives(text, "Dr Okafor")] == forms


@pytest.mark.parametrize(
    ("answer", "address", "finished"),
    [
        ("It is Paris.", "sir", "It is Paris, sir."),
        ("It is Paris.", "", "It is Paris."),
        ("It is Paris. It lies on the Seine.", "Ada", "It is Paris, Ada. It lies on the Seine."),
        ("Sir, sir, it is Paris.", "sir", "Sir, it is Paris."),
        ("Yes, sir, sir, it is.", "sir", "Yes, sir, it is."),
        ("Sir, it is Paris, sir, on the Seine, sir.", "sir", "Sir, it is Paris, on the Seine."),
        ("Very good, sir.", "madam", "Very good, madam."),
        ("Very good, sir.", "Dr Okafor", "Very good, Dr Okafor."),
        ("Yes sir, at once.", "", "Yes, at once."),
        ("Sir, the tea is here.", "", "The tea is here."),
        ("Sir Isaac Newton wrote it.", "madam", "Sir Isaac Newton wrote it, madam."),
        ("It costs 3.14. So it is.", "sir", "It costs 3.14, sir. So it is."),
        ("Ask Dr. Brown.", "sir", "Ask Dr. Brown, sir."),
        ('He said "sir, sir".', "madam", 'He said "sir, sir".'),
        ("See https://a.example/sir.", "sir", "See https://a.example/sir."),
        ("- one\n- two.", "sir", "- one\n- two."),
        ("Sir.", "", "Sir."),
        ("It is Paris sir.", "sir", "It is Paris sir."),
        ("It is Paris sir.", "", "It is Paris."),
        ("It is Paris sir.", "Ada", "It is Paris, Ada."),
        ("Sir: ```\nyes, sir.\n``` madam.", "", "Sir: ```\nyes, sir.\n``` madam."),
        ("Sir! Sir! It is Paris.", "sir", "Sir! It is Paris."),
        ("Very good, Mr. Finch.", "Mr Finch", "Very good, Mr Finch."),
        ("It is Paris sir sir sir.", "Ada", "It is Paris, Ada."),
        ("Very good madam madam.", "", "Very good."),
        ("Yes, the sir sir sir.", "", "Yes, the sir."),
        ("Yes, Ada, Ada, Ada.", "Ada", "Yes, Ada."),
        ("Sir!  sir!  it is Paris.", "", "It is Paris."),
        ("It costs 1,sir,sir,200.", "", "It costs 1, 200."),
        ("", "sir", ""),
    ],
)  # fmt: skip
def test_a_short_reply_addresses_once(answer: str, address: str, finished: str) -> None:
    assert persona.finish(answer, address, tone="chat") == finished


def test_long_replies_failures_and_questions_back_have_no_form_of_address() -> None:
    long = "Yes, sir. " + "It is so. " * 25
    assert persona.finish(long, "sir").startswith("Yes. It is so.")
    code = f"Here it is, sir.\n{FENCE}"
    assert persona.finish(code, "sir") == f"Here it is.\n{FENCE}"
    assert persona.finish("Oh, sir! The save failed! 😱", "sir") == "Oh. The save failed."
    assert persona.finish("Which of the two, sir?", "sir") == "Which of the two?"
    assert persona.finish("Shall I go on?", "sir") == "Shall I go on, sir?"
    assert persona.finish("5! = 120!", "sir", tone="error") == "5! = 120!"


@pytest.mark.parametrize(
    ("answer", "tone"),
    [
        ("The calendar cannot be reached just now.", "error"),
        ("I did not catch that. Could you say it again?", "error"),
        ("What shall I remind you of, madam?", "clarification"),
        ("Whom do you mean?", "clarification"),
        ("I cannot know that, and I would rather not guess.", "error"),
        ("That is something I have no way of knowing.", "error"),
        ("I could not make that out. Could you put it another way?", "error"),
        ("What a fine day.", "chat"),
        ("It is 42.", "chat"),
        ('He said "it failed".', "chat"),
    ],
)
def test_the_tone_is_read_from_the_words(answer: str, tone: str) -> None:
    assert persona.tone_of(answer) == tone


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        ("# Tea\n\n- **green**\n- *black* ☕", "Tea\n\ngreen\nblack"),
        ("Run `ls -a *.txt` now.", "Run ls -a *.txt now."),
        ("```python\nx = 2 ** 3  # y\n```", "x = 2 ** 3  # y"),
        ("It is 2 * 3 * 4 and snake_case_name.", "It is 2 * 3 * 4 and snake_case_name."),
        ("See [the page](https://a.example/x_y).", "See the page, https://a.example/x_y."),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b\n1, 2"),
        ("3😀4", "3 4"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("- 5 is minus five", "- 5 is minus five"),
        ("👍 Done 👍👍.", "Done."),
        ("---\nx", "x"),
        ("~~old~~ __new__", "old new"),
    ],
)
def test_speech_has_no_markdown_and_no_emoji(answer: str, spoken: str) -> None:
    assert persona.finish(answer, "", spoken=True) == spoken


# -- nothing else changes --------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "Very good", "Paris", "Sir Isaac Newton", ", sir", ", Sir, sir", "Madam, ", "sir", "3.14",
        "-5", "1,200", "12:30", "50%", "5!", "`rm -f *`", "``a ` b``", '"yes, sir"', "“No, sir!”",
        "‘well’", "it’s", "don't", "https://a.example/b_c?d=1,2", "ann@b.example", "**bold**",
        "2 * 3 * 4", "snake_case", "Ada", ", Ada", "Dr. Brown", ".", "!", "?", ",", ";", "…", "\n",
        "\n- ", "\n1. ", "\n# ", "\n> ", "\n```\nsir, sir! **x**\n```\n", "😀", "failed", "Which",
        "kind sir", "Sir!", "Mr. Finch", "so: ```\nsir, sir\n``` it",
        "| a | b |\n|---|---|\n| 1 | 2 |", "[it](https://c.example)", "|", "*", "_", "`", '"',
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=14).map(" ".join),
    st.lists(PIECES, max_size=14).map("".join),
    st.text(max_size=60),
)
ADDRESSES = st.sampled_from(["sir", "madam", "Ada", "Dr Okafor", "Mr Finch", "St. John", ""])
TONES = st.sampled_from([None, "chat", "error", "clarification"])


def facts(text: str, address: str) -> list[str]:
    """Words, numbers and what is kept, in order, without forms of address."""
    forms = {"sir", "madam", "ma", "am", "my", "kind", "dear", *re.findall(r"\w+", address.lower())}
    words = re.findall(r"\d+(?:[.,:]\d+)*|[^\W_]+", text)
    return [w.lower() for w in words if w.lower() not in forms]


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(TEXTS, ADDRESSES, TONES, st.booleans())
def test_facts_numbers_code_quotations_and_links_are_unchanged(
    text: str, address: str, tone: Any, spoken: bool
) -> None:
    finished = persona.finish(text, address, tone=tone, spoken=spoken)
    assert facts(finished, address) == facts(text, address)
    if not spoken:
        before = [text[start:end] for start, end, _ in kept(text)]
        assert [finished[start:end] for start, end, _ in kept(finished)] == before
    for start, end, kind in kept(text):
        assert kind not in ("link", "mail") or text[start:end] in finished


@pytest.mark.parametrize(
    "again",
    [" sir", ", sir", ", sir sir", ",sir!", "Sir! ", "Sir!  ", "Sir, ", ", Ada", ", Sir, Ada"],
)
@pytest.mark.parametrize("tone", ["chat", "error"])
def test_a_text_is_searched_as_often_however_many_forms_it_has(
    monkeypatch: pytest.MonkeyPatch, again: str, tone: Any
) -> None:
    """What is searched in all is a few times the text, and not once for each form."""
    searched: list[int] = []

    def counted(text: str, name: str = "") -> list[Vocative]:
        searched.append(len(text))
        return vocatives(text, name)

    monkeypatch.setattr(sys.modules[persona.finish.__module__], "vocatives", counted)
    text = "Paris" + again * 100 + " it is."
    persona.finish(text, "Ada", tone=tone)
    assert sum(searched) <= 5 * len(text), searched


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(TEXTS, st.sampled_from(["sir", "madam", ""]), TONES)
def test_finishing_twice_changes_nothing_more(text: str, address: str, tone: Any) -> None:
    once = persona.finish(text, address, tone=tone)
    assert len(persona.vocatives(once, address)) <= 1
    assert persona.finish(once, address, tone=tone) == once


def test_words_of_style() -> None:
    assert style.american("My favorite color, at the center of New Center") == [
        "favorite", "color", "center",
    ]  # fmt: skip
    assert not style.american("My favourite colour: Oxford spells organization so.")
    assert style.banned("As an AI language model, I cannot.") == ["as an ai", "language model"]
    assert style.third_person("This assistant is glad.")
    assert not style.third_person("I am glad that the tea will do.")
    assert style.first_person("I've done it.")
    assert not style.first_person("It is done.")
