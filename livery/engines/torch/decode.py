"""Batched decoding on a shared prefix: what the torch engine and the trainer's samples both run.

The tokens that all prompts begin with run once; the rest of each prompt runs left-padded on top, so
that every row's next token stands in the last column, at a position of its own; rows that have
ended leave the batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from livery.engines.answers import common_prefix, gumbel, nucleus
from livery.engines.torch.attention import Attention, read_attention
from livery.training.self_check import FAMILY_ERRORS


@dataclass(frozen=True)
class Decoder:
    """A causal model of transformers, in eval mode, with what its masks must be.

    Attributes:
        cached: it continues from a cache; else every token runs the whole row again.
    """

    model: Any
    attention: Attention
    cached: bool = True

    def groups(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """See `livery.engines.answers.Decoder`. Rows that no mask can keep apart, or that padding
        would disturb, go one by one."""
        rows = [*range(len(prompts))]
        if self.attention.refuses:
            return [[row] for row in rows]
        return [rows] if rows else []

    def start(self, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> _Rows:
        """See `livery.engines.answers.Decoder`."""
        from transformers import DynamicCache

        count, device = len(prompts), self.model.device
        known = len(prefix.tokens) if prefix else 0
        shared = max(known, common_prefix(prompts))
        if self.attention.refuses:  # one row, on the cache that the model's config asks for
            shared, cache = 0, DynamicCache(config=self.model.config) if self.cached else None
        elif shared:
            prefix = run_prefix(self, prompts[0][known:shared], prefix)
            cache = prefix.share(count)
        else:
            cache = DynamicCache()
        before = torch.arange(shared, device=device)
        width = max(len(prompt) for prompt in prompts) - shared
        suffixes = torch.zeros(count, width, dtype=torch.long, device=device)
        positions = torch.full((count, width), -1, device=device)
        for row, prompt in enumerate(prompts):
            rest = list(prompt[shared:])
            suffixes[row, width - len(rest) :] = torch.tensor(rest, device=device)
            positions[row, width - len(rest) :] = torch.arange(shared, len(prompt), device=device)
        positions = torch.cat([before[None].expand(count, -1), positions], dim=1)
        logits = _forward(self, suffixes, positions, cache)[:, -1]
        return _Rows(self, cache, suffixes, positions, logits)


def make_decoder(model: Any) -> Decoder:
    """The fastest way of decoding that gives this model's own logits, found by trying: rows
    together under masks of ours, rows one by one on its cache, or without a cache."""
    attention = read_attention(model)
    alone = attention
    if not attention.refuses:
        name = model.config.model_type
        alone = dataclasses.replace(attention, refuses=f"{name} takes no masks of ours")
        if _holds(made := Decoder(model, attention)):
            return made
    made = Decoder(model, alone)
    return made if _holds(made) else Decoder(model, alone, cached=False)


# Less than any wrong mask or cache makes of random tokens, more than half precision does.
_TOLERANCE = 0.05


@torch.no_grad()
def _holds(decoder: Decoder) -> bool:
    """Whether the logits of two short rows, a token decoded, are those of the whole rows."""
    rows, new = ([1, 2, 3, 4, 5], [1, 2, 6]), 7
    model = decoder.model
    try:
        found: list[torch.Tensor] = []
        for group in decoder.groups(rows):
            state = decoder.start([rows[row] for row in group], None)
            state.advance([new] * len(group))
            found += list(state.logits)
    except FAMILY_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    for row, got in zip(rows, found, strict=True):
        whole = torch.tensor([[*row, new]], device=model.device)
        wanted = model(input_ids=whole, use_cache=False).logits[0, -1].float()
        if not float((got - wanted).abs().max()) <= _TOLERANCE * float(wanted.abs().max()) + 1e-6:
            return False
    return True


@dataclass(frozen=True)
class Prefix:
    """Tokens that were run once, and the keys and values of batch 1 that they left."""

    tokens: tuple[int, ...]
    cache: Any

    def share(self, rows: int) -> Any:
        """A cache of `rows` rows that all begin with this prefix; this one stays as it is."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, layer in enumerate(self.cache.layers):
            keys, values = (x.expand(rows, -1, -1, -1) for x in (layer.keys, layer.values))
            cache.update(keys, values, index)
        return cache


def run_prefix(decoder: Decoder, tokens: Sequence[int], before: Prefix | None = None) -> Prefix:
    """Run `tokens` (behind `before`, where there is one) at batch 1."""
    from transformers import DynamicCache

    # Made without the config, every layer keeps all of its keys: windows are the masks' business.
    cache = before.share(1) if before else DynamicCache()
    known = before.tokens if before else ()
    whole = (*known, *tokens)
    if tokens:
        positions = torch.arange(len(whole), device=decoder.model.device)[None]
        new = torch.tensor([list(tokens)], device=decoder.model.device)
        _forward(decoder, new, positions, cache)
    return Prefix(whole, cache)


@dataclass
class _Rows:
    """See `livery.engines.answers.Rows`.

    Attributes:
        cache: transformers', of K places.
        tokens: (B, K) of those places.
        positions: (B, K) of those places; -1 where a place is padding.
        logits: (B, vocab) float32 of the token that comes next.
    """

    decoder: Decoder
    cache: Any
    tokens: torch.Tensor
    positions: torch.Tensor
    logits: torch.Tensor

    @property
    def width(self) -> int:
        return self.logits.shape[-1]

    def forbid(self, allowed: np.ndarray) -> None:
        wanted = torch.from_numpy(allowed).to(self.logits.device)
        self.logits = self.logits.masked_fill(~wanted, -torch.inf)

    def wait(self) -> None:
        if self.logits.device.type == "cuda":
            torch.cuda.synchronize(self.logits.device)

    def likeliest(self) -> list[int]:
        return self.logits.argmax(-1).tolist()

    def draw(self, keys: np.ndarray, temperature: float, top_p: float) -> list[int]:
        device, scaled = self.logits.device, self.logits / temperature
        if top_p < 1:
            kept = torch.from_numpy(nucleus(scaled.cpu().numpy(), top_p))
            scaled = scaled.masked_fill(~kept.to(device), -torch.inf)
        ids = torch.arange(self.width, dtype=torch.int32, device=device)
        noise: torch.Tensor = gumbel(ids, torch.from_numpy(keys).to(device), torch.log)
        return (scaled + noise).argmax(-1).tolist()

    def select(self, places: Sequence[int]) -> None:
        kept = torch.tensor(places, device=self.logits.device)
        self.tokens = self.tokens[kept]
        self.cache.batch_select_indices(kept)
        self.positions = self.positions[kept]

    def advance(self, tokens: Sequence[int]) -> None:
        new = torch.tensor(tokens, device=self.logits.device)[:, None]
        place = self.positions.amax(1, keepdim=True) + 1
        self.positions = torch.cat([self.positions, place], dim=1)
        self.tokens = torch.cat([self.tokens, new], dim=1)
        now = new if self.decoder.cached else self.tokens
        self.logits = _forward(self.decoder, now, self.positions, self.cache)[:, -1]


def last_logits(
    decoder: Decoder, tokens: Sequence[int], count: int, prefix: Prefix | None
) -> torch.Tensor:
    """(count, vocab) float32: logits at the last `count` of `tokens`, which begin with `prefix`."""
    from transformers import DynamicCache

    device, known = decoder.model.device, len(prefix.tokens) if prefix else 0
    config = decoder.model.config if decoder.attention.refuses else None
    cache: Any = None
    if decoder.cached:
        cache = prefix.share(1) if prefix else DynamicCache(config=config)
    new = torch.tensor([list(tokens[known:])], device=device)
    positions = torch.arange(len(tokens), device=device)[None]
    return _forward(decoder, new, positions, cache, count)[0]


@torch.no_grad()
def _forward(
    decoder: Decoder, tokens: torch.Tensor, positions: torch.Tensor, cache: Any, last: int = 1
) -> torch.Tensor:
    """(B, last, vocab) float32: logits at the last of tokens (B, T), the last of places (B, K)."""
    options: dict[str, Any] = {"use_cache": False}
    if decoder.cached:
        options = {"past_key_values": cache, "use_cache": True}
    if not decoder.attention.refuses:
        now = positions[:, -tokens.shape[1] :]
        options["position_ids"] = now.clamp(min=0)
        options["attention_mask"] = decoder.attention.masks(
            lambda window: _allowed(now, positions, window)
        )
    if "logits_to_keep" in inspect.signature(type(decoder.model).forward).parameters:
        options["logits_to_keep"] = last
    with _without_plans(tokens.device):
        out = decoder.model(input_ids=tokens, **options)
    return out.logits[:, -last:].float()


def _without_plans(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Attention without cuDNN's, which plans for a tenth of a second at each new number of keys:
    in decoding, at each token."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )


def _allowed(now: torch.Tensor, places: torch.Tensor, window: int | None) -> torch.Tensor:
    """(B, 1, T, K) bool for queries at positions (B, T) and keys at (B, K), -1 for padding."""
    query, key = now[:, :, None], places[:, None]
    allowed = (key >= 0) & (key <= query)
    if window is not None:
        allowed &= query - key < window
    # A padded query looks at everything, since looking at nothing gives NaN; nobody reads it.
    return (allowed | (query < 0))[:, None]
