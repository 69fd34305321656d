"""Days, parts of days, meals, weekdays, weeks, weekends, months and years, as they are said."""

from __future__ import annotations

from datagen.date_keys.said import Said, Source, Tense

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_LOOSE_FUTURE = (
    "sometime {}",
    "some time {}",
    "at some point {}",
    "any time {}",
    "{} at some point",
    "{} sometime",
    "{} if possible",
    "{} at the latest",
    "{} or thereabouts",
    "{} hopefully",
    "{} instead",
    "preferably {}",
    "maybe {}",
    "probably {}",
    "{} if that works",
    "{} of all days",
)
_LOOSE_PAST = ("sometime {}", "at some point {}", "{} at some point", "{} i think", "{} maybe")

_DAYS: dict[str, tuple[tuple[str, ...], Tense]] = {
    "today": (("today",), "any"),
    "tomorrow": (("tomorrow",), "future"),
    "yesterday": (("yesterday",), "past"),
    "tonight": (("tonight",), "future"),
    "last_night": (("last night",) * 5 + ("yesterday night",), "past"),
    "day_after_tomorrow": (
        ("the day after tomorrow",) * 4 + ("day after tomorrow", "on the day after tomorrow"),
        "future",
    ),
    "day_before_yesterday": (
        ("the day before yesterday",) * 4 + ("day before yesterday", "on the day before yesterday"),
        "past",
    ),
}
_DAY_SPECIAL = {
    "today": (
        "later today",
        "later on today",
        "earlier today",
        "all day today",
        "by the end of today",
        "for the rest of today",
    ),
    "tomorrow": (
        "first thing tomorrow",
        "early tomorrow",
        "late tomorrow",
        "by tomorrow",
        "this time tomorrow",
        "all day tomorrow",
        "from tomorrow",
        "before tomorrow",
        "same time tomorrow",
    ),
    "yesterday": ("all day yesterday", "since yesterday", "this time yesterday", "just yesterday"),
    "tonight": (
        "later tonight",
        "late tonight",
        "later on tonight",
        "by tonight",
        "just for tonight",
        "before tonight",
    ),
    "last_night": ("late last night", "since last night", "at some point last night"),
    "day_after_tomorrow": ("by the day after tomorrow", "until the day after tomorrow"),
    "day_before_yesterday": ("since the day before yesterday",),
}
DAYS = tuple(_DAYS)


def owner(noun: str) -> str:
    """ "friday" -> "friday's"; "this week" -> "this week's"."""
    return f"{noun}'s"


def day(source: Source, key: str | None = None, plain: bool = False) -> Said:
    """today, tomorrow, tonight, ... in a plain or (unless `plain`) a roundabout wording."""
    key = key or source.shared(DAYS)
    wordings, tense = _DAYS[key]
    noun = source.shared(wordings).removeprefix("on ")
    if not plain and source.chance(0.15):
        special = source.shared(_DAY_SPECIAL[key])
        if special.startswith("earlier") or tense == "past":
            return Said(special, (key,), tense="past")
        return Said(special, (key,), tense="future")
    text = source.shared(wordings)
    if not plain and source.chance(0.15):
        loose = _LOOSE_PAST if tense == "past" else _LOOSE_FUTURE
        text = source.own(loose).format(noun)
        return Said(text, (key,), tense="past" if tense == "past" else "future")
    return Said(text, (key,), noun=noun, owner=owner(noun), tense=tense)


def day_part(source: Source, key: str | None = None) -> Said:
    """ "tomorrow morning", "yesterday evening", "this afternoon" and the like: one key."""
    keys = (
        *(f"{d}_{p}" for d in ("tomorrow", "yesterday", "this") for p in _PART_NAMES),
        "tomorrow_night",
    )
    key = key or source.shared(keys)
    head, _, part = key.partition("_")
    noun = f"{head} {part}"
    tense: Tense = {"tomorrow": "future", "yesterday": "past", "this": "any"}[head]  # pyright: ignore[reportAssignmentType]
    text = noun
    if source.chance(0.22):
        special = [f"late {noun}", f"early {noun}", f"by {noun}", f"sometime {noun}"]
        if head == "tomorrow":
            special += [f"tomorrow in the {part}"] if part != "night" else []
            special += ["first thing tomorrow morning"] * 3 if part == "morning" else []
            special += [f"any time {noun}", f"{noun} at some point"]
        if head == "yesterday":
            special += [f"since {noun}", f"yesterday in the {part}"]
        if head == "this":
            special += [f"later {noun}", f"earlier {noun}"]
        text = source.shared(special)
    elif source.chance(0.08):
        loose = _LOOSE_PAST if tense == "past" else _LOOSE_FUTURE
        text = source.own(loose).format(noun)
    if text.startswith("earlier"):
        tense = "past"
    if text.startswith("later"):
        tense = "future"
    plain = text == noun
    return Said(text, (key,), noun if plain else "", owner(noun) if plain else "", tense)


_PART_NAMES = ("morning", "afternoon", "evening")
_PARTS = {
    "morning": (
        *("in the morning",) * 6,
        "first thing in the morning",
        "early in the morning",
        "late morning",
        "mid morning",
        "by morning",
        "in the early morning",
    ),
    "afternoon": (
        *("in the afternoon",) * 6,
        "late in the afternoon",
        "early afternoon",
        "mid afternoon",
        "late afternoon",
        "during the afternoon",
    ),
    "evening": (
        *("in the evening",) * 6,
        "early evening",
        "late in the evening",
        "during the evening",
        "towards evening",
        "early in the evening",
    ),
    "night": (
        *("at night",) * 6,
        "during the night",
        "in the night",
        "in the middle of the night",
        "late at night",
    ),
    "noon": (
        *("at noon",) * 4,
        *("at midday",) * 2,
        "around noon",
        "by noon",
        "at twelve noon",
        "before noon",
        "just after noon",
        "around midday",
        "at twelve o'clock noon",
    ),
    "midnight": (
        *("at midnight",) * 6,
        "around midnight",
        "by midnight",
        "at twelve midnight",
        "at twelve at night",
        "just before midnight",
        "after midnight",
        "at the stroke of midnight",
        "at twelve o'clock at night",
    ),
}
_MEALS = {
    "at_breakfast": ("at breakfast",) * 5
    + ("at breakfast time", "by breakfast", "while we're at breakfast"),
    "during_breakfast": ("during breakfast",) * 4
    + ("over breakfast", "while i have breakfast", "during my breakfast", "during breakfast time"),
    "during_lunch": ("during lunch",) * 3
    + ("at lunchtime",) * 3
    + ("at lunch", "over lunch", "at lunch time", "while i'm at lunch"),
    "at_dinner": ("at dinner",) * 4
    + ("at dinner time", "at dinnertime", "while we're at dinner", "by dinner"),
    "during_dinner": ("during dinner",) * 4
    + ("over dinner", "while we have dinner", "during our dinner", "during dinner time"),
    "after_dinner": ("after dinner",) * 5
    + ("right after dinner", "straight after dinner", "just after dinner"),
}
PARTS = tuple(_PARTS)
MEALS = tuple(_MEALS)


def part(source: Source, key: str | None = None) -> Said:
    """morning, afternoon, evening, night, noon, midnight without a day."""
    key = key or source.shared(PARTS)
    noun = {"noon": source.shared(("noon", "midday")), "midnight": "midnight"}.get(key, "")
    return Said(source.shared(_PARTS[key]), (key,), noun=noun)


def meal(source: Source, key: str | None = None) -> Said:
    """ "at breakfast", "over lunch", "after dinner"."""
    key = key or source.shared(MEALS)
    return Said(source.shared(_MEALS[key]), (key,))


_THIS_DAY = (
    *("on {}",) * 8,
    *("{}",) * 4,
    *("this {}",) * 3,
    "this coming {}",
    "on the coming {}",
    "the coming {}",
    "the upcoming {}",
    "upcoming {}",
    "this upcoming {}",
    "on the upcoming {}",
    "{} coming",
    "by {}",
    "before {}",
    "until {}",
    "from {}",
    "come {}",
    "on {} sometime",
    "any time {}",
    "on {} of this week",
    "{} this week",
    "on {} this week",
    "all day {}",
    "on {} if possible",
    "first thing {}",
)
_NEXT_DAY = (
    *("next {}",) * 10,
    *("{} of next week",) * 2,
    *("on {} of next week",) * 3,
    *("{} next week",) * 2,
    *("on {} next week",) * 2,
    "next week on {}",
    "next week {}",
    "the {} of next week",
    "the following {}",
    "the following {}",
    "on the following {}",
    "following {}",
    "by next {}",
    "before next {}",
    "any time next {}",
    "from next {}",
    "until next {}",
)
_LAST_DAY = (
    *("last {}",) * 10,
    "on {} of last week",
    "on {} last week",
    "{} last week",
    "last week on {}",
    "since last {}",
    "the {} of last week",
    "all day last {}",
    "this past {}",
    "this past {}",
    "the previous {}",
    "on the previous {}",
    "previous {}",
    "past {}",
    "the past {}",
)


def weekday(source: Source, key: str | None = None, plain: bool = False) -> Said:
    """this_, next_ or last_ weekday; a bare weekday is this_. `plain` gives "friday" forms only."""
    which = source.shared(("this",) * 5 + ("next",) * 4 + ("last",) * 3)
    which, name = key.split("_") if key else (which, source.shared(WEEKDAYS))
    key = f"{which}_{name}"
    noun = name if which == "this" and source.chance(0.75) else f"{which} {name}"
    tense: Tense = "past" if which == "last" else "future"
    if plain:
        text = f"on {noun}" if noun == name and source.chance(0.6) else noun
        return Said(text, (key,), noun, owner(noun), tense)
    forms = {"this": _THIS_DAY, "next": _NEXT_DAY, "last": _LAST_DAY}[which]
    text = source.shared(forms).format(name)
    return Said(text, (key,), noun, owner(noun), tense)


_PERIOD_FORMS = (
    *("{}",) * 10,
    "sometime {}",
    "some time {}",
    "at some point {}",
    "at the end of {}",
    "by the end of {}",
    "early {}",
    "late {}",
    "at the start of {}",
    "in the middle of {}",
    "before the end of {}",
    "all of {}",
    "for the whole of {}",
    "at the beginning of {}",
    "towards the end of {}",
    "any time {}",
)
_PERIOD_PAST = (
    *("{}",) * 10,
    "at some point {}",
    "at the end of {}",
    "at the start of {}",
    "all of {}",
    "since {}",
    "in the middle of {}",
    "over the whole of {}",
    "for most of {}",
    "during {}",
    "early {}",
    "late {}",
    "on average {}",
)
_BARE_WEEKEND = (
    *("at the weekend", "over the weekend", "on the weekend", "this coming weekend"),
    *("the coming weekend", "the upcoming weekend", "this upcoming weekend", "upcoming weekend"),
)
# Other words for this, next and last. The coming weekend is this one, but the coming week the next.
_OTHER_WORDS = {
    "this": ("the current {}", "the current {}", "current {}", "this current {}"),
    "next": (
        "the following {}",
        "the following {}",
        "following {}",
        "the coming {}",
        "the upcoming {}",
        "upcoming {}",
    ),
    "last": ("the previous {}", "the past {}", "this past {}", "previous {}", "past {}"),
}
PERIODS = tuple(
    f"{w}_{p}" for w in ("this", "next", "last") for p in ("week", "weekend", "month", "year")
)


def period(source: Source, key: str | None = None) -> Said:
    """this_, next_ or last_ week, weekend, month or year."""
    key = key or source.shared((*PERIODS, "this_weekend"))
    noun = key.replace("_", " ")
    if key == "this_weekend" and source.chance(0.6):
        return Said(source.shared(_BARE_WEEKEND), (key,), noun="the weekend", owner="the weekend's")
    which, unit = noun.split(" ")
    if source.chance(0.14):
        others = _OTHER_WORDS[which]
        if unit == "weekend" and which == "next":
            others = others[:3]
        text = source.shared(others).format(unit)
        before = source.shared(("",) * 5 + ("in ", "for ", "during "))
        if text.startswith(("the ", "this ")):
            text = f"{before}{text}"
        return Said(text, (key,), tense={"last": "past", "next": "future", "this": "any"}[which])  # pyright: ignore[reportArgumentType]
    if which == "last":
        return Said(source.shared(_PERIOD_PAST).format(noun), (key,), noun, owner(noun), "past")
    if which == "this":
        text = source.shared((*_PERIOD_FORMS, "later {}", "later {}", "earlier {}")).format(noun)
        tense: Tense = "past" if text.startswith("earlier") else "any"
        if text != noun and tense == "any":
            tense = "future"
        return Said(text, (key,), noun, owner(noun), tense)
    return Said(source.shared(_PERIOD_FORMS).format(noun), (key,), noun, owner(noun))
