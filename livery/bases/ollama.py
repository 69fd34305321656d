"""A model of Ollama's store: `ollama:NAME[:TAG]` is the GGUF file that Ollama runs.

The store holds `manifests/HOST/NAMESPACE/NAME/TAG`, a JSON object whose layers name files of
`blobs/` by their digest. https://github.com/ollama/ollama/blob/main/docs/import.md, and as its own
versions write it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, cast

from livery.errors import UserError, shown
from livery.reading import read_json

PREFIX = "ollama:"
_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_SYSTEM = Path("/usr/share/ollama/.ollama/models")
_LAYER = "application/vnd.ollama.image."
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_LISTED = 12  # models that a message names


def is_ollama(model: str) -> bool:
    """Whether a base is asked for by its name in Ollama."""
    return model.startswith(PREFIX)


def find_blob(model: str) -> Path:
    """The GGUF file of `ollama:NAME[:TAG]`.

    Raises:
        UserError: there is no store, no such model in it (those that are there are named), or the
            model is a base with an adapter or a projector.
    """
    parts = _parts(model)
    stores = [store for store in _stores() if (store / "manifests").is_dir()]
    if not stores:
        looked = ", ".join(str(store) for store in _stores())
        raise UserError(
            f"{model}: no Ollama model store was found (looked in {looked}). Set OLLAMA_MODELS to "
            "the folder that holds manifests/ and blobs/, or give the GGUF file itself."
        )
    for store in stores:
        manifest = store.joinpath("manifests", *parts)
        with contextlib.suppress(OSError):
            if manifest.is_file():
                return _blob(model, store, manifest)
    here = installed()
    some = ", ".join(here[:_LISTED]) + (", …" if len(here) > _LISTED else "")
    raise UserError(
        f"{model}: Ollama has no such model here. "
        + (f"It has: {some}. " if here else "Its store is empty. ")
        + f"Get it with: ollama pull {model.removeprefix(PREFIX)}"
    )


def installed() -> list[str]:
    """The models of all stores, as Ollama names them, sorted."""
    found: set[str] = set()
    for store in _stores():
        top = store / "manifests"
        with contextlib.suppress(OSError):
            for file in top.glob("*/*/*/*"):
                if file.is_file():
                    host, space, name, tag = file.relative_to(top).parts
                    prefix = "" if space == _NAMESPACE else f"{space}/"
                    prefix = prefix if host == _HOST else f"{host}/{space}/"
                    found.add(f"{prefix}{name}:{tag}")
    return sorted(found)


def _stores() -> list[Path]:
    """Where Ollama keeps its models: the user's own, and a system service's."""
    told = os.environ.get("OLLAMA_MODELS")
    if told:
        return [Path(told).expanduser()]
    return [Path.home() / ".ollama" / "models", _SYSTEM]


def _parts(model: str) -> tuple[str, str, str, str]:
    """(host, namespace, name, tag), none of which can lead out of the store."""
    path, colon, tag = model.removeprefix(PREFIX).rpartition(":")
    if not colon or "/" in tag:  # no tag; a colon before a slash is a port's
        path, tag = model.removeprefix(PREFIX), _TAG
    parts = path.split("/")
    whole = [*(_HOST, _NAMESPACE)[: 3 - len(parts)], *parts, tag] if len(parts) <= 3 else []
    if len(parts) == 2:
        whole = [_HOST, *parts, tag]
    host = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:\d{1,5})?", whole[0]) if whole else None
    if host is None or any(_PART.fullmatch(part) is None for part in whole[1:]):
        raise UserError(
            f"{shown(model, 120)}: not the name of an Ollama model. Write ollama:NAME or "
            "ollama:NAME:TAG, as ollama list shows it."
        )
    return whole[0], whole[1], whole[2], whole[3]


def _blob(model: str, store: Path, manifest: Path) -> Path:
    said: Any = read_json(manifest)
    layers: Any = said.get("layers") if isinstance(said, dict) else None
    if not isinstance(layers, list):
        raise UserError(f"{manifest}: not an Ollama manifest. Pull the model again.")
    kinds: dict[str, list[str]] = {}
    for layer in cast("list[Any]", layers):
        if isinstance(layer, dict):
            one = cast("dict[str, Any]", layer)
            kind = str(one.get("mediaType", "")).removeprefix(_LAYER)
            kinds.setdefault(kind, []).append(str(one.get("digest", "")))
    digests = kinds.get("model", [])
    if len(digests) != 1:
        raise UserError(
            f"{model}: its manifest ({manifest}) names {len(digests)} files of weights; Livery "
            "takes a model that is one GGUF file. Pull it again, or give the model's folder."
        )
    match = _DIGEST.fullmatch(digests[0])
    if match is None:
        raise UserError(
            f"{manifest}: {shown(digests[0], 80)} is not a digest. Pull the model again."
        )
    blob = store / "blobs" / f"sha256-{match[1]}"
    for kind, what, remedy in (
        ("adapter", "a base with an adapter on it", "Give the base of its Modelfile"),
        ("projector", "a model with a vision part",
         f"For its language model alone give the file itself: {blob}"),
    ):  # fmt: skip
        if kind in kinds:
            raise UserError(f"{model}: is {what}, which is not one base. {remedy}.")
    if not blob.is_file():
        raise UserError(f"{model}: {blob} is missing. Get it again: ollama pull {model[7:]}")
    return blob
