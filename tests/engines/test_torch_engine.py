"""The torch engine against transformers' own one-at-a-time generation, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

peft = pytest.importorskip("peft")

from transformers import AutoModelForCausalLM  # noqa: E402

from livery.engines.engine import Decoding, Prompt, open_engine  # noqa: E402
from livery.errors import UserError  # noqa: E402
from tests.engines.asked import COMMANDS, conversation  # noqa: E402
from tests.tiny_models import EOS_ID, PAD_ID, VOCAB, tiny_model  # noqa: E402

# A tied random model says its last token for ever; untied, what it says depends on the prompt.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"tie_word_embeddings": False},
    "gemma3": {"tie_word_embeddings": False, "sliding_window": 20},
    "mistral": {"sliding_window": 16},
    "gemma2": {"tie_word_embeddings": False},
    "mixtral": {},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def llama(models: Path) -> Path:
    return tiny_model("llama", models)


def make_adapter(model: Path, folder: Path, **changes: Any) -> Path:
    """A random PEFT adapter, strong enough to change what is answered."""
    loaded = AutoModelForCausalLM.from_pretrained(model)
    targets = ["q_proj", "v_proj", "o_proj"]
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 32, "target_modules": targets, **changes})
    torch.manual_seed(3)
    tuned = peft.get_peft_model(loaded, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name or "magnitude" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    tuned.save_pretrained(folder)
    return folder


def plain_answers(model: Any, prompts: list[Prompt], max_tokens: int) -> list[list[int]]:
    """transformers' own generation, one prompt at a time."""
    answers: list[list[int]] = []
    for prompt in prompts:
        ids = torch.tensor([prompt.tokens])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False,
            eos_token_id=EOS_ID, pad_token_id=PAD_ID,
        )  # fmt: skip
        answer = out[0, len(prompt.tokens) :].tolist()
        answers.append(answer[: answer.index(EOS_ID)] if EOS_ID in answer else answer)
    return answers


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_answer_as_one_at_a_time(family: str, models: Path, tmp_path: Path) -> None:
    folder = tiny_model(family, models, **FAMILIES[family])
    adapter = make_adapter(folder, tmp_path / "adapter")
    engine = open_engine("torch", str(folder), str(adapter), device="cpu")
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
    assert min(len(prompt.tokens) for prompt in prompts) > 64
    tuned = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), adapter
    ).eval()
    expected = plain_answers(tuned, prompts, 24)
    for batch_size in (1, 3, 64):
        got = engine.generate(prompts, Decoding(max_tokens=24, batch_size=batch_size))
        assert [list(answer.tokens) for answer in got] == expected
    assert len({tuple(answer) for answer in expected}) > 3


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
    expected = plain_answers(AutoModelForCausalLM.from_pretrained(folder), prompts, 12)
    got = engine.generate(prompts, Decoding(max_tokens=12))
    assert [list(answer.tokens) for answer in got] == expected
    assert len({tuple(answer) for answer in expected}) > 3
    for scores in engine.logprobs(prompts[:1], ["no"]):
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("dora", [False, True])
def test_switched_off_the_base_answers(dora: bool, llama: Path, tmp_path: Path) -> None:
    adapter = make_adapter(llama, tmp_path / "adapter", use_dora=dora)
    engine = open_engine("torch", str(llama), str(adapter), device="cpu")
    untouched = open_engine("torch", str(llama), device="cpu")
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS]
    decoding = Decoding(max_tokens=12)
    tuned = engine.generate(prompts, decoding)
    engine.use_adapter(False)
    assert engine.facts().adapter is None
    base = [a.tokens for a in engine.generate(prompts, decoding)]
    assert base == [a.tokens for a in untouched.generate(prompts, decoding)]
    scores = engine.logprobs(prompts, ["no"] * len(prompts))
    for got, want in zip(scores, untouched.logprobs(prompts, ["no"] * len(prompts)), strict=True):
        np.testing.assert_array_equal(got, want)
    engine.use_adapter(True)
    assert engine.facts().adapter == str(adapter)
    again = engine.generate(prompts, decoding)
    assert [a.tokens for a in again] == [a.tokens for a in tuned]
    assert [a.tokens for a in again] != base


def test_both_engines_answer_alike(llama: Path, tmp_path: Path) -> None:
    """One adapter folder, two runtimes: the same answers and log-probabilities."""
    pytest.importorskip("mlx.core")
    from convert.adapters.formats import read_adapter, write_adapter

    adapter = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    write_adapter(read_adapter(adapter), adapter / "mlx", "mlx")
    engines = [open_engine("torch", str(llama), str(adapter), device="cpu")]
    engines.append(open_engine("mlx", str(llama), str(adapter)))
    prompts = [engines[0].prompt(conversation(text)) for text in COMMANDS]
    got = [[a.tokens for a in e.generate(prompts, Decoding(max_tokens=12))] for e in engines]
    assert got[0] == got[1]
    scores = [e.logprobs(prompts, COMMANDS) for e in engines]
    for ours, theirs in zip(*scores, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


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

    partial = make_adapter(llama, tmp_path / "partial")
    weights = load_file(partial / "adapter_model.safetensors")
    del weights[sorted(weights)[0]]
    save_file(weights, partial / "adapter_model.safetensors")
    assert "lacks 1 of the 12 tensors" in complaint(partial)

    deeper = tiny_model("llama", models, num_hidden_layers=3)
    assert "with no module in this base" in complaint(make_adapter(deeper, tmp_path / "deeper"))
    wider = tiny_model("llama", models, hidden_size=128)
    assert "Was it trained on another one?" in complaint(make_adapter(wider, tmp_path / "wider"))

    cut = make_adapter(llama, tmp_path / "cut")
    whole = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in complaint(cut)

    nothing = make_adapter(llama, tmp_path / "nothing")
    config = json.loads((nothing / "adapter_config.json").read_text())
    config["target_modules"] = ["no_such_module"]
    (nothing / "adapter_config.json").write_text(json.dumps(config))
    assert "does not fit" in complaint(nothing)
