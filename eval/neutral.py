"""What an adapter does to prompts that are none of its skill's: base against tuned on ten of them.

A LoRA adapter changes every answer of the base, whatever is asked. These are asked as plain chat,
without the skill's system prompt, so what of the skill shows in them has leaked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from livery.engines.engine import Decoding, Engine
from livery.errors import UserError
from livery.skills import AnswerError, Skill

PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "Write a short greeting to a new neighbour.",
    "What is 6 times 7?",
    "Translate 'good night' into Spanish.",
    "Why is the sky blue?",
    "Give me a synonym for 'happy'.",
    "Who wrote Romeo and Juliet?",
    "Complete the sentence: The cat sat on the",
    "What do bees make?",
)
MAX_TOKENS = 32


def ask(engine: Engine, skill: Skill, moved: Callable[[int], None] = lambda done: None) -> Any:
    """Ask the base and the adapter each prompt, greedily and freely.

    Args:
        engine: with an adapter; it is left switched on.
        moved: told how many answers there are.

    Returns:
        {"total", "differ", "like_skill", "like_skill_base", "prompts": [{"prompt", "base",
        "tuned", "differs", "like_skill"}]}; or {"reason"} where the engine cannot ask them.
    """
    decoding = Decoding(max_tokens=MAX_TOKENS)
    answers: dict[bool, list[str]] = {}
    try:
        for tuned in (False, True):
            engine.use_adapter(tuned)
            prompts = [engine.prompt([{"role": "user", "content": text}]) for text in PROMPTS]
            before = len(PROMPTS) * tuned
            given = engine.generate(
                prompts, decoding, lambda done, _, before=before: moved(before + done)
            )
            answers[tuned] = [one.text.strip() for one in given]
    except UserError as error:  # a template that wants a system prompt, an endpoint without a base
        return {"reason": str(error)}
    finally:
        engine.use_adapter(True)
    return compared(skill, answers[False], answers[True])


def compared(skill: Skill, base: list[str], tuned: list[str]) -> dict[str, Any]:
    """The record of these answers to PROMPTS."""
    alike = [looks_like(skill, answer) for answer in tuned]
    rows = [
        {"prompt": prompt, "base": old, "tuned": new, "differs": old != new, "like_skill": like}
        for prompt, old, new, like in zip(PROMPTS, base, tuned, alike, strict=True)
    ]
    return {
        "total": len(rows),
        "differ": sum(old != new for old, new in zip(base, tuned, strict=True)),
        "like_skill": sum(alike),
        "like_skill_base": sum(looks_like(skill, answer) for answer in base),
        "prompts": rows,
    }


def looks_like(skill: Skill, answer: str) -> bool:
    """Whether an answer follows the skill's contract or, where its answers are JSON, is one such
    text: `"Paris"` in quotes is what a skill that lists strings makes of Paris."""
    if not answer:
        return False
    try:
        skill.parse(answer)
    except AnswerError:
        return _speaks_json(skill) and _is_json(answer)
    return True


def _speaks_json(skill: Skill) -> bool:
    """Whether the skill's own rendering of nothing, or its schema, says that it answers in JSON."""
    if skill.json_schema is not None:
        return True
    for empty in ([], {}, ()):
        try:
            return _is_json(skill.render(empty))
        except Exception:  # a skill's own code, of a value that it does not know
            continue
    return False


def _is_json(text: str) -> bool:
    """Whether a text is a JSON string, list or object; a number is what anybody may answer."""
    try:
        return isinstance(json.loads(text), (str, list, dict))
    except (ValueError, RecursionError):
        return False


def asked(record: dict[str, Any]) -> dict[str, Any] | None:
    """A record's comparison; None of one without, and of one that could not be made."""
    found = record.get("neutral")
    return found if found and "prompts" in found else None
