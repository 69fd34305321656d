"""A tokenizer folder's chat template, rendered as transformers renders it, without transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError, sentence
from livery.reading import read_object, read_text

Message = Mapping[str, str]
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Tokenizer:
    """What of a folder's tokenizer a chat format needs.

    Attributes:
        template: the chat template, Jinja; "" if there is none.
        tokens: "bos_token", "eos_token" … -> its text, where it has one.
        specials: texts of all special tokens.
        adds_bos: it puts BOS before any text, and so does llama.cpp.
    """

    folder: Path
    template: str
    tokens: Mapping[str, str]
    specials: tuple[str, ...]
    adds_bos: bool


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """Read a folder's tokenizer files; None if it has none.

    Raises:
        UserError: one of them is not JSON.
    """
    settings = _object(folder / "tokenizer_config.json")
    fast = _object(folder / "tokenizer.json")
    if not settings and not fast:
        return None
    named = {**_object(folder / "special_tokens_map.json"), **settings}
    tokens = {name: _text(named.get(name)) for name in _TOKENS}
    added = list(fast.get("added_tokens") or ())
    added += list((settings.get("added_tokens_decoder") or {}).values())
    specials = {_text(token) for token in added if token.get("special")}
    specials |= {token for token in tokens.values() if token}
    return Tokenizer(
        folder,
        template_of(folder, settings),
        {name: token for name, token in tokens.items() if token},
        tuple(sorted(specials - {""})),
        adds_bos(fast, settings),
    )


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _text(token: Any) -> str:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def template_of(folder: Path, settings: Mapping[str, Any]) -> str:
    """The chat template of a tokenizer folder; `settings` is its tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def adds_bos(fast: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether BOS goes before any text; `fast` is tokenizer.json, {} where there is none."""
    steps = fast.get("post_processor") or {}
    for step in steps.get("processors") or [steps]:
        if step.get("type") == "TemplateProcessing":
            return bool(step.get("single")) and "SpecialToken" in step["single"][0]
    return False if fast else bool(settings.get("add_bos_token", True))


class Refused(Exception):
    """The template did not take the conversation."""


def renderer(tokenizer: Tokenizer) -> Callable[[Sequence[Message], bool], str]:
    """A function (messages, whether an answer is wanted) -> text, as transformers renders it.

    The function raises Refused where the template refuses the messages, and UserError where it
    loops on or writes without end.

    Raises:
        UserError: the template is no Jinja.
    """
    import jinja2

    from livery.dataset import bounds, sandbox

    try:
        template = sandbox.Template(tokenizer.template)
    except bounds.Refused as error:
        raise unknown(tokenizer, str(error)) from None

    def render(messages: Sequence[Message], prompt: bool) -> str:
        variables = {
            "messages": [dict(m) for m in messages],
            "add_generation_prompt": prompt,
            "tools": None,  # as transformers gives them: none, not undefined
            "documents": None,
            # Ollama's template cannot ask for it either: a template that has a date of its own
            # takes that one, and one that has none is refused.
            "strftime_now": jinja2.Undefined(name="strftime_now"),
            **tokenizer.tokens,
        }
        try:
            return template.render(variables)
        except bounds.OutOfBounds as error:  # no other conversation is tried
            raise unknown(tokenizer, str(error)) from None
        except bounds.Refused as error:
            raise Refused(str(error)) from None

    return render


def unknown(tokenizer: Tokenizer, why: str) -> UserError:
    """The error for a template that has no form in Ollama."""
    return UserError(
        f"{tokenizer.folder}: its chat template has no equivalent in Ollama that Livery can prove: "
        f"{sentence(why)} Write one in Go's template language and give it with --template FILE."
    )
