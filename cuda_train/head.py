"""Cross-entropy at chosen positions, a few rows of logits at a time.

Tokens x vocabulary is the largest array of a training step, and no more than `LOGITS_BYTES` of it
is ever held: each chunk's logits give its losses and their gradients, and are dropped.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cuda_train.estimate import LOGITS_BYTES
from livery.engines.torch.text_model import body_name, inside
from livery.errors import UserError
from livery.training.self_check import FAMILY_ERRORS, first_line


class Head:
    """A causal model from hidden states (n, d) to logits (n, V).

    The family's own forward is run on a copy of the model object whose body hands through what it
    is given, so soft caps and scales apply as the family applies them.

    Attributes:
        body: the module that gives those hidden states of tokens.
        vocabulary: V.
    """

    def __init__(self, model: Any) -> None:
        """Find, by trying, the module whose output the rest of the model makes into logits.

        Raises:
            UserError: no module is such a one.
        """
        self._through, self._view, self.body = _find(model)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._trained = [
            p for name, p in self._view.named_parameters() if p.requires_grad and "lora_" in name
        ]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(1, n, V) of hidden states (n, d)."""
        return _through(self._view, self._through, hidden)

    def losses(
        self, hidden: torch.Tensor, targets: torch.Tensor, *, rows: int | None = None
    ) -> torch.Tensor:
        """(n,) float32: -log p of each target (n,) int64 under hidden states (n, d).

        Args:
            rows: rows of a chunk; as many as `LOGITS_BYTES` hold where it is None.
        """
        size = rows or max(1, LOGITS_BYTES // (4 * self.vocabulary))
        if not torch.is_grad_enabled() or not (hidden.requires_grad or self._trained):
            chunks = zip(hidden.split(size), targets.split(size), strict=True)
            return _joined([self.chunk(h, t) for h, t in chunks], hidden)
        if self._trained:  # then logits lead to parameters, too: recompute them in the backward
            chunks = zip(hidden.split(size), targets.split(size), strict=True)
            again = [checkpoint(self.chunk, h, t, use_reentrant=False) for h, t in chunks]
            return _joined(again, hidden)
        return _Losses.apply(hidden, targets, self, size)  # type: ignore[no-any-return]

    def chunk(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.logits(hidden)[0].float(), targets, reduction="none")


class _HandThrough(nn.Module):
    """Takes a body's place and returns `hidden` (1, n, d), whatever it is called with."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        # Not as a submodule: the parameters of the view are those of the head alone.
        self.__dict__["_body"] = body
        self.hidden: torch.Tensor | None = None

    def forward(self, *_arguments: Any, **_options: Any) -> Any:
        return _Output(self.hidden)

    def __getattr__(self, name: str) -> Any:
        """What the family's forward reads off its body: a multiplier, a window."""
        return getattr(self.__dict__["_body"], name)


class _Output:
    """What a body returns, with nothing in it but hidden states: by name, by place, as a tuple."""

    def __init__(self, hidden: torch.Tensor | None) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None  # no cache, no router's logits, no attentions

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __len__(self) -> int:
        return 1


def _find(model: Any) -> tuple[_HandThrough, Any, Any]:
    """What hands through, the copy of `model` it is in, and the body it stands for."""
    tokens = torch.arange(1, 6, device=model.device)[None]
    reason = ""
    for path in _candidates(model):
        whole = model.get_submodule(path)
        body = inside(whole)
        through = _HandThrough(whole)
        view = _with(model, path.split("."), through)
        try:
            with torch.no_grad():
                wanted = model(input_ids=tokens, use_cache=False).logits[0].float()
                got = _through(view, through, hidden_of(body, tokens)[0])[0].float()
        except FAMILY_ERRORS as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = f" ({first_line(error)})"
            continue
        if got.shape == wanted.shape:
            apart = float((got - wanted).abs().max())
            if apart <= 0.02 * float(wanted.abs().max()) + 1e-6:
                return through, view, body
    raise UserError(
        f"{model.config.model_type}: {type(model).__name__} of transformers does not compute its "
        f"logits from its body's output in a way that torch can train here{reason}. Where "
        "mlx-lm knows the family, train with --backend mlx."
    )


def _candidates(model: Any) -> list[str]:
    """Paths of modules that may be the body: the model's own, and models within it."""
    from transformers import PreTrainedModel

    first = body_name(model)
    inner = [
        f"{first}.{name}"
        for name, module in getattr(model, first).named_modules()
        if name and isinstance(module, PreTrainedModel)
    ]
    return [first, *inner]


def hidden_of(body: Any, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
    """Hidden states (B, T, d) of tokens (B, T)."""
    options.setdefault("use_cache", False)
    output = body(input_ids=tokens, **options)
    return output[0] if isinstance(output, tuple) else output.last_hidden_state


def _with(module: Any, path: list[str], new: nn.Module) -> Any:
    """A copy of `module` in which `new` is at `path`; all else is shared."""
    view, name = copy.copy(module), path[0]
    inner = new if len(path) == 1 else _with(module._modules[name], path[1:], new)
    view.__dict__["_modules"] = {**module._modules, name: inner}
    return view


def _through(view: Any, through: _HandThrough, hidden: torch.Tensor) -> torch.Tensor:
    """(1, n, V) of hidden states (n, d)."""
    through.hidden = hidden[None]
    try:
        if "inputs_embeds" in inspect.signature(type(view).forward).parameters:
            return view(inputs_embeds=hidden[None], use_cache=False).logits
        tokens = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        return view(input_ids=tokens, use_cache=False).logits
    finally:
        through.hidden = None


class _Losses(torch.autograd.Function):
    """Losses of all rows; a row's gradient is made with its logits, which are then dropped."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: Head, size: int
    ) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        gradients = torch.empty_like(hidden)
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                leaf = hidden[part].detach().requires_grad_()
                logits = head.logits(leaf)
            loss, gradient = _differentiate(logits.detach()[0], targets[part])
            # Each loss depends on its own row alone, so the sum's gradient has them all.
            (gradients[part],) = torch.autograd.grad(logits, leaf, gradient[None])
            losses.append(loss)
        ctx.save_for_backward(gradients)
        return _joined(losses, hidden)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (gradients,) = ctx.saved_tensors
        return (grads[0][:, None] * gradients).to(gradients.dtype), None, None, None


def _differentiate(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses (n,) float32, their derivative by the logits (n, V)): softmax less the target's 1.

    Written over the logits where they are float32, so that one such array is held and not three.
    """
    scores = logits.float()
    rows = torch.arange(len(targets), device=targets.device)
    top = scores.amax(-1)
    picked = scores[rows, targets] - top
    scores.sub_(top[:, None]).exp_()
    total = scores.sum(-1)
    scores.div_(total[:, None])
    scores[rows, targets] -= 1.0
    return total.log() - picked, scores.to(logits.dtype)


def _joined(parts: list[torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
