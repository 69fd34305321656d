"""The torch engine: a base in transformers' model, an adapter that switches on and off."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch

from livery.config.settings import TemplateSettings
from livery.engines.answers import Answer, Sampler, decode, write
from livery.engines.engine import Facts
from livery.engines.token_engine import TokenEngine, on_base
from livery.engines.torch import decode as torch_decode
from livery.engines.torch.adapter import attach_adapter
from livery.engines.torch.load import TorchBase, load_base
from livery.resident import peak_resident


def open(
    model: str,
    adapter: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: int | None = None,
    template: TemplateSettings | None = None,
) -> TokenEngine:
    """Load `model`, and `adapter` onto it.

    Args:
        device, dtype, quantize: as `livery.engines.torch.load.load_base`.
        template: the chat template, and how it renders; None takes the tokenizer's.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    runtime = Runtime(load_base(model, device=device, dtype=dtype, quantize=quantize), adapter)
    return on_base(runtime, runtime.config, model, adapter, template)


class Runtime:
    """See `livery.engines.token_engine.Runtime`.

    Attributes:
        model: transformers' module, the adapter in it.
        config: the base's, as transformers read it.
    """

    one_by_one = False

    def __init__(self, base: TorchBase, adapter: str | None):
        """Raises UserError where the adapter does not fit the base."""
        self._base = base
        self._adapter = attach_adapter(base.model, adapter) if adapter else None
        self.model: Any = self._adapter.model if self._adapter else base.model
        self.config: dict[str, Any] = self.model.config.to_dict()
        self._decoder = torch_decode.make_decoder(self.model)

    def use_adapter(self, on: bool) -> None:
        """See Runtime."""
        assert self._adapter is not None
        self._adapter.use(on)

    def check_room(self, prompt: int, answer: int) -> None:
        """transformers' models are the measure at every length."""

    def run_prefix(self, tokens: Sequence[int]) -> torch_decode.Prefix | None:
        """See Runtime."""
        if self._decoder.attention.refuses:
            return None
        return torch_decode.run_prefix(self._decoder, tokens)

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        stop: Sequence[int],
        prefix: torch_decode.Prefix | None,
    ) -> list[Answer]:
        """See Runtime."""
        return decode(
            self._decoder, prompts, max_tokens=sampler.decoding.max_tokens, stop=stop,
            prefix=prefix, sampler=sampler,
        )  # fmt: skip

    def write(
        self, prompt: Sequence[int], sampler: Sampler, stop: Sequence[int]
    ) -> Generator[int, None, Answer]:
        """See Runtime."""
        return (yield from write(self._decoder, prompt, sampler, stop))

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], prefix: torch_decode.Prefix | None
    ) -> np.ndarray:
        """See Runtime."""
        whole = [*prompt, *answer[:-1]]
        logits = torch_decode.last_logits(self._decoder, whole, len(answer), prefix)
        scores = torch.log_softmax(logits, -1)
        wanted = torch.tensor(answer, device=scores.device)[:, None]
        return scores.gather(1, wanted)[:, 0].cpu().numpy()

    def facts(self, model: str, adapter: str | None) -> Facts:
        """See Runtime."""
        device = self._base.device
        on_gpu = device.type == "cuda"
        transformers = importlib.metadata.version("transformers")
        return Facts(
            engine="torch",
            version=f"torch {torch.__version__}, transformers {transformers}",
            model=model,
            adapter=adapter,
            device=torch.cuda.get_device_name(device) if on_gpu else device.type,
            dtype=self._base.dtype + (f", {self._base.bits}-bit" if self._base.bits else ""),
            peak_memory=int(torch.cuda.max_memory_allocated(device)) if on_gpu else peak_resident(),
        )
