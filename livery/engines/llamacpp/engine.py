"""The llama.cpp engine: base and adapter as GGUF, the adapter attached at run time.

    engine = open_engine("llamacpp", "base.gguf", "adapters/date-keys")
    prompts = [engine.prompt([{"role": "user", "content": "wake me at seven am"}])]
    [answer] = engine.generate(prompts, Decoding(max_tokens=32))

What runs is what would be shipped: `gguf/adapter.gguf` of an adapter folder on a GGUF base, in
llama.cpp (xllamacpp), which lives in a process of its own because bad files abort it. Tokens come
from the base's Hugging Face tokenizer, so every engine is asked the same. Prompts are answered one
by one in an order in which each finds the keys and values of what it shares with the one before.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livery.config.settings import TemplateSettings
from livery.dataset.template import load_chat
from livery.engines.answers import OnToken, Pieces, grammars_of
from livery.engines.constrain import TokenMasks
from livery.engines.engine import (
    GGUF_TYPE,
    Conversation,
    Decoding,
    Facts,
    Generation,
    OnText,
    Progress,
    Prompt,
    Tools,
)
from livery.engines.llamacpp import files
from livery.engines.llamacpp.decode import decode
from livery.engines.llamacpp.files import ToGguf
from livery.engines.llamacpp.process import LlamaProcess
from livery.engines.text import end_tokens, own_tokenizer
from livery.errors import UserError
from livery.models import resolve_name

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
) -> LlamaCppEngine:
    """Load `model` into llama.cpp, and `adapter` onto it.

    Args:
        model: a GGUF file; or a model folder or hub id, converted to `gguf_type` and kept in the
            cache.
        adapter: a GGUF file, or a folder: its gguf/adapter.gguf, or else converted.
        tokenizer: the folder of the Hugging Face tokenizer; by default the adapter's own, else the
            model's. A GGUF base without either needs it.
        template: the chat template, and how it renders; None takes the tokenizer's.
        to_gguf: how to convert; None takes GGUF files alone.

    Raises:
        UserError: whatever is wrong with model, tokenizer or adapter.
    """
    return LlamaCppEngine(model, adapter, gguf_type, tokenizer, template, to_gguf)


class LlamaCppEngine:
    """See `livery.engines.engine.Engine`."""

    def __init__(
        self,
        model: str,
        adapter: str | None,
        gguf_type: str,
        tokenizer: str | None,
        template: TemplateSettings | None,
        to_gguf: ToGguf | None,
    ):
        folder = None if to_gguf is None or files.is_file(model) else to_gguf.find(model)
        self._scratch = files.scratch()
        self._adapter: Path | None = None
        if adapter:  # before the base: it is small, and may be what is wrong
            made_in = self._scratch.path
            self._adapter, _ = files.adapter_file(adapter, folder, to_gguf, made_in)
        self._model = files.model_file(model, gguf_type, to_gguf)
        given = resolve_name(tokenizer) if tokenizer else None
        source = given or _own_tokenizer(adapter) or folder
        if source is None:
            raise UserError(
                f"{model}: which tokenizer and chat template belong to it? Give --tokenizer the "
                "folder of the base model (or an adapter folder that brings its own)."
            )
        self._chat = load_chat(source, template)
        self.tokenizer = self._chat.tokenizer
        files.check_vocabulary(self._model, self.tokenizer, str(source))
        base = folder or Path(source)
        self._stop = end_tokens(self._chat, files.model_config(base), base)
        self._names = (model, adapter)
        self._on = self._adapter is not None
        self._process = LlamaProcess(self._model, self._adapter, context=CONTEXT)
        self._masks: TokenMasks | None = None

    @property
    def has_adapter(self) -> bool:
        return self._adapter is not None

    def use_adapter(self, on: bool) -> None:
        """See Engine."""
        if on and self._adapter is None:
            raise UserError("There is no adapter to switch on; open the engine with one.")
        self._on = on

    def prompt(self, messages: Conversation, tools: Tools = ()) -> Prompt:
        """See Engine."""
        return Prompt(tuple(messages), tuple(self._chat.prompt(messages, tools)), tuple(tools))

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, progress: Progress | None = None
    ) -> list[Generation]:
        """See Engine; batch_size changes nothing here."""
        found: dict[int, Generation] = {}
        for row in sorted(range(len(prompts)), key=lambda row: prompts[row].tokens):
            found[row] = self._answer(prompts[row], row, decoding)
            if progress is not None:
                progress(len(found), len(prompts))
        return [found[row] for row in range(len(prompts))]

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """See Engine."""
        pieces = Pieces(self._text, on_text)
        result = self._answer(prompt, 0, decoding, pieces)
        pieces.show(result.text)
        return result

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """See Engine; the end-of-turn token is the last of each answer."""
        found: list[np.ndarray] = []
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
            ids = [*ids, self._stop[0]]
            llama = self._room_for(len(prompt.tokens) + len(ids))
            scores = [
                llama.next(
                    [*prompt.tokens, *ids[:at]], top=1, scale=float(self._on), as_if=token
                ).logprob
                for at, token in enumerate(ids)
            ]
            found.append(np.array(scores, np.float32))
        return found

    def facts(self) -> Facts:
        """See Engine."""
        return Facts(
            engine="llamacpp",
            version=f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
            model=str(self._names[0]),
            adapter=self._names[1] if self._on else None,
            device=self._process.device,
            dtype=files.file_type(self._model),
            peak_memory=self._process.peak_memory(),
        )

    def close(self) -> None:
        """End the process; the engine is of no use afterwards."""
        self._process.close()
        self._scratch.cleanup()

    def _answer(
        self, prompt: Prompt, row: int, decoding: Decoding, on_token: OnToken | None = None
    ) -> Generation:
        began = time.monotonic()
        [grammar] = grammars_of([prompt], decoding)
        answer = decode(
            self._room_for(len(prompt.tokens) + decoding.max_tokens),
            prompt.tokens,
            decoding,
            scale=float(self._on),
            row=row,
            stop=self._stop,
            grammar=grammar,
            masks=self._grammar_masks() if grammar else None,
            on_token=on_token,
        )
        return Generation(
            tokens=tuple(answer.tokens),
            text=self._text(answer.tokens),
            finished=answer.finished,
            seconds=time.monotonic() - began,
            count=len(answer.tokens) + answer.finished,
        )

    def _room_for(self, tokens: int) -> LlamaProcess:
        """The process, begun anew where its context is too short.

        Raises:
            UserError: it is more than the model was made for.
        """
        most = self._process.trained_context
        if tokens > most:
            raise UserError(
                f"{self._model}: prompt and answer take up to {tokens} tokens, the model was made "
                f"for {most}. Shorten the prompt, or lower --max-tokens."
            )
        if tokens > self._process.context:
            self._process.close()
            context = min(most, 2 ** (tokens - 1).bit_length())
            self._process = LlamaProcess(self._model, self._adapter, context=context)
        return self._process

    def _grammar_masks(self) -> TokenMasks:
        if self._masks is None:
            self._masks = TokenMasks(self.tokenizer, self._process.vocabulary, self._stop)
        return self._masks

    def _text(self, tokens: Sequence[int]) -> str:
        # Special tokens stay visible: an answer that contains one is not a clean answer.
        return self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)


def _own_tokenizer(adapter: str | None) -> Path | None:
    """The adapter folder's own tokenizer; of a GGUF file the folder it lies in, or the one above
    (adapters/NAME/gguf/adapter.gguf)."""
    if adapter is None:
        return None
    path = Path(adapter).expanduser()
    places = [path] if path.is_dir() else [path.parent, path.parent.parent]
    return next((own for place in places if (own := own_tokenizer(str(place)))), None)
