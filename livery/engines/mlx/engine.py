"""The MLX engine: a base in mlx-lm's model, an adapter that switches on and off."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from livery.config.settings import TemplateSettings
from livery.engines.answers import Answer, Sampler, decode, write
from livery.engines.engine import Facts, NoRoom
from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx import decode as mlx_decode
from livery.engines.mlx.adapter import attach_adapter
from livery.engines.mlx.head import sum_last
from livery.engines.mlx.load import Base, load_base
from livery.engines.mlx.model_config import longest_exact
from livery.engines.token_engine import TokenEngine, on_base
from livery.models import read_config


def open(
    model: str,
    adapter: str | None = None,
    *,
    dtype: str = "auto",
    quantize: int | None = None,
    template: TemplateSettings | None = None,
) -> TokenEngine:
    """Load `model`, and `adapter` onto it.

    Args:
        dtype, quantize: as `livery.engines.mlx.load.load_base`.
        template: the chat template, and how it renders; None takes the tokenizer's.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    runtime = Runtime(load_base(model, dtype=dtype, quantize=quantize), adapter)
    return on_base(runtime, runtime.config, model, adapter, template)


class Runtime:
    """See `livery.engines.token_engine.Runtime`.

    Attributes:
        config: the base's config.json as mlx-lm read it.
    """

    one_by_one = False

    def __init__(self, base: Base, adapter: str | None):
        """Raises UserError where the adapter does not fit the base."""
        self._base, self.config = base, base.config
        self._adapter = attach_adapter(base.model, adapter) if adapter else None
        self._exact = longest_exact(read_config(base.path))
        self._decoders: dict[bool, mlx_decode.Decoder] = {}

    def use_adapter(self, on: bool) -> None:
        """See Runtime."""
        assert self._adapter is not None
        self._adapter.use(on)

    def check_room(self, prompt: int, answer: int) -> None:
        """Refuses what is so long that mlx-lm's model is no longer torch's; see `longest_exact`."""
        if self._exact is not None and prompt + answer > self._exact[0]:
            limit, reason = self._exact
            raise NoRoom(
                f"{self._base.path}: beyond {limit:,} tokens mlx-lm's model computes something "
                f"other than torch's ({reason}), and a prompt of {prompt:,} tokens with an answer "
                f"of {answer:,} has {prompt + answer:,}. Take shorter prompts or answers "
                "(--max-tokens), or --engine torch."
            )

    def run_prefix(self, tokens: Sequence[int]) -> mlx_decode.Prefix:
        """See Runtime."""
        return mlx_decode.run_prefix(self._decoder(), tokens)

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        stop: Sequence[int],
        prefix: mlx_decode.Prefix | None,
    ) -> list[Answer]:
        """See Runtime."""
        return decode(
            self._decoder(), prompts, max_tokens=sampler.decoding.max_tokens, stop=stop,
            prefix=prefix, sampler=sampler,
        )  # fmt: skip

    def write(
        self, prompt: Sequence[int], sampler: Sampler, stop: Sequence[int]
    ) -> Generator[int, None, Answer]:
        """See Runtime."""
        return (yield from write(self._decoder(), prompt, sampler, stop))

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], prefix: mlx_decode.Prefix | None
    ) -> np.ndarray:
        """See Runtime."""
        prefix = prefix or self.run_prefix(())
        row = mx.array([*prompt[prefix.length :], *answer[:-1]])[None]
        caches = mlx_cache.share(prefix.caches, 1)
        logits = self._base.model(row, cache=caches)[0, -len(answer) :].astype(mx.float32)
        logits = logits - logits.max(axis=-1, keepdims=True)
        scores = logits - mx.log(sum_last(mx.exp(logits)))[..., None]
        return np.asarray(
            mx.take_along_axis(scores, mx.array(list(answer))[:, None], axis=-1)[:, 0]
        )

    def facts(self, model: str, adapter: str | None) -> Facts:
        """See Runtime."""
        version = importlib.metadata.version
        device: Any = mx.default_device()
        return Facts(
            engine="mlx",
            version=f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}",
            model=model,
            adapter=adapter,
            device=str(device.type).rpartition(".")[2],
            dtype=self._base.dtype + (f", {self._base.bits}-bit" if self._base.bits else ""),
            peak_memory=int(mx.get_peak_memory()),
        )

    def _decoder(self) -> mlx_decode.Decoder:
        on = self._adapter is not None and self._adapter.on
        if on not in self._decoders:
            self._decoders[on] = mlx_decode.decoder(self._base.model)
        return self._decoders[on]
