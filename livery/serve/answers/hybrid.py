"""The keys of a command on a server: FastText where it is sure, the adapter otherwise, with what is
there of the two."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from livery.errors import UserError
from livery.serve.answers.host import Host
from livery.serve.answers.models import all_models, find_model
from livery.serve.answers.question import NoAnswer, Question
from livery.serve.errors import Conflict
from livery.serve.known import mark
from livery.serve.settings import ServeSettings, inside, is_name
from livery.skills import AnswerError, date_keys
from livery.skills.date_keys.fasttext import MODEL, RECORD, Classifier, Prediction

SKILL = date_keys.SKILL.name
TOKENS = 128
_FORMAT: Mapping[str, Any] = {"type": "livery_skill", "skill": SKILL}


@dataclass(frozen=True)
class Found:
    """The keys of a command.

    Attributes:
        keys: in order of mention.
        source: who found them.
        confidence: FastText's, where it was asked.
        adapter, fasttext: names of the two, where they are there.
        missing: what is not there, or cannot be used, and what to do about it.
        seconds: it took.
    """

    keys: list[str]
    source: Literal["fasttext", "adapter"]
    confidence: float | None
    adapter: str | None
    fasttext: str | None
    missing: list[str]
    seconds: float


@dataclass
class Classifiers:
    """Those loaded; one that was trained anew is loaded anew."""

    _kept: dict[tuple[Any, ...], Classifier] = field(default_factory=dict[tuple[Any, ...], Any])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, folder: Path) -> Classifier:
        """Raises UserError where it cannot be loaded."""
        key = (folder, mark(folder / RECORD), mark(folder / MODEL))
        with self._lock:
            if key not in self._kept:
                self._kept = {key: Classifier.load(folder)}
            return self._kept[key]


def find_adapter(settings: ServeSettings, name: str | None = None) -> Path | None:
    """The adapter that is asked: of this name, else "date-keys", else the first of this skill.

    Raises:
        NotFound: there is none of this name.
    """
    if name is not None:
        return find_model(settings, name).adapter
    found = [model for model in all_models(settings) if model.adapter is not None]
    own = [model for model in found if model.name == SKILL]
    chosen = next(iter(own), None) or next((m for m in found if m.skill == SKILL), None)
    return chosen.adapter if chosen else None


def find_fasttext(settings: ServeSettings, name: str | None = None) -> Path | None:
    """The classifier that is asked: of this name, else "date-keys-fasttext", else the first.

    Raises:
        NotFound: there is none of this name.
    """
    folder = settings.adapters
    if name is not None:
        return inside(folder, name, RECORD, what="FastText model").parent
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [p for p in places if is_name(p.name) and (p / RECORD).is_file()]
    return next((p for p in found if p.name == f"{SKILL}-fasttext"), found[0] if found else None)


class Hybrid:
    """What answers one command; made for one request."""

    def __init__(self, adapter: Path | None, fasttext: Path | None) -> None:
        self.adapter, self.fasttext = adapter, fasttext
        self.missing: list[str] = []
        self._began = time.perf_counter()
        self._said: Prediction | None = None
        if adapter is None:
            self.missing.append("adapter: train one with `livery run date-keys`")
        if fasttext is None:
            self.missing.append("FastText model: train one with `livery fasttext train`")

    def sure(self, text: str, classifiers: Classifiers) -> Found | None:
        """FastText's answer, where it is sure or alone; None where the adapter is to be asked."""
        if self.fasttext is None:
            return None
        try:
            classifier = classifiers.get(self.fasttext)
        except UserError as error:
            self.missing.append(f"FastText model: {error}")
            return None
        self._said = classifier.predict(text)
        threshold = classifier.threshold
        if self.adapter is None or (threshold is not None and self._said.confidence >= threshold):
            return self._found(list(self._said.keys), "fasttext")
        return None

    async def ask(self, text: str, host: Host | None) -> Found:
        """The adapter's answer; FastText's where the adapter cannot be opened or says none.

        Raises:
            Conflict: neither is there, or answers.
            NoAnswer: the engine failed.
            Busy: too many wait.
        """
        if self.adapter is not None and host is not None:
            question = Question(
                tuple(date_keys.messages(text)), str(self.adapter), max_tokens=TOKENS,
                format=dict(_FORMAT),
            )  # fmt: skip
            try:
                answer = await host.ask(question).whole()
                keys = date_keys.parse(answer.text)
                return self._found(list(dict.fromkeys(keys)), "adapter")
            except NoAnswer as error:
                if error.why == "engine":
                    raise
                self.missing.append(f"adapter: {error}")
            except AnswerError as error:  # it was cut short
                self.missing.append(f"adapter: its answer is {error}")
        if self._said is not None:
            return self._found(list(self._said.keys), "fasttext")
        raise Conflict(f"Nothing here finds date keys. {'; '.join(self.missing)}.")

    def _found(self, keys: list[str], source: Literal["fasttext", "adapter"]) -> Found:
        return Found(
            keys, source, self._said.confidence if self._said else None,
            self.adapter.name if self.adapter else None,
            self.fasttext.name if self.fasttext else None,
            self.missing, round(time.perf_counter() - self._began, 6),
        )  # fmt: skip
