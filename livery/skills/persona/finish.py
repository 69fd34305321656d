"""The post-processor: any model's answer, addressed and toned as the persona would.

    finish("**Paris**, Sir, sir!", "madam", spoken=True)       # "Paris, madam!"

It adds, mends and removes forms of address, and takes away what speech has no sound for. Facts,
numbers, code, quotations and links stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from livery.skills.persona.contract import MADAM, SIR, check_address
from livery.skills.persona.kept import HIDDEN, kept, masked
from livery.skills.persona.style import EMOJI
from livery.skills.persona.vocatives import Vocative, vocatives

Tone = Literal["chat", "error", "clarification"]

# An answer of more words than this, or with a block of code, is no reply that addresses anybody.
SHORT_WORDS = 60

_ERROR = re.compile(
    r"\b(?:failed|failure|timed out|an error|could not be (?:reached|found|opened|read|saved)|"
    r"cannot be (?:reached|found|opened|read|saved)|(?:did not|didn't|could not|couldn't) "
    r"(?:catch|hear|understand|make out|make (?:that|this|it) out|reach|find|open|read|connect)|"
    r"went wrong|unable to|(?:cannot|can't|could not|couldn't) know|no way of knowing|"
    r"is not (?:responding|available|reachable)|not divide by zero|is (?:undefined|offline))\b",
    re.IGNORECASE,
)
_CLARIFY = re.compile(
    r"^(?:which|what|when|where|who|whom|whose|how (?:many|much|long|often)|do you mean|did you "
    r"mean|"
    r"could you (?:say|tell|repeat|give|be)|please (?:say|tell|repeat|give)|for which|to whom|at "
    r"what)\b[^.!]*\?$",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w")
_GLUED = re.compile(r"(?<![.,:;!?…])[.,:;!?…]++(?=[^\s.,:;!?…)\"”’])")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|Dr|Mr|Mrs|Ms|St|Prof|Rev|No|vs|etc|e\.g|i\.e|a\.m|p\.m|approx|Jr|Sr)\Z"
)


def tone_of(answer: str) -> Tone:
    """What kind of answer it is by its words: a failure told, a question back, or else chat."""
    plain = masked(answer).replace("’", "'").strip()
    if _CLARIFY.match(_unaddressed(plain, "").strip()):
        return "clarification"
    return "error" if _ERROR.search(plain) else "chat"


def finish(
    answer: str, address: str = SIR, *, tone: Tone | None = None, spoken: bool = False
) -> str:
    """An answer as the persona gives it.

    A short reply addresses the user once, a long one, a failure or a question back never; there
    an exclamation is a statement too.

    Args:
        address: "sir", "madam", a name, or "" for no form of address.
        tone: what kind of answer it is; None reads it from its words.
        spoken: it will be read aloud: no Markdown and no emoji.

    Raises:
        ValueError: `address` is no form of address.
    """
    address = check_address(address)
    tone = tone or tone_of(answer)
    text = answer.strip()
    addressed = bool(address) and tone == "chat" and is_short(text)
    if tone != "chat":
        text = _calm(text)
    text = (_addressed if addressed else _unaddressed)(text, address).strip()
    if tone != "chat":
        text = _calm(text)
    if spoken:
        text = spoken_text(text)
    return text


def is_short(text: str) -> bool:
    """Whether a reply is one that addresses the user."""
    return len(text.split()) <= SHORT_WORDS and all(kind != "fence" for *_, kind in kept(text))


# -- forms of address ------------------------------------------------------------------------------


def _addressed(text: str, address: str) -> str:
    """One form of address, the right one."""
    found = vocatives(text, address)
    if not found:
        return _with_address(text, address)
    while len(found) > 1:
        text, before = _without(text, found[1:]), text
        if not (left := vocatives(text, address)):
            return _with_address(text, address)
        if text == before:
            break
        found = left
    first = found[0]
    right = address
    if first.leads and address not in (SIR, MADAM, first.form):
        return _with_address(_without(text, [first]), address)
    if first.leads and address in (SIR, MADAM):
        right = address.capitalize()
    lead = text[first.start : first.word]
    if lead and "," not in lead and address not in (SIR, MADAM):
        lead = ", "  # "It is Paris sir." needs a comma before a name
    return text[: first.start] + lead + right + text[first.past :]


def _unaddressed(text: str, address: str) -> str:
    # All of them at once, and again for what comes to light only then: "the sir" of "the, sir sir".
    while found := vocatives(text, address):
        left = _without(text, found)
        if left == text:
            break
        text = left
    return text


def _without(text: str, found: Sequence[Vocative]) -> str:
    """The text without these; the first of a text that is nothing else stays. Those at the front of
    a sentence stay as long as there are others: what follows them may be one that is found next."""
    plain, first = masked(text), _WORD.search(text)
    found = [vocative for vocative in found if not vocative.leads] or found
    gone: list[Vocative] = []
    seam, rest = len(text), False
    for vocative in reversed(found):
        rest = rest or bool(_WORD.search(text, vocative.end, seam))
        if not rest and (first is None or first.start() >= vocative.start):
            break
        gone.append(vocative)
        seam = vocative.start
    parts: list[str] = []
    seams: list[int] = []
    at = length = 0
    capital = False
    for vocative in [*reversed(gone), None]:
        part = text[at : vocative.start if vocative else len(text)]
        if part and capital and plain[at].islower():
            part = part[:1].upper() + part[1:]
        parts.append(part)
        length += len(part)
        if vocative:
            capital = vocative.leads or (capital and not part)
            seams.append(length)
            at = vocative.end
    return _unglued("".join(parts), seams)


def _unglued(text: str, seams: Sequence[int]) -> str:
    """A space behind the signs at a seam where a word follows: "1,sir,200" is no 1,200."""
    parts: list[str] = []
    at = seam = 0
    for signs in _GLUED.finditer(text):
        while seam < len(seams) and seams[seam] < signs.start():
            seam += 1
        if seam < len(seams) and seams[seam] < signs.end():
            parts += [text[at : signs.end()], " "]
            at = signs.end()
    return "".join([*parts, text[at:]])


def _with_address(text: str, address: str) -> str:
    """The form put before the sign that ends the first sentence, if it is an ordinary one."""
    plain = masked(text)
    for match in re.finditer(r"[.!?](?=\s|\Z)", plain):
        before = plain[: match.start()]
        if _ABBREVIATED.search(before):
            continue
        last = before[-1:]
        ordinary = last.isalnum() and last != HIDDEN and "\n" not in before.strip()
        listed = re.match(r"\s*(?:[-*+#>|]|\d+[.)]\s)", plain)
        emphasis = re.search(r"[*_|<>\[\]]", before)
        if not ordinary or listed or emphasis or re.fullmatch(r"\s*\d+", before):
            return text
        done = f"{text[: match.start()]}, {address}{text[match.start() :]}"
        return done if len(vocatives(done, address)) == 1 else text
    return text


# -- tone ------------------------------------------------------------------------------------------


def _calm(text: str) -> str:
    """Exclamations after words as statements, and no emoji; "5! = 120" is no exclamation."""
    text = _edited(text, _emoji(masked(text)))
    ends = re.finditer(r"(?<=[^\W\d_])!+(?=\s|\Z)", masked(text))
    return _edited(text, [(m.start(), m.end(), ".") for m in ends]).strip()


# -- speech ----------------------------------------------------------------------------------------

_MARKS = (r"\*\*\*", r"\*\*", r"\*", "__", "_", "~~")
# What goes of a line: signs of headings and quotations, bullets (not the minus of a number), rules,
# the line under a table's head.
_OF_LINES = (
    r"^[ \t]*(?:#{1,6}|>)[ \t]+",
    r"^[ \t]*[-*+][ \t]+(?!\d)",
    r"^[ \t]*(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$\n?",
    r"^[ \t]*\|(?:[ \t]*:?-{3,}:?[ \t]*\|)+[ \t]*$\n?",
)


def spoken_text(text: str) -> str:
    """The words without Markdown and emoji. Of code only the fences and ticks go, of a link the
    brackets; numbered lists keep their numbers, and the cells of a table get commas."""
    plain = masked(text)
    edits = [*_emoji(plain), *_ticks(text)]
    for pattern in _OF_LINES:
        edits += [(m.start(), m.end(), "") for m in re.finditer(pattern, plain, re.MULTILINE)]
    for mark in _MARKS:
        size = len(mark.replace("\\", ""))
        for m in re.finditer(rf"(?<![\w*_~\\]){mark}(?=[^\s*_~])[^\n*_~]*{mark}(?![\w*_~])", plain):
            if not plain[m.end() - size - 1].isspace():
                edits += [(m.start(), m.start() + size, ""), (m.end() - size, m.end(), "")]
    for m in re.finditer(rf"\[([^\[\]\n]*)\]\((?:{HIDDEN})+\)", plain):
        edits += [
            (m.start(), m.start() + 1, ""),
            (m.end(1), m.end(1) + 2, ", "),
            (m.end() - 1, m.end(), ""),
        ]
    if re.search(_OF_LINES[-1], plain, re.MULTILINE):
        edits += _cells(plain)
    merged = _merged(edits)
    return _edited(text, [(a, b, put or _gap(text, a, b)) for a, b, put in merged]).strip()


def _merged(edits: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """What is taken out side by side, as one."""
    done: list[tuple[int, int, str]] = []
    for start, end, put in sorted(edits):
        if done and not put and not done[-1][2] and start <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]), "")
        else:
            done.append((start, end, put))
    return done


def _gap(text: str, start: int, end: int) -> str:
    """A space where two words or numbers would become one."""
    return " " if text[start - 1 : start].isalnum() and text[end : end + 1].isalnum() else ""


def _ticks(text: str) -> list[tuple[int, int, str]]:
    """The edits that take fences and ticks away from around code."""
    edits: list[tuple[int, int, str]] = []
    for start, end, kind in kept(text):
        code = text[start:end]
        if kind == "code":
            size = len(code) - len(code.lstrip("`"))
            edits += [(start, start + size, ""), (end - size, end, "")]
        elif kind == "fence":
            edits.append((start, start + code.index("\n") + 1, ""))
            last = code.rstrip("\n").rpartition("\n")[2].strip()
            if len(last) >= 3 and set(last) <= {"`"} | {"~"} and "\n" in code.rstrip("\n"):
                edits.append((start + code.rstrip("\n").rindex("\n"), end, ""))
    return edits


def _cells(plain: str) -> list[tuple[int, int, str]]:
    edits: list[tuple[int, int, str]] = []
    for line in re.finditer(r"^[ \t]*\|[^\n]*\|[ \t]*$", plain, re.MULTILINE):
        if re.match(_OF_LINES[-1], line[0]):
            continue
        bars = [*re.finditer(r"[ \t]*\|[ \t]*", line[0])]
        for at, bar in enumerate(bars):
            put = "" if at in (0, len(bars) - 1) else ", "
            edits.append((line.start() + bar.start(), line.start() + bar.end(), put))
    return edits


def _emoji(plain: str) -> list[tuple[int, int, str]]:
    """The edits that take emoji away with the space that they leave; words and numbers on both
    sides stay apart."""
    edits: list[tuple[int, int, str]] = []
    for m in re.finditer(rf"(?<![ \t])[ \t]*(?:(?:{EMOJI.pattern})[ \t]*)+", plain):
        before, after = plain[m.start() - 1 : m.start()], plain[m.end() : m.end() + 1]
        ends = re.match(r"[.,;:!?)](?!\w)", plain[m.end() : m.end() + 2])
        apart = before.strip() and after.strip() and not ends
        edits.append((m.start(), m.end(), " " if apart else ""))
    return edits


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    """The text with passages replaced; of two that overlap the one that ends later counts."""
    parts: list[str] = []
    done = len(text)
    for start, end, put in sorted(edits, reverse=True):
        if end <= done:
            parts += [text[end:done], put]
            done = start
    return "".join([text[:done], *reversed(parts)])
