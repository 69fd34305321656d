"""Personal and secret text taken out by rule, before anything of it reaches a disk.

    redact("Mail ann@example.org, PIN 4821")      # ("Mail [email 1], PIN [secret 1]", {...})

Within one `Redactor` the same text gets the same placeholder, so that an answer still names what
its prompt did. The rules would rather take too much: what they leave is read by people later.

What stays: words, dates, times, amounts, years, IP addresses, and numbers of up to six digits; a
number dictated digit by digit in English goes as one in figures does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from livery.interactions.digits import dictated, numbers

# (start, end, kind) of what goes.
Span = tuple[int, int, str]
Rule = Callable[[str], list[Span]]


@dataclass
class Redactor:
    """What was taken out of one interaction so far.

    Attributes:
        counts: {kind: how many different texts}.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    _names: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def text(self, text: str) -> str:
        """The text with placeholders."""
        parts = [text]  # what is raw, and at odd positions placeholders
        for rule in RULES:
            parts = [
                piece
                for at, part in enumerate(parts)
                for piece in ([part] if at % 2 else self._replaced(part, rule(part)))
            ]
        return "".join(parts)

    def value(self, value: Any) -> Any:
        """A JSON value with the texts in it redacted, its keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if (text := str(value)) == self.text(text) else self.text(text)
        return value

    def _replaced(self, text: str, spans: list[Span]) -> list[str]:
        parts, done = [""], 0
        for start, end, kind in sorted(spans):
            if start < done:
                continue
            parts[-1] = text[done:start]
            parts += [self._name(kind, text[start:end]), ""]
            done = end
        parts[-1] = text[done:]
        return parts

    def _name(self, kind: str, text: str) -> str:
        key = (kind, text)
        if key not in self._names:
            self.counts[kind] += 1
            self._names[key] = f"[{kind} {self.counts[kind]}]"
        return self._names[key]


def redact(text: str) -> tuple[str, dict[str, int]]:
    """(the text with placeholders, {kind: how many different ones})."""
    redactor = Redactor()
    return redactor.text(text), dict(redactor.counts)


PLACEHOLDER = re.compile(r"\[(?:email|phone|number|card|iban|key|secret|credentials) \d+\]")

# -- keys with a form of their own -----------------------------------------------------------------

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL
)
# Prefixes that services give their keys.
_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk|ak|whsec|shpat|shpss|glpat|gldt|github_pat|gh[a-z]|hf|npm|pypi|dckr_pat|dop_v1|"
    r"xox[a-z]|xapp|lin_api|nvapi|gsk|pplx|tskey|sntrys|figd|key|tok|api)[-_][A-Za-z0-9_\-]{10,}"
    r"|A[A-Z]{3}[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS: AKIA, ASIA, …, and what belongs to it
    r"|(?=[A-Za-z0-9/+]{0,39}\d)(?=[A-Z0-9/+]{0,39}[a-z])(?=[a-z0-9/+]{0,39}[A-Z])"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
    r"|AIza[\w\-]{30,}|ya29\.[\w\-.]{10,}|SG\.[\w\-]{10,}\.[\w\-]{10,}"
    r"|eyJ[\w\-]{5,}(?:\.[\w\-]*){1,4}"  # a JSON Web Token
    r")"
)
# What has no prefix but looks drawn by lot: at least 20 signs, letters and digits or cases mixed.
_TOKEN = re.compile(r"(?<![\w+/=-])[A-Za-z0-9_+/=\-]{20,}")
_HEX = re.compile(
    r"(?<![\w])(?:[0-9a-fA-F]{32,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?!\w)"
)
_RUN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")


def _looks_drawn(token: str) -> bool:
    """Whether case and digits change as often as chance would have it: words make runs of four
    letters and more, and what stands whole between separators counts as a word."""
    runs: list[int] = []
    parts = re.split(r"[_+/=\-]+", token)
    for part in parts:
        found = [*map(len, _RUN.findall(part))]
        runs += [max(found[0], 5)] if len(found) == 1 else found
        if len(part) >= 20 and len(_CHANGE.findall(part)) >= 5:
            return True
    if not runs or not any(c.isalpha() for c in token):
        return False
    named = len(parts) > 1 and any(len(part) >= 5 and part.isalpha() for part in parts)
    limit = 2.2 if named else 3.4 if any(c.isdigit() for c in token) else 3.0
    return sum(runs) / len(runs) < limit


def _keys(text: str) -> list[Span]:
    found = [(*m.span(), "key") for m in _PREFIXED.finditer(text) if _is_key(m[0])]
    found += [(*m.span(), "key") for m in _HEX.finditer(text)]
    for m in _TOKEN.finditer(text):
        if _looks_drawn(m[0]):
            found.append((*m.span(), "key"))
        else:  # a part of a path: https://hooks.example/services/KEY
            found += [
                (m.start() + part.start(), m.start() + part.end(), "key")
                for part in re.finditer(r"[^/]{20,}", m[0])
                if _looks_drawn(part[0])
            ]
    return _joined(found)


def _is_key(found: str) -> bool:
    """A prefix such as key_ or api- begins ordinary names too: those have no digit and no capital
    within."""
    rest = re.split(r"[-_.]", found, maxsplit=1)[-1]
    return bool(re.search(r"\d", rest)) or bool(re.search(r"[a-z][A-Z]|^[A-Z]{2}", rest))


def _private_keys(text: str) -> list[Span]:
    return [(*m.span(), "key") for m in _PRIVATE_KEY.finditer(text)]


# -- credentials in links and headers --------------------------------------------------------------

# Up to the last @ before a space: passwords hold / and @ though they should not. A port and a path
# with an @ in it (host:8000/@name) are none.
_IN_LINK = re.compile(
    r"(?<=://)(?:(?![^\s/:@]*:\d+/)[^\s/:@]{0,200}:\S{1,500}(?=@)|[^\s/@]{1,500}(?=@))"
)
_HEADER = re.compile(
    r"\b(?:(?P<cookie>(?:set-)?cookie)\s*:\s*(?P<line>[^\n\"']+)"
    r"|authorization['\"]?\s*[:=]\s*['\"]?[a-z]+\s+(?P<auth>[^\s'\",]+)"
    r"|(?:bearer|basic|digest|token|apikey)\s+(?P<token>[A-Za-z0-9._~+/\-]{8,}=*))",
    re.IGNORECASE,
)
_USER_OPTION = re.compile(r"(?<!\S)(?:-u|--user|--proxy-user)[ =]['\"]?(?P<pair>[^\s:'\"]+:\S+)")

_SHORT_OPTION = re.compile(
    r"\b(?:mysql|mariadb|sshpass)\w*(?=\s)[^\n|;&]{0,200}?\s-p\s?+(?P<word>\S+)"
)


def _credentials(text: str) -> list[Span]:
    found = [(*m.span(), "credentials") for m in _IN_LINK.finditer(text)]
    found += [(*m.span("pair"), "credentials") for m in _USER_OPTION.finditer(text)]
    found += [(*m.span("word"), "secret") for m in _SHORT_OPTION.finditer(text)]
    for m in _HEADER.finditer(text):
        if m["line"] or m["auth"]:
            found.append((*m.span("line" if m["line"] else "auth"), "secret"))
        elif re.search(r"[\d=~+/]|[a-z][A-Z]", m["token"]):
            found.append((*m.span("token"), "secret"))
    return found


# -- what somebody calls a password ----------------------------------------------------------------

_NAMES = (
    r"pass(?:word|wort|wd|phrase|code)s?|pwd|kennwort|mot de passe|contrase[nñ]a|senha|"
    r"wachtwoord|парол[ья]|secrets?|token|credentials?|client[ _-]?id|"
    r"(?:api|access|auth|private|secret|signing|encryption|license|account)[ _-]?keys?|"
    r"pin(?:[ _-]?(?:code|number))?|cvv2?|cvc|otp|(?:security|verification|unlock|safe|door|"
    r"alarm|gate|login|backup) codes?|ssn|sig|signature|session[ _-]?id|auth|pass|pw"
)
# name = value, name: value, "name": "value", --name value, name is value
_CALLED = re.compile(
    rf"(?:(?<!\S)(?P<dashes>--?))?(?:(?<![^\W_])|(?-i:(?<=[a-z])(?=[A-Z]))"
    rf"|(?<=[^\W_])(?=(?:passw|secret|token)\w*\s*[=:]))(?P<name>{_NAMES})(?:[_\-][a-z0-9]++)?['\"]?"
    r"(?P<by>\s*(?:=>|:=|=|:)\s*|(?:\s+(?:for|of|on)(?:\s+[\w'’-]{1,30}){1,4}?)?"
    r"\s+(?:is now|is|was|are|to|ist|est|es|hai|will be)(?:\s*:)?\s+|\s+[-–—]\s+|\s+)"
    r"(?P<value>\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`|\S[^\n]*)",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"(?<!\S)(?P<value>\S++)\s++is\s++(?:my|the|his|her|our|their|your)\s+(?:[\w-]+\s+){{0,2}}?(?:{_NAMES})\b",
    re.IGNORECASE,
)
# Words that begin what is said *of* a password, not a password.
_ORDINARY = frozenset(
    "a an the my your his her our their its this that these those what which who how why when "
    "where not no never always too very so as at in on of for from by with to and or but if be "
    "is are was were been being has have had must should shall will would can could may might do "
    "does did need needs required wrong incorrect invalid right valid good bad weak strong secure "
    "safe old new same different missing empty blank unknown lost gone secret private public "
    "there here it he she they we you i than then still already now only also just about under "
    "over between more less short long simple hard easy ok okay okay. fine true false null none "
    "please thanks number numbers field box manager policy policies reset hint length "
    "minimum".split()
)  # fmt: skip
_SHORT = ("pass", "pw", "auth", "sig", "id")  # names that are ordinary words beside a verb
_WEAK = re.compile(r"secrets?|token|credentials?|auth|signature|.*id")
_SHAPED = re.compile(r"\d|[^\w\s.,!?'’-]|[a-z][A-Z]|\w[!@#$%^&*_]\w")


def _secrets(text: str) -> list[Span]:
    found: list[Span] = []
    at = 0
    while m := _CALLED.search(text, at):
        end = _value_end(m)
        at = end or m.start("value")
        if end:
            quoted = m["value"][0] in "\"'`" and text[end - 1] == m["value"][0]
            inner = quoted and end - m.start("value") > 2
            found.append((m.start("value") + inner, end - inner, "secret"))
    for m in _BEFORE.finditer(text):
        value = m["value"]
        plain = value.strip(".,;:!?…\"'`()[]").casefold()
        if plain and plain not in _ORDINARY and not _participle(plain):
            found.append((*m.span("value"), "secret"))
    return _joined(found)


def _value_end(m: re.Match[str]) -> int:
    """Where the secret of a match of _CALLED ends; 0 where what follows is none."""
    value, by, start = m["value"], m["by"].strip(), m.start("value")
    name = m["name"].casefold()
    if not by and not m["dashes"] and name in _SHORT:
        return 0
    if value[0] in "\"'`" and value[-1] == value[0] and len(value) > 1:
        return start + len(value) if by or m["dashes"] else 0
    first = value.split(maxsplit=1)[0]
    one = start + len(first)
    bare = first.rstrip(".,;:!?…)")
    plain = first.strip(".,;:!?…\"'`()[]").casefold()
    if not by:  # "--token x" and "PIN 4821"; any other bare word after a name is prose
        shaped = re.fullmatch(r"\W*\d{3,}\W*|(?=.*\d)(?=.*[^\W\d])\S{5,}", first)
        return one if (m["dashes"] or shaped) and not first.startswith("-") else 0
    if by in ("=", "=>", ":=") or _SHAPED.search(bare):
        return one
    if (name in _SHORT and by != ":") or by in ("to", "-", "–", "—"):
        return 0
    if plain in _ORDINARY or not plain or _participle(plain):
        return 0
    if _WEAK.fullmatch(name):
        return one if len(bare) >= 16 else 0
    stop = re.search(r"[.!?;](?:\s|\Z)|,\s|\s(?:but|so|because)\s|\n|\Z", value)
    assert stop is not None
    return start + max(stop.start(), 1)


def _participle(word: str) -> bool:
    return word.isalpha() and len(word) > 4 and word.endswith(("ing", "ed", "able", "ible"))


# -- addresses -------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?:\"[^\"\n]{1,64}\"|(?<![^\s\"'<>()\[\],;:@＠])[^\s\"'<>()\[\],;:@＠]++)[@＠](?:\[[^\]\s]+\]|[\w\-]+(?:[.．。][\w\-]+)+)"
)
_SPELLED = re.compile(
    r"(?<![\w.+\-])[\w.+\-]++\s*+(?:\(at\)|\[at\]|\{at\}|(?<=\s)at\s)\s*+[\w\-]++"
    r"(?:\s*+(?:\(dot\)|\[dot\]|\{dot\}|(?<=\s)dot\s)\s*+[\w\-]++)+",
    re.IGNORECASE,
)


def _emails(text: str) -> list[Span]:
    return _joined([(*m.span(), "email") for r in (_EMAIL, _SPELLED) for m in r.finditer(text)])


def _joined(spans: list[Span]) -> list[Span]:
    """Overlapping spans as one, so that no rule leaves the end of what another began."""
    done: list[Span] = []
    for start, end, kind in sorted(spans):
        if done and start < done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]), done[-1][2])
        else:
            done.append((start, end, kind))
    return done


# What one rule takes the next no longer sees.
RULES: tuple[Rule, ...] = (_private_keys, _credentials, _secrets, _emails, _keys, numbers, dictated)
