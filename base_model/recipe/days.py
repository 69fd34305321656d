"""Days, parts of them, periods, and days with their times, as people type and say them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from .clock import figures, pick_minute
from .timewords import PARTS, WEEKDAYS
from .typed import When, ahead, at_exact, exact, face, open_clock, shorten


def day(rng: Random) -> When:
    name = rng.choice(["today", "tomorrow", "tomorrow", "yesterday", "tonight", "last night"])
    if rng.random() < 0.2:
        name = rng.choice(["day after tomorrow", "day before yesterday"])
    past = name in ("yesterday", "last night", "day before yesterday")
    noun = f"the {name}" if name.startswith("day") and rng.random() < 0.7 else name
    if rng.random() < 0.65:
        return When(noun, (name,), noun, past)
    near = ["at some point {}", "sometime {}", "{} at some point", "{} or so", "{} if at all"]
    if past:
        near = ["all of {}", "since {}", "sometime {}", "late {}", "{} i believe", "as of {}"]
    else:
        near += ["by {}", "before {}", "until {}", "from {}", "late {}", "starting {}", "{} latest"]
        near += ["no later than {}", "{} at the latest", "as early as {}", "ideally {}", "for {}"]
    return When(rng.choice(near).format(noun), (name,), past=past)


def day_part(rng: Random) -> When:
    """`tomorrow morning` and its like: one time."""
    head = rng.choice(["tomorrow", "tomorrow", "yesterday", "this"])
    part = rng.choice(PARTS)
    if head == "tomorrow" and rng.random() < 0.25:
        part = "night"
    name = f"{head} {part}"
    forms = [name] * 7 + [f"by {name}", f"early {name}", f"late {name}", f"sometime {name}"]
    if head == "this":
        forms += [f"later {name}"]
    elif part != "night":
        forms += [f"{head} in the {part}", f"{part} of {head}", f"{head}, in the {part}"]
    text = rng.choice(forms)
    return When(text, (name,), name if text == name else "", head == "yesterday")


def part(rng: Random) -> When:
    name = rng.choice([*PARTS, "night", "noon", "midnight"])
    forms = [f"in the {name}"] * 5 + [f"early in the {name}", f"late in the {name}", name]
    forms += [
        f"in the late {name}",
        f"during the {name}",
        f"mid {name}",
        f"some time in the {name}",
    ]
    if name == "night":
        forms = ["at night", "at night", "during the night", "late at night", "in the night"]
    if name == "noon":
        forms = [
            "at noon",
            "at noon",
            "noon",
            "at midday",
            "by noon",
            "around noon",
            "at high noon",
        ]
        forms += ["12pm", "at 12 pm", "at 12 noon", "@ 12pm", "at twelve noon", "before midday"]
        forms += ["at 12:00 pm", "at 12 p.m.", "twelve pm", "at 12:00pm"]
    if name == "midnight":
        forms = ["at midnight", "midnight", "by midnight", "around midnight", "just after midnight"]
        forms += ["12am", "at 12 am", "at 12 midnight", "at twelve at night", "@ 12am"]
        forms += ["at 12:00 am", "at 00:00", "at 12 a.m.", "twelve am"]
    text = rng.choice(forms)
    return When(text, (name,), name if name in ("noon", "midnight") else "")


def meal(rng: Random) -> When:
    said = {
        "at breakfast": ["at breakfast", "over breakfast", "during breakfast", "at breakfast time"],
        "during lunch": [
            "during lunch",
            "at lunch",
            "over lunch",
            "at lunchtime",
            "in my lunch break",
        ],
        "at dinner": [
            "at dinner",
            "at dinner time",
            "over dinner",
            "during dinner",
            "at dinnertime",
        ],
        "after dinner": [
            "after dinner",
            "after dinner",
            "right after dinner",
            "once dinner is done",
        ],
    }
    plain = rng.choice(list(said))
    return When(rng.choice(said[plain]), (plain,))


def weekday(rng: Random, bare: bool = False) -> When:
    """A weekday of this, the next or the last week; a bare one is the coming one."""
    name = rng.choice(WEEKDAYS)
    draw = rng.random()
    which = "this" if draw < 0.55 else "next" if draw < 0.82 else "last"
    noun = name if which == "this" and rng.random() < 0.75 else f"{which} {name}"
    past = which == "last"
    plain = (f"{which} {name}",)
    if bare or rng.random() < 0.45:
        text = f"on {name}" if noun == name and rng.random() < 0.5 else noun
        return When(text, plain, noun, past)
    forms = {
        "this": ["this coming {}", "the coming {}", "upcoming {}", "this upcoming {}", "{} coming"],
        "next": ["{} next week", "on {} of next week", "the following {}", "next week {}"],
        "last": ["this past {}", "the previous {}", "past {}", "previous {}", "{} last week"],
    }[which]
    forms += {
        "this": ["by {}", "from {}", "before {}", "{} this week", "the {} of this week", "come {}"],
        "next": ["the {} of next week", "next week on {}", "by next {}", "the {} after this one"],
        "last": ["on {} of last week", "since last {}", "last week on {}", "all of last {}"],
    }[which]
    return When(rng.choice(forms).format(name), plain, noun, past)


def weekday_part(rng: Random) -> When:
    """`friday morning`: the day and the part are two times."""
    on, part_ = weekday(rng, bare=True), rng.choice([*PARTS, "night"])
    if part_ != "night" and rng.random() < 0.2:
        return When(f"{on.text} in the {part_}", (*on.plain, part_), past=on.past)
    return When(f"{on.text} {part_}", (*on.plain, part_), f"{on.noun} {part_}", on.past)


def period(rng: Random) -> When:
    unit = rng.choice(["week", "weekend", "weekend", "month", "year"])
    which = rng.choice(["this", "next", "next", "last"])
    name = f"{which} {unit}"
    if rng.random() < 0.5:
        return When(name, (name,), name, which == "last")
    forms = {
        "this": ["later {n}", "by the end of {n}", "the current {u}", "sometime {n}", "all {n}"],
        "next": ["the following {u}", "early {n}", "at the start of {n}", "sometime {n}", "by {n}"],
        "last": ["the previous {u}", "this past {u}", "the past {u}", "over {n}", "during {n}"],
    }[which]
    if which == "next" and unit != "weekend":  # the coming weekend is this one
        forms += ["the coming {u}", "the upcoming {u}"]
    if name == "this weekend":
        forms += ["at the {u}", "on the {u}", "over the {u}", "the coming {u}", "this coming {u}"]
        forms += ["the upcoming {u}", "upcoming {u}", "for the {u}", "by the {u}", "the {u}"]
    forms += ["in the middle of {n}", "towards the end of {n}", "for all of {n}"]
    return When(rng.choice(forms).format(n=name, u=unit), (name,), past=which == "last")


def beside_part(rng: Random) -> When:
    """A time that the part of a day beside it makes clear: `half 7 tonight`."""
    draw = rng.random()
    if draw < 0.35:
        on, part_ = replace(day(rng), text="tonight", plain=("tonight",), past=False), "night"
        if rng.random() < 0.2:
            on = When("last night", ("last night",), past=True)
    elif draw < 0.7:
        on = day_part(rng)
        on = replace(on, text=on.plain[0])
        part_ = on.plain[0].rsplit(" ", 1)[-1]
    else:
        on = weekday_part(rng)
        on = replace(on, text=on.noun or on.text)
        part_ = on.plain[-1]
        if not on.noun:
            return on
    low, high = {"morning": (5, 11), "afternoon": (1, 5), "evening": (5, 9), "night": (7, 11)}[
        part_
    ]
    hour, minute = rng.randint(low, high), pick_minute(rng)
    said, plain = (
        face(rng, hour, minute),
        figures(hour, minute, "am" if part_ == "morning" else "pm"),
    )
    order = rng.random()
    if order < 0.55:
        at = rng.choice(["at ", "at ", "at ", "@ ", "around ", ""])
        return When(f"{on.text} {at}{said}", (*on.plain, plain), past=on.past)
    return When(
        f"{rng.choice(['at ', 'at ', ''])}{said} {on.text}", (plain, *on.plain), past=on.past
    )


def any_day(rng: Random) -> When:
    """A day without hours of its own."""
    while True:
        said = weekday(rng, bare=True) if rng.random() < 0.5 else day(rng)
        if "night" not in said.plain[0]:
            return said


def day_and_clock(rng: Random) -> When:
    """A day with a time, a meal, noon, or with a time that stays open: in either order."""
    on = any_day(rng)
    if rng.random() < 0.12:
        on = ahead(rng)
        while "minutes" in on.plain[0]:
            on = ahead(rng)
    draw = rng.random()
    if draw < 0.55:
        time = at_exact(rng)
    elif draw < 0.72:
        time = open_clock(rng)
    elif draw < 0.85:
        time = rng.choice([meal, part])(rng)
    else:
        first, second = exact(rng), exact(rng)
        if first[1] == second[1]:
            return on
        form = rng.choice(["from {} to {}", "between {} and {}", "{} to {}", "from {} until {}"])
        time = When(form.format(first[0], second[0]), (first[1], second[1]))
    if draw < 0.55 and rng.random() < 0.3:
        time = replace(time, text=time.noun)
    if rng.random() < 0.62:
        return When(f"{on.text} {time.text}", on.plain + time.plain, past=on.past)
    return When(f"{time.text} {on.text}", time.plain + on.plain, past=on.past)


SINGLE = (
    (day, 10),
    (day_part, 9),
    (part, 7),
    (meal, 5),
    (weekday, 15),
    (period, 11),
    (ahead, 19),
    (at_exact, 17),
)
JOINT = ((weekday_part, 6), (beside_part, 10), (day_and_clock, 14))


def when(rng: Random, joint: float = 0.3) -> When:
    """Anything that says when, often abbreviated."""
    table = JOINT if rng.random() < joint else SINGLE
    said = rng.choices([maker for maker, _ in table], [weight for _, weight in table])[0](rng)
    if len(set(said.plain)) != len(said.plain):
        return when(rng, joint)
    if rng.random() < 0.22:
        return replace(said, text=shorten(rng, said.text), noun=shorten(rng, said.noun))
    return said
