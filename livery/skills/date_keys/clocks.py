"""Clock times and amounts in figures -> the one form that the model reads: "3:15p" -> "3:15 pm",
"13h15" -> "1:15 pm", "17.30" -> "5:30 pm", "12am" -> "midnight", "2h" -> "2 hours".

Figures that could be anything else (a price, a version, a flat) stay, unless a neighbour settles
it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from livery.skills.date_keys.numbers import ONES, TENS
from livery.skills.date_keys.spellings import WEEKDAYS

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_AT = (
    r"(?:at|by|around|about|from|to|until|till|til|before|after|past|since|between|starting|"
    r"today|tomorrow|tonight|yesterday|morning|afternoon|evening|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
)
_DAY = r"(?:on|today|tomorrow|tonight|(?:this|next) \w+|(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
# Nothing before or after that makes a number part of something longer.
_ON = r"(?<![\w.,:/$£€¥#+'-])"
_OFF = r"(?![\w:/%'@$£€]|[.,]\d|-\w)"
_H = r"(?P<h>[01]?\d|2[0-3])"
_LATE = r"(?P<h>0\d|1[3-9]|2[0-3])"
_M = r"(?P<m>[0-5]\d)"
# What is measured in figures and is no hour: "sell it at 17.30 euros".
_MEASURED = (
    r"(?! ?(?:euros?|eur|usd|gbp|dollars?|bucks|pounds?|quid|percent|per|each|degrees|km|kg|miles?|"
    r"metres?|meters?|minutes?|hours?|days?|weeks?|litres?|liters?|grams?|gb|mb|points?|stars?)\b)"
)
# "flat 3a", "gate 5p", "costs 3p": before "3a" and "3p" these say that it is no hour.
_NUMBERED = frozenset(
    "room rm flat apartment apt unit gate platform row seat section suite number no house floor "
    "bus line class grade size version type chapter question step part option exit form block bay "
    "zone route road building tower terminal train figure fig table appendix article vitamin hall "
    "box door lot coach stand level team group track episode series model verse item act scene "
    "plus costs cost only each worth pay paid under over extra times is was a an the of".split()
)
_NAMES_HOUR = frozenset(
    "at by around about from to until till til before after for and or today tomorrow yesterday "
    "monday tuesday wednesday thursday friday saturday sunday alarm flight @".split()
)
# The ends of a span, the first of which says neither am nor pm.
_HOURS = {word: number % 12 for number, word in enumerate(ONES[:13]) if number}
# "half 2 to 4 pm", "twenty five to 6 pm": a number before which these say more than its hour.
_GOES_ON = frozenset((*ONES, *TENS, "half", "past", "after", "to", "oh"))
_HOUR = rf"1[0-2]|[1-9]|{'|'.join(_HOURS)}"
_FIRST = rf"(?P<h>{_HOUR})(?P<m>:[0-5]\d)?"
_MINUTES_TO = "(?!(?:5|10|five|ten) (?:to|till|til) )"  # "ten to four pm" is 3:50
_LAST = rf"(?P<h2>{_HOUR})(?P<m2>:[0-5]\d)? (?P<half>[ap]m)\b(?!')"
_SAYS_DAY = [[day] for day in (*WEEKDAYS, "today", "tomorrow")]
# "quarter to", before a twelve that is then no noon.
_SAID = (
    r"(?P<said>\b(?:half|quarter (?:to|of|till|past|after)|"
    r"(?:\d{1,2}|five|ten|twenty|minutes) (?:to|till|past|after)) )?"
)


def _clock(match: re.Match[str]) -> str:
    """The hour and minute of a match on a 12-hour clock: "15:30" -> "3:30 pm"."""
    hour, parts = int(match["h"]), match.groupdict()
    minute = parts.get("m") or "00"
    text = f"{(hour - 1) % 12 + 1}:{minute} {'pm' if hour >= 12 else 'am'}"
    return (parts.get("at") or "") + text


def _letter(match: re.Match[str]) -> str:
    """ "3p" and "3a" with the word before, where they can be an hour."""
    before, hour, half = match["before"] or "", int(match["h"]), match["half"]
    known = before in _NAMES_HOUR or match.string[match.end() :].split(" ")[1:2] in _SAYS_DAY
    if not 1 <= hour <= 12 or (before in _NUMBERED) or (half == "a" and not known):
        return match[0]
    if half == "p" and not known and match["rest"] and not before:
        return match[0]  # "3p please": threepence at a till as well as an hour
    return f"{before}{' ' if before else ''}{hour} {half}m"


def _by_twelve(match: re.Match[str]) -> str:
    """ "quarter to noon" -> "11:45 am", "half past midnight" -> "12:30 am"."""
    said, before = match["n"], match["side"] in ("to", "before", "till", "of")
    minute = {"quarter": 15, "half": 30, "twenty": 20, "twenty five": 25}.get(said) or int(said)
    if not 0 < minute < 60 or (said == "half" and before):
        return match[0]
    noon = match["twelve"] != "midnight"
    half = "pm" if noon != before else "am"
    return f"11:{60 - minute:02} {half}" if before else f"12:{minute:02} {half}"


def _day_of_24(match: re.Match[str]) -> str:
    """ "9:30 to 15:00": where one end can only be read on 24 hours, so is the other."""
    ends = [(int(match["h"]), int(match["m"])), (int(match["h2"]), int(match["m2"]))]
    full = any(hour.startswith("0") or int(hour) > 12 for hour in (match["h"], match["h2"]))
    if not full or ends[0] >= ends[1]:
        return match[0]
    one, two = (
        f"{(hour - 1) % 12 + 1}:{minute:02} {'pm' if hour >= 12 else 'am'}" for hour, minute in ends
    )
    return f"{one} {match['to']} {two}"


def _span(match: re.Match[str]) -> str:
    """ "2-4 pm" -> "2 pm to 4 pm", "from 9 to 5 pm" -> "from 9 am to 5 pm": a span begins in the
    half of the day that it ends in, unless its first hour is the later one on the clock's face."""
    parts, before = match.groupdict(), match.string[: match.start()].split(" ")
    if not parts.get("lead") and before[-2:-1] and before[-2] in _GOES_ON:
        return match[0]
    first, last = (
        60 * (_HOURS[hour] if hour in _HOURS else int(hour) % 12) + int((minute or ":0")[1:])
        for hour, minute in ((parts["h"], parts["m"]), (parts["h2"], parts["m2"]))
    )
    half = parts["half"] if first < last else {"am": "pm", "pm": "am"}[parts["half"]]
    begin, end = f"{parts['h']}{parts['m'] or ''}", f"{parts['h2']}{parts['m2'] or ''}"
    return (
        f"{parts.get('lead') or ''}{begin} {half} {parts.get('to') or 'to'} {end} {parts['half']}"
    )


def _twelve(match: re.Match[str]) -> str:
    if match["said"]:  # "half 12 pm", "ten to 12 pm"
        return match[0]
    return "noon" if match["half"] in ("pm", "noon") else "midnight"


def _amount(match: re.Match[str]) -> str:
    """ "1h30" -> "1 hour 30 minutes", "2h" -> "2 hours"."""
    hours, minutes = match["n"], match.groupdict().get("m")
    said = f"{hours} {'hour' if hours == '1' else 'hours'}"
    return f"{said} {int(minutes)} minutes" if minutes and int(minutes) else said


def _unit(match: re.Match[str]) -> str:
    """ "5m" -> "5 minutes", "3d" -> "3 days", after "in" or before "from now"."""
    unit = {"m": "minute", "d": "day", "w": "week"}[match["u"]]
    return f"{match['before'] or ''}{match['n']} {unit}{'' if match['n'] == '1' else 's'}"


# Without any of these, no rule below has anything to do.
_HINT = re.compile(
    r"\d|clock|twelve|(?:noon|midday|midnight)\b|noon ?-|- ?noon|in the am\b|"
    r"(?<![a-z'])[ap]\.? ?m\b|  "
)
_SOON = r"(?:from now|later|hence|from today)\b"
_RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(?<![a-z'])([ap])\.? ?m\b(?!')\.?", r"\1m"),  # "p.m.", "p m"
        (r"(?<=\d)([ap]m)(?=ish\b)", r" \1 "),  # "5pmish"
        (r"(?<=\d)([ap]m)\b", r" \1"),  # "3pm"
        (r"(?<![a-z])'?o'? ?clock\b", " o'clock"),
        (r"\bqtr (?=(?:past|to|after|till?)\b)", "quarter "),
        (rf"{_ON}(1[0-2]|[1-9])-(?=(?:0\d|1[3-9]|[2-5]\d) [ap]m\b)", r"\1:"),  # "7-30 pm"
        (r" +", " "),
        (rf"{_ON}(\d{{1,2}})[.h](?=[0-5]\d ?[ap]m?\b)", r"\1:"),  # "8.30pm"
        (rf"{_ON}(\d{{1,2}}:[0-5]\d)([ap]){_OFF}", r"\1 \2m"),  # "3:15p"
        (rf"{_ON}(1[0-2]|[1-9])([0-5]\d) (?=[ap]m\b)", r"\1:\2 "),  # "330 pm"
        (rf"{_ON}(\d{{1,2}}(?::\d\d)?)([ap])(?: ?- ?| to | till | until )"
         rf"(\d{{1,2}}(?::\d\d)?)([ap]){_OFF}", r"\1 \2m to \3 \4m"),  # "9a-5p"
        (rf"(?:(?P<before>(?<!\S)\S+) |^)(?P<h>\d{{1,2}})(?P<half>[ap]){_OFF}(?P<rest>(?= \S)|$)",
         _letter),
        (r"(?<=\d) in the ([ap]m)\b", r" \1"),
        (r"\bin the am\b", "in the morning"),
        # From nine in the morning to five: "9 am-5 pm", "9-5 pm", "9:00-17:00", "from 2 to 4 pm".
        (r"(?:(?<=[ap]m)|(?<=noon)) ?- ?(?=\d|noon|midnight)", " to "),
        (rf"{_ON}{_FIRST} ?- ?{_LAST}", _span),
        (rf"\b(?P<lead>from |between ){_MINUTES_TO}{_FIRST} "
         rf"(?P<to>to|until|till|til|through|and) {_LAST}", _span),
        (rf"{_ON}{_MINUTES_TO}{_FIRST} (?P<to>to|until|till|til) {_LAST}", _span),
        (rf"{_ON}(\d{{1,2}}:\d\d) ?- ?(?=\d{{1,2}}:\d\d(?![\w:.-]))", r"\1 to "),
        (rf"{_ON}{_H}:{_M} (?P<to>to|until|till|til|and) (?P<h2>[01]?\d|2[0-3]):(?P<m2>[0-5]\d)"
         rf"{_OFF}(?! ?[ap]m\b)", _day_of_24),
        (r"(?:^|(?<=\bat )|(?<=\bby )|(?<=\baround )|(?<=\babout )|(?<=\buntil ))"
         r"(1[0-2]|[1-9])([0-5]\d)(?= (?:(?:in the|this|tomorrow) (?:morning|afternoon|evening)|"
         r"at night|tonight)\b)", r"\1:\2"),
        # Twenty-four hours: "0730 hours", "13h15", "15h", "17.30", "15:30".
        (rf"{_ON}(?P<h>[01]\d|2[0-3]){_M} ?(?:hours|hrs|h)\b", _clock),
        (rf"\b(?P<at>{_AT} )(?P<h>0\d){_M}{_OFF}", _clock),
        (rf"\b(?P<at>(?:at|by|until|till|from) )(?P<h>1[3-9]|2[0-3]){_M}(?=$| {_DAY}\b)", _clock),
        (rf"(?<!\bin )\b(?P<at>{_AT} ){_H} ?h ?{_M}\b{_OFF}", _clock),
        (rf"(?<!\bin )(?<!\bfor )(?<!other ){_ON}{_LATE}h{_M}\b{_OFF}", _clock),
        (rf"(?<!\bin )\b(?P<at>{_AT} ){_H} ?h\b{_OFF}(?! (?:{_SOON}|ago|of|long|\d))",
         _clock),
        (rf"{_ON}(?P<h>1[3-9]|2[0-3])h(?= {_DAY})", _clock),
        (r"^(?P<h>1[3-9]|2[0-3])h\b(?! (?:from|later|hence|ago|of|long|shift|\d))", _clock),
        (rf"\b(?P<at>{_AT} ){_LATE}\.{_M}{_OFF}{_MEASURED}", _clock),
        (rf"\b(?P<at>{_AT} )(?P<h>0):{_M}{_OFF}", _clock),
        (rf"{_ON}0(?=\d:[0-5]\d ?[ap]m\b)", ""),  # "09:30 pm"
        (rf"{_ON}1/([24]) (?=(?:to|past|after|of|till) (?:\d|noon|mid))",
         lambda m: "half " if m[1] == "2" else "quarter "),
        (rf"{_ON}(?P<h>1[3-9]|2[0-3]) o'clock\b", _clock),
        (r"\b(?:a )?(?P<n>quarter|half|twenty(?: five)?|1[3-9]|[2-5]\d|\d{1,2}(?= min))"
         r"(?: min(?:ute)?s?)? (?P<side>to|before|till|of|past|after) "
         r"(?P<twelve>noon|midday|midnight)\b(?!')", _by_twelve),
        (rf"{_ON}{_LATE}[.:]{_M}(?:(?<=:\d\d) ?hrs|(?<=:\d\d) hours| ?h| ?uhr)\b", _clock),
        (rf"{_ON}{_LATE}:{_M}{_OFF}(?! ?[ap]m\b)", _clock),
        (rf"{_ON}(\d{{1,2}}):00 (?=[ap]m\b)", r"\1 "),
        # 12 am is midnight and 12 pm noon; "half 12 pm" and "ten to 12 pm" are other times.
        (rf"{_SAID}{_ON}(?:12|twelve)(?: [ap]m)? (?P<half>noon|midnight)\b", _twelve),
        (rf"{_SAID}{_ON}(?:12|twelve) (?P<half>[ap]m)\b(?!')", _twelve),
        # Amounts.
        (rf"{_ON}(\d),(?=\d ?(?:h|hrs?|hours?)\b)", r"\1."),
        (rf"{_ON}(\d+) 1/2 (?=(?:hours?|days?|weeks?)\b)", r"\1.5 "),
        (rf"{_ON}1/2 ?(?:an? )?(?:h|hrs?|hours?)\b", "half an hour"),
        (rf"{_ON}1/4 ?(?:(?:of )?an? )?(?:h|hrs?|hours?)\b", "a quarter of an hour"),
        (rf"{_ON}3/4 ?(?:(?:of )?an? )?(?:h|hrs?|hours?)\b", "three quarters of an hour"),
        (rf"{_ON}(?P<n>\d{{1,2}}) ?h ?(?P<m>[0-5]?\d) ?(?:m|mins?|minutes)?\b{_OFF}", _amount),
        (rf"{_ON}(?P<n>\d{{1,2}}) ?hrs?(?P<m>[0-5]\d) ?(?:m|mins?|minutes)?\b{_OFF}", _amount),
        (rf"{_ON}(?P<n>\d{{1,3}}(?:\.\d)?) ?(?:h|hr|hrs)\b{_OFF}", _amount),
        (rf"{_ON}(?P<n>\d+) ?(?=(?:min|mins|minutes|hours?|secs?|seconds|days?|weeks?)\b)",
         r"\g<n> "),
        (rf"(?P<before>\b(?:in|another) ){_ON}(?P<n>\d{{1,3}}) ?(?P<u>[mdw])\b{_OFF}", _unit),
        (rf"(?P<before>hours? ){_ON}(?P<n>[0-5]?\d) ?(?P<u>m)\b{_OFF}", _unit),
        (rf"(?P<before>){_ON}(?P<n>\d{{1,3}}) ?(?P<u>[mdw]) (?={_SOON})",
         lambda m: f"{_unit(m)} "),
    )
)  # fmt: skip


def tell_times(text: str) -> str:
    """`text`, lower case without commas, with its clock times and amounts in one form."""
    if not _HINT.search(text):
        return text
    for pattern, plain in _RULES:
        text = pattern.sub(plain, text)
    return text
