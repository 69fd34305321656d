"""Keys -> local datetimes, one by one or as the keys of one command together.

Every result is a half-open interval [start, end). A point ("at 3pm", "in 20 minutes", noon) is one
minute wide. The reference may be naive (local time without zones) or aware; with a zoneinfo zone,
days keep their wall-clock hours over a change of the clocks, "in 90 minutes" counts real minutes,
and a wall time that a spring change skips is moved forward by the gap. (Compare aware results as
instants, `.timestamp()`: Python compares two times of one zone by the wall.)

Hours chosen: morning 6-12, afternoon 12-18, evening 18-22, night 22-6; tonight, last night and
tomorrow night 18-6; breakfast 7-9, lunch 12-14, dinner 18-20, after dinner 20-22.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from livery.skills.date_keys.contract import WEEKDAYS, is_key

Interval = tuple[datetime, datetime]

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)

# Wall-clock hours (from, to) on the day; beyond 24 is the next day.
_PARTS = {
    "morning": (6, 12),
    "afternoon": (12, 18),
    "evening": (18, 22),
    "night": (22, 30),
    "at_breakfast": (7, 9),
    "during_breakfast": (7, 9),
    "during_lunch": (12, 14),
    "at_dinner": (18, 20),
    "during_dinner": (18, 20),
    "after_dinner": (20, 22),
}
_NIGHT = (18, 30)
_DAYS = {
    "day_before_yesterday": -2,
    "yesterday": -1,
    "today": 0,
    "tomorrow": 1,
    "day_after_tomorrow": 2,
}
# Keys that are a day and hours of it.
_DAY_PARTS = {
    "tonight": (0, _NIGHT),
    "last_night": (-1, _NIGHT),
    "tomorrow_night": (1, _NIGHT),
    **{f"this_{part}": (0, _PARTS[part]) for part in ("morning", "afternoon", "evening")},
    **{f"tomorrow_{part}": (1, _PARTS[part]) for part in ("morning", "afternoon", "evening")},
    **{f"yesterday_{part}": (-1, _PARTS[part]) for part in ("morning", "afternoon", "evening")},
}
_PERIOD = re.compile(r"(this|next|last)_(week|weekend|month|year)")
_WEEKDAY = re.compile(rf"(this|next|last)_({'|'.join(WEEKDAYS)})")
_CLOCK = re.compile(r"at_(\d+)(?:_(\d\d))?([ap])m")
_IN = re.compile(r"in_(\d+)_(minutes|days)")
_STEP = {"last": -1, "this": 0, "next": 1}


@dataclass(frozen=True)
class Resolved:
    """One moment of a command: [start, end), and the keys that it was put together from."""

    keys: tuple[str, ...]
    start: datetime
    end: datetime


def resolve(key: str, reference: datetime, week_start: str = "monday") -> Interval:
    """When `key` is, said at `reference`.

    - `this_friday` is the coming Friday, today included; `next_` and `last_friday` are those of
      the calendar weeks after and before this one, where a week begins on `week_start`.
    - `this_weekend` is the current or the coming one; `next_` and `last_` are 7 days off it.
    - A time, part or meal without a day is the first one that is not over yet.

    Returns:
        (start, end), half-open; a point is one minute wide.

    Raises:
        ValueError: `key` is not of the vocabulary, or `week_start` not a weekday; or the moment
            is beyond the calendar's years 1 to 9999.
        TypeError: `reference` is not a datetime.
    """
    return _resolve_group((key,), reference, reference, week_start)


def resolve_all(
    keys: Sequence[str], reference: datetime, week_start: str = "monday"
) -> list[Resolved]:
    """The moments that the keys of one command mean, said at `reference`, in order of mention.

    A day, a part of it and a time next to each other are one moment, in either order:
    `this_friday, morning` or `at_3pm, tomorrow`. Of two times on one day ("tomorrow from nine to
    five") the second takes the day from the first, or else from what follows. A time after a
    period ("next week … at noon") is the first one within it.

    Raises:
        ValueError: as `resolve`.
    """
    groups = _groups(keys, reference)
    days = [next((k for k in g if _is_day(k)), None) for g in groups]
    found: list[Resolved] = []
    after = reference
    for index, group in enumerate(groups):
        if not (_PERIOD.fullmatch(group[0]) or group[0].endswith("_minutes") or days[index]):
            before = [d for d in days[:index] if d]
            behind = [d for d in days[index + 1 :] if d]
            if day := (before[-1] if before else behind[0] if behind else None):
                # Of "tomorrow morning" a second time takes the day, not the morning.
                start, end = _resolve_group((day, *group), reference, reference, week_start)
                found.append(Resolved(tuple(group), start, end))
                continue
        start, end = _resolve_group(tuple(group), reference, after, week_start)
        if _PERIOD.fullmatch(group[0]):
            after = start if _instant(start) > _instant(reference) else reference
        found.append(Resolved(tuple(group), start, end))
    return found


def _groups(keys: Sequence[str], reference: datetime) -> list[list[str]]:
    """Split keys into runs that hold at most one day, one part and one time each."""
    groups: list[list[str]] = []
    taken: set[str] = set()
    for key in keys:
        _require_key(key, reference)
        slots = _slots(key)
        if not groups or taken & slots or "whole" in slots or "whole" in taken:
            groups.append([])
            taken = set()
        groups[-1].append(key)
        taken |= slots
    return groups


def _slots(key: str) -> set[str]:
    if key in _DAY_PARTS:
        return {"day", "part"}
    if _is_day(key):
        return {"day"}
    if key in _PARTS:
        return {"part"}
    return {"time"} if _clock(key) is not None else {"whole"}


def _is_day(key: str) -> bool:
    return (
        key in _DAYS
        or key in _DAY_PARTS
        or _WEEKDAY.fullmatch(key) is not None
        or key.endswith("_days")
    )


def _clock(key: str) -> tuple[int, int] | None:
    """(hour, minute) of a time on its day; midnight is the one that ends the day."""
    if key in ("noon", "midnight"):
        return (12, 0) if key == "noon" else (24, 0)
    match = _CLOCK.fullmatch(key)
    if match is None:
        return None
    hour = int(match[1]) % 12 + (12 if match[3] == "p" else 0)
    return hour, int(match[2] or 0)


def _resolve_group(
    keys: tuple[str, ...], reference: datetime, after: datetime, week_start: str
) -> Interval:
    """One moment out of at most one day, one part and one time (or a single key)."""
    for key in keys:
        _require_key(key, reference)
    if week_start not in WEEKDAYS:
        raise ValueError(f"week_start is {week_start!r}; choose one of {', '.join(WEEKDAYS)}")
    try:
        return _moment(keys, reference, after, WEEKDAYS.index(week_start))
    except OverflowError:
        raise ValueError(f"{', '.join(keys)} lies beyond the years 1 to 9999") from None


def _moment(
    keys: tuple[str, ...], reference: datetime, after: datetime, week_start: int
) -> Interval:
    if (match := _IN.fullmatch(keys[0])) and match[2] == "minutes":
        start = _add(reference, timedelta(minutes=int(match[1])))
        return start, _add(start, _MINUTE)
    if match := _PERIOD.fullmatch(keys[0]):
        return _period(_STEP[match[1]], match[2], reference, week_start)

    day_key = next((k for k in keys if _is_day(k)), None)
    clock = next((c for c in map(_clock, keys) if c is not None), None)
    hours = next((_PARTS[k] for k in keys if k in _PARTS), None)
    night = hours is not None and hours[1] > 24
    if day_key is not None:
        day = _day(day_key, reference, week_start)
        if day_key in _DAY_PARTS:
            hours = hours or _DAY_PARTS[day_key][1]
            night = night or _DAY_PARTS[day_key][1] == _NIGHT
        return _on(day, clock, hours, night)
    # Without a day: the first that is not over. Last night's may still go on, so begin there.
    day = _midnight(after) - _DAY
    while True:
        start, end = _on(day, clock, hours, night)
        if _instant(end) > _instant(after):
            return start, end
        day += _DAY


def _on(
    day: datetime, clock: tuple[int, int] | None, hours: tuple[int, int] | None, night: bool
) -> Interval:
    """A time, else a part, else the whole, of the day that begins at `day`."""
    if clock is not None:
        hour, minute = clock
        if night and hour < 6:  # "friday night at one" is in Saturday's small hours
            hour += 24
        start = _wall(day, hour, minute)
        return start, _add(start, _MINUTE)
    first, last = hours or (0, 24)
    return _wall(day, first), _wall(day, last)


def _day(key: str, reference: datetime, week_start: int) -> datetime:
    """Midnight at which the day of `key` begins."""
    today = _midnight(reference)
    if key in _DAYS:
        return today + _DAYS[key] * _DAY
    if key in _DAY_PARTS:
        return today + _DAY_PARTS[key][0] * _DAY
    if match := _IN.fullmatch(key):
        return today + int(match[1]) * _DAY
    match = _WEEKDAY.fullmatch(key)
    assert match is not None, key
    weekday = WEEKDAYS.index(match[2])
    if match[1] == "this":
        return today + (weekday - today.weekday()) % 7 * _DAY
    week = _week(today, week_start) + _STEP[match[1]] * 7 * _DAY
    return week + (weekday - week_start) % 7 * _DAY


def _period(step: int, period: str, reference: datetime, week_start: int) -> Interval:
    today = _midnight(reference)
    if period == "week":
        start = _week(today, week_start) + step * 7 * _DAY
        end = start + 7 * _DAY
    elif period == "weekend":
        saturday = today - _DAY if today.weekday() == 6 else today + (5 - today.weekday()) * _DAY
        start = saturday + step * 7 * _DAY
        end = start + 2 * _DAY
    elif period == "month":
        start = _month(today, step)
        end = _month(today, step + 1)
    else:
        start = _month(today.replace(month=1), 12 * step)
        end = _month(today.replace(month=1), 12 * (step + 1))
    return _wall(start, 0), _wall(end, 0)


def _week(today: datetime, week_start: int) -> datetime:
    return today - (today.weekday() - week_start) % 7 * _DAY


def _month(today: datetime, step: int) -> datetime:
    years, month = divmod(today.month - 1 + step, 12)
    year = today.year + years
    if not 1 <= year <= 9999:
        raise OverflowError
    return today.replace(year=year, month=month + 1, day=1)


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time(), tzinfo=moment.tzinfo)


def _wall(day: datetime, hour: int, minute: int = 0) -> datetime:
    """The wall-clock time on `day`, moved out of a gap of the clocks if it falls into one."""
    naive = day.replace(tzinfo=None) + timedelta(hours=hour, minutes=minute)
    moment = naive.replace(tzinfo=day.tzinfo)
    return moment if day.tzinfo is None else moment.astimezone(UTC).astimezone(day.tzinfo)


def _add(moment: datetime, duration: timedelta) -> datetime:
    """Real elapsed time, also over a change of the clocks."""
    if moment.tzinfo is None:
        return moment + duration
    return (moment.astimezone(UTC) + duration).astimezone(moment.tzinfo)


def _instant(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def _require_key(key: str, reference: datetime) -> None:
    if not is_key(key):
        raise ValueError(f"{key!r} is not a date key")
    if not isinstance(reference, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"reference must be a datetime, not {type(reference).__name__}")
