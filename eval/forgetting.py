"""What an adapter costs its base at plain text: perplexity of 200 short texts of our own, paired.

Everyday facts, prose and technical notes, none of which any skill's data hold. Each is read as it
stands, without a chat template, so what changes is the model's English and not its manners.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.stats import compare_means
from livery.engines.engine import Engine
from livery.errors import UserError
from livery.files import sha256

TEXTS = Path(__file__).with_name("neutral.txt")


def read_texts(path: Path = TEXTS) -> list[str]:
    """The texts, one a line."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def measure(
    engine: Engine, texts: Sequence[str], moved: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Perplexity of each text by the base and with the adapter, which is left switched on.

    Args:
        moved: told how many texts were read, each twice.

    Returns:
        {"sha256", "total", "base", "tuned", "ratio", "interval", "p_value", "texts": [{"text",
        "tokens", "base", "tuned"}]}: of a text the mean nats a token, of all of them perplexity,
        exp of the mean over texts; "ratio" is tuned by base with its interval and p-value from the
        paired bootstrap over texts. Or {"reason"} where the engine shows no log-probabilities.
    """
    nats: dict[bool, list[float]] = {False: [], True: []}
    counts: list[int] = []
    try:
        start = engine.text_prompt()
        for tuned in (False, True):
            engine.use_adapter(tuned)
            for text in texts:
                [scores] = engine.logprobs([start], [text])
                own = scores[:-1]  # without the token that ends an answer, which no text has
                nats[tuned].append(-float(own.mean(dtype="float64")))
                counts += [] if tuned else [len(own)]
                moved(len(nats[False]) + len(nats[True]))
    except UserError as error:
        return {"reason": str(error)}
    finally:
        engine.use_adapter(True)
    return compared(texts, counts, nats[False], nats[True])


def compared(
    texts: Sequence[str], counts: Sequence[int], base: Sequence[float], tuned: Sequence[float]
) -> dict[str, Any]:
    """The record of these mean nats a token."""
    paired = compare_means(base, tuned)
    rows = zip(texts, counts, base, tuned, strict=True)
    return {
        "sha256": sha256(TEXTS),
        "total": len(texts),
        "base": math.exp(math.fsum(base) / len(base)),
        "tuned": math.exp(math.fsum(tuned) / len(tuned)),
        "ratio": math.exp(paired.difference),
        "interval": paired.interval
        and [math.exp(paired.interval.low), math.exp(paired.interval.high)],
        "p_value": paired.p_value,
        "texts": [
            {"text": text, "tokens": count, "base": round(old, 6), "tuned": round(new, 6)}
            for text, count, old, new in rows
        ],
    }
