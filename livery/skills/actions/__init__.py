"""Skill actions: a spoken request in, an answer in words plus tags that a runtime executes out.

    from livery.skills import actions
    actions.messages("open firefox please")          # what the model is asked
    answer = actions.parse_answer(text)              # what it answered: words and tags

Which answer is right:

- What is safe (low and medium risk) is acknowledged and done at once: the tags follow the words.
- What could lose something (high) is warned of and asked for with its command, without a tag:
  "That deletes the folder for good. Shall I run: rm -r ~/old?" The user's yes releases that
  command and nothing else; a no, or a yes to something else, releases nothing.
- What would ruin the system (critical) is refused: no executable tag, whoever asks.
- Chat has no tags.

A model is not what makes that safe: `guard` judges the tags of an answer by what they would do.
"""

from livery.skills.actions.contract import (
    KINDS,
    MAX_CHARACTERS,
    SHELLS,
    SYSTEM_PROMPT,
    VERBS,
    VERSION,
    Answer,
    Kind,
    Shell,
    Tag,
    Verb,
    Verbs,
    action,
    as_answer,
    as_value,
    conversation,
    grammar,
    messages,
    own_shell,
    parse,
    parse_answer,
    read_verbs,
    render,
    shell,
    system_prompt,
    vocabulary,
)
from livery.skills.contract import Skill


def _render(value: Answer) -> str:
    return render(as_answer(value))


SKILL = Skill(
    name="actions",
    version=VERSION,
    system_prompt=SYSTEM_PROMPT,
    messages=messages,
    render=_render,
    parse=parse,
    grammar=grammar,
    vocabulary=vocabulary,
    summary="Spoken requests with the actions and commands that carry them out.",
)

__all__ = [
    "KINDS",
    "MAX_CHARACTERS",
    "SHELLS",
    "SKILL",
    "SYSTEM_PROMPT",
    "VERBS",
    "VERSION",
    "Answer",
    "Kind",
    "Shell",
    "Tag",
    "Verb",
    "Verbs",
    "action",
    "as_answer",
    "as_value",
    "conversation",
    "grammar",
    "messages",
    "own_shell",
    "parse",
    "parse_answer",
    "read_verbs",
    "render",
    "shell",
    "system_prompt",
    "vocabulary",
]
