"""A command as people type it -> the same command as a speech recogniser hands it over.

Only what holds in every context is rewritten here: what a spelling stands for (tmrw, 3:15p, 13h15),
never what a sentence means. Addresses, versions, codes and dates in figures are not touched.
"""

from __future__ import annotations

import re
import unicodedata

from livery.skills.date_keys.amounts import add_up
from livery.skills.date_keys.clocks import tell_times
from livery.skills.date_keys.numbers import ONES
from livery.skills.date_keys.spellings import SHORT_DAY, WEEKDAYS, spell_out
from livery.skills.date_keys.synonyms import plainest

_WORDS = (
    "half quarter oh today tomorrow tonight yesterday morning afternoon evening night noon midnight"
    " week weekend month year day days hour hours minute minutes weeks months years fortnight ish "
    "past mid early late next last this after before to of am pm"
).split()
_TIMES = "|".join((*ONES[1:], "twenty", "thirty", "forty", "fifty", *WEEKDAYS, *_WORDS))
_UNITS = "hour|hr|minute|min|day|week|month|year|second|sec|night"

_PUNCTUATION: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"[\"\u201c-\u201f\u00ab\u00bb\u2039\u203a(){}\[\]<>*_|]", " "),
        (r"(?<!\w)'|(?<![so])'(?!\w)|'(?=[.,!?;:]|$)", " "),
        (r"(?<!\S)@ ?(?=\S)|(?<=\w) ?@(?= )", " at "),  # "@ 3 pm" and "@3pm", never an address
        (r"(?<=[a-z])@(?=\d{1,2}(?::\d\d)? ?[ap]?m?(?![\w.:]))", " at "),  # "tmrw@8am"
        (r"(?<!\S)~ ?(?=\d)", "around "),
        (r"\bat at\b", "at"),
        (rf"(?<![\w'])({SHORT_DAY})\.? *- *(?={SHORT_DAY}(?![\w']))", r"\1-"),  # "Mon. - Fri."
        (r"(?<=[ap]m)[,;](?=\d)", " "),  # "8am,9am"
        (r"(?<=[ap]m)/(?=\d{1,2}(?::\d\d)? ?[ap]m)", " or "),
        (r"\b(\d{1,2});(?=[0-5]\d ?[ap]\.?m)", r"\1:"),  # a slip: "7;30pm"
        (r"\bhalf-(?=\d)", "half "),
        (r"\.{2,}|[!?]+", " "),
        (r"[,;:]+(?=\s|$)|(?<=[a-z])[,;](?=[a-z])", " "),
        (r"(\d:\d\d|\d ?[ap]\.?m\.?) +- +(?=\d|noon\b|midnight\b)", r"\1-"),  # "10:00 - 11:30"
        (r"(?<![\w.,:/-])(\d{1,2}) +- +(?=\d{1,2}(?::\d\d)? ?[ap]\.?m\b)", r"\1-"),  # "5 - 7 pm"
        (r"(?<!\S)[-+/\\.,;:=~^]+(?!\S)", " "),  # a dash on its own
        (r"(?<=[a-z0-9]) & (?=[a-z0-9])", " and "),
        (r"\.(?=\s|$)", " "),
        (rf"\b({_TIMES})-(?=(?:{_TIMES})\b)", r"\1 "),  # "five-thirty", "mid-morning"
        (rf"(?<![\w-])(\d+)-(?=(?:{_UNITS})s?\b)", r"\1 "),  # "2-day"
        (r"\s+", " "),
    )
)

# Without any of these, no rule above or below has anything to do: "i'm" and "7:30" are left alone.
_MARKED = re.compile(r"[^a-z0-9 ':]|(?<![a-z])'|'(?![a-z])|(?<!\d):|:(?!\d)|\bat at\b|  |v\d")

# Of a site or a mailbox: "today" in sam@today.com is none, and the model reads a word instead.
_ADDRESS = (
    r"[a-z][a-z+.-]*://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.-]*\w|"
    r"(?:[\w-]+\.)+(?:com|org|net|io|dev|app|ai|edu|gov|info|co\.uk|de|fr|eu)(?:[/:?]\S*)?(?!\w)"
)
_IS_ADDRESS = re.compile(_ADDRESS)
# Names of things on machines, dates and long numbers: nothing in them is a time of the day.
_OPAQUE = re.compile(
    r"(?<![^\s(<\[])(?:"
    rf"{_ADDRESS}|"
    r"v?\d+(?:\.\d+){2,}\S*|v\d+(?:\.\d+)?(?![^\s,;!?)])|"
    r"\d{4}-\d\d?-\d\d?\S*|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}(?!\S)|"
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|"
    r"(?:~/|\./|/)[\w./-]+|#\S+"
    r")"
)
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4"}
# They wait in private-use characters, which no text keeps (see `_characters`).
_SHELTER, _SHELTERED_MOST = 0xE000, 6_400
# No rule undoes another, so a few rounds settle every text; the bound is for what nobody foresaw.
_MOST_ROUNDS = 50


def normalise(text: str) -> str:
    """A command as a recogniser hands it over: lower case, no punctuation between words, spellings
    and clocks in one form ("Call Bob Tmrw @ 3P, please!" -> "call bob tomorrow at 3 pm please").

    The model only ever sees this, in training, evaluation and use alike, so that how somebody types
    costs nothing. Normalising twice changes nothing more.
    """
    text, before = _characters(text), ""
    for _ in range(_MOST_ROUNDS):  # what one rule leaves may be another's to mend: 'soon?".'
        before, text = text, _mended(text)
        if text == before:
            break
    return text


def _mended(text: str) -> str:
    """`text` after each rule once, with its opaque tokens as they were."""
    kept: list[str] = []

    def shelter(match: re.Match[str]) -> str:
        token = match[0].rstrip(".,;:!?)>]'")
        if not _OPAQUE.fullmatch(token) or len(kept) == _SHELTERED_MOST:
            return match[0]
        kept.append("link" if _IS_ADDRESS.fullmatch(token) else token)
        return chr(_SHELTER + len(kept) - 1) + match[0][len(token) :]

    if _MARKED.search(text):
        text = _OPAQUE.sub(shelter, text)
        for pattern, plain in _PUNCTUATION:
            text = pattern.sub(plain, text)
    text = add_up(tell_times(plainest(spell_out(text.strip()))))
    if not kept:
        return text.strip()
    return "".join(
        kept[ord(c) - _SHELTER] if _SHELTER <= ord(c) < _SHELTER + len(kept) else c for c in text
    ).strip()


def _characters(text: str) -> str:
    """Lower case, plain quotes, dashes and spaces; no emoji, nothing invisible."""
    if text.isascii() and text.isprintable():
        return re.sub(r" +", " ", text.lower().replace("`", "'")).strip()
    text = re.sub(r"[\u2018\u2019\u02bc\u00b4`]", "'", text)
    text = re.sub(r"[\u2014\u2015]", " - ", text)
    text = re.sub("[\u00bc\u00bd\u00be]", lambda m: f" {_FRACTIONS[m[0]]}", text)
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"[\u2010-\u2013\u2212]", "-", text)
    kept: list[str] = []
    for letter in text:
        category = unicodedata.category(letter)
        if (category == "So" and letter != "°") or category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category in ("Cf", "Co", "Cs", "Cn", "Me") or "\ufe00" <= letter <= "\ufe0f":
            continue  # invisible, private or a variant of the sign before
        elif not "\U0001f3fb" <= letter <= "\U0001f3ff":  # skin tones
            kept.append(letter)
    return re.sub(r"\s+", " ", "".join(kept)).strip()
