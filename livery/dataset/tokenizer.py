"""A model's tokenizer, with the chat template that it brings or that was asked for."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.models import check_files, local_name
from livery.reading import read_text

# Offered where a tokenizer brings no template of its own (`--chat-template chatml`).
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _check_reader(folder: Path) -> None:
    """Raises UserError where a vocabulary needs a package that is not installed: transformers would
    then take it for one of another kind, and name the package of that."""
    pieces = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file() or not pieces.is_file():
        return
    with pieces.open("rb") as file:
        # Its first byte is protobuf's first field; tiktoken's file is lines of text.
        sentencepiece = file.read(1) == b"\n"
    if sentencepiece and importlib.util.find_spec("sentencepiece") is None:
        raise UserError(
            f"{folder}: its tokenizer is a SentencePiece model (tokenizer.model) without a "
            "tokenizer.json, and the package sentencepiece that reads it is not installed. Install "
            f"it: {shlex.quote(sys.executable)} -m pip install sentencepiece"
        )


def load_tokenizer(model: str | Path, chat_template: str | None = None) -> Any:
    """The model's tokenizer, with a chat template.

    Args:
        model: folder or hub id.
        chat_template: "chatml", the name of one of the tokenizer's templates, or a file that holds
            a Jinja template; None keeps the model's own.

    Raises:
        UserError: there is no tokenizer, or no such template; or a pipe lies in the folder.
    """
    from transformers import AutoTokenizer

    folder = local_name(model)
    if Path(folder).is_dir():
        check_files(Path(folder))
        _check_reader(Path(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises a dozen types here, for as many causes
        raise UserError(
            f"{model}: its tokenizer could not be loaded: {str(error).splitlines()[0]}. "
            "Give a folder that holds tokenizer.json, or a model id that this machine can reach."
        ) from error
    own: Any = tokenizer.chat_template
    named: dict[str, str] = own if isinstance(own, dict) else {}
    if chat_template is None:
        if named and "default" not in named:
            raise UserError(
                f"{model}: brings the chat templates {', '.join(sorted(named))}, and none called "
                f"default. Choose one: --chat-template {min(named)}."
            )
    elif chat_template in named:
        tokenizer.chat_template = named[chat_template]
    elif chat_template == "chatml":
        tokenizer.chat_template = CHATML
        missing = [t for t in ("<|im_start|>", "<|im_end|>") if len(token_ids(tokenizer, t)) != 1]
        if missing:
            raise UserError(
                f"{model}: --chat-template chatml needs {' and '.join(missing)} as a token of the "
                "vocabulary. Give a template of your own made of tokens that it has."
            )
    elif not (chat_template == "default" and own):
        path = Path(chat_template)
        if not path.is_file():
            has = f", or one of the tokenizer's: {', '.join(sorted(named))}" if named else ""
            raise UserError(f"{chat_template}: no such template file (or say chatml{has}).")
        tokenizer.chat_template = read_text(path)
    return tokenizer


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
