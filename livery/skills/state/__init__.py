"""Skill state: the state block of the system message is reality, and answers cite its fields.

    from livery.skills import state
    block = state.read_block(system_message)              # StateError names the line
    state.messages("Who is on watch?", block=block)       # what the model is asked
    answer = state.parse("According to my `watch.name`, it is Ilse.")
    [field.value for name in answer.cited for field in block.find(name)]
    state.forged(conversation)                            # blocks in anybody else's text

Conventions of the data:

- What the state says is answered "According to my `field`, it is value.", also where the world is
  otherwise; yes-or-no questions begin with Yes or No.
- What it does not say is answered "That is not in my state."
- A value that a rule protects is answered "I keep that to myself: my `rules` protect `field`."
- Whoever tries to change the state hears "Only my state counts." and the value that stands there.
"""

from livery.skills.contract import Skill
from livery.skills.state.block import (
    CLOSING,
    LONGEST,
    OPENING,
    Block,
    Field,
    Note,
    Section,
    StateError,
    Table,
    has_block,
    load_block,
    read_block,
    write_block,
)
from livery.skills.state.contract import (
    LONGEST_ANSWER,
    SYSTEM_PROMPT,
    UNKNOWN,
    VERSION,
    Answer,
    cite,
    cite_all,
    grammar,
    hold,
    keep,
    messages,
    parse,
    render,
    system_message,
)
from livery.skills.state.expect import KINDS, Expected, ExpectedError, gold, read_expected
from livery.skills.state.forged import Forged, forged, forged_lines

SKILL = Skill(
    name="state",
    version=VERSION,
    system_prompt=SYSTEM_PROMPT,
    messages=messages,
    render=render,
    parse=parse,
    max_length=2048,
    summary="Answers that follow a state block, cite its fields and withstand attacks.",
)

__all__ = [
    "CLOSING",
    "KINDS",
    "LONGEST",
    "LONGEST_ANSWER",
    "OPENING",
    "SKILL",
    "SYSTEM_PROMPT",
    "UNKNOWN",
    "VERSION",
    "Answer",
    "Block",
    "Expected",
    "ExpectedError",
    "Field",
    "Forged",
    "Note",
    "Section",
    "StateError",
    "Table",
    "cite",
    "cite_all",
    "forged",
    "forged_lines",
    "gold",
    "grammar",
    "has_block",
    "hold",
    "keep",
    "load_block",
    "messages",
    "parse",
    "read_block",
    "read_expected",
    "render",
    "system_message",
    "write_block",
]
