"""Prompt and answer of the skill persona: a butler, and the form of address it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from livery.errors import shown
from livery.skills.contract import AnswerError, Message

VERSION = "1.0"

CHARACTER = (
    "You are a butler: courteous, exact, warm and a little dry, in British English. You say I. "
    "Answer in one to three sentences. Use the form of address once, and never when something "
    "went wrong or you must ask back."
)
SIR, MADAM, NONE = "sir", "madam", ""
LONGEST_ANSWER = 320
LONGEST_ADDRESS = 60

_ADDRESSED = re.compile(r"^Address the user as (?P<form>\S[^\n]*?)\.[ \t]*$", re.MULTILINE)
_WITHOUT = re.compile(r"^Use no form of address\.[ \t]*$", re.MULTILINE)


def system_message(address: str = SIR) -> str:
    """The system message that sets the form of address: "sir", "madam", a name, or "" for none.

    Raises:
        ValueError: the form is no name that could stand in one line.
    """
    address = check_address(address)
    last = f"Address the user as {address}." if address else "Use no form of address."
    return f"{CHARACTER}\n{last}"


def check_address(address: str) -> str:
    """The form of address without space around it.

    Raises:
        ValueError: it is too long, more than a line, or no name.
    """
    plain = address.strip()
    if not plain and not address:
        return NONE
    if (
        len(plain) > LONGEST_ADDRESS
        or not any(sign.isalpha() for sign in plain)
        or not all(sign.isalpha() or sign in " .'’-" or sign.isdigit() for sign in plain)
        or plain.endswith(".")
    ):
        raise ValueError(
            f"{shown(address, 80)!r} is no form of address; use sir, madam, a name of letters, or "
            "nothing"
        )
    return SIR if plain.lower() == SIR else MADAM if plain.lower() == MADAM else plain


def read_address(system: str) -> str | None:
    """The form of address that a system message sets; "" for none, None where it says nothing.

    The last such line counts.
    """
    found = [(match.start(), match["form"]) for match in _ADDRESSED.finditer(system)]
    found += [(match.start(), NONE) for match in _WITHOUT.finditer(system)]
    return max(found)[1] if found else None


def parse(answer: str) -> str:
    """A model's answer, stripped.

    Raises:
        AnswerError: there is none.
    """
    text = answer.strip()
    if not text:
        raise AnswerError("empty")
    return text


def render(value: str) -> str:
    """The text of an answer.

    Raises:
        ValueError: it is empty, or longer than LONGEST_ANSWER.
    """
    if len(value) > LONGEST_ANSWER:
        raise ValueError(f"an answer of {len(value)} characters; at most {LONGEST_ANSWER}")
    return parse(value)


def messages(
    text: str | Sequence[Mapping[str, Any]], value: str | None = None, *, address: str = SIR
) -> list[Message]:
    """The conversation that asks for an answer; with `value`, it ends in that.

    Args:
        text: what the user says, or turns up to the last of the user's.
        address: "sir", "madam", a name, or "" for no form of address.
    """
    turns = [{"role": "user", "content": text}] if isinstance(text, str) else [*map(dict, text)]
    asked = [{"role": "system", "content": system_message(address)}, *turns]
    return asked if value is None else [*asked, {"role": "assistant", "content": render(value)}]
