"""Objectives over pairs: a chosen and a rejected answer to one prompt (docs/preference.md).

With c and r the summed log-probabilities of the two answers, |c| and |r| their tokens, c0 and r0
what the frozen reference makes of them:

    sigmoid  -log s(beta ((c - c0) - (r - r0)))               DPO, arXiv 2305.18290, eq. 7
             (1 - e) of that and e of it with the sides exchanged     label smoothing e
    ipo      ((c - c0)/|c| - (r - r0)/|r| - 1/(2 beta))^2     IPO, arXiv 2310.12036, eq. 17; by
                                                              tokens, as its authors computed it
    orpo     -c/|c| - beta log s(odds(c/|c|) - odds(r/|r|))   ORPO, arXiv 2403.07691, eq. 6 and 7;
             odds(x) = x - log(1 - e^x)                       no reference
    + sft_weight * -c/|c|                                     RPO, arXiv 2404.19733, eq. 1

Losses add over pairs and are divided by their number. A reward is beta (c - c0); orpo's beta c/|c|.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training.numerics import SFT, Objective, Rows

MARGIN = "rewards/margins"
CHOSEN, CHOSEN_REWARD = "logps/chosen", "rewards/chosen"
# TRL's names.
MEASURES = (
    CHOSEN_REWARD, "rewards/rejected", "rewards/accuracies", MARGIN, CHOSEN, "logps/rejected",
)  # fmt: skip
# Nats that the chosen answers may lose before the user is told.
_FALL = 0.5
# An average log-probability nearer to 0 has no finite odds in float32.
_SUREST = -1e-6


def objective_of(settings: TrainSettings) -> Objective:
    """What a run with these settings minimises.

    Raises:
        UserError: two of them contradict each other.
    """
    if not settings.paired:
        return SFT
    loss_type = settings.loss_type
    foreign = {"ipo": ("label_smoothing",), "orpo": ("label_smoothing", "sft_weight")}
    for name in foreign.get(loss_type, ()):
        if getattr(settings, name):
            raise UserError(f"{name}: {loss_type} has none; leave it out, or take sigmoid.")
    if not settings.mask_prompt:
        raise UserError(
            "mask_prompt is false, but preferences compare answers alone; leave it true."
        )
    losses = {"sigmoid": _sigmoid, "ipo": _ipo, "orpo": _orpo}

    def loss(rows: Rows) -> Any:
        each = losses[loss_type](rows, settings)
        if settings.sft_weight:
            each = each - settings.sft_weight * _chosen(rows.logprobs / rows.counts)
        return (_chosen(rows.weights) * each).sum()

    return Objective(
        loss_type,
        loss,
        lambda batch: len(batch.lengths) // 2,
        MEASURES,
        lambda rows: _measures(rows, settings),
        reference=loss_type != "orpo",
        # ipo aims at a margin of a certain size: a larger one is no better.
        judged_by="" if loss_type == "ipo" else MARGIN,
        warning=lambda now, first: _fall(now, first, settings),
    )


def _fall(now: Mapping[str, float], first: Mapping[str, float], settings: TrainSettings) -> str:
    """What to say where the chosen answers have become less likely; "" where they have not."""
    if settings.loss_type != "orpo":  # how far they are from the reference
        fell = -now[CHOSEN_REWARD] / settings.beta
    else:
        fell = first.get(CHOSEN, now[CHOSEN]) - now[CHOSEN]
    if fell < _FALL:
        return ""
    by = "a token " if settings.length_normalized and settings.loss_type != "orpo" else ""
    return (
        f"The chosen answers have become less likely than at the start, by {fell:.2g} nats {by}on "
        "average: the margin grows because the rejected ones fall further. --sft-weight 1 holds "
        "them up; a lower --learning-rate or a higher --beta slows the fall."
    )


def _chosen(values: Any) -> Any:
    return values[0::2]


def _rejected(values: Any) -> Any:
    return values[1::2]


def _difference(values: Any) -> Any:
    return _chosen(values) - _rejected(values)


def _moved(rows: Rows, *, by_token: bool) -> Any:
    """How far each answer's log-probability is from the reference's."""
    moved = rows.logprobs - rows.constants["reference"]
    return moved / rows.counts if by_token else moved


def _sigmoid(rows: Rows, settings: TrainSettings) -> Any:
    apart = settings.beta * _difference(_moved(rows, by_token=settings.length_normalized))
    wrong = settings.label_smoothing
    right = _log_sigmoid(rows.xp, apart)
    if not wrong:
        return -right
    return -(1 - wrong) * right - wrong * _log_sigmoid(rows.xp, -apart)


def _ipo(rows: Rows, settings: TrainSettings) -> Any:
    return (_difference(_moved(rows, by_token=True)) - 1 / (2 * settings.beta)) ** 2


def _orpo(rows: Rows, settings: TrainSettings) -> Any:
    xp, average = rows.xp, rows.logprobs / rows.counts
    below = xp.minimum(average, xp.zeros_like(average) + _SUREST)
    odds = average - xp.log(-xp.expm1(below))
    return -_chosen(average) - settings.beta * _log_sigmoid(xp, _difference(odds))


def _log_sigmoid(xp: Any, values: Any) -> Any:
    return -xp.logaddexp(xp.zeros_like(values), -values)


def _measures(rows: Rows, settings: TrainSettings) -> Sequence[float]:
    """Sums over the pairs, in the order of MEASURES."""
    if settings.loss_type == "orpo":
        rewards = settings.beta * rows.logprobs / rows.counts
    else:
        rewards = settings.beta * _moved(rows, by_token=settings.length_normalized)
    margins = _difference(rewards)
    found = (
        _chosen(rewards), _rejected(rewards), margins > 0, margins,
        _chosen(rows.logprobs), _rejected(rows.logprobs),
    )  # fmt: skip
    return [float(values.sum()) for values in found]
