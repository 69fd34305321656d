"""Blocks of reasoning in what an assistant says, such as <think>…</think> before its answer.

An answer whose block never closes was cut off, and one that holds nothing else answers nothing;
neither can be learned from. A prompt may also ask for reasoning, or for none, by a word of its own
(/think and /no_think, as Qwen3 and SmolLM3 know them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from livery.dataset.conversation import Message

# How families open and close a block, beside <think>: Seed, Ministral, Cohere, Kimi, Apertus.
BLOCKS = (
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("◁think▷", "◁/think▷"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)  # fmt: skip
_SWITCH = re.compile(r"(?<!\S)/(no_)?think(?!\S)")


def split_reasoning(message: Message, tag: str = "think") -> tuple[str, str]:
    """(the reasoning of an assistant's turn, the rest of its content).

    It is in a field of its own, or in the content as <think>…</think> before the answer.
    """
    content = message["content"]
    if message.get("reasoning_content"):
        return message["reasoning_content"], content
    before, found, after = content.partition(f"</{tag}>")
    if not found:
        return "", content
    return before.partition(f"<{tag}>")[2] if f"<{tag}>" in before else before, after


def unanswered(text: str, *, calls: bool = False) -> str:
    """Why the content of an answer with reasoning answers nothing; "" where it does answer.

    Args:
        calls: the answer calls a tool, so it needs no words behind its reasoning.
    """
    text = text.strip()
    for opening, closing in BLOCKS:
        if text.startswith(opening) and closing not in text:
            return f"its reasoning is cut off: {opening} without {closing}"
        if not calls and text.endswith(closing) and not text.partition(closing)[2]:
            return "an answer that is only reasoning"
    return ""


def left_open(text: str) -> str:
    """What opens a block of reasoning amid a text that never closes it; "" for none."""
    return next((o for o, c in BLOCKS if text.rfind(o) > text.rfind(c)), "")


def bare(reasoning: str) -> str:
    """Reasoning of a field of its own without the tags around it, which templates write."""
    text = reasoning.strip()
    for opening, closing in BLOCKS:
        if text.startswith(opening):
            return text.removeprefix(opening).removesuffix(closing).strip()
    return reasoning


def without_copy(content: str, reasoning: str) -> str | None:
    """The content without the block of reasoning before it that a field holds as well.

    None where the block says something else than the field.
    """
    text = content.lstrip()
    for opening, closing in BLOCKS:
        if not text.startswith(opening) or closing not in text:
            continue
        inside, _, rest = text.removeprefix(opening).partition(closing)
        if not inside.strip() or inside.split() == reasoning.split():
            return rest.lstrip("\n")
        return None
    return content


def switch(messages: Iterable[Message]) -> str:
    """What the last /think or /no_think of people asks for; "" where there is none."""
    said = [m["content"] for m in messages if m["role"] in ("system", "user")]
    found = [match[0] for text in said for match in _SWITCH.finditer(text)]
    return found[-1] if found else ""


def without_switches(text: str) -> str:
    """A text without /think and /no_think, which some templates take out of it."""
    return " ".join(_SWITCH.sub(" ", text).split())


def contradicted(messages: Sequence[Message], at: int) -> str:
    """The note on an answer that contradicts the switch before it; "" if it does not."""
    asked = switch(messages[:at])
    reasons = bool(split_reasoning(messages[at])[0].strip())
    if asked == "/no_think" and reasons:
        return "answers with reasoning although /no_think before them asks for none"
    if asked == "/think" and not reasons:
        return "answers without reasoning although /think before them asks for it"
    return ""


# A generation prompt that ends within a block of reasoning, or after an empty one.
OPEN_BLOCK = re.compile(r"\s*<([A-Za-z_]+)>\s*\Z")
EMPTY_BLOCK = re.compile(r"\s*<([A-Za-z_]+)>\s*</\1>\s*\Z")


def closing(prompt: str, tag: str) -> str:
    """What ends a block of reasoning that a prompt has opened and left empty."""
    return f"\n</{tag}>\n\n" if prompt.endswith("\n") else f"</{tag}>"
