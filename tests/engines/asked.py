"""What the engines' tests ask: prompts that begin alike and differ in length."""

from __future__ import annotations

SYSTEM = "Answer with what was asked, and be short about it: one word will do. " * 3
COMMANDS = [
    "turn off the kitchen lights",
    "play",
    "remind me tomorrow morning to call the station about the meeting report",
    "what is the weather on monday",
    "set an alarm at seven",
    "open the garden door in twenty minutes",
    "stop the music",
]


def conversation(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
