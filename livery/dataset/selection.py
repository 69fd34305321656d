"""Which rows a run takes: all of them, unless the settings ask for fewer.

Three settings leave rows out: `max_samples` trains on the first N, `val_split` holds a share of the
training rows out where there is no valid.jsonl, and `eval_max_samples` evaluates on N validation
rows. Only rows that can be trained on count: what is malformed, empty or too long is told before.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from livery.config.settings import TrainSettings
from livery.dataset import leaks
from livery.dataset.load import Dataset, digest
from livery.errors import UserError, counted


def split(settings: TrainSettings, data: str, rows: Dataset) -> tuple[Dataset, Dataset, str]:
    """(what is trained on, what is held out, what to tell the user).

    Args:
        data: what the rows were read from, for messages.
        rows: encoded rows, with what each asks.

    Raises:
        UserError: all rows ask the very same, so that none can be held out.
    """
    usable = rows.asked.keys()
    asked = list(rows.asked.items())
    held = hold_out([text for _, text in asked], settings.val_split, settings.seed)
    if not held:
        same = (
            "holds one row" if len(asked) == 1 else f"holds {len(asked):,} rows that ask the same"
        )
        raise UserError(
            f"{data}: val_split is {settings.val_split:g}, but it {same}, so none can be held out "
            "that is not trained on, too. Write a valid.jsonl."
        )
    inside = set(held)
    names = {asked[at][0] for at in held}
    trained = [text for at, (_, text) in enumerate(asked) if at not in inside]
    near = leaks.count_leaks(trained, [asked[at][1] for at in held])
    are = "is" if len(held) == 1 else "are"
    text = f"val_split: {len(held):,} of {counted(len(asked), 'row')} {are} held out of training "
    text += "and evaluated."
    if near:
        text += (
            f" {counted(near, 'of them is', 'of them are')} close to a row that is trained on, so "
            "eval_loss will look better "
            "than it is: a separately written valid.jsonl is more reliable."
        )
    # Dropped rows are reported once, with the training rows.
    left_out = dataclasses.replace(_only(rows, names), dropped=())
    return _only(rows, set(usable) - names), left_out, text


def hold_out(texts: Sequence[str], share: float, seed: int) -> list[int]:
    """Positions of the texts held out, in order: about `share` of them; none if all are the same.

    Texts that are the same but for numbers and names stay on one side, or the held-out loss would
    be that of rows learnt by heart; where all are, those that are the same in every letter. Which
    go depends on the texts and the seed, not on their order.
    """
    groups = _grouped(texts, leaks.normalise)
    if len(groups) < 2:
        groups = _grouped(texts, str.strip)
    if len(groups) < 2:
        return []
    wanted = max(1, round(share * len(texts)))
    most = min(max(wanted, round(1.25 * wanted)), len(texts) - 1)
    order = sorted(groups, key=lambda text: hashlib.sha256(f"{seed}\n{text}".encode()).digest())
    held: list[int] = []
    for text in order:
        if len(held) < wanted and len(held) + len(groups[text]) <= most:
            held += groups[text]
    return sorted(held or min((groups[text] for text in order), key=len))


def evenly(rows: Dataset, count: int) -> tuple[Dataset, str]:
    """(`count` of the rows at even distances, what to tell the user); all of them where it is 0."""
    wheres = list(dict.fromkeys(example.where for example in rows.examples))
    if not count or count >= len(wheres):
        return rows, ""
    taken = {wheres[at * len(wheres) // count] for at in range(count)}
    are = "is" if count == 1 else "are"
    said = f"eval_max_samples: {count:,} of {len(wheres):,} rows {are} evaluated."
    return _only(rows, taken), said


def _only(rows: Dataset, wheres: Collection[str]) -> Dataset:
    kept = tuple(example for example in rows.examples if example.where in wheres)
    return dataclasses.replace(rows, examples=kept, digest=digest(kept), asked={})


def _grouped(texts: Sequence[str], by: Callable[[str], str]) -> dict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for at, text in enumerate(texts):
        groups[by(text)].append(at)
    return groups
