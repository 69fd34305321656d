"""What no rule of style may touch: code, quotations, links, addresses of mail, file paths, numbers.

masked("Run `ls`, sir.")        # the code as zeros of the same length, so positions stay
"""

from __future__ import annotations

import re

HIDDEN = "\0"

# Quotation marks are read in pairs within a paragraph; an apostrophe opens nothing. Each sign is
# gone through a bounded number of times: of what repeats, a pattern begins at the first only, and a
# quotation ends somewhere.
_KEPT = re.compile(
    r"(?P<fence>^[ \t]*(?P<marks>`{3,}|~{3,})[^\n`]*\n(?:.*?^[ \t]*(?P=marks)[ \t]*$|.*\Z))"
    r"|(?P<span>(?<!`)(?P<three>`{3,})(?!`)[^\n`]*\n.*?(?<!`)(?P=three)(?!`))"
    r"|(?P<code>(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<link>\b(?:https?|ftp|file)://[^\s<>\"“”`]+|\bwww\.[^\s<>\"“”`]+)"
    # From its first sign on, so that a long word is gone through once; one may follow another.
    r"|(?P<mail>(?<![\w.+-])(?:[\w.+-]+@[\w-]+(?:\.[\w-]+)+)+)"
    r"|(?P<quote>\"[^\"\n]*\"|“[^”\n]{0,500}”|«[^»\n]{0,500}»|(?<![\w’])‘[^‘\n]*?’(?!\w))",
    re.MULTILINE | re.DOTALL,
)


def kept(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of each passage that stays as it is: "fence", "code", "link", "mail" or
    "quote". A full stop or comma after a link is none of it."""
    spans: list[tuple[int, int, str]] = []
    for match in _KEPT.finditer(text):
        kinds = ("fence", "span", "code", "link", "mail", "quote")
        kind = next(k for k in kinds if match[k] is not None)
        kind = "code" if kind == "span" else kind  # a fence that begins amid a line
        end = match.end()
        if kind == "link":
            end -= len(match[0]) - len(match[0].rstrip(".,;:!?)…’"))
        spans.append((match.start(), end, kind))
    return spans


def masked(text: str) -> str:
    """The text with each such passage replaced by NULs of its length."""
    signs = list(text)
    for start, end, _ in kept(text):
        signs[start:end] = HIDDEN * (end - start)
    return "".join(signs)
