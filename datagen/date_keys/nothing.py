"""What sounds like a time and gives no key: durations, habits, "ago", dates, vague words, names."""

from __future__ import annotations

from datagen.date_keys.clock import without_half
from datagen.date_keys.days import WEEKDAYS
from datagen.date_keys.numbers import ordinal, spoken
from datagen.date_keys.said import Said, Source
from datagen.date_keys.spans import hours
from datagen.date_keys.things import feast

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SHORT_MONTHS = ("jan", "feb", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec")
_UNITS = ("minutes", "hours", "days", "weeks", "months", "years")


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
        "for the past {}",
        "for the last {}",
        "over the last {}",
        "in the last {}",
        "the last {}",
        "the past {}",
        "the next {}",
        "these past {}",
        "over the next {}",
        "within {}",
        "lasting {}",
    )
    said = amount(source)
    if said.startswith(("a ", "an ", "half")):
        forms = ("for {}", "for {}", "for about {}", "for {} or so", "for just {}")
    text = source.shared(forms).format(said)
    if source.chance(0.12):
        unit = source.shared(
            ("hour", "day", "week", "minute", "few days", "few hours", "month or so")
        )
        text = source.shared(("in the next {}", "over the next {}", "within the {}")).format(unit)
    elif source.chance(0.08):
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
        *_more_habits(source, name, part, number),
    )
    return Said(source.shared(forms), tense="any")


def _more_habits(source: Source, name: str, part: str, number: str) -> tuple[str, ...]:
    """What comes round again, in the other words for it."""
    other = source.shared(WEEKDAYS)
    nth = source.shared(("first", "second", "third", "last", "1st", "2nd", "3rd", "fourth"))
    unit = source.shared(("day", "week", "month", "year", "hour", "weekend", "weekday"))
    open_ = without_half(source).noun
    return (
        f"every other {name}",
        f"every other {name}",
        f"every second {name}",
        f"alternate {name}s",
        f"every {nth} {name} of the month",
        f"the {nth} {name} of the month",
        f"the {nth} {name} of each month",
        f"the {nth} {name} in {source.shared(MONTHS)}",
        f"every {name} and {other}",
        f"{name}s and {other}s",
        f"on {name}s and {other}s",
        f"{name}s at {open_}",
        f"every {name} at {open_}",
        f"every {unit} at {open_}",
        f"{name} {part}s",
        f"on {name} {part}s",
        f"every {name} and {other} {part}",
        f"each and every {unit}",
        f"every other {unit}",
        f"every single {unit}",
        f"each {unit}",
        f"{unit} after {unit}",
        f"{unit} by {unit}",
        f"{number} times a {unit}",
        f"once every {number} {unit}s",
        f"every {number} {unit}s",
        f"from {name} to {other} every week",
        f"most {part}s",
        f"in the {part}s",
        source.shared(("annually", "yearly", "nightly", "biweekly", "fortnightly", "quarterly")),
        source.shared(("most days", "most weekends", "every now and again", "day in day out")),
        source.shared(("on a daily basis", "on a weekly basis", "on the first of every month")),
    )


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
        *_more_dates(source, month, nth, number),
        f"in {source.shared(('2019', '2024', 'twenty twenty eight', '1998', 'twenty thirty'))}",
    )
    text = source.shared(forms)
    return Said(text, noun=f"the {nth} of {month}", owner=f"{month}'s", tense="any")


def _more_dates(source: Source, month: str, nth: str, number: int) -> tuple[str, ...]:
    """Weekdays of a calendar date, and parts of a month or a year."""
    name = source.shared(WEEKDAYS)
    which = source.shared(("first", "second", "third", "last", "last", "1st", "2nd"))
    thing = source.shared((*WEEKDAYS, "day", "week", "weekend"))
    season = source.shared(("summer", "spring", "autumn", "winter", "fall"))
    year = source.rng.randrange(1960, 2040)
    short = source.shared(_SHORT_MONTHS)
    return (
        f"on {name} the {nth}",
        f"{name} {month} {nth}",
        f"on {name} {number} {month}",
        *(f"the {which} {thing} of {month}", f"{which} {thing} of {month}") * 5,
        *(f"last {name} of {month}", f"the last {name} of {month}", f"last {name} in {month}") * 3,
        f"{which} {thing} of {month} {year}",
        f"{which} {thing} in {month}",
        *(f"{name} the {nth}", f"{name} {nth}", f"{name} {short} {number}") * 2,
        *(f"{short} {number}", f"{name} {month} {number}", f"{short} {nth}"),
        *(f"{month} {number}-{number + 3}", f"{short} {number} to {number + 4}"),
        f"from {month} {nth} to {ordinal(min(number + 5, 31), True)}",
        f"from the {nth} to the {ordinal(min(number + 5, 31), True)} of {month}",
        f"{month} {nth} through {ordinal(min(number + 2, 31), False)}",
        *(f"{source.shared(('next', 'last', 'this'))} {feast(source)}",) * 4,
        *(f"on the {which} {thing} of {month}", feast(source), f"on {feast(source)}") * 2,
        f"by the {which} {thing} of {month}",
        f"the {which} {thing} in {month}",
        f"the week of {month} {nth}",
        f"in {month} {year}",
        f"{month} {number} {year}",
        f"in the year {year}",
        f"since {year}",
        f"this {season}",
        f"last {season}",
        f"this {month}",
        source.shared(("next quarter", "this quarter", "last quarter", "next term", "this decade")),
        source.shared(("on my birthday", "at new year", "on halloween", "on thanksgiving")),
        f"on {source.rng.randrange(1, 13)}/{source.rng.randrange(1, 29)}",
        f"on {number}/{source.rng.randrange(1, 13)}/{year}",
    )


def far(source: Source) -> Said:
    """Moments the vocabulary has no key for: "the weekend after next", "in three months"."""
    thing = source.shared(
        (*WEEKDAYS, "weekend", "weekend", "weekend", "week", "week", "month", "year")
    )
    number = spoken(source, source.rng.randrange(2, 13))
    forms = (
        *(f"the {thing} after next",) * 5,
        f"{'on ' if thing in WEEKDAYS else ''}the {thing} after next",
        *(f"{thing} after next",) * 3,
        f"{source.shared(MONTHS)} after next",
        "in a month",
        f"in {number} months",
        "in a year",
        f"in {number} years",
        f"in {spoken(source, source.rng.randrange(5, 60))} seconds",
        f"{number} months from now",
        *(f"{number} months hence", f"{number} years hence", f"{number} years from now"),
        f"in {number} {source.shared(('years', 'months'))} and {number} days",
        f"{number} {source.shared(('months', 'years'))} {source.shared(('hence', 'later'))}",
        f"{number} {source.shared(('months', 'years'))} from {source.shared(('today', 'now'))}",
        f"{number} {source.shared(('months', 'years'))} from {source.shared(('today', 'now'))}",
        f"{source.shared(('one second', 'a second', f'{number} seconds'))} from now",
        f"every {source.shared(('first', '1st'))} and last {source.shared(WEEKDAYS)}",
        f"a {source.shared(('month', 'year'))} from {source.shared(('today', 'now'))}",
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
    *("the other day", "the other night", "the next day", "the day after", "that morning"),
    *(
        "after lunch",
        "before lunch",
        "after breakfast",
        "before dinner",
        "before bed",
        "after work",
    ),
    *("asap", "now", "in the future", "in the past", "recently", "lately", "these days"),
    *("a couple of times", "all the time", "on time", "in time", "last minute", "once more"),
    *("a moment ago", "a little later", "some morning", "one evening", "in a jiffy", "in a tick"),
)


def vague(source: Source) -> Said:
    """Later, soon, one day: nobody can tell when."""
    return Said(source.shared(_VAGUE))


def unclear(source: Source) -> Said:
    """A vague word, or a time that could be morning or evening."""
    return without_half(source) if source.chance(0.6) else vague(source)
