"""An adapter as Ollama takes it: a folder with the GGUF adapter and a Modelfile.

Modelfile: one instruction a line; a value of several lines is between triple quotes. Source:
Ollama's parser (parser/parser.go) and template package (template/template.go).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import archive
from convert.chat_template import Tokenizer, load_tokenizer
from convert.check.check import check
from convert.check.forms import open_gguf_base
from convert.pack import chat_turns
from convert.pack.pack import gather, gguf_member
from livery.errors import UserError
from livery.files import atomic_write
from livery.outputs import check_folder, new_folder
from livery.temporary import Scratch

COMMAND = "livery pack --ollama"  # whose mark the folder gets
MODELFILE, ADAPTER = "Modelfile", "adapter.gguf"


@dataclass(frozen=True)
class Chat:
    """What a Modelfile says of the conversation.

    Attributes:
        template: Go's text/template.
        stops: texts that end an answer.
        format: the format's usual name, for people.
    """

    template: str
    stops: tuple[str, ...]
    format: str
    notes: tuple[str, ...] = ()


def pack_ollama(
    adapter: str | Path,
    out: str | Path,
    start: str,
    *,
    base: str | Path | None = None,
    template: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder and say what is in it.

    Args:
        adapter: of any format.
        out: the new folder.
        start: Modelfile's FROM: a .gguf file of the base, or a model that Ollama has.
        base: the base model's folder, for the tokenizer and for what GGUF needs of it.
        template: a file with a Go template, instead of the tokenizer's own.

    Raises:
        UserError: the adapter has no GGUF form, Ollama would refuse it, its chat template has no
            known form there, or `out` exists.
    """
    out = Path(out)
    read = (adapter, base, start, template)
    check_folder(out, command=COMMAND, overwrite=overwrite, inputs=read)
    file = _base_file(start, Path(adapter))
    with Scratch("pack") as scratch:
        found = gather(Path(adapter), base, scratch)
        gguf = gguf_member(found)
        notes = [*found.notes, *_refusals(gguf, file, base or found.adapter.base_model)]
        names = [found.members.get(n) for n in ("tokenizer_config.json", "tokenizer.json")]
        place = next((path.parent for path in names if path is not None), None)
        chat = _chat(place, file, template)
        read = (*read, *found.members.values())
        with new_folder(out, command=COMMAND, overwrite=overwrite, inputs=read) as fresh:
            archive.copy_file(gguf, fresh / ADAPTER)
            with atomic_write(fresh / MODELFILE, "w") as written:
                written.write(modelfile(str(file) if file else start, chat))
    return {
        "path": str(out),
        "from": str(file) if file else start,
        "format": chat.format,
        "stops": list(chat.stops),
        "notes": [*notes, *chat.notes],
    }


def _base_file(start: str, adapter: Path) -> Path | None:
    """FROM's file, absolute; None where it names a model that Ollama has."""
    path = Path(start).expanduser()
    if path.is_file():
        open_gguf_base(path)
        return path.resolve()
    if path.suffix == ".gguf" or path.is_dir() or start.startswith((".", "/", "~")):
        made = (
            f"livery gguf --model {shlex.quote(start) if path.is_dir() else 'BASE'} --out base.gguf"
        )
        raise UserError(
            f"{start}: no GGUF file. Make one ({made}) and name it with --from, or name a model "
            "that Ollama has."
        )
    if not start or any(char.isspace() for char in start):
        raise UserError(f"--from {start!r}: neither a .gguf file nor the name of a model.")
    return None


def _refusals(gguf: Path, file: Path | None, base: str | Path) -> list[str]:
    """What is worth knowing of `livery check`. Raises UserError where Ollama refuses."""
    known: str | Path | None = file or (base if base and Path(base).exists() else None)
    (verdict,) = check(gguf, base=known, runtimes=["ollama"])
    for finding in verdict.findings:
        if finding.refused:
            raise UserError(f"{finding.rule}: {finding.why} {finding.remedy}")
    return [finding.why for finding in verdict.findings if finding.rule != "not-compared"]


def _chat(folder: Path | None, file: Path | None, template: Path | None) -> Chat:
    tokenizer = load_tokenizer(folder) if folder else None
    if template is not None:
        own = _read_template(template)
        ends = (
            [tokenizer.tokens["eos_token"]] if tokenizer and "eos_token" in tokenizer.tokens else []
        )
        return Chat(own, tuple(ends), f"that of {template}")
    if tokenizer is None:
        raise UserError(
            "There is no tokenizer, and so no chat template: neither with the adapter nor in a "
            "base on this machine. Give --base the base model's folder, or --template FILE."
        )
    turns = chat_turns.derive(tokenizer)
    notes: list[str] = []
    bos = tokenizer.tokens.get("bos_token", "")
    if _adds_bos(tokenizer, file):
        if bos and not turns.start.startswith(bos):
            notes.append(f"Ollama puts {bos} first, which the chat template does not.")
        turns = turns.without_bos(bos)
    if turns.system_refused:
        notes.append(
            "the chat template takes no system message; in Ollama it stands before the first "
            "user message."
        )
    if "strftime_now" in tokenizer.template:
        notes.append(
            "the chat template writes today's date; Ollama's has the template's fixed one."
        )
    ends = chat_turns.stops(tokenizer, turns)
    return Chat(turns.go_template(), tuple(ends), chat_turns.known_as(turns), tuple(notes))


def _read_template(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a template ({error}).") from None
    if "{{" not in text:
        raise UserError(f"{path}: not a Go template: there is no {{{{ … }}}} in it.")
    return text


def _adds_bos(tokenizer: Tokenizer, file: Path | None) -> bool:
    """Whether Ollama puts BOS first: as the GGUF says, else as the tokenizer does."""
    if file is not None:
        said = open_gguf_base(file).metadata.get("tokenizer.ggml.add_bos_token")
        if isinstance(said, bool):
            return said
    return tokenizer.adds_bos


def modelfile(start: str, chat: Chat) -> str:
    """The Modelfile's text.

    Raises:
        UserError: a value has no form in it.
    """
    text = chat.template
    if '"""' in text or text.startswith('"') or text.endswith('"'):
        raise UserError(
            "The chat template holds quotes where a Modelfile has none. Use --template."
        )
    hidden = next((c for c in text if not c.isprintable() and c not in "\n\t"), None)
    if hidden is not None:
        raise UserError(
            f"The chat template holds {hidden!r}, which Ollama drops from a Modelfile, so the "
            "prompt would be different. Write one: --template FILE."
        )
    lines = [f"FROM {start}", f"ADAPTER ./{ADAPTER}", f'TEMPLATE """{text}"""']
    for stop in chat.stops:
        if '"' in stop or not stop.isprintable():
            raise UserError(f"{stop!r}: a stop token that a Modelfile cannot hold.")
        lines.append(f'PARAMETER stop "{stop}"')
    return "\n".join(lines) + "\n"
