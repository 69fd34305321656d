"""What sounds like a time and gives no key: durations, habits, "ago", dates, vague words, names."""

from __future__ import annotations

from datagen.date_keys.clock import without_half
from datagen.date_keys.days import WEEKDAYS
from datagen.date_keys.numbers import ordinal, spoken
from datagen.date_keys.said import Said, Source
from datagen.date_keys.spans import hours

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_UNITS = ("minutes", "hours", "days", "weeks", "months", "years")


def no_key(source: Source) -> Said:
    """Any of the kinds below."""
    kind = source.shared((duration,) * 5 + (habit,) * 4 + (ago,) * 4 + (date,) * 4 + (far,) * 2)
    return kind(source)


def amount(source: Source) -> str:
    """ "two and a half hours", "45 seconds", "a week"."""
    if source.chance(0.45):
        return hours(source)[0]
    if source.chance(0.1):
        return source.shared(("a week", "a fortnight", "a month", "a day", "a minute"))
    unit = source.shared(("minutes",) * 5 + ("days", "weeks", "seconds", "months", "mins"))
    return f"{spoken(source, source.rng.randrange(2, 61))} {unit}"


def duration(source: Source) -> Said:
    """ "for two hours", "for the next half an hour"."""
    forms = (
        *("for {}",) * 9,
        "for about {}",
        "for the next {}",
        "for at least {}",
        "for another {}",
        "for up to {}",
        "for {} or so",
        "for no more than {}",
    )
    said = amount(source)
    if said.startswith(("a ", "an ", "half")):
        forms = ("for {}", "for {}", "for about {}", "for {} or so", "for just {}")
    text = source.shared(forms).format(said)
    if source.chance(0.08):
        text = source.shared(("all day", "all night", "all day long", "for ages", "for a while"))
    return Said(text, tense="any")


def habit(source: Source) -> Said:
    """ "every monday", "on fridays", "twice a week"."""
    name = source.shared(WEEKDAYS)
    part = source.shared(("morning", "afternoon", "evening", "night"))
    number = spoken(source, source.rng.randrange(2, 13))
    forms = (
        *(f"every {name}",) * 5,
        *(f"every {part}",) * 4,
        *("every day", "every day", "every week", "every month", "every year", "every weekday"),
        "every weekend",
        f"every {name} {part}",
        f"every other {name}",
        f"each {name}",
        f"each {part}",
        "each week",
        "each day",
        f"on {name}s",
        f"{name}s",
        "on weekdays",
        "at weekends",
        "daily",
        "weekly",
        "once a week",
        "twice a day",
        "once a month",
        f"{number} times a day",
        f"every {number} hours",
        f"every {number} minutes",
        f"every {number} days",
        "every half hour",
        "every hour",
        "every single day",
        "monthly",
        "hourly",
        "every night before bed",
    )
    return Said(source.shared(forms), tense="any")


def ago(source: Source) -> Said:
    """ "three days ago", "an hour and a half ago", "ages ago"."""
    if source.chance(0.2):
        gone, _ = hours(source)
    elif source.chance(0.25):
        gone = source.shared(("a week", "a fortnight", "a month", "a year", "a day", "a minute"))
    else:
        gone = f"{spoken(source, source.rng.randrange(2, 31))} {source.shared(_UNITS)}"
    if source.chance(0.1):
        gone = source.shared(("a while", "ages", "a few days", "a few hours", "years"))
    return Said(f"{source.shared(('',) * 7 + ('about ', 'over '))}{gone} ago", tense="past")


def date(source: Source) -> Said:
    """Calendar dates, months, seasons and holidays."""
    month = source.shared(MONTHS)
    number = source.rng.randrange(1, 32)
    nth = ordinal(number, source.chance(0.6))
    forms = (
        *(f"on {month} {nth}",) * 3,
        *(f"on the {nth} of {month}",) * 4,
        f"{month} {nth}",
        f"the {nth} of {month}",
        f"on {month} the {nth}",
        f"on {number} {month}",
        f"on the {nth}",
        f"on the {nth}",
        f"by the {nth}",
        f"in {month}",
        f"next {month}",
        f"last {month}",
        f"at the end of {month}",
        f"in the {source.shared(('summer', 'spring', 'autumn', 'winter'))}",
        f"next {source.shared(('summer', 'spring', 'autumn', 'winter'))}",
        source.shared(("at christmas", "on christmas day", "on new year's eve", "at easter")),
        f"on {number} {source.rng.randrange(1, 13)}",
        f"in {source.shared(('2019', '2024', 'twenty twenty eight', '1998', 'twenty thirty'))}",
    )
    text = source.shared(forms)
    return Said(text, noun=f"the {nth} of {month}", owner=f"{month}'s", tense="any")


def far(source: Source) -> Said:
    """Moments the vocabulary has no key for: "the weekend after next", "in three months"."""
    thing = source.shared(
        (*WEEKDAYS, "weekend", "weekend", "weekend", "week", "week", "month", "year")
    )
    number = spoken(source, source.rng.randrange(2, 13))
    forms = (
        *(f"the {thing} after next",) * 6,
        f"{'on ' if thing in WEEKDAYS else ''}the {thing} after next",
        "in a month",
        f"in {number} months",
        "in a year",
        f"in {number} years",
        f"in {spoken(source, source.rng.randrange(5, 60))} seconds",
        f"{number} months from now",
        "in a month's time",
    )
    text = source.shared(forms)
    return Said(text, noun=f"the {thing} after next")


_VAGUE = (
    "later",
    "later on",
    "soon",
    "sometime",
    "at some point",
    "in a while",
    "in a bit",
    "in a moment",
    *("in a few minutes", "in a few minutes", "in a few hours", "in a few days"),
    *("in a couple of seconds", "in some minutes", "in several hours"),
    "in a little while",
    "in a sec",
    "some day",
    "one day",
    "some other day",
    "another day",
    "another time",
    "some other time",
    "one of these days",
    "eventually",
    "when you can",
    "when i get home",
    "when i'm back",
    "whenever you like",
    "as soon as possible",
    "right now",
    "straight away",
    "sooner or later",
    "before long",
    "after that",
    "at the usual time",
    "when it gets dark",
    "once i'm up",
    "next time",
    "this time",
    "when you have a minute",
    "when there's a second to spare",
    "in good time",
    "at the last minute",
    "first",
    "just now",
    "in no time",
    "now and then",
    "from time to time",
    "a bit later",
    "ahead of time",
    "after a bit",
    "at a better time",
    "any day now",
    "in due course",
)


def vague(source: Source) -> Said:
    """Later, soon, one day: nobody can tell when."""
    return Said(source.shared(_VAGUE))


def unclear(source: Source) -> Said:
    """A vague word, or a time that could be morning or evening."""
    return without_half(source) if source.chance(0.6) else vague(source)
