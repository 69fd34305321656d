"""One answer to where a model lies, however it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livery.errors import UserError
from livery.models import download_model, find_base, is_embedded, name_model, resolve_name
from livery.paths import HOME


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def test_a_model_is_found_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = model(tmp_path / "m")
    assert [find_base(written) for written in (folder, str(folder), "~/m")] == [folder] * 3
    assert find_base("m") == Path("m")
    for nowhere in ("", "n" * 5000, "a\0b", "~nobody-of-that-name/m", "owner/never-downloaded"):
        assert find_base(nowhere) is None


def test_the_embedded_base_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_base("base_model") == download_model("base_model") == HOME / "base_model"
    assert name_model(resolve_name("base_model")) == "base_model"
    assert is_embedded("base_model/")
    assert is_embedded(str(HOME / "base_model"))
    assert not is_embedded("owner/base_model")
    model(tmp_path / "base_model")  # a folder of the user's own comes before
    assert not is_embedded("base_model")


def test_of_several_snapshots_the_one_that_transformers_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = tmp_path / "huggingface" / "hub" / "models--owner--m"
    current, newer = (model(cached / "snapshots" / name) for name in ("aaa", "bbb"))
    os.utime(current / "config.json", (1, 1))
    assert find_base("owner/m") == newer  # nothing says which
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("aaa")
    assert find_base("owner/m") == current
    (cached / "refs" / "main").write_text("../../..")
    assert find_base("owner/m") == newer


def test_what_is_no_model_is_not_asked_of_the_hub() -> None:
    with pytest.raises(UserError, match="not a hub id"):
        download_model("./nowhere/at/all")
