"""A secret in, nothing of it out; ordinary text as it is."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.interactions import PLACEHOLDER, Redactor, redact
from livery.interactions.digits import iban, luhn, numbers
from livery.interactions.redact import RULES

ALNUM = string.ascii_letters + string.digits
# What surrounds a secret in what people say, and does not swallow its edges.
BEFORE = ("", "Hello, ", "note this down: ", "(", "so:\n", "“")
AFTER = ("", " please", ", thanks", ".", ")", "\nBye", "?")


def digits(low: int, high: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=low, max_size=high)


@st.composite
def emails(draw: st.DrawFn) -> str:
    local = draw(st.text(ALNUM + "._+-", min_size=1, max_size=20))
    parts = st.lists(
        st.text(string.ascii_lowercase, min_size=2, max_size=8), min_size=2, max_size=3
    )
    return f"{local}@{'.'.join(draw(parts))}"


@st.composite
def cards(draw: st.DrawFn) -> str:
    start = draw(digits(12, 18))
    number = next(start + last for last in "0123456789" if luhn(start + last))
    by = draw(st.sampled_from(["", " ", "-", "\u00a0", "\u200b", "."]))
    return by.join(number[at : at + 4] for at in range(0, len(number), 4))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country = draw(st.sampled_from(["DE", "GB", "FR", "NL", "MT"]))
    account = draw(st.text(string.ascii_uppercase + string.digits, min_size=11, max_size=26))
    number = next(n for c in range(100) if iban(n := f"{country}{c:02}{account}"))
    by = draw(st.sampled_from(["", " "]))
    return by.join(number[at : at + 4] for at in range(0, len(number), 4))


@st.composite
def phones(draw: st.DrawFn) -> str:
    by = draw(st.sampled_from([" ", "-", ".", "\u2011"]))
    lead = draw(st.sampled_from(["+44", "+1", "0", "0049", "(0", "1"]))
    groups = [draw(digits(3, 4)) for _ in range(draw(st.integers(2, 3)))]
    first = draw(digits(2, 3))
    return lead + (by if lead[0] == "+" or lead == "1" else "") + first + (
        ")" if lead == "(0" else ""
    ) + by + by.join(groups)  # fmt: skip


@st.composite
def keys(draw: st.DrawFn) -> str:
    prefix = draw(st.sampled_from(["sk-", "sk_live_", "ghp_", "hf_", "glpat-", "xoxb-", "npm_"]))
    return prefix + draw(st.text(ALNUM, min_size=16, max_size=40)) + draw(digits(1, 3))


@st.composite
def called(draw: st.DrawFn) -> tuple[str, str]:
    """(text, password) as people and programs write them."""
    secret = draw(st.text(ALNUM, min_size=4, max_size=24)) + draw(digits(1, 3))
    form = draw(
        st.sampled_from(
            [
                "password: {}", "Password={}", "my password is {}", 'the "password": "{}"',
                "API_KEY={}", "api key: {}", "DB_PASSWORD='{}'", "--password {}", "--token={}",
                "passwd:{}", "clientSecret: \"{}\"", "passphrase is {}", "access token: {}",
                "{} is my password", "https://ann:{}@example.org/x", "postgres://u:p{}/@@host/db",
                "Authorization: Bearer {}", "curl -u ann:{} https://x.example", "Cookie: sid={}",
            ]
        )
    )  # fmt: skip
    return form.format(secret), secret


def gone(secret: str, text: str) -> bool:
    """Whether no four signs in a row of a secret are left."""
    left = PLACEHOLDER.sub("\n", text)
    plain = "".join(c for c in secret if c.isalnum())
    bare = "".join(c if c.isalnum() or c.isspace() else "" for c in left)
    return all(
        piece not in bare for piece in (plain[at : at + 4] for at in range(max(1, len(plain) - 3)))
    )


@pytest.mark.parametrize(
    ("kind", "secrets"),
    [("email", emails()), ("card", cards()), ("iban", ibans()), ("phone", phones()),
     ("key", keys())],
)  # fmt: skip
def test_of_a_secret_nothing_is_left(kind: str, secrets: st.SearchStrategy[str]) -> None:
    @given(secrets, st.sampled_from(BEFORE), st.sampled_from(AFTER))
    def check(secret: str, before: str, after: str) -> None:
        text, counts = redact(before + secret + after)
        assert gone(secret, text), text
        assert counts
        # The prose around it is still there, but for a sign that could belong to it; a word behind
        # an IBAN fits its check digits once in 97 times.
        assert text.startswith(before[:-1])
        assert text.endswith(after[1:]) or kind == "iban"

    check()


@given(called(), st.sampled_from(["", "Hi. ", "so\n"]))
def test_what_is_called_a_password_goes(said: tuple[str, str], before: str) -> None:
    text, secret = said
    assert gone(secret, redact(before + text)[0])


def test_a_line_of_the_original_system_and_others() -> None:
    table = {
        "The password is correct horse battery staple.": "The password is [secret 1].",
        "set the pin to 4821; cvv 123": "set the pin to [secret 1] cvv [secret 2]",
        "Mail john at example dot com": "Mail [email 1]",
        "id 550e8400-e29b-41d4-a716-446655440000": "id [key 1]",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "[key 1]",
        "eyJhbGciOiJI.eyJzdWIiOiIx.dozjgNryP4J3": "[key 1]",
        "Authorization: Basic dXNlcjpwYXNz": "Authorization: Basic [secret 1]",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\ncut": "[key 1]",
        "swordfish is my wi-fi password": "[secret 1] is my wi-fi password",
        "٤١١١ ١١١١ ١١١١ ١١١١": "[card 1]",
        "4111 1111 1111 1112": "[number 1]",
        "ring 555-1234": "ring [phone 1]",
    }
    assert {text: redact(text)[0] for text in table} == table


def test_the_same_secret_has_the_same_name_in_one_interaction() -> None:
    redactor = Redactor()
    assert redactor.text("I am a@b.org, he is c@d.org") == "I am [email 1], he is [email 2]"
    assert redactor.value({"to": ["c@d.org", 1, None, True, 3.5]}) == {
        "to": ["[email 2]", 1, None, True, 3.5]
    }
    assert redactor.value(4111111111111111) == "[card 1]"
    assert redactor.counts == {"email": 2, "card": 1}


WORDS = "open the kitchen window at noon we said tea for two and bring an umbrella please".split()


@st.composite
def ordinary(draw: st.DrawFn) -> str:
    """Words with dates, times, amounts and short numbers among them."""
    year, month, day = draw(st.integers(1800, 2199)), draw(st.integers(1, 12)), draw(
        st.integers(1, 28)
    )  # fmt: skip
    hour, minute = draw(st.integers(0, 23)), draw(st.integers(0, 59))
    number = draw(st.integers(0, 999_999))
    amount = draw(st.integers(0, 99_999_999))
    thing = draw(
        st.sampled_from(
            [
                f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}",
                f"{month}/{day}/{year}", f"{hour:02}:{minute:02}", f"{hour}:{minute:02}:07",
                f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z",
                f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}", str(number),
                f"{amount:,}", f"{number / 100:.2f}", f"{year}-{year % 100 + 1900}", f"{number} %",
                f"-{number}", f"${amount:,}.50", f"v1.{month}.{day}", f"{number}*{day}",
                f"{number} + {number}", f"192.168.{month}.{day}", f"#{number}", f"{hour}-{minute}",
            ]
        )
    )  # fmt: skip
    words = draw(st.lists(st.sampled_from(WORDS), max_size=6))
    at = draw(st.integers(0, len(words)))
    return " ".join([*words[:at], thing, *words[at:]])


@given(ordinary())
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == (text, {})


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("call oh seven seven double oh nine one two three four", "call [phone 1]"),
        ("order seven-four-one-two-nine-five-five", "order [number 1]"),
        ("My PIN is four seven one one, thanks.", "My PIN is [secret 1], thanks."),
        ("the door code: nine nine one", "the door code: [secret 1]"),
        ("one two three four five six seven eight", "one two three four five six seven eight"),
        ("two or three, one by one", "two or three, one by one"),
        ("room one oh one", "room one oh one"),
    ],
)
def test_numbers_that_are_dictated_go_too(text: str, kept: str) -> None:
    assert redact(text)[0] == kept


def test_words_about_secrets_stay() -> None:
    for text in (
        "the password is wrong", "My password is too short and I forgot it.",
        "password: must be at least 8 characters", "A token ring was a network.",
        "Secret santa is at 5.", "a passcode is a sequence of digits", "is this my password",
        "--max-tokens 128", "convertUtf8ToUtf16LittleEndian", "SmolLM2-135M-Instruct",
        "/usr/lib/python3.11/site-packages/x86_64-linux-gnu", "https://mastodon.social/@ann",
        "http://localhost:8000/@ann", "backup-2026-11-26-12-30-45", "1 2 3 4 5 6 7 8 9 10",
        "date_keys [\"in_3_days\", \"tomorrow_morning\"]", "[ACTION]open_url: example.org[/ACTION]",
        "What is 1234 - 567? And 1000 - 3000?", "😀 हाँ, ठीक है — naïve café",
    ):  # fmt: skip
        assert redact(text) == (text, {}), text


@given(st.text(max_size=200))
def test_any_text_can_be_redacted_again(text: str) -> None:
    once = redact(text)[0]
    assert redact(text)[0] == once
    assert len(PLACEHOLDER.findall(once)) >= len(redact(text)[1])


@pytest.mark.parametrize("sign", ["a", "a.", "1-", "a_", "://a:", "a@", '"', "password ", "is my "])
def test_long_text_takes_time_in_proportion(sign: str) -> None:
    """A hundred thousand signs take a tenth of a second; what is quadratic took minutes."""
    text = (sign * 100_000)[:100_000]
    for rule in RULES:
        began = time.process_time()
        rule(text)
        assert time.process_time() - began < 10


def test_many_numbers_take_time_in_proportion() -> None:
    """Thirty thousand take a tenth of a second; compared each with all it was twenty."""
    began = time.process_time()
    assert len(numbers("1234567\n" * 30_000)) == 30_000
    assert time.process_time() - began < 10


def test_a_number_behind_an_iban_goes_too() -> None:
    account = "DE89 3704 0044 0532 0130 00"
    for sign in (" ", "-", ", "):
        text, counts = redact(f"Pay {account}{sign}12345678 on 2026-11-26.")
        assert text == f"Pay [iban 1]{sign}[number 1] on 2026-11-26."
        assert counts == {"iban": 1, "number": 1}
