"""Date keys by FastText: words and short runs of words, in tens of microseconds.

    train([("wake me at 7 am", ("at_7am",)), ...], Path("new-folder"))
    classifier = Classifier.load("adapters/date-keys-fasttext")
    classifier.predict("wake me at half seven tomorrow morning")
    # Prediction(keys=("at_7_30am", "tomorrow_morning"), confidence=0.99, text="wake me …")

One label per key (loss "ova": each independent), except that all times share one label, and so do
all amounts of minutes and of days: their numbers come from `moments`. The classifier sees a command
as `contract.normalise` writes it, with its moments masked.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery import __version__
from livery.errors import UserError, shown
from livery.files import sha256, write_json
from livery.reading import read_object
from livery.skills.date_keys.contract import MAX_KEYS, VERSION, is_key, normalise
from livery.skills.date_keys.moments import Moment, find_moments, mask, order
from livery.temporary import Scratch

MODEL, RECORD = "model.ftz", "fasttext.json"
FORMAT = 1
# bytes; a larger model is refused
LARGEST = 10_000_000

NONE = "none"
_MASKED = {"at_T": "clock", "in_N_minutes": "minutes", "in_N_days": "days"}
_NUMBERED = re.compile(r"at_\d.*|in_\d+_(?:minutes|days)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LABEL = "__label__"


@dataclass(frozen=True)
class FastTextSettings:
    """How the classifier is trained.

    Attributes:
        epochs: passes over the rows.
        learning_rate: at the beginning; it falls to 0. At 0.5 the weights grow so large that the
            quantization distorts them: it cost 28 of 98 % of right answers.
        dim: numbers a word.
        ngrams: longest run of neighbouring words that counts as a feature.
        buckets: hashed runs.
        seed: same seed, same bytes.
    """

    epochs: int = 25
    learning_rate: float = 0.3
    dim: int = 64
    ngrams: int = 3
    buckets: int = 20_000
    seed: int = 7


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of a command.

    Attributes:
        keys: in order of mention as far as words tell.
        confidence: 0 to 1: the probability, as the classifier sees it, that no label is wrong; 0
            where it names a number that is not in the command.
    """

    keys: tuple[str, ...]
    confidence: float


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        model: FastText's.
        record: what fasttext.json says of it.
    """

    model: Any
    record: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Open a folder that `livery fasttext train` wrote.

        Raises:
            UserError: there is none, it is of another version of the skill, its model was changed,
                or fasttext-community is not installed.
        """
        folder = Path(folder).expanduser()
        if not (folder / RECORD).is_file():
            raise UserError(
                f"{folder}: no FastText model ({RECORD}). Make one with `livery fasttext train`."
            )
        record = read_object(folder / RECORD)
        if record.get("format") != FORMAT or record.get("skill_version") != VERSION:
            raise UserError(
                f"{folder / RECORD}: made for another version of date-keys or of Livery. Train it "
                "again with `livery fasttext train --overwrite`."
            )
        if not (folder / MODEL).is_file() or sha256(folder / MODEL) != record.get("sha256"):
            raise UserError(
                f"{folder / MODEL}: missing, or not the file that {RECORD} describes. Train it "
                "again with `livery fasttext train --overwrite`."
            )
        try:
            model = package().load_model(str(folder / MODEL))
        except ValueError as error:
            raise UserError(f"{folder / MODEL}: {error}.") from None
        return cls(model, record)

    @property
    def threshold(self) -> float | None:
        """The confidence from which its answers are taken; None where none was found."""
        found = self.record.get("calibration")
        return float(found["threshold"]) if isinstance(found, dict) else None

    def predict(self, text: str) -> Prediction:
        """The keys of a command."""
        plain = normalise(text)
        moments = find_moments(plain)
        labels, shares = self.model.predict(features(plain, moments), k=-1, threshold=0.0)
        sure = 0.0
        found: list[str] = []
        for label, share in zip(labels, shares, strict=True):
            share = min(max(float(share), 1e-9), 1 - 1e-9)
            sure += math.log(max(share, 1 - share))
            if share > 0.5:
                found.append(label.removeprefix(_LABEL))
        keys, missing = _keys(found, moments)
        keys = _said_once(keys, plain)
        return Prediction(
            order(plain, keys, moments)[:MAX_KEYS], 0.0 if missing else math.exp(sure)
        )


def train(
    rows: Iterable[tuple[str, Sequence[str]]],
    folder: Path,
    settings: FastTextSettings | None = None,
    *,
    verbose: bool = False,
) -> dict[str, Any]:
    """Train a classifier on (command, keys) and write model.ftz into `folder`.

    Args:
        rows: commands with their keys.
        folder: is there, and holds no model.
        settings: None takes the defaults.
        verbose: let FastText show its progress on stderr.

    Returns:
        The record of it, as `write_record` keeps it.

    Raises:
        UserError: there are no rows, the model is larger than 10 MB, or fasttext-community is not
            installed.
    """
    fasttext, settings = package(), settings or FastTextSettings()
    lines = [_line(text, keys) for text, keys in rows]
    if not lines:
        raise UserError("There are no rows to train the FastText classifier on.")
    with Scratch("fasttext") as scratch:
        (scratch / "train.txt").write_text("".join(lines), encoding="utf-8")
        # One thread: FastText's threads write into the same weights, so that no two runs agree.
        try:
            model = fasttext.train_supervised(
                input=str(scratch / "train.txt"),
                loss="ova",
                thread=1,
                epoch=settings.epochs,
                lr=settings.learning_rate,
                dim=settings.dim,
                wordNgrams=settings.ngrams,
                bucket=settings.buckets,
                minn=0,
                maxn=0,
                seed=settings.seed,
                verbose=2 if verbose else 0,
            )
        except RuntimeError as error:  # "Encountered NaN."
            raise UserError(
                f"FastText's training broke down ({error}). Give a smaller learning rate than "
                f"{settings.learning_rate:g}."
            ) from None
    # A number of the vectors by itself: pairs (dsub=2) make the file smaller by half, and cost two
    # of a hundred right answers.
    model.quantize(dsub=1, thread=1, verbose=0)
    model.save_model(str(folder / MODEL))
    size = (folder / MODEL).stat().st_size
    if size > LARGEST:
        raise UserError(
            f"The FastText model has {size / 1e6:.1f} MB; more than {LARGEST / 1e6:.0f} MB are not "
            "meant. Give it fewer dimensions or buckets."
        )
    return {
        "format": FORMAT,
        "skill": "date-keys",
        "skill_version": VERSION,
        "livery": __version__,
        "settings": dataclasses.asdict(settings),
        "rows": len(lines),
        "labels": sorted(label.removeprefix(_LABEL) for label in model.labels),
        "bytes": size,
        "sha256": sha256(folder / MODEL),
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write fasttext.json beside the model."""
    write_json(folder / RECORD, record)


def package() -> Any:
    """The module `fasttext`.

    Raises:
        UserError: it is not installed, or it is one that fails on numpy 2.
    """
    try:
        found = importlib.import_module("fasttext")
    except ImportError:
        raise UserError(
            "FastText needs the package fasttext-community, which is not installed. Install it "
            "with: pip install 'livery[fasttext]'"
        ) from None
    return found


def features(plain: str, moments: Sequence[Moment]) -> str:
    """The words that the classifier sees of a normalised command."""
    return " ".join(_WORD.findall(mask(plain, moments))) or "EMPTY"


def label(key: str) -> str:
    """The label of a key: at_7_30am -> at_T, in_45_minutes -> in_N_minutes."""
    if not _NUMBERED.fullmatch(key):
        return key
    return "at_T" if key.startswith("at_") else re.sub(r"\d+", "N", key)


def _line(text: str, keys: Sequence[str]) -> str:
    """A row as FastText reads it."""
    plain = normalise(text)
    labels = sorted({label(key) for key in keys}) or [NONE]
    marked = " ".join(_LABEL + name for name in labels)
    return f"{marked} {features(plain, find_moments(plain))}\n"


def _keys(labels: Sequence[str], moments: Sequence[Moment]) -> tuple[list[str], bool]:
    """(keys, whether a label names a number that the command does not hold)."""
    keys: list[str] = []
    missing = False
    for name in labels:
        kind = _MASKED.get(name)
        if kind is None:
            keys += [name] if is_key(name) else []
            continue
        named = [m.key for m in moments if m.kind == kind and m.key not in ("noon", "midnight")]
        missing = missing or not named
        keys += named
    return list(dict.fromkeys(keys)), missing or (NONE in labels and bool(keys))


def _said_once(keys: Sequence[str], plain: str) -> list[str]:
    """Without the "tomorrow" of "tomorrow morning": what is said once has one key."""
    kept = list(keys)
    for day in ("tomorrow", "yesterday"):
        if day in kept and plain.count(day) < sum(day in key.split("_") for key in kept):
            kept.remove(day)
    return kept


def describe(record: dict[str, Any]) -> str:
    """One line for people: rows and the version of their generator, labels, size."""
    version = record.get("data", {}).get("version")
    of = f" of data version {shown(version)}" if version else ""
    return (
        f"{record['rows']:,} rows{of}, {len(record['labels'])} labels, "
        f"{record['bytes'] / 1e6:.1f} MB, seed {shown(record['settings']['seed'])}"
    )
