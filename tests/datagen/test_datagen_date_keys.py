"""The generator of date-keys: conventions, coverage, splits, determinism."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import pytest

from datagen.date_keys import (
    SETS,
    clock,
    combine,
    compose,
    counts,
    days,
    generate,
    hand_written,
    lists,
    nothing,
    spans,
    things,
    typed,
)
from datagen.date_keys.clauses import Draft
from datagen.date_keys.noise import roughen, slip
from datagen.date_keys.numbers import ordinal, words
from datagen.date_keys.said import Said, Source, part
from datagen.date_keys.words import FRAMES, POOLS
from livery.dataset.leaks import count_leaks
from livery.skills import date_keys


@pytest.fixture(scope="module")
def splits():
    return generate(7, 2400)


def asked(row) -> str:
    return row["messages"][1]["content"]


def keys_of(row) -> tuple[str, ...]:
    return date_keys.parse(row["messages"][2]["content"])


@cache
def table(maker: str) -> dict[str, set[tuple[str, ...]]]:
    """The wordings that one of MAKERS gives, each with its keys."""
    make = MAKERS[maker]
    source = Source(random.Random(1))
    found: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for _ in range(DRAWS.get(maker, 5_000)):
        said = make(source)
        found[said.text].add(said.keys)
        if said.noun:
            found[said.noun].add(said.keys)
    return found


MAKERS: dict[str, Callable[[Source], Said]] = {
    "day": days.day,
    "day_part": days.day_part,
    "part": days.part,
    "meal": days.meal,
    "weekday": days.weekday,
    "period": days.period,
    "time": clock.with_half,
    "no half": clock.without_half,
    "two times": clock.span_of_two,
    "later": spans.later,
    "duration": nothing.duration,
    "habit": nothing.habit,
    "ago": nothing.ago,
    "date": nothing.date,
    "far": nothing.far,
    "vague": nothing.vague,
    "day with time": combine.day_with_time,
    "part with time": combine.part_with_time,
    "weekday part": combine.weekday_part,
    "weekdays": lists.weekdays,
    "several": lists.several,
}
# Rare wordings of the clock need more draws to turn up.
DRAWS = {"time": 60_000, "no half": 8_000, "later": 20_000, "date": 90_000, "habit": 20_000}
DRAWS |= {"duration": 40_000, "weekday": 8_000, "period": 8_000, "weekdays": 20_000}
DRAWS |= {"part with time": 20_000}

# Every convention of the skill, as people say it: maker, wording, keys.
CONVENTIONS = """
day | today | today
day | the day after tomorrow | day_after_tomorrow
day | day before yesterday | day_before_yesterday
day | last night | last_night
day | later today | today
day_part | tomorrow morning | tomorrow_morning
day_part | this morning | this_morning
day_part | yesterday evening | yesterday_evening
day_part | tomorrow night | tomorrow_night
day_part | first thing tomorrow morning | tomorrow_morning
part | in the morning | morning
part | at night | night
part | at midday | noon
part | at twelve at night | midnight
meal | at lunchtime | during_lunch
meal | after dinner | after_dinner
meal | at breakfast | at_breakfast
meal | during breakfast | during_breakfast
meal | over dinner | during_dinner
meal | at dinner | at_dinner
weekday | on friday | this_friday
weekday | friday | this_friday
weekday | this coming monday | this_monday
weekday | next wednesday | next_wednesday
weekday | tuesday of next week | next_tuesday
weekday | on tuesday of next week | next_tuesday
weekday | sunday next week | next_sunday
weekday | last saturday | last_saturday
weekday | the upcoming friday | this_friday
weekday | the following monday | next_monday
weekday | this past tuesday | last_tuesday
weekday | the previous sunday | last_sunday
weekdays | monday or tuesday | this_monday this_tuesday
weekdays | from monday to friday | this_monday this_friday
weekdays | wednesday thursday or friday | this_wednesday this_thursday this_friday
period | at the weekend | this_weekend
period | next month | next_month
period | the current week | this_week
period | the following week | next_week
period | the coming week | next_week
period | the coming weekend | this_weekend
period | the previous month | last_month
period | the past year | last_year
period | at the end of next week | next_week
period | last year | last_year
time | 3 pm | at_3pm
time | 3pm | at_3pm
time | three p m | at_3pm
time | 3 30 pm | at_3_30pm
time | 15:30 | at_3_30pm
time | fifteen thirty | at_3_30pm
time | eighteen hundred | at_6pm
time | quarter past three in the afternoon | at_3_15pm
time | half three in the afternoon | at_3_30pm
time | quarter to nine in the morning | at_8_45am
time | twenty to eight in the morning | at_7_40am
time | twenty five to six pm | at_5_35pm
time | five past ten pm | at_10_05pm
time | ten at night | at_10pm
time | nine o'clock in the morning | at_9am
time | eight oh five am | at_8_05am
time | twelve noon | noon
time | 12 pm | noon
time | 12 am | midnight
time | half past twelve pm | at_12_30pm
time | quarter to noon | at_11_45am
time | ten past midnight | at_12_10am
time | twenty after three pm | at_3_20pm
time | 15 past 3 pm | at_3_15pm
no half | seven |
no half | half past six |
no half | quarter to four |
no half | 8 30 |
no half | seven o'clock |
no half | twenty after three |
no half | half 7 |
later | in twenty minutes | in_20_minutes
later | in two hours | in_120_minutes
later | in half an hour | in_30_minutes
later | an hour and a half from now | in_90_minutes
later | in an hour | in_60_minutes
later | in two and a half hours | in_150_minutes
later | an hour and a quarter from now | in_75_minutes
later | in three quarters of an hour | in_45_minutes
later | in a quarter of an hour | in_15_minutes
later | in 3 days | in_3_days
later | in a week | in_7_days
later | in a fortnight | in_14_days
later | three weeks from now | in_21_days
later | in four days time | in_4_days
later | an hour and ten from now | in_70_minutes
later | in an hour and ten | in_70_minutes
later | in a couple of hours | in_120_minutes
later | in a day | in_1_days
later | a week from today | in_7_days
later | 30 minutes later | in_30_minutes
later | an hour hence | in_60_minutes
later | in one hour and fifteen minutes | in_75_minutes
duration | for two hours |
duration | for half an hour |
habit | every monday |
habit | on fridays |
habit | every morning |
habit | every other friday |
habit | the second monday of the month |
habit | day after day |
habit | each day |
duration | the last two hours |
vague | after lunch |
vague | the other day |
ago | three days ago |
ago | two weeks ago |
date | on march 5th |
date | on the twelfth of june |
date | last friday of may |
date | the last monday of march |
date | next halloween |
far | monday after next |
far | the weekend after next |
far | the friday after next |
far | in three months |
vague | later |
vague | in a few minutes |
part with time | seven tonight | at_7pm tonight
part with time | tomorrow morning at eight | tomorrow_morning at_8am
part with time | at six this evening | at_6pm this_evening
weekday part | friday morning | this_friday morning
""".strip().splitlines()


@pytest.mark.parametrize("line", CONVENTIONS)
def test_conventions(line: str):
    maker, wording, keys = (field.strip() for field in line.split("|"))
    assert table(maker).get(wording) == {tuple(keys.split())}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_wording_always_means_the_same(maker: str):
    ambiguous = {text: keys for text, keys in table(maker).items() if len(keys) > 1}
    assert not ambiguous


@pytest.mark.slow
def test_makers_agree_with_each_other():
    """The same words never have keys from one maker and others (or none) from another."""
    means: dict[str, tuple[str, set[tuple[str, ...]]]] = {}
    for maker in MAKERS:
        for text, keys in table(maker).items():
            other, before = means.setdefault(text, (maker, keys))
            assert before == keys, f"{text!r}: {other} {before}, {maker} {keys}"


@pytest.mark.slow
def test_every_key_that_a_table_gives_is_in_the_vocabulary():
    for said in map(table, MAKERS):
        for meanings in said.values():
            for keys in meanings:
                date_keys.render(dict.fromkeys(keys))


@pytest.mark.slow
def test_same_seed_same_bytes_and_another_seed_others(splits):
    def digest(rows):
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    again = generate(7, 2400)
    assert {s: digest(r) for s, r in splits.items()} == {s: digest(r) for s, r in again.items()}
    other = generate(8, 2400)
    assert digest(other["train"]) != digest(splits["train"])
    assert digest(other["test"]) == digest(splits["test"])
    assert not {asked(r) for r in other["train"]} <= {asked(r) for r in splits["train"]}


@pytest.mark.slow
def test_rows_have_one_form(splits):
    ids = Counter(row["meta"]["id"] for rows in splits.values() for row in rows)
    assert max(ids.values()) == 1
    for split, rows in splits.items():
        for row in rows:
            assert set(row) == {"messages", "meta"}
            assert row["messages"] == date_keys.messages(asked(row), keys_of(row))
            assert set(row["meta"]) == {"id", "split", "scenario", "source", "provenance"}
            assert row["meta"]["split"] == split
            assert row["meta"]["scenario"] in compose.CATEGORIES


def test_sizes_and_balance(splits):
    assert len(splits["train"]) == 2400
    assert len(splits["valid"]) == 162
    assert set(counts(splits["valid"]).values()) == {18}
    assert min(counts(splits["train"]).values()) >= 0.06 * 2400
    assert min(counts(splits["test"]).values()) >= 20


def test_every_named_key_is_taught(splits):
    seen = Counter(key for row in splits["train"] for key in keys_of(row))
    # Twelve o'clock is said as noon and midnight; small hours are rare in speech.
    rare = {f"at_{h}{half}" for h in range(1, 13) for half in ("am", "pm")}
    scarce = [key for key in date_keys.STATIC_KEYS if key not in rare and seen[key] < 5]
    assert not scarce
    assert {"at_12am", "at_12pm"}.isdisjoint(seen)
    assert sum(key.endswith("_minutes") for key in seen) > 60
    assert sum(key.endswith("_days") for key in seen) > 18
    assert sum(key.startswith("at_") and key.count("_") == 2 for key in seen) > 150


def test_two_numbers_do_not_run_together(splits):
    texts = [asked(row) for rows in splits.values() for row in rows]
    assert not [t for t in texts if "\0" in t]
    assert compose.RUN_TOGETHER.search("cook for ten\0 two hours from now")
    assert not compose.RUN_TOGETHER.search("cook for ten\0 in two hours")


def test_two_sentences_are_not_read_as_one_moment():
    """The contract reads "friday next week" as one day, so no row may mean two by it."""
    keys = ("this_friday", "next_week")
    assert compose._merges(Draft("call ben on friday next week i'm away", keys))
    assert not compose._merges(Draft("call ben on friday next week", ("next_friday",)))
    assert not compose._merges(Draft("i'm away next week so call ben on friday", keys[::-1]))


def test_no_question_has_two_answers(splits):
    answers: dict[str, tuple[str, ...]] = {}
    for rows in splits.values():
        for row in rows:
            assert answers.setdefault(asked(row).lower(), keys_of(row)) == keys_of(row)


@pytest.mark.slow
def test_splits_and_sets_do_not_give_each_other_away(splits):
    # As they were written: normalised, "p m" and "pm" would bring two of them close.
    first, second, third = (
        [json.loads(line) for line in (SETS / f"{name}.jsonl").open()]
        for name in ("validation", "second", "third")
    )
    # A fragment ("at midnight") is the expression alone, which every sentence with it holds.
    told = [row for row in third if row["category"] != "fragments"]
    said = [date_keys.normalise(row["text"]) for row in told]
    assert count_leaks(splits["train"], splits["valid"]) == 0
    for trained in ("train", "valid"):
        assert count_leaks(splits[trained], splits["test"]) == 0
        assert count_leaks(splits[trained], second) == 0
        assert count_leaks(splits[trained], said) == 0
    assert count_leaks(first, second) == 0
    for other in (first, second):
        assert count_leaks(other, said) == count_leaks(told, other) == 0


def test_held_out_wordings_are_disjoint_and_each_pool_has_both():
    for pool in (*POOLS.values(), *FRAMES.values()):
        trained, kept = set(part(pool, False)), set(part(pool, True))
        assert trained
        assert kept
        assert len(set(pool)) == len(pool)
        if len(pool) >= 12:
            assert trained.isdisjoint(kept)
            assert trained | kept == set(pool)
            assert len(trained) > len(kept)


def test_slots_of_frames_and_words_exist():
    known = {*POOLS, "num", "slot", "w", "n", "o", "1", "2", "3", "amount", "single"}
    for entries in (*POOLS.values(), *FRAMES.values()):
        for entry in entries:
            used = {piece.split("}")[0] for piece in entry.split("{")[1:]}
            assert used <= known, entry


def test_dates_stand_at_the_front_in_the_middle_and_at_the_end(splits):
    places = Counter()
    for row in splits["train"]:
        text = asked(row).lower().split()
        day = next((d for d in ("today", "tomorrow", "yesterday", "tonight") if d in text), None)
        if day and len(text) > 3:
            at = text.index(day) / (len(text) - 1)
            places["front" if at < 0.2 else "end" if at > 0.8 else "middle"] += 1
    assert min(places.values()) > 0.15 * places.total()
    several = Counter(min(3, len(keys_of(row))) for row in splits["train"])
    assert several[0] > 300
    assert several[2] > 300
    assert several[3] > 30


def test_a_day_and_a_time_stand_in_the_order_they_are_said():
    day, time = Said("tomorrow", ("tomorrow",)), Said("at 3 pm", ("at_3pm",), "3 pm")
    made = {combine.together(Source(random.Random(n)), day, time) for n in range(40)}
    assert {(said.text, said.keys) for said in made} == {
        ("tomorrow at 3 pm", ("tomorrow", "at_3pm")),
        ("at 3 pm tomorrow", ("at_3pm", "tomorrow")),
        ("3 pm tomorrow", ("at_3pm", "tomorrow")),
    }


def test_noise_leaves_most_words_and_slips_change_one():
    source = Source(random.Random(3))
    text = "remind me tomorrow at half past eight pm to feed the cat"
    rough = {roughen(source, text) for _ in range(400)}
    assert len(rough) > 60
    slipped = {slip(source, text) for _ in range(200)}
    assert {"remind me to morrow at half past eight pm to feed the cat"} < slipped
    assert all(abs(len(s.split()) - len(text.split())) <= 1 for s in slipped)
    for _ in range(100):  # "half two" must not become "half to"
        assert slip(source, "half two") == "half two"
        assert slip(source, "ten past four") in ("ten past four", "ten passed four")


def test_numbers_in_words():
    said = {0: "zero", 12: "twelve", 20: "twenty", 45: "forty five", 100: "a hundred"}
    assert {n: words(n) for n in said} == said
    assert words(120) == "a hundred and twenty"
    assert len({words(n) for n in range(1000)}) == 1000
    assert [ordinal(n, True) for n in (1, 2, 3, 11, 12, 22, 30)] == [
        *("1st", "2nd", "3rd", "11th", "12th", "22nd", "30th")
    ]
    assert [ordinal(n, False) for n in (4, 9, 21, 30)] == [
        *("fourth", "ninth", "twenty first", "thirtieth")
    ]
    assert len({ordinal(n, False) for n in range(1, 32)}) == 31


def test_any_number_of_rows(splits):
    few = generate(7, 5)
    assert len(few["train"]) == 5
    assert few["valid"] == splits["valid"]


@pytest.mark.parametrize(("name", "least"), [("validation", 200), ("second", 160)])
def test_hand_written_sets_are_sound(name: str, least: int):
    rows = hand_written(SETS / f"{name}.jsonl")
    assert len(rows) >= least
    assert set(counts(rows)) == set(compose.CATEGORIES)
    assert len({asked(row) for row in rows}) == len(rows) == len({r["meta"]["id"] for r in rows})
    for row in rows:
        scenario, keys = row["meta"]["scenario"], keys_of(row)
        assert (scenario == "negatives") <= (keys == ())
        assert keys or scenario in ("negatives", "ambiguous")


# Cases of each kind of the third set.
KINDS = {
    "typed": 34, "fragments": 35, "fronted": 33, "abbreviations": 37, "clock_forms": 49,
    "synonyms": 31, "compound_amounts": 35, "several": 35, "no_key": 78, "vocabulary": 34,
}  # fmt: skip


def test_third_set_holds_every_kind_and_each_case_once():
    rows = hand_written(SETS / "third.jsonl")
    texts = [json.loads(line)["text"] for line in (SETS / "third.jsonl").open()]
    assert Counter(row["meta"]["scenario"] for row in rows) == KINDS
    assert len({asked(row) for row in rows}) == len(rows) == len({r["meta"]["id"] for r in rows})
    for row in rows:
        kind, keys = row["meta"]["scenario"], keys_of(row)
        assert (kind == "no_key") <= (keys == ())
        assert keys or kind in ("no_key", "fragments", "clock_forms")
        assert len(set(keys)) == len(keys)
        assert (kind == "several") <= (len(keys) > 1)
    # As people write it, and no recogniser would.
    assert all(date_keys.normalise(text) != text for text in texts[: KINDS["typed"]])
    used = {key for row in rows for key in keys_of(row)}
    meals = {"at_breakfast", "during_breakfast", "during_lunch", "at_dinner", "during_dinner"}
    assert meals < used
    for name in ("validation", "second"):
        other = {asked(row) for row in hand_written(SETS / f"{name}.jsonl")}
        assert not other & {asked(row) for row in rows}


@pytest.mark.slow
def test_figures_and_names_tell_no_time():
    """A price, a flat or a code must not become an hour on its way to the model."""
    source = Source(random.Random(5))
    made = {things.figures(source) for _ in range(6_000)}
    assert len(made) > 2_000
    hours = re.compile(r"\b(?:[ap]m|noon|midnight|o'clock)\b")
    torn = [text for text in made if hours.search(date_keys.normalise(text))]
    assert torn == [text for text in made if hours.search(text) and text in torn]


def test_lists_name_each_moment_once_and_in_order():
    source = Source(random.Random(2))
    for _ in range(2_000):
        said = lists.several(source)
        assert len(set(said.keys)) >= 2
        date_keys.render(list(dict.fromkeys(said.keys)))
    made = {lists.hours_of_a_day(source) for _ in range(400)}
    assert any(one.keys[0] == "tomorrow" and len(one.keys) == 4 for one in made)


def test_bare_times_and_notes_are_taught_but_not_held_out(splits):
    bare = {asked(row) for row in splits["train"] if asked(row).count(" ") < 2}
    assert len(bare) > 25
    assert min(asked(row).count(" ") for row in splits["valid"]) >= 3
    source, said = Source(random.Random(1)), Said("on friday", ("this_friday",), "friday")
    assert "friday" in {typed.bare(source, said) for _ in range(50)}
    part = Said("in the morning", ("morning",))
    assert {"morning", "in the morning"} <= {typed.bare(source, part) for _ in range(50)}
    notes = {typed.note(source, said) for _ in range(300)}
    assert "dentist friday" in notes
    assert all("friday" in text for text in notes)
    assert "saturday" not in typed.letter(source, None)
    assert "on friday" in typed.letter(source, said) or "friday" in typed.letter(source, said)


def test_short_spellings_reach_the_model_only_where_the_sentence_must_tell(splits):
    source = Source(random.Random(1))
    short = {typed.shorten(source, "dinner on saturday evening with you") for _ in range(60)}
    assert {"dinner on sat eve w/ u", "dinner on saturday evening with you"} & short
    words = Counter(word for row in splits["train"] for word in asked(row).split())
    assert words["sat"] + words["sun"] + words["mon"] + words["wed"] > 0
    assert not {"tmrw", "thurs", "tues", "2day", "hrs", "mins"} & set(words)
