"""A model's tokenizer and chat template, and what the template makes of turns.

    chat = load_chat("base_model", TemplateSettings(kwargs={"enable_thinking": False}))
    text = chat.render(messages, generate=True)

One `ChatTemplate` serves training and every engine, so that a model is prompted as it was trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from livery.config.settings import TemplateSettings
from livery.dataset.bounds import Refused
from livery.dataset.conversation import Message, as_parts, system_in_user, with_json_text
from livery.dataset.reasoning import BLOCKS, EMPTY_BLOCK, OPEN_BLOCK, closing, split_reasoning
from livery.dataset.sandbox import Template, compiled, read_date
from livery.dataset.tokenizer import load_tokenizer, token_ids
from livery.errors import UserError, quoted, sentence
from livery.models import find_base, text_config
from livery.reading import read_object

_ASKS, _ANSWERS, _SYSTEM = "LIVERYASKS", "LIVERYANSWERS", "LIVERYSYSTEM"
_REASONS = "LIVERYREASONS"


class ChatTemplate:
    """A tokenizer with its chat template. Plain data but for the tokenizer.

    Attributes:
        tokenizer: of transformers.
        settings: how it renders.
        vocabulary: tokens that the model has embeddings for; None where that is not known.
    """

    def __init__(
        self,
        tokenizer: Any,
        settings: TemplateSettings | None = None,
        vocabulary: int | None = None,
    ) -> None:
        """Raises UserError where a template is no Jinja, or the date no date."""
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer
        self.settings = settings or TemplateSettings()
        self._date = read_date(self.settings.date)
        self._templates: dict[str, Template] = {}
        own: Any = tokenizer.chat_template
        named: dict[str, str] = own if isinstance(own, dict) else {"default": own} if own else {}
        for name, source in named.items():
            try:
                self._templates[name] = compiled(source)
            except Refused as error:
                raise UserError(
                    sentence(f"The chat template {quoted(name)} cannot be used: {error}")
                ) from None
        self._specials: dict[str, str] = {
            name: str(token)
            for name, token in tokenizer.special_tokens_map.items()
            if isinstance(token, str)
        }

    def __bool__(self) -> bool:
        """Whether there is a template."""
        return bool(self._templates)

    @property
    def reads_date(self) -> bool:
        """Whether a template could write today's date, under some settings or for some row."""
        return any(template.asks_date for template in self._templates.values())

    @property
    def asks_date(self) -> bool:
        """Whether a template writes today's date, under these settings."""
        if not self.reads_date:
            return False
        texts: set[str] = set()
        for date in ("2001-02-03", "2014-11-25"):
            other = ChatTemplate(self.tokenizer, dataclasses.replace(self.settings, date=date))
            try:
                texts.add(other.render(_probe(_ASKS), generate=True))
            except Refused:
                return True
        return len(texts) > 1

    def unread(self, kwargs: Mapping[str, Any] | None = None) -> list[str]:
        """Variables, of the settings and of a row, that change nothing: no template here reads
        them, and they do not close a block of reasoning that a prompt opens."""
        read = {name for template in self._templates.values() for name in template.variables}
        if self.reasons:
            read.add("enable_thinking")
        return sorted({**self.settings.kwargs, **(kwargs or {})}.keys() - read)

    def render(
        self,
        messages: Sequence[Message],
        *,
        generate: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The turns as the model reads them.

        Args:
            generate: end with what opens an answer.
            tools: JSON Schemas.
            kwargs: variables beside those of the settings, and before them.

        Raises:
            Refused: the template does not take this conversation.
        """
        values = {**self.settings.kwargs, **(kwargs or {})}
        text = self._render(self._adapted(messages), tools, values, generate)
        if generate and values.get("enable_thinking") is False and (
            found := OPEN_BLOCK.search(text)
        ):  # fmt: skip
            # Templates that always open a block of reasoning know no such switch: close it for
            # them.
            text += closing(text, found[1])
        return text

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of the turns and of what opens the answer, for an engine.

        Raises:
            UserError: there is no template, it does not take this conversation, or it says nothing
                of the tools.
        """
        self.require("prompt")
        try:
            text = self.render(messages, generate=True, tools=tools, kwargs=kwargs)
            unheard = bool(tools) and text == self.render(messages, generate=True, kwargs=kwargs)
        except Refused as error:
            raise UserError(
                sentence(f"The chat template refuses this conversation: {error}")
            ) from None
        if unheard:
            raise UserError(
                "The chat template does not offer tools to the model: with them it writes the same "
                "prompt as without. Take a model whose template does, or give one with "
                "--chat-template."
            )
        tokens = self.ids(text)
        self.check_vocabulary(max(tokens, default=0), "prompt")
        return tokens

    def check_vocabulary(self, token: int, where: str) -> None:
        """Raises UserError where the model has no embedding for `token`, the largest of a text."""
        if self.vocabulary is not None and token >= self.vocabulary:
            raise UserError(
                f"{where}: holds the token {self.tokenizer.convert_ids_to_tokens(token)!r}, number "
                f"{token} of the tokenizer, but the model has embeddings for {self.vocabulary:,} "
                "tokens alone. Take the tokenizer that the model was trained with; or give the "
                "model more embeddings before (in transformers: resize_token_embeddings, then "
                "save_pretrained)."
            )

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return token_ids(self.tokenizer, text)

    def require(self, where: str) -> None:
        """Raises UserError where there is no template."""
        if not self:
            raise UserError(
                f"{where}: this model's tokenizer has no chat template. "
                "Add --chat-template chatml, or --chat-template FILE with one of your own."
            )

    @cached_property
    def end(self) -> int:
        """The token that ends an assistant's turn; without a template the end of the text.

        Raises:
            UserError: the template ends a turn with plain text.
        """
        if not self:
            return int(self.tokenizer.eos_token_id)
        try:
            text = self.render(_probe(_ASKS, _ANSWERS), generate=False)
        except Refused as error:
            raise UserError(sentence(f"The chat template cannot be used: {error}")) from None
        _, found, tail = text.rpartition(_ANSWERS)
        if not found:
            raise UserError(
                "The chat template writes nothing of an assistant's turn, so there would be "
                "nothing to learn. Give another template with --chat-template."
            )
        behind = self.ids(tail)
        ends = [at for at, token in enumerate(behind) if self._is_control(token)]
        if not ends or self.tokenizer.decode(behind[: ends[0]]).strip():
            raise UserError(
                "The chat template ends an assistant's turn without an end-of-turn token, so a "
                "model trained on it would never learn to stop. Give another template with "
                "--chat-template."
            )
        # Some templates write more than one token there, and some another one behind the very
        # last turn (Phi-3): what ends a turn is the last of those that are also before a next
        # turn. Where the last turn ends differently from others (gpt-oss), it is that turn's first.
        shared = 0
        for token, other in zip(behind, self._before_next_turn(), strict=False):
            if token != other:
                break
            shared += 1
        return behind[max((at for at in ends if at < shared), default=ends[0])]

    def _is_control(self, token: int) -> bool:
        added = self.tokenizer.added_tokens_decoder.get(token)
        return added is not None and bool(str(added.content).strip())

    def _before_next_turn(self) -> list[int]:
        """Tokens behind an answer that another turn follows; empty where the template refuses."""
        try:
            text = self.render(_probe(_ASKS, _ANSWERS, _ASKS), generate=False)
        except Refused:
            return []
        return self.ids(text.partition(_ANSWERS)[2])

    @cached_property
    def end_text(self) -> str:
        """`end` as the template writes it."""
        return str(self.tokenizer.convert_ids_to_tokens(self.end))

    @cached_property
    def anchors(self) -> tuple[str, ...]:
        """Added tokens that this template writes: text is split there before it is tokenized."""
        try:
            text = self.render(_probe(_ASKS, _ANSWERS, _ASKS), generate=True)
        except Refused:
            return ()
        added = {str(token.content) for token in self.tokenizer.added_tokens_decoder.values()}
        return tuple(sorted(token for token in added if token.strip() and token in text))

    @cached_property
    def merges_system(self) -> bool:
        """The template knows no system role (it refuses it, or leaves its text out): the text then
        opens the first user turn, in training and in every engine alike."""
        user = _probe(_ASKS)
        system: list[Message] = [{"role": "system", "content": _SYSTEM}]
        if self.wants_parts:
            user, system = (
                [{**m, "content": as_parts(m["content"])} for m in turns]
                for turns in (user, system)
            )
        if (text := self._tried([*system, *user], generate=True)) is not None:
            return _SYSTEM not in text
        return self._tried(user, generate=True) is not None

    def _tried(self, messages: Sequence[Message], *, generate: bool = False) -> str | None:
        """What the template makes of turns as they are; None where it does not take them."""
        try:
            return self._render(messages, (), self.settings.kwargs, generate)
        except Refused:
            return None

    @cached_property
    def wants_parts(self) -> bool:
        """The template takes content only as a list of parts, as those of models with images do."""
        outcomes: list[bool] = []
        for wrap in (lambda text: text, as_parts):  # pyright: ignore[reportUnknownLambdaType]
            turns = [{**m, "content": wrap(m["content"])} for m in _probe(_ASKS, _ANSWERS)]
            text = self._tried(turns) or ""
            outcomes.append(_ASKS in text and _ANSWERS in text)
        return outcomes == [False, True]

    @cached_property
    def wants_json_text(self) -> bool:
        """The template writes a tool call's arguments as they are, so they must be JSON already."""
        call = {"type": "function", "id": "livery000", "function": {"name": "f"}}
        outcomes: list[bool] = []
        for arguments in ({"a": 1}, '{"a": 1}'):
            made = {**call, "function": {"name": "f", "arguments": arguments}}
            turn = {"role": "assistant", "content": "", "tool_calls": [made]}
            outcomes.append(self._tried([*_probe(_ASKS), turn]) is not None)
        return outcomes == [False, True]

    @cached_property
    def opens_empty_block(self) -> bool:
        """A plain answer begins by closing a block of reasoning (an empty one)."""
        try:
            prompt = self.render(_probe(_ASKS), generate=True)
            turn = self.render(_probe(_ASKS, _ANSWERS), generate=False)
        except Refused:
            return False
        if EMPTY_BLOCK.search(prompt):
            return False
        if OPEN_BLOCK.search(prompt):
            return True
        if not turn.startswith(prompt):
            return False
        return EMPTY_BLOCK.search(turn[len(prompt) :].partition(_ANSWERS)[0]) is not None

    @cached_property
    def wants_reasoning_apart(self) -> bool:
        """The template writes a block of reasoning from a field of its own, and before a text that
        brings one, an empty block of its own: two blocks, where reasoning was meant to be one."""
        inline = f"<think>\n{_REASONS}\n</think>\n\n{_ANSWERS}"
        apart = {"role": "assistant", "content": _ANSWERS, "reasoning_content": _REASONS}
        texts = [
            self._tried([*_probe(_ASKS), turn])
            for turn in ({"role": "assistant", "content": inline}, apart)
        ]
        inner, outer = ((text or "").partition(_ASKS)[2] for text in texts)
        return inner.count("<think>") == 2 and outer.count("<think>") == 1 and _REASONS in outer

    @cached_property
    def reasons(self) -> bool:
        """The template is one of a model that reasons: it speaks of a block of reasoning."""
        blocks = [word for pair in BLOCKS for word in pair]
        return any(word in t.source for t in self._templates.values() for word in blocks)

    @cached_property
    def plain_kwargs(self) -> dict[str, Any]:
        """Variables with which a prompt ends where a plain answer's words begin: behind the empty
        block of reasoning, for templates that put one before a plain answer."""
        off = {"enable_thinking": False}
        if not self.opens_empty_block or "enable_thinking" in self.settings.kwargs:
            return {}
        closed = EMPTY_BLOCK.search(self.render(_probe(_ASKS), generate=True, kwargs=off))
        return off if closed else {}

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        kwargs: Mapping[str, Any],
        generate: bool,
    ) -> str:
        if not messages:
            raise Refused("there is no turn before the answer")
        names = ("tool_use", "default") if tools else ("default",)
        name = next((name for name in names if name in self._templates), None)
        if name is None:
            raise Refused("there is no chat template")
        chosen = self._templates[name]
        return chosen.render(
            {
                **self._specials,
                **kwargs,
                "messages": messages,
                "tools": list(tools) or None,
                "documents": kwargs.get("documents"),
                "add_generation_prompt": generate,
            },
            self._date,
        )

    def _adapted(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as transformers hands them to a template, and as this one takes them."""
        made: list[Message] = []
        for message in messages:
            message = {key: value for key, value in message.items() if value is not None}
            if message["role"] == "assistant" and "</think>" in message["content"]:
                message = self._reasoning_apart(message)
            if (reasoning := message.get("reasoning_content")) is not None:
                message.setdefault("thinking", reasoning)  # the name in gpt-oss's template
            if message.get("tool_calls") and self.wants_json_text:
                message["tool_calls"] = [with_json_text(call) for call in message["tool_calls"]]
            made.append(message)
        if made and made[0]["role"] == "system" and self.merges_system:
            made = system_in_user(made)
        if self.wants_parts:
            made = [{**message, "content": as_parts(message["content"])} for message in made]
        return made

    def _reasoning_apart(self, message: Message) -> Message:
        if message.get("reasoning_content") or not self.wants_reasoning_apart:
            return message
        reasoning, rest = split_reasoning(message)
        return {**message, "reasoning_content": reasoning.strip(), "content": rest.lstrip("\n")}


def load_chat(model: str | Path, settings: TemplateSettings | None = None) -> ChatTemplate:
    """The model's tokenizer with its chat template.

    Raises:
        UserError: as `load_tokenizer`, or a template that is no Jinja.
    """
    settings = settings or TemplateSettings()
    folder = find_base(model)
    config = read_object(folder / "config.json") if folder else {}
    size = text_config(config).get("vocab_size")
    vocabulary = size if isinstance(size, int) and not isinstance(size, bool) else None
    return ChatTemplate(load_tokenizer(model, settings.template), settings, vocabulary)


def _probe(*texts: str) -> list[Message]:
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
