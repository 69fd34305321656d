"""What a recogniser and a hesitant speaker do to a sentence."""

from __future__ import annotations

import re

from datagen.date_keys.said import Source

_OPENERS = (
    *("um", "uh", "er", "erm", "hey", "ok", "okay", "so", "right", "well", "please", "hi", "oh"),
    *("can you", "could you", "would you", "can you please", "could you please", "i'd like you to"),
    *("jarvis", "hey jarvis", "ok jarvis", "please jarvis", "computer", "alexa", "hey google"),
    *("hey siri", "good morning", "good evening jarvis", "hi jarvis", "note to self", "reminder"),
    *("urgent", "important", "todo", "fyi", "btw", "hey can u", "pls", "listen up", "actually"),
    *(
        "hey can you",
        "um could you",
        "ok so",
        "so um",
        "so like",
        "listen",
        "also",
        "and",
        "quick one",
    ),
    *(
        "i was wondering",
        "just",
        "oh and",
        "hello",
        "alright",
        "yeah",
        "let's see",
        "hmm",
        "uh yeah",
    ),
)
_CLOSERS = (
    *(
        "please",
        "thanks",
        "thank you",
        "ok",
        "okay",
        "will you",
        "would you",
        "if you can",
        "cheers",
    ),
    *(
        "for me",
        "for me please",
        "right",
        "yeah",
        "i think",
        "or something",
        "then",
        "got it",
        "mate",
    ),
    *("pls", "thx", "asap", "jarvis", "if possible", "thank you jarvis", "have a nice day", "lol"),
    *("good night", "don't forget", "it's important", "thanks a lot", "ok thanks"),
)
_INSIDE = ("um", "uh", "er", "like", "you know", "erm", "i mean", "let me think", "hmm", "well")

# What is said -> what is heard. Each is applied to one place of a sentence.
_SLIPS: dict[str, tuple[str, ...]] = {
    "tomorrow": ("to morrow", "to morrow", "to morrow", "tomorow"),
    "tonight": ("to night", "to night", "tonite"),
    "yesterday": ("yester day",),
    "today": ("to day",),
    "morning": ("mourning", "mourning", "mornin"),
    "evening": ("even ing", "evenin"),
    "afternoon": ("after noon",),
    "night": ("knight",),
    "midnight": ("mid night",),
    "midday": ("mid day",),
    "weekend": ("week end",),
    "week": ("weak",),
    "weeks": ("weaks",),
    "month": ("mouth",),
    "monday": ("mon day", "mon day", "munday"),
    "tuesday": ("tues day", "tues day", "chewsday"),
    "wednesday": ("wednes day", "wens day", "wensday"),
    "thursday": ("thurs day",),
    "friday": ("fri day",),
    "saturday": ("satur day",),
    "sunday": ("sun day",),
    "minutes": ("minuets", "minuets", "mins"),
    "hours": ("ours",),
    "hour": ("our",),
    "past": ("passed",),
    "quarter": ("quater",),
    "fortnight": ("fort night", "fortnite"),
    "days": ("daze",),
    "breakfast": ("break fast",),
    "dinner": ("diner",),
    "eight": ("ate",),
    "four": ("for",),
    "two": ("too", "to"),
    "one": ("won",),
    "six": ("sicks",),
}
_STUTTERED = frozenset(
    ("i", "the", "a", "to", "at", "on", "in", "and", "for", "my", "is", "it's", "what's", "can")
)
# Misheard here, a number would change what is said.
_SPOILS = re.compile(r"\b(?:half|to|past|after) (?:two|four|one)\b|\bfor (?:two|four)\b")


def roughen(source: Source, text: str, slips: float = 0.22) -> str:
    """Fillers, politeness and now and then a slip; the meaning stays."""
    if source.chance(slips):
        text = slip(source, text)
    hesitates = 0.08
    while source.chance(hesitates):
        words = text.split(" ")
        where = source.rng.randrange(1, len(words)) if len(words) > 1 else 0
        words.insert(where, source.shared(_INSIDE))
        text = " ".join(words)
        hesitates = 0.3
    if source.chance(0.03):
        words = text.split(" ")
        where = source.rng.randrange(len(words))
        if words[where] in _STUTTERED:
            words.insert(where, words[where])
            text = " ".join(words)
    if source.chance(0.15):
        text = f"{source.shared(_OPENERS)} {text}"
    if source.chance(0.08):
        text = f"{text} {source.shared(_CLOSERS)}"
    if "'" in text and source.chance(0.1):
        text = text.replace("'", "")
    return text


def slip(source: Source, text: str) -> str:
    """Mishear one word that tells a time, if there is one."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word in _SLIPS]
    if not places:
        return text
    place = source.shared(places)
    if words[place] in ("two", "four", "one") and not _safe(words, place):
        return text
    words[place] = source.shared(_SLIPS[words[place]])
    return " ".join(words)


def _safe(words: list[str], place: int) -> bool:
    """Whether a short number still reads as one when misheard ("for pm", "in to hours")."""
    if _SPOILS.search(" ".join(words[max(place - 1, 0) : place + 1])):
        return False
    after = words[place + 1] if place + 1 < len(words) else ""
    return after in ("pm", "am", "p", "a", "minutes", "hours", "days", "weeks", "o'clock")
