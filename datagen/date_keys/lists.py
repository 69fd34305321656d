"""Several moments of a kind named together: "monday or tuesday", "from monday to friday"."""

from __future__ import annotations

from collections.abc import Callable

from datagen.date_keys import clock, days, spans
from datagen.date_keys.said import Said, Source

_PARTS = ("morning", "afternoon", "evening")
_TWO = (
    *("{} or {}",) * 6,
    *("{} and {}",) * 6,
    *("from {} to {}",) * 4,
    *("between {} and {}",) * 2,
    *("{} to {}",) * 2,
    *("{} through {}", "from {} through {}", "from {} until {}", "{} till {}"),
    *("either {} or {}", "{} or maybe {}", "{} and again {}", "{} and then {}", "{} {}"),
    *("{} and also {}", "{} or else {}", "both {} and {}", "not {} but {}", "{} not {}"),
    *("{} vs {}", "{} or possibly {}", "{} then {}", "{} plus {}"),
)
_THREE = (
    *("{} {} or {}",) * 4,
    *("{} {} and {}",) * 5,
    *("{} and {} and {}", "{} or {} or {}", "{} {} {}", "{} then {} then {}", "{} {} and also {}"),
)


def several(source: Source) -> Said:
    """Two or three moments of a kind."""
    return _joined(source, source.shared(_KINDS))


def weekdays(source: Source) -> Said:
    """Two or three weekdays."""
    return _joined(source, _weekday)


def hours(source: Source) -> Said:
    """Two or three times of the clock."""
    return _joined(source, _hour)


def hours_of_a_day(source: Source) -> Said:
    """ "tomorrow 9 am 1 pm and 5 pm"."""
    day, times = _day(source), _joined(source, _hour)
    text = f"{day.noun} {source.shared(('', 'at '))}{times.noun}"
    if source.chance(0.4):
        return Said(f"{times.text} {day.text}", times.keys + day.keys)
    return Said(text, day.keys + times.keys, text)


def _joined(source: Source, kind: Callable[[Source], Said]) -> Said:
    count = 3 if source.chance(0.7 if kind is _day_and_hour else 0.5) else 2
    said: list[Said] = []
    while len(said) < count:
        new = kind(source)
        if new.keys not in [other.keys for other in said]:
            said.append(new)
    forms = _TWO if count == 2 else _THREE
    texts = [one.noun or one.text for one in said]
    form = source.shared(forms)
    if kind is _hour and form.startswith("{}") and source.chance(0.5):
        texts[0] = said[0].text
    text = form.format(*texts)
    if source.chance(0.3) and not text.startswith(("from", "between", "either", "both", "not")):
        text = f"{source.shared(('for', 'on', 'by') if kind is _weekday else ('for',))} {text}"
    tense = "past" if all(one.tense == "past" for one in said) else "any"
    keys = tuple(key for one in said for key in one.keys)
    return Said(text, keys, text, tense=tense)


def _weekday(source: Source) -> Said:
    name = source.shared(days.WEEKDAYS)
    which = source.shared(("this",) * 6 + ("next", "next", "last"))
    said = days.weekday(source, f"{which}_{name}", plain=True)
    return Said(said.noun, said.keys, said.noun, tense=said.tense)


def _day(source: Source) -> Said:
    if source.chance(0.35):
        return _weekday(source)
    key = source.shared(("today", "tomorrow", "tomorrow", "tonight", "day_after_tomorrow"))
    return days.day(source, key, plain=True)


def _hour(source: Source) -> Said:
    if source.chance(0.1):
        name = source.shared(("noon", "noon", "midnight"))
        return Said(f"at {name}", (name,), name)
    return clock.with_half(source)


def _day_part(source: Source) -> Said:
    if source.chance(0.4):
        name, part = (
            source.shared(days.WEEKDAYS),
            source.shared(_PARTS),
        )
        return Said(f"{name} {part}", (f"this_{name}", part), f"{name} {part}")
    head = source.shared(("tomorrow", "tomorrow", "this"))
    part = source.shared(_PARTS)
    return Said(f"{head} {part}", (f"{head}_{part}",), f"{head} {part}")


def _day_and_hour(source: Source) -> Said:
    day, hour = _day(source), clock.with_half(source)
    at = "" if source.chance(0.6) else "at "
    text = f"{day.noun} {at}{hour.noun}"
    return Said(text, (*day.keys, *hour.keys), text)


def _period(source: Source) -> Said:
    key = source.shared(days.PERIODS)
    return Said(key.replace("_", " "), (key,), key.replace("_", " "))


_KINDS: tuple[Callable[[Source], Said], ...] = (
    *(_weekday,) * 5,
    *(_day,) * 4,
    *(_hour,) * 3,
    *(_day_part,) * 2,
    *(_day_and_hour,) * 8,
    _period,
    spans.later,
)
