"""Open names: composed by rule in such numbers that a model can't learn them and has to copy.

    open_word("file", rng, held_out=False)      # Word(said="copper_ladder.csv", written=...)

A name's checksum decides which split has it, so a name of the validation split is never trained on.
What is written of it is what was said; only an app said in lower case is written with capitals.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from datagen.actions.intents import HELD_OUT, POOLS, Word

# Of the words of a slot that has a rule, so many are composed; the others are of words.txt.
OPEN = 0.7

_ONSETS = "b br d dr f fl g gr h j k kl l m n p pl qu r s sk sl st t tr v w z".split()
_VOWELS = "a e i o u a e i o u ai ea io oo".split()
_CODAS = ["", "", "", "", *"n r l x s m t k".split()]


def open_word(slot: str, rng: random.Random, *, held_out: bool) -> Word | None:
    """A composed word of a slot, None for a slot without a rule."""
    rule = RULES.get(slot)
    while rule is not None:
        word = rule(rng)
        key = word.written.casefold().encode()
        if (zlib.crc32(key) % HELD_OUT == 3) == held_out:
            return word
    return None


def _pick(rng: random.Random, pool: str) -> str:
    return rng.choice(POOLS[pool]).said


def _invented(rng: random.Random) -> str:
    """A word that nobody knows and everybody can say: "trealok"."""
    number = rng.choice((2, 2, 2, 3))
    syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(number))
    return "".join(syllables) + rng.choice(_CODAS)


def _stem(rng: random.Random, *, signs: str = "-_") -> str:
    """Of a file, a folder, a branch: "ladder", "copper-ladder", "ladder-v3", "trealok"."""
    noun, sign = _pick(rng, "noun"), rng.choice(signs)
    return rng.choices(
        (
            noun, f"{_pick(rng, 'quality')}{sign}{noun}", f"{noun}{sign}{_pick(rng, 'noun')}",
            f"{noun}{sign}v{rng.randint(2, 9)}", f"{noun}{sign}{rng.randint(1990, 2029)}",
            _invented(rng),
        ),
        (30, 20, 20, 8, 7, 15),
    )[0]  # fmt: skip


def _same(compose: Callable[[random.Random], str]) -> Callable[[random.Random], Word]:
    def rule(rng: random.Random) -> Word:
        text = compose(rng)
        return Word(text, text)

    return rule


def _app(rng: random.Random) -> Word:
    noun, other = _pick(rng, "noun"), _pick(rng, "noun")
    name = rng.choices(
        (_invented(rng), noun, f"{_pick(rng, 'quality')} {noun}", f"{noun} {other}"),
        (40, 15, 15, 15),
    )[0]
    return _capitals(rng, name) if rng.random() < 0.85 else _same(_joined)(rng)


def _capitals(rng: random.Random, name: str) -> Word:
    """Said in lower case or with capitals, written with them."""
    written = name.title()
    return Word(rng.choice((name, written)), written)


def _joined(rng: random.Random) -> str:
    return _pick(rng, "noun").title() + rng.choice((_pick(rng, "noun"), _invented(rng))).title()


def _file(*endings: str) -> Callable[[random.Random], Word]:
    return _same(lambda rng: f"{_stem(rng)}.{rng.choice(endings)}")


def _site(rng: random.Random) -> str:
    noun = _pick(rng, "noun")
    stem = rng.choice((noun, noun + _pick(rng, "noun"), _invented(rng), _invented(rng)))
    return f"{stem}.{_pick(rng, 'tld')}"


def _music(rng: random.Random) -> str:
    noun, quality, genre = (_pick(rng, pool) for pool in ("noun", "quality", "genre"))
    return rng.choices(
        (
            genre, f"{quality} {genre}", f"{_pick(rng, 'instrument')} {genre}",
            f"{quality} {noun}".title(), f"the {quality} {noun}",
            f"{_pick(rng, 'given')} {_invented(rng)}".title(),
            f"{_pick(rng, 'given')} {_invented(rng)}",
        ),
        (10, 15, 20, 20, 10, 15, 10),
    )[0]  # fmt: skip


def _topic(rng: random.Random) -> str:
    noun, other, quality = _pick(rng, "noun"), _pick(rng, "noun"), _pick(rng, "quality")
    deed = _pick(rng, "deed")
    return rng.choice(
        (
            f"{quality} {noun} {_pick(rng, 'matter')}", f"the {_pick(rng, 'matter')} of a {noun}",
            f"{noun} {_pick(rng, 'matter')}", f"how to {deed} a {noun}",
            f"how to {deed} a {quality} {noun} without a {other}",
            f"{quality} {noun} {_pick(rng, 'matter')} in {_invented(rng).title()}",
            f"{noun} or {other} for beginners", f"{noun} {_pick(rng, 'matter')} {_tail(rng)}",
            f"how to {deed} a {noun} {_tail(rng)}", f"{quality} {noun} shops {_tail(rng)}",
            f"where to {deed} a {noun} on sunday",
        )
    )  # fmt: skip


def _tail(rng: random.Random) -> str:
    """What is easily cut off, and belongs to it."""
    return _pick(rng, "tail")


def _chore(rng: random.Random) -> str:
    noun, deed, given = _pick(rng, "noun"), _pick(rng, "deed"), _pick(rng, "given")
    return rng.choice(
        (
            f"{deed} the {noun}", f"{deed} the {_pick(rng, 'quality')} {noun}",
            f"{deed} a {noun} for {given}", f"tell {given} to {deed} the {noun}",
            f"{deed} the {noun} at {rng.randint(2, 12)}", f"{noun} {_tail(rng)}",
            f"{deed} the {noun} {_tail(rng)}", f"{noun} for {given} on friday",
        )
    )  # fmt: skip


def _length(rng: random.Random) -> str:
    unit, most = rng.choice((("minutes", 120), ("minutes", 60), ("seconds", 90), ("hours", 12)))
    return f"{rng.randint(2, most)} {unit}"


def _alarming(pattern: str) -> Callable[[random.Random], str]:
    """A harmless name with an alarming word in it."""

    def compose(rng: random.Random) -> str:
        return pattern.format(
            alarm=_pick(rng, "alarm"), noun=_pick(rng, "noun"), risky=_pick(rng, "risky"),
            gadget=_pick(rng, "gadget"),
        )  # fmt: skip

    return compose


_TEXTS = "txt md csv log json yaml toml ini html py".split()
_OTHERS = "pdf docx xlsx png jpg zip mp3 odt svg mp4 pptx bak".split()
_alarm_title, _alarm_file = _alarming("{alarm} the {noun}"), _alarming("{alarm}_{noun}")

RULES: dict[str, Callable[[random.Random], Word]] = {
    "app": _app,
    "site": _same(_site),
    "host": _same(_site),
    "topic": _same(_topic),
    "music": _same(_music),
    "percent": _same(lambda rng: str(rng.randint(1, 100))),
    "count": _same(lambda rng: str(rng.randint(2, 150))),
    "length": _same(_length),
    "chore": _same(_chore),
    "note": _same(_chore),
    "title": _same(lambda rng: _pick(rng, "noun").title()),
    "word": _same(lambda rng: rng.choice((_pick(rng, "noun"), _invented(rng)))),
    "folder": _same(_stem),
    "dir": _same(_stem),
    "file": _file(*_TEXTS, *_OTHERS),
    "text": _file(*_TEXTS),
    "page": _file("txt", "md"),
    "branch": _same(lambda rng: _stem(rng, signs="--/")),
    "process": _same(lambda rng: rng.choice((_pick(rng, "noun"), _invented(rng)))),
    "service": _same(lambda rng: _invented(rng) + rng.choice(("", "", "d", "-server"))),
    "winservice": _same(lambda rng: _joined(rng) + rng.choice(("", "Svc"))),
    "program": _same(lambda rng: rng.choice((_pick(rng, "noun"), _invented(rng)))),
    "scaryfile": _same(lambda rng: f"{_alarm_file(rng)}.{rng.choice(_TEXTS + _OTHERS)}"),
    "scarybranch": _same(_alarming("{alarm}-{noun}")),
    "scaryfolder": _same(_alarm_file),
    "scaryapp": lambda rng: _capitals(rng, _alarm_title(rng)),
    "scarymusic": lambda rng: _capitals(rng, _alarm_title(rng)),
    "scarychore": _same(_alarming("{risky} the {gadget}")),
    "scary": _same(_alarming("{risky} a {gadget}")),
}
