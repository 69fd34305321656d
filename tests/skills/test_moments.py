"""The grammar of times and amounts: what a number of a command comes to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorers import date_keys as scorer
from eval.scorers import find_set
from livery.skills import date_keys
from livery.skills.date_keys.moments import find_moments, mask, order

# command | keys of its moments | the command with its moments masked
TABLE = """
wake me at 7 am | at_7am | wake me at CLOCK
half seven tonight | at_7_30pm | CLOCK tonight
half 7 | | HOUR
tonight at eight | at_8pm | tonight at CLOCK
see you at six on saturday | | see you at HOUR on saturday
three eggs | | three eggs
twenty to eight in the morning | at_7_40am | CLOCK
15 past 3 pm | at_3_15pm | CLOCK
10 minutes past 5 pm | at_5_10pm | CLOCK
twenty after 3 in the afternoon | at_3_20pm | CLOCK
a quarter of seven in the morning | at_6_45am | CLOCK
forty five to noon | at_11_15am | CLOCK
ten of six | | ten of six
good morning make it 5 to 3 | | good morning make it HOUR
in six i mean weeks | in_42_days | DAYS
quarter to noon | at_11_45am | CLOCK
quarter past midnight | at_12_15am | CLOCK
7 to 9 in the evening | at_9pm | 7 to CLOCK
from 5 to 9 pm | at_9pm | from HOUR to CLOCK
10-11pm | at_10pm at_11pm |
7 ish in the morning | at_7am | CLOCK
7ish tonight | at_7pm | CLOCK tonight
tomorrow morning 8 | at_8am | tomorrow morning CLOCK
tomorrow eve at 8 | at_8pm | tomorrow eve at CLOCK
christmas eve at 8 | | christmas eve at HOUR
seat b4 noon | | seat b4 noon
book room 5p | | book room 5p
in a week and a half | | AMOUNT
in an hour or two | | AMOUNT or two
in 20 minutes or so | in_20_minutes | MINUTES or so
in couple of hours | in_120_minutes | MINUTES
in two and three quarter hours | in_165_minutes | MINUTES
from ten to twelve tonight | at_10pm midnight | from CLOCK to midnight tonight
15:30 | at_3_30pm | CLOCK
17.30 | at_5_30pm | CLOCK
13h15 | at_1_15pm | CLOCK
15h | at_3pm | CLOCK
3:15p | at_3_15pm | CLOCK
9:00a. | at_9am | CLOCK
3 in the am | at_3am | CLOCK
five-thirty in the afternoon | at_5_30pm | CLOCK
seven oh five pm | at_7_05pm | CLOCK
nineteen thirty | at_7_30pm | CLOCK
fourteen hundred | at_2pm | CLOCK
12 am | | midnight
12 pm | | noon
twelve noon | | noon
twelve at night | midnight | midnight
two at night | at_2am | CLOCK
lock at 11 tonight and unlock at 6 tomorrow morning | at_11pm at_6am | \
lock at CLOCK tonight and unlock at CLOCK tomorrow morning
nine in the morning on monday | at_9am | CLOCK on monday
update to version 12.30 | | update to version 12.30
in 20 minutes | in_20_minutes | MINUTES
in like uh five minutes | in_5_minutes | MINUTES
in an hour and ten | in_70_minutes | MINUTES
in an hour and a half | in_90_minutes | MINUTES
in two and a half hours | in_150_minutes | MINUTES
in 1.5 hours | in_90_minutes | MINUTES
in 2hrs 15min | in_135_minutes | MINUTES
in 1h30 | in_90_minutes | MINUTES
in 1 hour and 30 minutes | in_90_minutes | MINUTES
in an hour twenty | in_80_minutes | MINUTES
in half an hour | in_30_minutes | MINUTES
in a quarter of an hour's time | in_15_minutes | MINUTES
in three quarters of an hour | in_45_minutes | MINUTES
three hours from now | in_180_minutes | MINUTES
30 min later | in_30_minutes | MINUTES
three days hence | in_3_days | DAYS
a week from today | in_7_days | DAYS
in a week and two days | in_9_days | DAYS
in a fortnight | in_14_days | DAYS
in four days time | in_4_days | DAYS
in a hundred and twenty minutes | in_120_minutes | MINUTES
for two hours | | for AMOUNT
set a timer for ten minutes | | set a timer for AMOUNT
three days ago | | AMOUNT ago
how many minutes are in an hour | | how many minutes are AMOUNT
at seven and not a minute later | | at HOUR and not AMOUNT
in three months | | in three months
in 1.3 minutes | | AMOUNT
for 15h | | for AMOUNT
"""
CASES = [
    [cell.strip() for cell in line.split("|")]
    for line in TABLE.replace("\\\n", "").strip().splitlines()
]


@pytest.mark.parametrize(("text", "keys", "masked"), CASES, ids=[case[0] for case in CASES])
def test_moments(text: str, keys: str, masked: str) -> None:
    plain = date_keys.normalise(text)
    moments = find_moments(plain)
    # "12 am" is normalised to midnight, which is a word with a label and no number.
    assert [moment.key for moment in moments if moment.key] == keys.split()
    if plain == text:  # what the contract writes anew has other words around the moment
        assert mask(plain, moments) == masked


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("tomorrow morning at 9", ("tomorrow_morning", "at_9am")),
        ("at 9 am tomorrow or next friday", ("at_9am", "tomorrow", "next_friday")),
        ("next week or this week", ("next_week", "this_week")),
        ("in 20 minutes and on friday", ("in_20_minutes", "this_friday")),
        ("monday or tuesday", ("this_monday", "this_tuesday")),
    ],
)
def test_order_of_mention(text: str, keys: tuple[str, ...]) -> None:
    for given_keys in (keys, keys[::-1]):
        assert order(text, given_keys, find_moments(text)) == keys
    assert order(text, (*keys, "noon"), find_moments(text))[-1] == "noon"


def test_every_number_of_the_first_set_is_found() -> None:
    for case in scorer.cases(find_set("date-keys")[1]):
        found = {moment.key for moment in find_moments(date_keys.normalise(case.text))}
        assert {key for key in case.expected if re.search(r"\d", key)} <= found, case.text


WORDS = st.sampled_from(
    "in at a an half quarter past to the of hour hours minutes days week and three twenty one "
    "hundred 3 15 30 7 17 am pm p h : . - ' s noon midnight morning tonight night ago from now "
    "later o clock oh um for ² ٣ ፩".split()
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=12), st.sampled_from(["", " "]))
def test_any_words_give_valid_keys_in_their_places(words: list[str], glue: str) -> None:
    text = date_keys.normalise(glue.join(words))
    end = 0
    for moment in find_moments(text):
        assert end <= moment.start < moment.end <= len(text)
        end = moment.end
        assert date_keys.is_key(moment.key) if moment.key else moment.kind in ("hour", "amount")


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    plain = date_keys.normalise(text)
    mask(plain, find_moments(plain))
