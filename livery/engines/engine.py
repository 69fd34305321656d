"""What every engine can do: answer conversations, with or without an adapter.

Evaluation, `livery generate` and samples talk to this protocol alone, so a score from MLX and one
from an HTTP endpoint come out of the same code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol

from livery.errors import UserError
from livery.models import resolve_name
from livery.progress import OnProgress

if TYPE_CHECKING:
    import numpy as np

# What the llamacpp engine stores a base as that is no GGUF file yet.
GGUF_TYPE = "f16"

Message = dict[str, str]
Conversation = Sequence[Message]
Tools = Sequence[dict[str, Any]]  # JSON Schemas, as rows of training data hold them
OnText = Callable[[str], None]  # a piece of an answer, as it comes


@dataclass(frozen=True)
class Grammar:
    """What an answer may look like, for constrained decoding.

    Attributes:
        kind: how `text` is written: llguidance's Lark dialect, a regular expression, or a JSON
            Schema.
        text: the grammar itself.
    """

    kind: Literal["lark", "regex", "json_schema"]
    text: str


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn.

    Attributes:
        max_tokens: longest answer, in tokens; a longer one is cut and `finished` is False.
        grammar: only answers of this grammar; None leaves the model free. A prompt's own
            takes precedence.
        temperature: 0 always takes the most likely token, anything above samples.
        seed: of the sampling. With it, the n-th prompt of a call draws the same answer whatever
            the batch size.
        batch_size: answers decoded together, at most.
        top_p: when sampling, only the most likely tokens are drawn from, as many as it takes for
            their probabilities (after grammar and temperature) to reach this; 1 draws from all.
    """

    max_tokens: int = 64
    grammar: Grammar | None = None
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 64
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; it must be at least 1.")
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}; it must be at least 1.")
        if not self.temperature >= 0:
            raise UserError(f"temperature is {self.temperature}; it must be 0 or above.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")


class NoRoom(UserError):
    """Prompt and answer are longer than the model, or its runtime, can take."""


class EngineDied(UserError):
    """The process that an engine computes in has ended; the message holds its last words."""


class Enough(Exception):
    """Raised by an `OnText`: the answer ends here, with what was written so far."""


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for its answer.

    Attributes:
        messages: as the user wrote them.
        tokens: as the model reads them, the template's opening of the answer included; empty for
            engines that tokenize out of our sight (http).
        tools: offered to the model.
        grammar: only answers of this grammar, where they differ from prompt to prompt (by the
            schema or the state that the prompt holds); None takes the decoding's.
    """

    messages: tuple[Message, ...]
    tokens: tuple[int, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        tokens: of the answer, without the end token; empty where the engine does not show them.
        text: the answer.
        finished: the model ended it by itself, within max_tokens.
        seconds: from the start of its batch to its last token.
        count: tokens generated, the end token included.
    """

    tokens: tuple[int, ...]
    text: str
    finished: bool
    seconds: float
    count: int


@dataclass(frozen=True)
class Facts:
    """What answered, for reports.

    Attributes:
        engine: "mlx", "torch", "llamacpp", "http".
        version: of the runtime.
        model, adapter: folder, hub id or name; adapter None where there is none.
        device, dtype: where and in what the weights were.
        peak_memory: bytes, as the framework counts them on its device, and of the whole process for
            torch on a CPU and llama.cpp; 0 where nobody can tell.
    """

    engine: str
    version: str
    model: str
    adapter: str | None
    device: str
    dtype: str
    peak_memory: int = 0


class Engine(Protocol):
    """One loaded model, with at most one adapter that can be switched on and off."""

    @property
    def has_adapter(self) -> bool: ...

    def use_adapter(self, on: bool) -> None:
        """Answer as the tuned model (True) or as its base (False).

        Raises:
            UserError: `on` without an adapter.
        """
        ...

    def prompt(self, messages: Conversation, tools: Tools = ()) -> Prompt:
        """Render a conversation up to where the answer starts.

        Raises:
            UserError: the template refuses it, or does not offer the tools.
        """
        ...

    def text_prompt(self) -> Prompt:
        """Where a plain text begins, without a chat template: for `logprobs` of the text.

        Raises:
            UserError: this engine has no such prompt.
        """
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        progress: OnProgress | None = None,
    ) -> list[Generation]:
        """Answer every prompt; answers come back in the order of the prompts."""
        ...

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """Answer one prompt, handing on its text piece by piece; `Enough` from `on_text` ends it
        there, unfinished."""
        ...

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """Natural log-probability of each token of each answer: a list of (T,) float32.

        Raises:
            UserError: this engine does not show them.
        """
        ...

    def facts(self) -> Facts: ...


# name -> (module, the extra that installs what it needs). Modules are imported when asked for.
_ENGINES = {
    "mlx": ("livery.engines.mlx.engine", "mlx"),
    "torch": ("livery.engines.torch.engine", "cuda"),
    "llamacpp": ("livery.engines.llamacpp.engine", "llamacpp"),
    "http": ("livery.engines.http", None),
}


def engine_names() -> tuple[str, ...]:
    """Engines of this installation, for `--engine`."""
    return tuple(_ENGINES)


# What `--engine` says of the engine that is taken where none is named.
DEFAULT_SHOWN = "mlx where it is installed, else torch"


def default_engine() -> str:
    """The engine where none is named: "mlx", or "torch" where only that is installed."""
    only_torch = find_spec("mlx") is None and find_spec("torch") is not None
    return "torch" if only_torch else "mlx"


def open_engine(name: str, model: str, adapter: str | None = None, **options: Any) -> Engine:
    """Load `model` (with `adapter`, if any) on the engine called `name`.

    Args:
        name: one of engine_names().
        model: folder or hub id; for http the name the endpoint serves.
        adapter: adapter folder; for http the name under which the endpoint serves it.
        options: the engine's own (mlx and torch: dtype, quantize; llamacpp: gguf_type, tokenizer,
            to_gguf; http: url).

    Raises:
        UserError: an unknown engine, or one whose packages are not installed (the message names
            the extra).
    """
    module = engine_module(name)
    if name != "http":
        model = resolve_name(model)
    engine: Engine = module.open(model, adapter, **options)
    return engine


def engine_module(name: str) -> Any:
    """The module of the engine called `name`.

    Raises:
        UserError: an unknown engine, or one whose packages are not installed (the message names
            the extra).
    """
    if name not in _ENGINES:
        raise UserError(f"No engine is called '{name}'. Choose one of: {', '.join(_ENGINES)}.")
    module_name, extra = _ENGINES[name]
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if extra is None or missing.split(".")[0] == "livery":
            raise
        raise UserError(
            f"The {name} engine needs the package '{missing}', which is not installed. "
            f"Install it with: pip install 'livery[{extra}]'"
        ) from None
