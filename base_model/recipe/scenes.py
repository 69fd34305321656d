"""Commands, questions and remarks that carry times, for the third course: short and rambling ones.

A sentence is put together from frames (`{w}` says when, `{n}` is a time as a noun), and frames from
tasks, things and people, so that the ways in which several times stand in one are their products.
"""

from __future__ import annotations

import re
from random import Random

from .carriers import FILLERS, OPENERS, clause, deed, question, remark
from .days import any_day, period, weekday, when
from .idle import appointment, dosed, idle
from .pools import POOLS
from .typed import When, at_exact
from .words import LOWER_NAMES, NOUNS, PLACES, VERBS, thing

JOINS = ("and",) * 3 + ("then", "and then", "but", "also", "and also", "plus", "so", ", ", ". ", "")
_SLOT = re.compile(r"\{(\w+)\}")


def fill(rng: Random, frame: str) -> str:
    """Every slot of `frame` but those for times."""

    def slot(found: re.Match[str]) -> str:
        name = found[1]
        if name in ("w", "n", "a", "b"):
            return found[0]
        pools = {
            "t": POOLS["tasks"],
            "e": POOLS["events"],
            "c": POOLS["commands"],
            "why": POOLS["why"],
            "song": POOLS["names"],
        }
        if name in pools:
            return fill(rng, rng.choice(pools[name]))
        if name == "x":
            return thing(rng) if rng.random() < 0.3 else rng.choice(NOUNS)
        if name == "num":
            return str(rng.randint(2, 90))
        return rng.choice({"who": LOWER_NAMES, "place": PLACES, "v": VERBS}[name]).lower()

    return _SLOT.sub(slot, frame)


def one(rng: Random, said: When) -> str:
    """A clause around one time."""
    draw = rng.random()
    if draw < 0.16:
        return clause(rng, said.text)
    if said.past and draw < 0.7:
        return fill(rng, rng.choice(POOLS["past"])).replace("{w}", said.text)
    if said.noun and said.plain and draw < 0.3:
        return fill(rng, rng.choice(POOLS["nouns"])).replace("{n}", said.noun)
    return fill(rng, rng.choice(POOLS["frames"])).replace("{w}", said.text)


def two(rng: Random, first: When, second: When) -> str:
    """One clause around two times."""
    if first.noun and second.noun and rng.random() < 0.5:
        return (
            fill(rng, rng.choice(POOLS["noun pairs"]))
            .replace("{a}", first.noun)
            .replace("{b}", second.noun)
        )
    return (
        fill(rng, rng.choice(POOLS["pairs"])).replace("{a}", first.text).replace("{b}", second.text)
    )


def listed(rng: Random) -> tuple[str, tuple[str, ...]]:
    """Several times of a kind at once: `monday, tuesday or friday`."""
    kind = rng.choice([lambda r: weekday(r, bare=True), any_day, at_exact, period, when])
    said = [kind(rng) for _ in range(rng.choice([2, 2, 3, 3, 4]))]
    texts = [s.noun or s.text for s in said]
    last = rng.choice([" and ", " or ", " and ", ", "])
    joined = ", ".join(texts[:-1]) + last + texts[-1]
    if len(said) == 2:
        joined = rng.choice([f"{texts[0]}{last}{texts[1]}", f"{texts[0]}/{texts[1]}"])
    text = fill(rng, rng.choice(POOLS["frames"])).replace("{w}", joined)
    return text, tuple(p for s in said for p in s.plain)


def aside(rng: Random) -> str:
    """A clause that names no time, though it may sound as if it did."""
    draw = rng.random()
    if draw < 0.3:
        return fill(rng, rng.choice(POOLS["asides"]))
    if draw < 0.42:
        while (text := deed(rng)).startswith("play some jazz"):
            pass  # a validation case
        return text
    if draw < 0.5:
        return (question(rng) if rng.random() < 0.5 else remark(rng)).replace(" {}", "")
    if draw < 0.6:
        return fill(rng, f"{rng.choice(['cancel', 'skip', 'confirm', 'join'])} {appointment(rng)}")
    return fill(rng, rng.choice(POOLS["frames"])).replace("{w}", idle(rng).text)


def owned(rng: Random, said: When) -> str:
    """A time as an owner: `tomorrow's call`."""
    mark = rng.choice(["'s", "'s", "s"])
    form = rng.choice(["cancel {n} {e}", "what's on {n} list", "move {n} {e}", "is {n} {e} on"])
    return fill(rng, form).replace("{n}", f"{said.noun}{mark}")


def sentence(rng: Random) -> tuple[str, list[str]]:
    """A command as somebody types or says it, and its plain times in order of mention."""
    parts: list[str] = []
    plain: list[str] = []
    count = rng.choices([0, 1, 2, 3, 4], [22, 38, 27, 10, 3])[0]
    if count == 1 and rng.random() < 0.12:
        said = any_day(rng)
        if said.noun:
            parts, plain, count = [owned(rng, said)], list(said.plain), 0
    while count > 0:
        draw = rng.random()
        if count >= 2 and draw < 0.22:
            text, times = listed(rng)
            count -= len(times)
        elif count >= 2 and draw < 0.55:
            first, second = when(rng, 0.2), when(rng, 0.25)
            text, times = two(rng, first, second), first.plain + second.plain
            count -= 2
        else:
            said = dosed(rng) if rng.random() < 0.05 else when(rng)
            text, times = one(rng, said), said.plain
            if rng.random() < 0.1:
                text = f"{text} {idle(rng).text}"
            count -= 1
        parts.append(text)
        plain += times
    if not parts or rng.random() < 0.17:
        parts.insert(rng.randint(0, len(parts)), aside(rng))
    plain = list(dict.fromkeys(plain))  # each is listed once
    if len(plain) > 7:
        return sentence(rng)
    text = parts[0]
    for more in parts[1:]:
        join = rng.choice(JOINS)
        text += (join if join in (", ", ". ") else f" {join} ") + more
    if rng.random() < 0.2:
        text = f"{rng.choice(OPENERS)} {text}"
    if rng.random() < 0.12:
        text = f"{text} {rng.choice(POOLS['closers'])}"
    if rng.random() < 0.12:
        words = text.split()
        words.insert(rng.randrange(len(words)), rng.choice(FILLERS))
        text = " ".join(words)
    return dress(rng, " ".join(text.split())), plain


_DOT = re.compile(r"[,;!?]+(?=\s|$)|[:.]+(?=\s|$)")
_HALF = re.compile(r"(?<![a-z'])([ap])\.? ?m\b\.?")


def dress(rng: Random, text: str) -> str:
    """As a recogniser writes it (mostly), or as typed: capitals, all caps, marks at the end."""
    draw = rng.random()
    if draw < 0.62:
        heard = _DOT.sub("", _HALF.sub(r"\1m", text.lower()))
        return " ".join(re.sub(r"(?<=\d)([ap]m)\b", r" \1", heard).replace("@ ", "at ").split())
    if draw < 0.72:
        return text
    if draw < 0.78:
        return text.upper()
    words = text.split(" ")
    for index, word in enumerate(words):
        if word in LOWER_NAMES or word.rstrip(".,") in _PROPER:
            words[index] = word.capitalize()
    text = " ".join(words)
    return text[:1].upper() + text[1:] + rng.choice([".", ".", "", "!", "?", "...", " :)"])


_PROPER = {
    *"monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun".split(),
    *(place.lower() for place in PLACES),
}
