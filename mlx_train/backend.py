"""`livery.training.backend.Backend` on MLX."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx_lm.utils import get_total_parameters

from livery.config.settings import TrainSettings
from livery.dataset.template import load_chat
from livery.engines.answers import decode
from livery.engines.folders import end_tokens
from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx import decode as mlx_decode
from livery.engines.mlx.head import find_head
from livery.engines.mlx.load import Base, compiler_missing, load_base
from livery.errors import UserError
from livery.training.backend import Arrays, CheckResult, PortableState, StepResult
from livery.training.forecast import Forecast, explained
from livery.training.numerics import SFT, Objective, rows_of
from livery.training.plan import Example, MicroBatch
from livery.training.preference import objective_of
from livery.training.self_check import compare, tolerance
from mlx_train import lora
from mlx_train.adamw import AdamW, cut, flatten, join, split
from mlx_train.checkpointing import checkpoint_blocks
from mlx_train.deal import ROWS_PER_STREAM
from mlx_train.loss import Inputs, Part, make_inputs, row_logprobs
from mlx_train.machine import (
    Cores,
    on_cpu,
    set_memory_limits,
    work_side_by_side,
)
from mlx_train.memory import forecast

# Cached buffers beyond this are given back between steps: varying shapes would pile them up.
_CACHE_LIMIT = 2 << 30
# Metal's low-bit kernels have not been measured, so they are allowed this on shallow bases, too.
_AT_LEAST = {"float16": 0.1, "bfloat16": 0.2}

# ((summed loss, log-probabilities of the rows), gradients as a list)
_Found = tuple[tuple[mx.array, mx.array], list[mx.array]]
_Gradient = Callable[[list[mx.array], Inputs], _Found]  # of weights as a list


class MlxBackend:
    """See `livery.training.backend.Backend`.

    Attributes:
        notes: what to tell the user.
        objective: what the run minimises.
        model: mlx-lm's, with LoRA in it.
        trained: the parameters of the adapter.
        head: the last layer, which runs on supervised positions alone; None where it is
            elsewhere in a family's model.
        cores: those of the CPU, and how a micro-batch is dealt to them.
        compiled: whether the step is compiled.
        why_compiled: or why not, for people.
    """

    name = "mlx"

    def __init__(
        self,
        settings: TrainSettings,
        base: Base | None = None,
        objective: Objective | None = None,
        examples: Sequence[Example] = (),
    ) -> None:
        """`base` is loaded from `settings.model` where it is not given, `objective` made of the
        settings; `examples` are the training rows, for what the run needs of memory."""
        if settings.optimizer != "adamw":
            raise UserError(
                f"optimizer is {settings.optimizer}; the MLX backend has adamw (float32 moments)."
            )
        self._settings, self._examples = settings, examples
        self._ahead = forecast(settings, examples)
        tight = "" if base else self._ahead.preflight()
        self.notes = (tight,) if tight else ()
        work_side_by_side()
        self._base = base or load_base(
            settings.model, dtype=settings.dtype, quantize=settings.quantize
        )
        set_memory_limits()
        model = self.model = self._base.model
        self.dtype = self._base.dtype
        self.parameters = int(get_total_parameters(model))  # before packing
        model_type = str(self._base.config.get("model_type", ""))
        self.trained = lora.add_lora(
            model, settings.lora, model_type=model_type, seed=settings.seed
        )
        self.head = find_head(model)  # after LoRA: the head may be adapted itself
        self.trainable = sum(p.size for p in self.trained)
        if settings.grad_checkpoint:
            checkpoint_blocks(model)
        model.train()
        group: Any = mx.distributed.init()
        self.rank, self.world = int(group.rank()), int(group.size())
        self.cores = Cores()
        self._plain = ""
        self._decoder: mlx_decode.Decoder | None = None
        self._stop: tuple[int, ...] | None = None
        self._adamw = AdamW(
            settings.beta1,
            settings.beta2,
            settings.eps,
            settings.weight_decay,
            settings.max_grad_norm,
        )
        self._weights = flatten([p.get() for p in self.trained])
        self._first = mx.zeros_like(self._weights)
        self._second = mx.zeros_like(self._weights)
        self._step = 0
        self.objective = objective or objective_of(settings)
        self.compiled, self.why_compiled, self._gradient = self._choose_gradient()

    # -- the loss ----------------------------------------------------------------------------

    def fast_path(self) -> tuple[bool, str]:
        """See Backend."""
        if not self._settings.share_prefix:
            return False, "sharing is switched off (share_prefix)"
        try:
            mlx_cache.make_caches(self.model)
        except mlx_cache.CannotShare as error:
            return False, f"{self._base.config.get('model_type')}: {error}"
        return True, ""

    def use_plain(self, reason: str) -> None:
        """See Backend."""
        self._plain = reason or "asked for"

    def self_check(self, batch: MicroBatch) -> CheckResult:
        """See Backend."""
        with _without_dropout(self.model), explained(self.forecast):
            # Rows are compared one by one, so by an objective that adds over them.
            as_trained = self.objective is SFT and not self._settings.lora.dropout
            gradient = self._gradient if as_trained else self._supervised
            return compare(
                batch,
                fast=lambda part: self._gradients(gradient, self.inputs(part)),
                plain=lambda part: self._gradients(
                    self._supervised, make_inputs(part, share=False, few_shapes=False)
                ),
                tolerance=allowed(self.dtype, len(cast(Any, self.model).layers)),
                library="mlx-lm",
                route="plain" if self._plain else "shared",
            )

    def threads(self) -> int:
        """See Backend."""
        return self.cores.count if on_cpu() else 0

    def use_threads(self, number: int) -> None:
        """See Backend."""
        self.cores.use(number)

    def trial(self, batch: MicroBatch) -> None:
        """See Backend."""
        inputs = self.inputs(batch)
        with _without_dropout(self.model), explained(self.forecast):
            found = self.run_graph(self._supervised, inputs)
            with self.cores.shared_between(len(inputs.parts)):
                mx.eval(found)
        _trim_cache()

    def logprobs(self, batch: MicroBatch) -> np.ndarray:
        """See Backend."""
        self.model.eval()
        try:
            inputs = self.inputs(batch)
            with self.cores.shared_between(len(inputs.parts)):
                return np.array(self._logprobs(inputs), np.float32)
        finally:
            self.model.train()
            _trim_cache()

    # -- the step ----------------------------------------------------------------------------

    def train_step(
        self, batches: Sequence[MicroBatch], *, step: int, learning_rate: float
    ) -> StepResult:
        """See Backend."""
        seed = np.random.SeedSequence([self._settings.seed % 2**63, step, self.rank])
        mx.random.seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        total = mx.zeros_like(self._weights)
        loss = mx.array(0.0)
        count = sum(self.objective.count(batch) for batch in batches)
        measures = np.zeros(len(self.objective.measures))
        with explained(self.forecast):
            for number, batch in enumerate(batches):
                inputs = self.inputs(batch)
                (part, logprobs), gradients = self.run_graph(self._gradient, inputs)
                loss = loss + part
                total = total + flatten(gradients) if number else flatten(gradients)
                with self.cores.shared_between(len(inputs.parts)):
                    mx.eval(total, loss, logprobs)  # one micro-batch's activations at a time
                measures += self.objective.measured(batch, np.asarray(logprobs))
        if self.world > 1:
            loss, count, total = self._sum_over_ranks(loss, count, total)
        if not count:
            return StepResult(0.0, 0, 0.0)
        self._weights, self._first, self._second, norm = self._adamw.update(
            self._weights, total, count, self._first, self._second,
            step=step, learning_rate=learning_rate,
        )  # fmt: skip
        self._put_weights()
        mx.eval(self._weights, self._first, self._second, norm, loss)
        self._step = step
        _trim_cache()
        return StepResult(float(np.asarray(loss)), count, float(np.asarray(norm)), measures)

    def _sum_over_ranks(
        self, loss: mx.array, count: int, total: mx.array
    ) -> tuple[mx.array, int, mx.array]:
        """One all-reduce of everything; the loss and the count travel at the end."""
        packed = mx.concatenate([total, mx.stack([loss, mx.array(float(count))])])
        summed = mx.distributed.all_sum(packed, stream=mx.cpu)
        mx.eval(summed)
        return summed[-2], round(float(np.asarray(summed[-1]))), summed[:-2]

    def sum_over_processes(self, values: np.ndarray) -> np.ndarray:
        """See Backend."""
        values = np.asarray(values, np.float64)
        if self.world == 1:
            return values
        # Two float32 halves carry a float64 to 48 bits on every transport.
        high = values.astype(np.float32)
        low = (values - high).astype(np.float32)
        halves = mx.distributed.all_gather(mx.array(np.stack([high, low])[None]), stream=mx.cpu)
        gathered = np.asarray(halves, np.float64)
        return gathered.sum(axis=(0, 1))

    # -- state -------------------------------------------------------------------------------

    def get_state(self) -> PortableState:
        """See Backend."""
        weights, first, second = (
            split(self.trained, vector) for vector in (self._weights, self._first, self._second)
        )
        if not self._step:
            return PortableState(weights)
        return PortableState(weights, first, second, self._step)

    def set_state(self, state: PortableState) -> None:
        """See Backend.

        Raises:
            UserError: parameters are missing, unknown, or of another shape.
        """
        self._weights = join(self.trained, state.weights)
        self._first, self._second = (
            join(self.trained, moment) if moment else mx.zeros_like(self._weights)
            for moment in (state.first_moment, state.second_moment)
        )
        self._step = state.step
        self._put_weights()
        mx.eval(self._weights, self._first, self._second)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """See Backend."""
        if not prompts:
            return []
        if self._stop is None:
            chat = load_chat(self._base.path, self._settings.template)
            self._stop = end_tokens(chat, self._base.config, self._base.path)
        self.model.eval()
        try:
            if self._decoder is None:
                self._decoder = mlx_decode.decoder(self.model)
            answers = decode(self._decoder, prompts, max_tokens=max_tokens, stop=self._stop)
        finally:
            self.model.train()
            _trim_cache()
        return [answer.tokens for answer in answers]

    def peak_memory(self) -> int:
        """See Backend."""
        return int(mx.get_peak_memory())

    def forecast(self) -> Forecast:
        """See Backend; the base of a hub's name is here only once it is loaded."""
        if not self._ahead.known:
            self._ahead = forecast(self._settings, self._examples)
        return self._ahead

    # -- inside ------------------------------------------------------------------------------

    def inputs(self, batch: MicroBatch, *, share: bool | None = None) -> Inputs:
        """A micro-batch as the loss takes it, its rows dealt to the cores."""
        share = not self._plain if share is None else share
        prefix = len(batch.prefix) if share else 0
        streams = [] if self.compiled else self.cores.streams(prefix, *batch.tokens.shape)
        return make_inputs(batch, share=share, few_shapes=self.compiled, parts=max(1, len(streams)))

    def _streams(self, inputs: Inputs) -> list[Any]:
        return self.cores.streams(0, ROWS_PER_STREAM * len(inputs.parts), 1)

    def run_graph(self, gradient: _Gradient, inputs: Inputs) -> _Found:
        held = [p.get() for p in self.trained]
        try:
            return gradient(held, inputs)
        finally:
            # Tracing leaves its placeholders in the modules.
            for parameter, value in zip(self.trained, held, strict=True):
                parameter.put(value)

    def gradients(self, batch: MicroBatch) -> tuple[float, Arrays]:
        """The objective of a micro-batch, summed, and its gradients by name, as a step takes them;
        in MLX's shapes."""
        return self._gradients(self._gradient, self.inputs(batch))

    def _gradients(self, gradient: _Gradient, inputs: Inputs) -> tuple[float, Arrays]:
        (loss, _), found = self.run_graph(gradient, inputs)
        mx.eval(loss, found)
        names = [parameter.name for parameter in self.trained]
        arrays = [np.asarray(array, np.float32) for array in found]
        return float(np.asarray(loss)), dict(zip(names, arrays, strict=True))

    def _logprobs(self, inputs: Inputs) -> mx.array:
        return row_logprobs(self.model, self.head, inputs, self._streams(inputs))

    def _supervised(self, weights: list[mx.array], inputs: Inputs) -> _Found:
        return self._uncompiled(weights, inputs, SFT)

    def _uncompiled(
        self, weights: list[mx.array], inputs: Inputs, objective: Objective | None = None
    ) -> _Found:
        chosen = objective or self.objective

        def loss(values: list[mx.array]) -> tuple[mx.array, mx.array]:
            for parameter, value in zip(self.trained, values, strict=True):
                parameter.put(value)
            logprobs = self._logprobs(inputs)
            return chosen.loss(rows_of(mx, logprobs, inputs.arrays)), logprobs

        value, gradients = mx.value_and_grad(loss)(weights)
        return value, cast(list[mx.array], gradients)

    def _choose_gradient(self) -> tuple[bool, str, _Gradient]:
        """(whether the step is compiled, why, the step's gradient)."""
        wanted = self._settings.compile
        missing = compiler_missing()
        if wanted == "off":
            return False, "asked for", self._uncompiled
        if missing:
            if wanted == "on":
                print(f"compile: off, {missing}", file=sys.stderr)
            return False, missing, self._uncompiled
        if wanted == "auto" and on_cpu():
            return False, "on a CPU it costs half a minute and gains nothing", self._uncompiled

        def traced(
            weights: list[mx.array], prefix: mx.array | None, arrays: Any, *rows: Any
        ) -> Any:
            return self._uncompiled(weights, Inputs(prefix, (Part(*rows),), None, arrays))

        state: Any = mx.random.state
        step = mx.compile(traced, inputs=state, outputs=state)

        def compiled(weights: list[mx.array], inputs: Inputs) -> _Found:
            (part,) = inputs.parts
            rows = (part.tokens, part.index, part.targets, part.places)
            return step(weights, inputs.prefix, dict(inputs.arrays), *rows)

        return True, "asked for" if wanted == "on" else "GPU", compiled

    def _put_weights(self) -> None:
        for parameter, value in zip(self.trained, cut(self.trained, self._weights), strict=True):
            parameter.put(value)


def allowed(dtype: str, blocks: int) -> float:
    """What the gradients of one batch may differ by, computed in two ways."""
    return max(_AT_LEAST.get(dtype, 0.0), tolerance(dtype, blocks))


@contextlib.contextmanager
def _without_dropout(model: nn.Module) -> Generator[None]:
    """Dropout off and nothing else: `eval()` would switch kernels too."""
    layers = lora.dropouts(model)
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def _trim_cache() -> None:
    if mx.get_cache_memory() > _CACHE_LIMIT:
        mx.clear_cache()
