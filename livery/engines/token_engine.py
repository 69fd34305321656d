"""The engine over tokens: conversations in, answers out, on any runtime that decodes here.

    engine = open_engine("torch", "base_model", "adapters/date-keys")
    prompts = [engine.prompt([{"role": "user", "content": "wake me at seven am"}])]
    [answer] = engine.generate(prompts, Decoding(max_tokens=32))

What all prompts begin with runs once for the whole call, what a batch shares beyond it once a
batch; prompts of like length are decoded together, and answers that have ended leave their batch.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from livery.config.settings import TemplateSettings
from livery.dataset.template import ChatTemplate, load_chat
from livery.engines.answers import Answer, Sampler, common_prefix
from livery.engines.constrain import TokenMasks
from livery.engines.engine import (
    Conversation,
    Decoding,
    Enough,
    Facts,
    Generation,
    OnText,
    Prompt,
    Tools,
)
from livery.engines.folders import end_tokens, own_tokenizer
from livery.errors import UserError
from livery.progress import OnProgress


class Runtime(Protocol):
    """A base in one framework, with at most one adapter on it: what differs between engines."""

    @property
    def one_by_one(self) -> bool:
        """Prompts are best answered singly, each behind the one that it shares most with."""
        ...

    def use_adapter(self, on: bool) -> None:
        """Switch the adapter; asked only where there is one."""
        ...

    def check_room(self, prompt: int, answer: int) -> None:
        """Raises UserError where a prompt and an answer of so many tokens are too long."""
        ...

    def run_prefix(self, tokens: Sequence[int]) -> Any:
        """Run what many prompts begin with: for `decode` and `score`; None where it cannot."""
        ...

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        stop: Sequence[int],
        prefix: Any,
    ) -> list[Answer]:
        """Answer a batch of prompts, as its sampler says."""
        ...

    def write(
        self, prompt: Sequence[int], sampler: Sampler, stop: Sequence[int]
    ) -> Generator[int, None, Answer]:
        """Answer one prompt, handing on each token but the end token as it is chosen.

        Between two tokens the adapter may be switched and another prompt be answered, where the
        adapter is as it was whenever this one goes on.
        """
        ...

    def score(self, prompt: Sequence[int], answer: Sequence[int], prefix: Any) -> np.ndarray:
        """(T,) float32: natural log-probability of each token of the answer."""
        ...

    def facts(self, model: str, adapter: str | None) -> Facts:
        """What answered; `adapter` where it is on."""
        ...


def on_base(
    runtime: Runtime,
    config: Mapping[str, Any],
    model: str,
    adapter: str | None,
    template: TemplateSettings | None = None,
) -> TokenEngine:
    """An engine on a base that is loaded, in either framework.

    The engines of a base share its modules: of their adapters one at most may be on, and none while
    another is opened.

    Args:
        config: the base's, as its framework reads it.
        template: the chat template, and how it renders; None takes the tokenizer's.

    Raises:
        UserError: whatever is wrong with the tokenizer.
    """
    chat = load_chat(own_tokenizer(adapter) or model, template)
    return TokenEngine(runtime, chat, end_tokens(chat, config, model), model, adapter)


class TokenEngine:
    """See `livery.engines.engine.Engine`.

    Attributes:
        runtime: what computes.
        chat: how it is prompted.
        tokenizer: of the adapter where it brings its own, else of the base.
    """

    def __init__(
        self,
        runtime: Runtime,
        chat: ChatTemplate,
        stop: Sequence[int],
        model: str,
        adapter: str | None,
    ):
        """Args:
        stop: tokens that end an answer; the first one ends a scored one.
        model, adapter: their names, for reports.
        """
        self.runtime, self.tokenizer = runtime, chat.tokenizer
        self.chat, self._stop = chat, tuple(stop)
        self._model, self._adapter, self._on = model, adapter, adapter is not None
        self._masks: TokenMasks | None = None

    @property
    def has_adapter(self) -> bool:
        return self._adapter is not None

    def use_adapter(self, on: bool) -> None:
        """See Engine."""
        if self._adapter is not None:
            self.runtime.use_adapter(on)
        elif on:
            raise UserError("There is no adapter to switch on; open the engine with one.")
        self._on = on

    def prompt(
        self,
        messages: Conversation,
        tools: Tools = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """See Engine; `kwargs` are variables of the template, before those it was opened with."""
        tokens = self.chat.prompt(messages, tools, kwargs)
        return Prompt(tuple(messages), tuple(tokens), tuple(tools))

    def text_prompt(self) -> Prompt:
        """See Engine: the token that a text begins with, else the one it ends with."""
        first = self.tokenizer.bos_token_id
        return Prompt((), (self._stop[0] if first is None else int(first),))

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, progress: OnProgress | None = None
    ) -> list[Generation]:
        """See Engine."""
        tokens = [prompt.tokens for prompt in prompts]
        self.runtime.check_room(max(map(len, tokens), default=0), decoding.max_tokens)
        if self.runtime.one_by_one:
            size, order = 1, sorted(range(len(tokens)), key=lambda row: tokens[row])
        else:
            size = decoding.batch_size
            order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        prefix = self._run_prefix(tokens) if len(tokens) > size else None
        found: dict[int, Generation] = {}
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            found.update(self._answer(prompts, rows, decoding, prefix))
            if progress is not None:
                progress(len(found), len(tokens))
        return [found[row] for row in range(len(tokens))]

    def stream(self, prompt: Prompt, decoding: Decoding, on_text: OnText) -> Generation:
        """See Engine."""
        running = self.pieces(prompt, decoding)
        while True:
            try:
                if piece := next(running):
                    on_text(piece)
            except StopIteration as ended:
                return ended.value
            except Enough:
                return cut_off(running)

    def pieces(self, prompt: Prompt, decoding: Decoding) -> Generator[str, None, Generation]:
        """`stream` in turns: the text that each token adds, "" where it adds none yet.

        See `Runtime.write` for what may happen between two of them. `Enough` thrown in ends the
        answer there, unfinished.
        """
        self.runtime.check_room(len(prompt.tokens), decoding.max_tokens)
        began, shown = time.monotonic(), 0
        sampler = self._sampler([prompt], [0], decoding)
        running = self.runtime.write(prompt.tokens, sampler, self._stop)
        tokens: list[int] = []
        try:
            while True:
                try:
                    tokens.append(next(running))
                except StopIteration as ended:
                    answer = sampler.generations([ended.value], self._text)[0]
                    break
                text = self._text(tokens)
                # A character whose bytes are not all here yet decodes to U+FFFD: hold it back.
                whole = len(text) if not text.endswith("\ufffd") else shown
                yield text[shown:whole]
                shown = max(shown, whole)
            if len(answer.text) > shown:
                yield answer.text[shown:]
        except Enough:
            text, seconds = self._text(tokens), time.monotonic() - began
            return Generation(tuple(tokens), text, False, seconds, len(tokens))
        return answer

    def logprobs(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[np.ndarray]:
        """See Engine; the end-of-turn token is the last of each answer."""
        tokens = [prompt.tokens for prompt in prompts]
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers]
        wanted = [(*answer, self._stop[0]) for answer in ids]
        for prompt, answer in zip(tokens, wanted, strict=True):
            self.runtime.check_room(len(prompt), len(answer))
        prefix = self._run_prefix(tokens)
        pairs = zip(tokens, wanted, strict=True)
        return [self.runtime.score(prompt, answer, prefix) for prompt, answer in pairs]

    def facts(self) -> Facts:
        """See Engine."""
        return self.runtime.facts(self._model, self._adapter if self._on else None)

    def _run_prefix(self, tokens: Sequence[Sequence[int]]) -> Any:
        shared = common_prefix(tokens)
        return self.runtime.run_prefix(tokens[0][:shared]) if shared else None

    def _answer(
        self,
        prompts: Sequence[Prompt],
        rows: Sequence[int],
        decoding: Decoding,
        prefix: Any,
    ) -> dict[int, Generation]:
        sampler = self._sampler(prompts, rows, decoding)
        tokens = [prompts[row].tokens for row in rows]
        answers = self.runtime.decode(tokens, sampler, self._stop, prefix)
        return sampler.generations(answers, self._text)

    def _sampler(
        self, prompts: Sequence[Prompt], rows: Sequence[int], decoding: Decoding
    ) -> Sampler:
        grammars = [prompts[row].grammar or decoding.grammar for row in rows]
        return Sampler(rows, decoding, grammars, self._grammar_masks)

    def _grammar_masks(self, width: int) -> TokenMasks:
        if self._masks is None or self._masks.width != width:
            self._masks = TokenMasks(self.tokenizer, width, self._stop)
        return self._masks

    def _text(self, tokens: Sequence[int]) -> str:
        # Special tokens stay visible: an answer that contains one is not a clean answer.
        return self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)


def cut_off(running: Generator[str, None, Generation]) -> Generation:
    """What `TokenEngine.pieces` has come to, ended by `Enough`."""
    try:
        running.throw(Enough())
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it went on")
