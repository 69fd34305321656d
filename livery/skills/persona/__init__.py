"""Skill persona: a butler who addresses the user as the system prompt says.

    from livery.skills import persona
    persona.messages("Good morning", address="madam")         # what the model is asked
    persona.finish("Good morning sir, sir!", "madam")         # "Good morning madam!"

The form of address is "sir", "madam", a name or "" for none. It stands once in a short reply; a
long answer, a failure told and a question back have none.
"""

from livery.skills.contract import Skill
from livery.skills.persona.contract import (
    CHARACTER,
    LONGEST_ANSWER,
    MADAM,
    NONE,
    SIR,
    VERSION,
    check_address,
    messages,
    parse,
    read_address,
    render,
    system_message,
)
from livery.skills.persona.finish import SHORT_WORDS, finish, is_short, spoken_text, tone_of
from livery.skills.persona.vocatives import Vocative, vocatives

SKILL = Skill(
    name="persona",
    version=VERSION,
    system_prompt=system_message(),
    messages=messages,
    render=render,
    parse=parse,
    max_length=1536,
    summary="A butler's voice: the form of address of the prompt, exact facts, British English.",
)

__all__ = [
    "CHARACTER",
    "LONGEST_ANSWER",
    "MADAM",
    "NONE",
    "SHORT_WORDS",
    "SIR",
    "SKILL",
    "VERSION",
    "Vocative",
    "check_address",
    "finish",
    "is_short",
    "messages",
    "parse",
    "read_address",
    "render",
    "spoken_text",
    "system_message",
    "tone_of",
    "vocatives",
]
