"""resolve(): every key, intervals, weeks, daylight saving, and keys of one command together."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.skills.date_keys import STATIC_KEYS, resolve, resolve_all
from livery.skills.date_keys.contract import WEEKDAYS

LONDON = ZoneInfo("Europe/London")
EVERY = (*STATIC_KEYS, "in_45_minutes", "in_3_days", "at_3_30pm", "at_12_05am")
WEDNESDAY = datetime(2026, 11, 18, 10, 30)

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1))
ZONES = st.sampled_from(
    [None, UTC, LONDON, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")]
)
REFERENCES = st.builds(lambda moment, zone: moment.replace(tzinfo=zone), MOMENTS, ZONES)


def instant(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def at(text: str, year: int = 2026) -> datetime:
    return datetime.strptime(f"{year} {text}", "%Y %d %b %H:%M")


@given(st.sampled_from(EVERY), REFERENCES, st.sampled_from(["monday", "sunday", "saturday"]))
def test_every_key_has_an_interval_in_the_references_zone(key, reference, week_start):
    start, end = resolve(key, reference, week_start)
    assert instant(start) < instant(end)
    assert start.tzinfo is reference.tzinfo
    assert end.tzinfo is reference.tzinfo


def test_no_key_is_forgotten():
    for key in EVERY:
        for hour in (0, 5, 12, 23):
            start, end = resolve(key, WEDNESDAY.replace(hour=hour))
            assert start < end


@given(st.sampled_from(EVERY), MOMENTS)
def test_a_week_later_everything_but_months_is_a_week_later(key, reference):
    if key.endswith(("_month", "_year")):
        return
    week = timedelta(days=7)
    start, end = resolve(key, reference)
    assert resolve(key, reference + week) == (start + week, end + week)


@given(st.sampled_from(EVERY), MOMENTS, st.integers(0, 60 * 24 * 40))
def test_a_later_reference_never_means_an_earlier_moment(key, reference, minutes):
    later = reference + timedelta(minutes=minutes)
    assert resolve(key, reference) <= resolve(key, later)


@given(st.integers(1, 99_999), REFERENCES)
def test_minutes_are_elapsed_time(minutes, reference):
    start, end = resolve(f"in_{minutes}_minutes", reference)
    assert instant(start) - instant(reference) == timedelta(minutes=minutes)
    assert instant(end) - instant(start) == timedelta(minutes=1)


@given(st.integers(1, 9_999), REFERENCES)
def test_days_are_calendar_days(days, reference):
    start, _ = resolve(f"in_{days}_days", reference)
    assert start.date() - reference.date() == timedelta(days=days)


@given(st.sampled_from(WEEKDAYS), REFERENCES, st.sampled_from(WEEKDAYS))
def test_weekdays(day, reference, week_start):
    this, following, last = (
        resolve(f"{which}_{day}", reference, week_start)[0].date()
        for which in ("this", "next", "last")
    )
    today = reference.date()
    assert {d.weekday() for d in (this, following, last)} == {WEEKDAYS.index(day)}
    assert timedelta(0) <= this - today < timedelta(days=7)
    assert last < this <= following
    assert following - last == timedelta(days=14)
    first, end = (t.date() for t in resolve("next_week", reference, week_start))
    assert first <= following < end
    assert first.weekday() == WEEKDAYS.index(week_start)


@given(st.sampled_from(["week", "weekend", "month", "year"]), REFERENCES)
def test_periods_are_ordered_and_this_one_is_not_over(period, reference):
    last, this, following = (
        resolve(f"{which}_{period}", reference) for which in ("last", "this", "next")
    )
    assert instant(last[1]) <= instant(this[0]) < instant(this[1]) <= instant(following[0])
    assert instant(reference) < instant(this[1])
    if period != "weekend":
        assert instant(this[0]) <= instant(reference)
        assert (last[1], this[1]) == (this[0], following[0])


@given(st.sampled_from([k for k in EVERY if k.startswith("at_")]), REFERENCES)
def test_a_bare_time_is_the_first_not_over(key, reference):
    start, end = resolve(key, reference)
    assert instant(reference) < instant(end)
    assert instant(start) - instant(reference) < timedelta(days=1, hours=2)


@pytest.mark.parametrize(
    ("key", "start", "end"),
    [
        ("today", "18 Nov 00:00", "19 Nov 00:00"),
        ("day_before_yesterday", "16 Nov 00:00", "17 Nov 00:00"),
        ("tonight", "18 Nov 18:00", "19 Nov 06:00"),
        ("last_night", "17 Nov 18:00", "18 Nov 06:00"),
        ("tomorrow_night", "19 Nov 18:00", "20 Nov 06:00"),
        ("yesterday_evening", "17 Nov 18:00", "17 Nov 22:00"),
        ("this_morning", "18 Nov 06:00", "18 Nov 12:00"),
        ("morning", "18 Nov 06:00", "18 Nov 12:00"),
        ("at_breakfast", "19 Nov 07:00", "19 Nov 09:00"),
        ("after_dinner", "18 Nov 20:00", "18 Nov 22:00"),
        ("noon", "18 Nov 12:00", "18 Nov 12:01"),
        ("midnight", "19 Nov 00:00", "19 Nov 00:01"),
        ("at_9am", "19 Nov 09:00", "19 Nov 09:01"),
        ("at_3_30pm", "18 Nov 15:30", "18 Nov 15:31"),
        ("at_12pm", "18 Nov 12:00", "18 Nov 12:01"),
        ("at_12_05am", "19 Nov 00:05", "19 Nov 00:06"),
        ("in_90_minutes", "18 Nov 12:00", "18 Nov 12:01"),
        ("in_14_days", "02 Dec 00:00", "03 Dec 00:00"),
        ("this_wednesday", "18 Nov 00:00", "19 Nov 00:00"),
        ("this_monday", "23 Nov 00:00", "24 Nov 00:00"),
        ("next_tuesday", "24 Nov 00:00", "25 Nov 00:00"),
        ("last_friday", "13 Nov 00:00", "14 Nov 00:00"),
        ("this_week", "16 Nov 00:00", "23 Nov 00:00"),
        ("next_weekend", "28 Nov 00:00", "30 Nov 00:00"),
        ("last_month", "01 Oct 00:00", "01 Nov 00:00"),
    ],
)
def test_examples_on_a_wednesday_at_half_past_ten(key, start, end):
    assert resolve(key, WEDNESDAY) == (at(start), at(end))


def test_year_ends():
    assert resolve("next_month", datetime(2026, 12, 31, 23))[1] == datetime(2027, 2, 1)
    assert resolve("last_month", datetime(2026, 1, 1))[0] == datetime(2025, 12, 1)
    assert resolve("next_year", WEDNESDAY) == (datetime(2027, 1, 1), datetime(2028, 1, 1))


def test_week_start_moves_the_week_but_not_the_weekend():
    sunday = datetime(2026, 11, 22, 9)
    assert resolve("this_week", sunday)[0] == datetime(2026, 11, 16)
    assert resolve("this_week", sunday, "sunday")[0] == datetime(2026, 11, 22)
    assert resolve("next_tuesday", sunday)[0] == datetime(2026, 11, 24)
    assert resolve("next_tuesday", sunday, "sunday")[0] == datetime(2026, 12, 1)
    assert resolve("this_weekend", sunday) == resolve("this_weekend", sunday, "sunday")


def test_daylight_saving_in_london():
    before = datetime(2026, 3, 28, 12, tzinfo=LONDON)  # clocks go forward at 01:00 on the 29th
    start, end = resolve("tomorrow", before)
    assert instant(end) - instant(start) == timedelta(hours=23)
    start, _ = resolve_all(["tomorrow", "at_1_30am"], before)[0].start, None
    assert (start.hour, start.minute) == (2, 30)
    assert resolve("tomorrow_morning", before)[0].hour == 6
    assert resolve("in_1440_minutes", before)[0].hour == 13
    autumn = datetime(2026, 10, 24, 12, tzinfo=LONDON)
    start, end = resolve("tomorrow", autumn)
    assert instant(end) - instant(start) == timedelta(hours=25)


@pytest.mark.parametrize(
    ("keys", "starts"),
    [
        (["tomorrow", "at_3pm"], ["19 Nov 15:00"]),
        (["at_3pm", "tomorrow"], ["19 Nov 15:00"]),
        (["this_friday", "morning"], ["20 Nov 06:00"]),
        (["this_friday", "morning", "at_9am"], ["20 Nov 09:00"]),
        (["tomorrow_morning", "at_8am"], ["19 Nov 08:00"]),
        (["at_7_30pm", "tonight"], ["18 Nov 19:30"]),
        (["tonight", "at_1am"], ["19 Nov 01:00"]),
        (["this_friday", "night", "at_1am"], ["21 Nov 01:00"]),
        (["tomorrow", "midnight"], ["20 Nov 00:00"]),
        (["tomorrow", "at_9am", "at_5pm"], ["19 Nov 09:00", "19 Nov 17:00"]),
        (["at_9am", "at_5pm", "tomorrow"], ["19 Nov 09:00", "19 Nov 17:00"]),
        (["this_monday", "this_friday"], ["23 Nov 00:00", "20 Nov 00:00"]),
        (["in_3_days", "noon"], ["21 Nov 12:00"]),
        (["in_20_minutes", "tomorrow"], ["18 Nov 10:50", "19 Nov 00:00"]),
        (["next_week", "noon"], ["23 Nov 00:00", "23 Nov 12:00"]),
        (["tomorrow_morning", "this_friday", "night"], ["19 Nov 06:00", "20 Nov 22:00"]),
        ([], []),
    ],
)
def test_keys_of_one_command_compose(keys, starts):
    found = resolve_all(keys, WEDNESDAY)
    assert [m.start for m in found] == [at(s) for s in starts]
    assert [k for m in found for k in m.keys] == keys


@given(st.lists(st.sampled_from(EVERY), max_size=8), REFERENCES)
def test_resolve_all_takes_any_list(keys, reference):
    found = resolve_all(keys, reference)
    assert [k for m in found for k in m.keys] == keys
    assert all(instant(m.start) < instant(m.end) for m in found)


@given(st.sampled_from(EVERY), REFERENCES)
def test_one_key_alone_is_resolve(key, reference):
    [moment] = resolve_all([key], reference)
    assert (moment.start, moment.end) == resolve(key, reference)


def test_bad_arguments():
    with pytest.raises(ValueError, match="'someday' is not a date key"):
        resolve("someday", WEDNESDAY)
    with pytest.raises(ValueError, match="week_start is 'Mon'"):
        resolve("next_week", WEDNESDAY, "Mon")
    with pytest.raises(TypeError, match="must be a datetime, not date"):
        resolve("today", date(2026, 11, 18))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="beyond the years"):
        resolve("next_year", datetime(9999, 6, 1))
