"""What a skill's prompt needs besides the request: the state, the shell, the form of address.

asking = find_asking(get_skill("state"), {"state": "ship.txt"})
asking.messages("Who is on watch?"), asking.grammar
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from livery.engines.engine import Grammar, Message
from livery.errors import UserError, shown
from livery.reading import read_text
from livery.skills import Skill, actions, persona, state

# Option -> the skill that has it.
OWN_OPTIONS = {"state": "state", "shell": "actions", "address": "persona"}


@dataclass(frozen=True)
class Asking:
    """How a skill is asked.

    Attributes:
        messages: request -> conversation.
        grammar: of its answers; None where there is none.
    """

    messages: Callable[[str], list[Message]]
    grammar: Grammar | None


def find_asking(skill: Skill, given: Mapping[str, str | None], system: str | None = None) -> Asking:
    """How `skill` is asked with what the user gave.

    Args:
        given: the options of OWN_OPTIONS; None for one that was left out.
        system: the system message with a state block, in place of the option `state`.

    Raises:
        UserError: an option of another skill, one that cannot be read, or a state is missing.
    """
    for name, value in given.items():
        if value is not None and OWN_OPTIONS[name] != skill.name:
            raise UserError(
                f"--{name} is for --skill {OWN_OPTIONS[name]}; leave it out for {skill.name}."
            )
    if skill.name == state.SKILL.name:
        return _of_state(given.get("state"), system)
    if system:
        raise UserError("--skill brings its own system prompt; leave out --system.")
    if skill.name == actions.SKILL.name:
        shell = given.get("shell") or actions.own_shell()
        return Asking(
            lambda text: actions.messages(text, shell="bash" if shell == "bash" else "powershell"),
            skill.constraint(),
        )
    if skill.name == persona.SKILL.name and (address := given.get("address")) is not None:
        try:
            persona.check_address(address)
        except ValueError as error:
            raise UserError(f"--address: {error}.") from None
        return Asking(lambda text: persona.messages(text, address=address), None)
    return Asking(skill.messages, skill.constraint())


def _of_state(path: str | None, system: str | None) -> Asking:
    if path and system:
        raise UserError("--state and --system each bring the state: give one of them.")
    if path:
        state.load_block(path)  # which names file and line
        system = state.system_message(read_text(path))
    elif not system:
        raise UserError(
            "--skill state answers from a state block, and there is none: name the file that holds "
            "it with --state FILE, or give the whole system message with --system TEXT."
        )
    try:
        block = state.read_block(system)
    except state.StateError as error:
        raise UserError(f"--system: {shown(error)}.") from None
    try:
        grammar = Grammar("lark", state.grammar(block))
    except ValueError as error:
        raise UserError(f"--{'state' if path else 'system'}: {error}.") from None
    start = {"role": "system", "content": system}
    return Asking(lambda text: [start, {"role": "user", "content": text}], grammar)
