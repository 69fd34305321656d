"""Answers with tags: read strictly with exact positions, and written.

    answer = parse_answer("Opening it.\\n[ACTION]open: firefox[/ACTION]")
    answer.text                     # "Opening it."
    answer.tags[0].verb             # "launch_app"
    answer.tags[0].start            # 12

Around a tag much is forgiven: case, space within the brackets, line breaks, a code fence around the
answer, around tags or inside one. Within a tag nothing is: one that is not closed, stands in
another, names a verb that there is not, or holds a control character makes the whole answer
unreadable, so that a runtime runs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from livery.skills.actions.verbs import VERBS, Verbs
from livery.skills.contract import AnswerError

Kind = Literal["ACTION", "SHELL", "EXEC_CODE"]
KINDS: tuple[Kind, ...] = ("ACTION", "SHELL", "EXEC_CODE")

# [ ACTION ], [/action]; another name in brackets is plain text (but see _BROKEN).
# Two runs of white space in a row would be tried in every pair of lengths, so there is never more
# than one: an answer may be a megabyte of spaces.
MARKER = re.compile(
    r"\[\s*(?:(?P<close>/)\s*)?(?P<kind>action|shell|exec_code)\s*\]",
    re.IGNORECASE | re.ASCII,  # without ASCII a dotless i is an i
)
# What was meant as a tag and is none: [SHELL ls], [/SHEL], an open bracket where the answer ends.
_BROKEN = re.compile(
    r"\[\s*(?:/\s*)?(?:ACTION|SHELL|EXEC_CODE)\b(?!\s*\])|\[\s*/\s*[A-Z][A-Z_]{3,}\s*\]"
    r"|\[\s*(?:/\s*)?(?:A(?:C(?:T(?:IO?)?)?)?|S(?:H(?:EL?)?)?|E(?:X(?:EC?(?:_(?:C(?:OD?)?)?)?)?)?)?\Z"
)
# Within a tag the first of these alone: a command may end with a bracket.
_NEARLY = re.compile(r"\[\s*(?:/\s*)?(?:ACTION|SHELL|EXEC_CODE)\b(?!\s*\])")
_FENCE_OPEN = re.compile(r"\A\s*(?:`{3,}|~{3,})[^\n`]*\n")
_INLINE = re.compile(r"(`{1,3})([^`\n]+)\1")
_TICKS = re.compile(r"(?<!`)(`{1,2})[ \t]*\Z")
_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
_CONTROL = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_VERB = re.compile(r"[A-Za-z][\w -]*\Z")


@dataclass(frozen=True)
class Tag:
    """One tag of an answer.

    Attributes:
        kind: "ACTION", "SHELL" or "EXEC_CODE".
        verb: of an ACTION its verb, an alias read as its verb; of the other kinds "shell" and
            "exec_code".
        argument: what the verb is given, "" for none: the command of a shell, the code.
        start, end: where the tag stands in the answer's text, brackets included:
            `text[start:end]` is the whole tag. 0 and 0 for a tag that was not read.
        runs: "shell" where the argument is run as a command line, whichever tag holds it, "code"
            where it is run as a program, else "".
    """

    kind: Kind
    verb: str
    argument: str = ""
    start: int = 0
    end: int = 0
    runs: Literal["", "shell", "code"] = ""

    @property
    def content(self) -> str:
        """As it stands between the brackets: "launch_app: firefox", "system_info", "ls -la"."""
        if self.kind != "ACTION":
            return self.argument
        return f"{self.verb}: {self.argument}" if self.argument else self.verb

    @property
    def written(self) -> str:
        """The whole tag in its one written form."""
        return f"[{self.kind}]{self.content}[/{self.kind}]"


@dataclass(frozen=True)
class Answer:
    """What an assistant said and what is to be done.

    Attributes:
        text: the words outside of the tags, lines joined, without fences.
        tags: in their order.
    """

    text: str
    tags: tuple[Tag, ...] = ()


def action(verb: str, argument: str = "", verbs: Verbs = VERBS) -> Tag:
    """An ACTION tag that was not read from a text.

    Raises:
        ValueError: there is no such verb, or the argument does not suit it.
    """
    try:
        return _action(f"{verb}: {argument}" if argument else verb, 0, verbs)
    except AnswerError as error:
        raise ValueError(str(error)) from None


def shell(command: str) -> Tag:
    """A SHELL tag that was not read from a text."""
    return Tag("SHELL", "shell", command, runs="shell")


def parse_answer(text: str, verbs: Verbs = VERBS) -> Answer:
    """The words and tags of an answer.

    Args:
        text: as the model gave it; positions count its characters.
        verbs: the table of verbs, `VERBS` or a user's own on top of it.

    Raises:
        AnswerError: a tag is not closed, closes another or none, stands in another, is empty,
            holds a control character, names an unknown verb, has an argument that its verb does
            not take or lacks one; or something was meant as a tag and is none. The message names
            the character, counted from 0.
    """
    tags: list[Tag] = []
    words: list[str] = []
    at = 0
    opened: re.Match[str] | None = None
    for marker in MARKER.finditer(text):
        kind = marker["kind"].upper()
        if not marker["close"]:
            if opened is not None:
                outer = opened["kind"].upper()
                raise _error(f"[{kind}] stands inside [{outer}]", marker.start())
            words.append(_outside(text, at, marker.start()))
            opened = marker
            continue
        if opened is None:
            raise _error(f"[/{kind}] closes nothing", marker.start())
        if kind != opened["kind"].upper():
            raise _error(f"[{opened['kind'].upper()}] is closed by [/{kind}]", marker.start())
        tags.append(_tag(text, opened, marker, verbs))
        opened, at = None, marker.end()
    if opened is not None:
        raise _error(f"[{opened['kind'].upper()}] is not closed", opened.start())
    words.append(_outside(text, at, len(text)))
    _unticked(words)
    said = "\n".join(line.strip() for line in _lines("\n".join(words)))
    return Answer(said, tuple(tags))


def render(answer: Answer, verbs: Verbs = VERBS) -> str:
    """The one text that stands for an answer: the words, then each tag on a line of its own.

    Raises:
        ValueError: it would not be read back as the same answer.
    """
    lines = [answer.text] if answer.text else []
    text = "\n".join([*lines, *(tag.written for tag in answer.tags)])
    try:
        again = parse_answer(text, verbs)
    except AnswerError as error:
        raise ValueError(f"{text!r} cannot be read back: {error}") from None
    if again.text != answer.text or list(map(_same, again.tags)) != list(map(_same, answer.tags)):
        raise ValueError(f"{text!r} is read back as another answer")
    return text


def _same(tag: Tag) -> tuple[str, str, str]:
    return tag.kind, tag.verb, tag.argument


def _tag(text: str, opened: re.Match[str], closed: re.Match[str], verbs: Verbs) -> Tag:
    """The tag between two markers."""
    raw, begin = text[opened.end() : closed.start()], opened.end()
    if bad := _CONTROL.search(raw):
        raise _error(f"a control character (U+{ord(bad[0]):04X}) in a tag", begin + bad.start())
    if nearly := _NEARLY.search(raw):
        what = f"{_short(nearly[0])} within a tag is no tag that can be read"
        raise _error(what, begin + nearly.start())
    content = _unfenced(raw).strip()
    kind = opened["kind"].upper()
    if not content:
        raise _error(f"[{kind}] is empty", opened.start())
    start, end = opened.start(), closed.end()
    if kind == "ACTION":
        first = begin + max(raw.find(content), 0)
        found = _action(content, first, verbs)
        return Tag("ACTION", found.verb, found.argument, start, end, found.runs)
    if kind == "SHELL":
        return Tag("SHELL", "shell", content, start, end, "shell")
    return Tag("EXEC_CODE", "exec_code", content, start, end, "code")


def _action(content: str, at: int, verbs: Verbs) -> Tag:
    """An ACTION tag of its content, which begins at `at`."""
    said, colon, argument = content.partition(":")
    said, argument = said.strip(), _unfenced(argument).strip()
    verb = verbs.verb(said)
    if verb is None:
        if not colon and verbs.verb(said.split()[0]) is not None:
            raise _error(f"no colon after the verb {said.split()[0]!r}", at)
        close = verbs.close_to(said) if _VERB.match(said) else ""
        hint = f"; did the model mean {close!r}?" if close else ""
        raise _error(f"unknown verb {_short(said)}{hint}", at)
    if argument and verb.takes == "none":
        raise _error(f"{verb.name!r} takes no argument, but has {_short(argument)}", at)
    if not argument and verb.takes == "required":
        raise _error(f"{verb.name!r} has no argument", at)
    return Tag("ACTION", verb.name, argument, runs=verb.runs)


def _outside(text: str, start: int, end: int) -> str:
    """Words between tags; raises AnswerError where they hold what was meant as a tag."""
    part = text[start:end]
    if broken := _BROKEN.search(part):
        raise _error(f"{_short(broken[0])} is no tag that can be read", start + broken.start())
    return part


def _unfenced(content: str) -> str:
    """Without a code fence that surrounds it."""
    opening = _FENCE_OPEN.match(content)
    if opening is None:
        bare = content.strip()
        inline = _INLINE.fullmatch(bare)
        return inline[2] if inline else content
    mark = opening[0].strip()[0]
    body = content[opening.end() :].rstrip()
    return body.rstrip(mark) if body.endswith(mark * 3) else content


def _unticked(words: list[str]) -> None:
    """The ticks of inline code in which a tag stood taken out of the words around it."""
    for at, before in enumerate(words[:-1]):
        opening = _TICKS.search(before)
        if opening and (closing := re.match(rf"[ \t]*{opening[1]}(?!`)", words[at + 1])):
            words[at : at + 2] = [before[: opening.start()], words[at + 1][closing.end() :]]


def _lines(text: str) -> Iterator[str]:
    """Lines that say something; those of a fence do not."""
    for line in text.splitlines():
        if line.strip() and not _FENCE_LINE.match(line):
            yield line


def _error(what: str, at: int) -> AnswerError:
    return AnswerError(f"{what} at character {at}")


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
