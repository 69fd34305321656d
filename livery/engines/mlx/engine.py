"""The MLX engine: one base, an adapter that switches on and off, batched answers.

    engine = open_engine("mlx", "base_model", "adapters/date-keys")
    prompts = [engine.prompt([{"role": "user", "content": "wake me at seven am"}])]
    [answer] = engine.generate(prompts, Decoding(max_tokens=32))

What all prompts begin with runs once for the whole call, what a batch shares beyond it once a
batch; prompts of like length are decoded together, and answers that have ended leave their batch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from livery.config.settings import TemplateSettings
from livery.dataset.template import load_chat
from livery.engines.answers import (
    OnToken,
    Pieces,
    common_prefix,
    grammars_of,
    in_batches,
)
from livery.engines.constrain import TokenMasks
from livery.engines.engine import (
    Conversation,
    Decoding,
    Facts,
    Generation,
    OnText,
    Progress,
    Prompt,
    Tools,
)
from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx import decode as mlx_decode
from livery.engines.mlx.adapter import put_on
from livery.engines.mlx.load import load_base
from livery.engines.mlx.model_config import longest_exact
from livery.engines.mlx.steps import Steps
from livery.engines.mlx.sums import sum_last
from livery.engines.text import end_tokens, own_tokenizer
from livery.errors import UserError
from livery.models import read_config


def open(
    model: str,
    adapter: str | None = None,
    *,
    dtype: str = "auto",
    quantize: int | None = None,
    template: TemplateSettings | None = None,
) -> MLXEngine:
    """Load `model`, and `adapter` onto it.

    Args:
        dtype, quantize: as `livery.engines.mlx.load.load_base`.
        template: the chat template, and how it renders; None takes the tokenizer's.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    return MLXEngine(model, adapter, dtype, quantize, template)


class MLXEngine:
    """See `livery.engines.engine.Engine`."""

    def __init__(
        self,
        model: str,
        adapter: str | None,
        dtype: str,
        quantize: int | None,
        template: TemplateSettings | None,
    ):
        self._base = load_base(model, dtype=dtype, quantize=quantize)
        self._chat = load_chat(own_tokenizer(adapter) or self._base.path, template)
        self.tokenizer = self._chat.tokenizer
        self._adapter = put_on(self._base.model, adapter) if adapter else None
        self._exact = longest_exact(read_config(self._base.path))
        self._names = (model, adapter)
        self._stop = end_tokens(self._chat, self._base.config, self._base.path)
        self._decoders: dict[bool, mlx_decode.Decoder] = {}
        self._masks: TokenMasks | None = None

    @property
    def has_adapter(self) -> bool:
        return self._adapter is not None

    def use_adapter(self, on: bool) -> None:
        """See Engine."""
        if self._adapter is None:
            if on:
                raise UserError("There is no adapter to switch on; open the engine with one.")
            return
        self._adapter.use(on)

    def prompt(self, messages: Conversation, tools: Tools = ()) -> Prompt:
        """See Engine."""
        return Prompt(tuple(messages), tuple(self._chat.prompt(messages, tools)), tuple(tools))

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, progress: Progress | None = None
    ) -> list[Generation]:
        """See Engine."""
        tokens = [prompt.tokens for prompt in prompts]
        self._check_lengths(tokens, decoding)
        decoder = self._decoder()
        prefix = mlx_decode.run_prefix(decoder, tokens[0][: common_prefix(tokens)]) \
            if len(tokens) > decoding.batch_size else None  # fmt: skip
        return in_batches(
            tokens,
            decoding.batch_size,
            lambda rows: self._batch(decoder, prompts, rows, decoding, prefix),
            progress,
        )

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """See Engine."""
        self._check_lengths([prompt.tokens], decoding)
        pieces = Pieces(self._text, on_text)
        result = self._batch(self._decoder(), [prompt], [0], decoding, None, pieces)[0]
        pieces.show(result.text)
        return result

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """See Engine; the end-of-turn token is the last of each answer."""
        tokens = [prompt.tokens for prompt in prompts]
        decoder = self._decoder()
        shared = common_prefix(tokens)
        prefix = mlx_decode.run_prefix(decoder, tokens[0][:shared] if tokens else ())
        found: list[np.ndarray] = []
        for prompt, answer in zip(tokens, answers, strict=True):
            ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
            ids = [*ids, self._stop[0]]
            self._check_length(len(prompt) + len(ids), "the prompt with its answer", "")
            row = mx.array([*prompt[shared:], *ids[:-1]])[None]
            logits = decoder.model(row, cache=mlx_cache.share(prefix.caches, 1))[0, -len(ids) :]
            logits = logits.astype(mx.float32)
            logits = logits - logits.max(axis=-1, keepdims=True)
            scores = logits - mx.log(sum_last(mx.exp(logits)))[..., None]
            picked = mx.take_along_axis(scores, mx.array(ids)[:, None], axis=-1)
            found.append(np.asarray(picked[:, 0]))
        return found

    def facts(self) -> Facts:
        """See Engine."""
        bits = f", {self._base.bits}-bit" if self._base.bits else ""
        on = self._adapter is not None and self._adapter.on
        device: Any = mx.default_device()
        return Facts(
            engine="mlx",
            version=f"mlx {_version('mlx')}, mlx-lm {_version('mlx-lm')}",
            model=str(self._names[0]),
            adapter=self._names[1] if on else None,
            device=str(device.type).rpartition(".")[2],
            dtype=self._base.dtype + bits,
            peak_memory=int(mx.get_peak_memory()),
        )

    def _check_lengths(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
        longest = max(map(len, prompts), default=0)
        self._check_length(
            longest + decoding.max_tokens,
            f"a prompt of {longest:,} tokens with an answer of up to {decoding.max_tokens:,}",
            "fewer --max-tokens, ",
        )

    def _check_length(self, tokens: int, what: str, fewer: str) -> None:
        """Raises UserError where mlx-lm's model is no longer torch's; see `longest_exact`."""
        if self._exact is not None and tokens > self._exact[0]:
            limit, reason = self._exact
            raise UserError(
                f"{self._names[0]}: beyond {limit:,} tokens mlx-lm's model computes something else "
                f"than torch's ({reason}), and {what} has {tokens:,}. Take shorter prompts, "
                f"{fewer}or --engine torch."
            )

    def _decoder(self) -> mlx_decode.Decoder:
        on = self._adapter is not None and self._adapter.on
        if on not in self._decoders:
            self._decoders[on] = mlx_decode.decoder(self._base.model)
        return self._decoders[on]

    def _batch(
        self,
        decoder: mlx_decode.Decoder,
        prompts: Sequence[Prompt],
        rows: list[int],
        decoding: Decoding,
        prefix: mlx_decode.Prefix | None,
        on_token: OnToken | None = None,
    ) -> dict[int, Generation]:
        asked = [prompts[row] for row in rows]
        steps = Steps(rows, decoding, grammars_of(asked, decoding), self._grammar_masks)
        answers = mlx_decode.decode(
            decoder,
            [prompt.tokens for prompt in asked],
            max_tokens=decoding.max_tokens,
            stop=self._stop,
            prefix=prefix,
            adjust=steps.adjust,
            choose=steps.choose if decoding.temperature > 0 else None,
            on_token=on_token,
        )
        return steps.generations(answers, self._text)

    def _grammar_masks(self, width: int) -> TokenMasks:
        if self._masks is None or self._masks.width != width:
            self._masks = TokenMasks(self.tokenizer, width, self._stop)
        return self._masks

    def _text(self, tokens: Sequence[int]) -> str:
        # Special tokens stay visible: an answer that contains one is not a clean answer.
        return self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)


def _version(package: str) -> str:
    return importlib.metadata.version(package)
