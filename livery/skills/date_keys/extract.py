"""The keys of a command, from an adapter, a FastText classifier, or both.

    from livery.skills import date_keys
    date_keys.extract("wake me at half seven tomorrow morning", adapter="adapters/date-keys")
    # ("at_7_30am", "tomorrow_morning")

What is given is loaded at the first call and kept. With both, the classifier answers where it is
sure enough (its calibrated threshold), else the adapter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from livery.engines.engine import Decoding, Engine, Grammar, open_engine
from livery.errors import UserError
from livery.skills.date_keys.contract import grammar, messages, parse
from livery.skills.date_keys.fasttext import Classifier

_TOKENS = 128


@dataclass(frozen=True)
class Extraction:
    """The keys of a command, and who found them.

    Attributes:
        keys: in order of mention.
        source: "fasttext" or "adapter".
        confidence: FastText's, where it was asked; else None.
        seconds: it took.
    """

    keys: tuple[str, ...]
    source: Literal["fasttext", "adapter"]
    confidence: float | None
    seconds: float


@dataclass(frozen=True)
class Extractor:
    """What answers commands: at least one of the two is there.

    Attributes:
        engine: a base with an adapter, or None.
        classifier: FastText's, or None.
        threshold: with both, the confidence from which the classifier's answer is taken.
        constrained: hold the engine's answers to the skill's grammar.
    """

    engine: Engine | None = None
    classifier: Classifier | None = None
    threshold: float = 0.0
    constrained: bool = True

    def __call__(self, text: str) -> Extraction:
        """The keys of one command.

        Raises:
            AnswerError: the engine's answer breaks the contract (it cannot where it is held to the
                grammar and not cut).
        """
        began = time.perf_counter()
        confidence: float | None = None
        if self.classifier is not None:
            found = self.classifier.predict(text)
            confidence = found.confidence
            if self.engine is None or confidence >= self.threshold:
                seconds = time.perf_counter() - began
                return Extraction(found.keys, "fasttext", confidence, seconds)
        if self.engine is None:
            raise ValueError("an extractor without engine and classifier")
        keys = parse(ask(self.engine, text, constrained=self.constrained))
        seconds = time.perf_counter() - began
        return Extraction(tuple(dict.fromkeys(keys)), "adapter", confidence, seconds)


def ask(engine: Engine, text: str, *, constrained: bool = True) -> str:
    """The engine's answer to one command, as it gave it."""
    held = Grammar("lark", grammar()) if constrained else None
    (answer,) = engine.generate([engine.prompt(messages(text))], Decoding(_TOKENS, held))
    return answer.text


def open_adapter(
    adapter: str, engine: str = "mlx", model: str | None = None, **options: Any
) -> Engine:
    """An engine with an adapter, its base and template as it was trained unless said otherwise.

    Args:
        adapter: folder; over http the name under which the endpoint serves it.
        engine: "mlx", "torch", "llamacpp" or "http".
        model: base; None takes the adapter's own.
        options: the engine's own (`livery.engines.engine.open_engine`).

    Raises:
        UserError: adapter, base or engine are wrong.
    """
    from livery.adapter_origin import choose_model, complete_options, read_origin  # tokenizers

    origin = read_origin(None if engine == "http" else adapter)
    base = choose_model(model, origin)
    return open_engine(
        engine, base, adapter, **complete_options(engine, options, origin, base, adapter)
    )


@lru_cache(maxsize=4)
def extractor(
    *,
    adapter: str | None = None,
    fasttext: str | None = None,
    engine: str = "mlx",
    model: str | None = None,
    threshold: float | None = None,
) -> Extractor:
    """What answers commands, loaded once: the same arguments give the same object.

    Args:
        adapter: its folder, or None for FastText alone.
        fasttext: folder of `livery fasttext train`, or None for the adapter alone.
        engine: what runs the adapter: "mlx", "torch", "llamacpp" (with a GGUF base).
        model: the base; None takes the one that the adapter was trained on.
        threshold: with both, the confidence from which FastText's answer is taken; None takes the
            calibrated one.

    Raises:
        UserError: neither is given, one cannot be opened, or FastText has no calibrated threshold.
    """
    if adapter is None and fasttext is None:
        raise UserError("Give an adapter, a FastText model, or both: there is nothing to ask.")
    classifier = Classifier.load(fasttext) if fasttext is not None else None
    if classifier is not None and adapter is not None and threshold is None:
        threshold = classifier.threshold
        if threshold is None:
            raise UserError(
                f"{fasttext}: no threshold kept its promise when it was calibrated. Give threshold "
                "yourself, or leave FastText out."
            )
    opened = open_adapter(adapter, engine, model) if adapter is not None else None
    return Extractor(opened, classifier, threshold or 0.0)


def extract(
    text: str,
    *,
    adapter: str | None = None,
    fasttext: str | None = None,
    engine: str = "mlx",
    model: str | None = None,
    threshold: float | None = None,
) -> tuple[str, ...]:
    """The keys of a command, in order of mention; () where it names no moment.

    Args:
        text: the command, as it was typed or recognised.
        adapter: folder of an adapter, or None for FastText alone.
        fasttext: folder of `livery fasttext train`, or None for the adapter alone.
        engine: what runs the adapter: "mlx", "torch", "llamacpp" (with a GGUF base).
        model: the base; None takes the one that the adapter was trained on.
        threshold: with both, the confidence from which FastText's answer is taken; None takes the
            calibrated one.

    Raises:
        UserError: neither adapter nor fasttext is given, or one cannot be opened.
    """
    ready = extractor(
        adapter=adapter, fasttext=fasttext, engine=engine, model=model, threshold=threshold
    )
    return ready(text).keys
