"""The llama.cpp engine: base and adapter as GGUF, the adapter attached at run time.

What runs is what would be shipped: `gguf/adapter.gguf` of an adapter folder on a GGUF base, in
llama.cpp (xllamacpp), which lives in a process of its own because bad files abort it. Tokens come
from the base's Hugging Face tokenizer, so every engine is asked the same. Prompts are answered one
by one in an order in which each finds the keys and values of what it shares with the one before.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from livery.config.settings import TemplateSettings
from livery.dataset.template import load_chat
from livery.engines.answers import Answer, Sampler, drained
from livery.engines.engine import GGUF_TYPE, Facts, NoRoom
from livery.engines.folders import end_tokens, own_tokenizer
from livery.engines.llamacpp import files
from livery.engines.llamacpp.decode import AHEAD, SHOWN, write
from livery.engines.llamacpp.files import ToGguf
from livery.engines.llamacpp.process import LlamaProcess
from livery.engines.token_engine import TokenEngine
from livery.gguf_base.folder import tokenizer_folder
from livery.models import resolve_name
from livery.temporary import Scratch

PACKAGE = "xllamacpp"
CONTEXT = 2048  # tokens to begin with; a prompt that needs more gets more

if importlib.util.find_spec(PACKAGE) is None:
    raise ModuleNotFoundError(f"No module named '{PACKAGE}'", name=PACKAGE)


def open(
    model: str,
    adapter: str | None = None,
    *,
    gguf_type: str = GGUF_TYPE,
    tokenizer: str | None = None,
    template: TemplateSettings | None = None,
    to_gguf: ToGguf | None = None,
) -> TokenEngine:
    """Load `model` into llama.cpp, and `adapter` onto it.

    Args:
        model: a GGUF file; or a model folder or hub id, converted to `gguf_type` and kept in the
            cache.
        adapter: a GGUF file, or a folder: its gguf/adapter.gguf, or else converted.
        tokenizer: the folder of the Hugging Face tokenizer; by default the adapter's own, else the
            model's, which a GGUF file brings too.
        template: the chat template, and how it renders; None takes the tokenizer's.
        to_gguf: how to convert; None takes GGUF files alone.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    model = resolve_name(model)
    folder = None if to_gguf is None or files.is_file(model) else to_gguf.find(model)
    scratch = files.scratch()
    tuned: Path | None = None
    if adapter:  # before the base: it is small, and may be what is wrong
        tuned, _ = files.adapter_file(adapter, folder or Path(model), to_gguf, scratch.path)
    base = files.model_file(model, gguf_type, to_gguf)
    given = resolve_name(tokenizer) if tokenizer else None
    source = given or own_tokenizer(adapter) or folder or tokenizer_folder(base)
    chat = load_chat(source, template)
    files.check_vocabulary(base, chat.tokenizer, str(source))
    told = folder or Path(source)
    stop = end_tokens(chat, files.model_config(told), told)
    return TokenEngine(LlamaCppRuntime(base, tuned, scratch), chat, stop, model, adapter)


class LlamaCppRuntime:
    """See `livery.engines.token_engine.Runtime`.

    Attributes:
        model: the GGUF file of the base.
        adapter: the GGUF file of the adapter, or None.
        process: what llama.cpp runs in; restarted when a prompt needs a longer context.
    """

    one_by_one = True

    def __init__(self, model: Path, adapter: Path | None, scratch: Scratch, context: int = CONTEXT):
        """Args:
        scratch: the folder that an adapter made for this run is in; it goes with the runtime.
        """
        self.model, self.adapter, self._scratch = model, adapter, scratch
        self._scale = 1.0 if adapter else 0.0
        self.process = LlamaProcess(model, adapter, context=context)

    def use_adapter(self, on: bool) -> None:
        """See Runtime."""
        self._scale = float(on)

    def check_room(self, prompt: int, answer: int) -> None:
        """See Runtime; makes the room where there is too little."""
        tokens, most = prompt + answer, self.process.trained_context
        if tokens > most:
            raise NoRoom(
                f"{self.model}: prompt and answer take up to {tokens} tokens, the model was made "
                f"for {most}. Shorten the prompt, or lower --max-tokens."
            )
        if tokens > self.process.context:
            self.process.close()
            context = min(most, 2 ** (tokens - 1).bit_length())
            self.process = LlamaProcess(self.model, self.adapter, context=context)

    def run_prefix(self, tokens: Sequence[int]) -> None:
        """llama.cpp keeps what a prompt shares with the one before by itself."""

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        stop: Sequence[int],
        prefix: None,
    ) -> list[Answer]:
        """See Runtime."""
        return [
            drained(
                write(
                    self.process, prompt, sampler, place, scale=self._scale, stop=stop, ahead=AHEAD
                )
            )
            for place, prompt in enumerate(prompts)
        ]

    def write(
        self, prompt: Sequence[int], sampler: Sampler, stop: Sequence[int]
    ) -> Generator[int, None, Answer]:
        """See Runtime."""
        return (
            yield from write(
                self.process, prompt, sampler, 0, scale=self._scale, stop=stop, ahead=SHOWN
            )
        )

    def score(self, prompt: Sequence[int], answer: Sequence[int], prefix: None) -> np.ndarray:
        """See Runtime."""
        scores = [
            self.process.next(
                [*prompt, *answer[:at]], top=1, scale=self._scale, as_if=token
            ).logprob
            for at, token in enumerate(answer)
        ]
        return np.array(scores, np.float32)

    def facts(self, model: str, adapter: str | None) -> Facts:
        """See Runtime."""
        return Facts(
            engine="llamacpp",
            version=f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
            model=model,
            adapter=adapter,
            device=self.process.device,
            dtype=files.file_type(self.model),
            peak_memory=self.process.peak_memory(),
        )
