"""The torch backend: what `livery.training.loop` needs, on CUDA, MPS or a CPU."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cuda_train import flex, memory
from cuda_train.body import choose_route, find_body, hidden_states
from cuda_train.check import compare
from cuda_train.head import Head
from cuda_train.lora import add_lora, set_dropout
from cuda_train.optim import AdamW, AdamW8bit, Flat, Optimizer, norm_of
from cuda_train.ranks import join
from cuda_train.route import LONGEST_TREE, Route, shape_of
from livery.config.settings import TrainSettings
from livery.dataset.template import load_chat
from livery.engines.text import end_tokens
from livery.engines.torch.decode import Decoder, decode, make_decoder
from livery.engines.torch.load import (
    TorchBase,
    choose_dtype,
    find_device,
    load_base,
    require_bitsandbytes,
    require_torch,
)
from livery.errors import UserError
from livery.training.backend import Arrays, CheckResult, PortableState, StepResult
from livery.training.plan import Example, MicroBatch, split_batch

# What `livery.engines.torch.load.load_base` is asked for; flex is put on top of sdpa.
_ASKED = {"sdpa": "sdpa", "eager": "eager", "flex": "sdpa"}


class TorchBackend:
    """A base with LoRA under `livery.training.backend.Backend`.

    Attributes:
        notes: what was chosen otherwise than asked, for the user.
        device: where it trains.
    """

    name = "torch"

    def __init__(
        self,
        settings: TrainSettings,
        *,
        device: str | None = None,
        attention: str | None = None,
        examples: Sequence[Example] = (),
    ) -> None:
        """Load the base and put LoRA into it.

        Args:
            settings: the run.
            device: instead of the settings'.
            attention: "sdpa" or "eager", instead of the settings'.
            examples: the training rows, for what the run will need of the device's memory.

        Raises:
            UserError: the base, the device, a target or the optimizer is not to be had, or the run
                does not fit the device.
        """
        require_torch()
        place = find_device(device or settings.device)
        dtype = choose_dtype(settings.dtype, place)
        if settings.attention == "flex" and place.type != "cuda":
            raise UserError(
                f"attention is flex, which has no backward pass on {place.type}: only CUDA has. "
                "Leave --attention out."
            )
        self._ahead = memory.forecast(settings, place, dtype, examples) if examples else None
        tight = memory.preflight(settings, place, dtype, self._ahead)
        base = load_base(
            settings.model,
            device=str(place),
            dtype=settings.dtype,
            quantize=settings.quantize,
            attention=attention or _ASKED.get(settings.attention),
        )
        self._model: Any = base.model
        self.settings, self.device, self.dtype = settings, base.device, base.dtype
        self.parameters = memory.count_parameters(base.model)
        self._ranks = join(base.device)
        self.rank, self.world = self._ranks.rank, self._ranks.world
        self._flat = Flat(add_lora(self._model, settings.lora, settings.seed))
        self.trainable = int(self._flat.values.numel())
        self._recompute(settings.grad_checkpoint)
        self._head = Head(self._model)
        self._body = find_body(self._model, self._head.body)
        self._optimizer, notes = _optimizer(self._flat, settings, base)
        self.notes = (tight, *notes) if tight else notes
        self._decoder: Decoder | None = None
        self._stop: tuple[int, ...] | None = None
        self._plain = ""
        self._uses_flex = False
        self._largest: MicroBatch | None = None
        if settings.attention == "flex":
            self._refuse_flex()
        if settings.attention in ("auto", "flex") and place.type == "cuda":
            self._largest = flex.largest_tree(examples, settings, self._route)
        self._steps = 0

    # -- the loss ----------------------------------------------------------------------------

    def fast_path(self) -> tuple[bool, str]:
        if not self.settings.share_prefix:
            return False, "sharing is switched off (share_prefix)"
        return not self._body.attention.refuses, self._body.attention.refuses

    def use_plain(self, reason: str) -> None:
        self._plain = reason or "asked for"

    def token_losses(self, batch: MicroBatch, route: Route | None = None) -> torch.Tensor:
        """(n,) float32: -log p of every supervised token, row by row."""
        hidden, targets = hidden_states(self._body, batch, route or self._route(batch), self.device)
        return self._head.losses(hidden, targets)

    def self_check(self, batch: MicroBatch) -> CheckResult:
        with self._dropout(None), memory.explained(self.settings, self.device, self._ahead):
            note = self._choose_kernel()
            return dataclasses.replace(compare(self, batch, self._route(batch)), note=note)

    def gradient(
        self, batches: Sequence[MicroBatch], route: Route | None = None
    ) -> tuple[float, int]:
        """Add the gradient of the summed loss to the flat vector; returns (loss sum, tokens)."""
        loss_sum, tokens = 0.0, 0
        for batch in batches:
            for part in self._parts(batch, route):
                losses = self.token_losses(part, route)
                total = losses.sum()
                total.backward()
                loss_sum += float(total.detach())
                tokens += len(losses)
        return loss_sum, tokens

    @property
    def flat(self) -> Flat:
        """Parameters and gradients of the adapter."""
        return self._flat

    @property
    def model(self) -> Any:
        """The transformers model, LoRA in it."""
        return self._model

    # -- one step ----------------------------------------------------------------------------

    def train_step(
        self, batches: Sequence[MicroBatch], *, step: int, learning_rate: float
    ) -> StepResult:
        self._flat.message.zero_()
        with self._dropout(step), memory.explained(self.settings, self.device, self._ahead):
            loss_sum, tokens = self.gradient(batches)
            loss_sum, tokens = self._sum_up(loss_sum, tokens)
            grads = self._flat.grads.div_(max(1, tokens))
            norm = norm_of(grads)
            limit = self.settings.max_grad_norm
            if limit > 0 and norm > limit:
                grads.mul_(limit / (norm + 1e-6))
            if np.isfinite(norm):
                self._optimizer.step(learning_rate, step)
        self._steps = step
        return StepResult(loss_sum, tokens, norm)

    def evaluate(self, batch: MicroBatch) -> tuple[float, int]:
        with (
            torch.no_grad(),
            self._dropout(None),
            memory.explained(self.settings, self.device, self._ahead),
        ):
            losses = [self.token_losses(part) for part in self._parts(batch)]
            return sum(float(part.sum()) for part in losses), sum(len(part) for part in losses)

    def sum_over_processes(self, values: np.ndarray) -> np.ndarray:
        if self.world == 1:
            return values
        tensor = torch.from_numpy(np.asarray(values, np.float64)).to(self.device)
        return self._ranks.sum_(tensor).cpu().numpy()

    # -- state -------------------------------------------------------------------------------

    def get_state(self) -> PortableState:
        first, second = self._optimizer.moments()
        began = self._steps > 0
        return PortableState(
            weights=self._arrays(self._flat.values),
            first_moment=self._arrays(first) if began else {},
            second_moment=self._arrays(second) if began else {},
            step=self._steps,
            notes=(self._optimizer.note,) if self._optimizer.note else (),
        )

    def set_state(self, state: PortableState) -> None:
        self._flat.values.copy_(self._vector(state.weights, "weights"))
        self._steps = state.step
        zeros = torch.zeros_like(self._flat.values)
        first = self._vector(state.first_moment, "moments") if state.first_moment else zeros
        second = self._vector(state.second_moment, "moments") if state.second_moment else zeros
        self._optimizer.set_moments(first, second, state.step)

    # -- the rest ----------------------------------------------------------------------------

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        if self._stop is None:
            chat = load_chat(self.settings.model, self.settings.template)
            config = self._model.config.to_dict()
            self._stop = end_tokens(chat, config, Path(self.settings.model))
        with self._dropout(None), self._whole_cache():
            if self._decoder is None:
                self._decoder = make_decoder(self._model)
            answers = decode(self._decoder, prompts, max_tokens=max_tokens, stop=self._stop)
        return [answer.tokens for answer in answers]

    def peak_memory(self) -> int:
        return memory.peak(self.device)

    # -- small things ------------------------------------------------------------------------

    def _route(self, batch: MicroBatch) -> Route:
        if self._plain or self._body.attention.refuses:
            return "plain"
        chosen = choose_route(self._body, batch, recomputes=self.settings.grad_checkpoint)
        return "flex" if chosen == "tree" and self._uses_flex else chosen

    def _choose_kernel(self) -> str:
        """Settle how trees are attended to; returns what to tell the user."""
        largest, asked = self._largest, self.settings.attention == "flex"
        self._uses_flex = False
        if largest is None or not (asked or shape_of(largest).places >= flex.WORTH_TRYING):
            return ""
        if flex.install(self._model):  # asked for, this was refused at the start
            return ""
        trial = flex.try_out(self, largest, timed=not asked)
        if asked and not trial.right:
            raise UserError(f"{trial.note} Leave --attention flex out.")
        memory.forget_peak(self.device)
        self._uses_flex = trial.faster or asked
        return trial.note

    def _refuse_flex(self) -> None:
        """Raises UserError where flex was asked for and cannot be had."""
        why = "prompts are not shared (share_prefix)" if not self.settings.share_prefix else ""
        why = why or self._body.attention.refuses or flex.install(self._model)
        if why:
            raise UserError(f"attention is flex, but {why}. Leave --attention flex out.")

    def _parts(self, batch: MicroBatch, route: Route | None = None) -> list[MicroBatch]:
        """The batch, or as many parts as keep each tree's mask small where no cache may be used."""
        shape = shape_of(batch)
        if (route or self._route(batch)) not in ("tree", "flex") or shape.places <= LONGEST_TREE:
            return [batch]
        room = max(1, LONGEST_TREE - shape.prefix)
        return split_batch(batch, -(-shape.suffixes // room))

    def _sum_up(self, loss_sum: float, tokens: int) -> tuple[float, int]:
        """One all-reduce of gradients, token count and loss."""
        if self.world == 1:
            return loss_sum, tokens
        message = self._flat.message
        message[-2], message[-1] = tokens, loss_sum
        self._ranks.sum_(message)
        return float(message[-1]), round(float(message[-2]))

    @contextlib.contextmanager
    def _dropout(self, step: int | None) -> Generator[None]:
        """Dropout with the masks of `step`, or none at all."""
        on = step is not None and self.settings.lora.dropout > 0
        set_dropout(self._model, on)
        if not on:
            yield
            return
        text = f"{self.settings.seed}\n{step}\n{self.rank}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield

    def _recompute(self, on: bool) -> None:
        """Gradient checkpointing, which transformers does in modules in training mode alone."""
        if not on:
            return
        if not getattr(self._model, "supports_gradient_checkpointing", False):
            raise UserError(
                f"{self._model.config.model_type} does not support gradient checkpointing in "
                "transformers. Leave out --grad-checkpoint."
            )
        # The second is the name in older versions of transformers.
        enable = getattr(self._model, "activation_checkpointing_enable", None)
        (enable or self._model.gradient_checkpointing_enable)({"use_reentrant": False})
        self._model.train()

    @contextlib.contextmanager
    def _whole_cache(self) -> Generator[None]:
        """Eval mode, in which checkpointing leaves the cache alone."""
        before = self._model.training
        self._model.eval()
        try:
            yield
        finally:
            self._model.train(before)

    def _arrays(self, vector: torch.Tensor) -> Arrays:
        return {k: v.cpu().numpy().copy() for k, v in self._flat.split(vector).items()}

    def _vector(self, arrays: Arrays, what: str) -> torch.Tensor:
        """The flat vector of arrays by name. Raises UserError where names or shapes do not fit."""
        out = torch.empty_like(self._flat.values)
        views = self._flat.split(out)
        strange = sorted(set(arrays) ^ set(views))
        if strange:
            raise UserError(
                f"The {what} to go on from are of another adapter: {strange[0]} is in one of the "
                "two alone. Use the same targets, rank and base as the run that wrote them."
            )
        for name, view in views.items():
            if arrays[name].shape != tuple(view.shape):
                raise UserError(
                    f"The {what} to go on from are of another adapter: {name} is "
                    f"{arrays[name].shape} there and {tuple(view.shape)} here."
                )
            view.copy_(torch.from_numpy(np.array(arrays[name], np.float32)))
        return out


def _optimizer(
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
