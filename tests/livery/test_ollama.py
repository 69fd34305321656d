"""Bases by their name in Ollama's store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from convert.gguf.model import write_model
from livery.bases import ollama
from livery.errors import UserError
from livery.models import download_model, find_base, name_model, resolve_name
from tests.tiny_models import tiny_model


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one real model in it, as Ollama lays it out."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "models" / "blobs").mkdir(parents=True)
    return tmp_path / "models"


def put(store: Path, name: str, blob: Path, *more: dict[str, Any]) -> Path:
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    place = store / "blobs" / f"sha256-{digest}"
    place.write_bytes(blob.read_bytes())
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    manifest = store / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": [layer, *more]}))
    return place


@pytest.fixture
def file(root: Path, tmp_path: Path) -> Path:
    write_model(tiny_model("llama", root), tmp_path / "m.gguf", "f16")
    return tmp_path / "m.gguf"


def test_a_model_of_ollama_is_a_base(store: Path, file: Path):
    put(store, "registry.ollama.ai/library/tiny/latest", file)
    blob = put(store, "registry.ollama.ai/someone/tiny/v2", file)
    put(store, "example.org:5000/someone/tiny/v3", file)
    for name in ("tiny", "tiny:latest", "library/tiny", "someone/tiny:v2",
                 "example.org:5000/someone/tiny:v3"):  # fmt: skip
        assert Path(resolve_name(f"ollama:{name}")) == blob
    folder = find_base("ollama:tiny")
    assert folder is not None
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert download_model("ollama:tiny") == folder
    assert name_model("ollama:tiny") == "ollama:tiny"
    assert ollama.installed() == [
        "example.org:5000/someone/tiny:v3", "someone/tiny:v2", "tiny:latest",
    ]  # fmt: skip


def test_what_is_not_there_is_told(store: Path, file: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"no Ollama model store .*OLLAMA_MODELS"):
        find_base("ollama:tiny")
    blob = put(store, "registry.ollama.ai/library/tiny/latest", file)
    with pytest.raises(UserError, match=r"no such model here. It has: tiny:latest.*ollama pull ti"):
        find_base("ollama:tinny")
    for kind, says in (("adapter", "a base with an adapter"), ("projector", "vision part")):
        layer = {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": "sha256:0"}
        put(store, "registry.ollama.ai/library/odd/latest", file, layer)
        with pytest.raises(UserError, match=says):
            find_base("ollama:odd")
    blob.unlink()
    with pytest.raises(UserError, match=r"is missing\. Get it again: ollama pull tiny"):
        find_base("ollama:tiny")
    (store / "manifests/registry.ollama.ai/library/tiny/latest").write_text("[]")
    with pytest.raises(UserError, match="not an Ollama manifest"):
        find_base("ollama:tiny")


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/../../b", "..", "tiny:../../x", "/etc/passwd", "a/b/c/d", "tiny:", "a b",
     ".hidden", "tiny\x00", "~/x", "a//b", "../../a/b/c"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name: str, store: Path, file: Path):
    put(store, "registry.ollama.ai/library/tiny/latest", file)
    with pytest.raises(UserError, match="not the name of an Ollama model"):
        resolve_name(f"ollama:{name}")


def test_digests_that_lead_elsewhere_are_refused(store: Path, file: Path):
    manifest = store / "manifests/registry.ollama.ai/library/tiny/latest"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}
    manifest.write_text(json.dumps({"layers": [layer]}))
    with pytest.raises(UserError, match="is not a digest"):
        resolve_name("ollama:tiny")
