"""Which tokens end an answer, and whose tokenizer to use: the same for every local engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livery.dataset.template import ChatTemplate
from livery.reading import read_object


def end_tokens(chat: ChatTemplate, config: dict[str, Any], model: Path) -> tuple[int, ...]:
    """Ids that end an answer: the template's end of turn first, then whatever else the tokenizer,
    config.json and generation_config.json call an end."""
    found: list[int] = [chat.end]
    generation = model / "generation_config.json"
    more = read_object(generation) if generation.is_file() else {}
    for ids in (chat.tokenizer.eos_token_id, config.get("eos_token_id"), more.get("eos_token_id")):
        for token in ids if isinstance(ids, list) else [ids]:
            if isinstance(token, int) and token not in found:
                found.append(token)
    return tuple(found)


def own_tokenizer(adapter: str | None) -> Path | None:
    """The adapter's folder where it brings its own tokenizer and template, else None."""
    if adapter is None:
        return None
    folder = Path(adapter).expanduser()
    brings = (folder / "tokenizer_config.json").is_file() and (
        (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file()
    )
    return folder if brings else None
