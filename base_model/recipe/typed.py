"""Times as people type and say them, for the third course: `tmrw`, `8.30pm`, `an hour and ten`.

The conventions are those of the date-keys contract, in plain words. Here are the words themselves,
stretches of time and clocks; `days.py` has the days and everything put together, `idle.py` what
does not say when.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .clock import figures, pick_minute
from .numbers import english


@dataclass(frozen=True)
class When:
    """A piece of a sentence that says when.

    `text` answers "when?"; `plain` are its plain times; `noun` stands as a noun ("move it to ...")
    where there is such a form; `past` ones belong to what has happened.
    """

    text: str
    plain: tuple[str, ...] = ()
    noun: str = ""
    past: bool = False


# Several spellings of a word; the first of each is the full one.
SHORT: dict[str, tuple[str, ...]] = {
    "tomorrow": ("tmr", "tmrw", "tmw", "tmrrw", "2moro", "2morrow", "tomorow", "tommorow", "tomoz"),
    "today": ("2day", "2day", "tday", "to day"),
    "tonight": ("tonite", "2nite", "2night", "to night"),
    "yesterday": ("yest", "yest", "yday", "ystrday", "yester day"),
    "weekend": ("wknd", "wkend", "wkd", "week end"),
    "week": ("wk",),
    "weeks": ("wks",),
    "month": ("mth", "mnth"),
    "year": ("yr",),
    "minutes": ("min", "mins", "mins", "min.", "minuets"),
    "minute": ("min",),
    "hours": ("hrs", "hrs", "hr", "h"),
    "hour": ("hr",),
    "morning": ("morn", "mornin", "mrng"),
    "afternoon": ("aft", "after noon", "afternn"),
    "evening": ("eve", "evenin", "evng"),
    "next": ("nxt", "nex"),
    "last": ("lst",),
    "before": ("b4",),
    "quarter": ("qtr", "quater"),
    "monday": ("mon", "mon", "mon.", "mond", "munday"),
    "tuesday": ("tue", "tues", "tues", "tues.", "tues day"),
    "wednesday": ("wed", "wed", "weds", "wednes", "wensday"),
    "thursday": ("thu", "thur", "thurs", "thurs.", "thurs day"),
    "friday": ("fri", "fri", "fri.", "fri day", "friady"),
    "saturday": ("sat", "sat", "sat.", "satur day", "saterday"),
    "sunday": ("sun", "sun", "sun.", "sun day"),
}


def shorten(rng: Random, text: str, share: float = 0.75) -> str:
    """`text` with abbreviations and misspellings for some of its words."""
    words = text.split(" ")
    for index, word in enumerate(words):
        if word in SHORT and rng.random() < share:
            words[index] = rng.choice(SHORT[word])
        elif word == "at" and index == 0 and rng.random() < 0.15:
            words[index] = "@"
    return " ".join(words)


def spoken(rng: Random, value: int) -> str:
    """A number in digits or in words."""
    return english(value, hyphen=rng.random() < 0.6) if rng.random() < 0.5 else str(value)


def minutes_ahead(rng: Random) -> tuple[str, int]:
    """A stretch of minutes or hours as it is said, and its minutes."""
    draw = rng.random()
    if draw < 0.3:
        value = rng.choice([5, 10, 15, 20, 25, 30, 40, 45, 50, 90, rng.randint(2, 120)])
        return f"{spoken(rng, value)} minutes", value
    hours = rng.choice([1, 1, 2, 2, 3, 4, 5, 6, 8, rng.randint(2, 48)])
    said = rng.choice(["an", "an", "one", "1"]) if hours == 1 else spoken(rng, hours)
    unit = "hour" if hours == 1 else "hours"
    if draw < 0.48:
        return f"{said} {unit}", 60 * hours
    if draw < 0.78:
        extra = rng.choice([5, 10, 15, 20, 25, 30, 35, 40, 45, 50, rng.randint(2, 59)])
        tail = rng.choice([" minutes", " minutes", ""]) if rng.random() < 0.8 else " more minutes"
        join = " and " if not tail.strip() else rng.choice([" and ", " and ", " ", ", "])
        if hours > 1 and not tail:
            tail = " minutes"
        return f"{said} {unit}{join}{spoken(rng, extra)}{tail}", 60 * hours + extra
    few = rng.randint(2, 9)
    words = spoken(rng, few)
    more = rng.randint(5, 55)
    odd = [
        ("an hour and a half", 90),
        ("one and a half hours", 90),
        ("1.5 hours", 90),
        ("half an hour", 30),
        ("a half hour", 30),
        ("half hour", 30),
        ("a quarter of an hour", 15),
        ("quarter of an hour", 15),
        ("three quarters of an hour", 45),
        ("an hour and a quarter", 75),
        ("a couple of hours", 120),
        ("a couple hours", 120),
        ("a couple of minutes", 2),
        ("a minute", 1),
        (f"{words} and a half hours", 60 * few + 30),
        (f"{words} hours and a half", 60 * few + 30),
        (f"{few}.5 hours", 60 * few + 30),
        (f"{words} and a quarter hours", 60 * few + 15),
        (f"{few}h30", 60 * few + 30),
        (f"{few}h {more}m", 60 * few + more),
    ]
    return rng.choice(odd)


def days_ahead(rng: Random) -> tuple[str, int]:
    """A stretch of days or weeks as it is said, and its days."""
    draw = rng.random()
    if draw < 0.45:
        value = rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 20, 30, rng.randint(2, 120)])
        return f"{spoken(rng, value)} days", value
    if draw < 0.75:
        weeks = rng.choice([2, 2, 3, 4, 5, 6, rng.randint(2, 12)])
        if rng.random() < 0.15:
            more = rng.randint(2, 6)
            return f"{spoken(rng, weeks)} weeks and {spoken(rng, more)} days", 7 * weeks + more
        return f"{spoken(rng, weeks)} weeks", 7 * weeks
    return rng.choice(
        [
            ("a day", 1),
            ("one day", 1),
            ("a week", 7),
            ("a week", 7),
            ("one week", 7),
            ("1 week", 7),
            ("a fortnight", 14),
            ("a couple of days", 2),
            ("a couple days", 2),
            ("a couple of weeks", 14),
            ("a week and a day", 8),
            ("a week and two days", 9),
        ]
    )


def ahead(rng: Random) -> When:
    """From now on: `in 90 minutes`, `a week from today`."""
    by_day = rng.random() < 0.38
    said, count = days_ahead(rng) if by_day else minutes_ahead(rng)
    forms = ["in {}"] * 9 + ["{} from now"] * 3 + ["in about {}", "in exactly {}", "in roughly {}"]
    forms += ["{} later", "{} hence", "in just {}", "in {} or so", "in like {}", "in around {}"]
    if said[:2] not in ("a ", "an") and not said.startswith("half"):
        forms += ["in another {}", "in {} time"] if said.endswith("s") else []
    if by_day:
        forms += ["{} from today"] * 3
    return When(rng.choice(forms).format(said), (f"in {count} {'days' if by_day else 'minutes'}",))


def face(rng: Random, hour: int, minute: int) -> str:
    """A twelve-hour clock without am or pm."""
    here, after = spoken(rng, hour), spoken(rng, hour % 12 + 1)
    digits = f"{hour}{rng.choice([':', ':', ':', '.', ' '])}{minute:02d}"
    if minute == 0:
        return rng.choice([here, str(hour), f"{here} o'clock", f"{hour}:00", f"{hour} oclock"])
    forms = [digits, digits, digits]
    past = rng.choice(["past", "past", "after"])
    if minute < 10:
        forms += [f"{english(hour)} oh {english(minute)}"]
    else:
        both = english(minute, hyphen=False)
        forms += [f"{english(hour)} {both}", f"{english(hour)}-{english(minute)}"]
    if minute == 15:
        forms += [f"quarter {past} {here}", f"a quarter {past} {here}", f"15 {past} {here}"]
    elif minute == 30:
        forms += [f"half past {here}", f"half past {here}", f"half {here}", f"half {hour}"]
    elif minute == 45:
        forms += [f"quarter {w} {after}" for w in ("to", "to", "till", "of", "before")]
    elif minute < 30 and (minute % 5 == 0 or rng.random() < 0.3):
        mins = rng.choice(["", "", " minutes"]) if minute % 5 == 0 else " minutes"
        forms += [f"{spoken(rng, minute)}{mins} {past} {here}"] * 3
    elif minute % 5 == 0 or rng.random() < 0.3:
        mins = rng.choice(["", "", " minutes"]) if minute % 5 == 0 else " minutes"
        forms += [
            f"{spoken(rng, 60 - minute)}{mins} {rng.choice(['to', 'to', 'till'])} {after}"
        ] * 3
    return rng.choice(forms)


def full_clock(rng: Random, hour: int, minute: int) -> str:
    """A 24-hour clock that cannot be misread: from 13 on, or with a leading zero."""
    two = f"{minute:02d}"
    if hour < 10:
        return rng.choice(
            [f"{hour:02d}:{two}", f"{hour:02d}:{two}", f"{hour:02d}.{two}", f"0{hour}h{two}"]
        )
    forms = [f"{hour}:{two}", f"{hour}:{two}", f"{hour}.{two}", f"{hour}h{two}", f"{hour} {two}"]
    forms += [f"{hour}{two}", f"{hour}:{two} hrs", f"{hour}{two} hours"]
    if minute == 0:
        forms += [
            f"{hour}h",
            f"{hour} h",
            f"{english(hour)} hundred",
            f"{english(hour)} hundred hours",
        ]
    elif minute >= 10:
        forms += [f"{english(hour)} {english(minute, hyphen=False)}"]
    return rng.choice(forms)


def exact(rng: Random) -> tuple[str, str]:
    """A clock time that says its half of the day, without preposition, and its plain form."""
    hour, minute, half = rng.randint(1, 12), pick_minute(rng), rng.choice(["am", "pm", "pm"])
    if hour == 12 and minute == 0:
        hour = rng.randint(1, 11)
    plain = figures(hour, minute, half)
    full = hour % 12 + (12 if half == "pm" else 0)
    draw = rng.random()
    if draw < 0.22 and (full >= 13 or full < 10):
        return full_clock(rng, full, minute), plain
    if draw < 0.27:
        back = rng.choice([5, 10, 15, 20, 25])
        said = "quarter" if back == 15 else spoken(rng, back)
        noon = rng.random() < 0.6
        if rng.random() < 0.6:
            time = figures(11, 60 - back, "am" if noon else "pm")
            return f"{said} to {'noon' if noon else 'midnight'}", time
        time = figures(12, back, "pm" if noon else "am")
        return f"{said} past {'noon' if noon else 'midnight'}", time
    text = face(rng, hour, minute)
    unclear = " to twelve" in text or " to 12" in text or "o'clock" in text or "oclock" in text
    if draw < 0.78 and not unclear:
        digit = text[-1].isdigit()
        marks = [f" {half}", f" {half}", f" {half[0]}.m.", f" {half[0]} m", f" in the {half}"]
        if digit:
            marks += [half, half, half, half, half[0], half[0], f"{half[0]}.", f"{half[0]}.m."]
        return text + rng.choice(marks), plain
    if half == "am":
        tail = "at night" if hour == 12 else rng.choice(["in the morning"] * 4 + ["in the am"])
    elif hour == 12 or hour < 5:
        tail = "in the afternoon"
    elif hour < 9:
        tail = "in the evening"
    else:
        tail = rng.choice(["at night", "in the evening"])
    return f"{text} {tail}", plain


def at_exact(rng: Random) -> When:
    said, plain = exact(rng)
    lead = rng.choice(["at"] * 12 + ["by", "around", "before", "after", "from", "about", "for", ""])
    tail = rng.choice(
        [""] * 12 + [" sharp", " on the dot", " or so", " or thereabouts", " exactly"]
    )
    return When(f"{lead} {said}{tail}".strip(), (plain,), said)


def open_clock(rng: Random) -> When:
    """A clock time that could be morning or evening: it has no plain time."""
    hour, minute = rng.randint(1, 12), pick_minute(rng)
    minute = 30 if hour == 12 and minute == 0 else minute
    said = face(rng, hour, minute)
    lead = rng.choice(["at"] * 10 + ["@", "by", "around", "before", "after", "about", "from"])
    return When(f"{lead} {said}{rng.choice([''] * 9 + ['ish', ' sharp'])}", (), said)
