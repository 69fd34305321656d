"""A multimodal folder as a base for text on torch: its language model, under the whole's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

from livery.config.settings import LoraSettings, TrainSettings
from livery.engines.torch.load import load_base
from livery.engines.torch.text_model import Inner, body_of
from livery.errors import UserError
from tests.cuda_train.test_torch_loss import apart, draw, fast, make, reference
from tests.tiny_models import VOCAB, write_tokenizer

TEXT: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A Gemma3ForConditionalGeneration, and its folder."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    kinds = ["sliding_attention", "full_attention"]
    text = {**TEXT, "sliding_window": 16, "query_pre_attn_scalar": 32, "layer_types": kinds}
    config = Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).eval()
    folder = tmp_path_factory.mktemp("models") / "gemma3"
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder, model


def test_the_language_model_alone_says_what_the_whole_says(whole: tuple[Path, Any]) -> None:
    folder, model = whole
    base: Any = load_base(folder, device="cpu").model
    tokens = torch.arange(10, 60)[None]
    with torch.no_grad():
        assert torch.equal(base(input_ids=tokens).logits, model(input_ids=tokens).logits)
    assert not any("vision" in name for name, _ in base.named_modules())
    assert body_of(base) is not base.model
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in base.named_parameters()} <= names


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_it_trains_exactly_under_the_wholes_names(
    whole: tuple[Path, Any], checkpoint: bool
) -> None:
    made = make(whole[0], grad_checkpoint=checkpoint)
    assert made.fast_path() == (True, "")
    assert made.loss.body.attention.windows == {"sliding_attention": 16, "full_attention": None}
    assert all(name.startswith("model.language_model.layers.") for name in made.loss.flat.names)
    batch = draw()
    loss, gradient = reference(made, batch)
    for route in ("tree", "plain") if checkpoint else ("tree", "cache", "plain"):
        got_loss, got = fast(made, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6)
        # test_torch_loss holds the family to 1e-5; these weights amplify rounding, by 1.4e-5 on
        # one CPU. A mask that is wrong is wrong by tenths.
        assert apart(got, gradient) < 1e-4, route
    assert made.self_check(batch).ok
    assert len(made.generate([[5, 6, 7]], 4)[0]) <= 4


@pytest.mark.slow
def test_the_adapter_is_one_of_the_whole_model(whole: tuple[Path, Any], tmp_path: Path) -> None:
    """Exported, it loads in PEFT on the whole model and in our engine on the part, and agrees."""
    from peft import PeftModel

    from commands.training.export import export
    from livery.dataset.tokenizer import load_tokenizer
    from livery.engines.torch.adapter import attach_adapter

    folder, model = whole
    settings = TrainSettings(
        model=str(folder), output_dir=str(tmp_path / "out"), lora=LoraSettings(rank=4)
    )
    made = make(folder)
    facts: dict[str, Any] = {
        "examples": 1, "valid_examples": 0, "data_digest": "0" * 64, "base_digest": "0" * 64,
        "steps": 1, "epochs": 1.0, "kept_step": 1, "seconds": 1.0, "backend": "torch",
        "dtype": "float32",
    }  # fmt: skip
    tokenizer = load_tokenizer(str(folder), None)
    export(settings, tokenizer, made.get_state(), facts, lambda text: None)
    tokens = torch.arange(10, 60)[None]
    base = load_base(folder, device="cpu").model
    ours: Any = attach_adapter(base, tmp_path / "out").model
    with torch.no_grad():
        before = model(input_ids=tokens).logits
        theirs = PeftModel.from_pretrained(model, str(tmp_path / "out")).eval()
        wanted = theirs(input_ids=tokens).logits
        assert float((wanted - before).abs().max()) > 1e-2, "the adapter does something"
        assert torch.allclose(ours(input_ids=tokens).logits, wanted, atol=1e-5)
        assert torch.allclose(made.loss.model(input_ids=tokens).logits, wanted, atol=1e-5)


@pytest.mark.slow
def test_a_language_model_that_transformers_takes_out_itself(tmp_path: Path) -> None:
    """Qwen3.5: its causal class has the language model at `model`, its files have the whole's
    names, and so have MLX, PEFT on the whole model, and the adapter folder."""
    from peft import PeftModel
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    from commands.training.export import rehearse

    recurrent = {
        "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4,
        "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 4,
        "out_hidden_size": 64, "num_position_embeddings": 16,
    }  # fmt: skip
    config = Qwen3_5Config(text_config={**TEXT, **recurrent}, vision_config=vision)
    torch.manual_seed(0)
    whole: Any = Qwen3_5ForConditionalGeneration(config).eval()
    folder = tmp_path / "base"
    whole.save_pretrained(folder)
    write_tokenizer(folder)
    made = make(folder)
    assert all(name.startswith("model.language_model.layers.") for name in made.loss.flat.names)
    settings = TrainSettings(model=str(folder), lora=LoraSettings(rank=4))
    kept = tmp_path / "adapter"
    notes = rehearse(settings, None, made.get_state(), keep=kept)
    assert all(note.startswith("gguf is left out") for note in notes)
    tokens = torch.arange(10, 60)[None]
    with torch.no_grad():
        before = whole(input_ids=tokens).logits
        wanted = PeftModel.from_pretrained(whole, str(kept)).eval()(input_ids=tokens).logits
        assert float((wanted - before).abs().max()) > 1e-2, "the adapter does something"
        assert torch.allclose(made.loss.model(input_ids=tokens).logits, wanted, atol=1e-5)


def test_another_wrapper(tmp_path: Path) -> None:
    """A family that AutoModelForCausalLM does not know by its own name."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    config = LlavaConfig(
        text_config=LlamaConfig(**TEXT), vision_config=CLIPVisionConfig(**VISION),
        image_token_index=4,
    )  # fmt: skip
    model: Any = Llava(config).eval()
    model.save_pretrained(tmp_path)
    base: Any = load_base(tmp_path, device="cpu").model
    assert isinstance(base.model, Inner)
    tokens = torch.arange(10, 60)[None]
    with torch.no_grad():
        assert torch.equal(base(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_a_wrapper_without_a_causal_model_of_its_own_is_refused(
    whole: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from livery.engines.torch import text_model as torch_text

    monkeypatch.setattr(torch_text, "causal_class", lambda text: None)
    with pytest.raises(UserError, match=r"is multimodal.*text-only release.*--backend mlx"):
        load_base(whole[0], device="cpu")
