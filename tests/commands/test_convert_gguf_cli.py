"""`livery gguf` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from commands.gguf import gguf_command
from convert.gguf.convert import convert_model
from livery.errors import UserError
from tests.tiny_models import tiny_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.getbasetemp() / "tiny")


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_every_type_is_a_whole_file(kind: str, base: Path, tmp_path: Path):
    from gguf import GGUFReader

    out = tmp_path / "m.gguf"
    result = CliRunner().invoke(
        gguf_command,
        ["--model", str(base), "--out", str(out), "--type", kind, "--json"],
        catch_exceptions=False,
    )
    report = json.loads(result.output)
    assert report["architecture"] == "llama"
    assert report["bytes"] == out.stat().st_size
    reader = GGUFReader(str(out))
    assert len(reader.tensors) == report["tensors"] == 21
    names = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == names[kind]
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("Q8_0" if kind == "q4_0" else names[kind])


def test_a_file_is_not_overwritten_unasked(base: Path, tmp_path: Path):
    convert_model(base, tmp_path / "m.gguf", "f16")
    with pytest.raises(UserError, match="--overwrite"):
        convert_model(base, tmp_path / "m.gguf", "f32")
    assert convert_model(base, tmp_path / "m.gguf", "f32", overwrite=True)["type"] == "f32"


def test_other_architectures_go_to_a_llama_cpp_checkout(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, checkout = tmp_path / "model", tmp_path / "llama.cpp"
    shutil.copytree(base, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(UserError, match="LLAMA_CPP_DIR"):
        convert_model(model, tmp_path / "m.gguf", "f16")
    checkout.mkdir()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(checkout))
    with pytest.raises(UserError, match=r"no convert_hf_to_gguf\.py|there is no"):
        convert_model(model, tmp_path / "m.gguf", "f16")
    script = checkout / "convert_hf_to_gguf.py"
    script.write_text("import sys; sys.exit('it does not know mamba')")
    with pytest.raises(UserError, match="it does not know mamba"):
        convert_model(model, tmp_path / "m.gguf", "f16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.cpp", "model"]
    script.write_text(
        "import pathlib, sys; a = sys.argv; "
        "pathlib.Path(a[a.index('--outfile') + 1]).write_text(' '.join([a[1], a[-1]]))"
    )
    convert_model(model, tmp_path / "m.gguf", "bf16")
    assert (tmp_path / "m.gguf").read_text() == f"{model} bf16"
