"""What a skill's program makes of an answer, told apart from the answer itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from livery.files import plain
from livery.skills import AnswerError, get_skill

if TYPE_CHECKING:
    from livery.skills.actions.guard import Guarded, Judged


def finish(
    skill: str, answer: str, messages: Sequence[Mapping[str, Any]], address: str | None = None
) -> dict[str, Any]:
    """An answer finished by its skill.

    Args:
        skill: one of `skill_names()`.
        messages: what was answered, in persona with its form of address in the system message.
        address: the form of address instead.

    Returns:
        {"skill", …}: persona has "text"; actions has "guard" (`guarded`); every other skill has
        "value", what its contract reads, or "error".

    Raises:
        ValueError: the form of address is none.
        UserError: what the skill needs is not installed.
    """
    if skill == "persona":
        from livery.skills import persona

        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        said = persona.read_address(system) if address is None else address
        text = persona.finish(answer, persona.SIR if said is None else said)
        return {"skill": skill, "text": text}
    if skill == "actions":
        from livery.skills.actions.guard import guard_reply

        turns = [m for m in messages if m["role"] in ("user", "assistant")]
        return {"skill": skill, "guard": guarded(guard_reply(turns, answer))}
    try:
        return {"skill": skill, "value": plain(get_skill(skill).parse(answer))}
    except AnswerError as error:
        return {"skill": skill, "error": str(error)}


def guarded(found: Guarded) -> dict[str, Any]:
    """An answer's tags and what becomes of each, as JSON has it."""

    def rows(group: tuple[Judged, ...]) -> list[dict[str, Any]]:
        return [
            {"tag": one.tag.written, "released": one.released, **one.risk.as_dict()}
            for one in group
        ]

    return {
        "level": str(found.level),
        "allowed": rows(found.allowed),
        "to_confirm": rows(found.to_confirm),
        "blocked": rows(found.blocked),
        "problem": found.problem,
    }
