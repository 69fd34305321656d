"""The torch backend: what `livery.training.loop` needs, on CUDA, MPS or a CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch

from cuda_train import flex, graphs, memory, shard
from cuda_train.lora import add_lora, set_dropout
from cuda_train.loss import Loss
from cuda_train.optim import AdamW, AdamW8bit, Flat, Optimizer, norm_of
from cuda_train.ranks import join
from cuda_train.route import shape_of
from livery.config.settings import TrainSettings
from livery.dataset.template import load_chat
from livery.engines.answers import decode
from livery.engines.folders import end_tokens
from livery.engines.torch.decode import Decoder, make_decoder
from livery.engines.torch.load import (
    TorchBase,
    find_device,
    load_base,
    require_bitsandbytes,
    require_torch,
)
from livery.errors import UserError
from livery.training.backend import Arrays, CheckResult, PortableState, StepResult
from livery.training.forecast import Forecast, explained
from livery.training.numerics import SFT, Objective
from livery.training.plan import Example, MicroBatch
from livery.training.preference import objective_of

# What `livery.engines.torch.load.load_base` is asked for; flex is put on top of sdpa.
_ASKED = {"sdpa": "sdpa", "eager": "eager", "flex": "sdpa"}


class TorchBackend:
    """A base with LoRA under `livery.training.backend.Backend`.

    Attributes:
        notes: settings that were changed, and why, for the user.
        device: where it trains.
        objective: what the run minimises.
        loss: the model with LoRA in it, and the adapter's parameters.
        largest_tree: the micro-batch on which flex attention is tried; None: it is not.
    """

    name = "torch"

    def __init__(
        self,
        settings: TrainSettings,
        *,
        device: str | None = None,
        attention: str | None = None,
        examples: Sequence[Example] = (),
        objective: Objective | None = None,
    ) -> None:
        """Load the base and put LoRA into it.

        Args:
            settings: the run.
            device: instead of the settings'.
            attention: "sdpa" or "eager", instead of the settings'.
            examples: the training rows, for what the run will need of the device's memory.
            objective: what the run minimises, instead of the settings'.

        Raises:
            UserError: the base, the device, a target or the optimizer is not available, or the run
                does not fit the device.
        """
        require_torch()
        if settings.shard_base:
            shard.check(settings)
        place = find_device(device or settings.device)
        if settings.attention == "flex" and place.type != "cuda":
            raise UserError(
                f"attention is flex, which has no backward pass on {place.type}: only CUDA has. "
                "Leave --attention out."
            )
        self._examples, self._ahead = examples, memory.forecast(settings, examples, place)
        tight = self._ahead.preflight()
        base = load_base(
            settings.model,
            device=str(place),
            dtype=settings.dtype,
            quantize=settings.quantize,
            attention=attention or _ASKED.get(settings.attention),
            on_host=settings.shard_base,
        )
        self.settings, self.device, self.dtype = settings, base.device, base.dtype
        self.parameters = memory.count_parameters(base.model)
        self._ranks = join(base.device)
        self.rank, self.world = self._ranks.rank, self._ranks.world
        adapter = add_lora(base.model, settings.lora, settings.seed)
        if settings.shard_base:
            with explained(self.forecast):
                self._ranks = shard.spread(base.model, adapter.values(), self._ranks, base.device)
        flat = Flat(adapter)
        self.trainable = int(flat.values.numel())
        self._decoder: Decoder | None = None
        if settings.shard_base and settings.samples:
            self._decoder = make_decoder(base.model)  # by trying, which takes all processes
        if settings.grad_checkpoint:
            _recompute(base.model)
        self.loss = Loss(base.model, flat, settings, base.device, base.dtype)
        self._optimizer, notes = choose_optimizer(flat, settings, base)
        self.notes = (tight, *notes) if tight else notes
        self.objective = objective or objective_of(settings)
        self._stop: tuple[int, ...] | None = None
        self.largest_tree: MicroBatch | None = None
        if settings.attention == "flex":
            self.refuse_flex()
        if settings.attention in ("auto", "flex") and place.type == "cuda":
            self.largest_tree = flex.largest_tree(examples, settings, self.loss.route)
        self._steps = 0
        self._holes = memory.Holes(self.device)

    # -- the loss ----------------------------------------------------------------------------

    def fast_path(self) -> tuple[bool, str]:
        if not self.settings.share_prefix:
            return False, "sharing is switched off (share_prefix)"
        refuses = self.loss.body.attention.refuses
        return not refuses, refuses

    def use_plain(self, reason: str) -> None:
        self.loss.use_plain()

    def self_check(self, batch: MicroBatch) -> CheckResult:
        with self.dropout_at(None), explained(self.forecast):
            note = self._choose_kernel()
            result = self.loss.check(batch, self.loss.route(batch))
            notes = (note, self._try_graphs(batch) if result.ok else "")
            return dataclasses.replace(result, note=" ".join(filter(None, notes)))

    # -- one step ----------------------------------------------------------------------------

    def train_step(
        self, batches: Sequence[MicroBatch], *, step: int, learning_rate: float
    ) -> StepResult:
        self.loss.flat.message.zero_()
        with self.dropout_at(step), explained(self.forecast):
            found = self.loss.gradient(batches, objective=self.objective)
            loss_sum, count = self._sum_up(found.loss_sum, found.count)
            grads = self.loss.flat.grads.div_(max(1, count))
            norm = norm_of(grads)
            limit = self.settings.max_grad_norm
            if limit > 0 and norm > limit:
                grads.mul_(limit / (norm + 1e-6))
            if np.isfinite(norm):
                self._optimizer.step(learning_rate, step)
        self._steps = step
        self._holes.after_step()
        return StepResult(loss_sum, count, norm, found.measures)

    def threads(self) -> int:
        return torch.get_num_threads() if self.device.type == "cpu" else 0

    def use_threads(self, number: int) -> None:
        torch.set_num_threads(number)

    def trial(self, batch: MicroBatch) -> None:
        with self.dropout_at(None), explained(self.forecast):
            self.loss.gradient([batch], objective=SFT)
        self.loss.flat.message.zero_()

    def logprobs(self, batch: MicroBatch) -> np.ndarray:
        found = np.empty(len(batch.lengths), np.float32)
        numbered = dataclasses.replace(batch, rows=tuple(range(len(batch.lengths))))
        with torch.no_grad(), self.dropout_at(None), explained(self.forecast):
            for part, route in self.loss.parts(numbered):  # which may deal rows out
                found[list(part.rows)] = self.loss.row_logprobs(part, route).cpu().numpy()
        self._holes.after_step()
        return found

    def sum_over_processes(self, values: np.ndarray) -> np.ndarray:
        return self._ranks.sum(values, self.device)

    # -- state -------------------------------------------------------------------------------

    def get_state(self) -> PortableState:
        first, second = self._optimizer.moments()
        began = self._steps > 0
        return PortableState(
            weights=self._arrays(self.loss.flat.values),
            first_moment=self._arrays(first) if began else {},
            second_moment=self._arrays(second) if began else {},
            step=self._steps,
            notes=(self._optimizer.note,) if self._optimizer.note else (),
        )

    def set_state(self, state: PortableState) -> None:
        self.loss.flat.values.copy_(self._vector(state.weights, "weights"))
        self._steps = state.step
        zeros = torch.zeros_like(self.loss.flat.values)
        first = self._vector(state.first_moment, "moments") if state.first_moment else zeros
        second = self._vector(state.second_moment, "moments") if state.second_moment else zeros
        self._optimizer.set_moments(first, second, state.step)

    # -- the rest ----------------------------------------------------------------------------

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        if self._stop is None:
            chat = load_chat(self.settings.model, self.settings.template)
            config = self.loss.model.config.to_dict()
            self._stop = end_tokens(chat, config, self.settings.model)
        with self.dropout_at(None), self._whole_cache():
            if self._decoder is None:
                self._decoder = make_decoder(self.loss.model)
            answers = decode(self._decoder, prompts, max_tokens=max_tokens, stop=self._stop)
        return [answer.tokens for answer in answers]

    def peak_memory(self) -> int:
        return memory.peak(self.device)

    def forecast(self) -> Forecast:
        if not self._ahead.known:  # the base of a hub's name is here only once it is loaded
            self._ahead = memory.forecast(self.settings, self._examples, self.device)
        return self._ahead

    # -- small things ------------------------------------------------------------------------

    def _choose_kernel(self) -> str:
        """Settle how trees are attended to; returns what to tell the user."""
        largest, asked = self.largest_tree, self.settings.attention == "flex"
        self.loss.uses_flex = False
        if largest is None or not (asked or shape_of(largest).places >= flex.WORTH_TRYING):
            return ""
        if flex.install(self.loss.model):  # asked for, this was refused at the start
            return ""
        trial = flex.try_out(self.loss, largest, self._ranks, timed=not asked)
        if asked and not trial.right:
            raise UserError(f"{trial.note} Leave --attention flex out.")
        memory.forget_peak(self.device)
        self.loss.uses_flex = trial.faster or asked
        return trial.note

    def _try_graphs(self, batch: MicroBatch) -> str:
        """Settle whether steps are recorded; returns what to tell the user."""
        self.loss.graphs = None
        trees = self.loss.is_tree(batch, self.loss.route(batch))
        if not trees or self.objective is not SFT or graphs.why_not(self.settings, self.device):
            return ""
        recorded = graphs.Graphs(self.loss.body, self.loss.head, self.device)
        trial = recorded.try_out(
            batch,
            lambda: self.loss.gradient([batch]).loss_sum,
            self.loss.flat.grads,
            self.dtype,
        )
        memory.forget_peak(self.device)
        self.loss.graphs = recorded if trial.faster else None
        return trial.note

    def refuse_flex(self) -> None:
        """Raises UserError where flex was asked for and cannot be had."""
        why = "prompts are not shared (share_prefix)" if not self.settings.share_prefix else ""
        why = why or self.loss.body.attention.refuses or flex.install(self.loss.model)
        if why:
            raise UserError(f"attention is flex, but {why}. Leave --attention flex out.")

    def _sum_up(self, loss_sum: float, count: int) -> tuple[float, int]:
        """One all-reduce of gradients, count and loss."""
        if self.world == 1:
            return loss_sum, count
        message = self.loss.flat.message
        message[-2], message[-1] = count, loss_sum
        self._ranks.sum_(message)
        return float(message[-1]), round(float(message[-2]))

    @contextlib.contextmanager
    def dropout_at(self, step: int | None) -> Generator[None]:
        """Dropout with the masks of `step`, or none at all."""
        on = step is not None and self.settings.lora.dropout > 0
        set_dropout(self.loss.model, on)
        if not on:
            yield
            return
        text = f"{self.settings.seed}\n{step}\n{self.rank}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield

    @contextlib.contextmanager
    def _whole_cache(self) -> Generator[None]:
        """Eval mode, in which checkpointing leaves the cache alone."""
        before = self.loss.model.training
        self.loss.model.eval()
        try:
            yield
        finally:
            self.loss.model.train(before)

    def _arrays(self, vector: torch.Tensor) -> Arrays:
        return {k: v.cpu().numpy().copy() for k, v in self.loss.flat.split(vector).items()}

    def _vector(self, arrays: Arrays, what: str) -> torch.Tensor:
        """The flat vector of arrays by name. Raises UserError where names or shapes do not fit."""
        out = torch.empty_like(self.loss.flat.values)
        views = self.loss.flat.split(out)
        strange = sorted(set(arrays) ^ set(views))
        if strange:
            raise UserError(
                f"The {what} to resume from belong to another adapter: {strange[0]} is in only one "
                "of the two. Use the same targets, rank and base as the run that wrote them."
            )
        for name, view in views.items():
            if arrays[name].shape != tuple(view.shape):
                raise UserError(
                    f"The {what} to resume from belong to another adapter: {name} is "
                    f"{arrays[name].shape} there and {tuple(view.shape)} here."
                )
            view.copy_(torch.from_numpy(np.array(arrays[name], np.float32)))
        return out


def choose_optimizer(
    flat: Flat, settings: TrainSettings, base: TorchBase
) -> tuple[Optimizer, tuple[str, ...]]:
    """The optimizer asked for, or the nearest that this device has, and what to say about it."""
    if settings.optimizer in ("adamw", "adamw_torch"):
        return AdamW(flat, settings), ()
    if settings.optimizer != "adamw_8bit":
        raise UserError(
            f"optimizer is {settings.optimizer}; torch has adamw (also called adamw_torch) and "
            "adamw_8bit."
        )
    if base.device.type == "mps":
        note = "adamw_8bit needs bitsandbytes, which does not run on MPS: adamw is used instead."
        return AdamW(flat, settings), (note,)
    require_bitsandbytes()
    return AdamW8bit(flat, settings), ()


def _recompute(model: Any) -> None:
    """Gradient checkpointing, which transformers does in modules in training mode alone."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise UserError(
            f"{model.config.model_type} does not support gradient checkpointing in transformers. "
            "Leave out --grad-checkpoint."
        )
    # The second is the name in older versions of transformers.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    model.train()
