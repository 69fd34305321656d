"""What is the torch engine's own: models whose rows run one by one, and its refusals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from livery.engines.engine import Decoding, open_engine
from livery.errors import UserError
from tests.engines.asked import COMMANDS, conversation
from tests.engines.libraries import peft_adapter, transformers_answers
from tests.tiny_models import EOS_ID, VOCAB, tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def llama(models: Path) -> Path:
    return tiny_model("llama", models)


@pytest.mark.slow
def test_recurrent_hybrids_are_decoded_one_by_one(models: Path, llama: Path) -> None:
    from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM

    folder = models / "lfm2"
    config = Lfm2Config(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, layer_types=["conv", "full_attention"],
        tie_word_embeddings=False, initializer_range=0.2, eos_token_id=EOS_ID,
    )  # fmt: skip
    torch.manual_seed(0)
    Lfm2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(llama).save_pretrained(folder)
    engine = open_engine("torch", str(folder), device="cpu")
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
    expected = transformers_answers(folder, None, prompts, 12)
    got = engine.generate(prompts, Decoding(max_tokens=12))
    assert [list(answer.tokens) for answer in got] == expected
    assert len({tuple(answer) for answer in expected}) > 3
    for scores in engine.logprobs(prompts[:1], ["no"]):
        assert np.isfinite(scores).all()


def test_no_hub_is_asked_for_the_base_that_an_adapter_names(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT looked for "smollm2-135m" on a hub and warned that it could not fetch a remote file."""
    adapter = peft_adapter(llama, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "smollm2-135m"
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    asked: list[str] = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("peft.utils.other.file_exists", lambda repo, *_, **__: asked.append(repo))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine = open_engine("torch", str(llama), str(adapter), device="cpu")
    assert engine.has_adapter
    assert asked == []
    assert not [warning for warning in said if "smollm2" in str(warning.message)]


@pytest.mark.slow
def test_what_is_wrong_with_an_adapter_is_said(llama: Path, models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def complaint(adapter: Path) -> str:
        with pytest.raises(UserError) as caught:
            open_engine("torch", str(llama), str(adapter), device="cpu")
        return str(caught.value)

    assert "no such adapter folder" in complaint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no adapter weights" in complaint(tmp_path / "empty")
    (tmp_path / "mlx" / "mlx").mkdir(parents=True)
    (tmp_path / "mlx" / "mlx" / "adapters.safetensors").write_bytes(b"")
    assert "--to peft" in complaint(tmp_path / "mlx")

    partial = peft_adapter(llama, tmp_path / "partial")
    weights = load_file(partial / "adapter_model.safetensors")
    del weights[sorted(weights)[0]]
    save_file(weights, partial / "adapter_model.safetensors")
    assert "lacks 1 of the 12 tensors" in complaint(partial)

    deeper = tiny_model("llama", models, num_hidden_layers=3)
    assert "with no module in this base" in complaint(peft_adapter(deeper, tmp_path / "deeper"))
    wider = tiny_model("llama", models, hidden_size=128)
    assert "Was it trained on another one?" in complaint(peft_adapter(wider, tmp_path / "wider"))

    cut = peft_adapter(llama, tmp_path / "cut")
    whole = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in complaint(cut)

    nothing = peft_adapter(llama, tmp_path / "nothing")
    config = json.loads((nothing / "adapter_config.json").read_text())
    config["target_modules"] = ["no_such_module"]
    (nothing / "adapter_config.json").write_text(json.dumps(config))
    assert "does not fit" in complaint(nothing)
