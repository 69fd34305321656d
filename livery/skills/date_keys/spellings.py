"""Abbreviations and misspellings of time words -> the words, in lower-case text without commas.

Most stand for one word wherever they are (tmrw, thurs, hrs). Where one could be another word
("sat", "sun", "wed", "mon", "min", "hr"), a neighbour must settle it; without one it stays, for the
model to read with the whole sentence.
"""

from __future__ import annotations

import re

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_SPELLINGS = {
    "today": "2day todai tday toady",
    "tomorrow": "tmr tmrw tmrrw tmmrw tmoro tmw tmro tmrow tomo tomoz tomoro tomrw 2moro 2mro 2moz "
    "2morro 2morrow 2mrw tommorow tommorrow tomorow tomorro tommorro tomarrow tomrrow tomorrw "
    "tommorw",
    "tonight": "2nite 2night 2nyt 2nyte tnite tonit tonite tonigt tonihgt tonght",
    "yesterday": "yest yday ystrday ystdy yesturday yesteday yesterdy yestarday yestrday",
    "weekend": "wknd wkend weeknd weekned week-end",
    "end of day": "eod",
    "weekends": "wknds wkends week-ends",
    "week": "wk",
    "weeks": "wks",
    "month": "mth mnth",
    "months": "mths mnths",
    "year": "yr",
    "years": "yrs",
    "hours": "hrs",
    "minutes": "mins mintues minutues",
    "seconds": "secs",
    "morning": "morn mornin mrng moring mornign",
    "afternoon": "arvo aftn afternn aftrnoon afternon",
    "evening": "evng evenin evning",
    "night": "nite",
    "midnight": "midnite",
    "next": "nxt",
    "monday": "mond mondy",
    "tuesday": "tue tues tuesd teusday tuesdy",
    "wednesday": "weds wednes wednesd wensday wednsday wedensday wendsday",
    "thursday": "thu thur thurs thursd thrusday thursdy thursay",
    "friday": "fri frid firday friady fridy",
    "saturday": "saturd saterday satuday saturdy",
    "sunday": "sund sundy",
}
_PLAIN = {short: word for word, every in _SPELLINGS.items() for short in every.split()}
_UNSURE = {"mon": "monday", "wed": "wednesday", "sat": "saturday", "sun": "sunday"}
_DAYS = frozenset((*WEEKDAYS, *_UNSURE))

_PARTS = frozenset(
    "morning afternoon evening night noon midday midnight lunch lunchtime brunch".split()
)
_SHORT_DAYS = (*_UNSURE, *(short for day in WEEKDAYS for short in _SPELLINGS[day].split()))
SHORT_DAY = rf"(?:{'|'.join(_SHORT_DAYS)})"
_DAYISH = rf"(?:{'|'.join((*WEEKDAYS, 'today', 'tomorrow', 'tmrw', *_SHORT_DAYS))})"
_BETWEEN_DAYS = re.compile(
    rf"(?<![\w'])({_DAYISH})(?: ?([-/&+,]) ?| (thru) )(?={_DAYISH}(?![\w']))"
)
# A word that a recogniser or a thumb has split, and that nobody means as two.
_SPLIT = re.compile(
    r"(?<![\w'])(?:(mon|tues|wednes|thurs|fri|satur|sun) (day)|(yester) (day)|(to) (morrow)|"
    r"(mid) (day|night)|(even) (ing)|(fort) (night))(?=s?(?![\w]))"
)
_JOINS = {"-": "to", "/": "or", "&": "and", "+": "and", ",": "", "thru": "through"}

# Before these, "sat" and its like are days: "next mon", "on wed".
_LEADS = frozenset(
    "next this last on by until till til coming upcoming previous past following every each come "
    "since starting".split()
)
# "on sat nav", "last sat down", "next sun lounger": after these they are not.
_NOT_DAYS = frozenset(
    "nav navs down up in on there here still quietly alone outside next beside with screen cream "
    "rise set roof roofs hat hats tan light lounger loungers dried bed beds shine rays dress king "
    "dance myung jovi ami amour dieu".split()
)
_SITTERS = frozenset("i he she we you they it who that which the dog cat people everyone".split())
_BETWEEN = frozenset(("or", "and", "to", "through", "until", "till", "vs"))
_ISOLATED = re.compile(r"\d{1,2}(?::\d\d)?(?:am|pm|a|p)?|noon|midnight")
_TIME = re.compile(r"\d{1,2}(?::\d\d|\.\d\d)?[ap]m?|\d{1,2}:\d\d|noon")
_HOUR = re.compile(r"\d{1,2}")

# "b4 noon", where nothing before makes it a seat or a room.
_BEFORE_WHAT = re.compile(
    r"\d{1,2}(?:[ap]m?|[:.]\d\d\w*)?|noon|midnight|lunch|dinner|breakfast|bed|bedtime|today|"
    rf"yesterday|tomorrow|tonight|the|my|i|we|you|he|she|they|{'|'.join(WEEKDAYS)}"
)
_THINGS = frozenset(
    "room gate seat row block bay unit flat level page size vitamin platform section door building "
    "exit track form table stand bus in of the a".split()
)

_NUMBER = re.compile(r"\d+(?:\.\d+)?|half|an?|one|two|three|four|five|ten|fifteen|twenty|thirty")
_UNITS = {
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "minute"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "second"),
    **dict.fromkeys(("hr", "hrs"), "hour"),
    **dict.fromkeys(("mo", "mos"), "month"),
}
# Words whose letters people draw out: "tomorrooow".
_DRAWN = frozenset(
    "today tomorrow tonight yesterday week weekend month year next last soon now later please hour "
    "hours minutes so hey hi hello thanks ok no yes".split()
).union(WEEKDAYS, _PARTS)
_RUN = re.compile(r"([a-z])\1{2,}")


def spell_out(text: str) -> str:
    """`text` with the words that its abbreviations stand for; words are split by one space."""
    text = _SPLIT.sub(lambda m: m[0].replace(" ", ""), text)
    text = _BETWEEN_DAYS.sub(lambda m: f"{m[1]} {_JOINS[m[2] or m[3]]} ".replace("  ", " "), text)
    words = text.split(" ")
    if _RUN.search(text):
        words = [_undrawn(word) for word in words]
    words = [_plain(word) for word in words]
    for place, word in enumerate(words):
        bare = word.removesuffix("'s")
        if bare in _UNSURE:
            if (word != bare and bare != "sun") or _is_day(
                bare, words[max(place - 2, 0) : place], words[place + 1 : place + 3]
            ):
                words[place] = _UNSURE[bare] + word[len(bare) :]
        elif word == "b4":
            after = words[place + 1] if place + 1 < len(words) else ""
            if _BEFORE_WHAT.fullmatch(after) and not (place and words[place - 1] in _THINGS):
                words[place] = "before"
        elif word in _UNITS and word not in ("second", "minute"):
            before = words[place - 1] if place else ""
            if not _NUMBER.fullmatch(before):
                continue
            after = words[place + 1] if place + 1 < len(words) else ""
            one = before in ("1", "a", "an", "one", "half") or after in ("timer", "walk", "drive")
            words[place] = _UNITS[word] + ("" if one else "s")
            if before == "a" and words[place] == "hour":
                words[place - 1] = "an"
    return " ".join(words)


def _undrawn(word: str) -> str:
    """ "tomorrooow" -> "tomorrow"; what no word of time comes of stays."""
    shorter = {_RUN.sub(r"\1", word), _RUN.sub(r"\1\1", word)}
    return min(shorter & _DRAWN, default=word)


def _plain(word: str) -> str:
    """One word, if it needs no neighbour."""
    bare = word.removesuffix("'s")
    return _PLAIN.get(bare, bare) + word[len(bare) :]


def _is_day(word: str, earlier: list[str], rest: list[str]) -> bool:
    """Whether "mon", "wed", "sat" or "sun" is a day, between two words before and two after."""
    before, after = earlier[-1] if earlier else "", rest[0] if rest else ""
    if not before and not after:
        return True
    if after in _NOT_DAYS or (before in _SITTERS and word in ("sat", "wed")):
        return False
    if before == "the" and word == "sun":
        return False
    if after in _PARTS or before in _DAYS or after in _DAYS:
        return True
    if before in _BETWEEN and earlier[0] in _DAYS:
        return True
    beyond = rest[1] if len(rest) > 1 else ""
    if after in _BETWEEN and beyond in _DAYS:
        return True
    if after in ("at", "@", "by", "around") and _ISOLATED.fullmatch(beyond):
        return True
    if _TIME.fullmatch(after):
        return True
    if _HOUR.fullmatch(after) and beyond in ("am", "pm", "o'clock", "in"):
        return True
    if before in _LEADS and (word != "sun" or before != "past"):
        return True
    return word == "mon" and not after
