"""Characters that a reader does not see, or that turn the text around: shown, and not trusted."""

from __future__ import annotations

import re
import unicodedata

# Zero-width characters, joiners, direction marks and overrides, tags, variation selectors, fillers.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-"
    "\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# A joiner or a selector within an emoji, or joiners of scripts that write with them.
_WITHIN = re.compile(
    "(?<=[\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff\ufe0f\u20e3#*0-9])"
    "[\u200d\ufe0e\ufe0f](?=[\u2190-\u2bff\u20e3\u200d\U0001f000-\U0001faff]|\\W|$"
    "|\ufe0f)"
    "|(?<=[\u0600-\u06ff\u0900-\u0dff])[\u200c\u200d](?=[\u0600-\u06ff\u0900-\u0dff])"
)


def deceives(text: str) -> str:
    """What of the hidden kind a text holds, as a name; empty where it holds none."""
    bare = _WITHIN.sub("", text.replace("\r\n", "\n"))
    found = _HIDDEN.search(bare) or _CONTROL.search(bare)
    if found is None:
        return ""
    sign = found[0]
    name = unicodedata.name(sign, "a control character")
    return f"U+{ord(sign):04X} ({name.lower()})"


def without(text: str) -> str:
    """The text as a reader takes it: hidden characters gone."""
    return _CONTROL.sub("", _HIDDEN.sub("", text))


def escaped(text: str) -> str:
    """The text with every hidden or control character as an escape; line breaks and tabs stay."""
    kept = {found.start() for found in _WITHIN.finditer(text)}

    def one(found: re.Match[str]) -> str:
        return (
            found[0] if found.start() in kept else found[0].encode("unicode_escape").decode("ascii")
        )

    text = re.sub(f"{_HIDDEN.pattern}|{_CONTROL.pattern}", one, text)
    return (
        "".join(s if not 0xD800 <= ord(s) < 0xE000 else f"\\u{ord(s):04x}" for s in text)
        if not _encodes(text)
        else text
    )


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
