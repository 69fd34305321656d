"""Interactions: what a user asked and a model answered, on file where somebody switched that on.

    from livery import interactions
    log = interactions.Log("interactions.jsonl")
    id = log.record(messages, answer, skill="persona")
    log.mark(id, "bad", corrected="It is Paris, sir.")

Nothing is written that `redact` takes out. docs/improving.md shows what becomes of a log.
"""

from livery.interactions.log import LOG_HEADER, Interaction, Log, Mark, Read, read
from livery.interactions.redact import PLACEHOLDER, Redactor, redact

__all__ = [
    "LOG_HEADER", "PLACEHOLDER", "Interaction", "Log", "Mark", "Read", "Redactor", "read", "redact",
]  # fmt: skip
