"""A model's tokenizer and chat template, and what the template makes of turns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from livery.dataset.conversation import Message
from livery.errors import UserError
from livery.reading import read_text

# Offered where a tokenizer brings no template of its own (`--chat-template chatml`).
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def load_tokenizer(model: str | Path, chat_template: str | None = None) -> Any:
    """The model's tokenizer, with a chat template.

    Args:
        model: folder or hub id.
        chat_template: "chatml", or a file that holds a Jinja template; None keeps the model's own.

    Raises:
        UserError: there is no tokenizer, or it has no template and none was given.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model))
    except Exception as error:  # transformers raises a dozen types here, for as many causes
        raise UserError(
            f"{model}: its tokenizer could not be loaded: {str(error).splitlines()[0]}. "
            "Give a folder that holds tokenizer.json, or a model id that this machine can reach."
        ) from error
    if chat_template == "chatml":
        tokenizer.chat_template = CHATML
        missing = [t for t in ("<|im_start|>", "<|im_end|>") if len(token_ids(tokenizer, t)) != 1]
        if missing:
            raise UserError(
                f"{model}: --chat-template chatml needs {' and '.join(missing)} as a token of the "
                "vocabulary. Give a template of your own made of tokens that it has."
            )
    elif chat_template is not None:
        path = Path(chat_template)
        if not path.is_file():
            raise UserError(f"{chat_template}: no such template file (or say chatml).")
        tokenizer.chat_template = read_text(path)
    return tokenizer


def prompt_tokens(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Token ids of the turns and of what opens the answer."""
    require_template(tokenizer, "prompt")
    return token_ids(tokenizer, render(messages, tokenizer, generate=True))


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an assistant's turn under the tokenizer's template.

    Raises:
        UserError: the template ends a turn with plain text.
    """
    return _end_of_turn(tokenizer, tokenizer.chat_template or "")


@lru_cache(maxsize=8)
def _end_of_turn(tokenizer: Any, template: str) -> int:
    if not template:
        return int(tokenizer.eos_token_id)
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = token_ids(tokenizer, render(probe, tokenizer, generate=False))
    special = {int(i) for i in tokenizer.all_special_ids}
    special |= {int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    # White space may follow the token that ends the turn; nothing else may.
    for token in reversed(ids):
        if token in special:
            return token
        if tokenizer.decode([token]).strip():
            break
    raise UserError(
        "The chat template ends an assistant's turn without an end-of-turn token, so a model "
        "trained on it would never learn to stop. Give another template with --chat-template."
    )


def require_template(tokenizer: Any, where: str) -> None:
    if not tokenizer.chat_template:
        raise UserError(
            f"{where}: this model's tokenizer has no chat template. "
            "Add --chat-template chatml, or --chat-template FILE with one of your own."
        )


def render(messages: Sequence[Message], tokenizer: Any, *, generate: bool) -> str:
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generate
        )
    except Exception as error:  # a template raises what it likes
        if "system" in str(error).lower() and messages[0]["role"] == "system":
            return tokenizer.apply_chat_template(
                _system_in_user(messages), tokenize=False, add_generation_prompt=generate
            )
        raise UserError(f"The chat template refuses this conversation: {error}") from error


def _system_in_user(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role (gemma): its text opens the first user turn."""
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
