"""An objective over micro-batches and its gradient, by whichever route a batch takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cuda_train.body import choose_route, find_body, has_few_shapes, hidden_states
from cuda_train.delta import Deltas
from cuda_train.graphs import Graphs
from cuda_train.head import Head
from cuda_train.optim import Flat
from cuda_train.route import LONGEST_TREE, Route, Shape, no_cache, shape_of
from livery.config.settings import TrainSettings
from livery.training.backend import Arrays, CheckResult, StepResult
from livery.training.numerics import SFT, Objective
from livery.training.plan import MicroBatch, bucket, split_batch
from livery.training.self_check import compare, tolerance

# bitsandbytes' 8-bit products round activations, too, by what is beside them: as bfloat16 does
# in some ten blocks, however few there are.
_EIGHT_BITS = 0.15


def allowed(dtype: str, quantize: int | None, blocks: int) -> float:
    """What the gradients of one batch may differ by, computed in two ways."""
    if quantize == 8:
        return max(_EIGHT_BITS, tolerance("bfloat16", blocks))
    return tolerance(dtype, blocks)


class Loss:
    """A model with LoRA in it, as a function of micro-batches.

    Attributes:
        settings: of the run.
        model: the transformers model.
        flat: parameters and gradients of the adapter.
        head: the last layer, from hidden states to losses.
        body: how prefixes and suffixes run through the model's layers.
        device, dtype: where it computes, and in what ("bfloat16").
        deltas: the LoRA layers that compute as one operation.
        uses_flex: trees are attended to by flex attention.
        graphs: recorded steps, by which supervised training runs; None: they are not recorded.
    """

    def __init__(
        self, model: Any, flat: Flat, settings: TrainSettings, device: torch.device, dtype: str
    ) -> None:
        self.model, self.flat, self.settings = model, flat, settings
        self.device, self.dtype = device, dtype
        self.head = Head(model)
        self.body = find_body(model, self.head.body)
        self.deltas = Deltas(model)
        self._plain = False
        self.uses_flex = False
        self.graphs: Graphs | None = None

    def use_plain(self) -> None:
        """Share no prompt from now on, whatever could be, and leave LoRA to PEFT."""
        self._plain, self.deltas.used = True, False

    def route(self, batch: MicroBatch) -> Route:
        """How `batch` runs."""
        return self._route(shape_of(batch))

    def _route(self, shape: Shape) -> Route:
        if self._plain or self.body.attention.refuses:
            return "plain"
        chosen = choose_route(self.body, shape, recomputes=no_cache(self.settings))
        as_tree = chosen in ("tree", "branches") and shape.prefix > 0
        return "flex" if as_tree and self.uses_flex else chosen

    def is_tree(self, batch: MicroBatch, route: Route) -> bool:
        """Whether a batch of this route can be laid out as one row: also where nothing is shared,
        of which each row is a branch from nothing."""
        allowed = not self._plain and not self.body.attention.refuses
        return allowed and route in ("tree", "plain") and shape_of(batch).places <= LONGEST_TREE

    def parts(
        self, batch: MicroBatch, route: Route | None = None
    ) -> list[tuple[MicroBatch, Route]]:
        """The batch with its route, or as many parts as keep each tree's mask small where no cache
        may be used."""
        shape = shape_of(batch)
        chosen = route or self._route(shape)
        if chosen not in ("tree", "flex") or shape.places <= LONGEST_TREE:
            return [(batch, chosen)]
        room = max(1, LONGEST_TREE - shape.prefix)
        parts = split_batch(batch, -(-shape.suffixes // room))
        return [(part, route or self.route(part)) for part in parts]

    def token_losses(self, batch: MicroBatch, route: Route | None = None) -> torch.Tensor:
        """(n,) float32: -log p of every supervised token, row by row."""
        hidden, targets = hidden_states(self.body, batch, route or self.route(batch), self.device)
        count = len(targets)
        if count and has_few_shapes(self.device):
            more = (0, bucket(count) - count)
            hidden, targets = functional.pad(hidden, (0, 0, *more)), functional.pad(targets, more)
        return self.head.losses(hidden, targets)[:count]

    def row_logprobs(self, part: MicroBatch, route: Route) -> torch.Tensor:
        """(B,) float32: the summed log-probability of each row's supervised tokens, of rows that
        run together."""
        supervised = torch.from_numpy(part.targets >= 0).to(self.device)
        losses = self.token_losses(part, route)
        # Spread over (B, S) and summed: no order of additions is left to chance, as in index_add.
        spread = losses.new_zeros(supervised.shape).masked_scatter(supervised, losses)
        return -spread.sum(dim=1)

    def gradient(
        self,
        batches: Sequence[MicroBatch],
        route: Route | None = None,
        objective: Objective = SFT,
    ) -> StepResult:
        """Add the objective's gradient to `flat`; returns its sums."""
        loss_sum, count = 0.0, 0
        measures = np.zeros(len(objective.measures))
        for batch in batches:
            for part, way in self.parts(batch, route):
                if self.graphs and objective is SFT and route is None and self.is_tree(part, way):
                    recorded = self.graphs.add_gradient(part)
                    if recorded is not None:
                        loss_sum += recorded
                        count += objective.count(part)
                        continue
                logprobs = self.row_logprobs(part, way)
                total = objective.of_batch(
                    torch, logprobs, part, lambda a: torch.from_numpy(a).to(self.device)
                )
                total.backward()
                loss_sum += float(total.detach())
                count += objective.count(part)
                measures += objective.measured(part, logprobs.detach().cpu().numpy())
        return StepResult(loss_sum, count, 0.0, measures)

    def check(self, batch: MicroBatch, route: Route) -> CheckResult:
        """Compare the gradients by `route` with the model's own, row by row; changes no state."""

        def gradients(run: Callable[[], float]) -> tuple[float, Arrays]:
            self.flat.message.zero_()
            try:
                loss = run()
                grads = self.flat.split(self.flat.grads.clone())
                return loss, {name: grad.cpu().numpy() for name, grad in grads.items()}
            finally:
                self.flat.message.zero_()

        return compare(
            batch,
            fast=lambda part: gradients(lambda: self.gradient([part], route).loss_sum),
            plain=lambda part: gradients(lambda: self.plain_gradient(part)),
            tolerance=allowed(self.dtype, self.settings.quantize, self.body.blocks),
            library=f"transformers ({type(self.model).__name__})",
            route=route,
        )

    def plain_gradient(self, batch: MicroBatch) -> float:
        """Add each row's gradient by itself, by the model's own forward with PEFT's LoRA; returns
        the loss sum."""
        with self.deltas.off():
            return self._row_by_row(batch)

    def _row_by_row(self, batch: MicroBatch) -> float:
        total = 0.0
        taken = inspect.signature(type(self.model).forward).parameters
        for tokens, targets, length in zip(batch.tokens, batch.targets, batch.lengths, strict=True):
            row = np.concatenate([batch.prefix, tokens[:length]]).astype(np.int64)
            at = np.nonzero(targets[:length] >= 0)[0]
            place = torch.from_numpy(at + len(batch.prefix)).to(self.device)
            kept = {"logits_to_keep": place} if "logits_to_keep" in taken else {}
            logits = self.model(
                input_ids=torch.from_numpy(row).to(self.device)[None], use_cache=False, **kept
            ).logits[0]
            if len(logits) != len(at):
                logits = logits[place]
            wanted = torch.from_numpy(targets[at].astype(np.int64)).to(self.device)
            loss = functional.cross_entropy(logits.float(), wanted, reduction="sum")
            loss.backward()
            total += float(loss.detach())
        return total
