"""The torch engine: one base, an adapter that switches on and off, batched answers.

    engine = open_engine("torch", "base_model", "adapters/date-keys")
    prompts = [engine.prompt([{"role": "user", "content": "wake me at seven am"}])]
    [answer] = engine.generate(prompts, Decoding(max_tokens=32))

What all prompts begin with runs once for the whole call, what a batch shares beyond it once a
batch; prompts of like length are decoded together, and answers that have ended leave their batch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from livery.engines.text import end_tokens, own_tokenizer
from livery.engines.torch import decode as torch_decode
from livery.engines.torch.adapter import put_on
from livery.engines.torch.load import load_base
from livery.engines.torch.steps import Steps
from livery.errors import UserError


def open(
    model: str,
    adapter: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: int | None = None,
    template: TemplateSettings | None = None,
) -> TorchEngine:
    """Load `model`, and `adapter` onto it.

    Args:
        device, dtype, quantize: as `livery.engines.torch.load.load_base`.
        template: the chat template, and how it renders; None takes the tokenizer's.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    return TorchEngine(model, adapter, device, dtype, quantize, template)


class TorchEngine:
    """See `livery.engines.engine.Engine`."""

    def __init__(
        self,
        model: str,
        adapter: str | None,
        device: str,
        dtype: str,
        quantize: int | None,
        template: TemplateSettings | None,
    ):
        self._base = load_base(model, device=device, dtype=dtype, quantize=quantize)
        self._chat = load_chat(own_tokenizer(adapter) or model, template)
        self.tokenizer = self._chat.tokenizer
        self._adapter = put_on(self._base.model, adapter) if adapter else None
        loaded: Any = self._adapter.model if self._adapter else self._base.model
        self._names = (model, adapter)
        config = loaded.config.to_dict()
        self._stop = end_tokens(self._chat, config, Path(model).expanduser())
        self._decoder = torch_decode.make_decoder(loaded)
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
        prefix = self._prefix(tokens) if len(tokens) > decoding.batch_size else None
        return in_batches(
            tokens,
            decoding.batch_size,
            lambda rows: self._batch(prompts, rows, decoding, prefix),
            progress,
        )

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """See Engine."""
        pieces = Pieces(self._text, on_text)
        result = self._batch([prompt], [0], decoding, None, pieces)[0]
        pieces.show(result.text)
        return result

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """See Engine; the end-of-turn token is the last of each answer."""
        tokens = [prompt.tokens for prompt in prompts]
        prefix = self._prefix(tokens)
        found: list[np.ndarray] = []
        for prompt, answer in zip(tokens, answers, strict=True):
            ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
            ids = [*ids, self._stop[0]]
            whole = [*prompt, *ids[:-1]]
            logits = torch_decode.last_logits(self._decoder, whole, len(ids), prefix)
            scores = torch.log_softmax(logits, -1)
            wanted = torch.tensor(ids, device=scores.device)[:, None]
            found.append(scores.gather(1, wanted)[:, 0].cpu().numpy())
        return found

    def facts(self) -> Facts:
        """See Engine."""
        bits = f", {self._base.bits}-bit" if self._base.bits else ""
        on = self._adapter is not None and self._adapter.on
        device = self._base.device
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        return Facts(
            engine="torch",
            version=f"torch {torch.__version__}, transformers {_version('transformers')}",
            model=str(self._names[0]),
            adapter=self._names[1] if on else None,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            dtype=self._base.dtype + bits,
            peak_memory=int(peak),
        )

    def _prefix(self, tokens: Sequence[Sequence[int]]) -> torch_decode.Prefix | None:
        """What all of these begin with, run once; None where this model cannot share it."""
        if self._decoder.attention.refuses or not tokens:
            return None
        shared = common_prefix(tokens)
        return torch_decode.run_prefix(self._decoder, tokens[0][:shared]) if shared else None

    def _batch(
        self,
        prompts: Sequence[Prompt],
        rows: list[int],
        decoding: Decoding,
        prefix: torch_decode.Prefix | None,
        on_token: OnToken | None = None,
    ) -> dict[int, Generation]:
        asked = [prompts[row] for row in rows]
        steps = Steps(rows, decoding, grammars_of(asked, decoding), self._grammar_masks)
        answers = torch_decode.decode(
            self._decoder,
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
