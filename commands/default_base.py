"""Which base `livery run` trains on where nobody named one, and how long the real one would take.

On a GPU a real base takes a minute or two, so it is the default there. On a CPU it takes a quarter
of an hour and more: there the embedded base stays the default, and the summary offers the other.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.bases import named as named_bases
from livery.bases.named import Named
from livery.config.settings import TrainSettings
from livery.errors import UserError, sentence
from livery.models import EMBEDDED, download_model, find_base, is_embedded, read_config
from livery.paths import METADATA, RUN_CONFIG
from livery.reading import read_object
from livery.training.recipe import recipe

REAL = "smollm2-135m"
# Of the rows that a skill's generator makes, for a real base; the embedded one needs all.
ENOUGH_ROWS = 16_000


# The embedded base was made for date-keys. What others score on it (benchmarks/RESULTS.md):
_MEASURED = {
    "actions": "does not learn actions: 13.3 % right, where answers without any tag have 22.1 %",
    "state": "does not learn state: 2.3 % right, where a real one has 74.5 %",
    "persona": "does not learn persona: 18.4 % right, where a real one has 44.7 %",
}
_UNTRIED = ("dsl",)


@dataclass(frozen=True)
class Choice:
    """Attributes:
    model: to train on in place of the configuration's; None leaves that.
    note: why, for the user; "" where there is nothing to say.
    """

    model: str | None = None
    note: str = ""


def choose(gpu: str, before: str | None = None) -> Choice:
    """The base of a run for which nobody named one.

    Args:
        gpu: that it trains on, by name; "" for none.
        before: the base of the run that the output folder holds and that is gone on with.
    """
    if not gpu or before == REAL:
        return Choice(REAL if gpu else None)
    if before is not None:
        kept = f"--fresh trains the real base {REAL} on {gpu} in its place."
        return Choice(None, f"The folder holds a run on the embedded base: {kept}" if
                      is_embedded(before) else "")  # fmt: skip
    try:
        download_model(REAL)
    except UserError as error:
        return Choice(
            None,
            f"{gpu} would train a real base in a minute or two, but {sentence(str(error))} The "
            "embedded base is trained instead.",
        )
    return Choice(
        REAL, f"Training on {gpu}, so on a real base: {REAL} (--model {EMBEDDED} is the small one)."
    )


def caution(skill: str, model: str) -> str:
    """What to say before a run of a skill that the embedded base is not for; "" of any other."""
    if not is_embedded(model) or skill not in (*_MEASURED, *_UNTRIED):
        return ""
    found = _MEASURED.get(skill, f"was made for date-keys, and {skill} was never measured on it")
    return f"the embedded base {found}. For a base that can learn it, add --model {REAL}."


def recorded_model(folder: Path) -> str | None:
    """The base of the run that a folder holds; None where it holds none."""
    with contextlib.suppress(UserError, AttributeError):
        model = read_object(folder / RUN_CONFIG).get("settings", {}).get("model")
        return model if isinstance(model, str) else None
    return None


# -- how long the real one would take --------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Seconds of training that a base would take here, and the FLOP/s that it is reckoned by."""

    seconds: float
    rate: float


def estimate(folder: Path, base: Named, rows: int) -> Estimate | None:
    """How long a base would train on so many rows like those of a run, at that run's own rate.

    Counted are the products of body and head with the base's own weights, forward and backward,
    which is 4 FLOP for each weight and position; a larger base multiplies larger matrices, which is
    not slower. Rows are taken for as long as they are in the run's tokens.

    Args:
        folder: of the run, which was on the embedded base.

    Returns:
        None where the run did not record what it takes.
    """
    with contextlib.suppress(UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
        run, facts = read_object(folder / RUN_CONFIG), read_object(folder / METADATA)
        work: dict[str, Any] = run["work"]
        head = _embedded_head()
        done = _flop(run["parameters"], head, work["computed"], work["supervised"])
        rate = done / work["plain"] * float(facts["tokens_per_second"])
        plan = recipe(base.parameters, rows)
        asked = rows * plan.epochs
        own = (work["computed"] - work["prefix"]) / work["examples"]
        shared = work["prefix"] / work["micro_batches"] / plan.batch_size
        supervised = asked * work["supervised"] / work["examples"]
        wanted = _flop(base.parameters, base.head, asked * (own + shared), supervised)
        return Estimate(wanted / rate, rate)
    return None


def _flop(parameters: float, head: float, positions: float, supervised: float) -> float:
    return 4.0 * ((parameters - head) * positions + head * supervised)


def _embedded_head() -> int:
    folder = find_base(EMBEDDED)
    assert folder is not None
    config = read_config(folder)
    return int(config["vocab_size"]) * int(config["hidden_size"])


def offer(skill: str, settings: TrainSettings, *, own_data: bool) -> str:
    """What the summary of a run on the embedded base says of the real one."""
    command = (
        f"livery run {skill}{f' --data {settings.data}' if own_data else ''} --model {REAL} "
        f"--output-dir {settings.output_dir}-{REAL.partition('-')[0]}"
    )
    base = named_bases.find(REAL)
    assert base is not None
    found = estimate(Path(settings.output_dir), base, _rows(settings, own_data))
    took = ""
    if found is not None:
        minutes = max(1, round(found.seconds / 60))
        took = (
            f"Its training would take about {minutes} min here, estimated from this run's "
            f"{found.rate / 1e9:,.0f} GFLOP/s. "
        )
    return (
        "The embedded base is for trying everything offline in minutes. A real model is one option "
        f"away: {command}. {took}livery base list names more."
    )


def _rows(settings: TrainSettings, own_data: bool) -> int:
    with contextlib.suppress(UserError, KeyError, TypeError):
        rows = int(read_object(Path(settings.output_dir) / RUN_CONFIG)["work"]["examples"])
        return rows if own_data else min(rows, ENOUGH_ROWS)
    return ENOUGH_ROWS
