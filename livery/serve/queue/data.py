"""The rows that an order trains on: named, or sent with it; hashed, and kept as they were when it
came."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.dataset.rows import nothing_to_learn, read_row
from livery.dataset.sources import SPLITS, find
from livery.errors import UserError, quoted
from livery.files import explain_os_errors, sha256, write_jsonl
from livery.serve.errors import Conflict, Refused
from livery.serve.settings import ServeSettings, inside

# A dataset of this server by its name; or {"format": "inline-json", "data": as `read_sent` has it}.
Ref = str | Mapping[str, Any]
_DATA = "request.dataset_ref.data"


def dataset_hash(place: Path) -> str:
    """Hex SHA-256 of a dataset: of its file, or of the lines that `sha256sum` prints of the files
    of its train, valid and test rows, in the order of their names.

    cd data/NAME && sha256sum test.jsonl train.jsonl valid.jsonl | sha256sum
    """
    if place.is_file():
        return sha256(place)
    lines = [f"{sha256(place / name)}  {name}\n" for name in _files(place)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sent_hash(ref: Mapping[str, Any]) -> str:
    """Hex SHA-256 of rows that come with an order: of the whole `dataset_ref` as compact JSON in
    UTF-8 with sorted keys, as the services that send such orders compute it.

    Raises:
        Refused: it holds numbers or text that JSON does not have.
    """
    try:
        said = json.dumps(
            ref, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except ValueError as error:  # NaN, half a surrogate pair
        raise Refused(f"{_DATA} cannot be written as JSON: {error}.", key=_DATA) from None
    return hashlib.sha256(said).hexdigest()


def freeze(settings: ServeSettings, ref: Ref, expected: str | None) -> tuple[Path, str]:
    """(a copy of the dataset that nobody changes, its hash); one copy for each content.

    Raises:
        NotFound: there is no such dataset in root/data.
        Refused: rows that were sent cannot be trained on.
        Conflict: its hash is not the expected one.
    """
    kept = settings.state / "queue" / "data"
    with explain_os_errors(kept, "keeping the rows of an order"):
        kept.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=kept, prefix=".new-"))
    try:
        with explain_os_errors(scratch, "keeping the rows of an order"):
            if isinstance(ref, str):
                what, copy = f"the dataset {ref}", _copied(settings, ref, scratch)
                found = dataset_hash(copy)
            else:
                what, copy, found = "what was sent", scratch / "rows", sent_hash(ref)
                copy.mkdir()
                for split, rows in read_sent(ref["data"]).items():
                    write_jsonl(copy / f"{split}.jsonl", rows)
            if expected is not None and found != expected.lower():
                raise Conflict(
                    f"dataset_hash is {quoted(expected)}, and {what} has {found}: it is not the "
                    "one that was meant.",
                    key="request.dataset_hash",
                )
            final = kept / (found + copy.suffix)
            if not final.exists():
                os.rename(copy, final)
            return final, found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copied(settings: ServeSettings, name: str, scratch: Path) -> Path:
    """The files of a dataset's rows, copied."""
    place = inside(settings.data, name, what="dataset")
    if place.is_file():
        return Path(shutil.copyfile(place, scratch / place.name))
    copy = scratch / "rows"
    for file in _files(place):
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place / file, copy / file)
    return copy


def read_sent(data: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split that came with an order, every one of which can be trained on.

    Args:
        data: rows of train; or {"train": rows, "valid": rows, "test": rows}; or {"commands":
            [{"examples": [{"voice_command": …, "expected_tool_call": {…}}]}]}, which is how a voice
            assistant sends them: what was said is asked, and the call is the answer, in JSON.

    Raises:
        Refused: naming the first row that cannot be used.
    """
    named: Mapping[str, Any] = data if isinstance(data, Mapping) else {"train": data}
    if named.keys() == {"commands"}:
        named = {"train": _of_commands(named["commands"])}
    for split, rows in named.items():
        if split not in SPLITS:
            known = ", ".join(SPLITS)
            raise Refused(f"{_DATA}: there is no split {quoted(split)}, only {known}.", key=_DATA)
        place = f"{_DATA}.{split}" if named is data else _DATA
        if not isinstance(rows, list):
            raise Refused(f"{place} is not a list of rows.", key=place)
        for number, row in enumerate(rows):
            _check(row, f"{place}.{number}")
    if not named.get("train"):
        raise Refused(f"{_DATA} holds no rows to train on.", key=_DATA)
    return {split: rows for split, rows in named.items() if rows}


def _check(row: Any, place: str) -> None:
    """Raises Refused where training would refuse a row, or learn nothing from it."""
    if not isinstance(row, dict):
        raise Refused(f"{place} is not an object.", key=place)
    try:
        wrong = nothing_to_learn(read_row(row, place))
    except UserError as error:  # it names the place
        raise Refused(str(error), key=place) from None
    if wrong:
        raise Refused(f"{place}: {wrong}.", key=place)


def _of_commands(commands: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    place = f"{_DATA}.commands"
    try:
        for at, command in enumerate(commands):
            for number, example in enumerate(command["examples"]):
                place = f"{_DATA}.commands.{at}.examples.{number}"
                asked, call = example["voice_command"], example["expected_tool_call"]
                if not (isinstance(asked, str) and isinstance(call["name"], str)):
                    raise TypeError
                said = {"message": "", "tool_calls": [call], "error": None}
                rows.append({"prompt": asked, "completion": json.dumps(said, ensure_ascii=False)})
    except (KeyError, TypeError):
        raise Refused(
            f'{place}: an example is {{"voice_command": …, "expected_tool_call": {{"name": …, '
            '"arguments": {…}}}, in a list called examples of each command.',
            key=place,
        ) from None
    return rows


def _files(place: Path) -> list[str]:
    """Files of the rows, by name, relative to the folder."""
    found = {source.path for _, sources in find(place).items() for source in sources}
    for path in found:
        if not path.resolve().is_relative_to(place.resolve()):
            raise Refused(f"The dataset {place.name} has a link out of its folder: {path.name}.")
    return sorted(str(path.relative_to(place)) for path in found)
