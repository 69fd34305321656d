"""Every field of config.json: written, proven to change nothing, or refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from commands.gguf import gguf_command
from convert.base import load_base
from convert.gguf import field_table
from convert.gguf import fields as gguf_fields
from convert.gguf import numbers as gguf_numbers
from convert.gguf import rope as gguf_rope
from convert.gguf.model import write_model
from convert.gguf.names import for_model_type
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from tests.convert import convert_cases as cases
from tests.tiny_models import FAMILIES, MORE, tiny_model

TOKENS = np.random.default_rng(5).integers(5, 512, (1, 64))
LENGTHS = (3, 40)
GELU = ("gemma", "gemma2", "gemma3", "phi")
SLIDING, FULL = "sliding_attention", "full_attention"
ONCE = [family for family in FAMILIES if family != "llama_tied"]


def changed(family: str, root: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the family's model with another config.json; ... takes a field out."""
    shutil.copytree(tiny_model(family, root), folder)
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    return folder


def numbers(folder: Path) -> dict[str, Any]:
    base = gguf_fields.complete(load_base(folder))
    gguf_fields.check(base)
    made = gguf_numbers.hyperparameters(base, for_model_type(base.model_type))
    factors = gguf_rope.tensors(base, gguf_numbers.head_size(base))
    both = {**made, **factors}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in both.items()}


# -- the table ----------------------------------------------------------------------------------


def transformers_class(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type]


@pytest.mark.parametrize("model_type", field_table.TABLE)
def test_every_field_of_transformers_is_in_the_table(model_type: str):
    """A field that a later transformers adds has to be looked at before this passes again."""
    config = transformers_class(model_type)()
    fields = set(config.to_dict()) | set(config.attribute_map or {})
    known = field_table.TABLE[model_type]
    handled = field_table.NO_EFFECT | field_table.SIZES | known.written | set(known.constants)
    assert fields - handled == set()
    with_effect = (known.written | set(known.constants) | field_table.SIZES) & field_table.NO_EFFECT
    assert not with_effect


@pytest.mark.parametrize("model_type", field_table.TABLE)
def test_what_an_absent_field_means_is_what_transformers_takes(model_type: str):
    kind = transformers_class(model_type)
    own = {f.name: f.default for f in dataclasses.fields(kind)}
    rope = kind().rope_parameters
    local = rope.get(SLIDING, {}).get("rope_theta")
    rope = rope.get(FULL, rope)
    special = {
        "rope_theta": rope.get("rope_theta"),
        "partial_rotary_factor": rope.get("partial_rotary_factor"),
        "rope_local_base_freq": local,
        "num_experts": own.get("num_experts", own.get("num_local_experts")),
    }
    for name, value in field_table.TABLE[model_type].absent.items():
        assert value == (special[name] if name in special else own[name]), name
    # Those that a file needs, and that stand in no size of the model.
    for name in ("rms_norm_eps", "layer_norm_eps", "hidden_act", "hidden_activation", "head_dim",
                 "num_key_value_heads", "sliding_window", "query_pre_attn_scalar"):  # fmt: skip
        if own.get(name) is not None and (name, model_type) != ("num_key_value_heads", "phi"):
            assert field_table.TABLE[model_type].absent.get(name) == own[name], name


@pytest.mark.parametrize("family", ONCE)
def test_what_is_said_to_have_no_effect_has_none(family: str, root: Path, tmp_path: Path):
    """transformers computes the same whatever these fields say."""
    kind = transformers_class(FAMILIES[family][1]["model_type"])
    odd: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in field_table.NO_EFFECT:
            default = field.default
            if isinstance(default, bool):
                odd[field.name] = not default
            elif isinstance(default, float):
                odd[field.name] = 0.37
    odd.pop("output_router_logits", None)  # asks for one output more
    odd.pop("return_dict", None)
    odd.pop("is_encoder_decoder", None)
    assert odd
    wanted = cases.base_logits(tiny_model(family, root))
    assert (cases.base_logits(changed(family, root, tmp_path / "m", **odd)) == wanted).all()


@pytest.mark.parametrize("family", [*ONCE, *MORE])
def test_the_dialect_of_transformers_5_says_the_same(family: str, root: Path, tmp_path: Path):
    """rope nested in rope_parameters, layer_types spelled out."""
    from transformers import AutoConfig

    folder = changed(family, root, tmp_path / "m")
    wanted = numbers(folder)
    AutoConfig.from_pretrained(folder).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert "rope_parameters" in config
    assert "rope_theta" not in config
    assert numbers(folder) == wanted


def test_what_is_nested_goes_first(root: Path, tmp_path: Path):
    """As transformers reads a file that says both."""
    nested = {"rope_type": "default", "rope_theta": 77.0}
    folder = changed("llama", root, tmp_path / "m", rope_parameters=nested)
    assert numbers(folder)["llama.rope.freq_base"] == 77.0
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    assert config.rope_parameters["rope_theta"] == 77.0


def test_an_absent_theta_is_the_model_types_own(root: Path, tmp_path: Path):
    folder = changed("mixtral", root, tmp_path / "m", rope_theta=...)
    assert numbers(folder)["llama.rope.freq_base"] == 1e6
    folder = changed("gemma3", root, tmp_path / "g", rope_theta=..., rope_local_base_freq=...)
    assert numbers(folder)["gemma3.rope.freq_base"] == 1e6
    assert numbers(folder)["gemma3.rope.freq_base_swa"] == 1e4


# -- refused ------------------------------------------------------------------------------------

WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; llama.cpp computes llama with 'silu'"),
    ("llama", {"hidden_act": "relu2"}, "hidden_act is 'relu2'"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "partial_rotary_factor is 0.5",
    ),
    ("mistral", {"sliding_window": 8}, "sliding_window is 8 of a context of 2048"),
    ("mistral", {"sliding_window": ..., "max_position_embeddings": 8192}, "sliding_window is 4096"),
    ("mixtral", {"sliding_window": 8}, "no window for mixtral"),
    ("phi3", {"sliding_window": 8}, "no window for phi3"),
    ("qwen2", WINDOW, "no window for qwen2"),
    ("qwen2", {**WINDOW, "layer_types": [SLIDING, FULL]}, "no window for qwen2"),
    ("qwen3", WINDOW, "no window for qwen3"),
    ("qwen3_moe", WINDOW, "no window for qwen3_moe"),
    ("qwen3", {"attention_bias": True}, "attention_bias is True; llama.cpp computes qwen3 without"),
    ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob is False"),
    ("qwen3_moe", {"norm_topk_prob": ...}, "norm_topk_prob is False"),
    ("qwen3_moe", {"mlp_only_layers": [0]}, "mlp_only_layers is [0]"),
    ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
    ("qwen2", {"rope_scaling": LLAMA3}, "rope scaling 'llama3'"),
    ("gemma", {"hidden_act": "silu"}, "hidden_act is 'silu'"),
    ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
    ("gemma2", {"layer_types": [FULL, SLIDING]}, "layer_types do not repeat"),
    ("gemma2", {"layer_types": [FULL]}, "layer_types names 1 layers"),
    ("gemma2", {"layer_types": [FULL, "chunked_attention"]}, "chunked_attention"),
    ("gemma2", {"sliding_window": None}, "has sliding layers but no sliding_window"),
    ("gemma2", {"query_pre_attn_scalar": 7}, "query_pre_attn_scalar is 7"),
    ("gemma2", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    ("gemma3", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping is 5.0"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    ("gemma3", {"rope_parameters": {"rope_theta": 9.0}}, "neither full_attention nor"),
    ("phi", {"qk_layernorm": True}, "qk_layernorm is True"),
    ("phi", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    ("phi", {"head_dim": 8}, "4 heads of 8 are not the hidden_size"),
    ("llama", {"num_attention_heads": 0}, "num_attention_heads is 0; it must be at least 1"),
    ("llama", {"num_hidden_layers": 2000}, "num_hidden_layers is 2000; 1024 is the most"),
    ("llama", {"num_hidden_layers": 10**12}, "it must be at most 10,000"),
    ("llama", {"num_key_value_heads": 3}, "4 heads do not share 3"),
    ("llama", {"hidden_size": "64"}, 'hidden_size is "64"'),
    ("llama", {"vocab_size": ...}, "vocab_size is None"),
    ("llama", {"intermediate_size": ...}, "lacks 'intermediate_size'"),
    ("llama", {"rms_norm_eps": "tiny"}, 'rms_norm_eps is "tiny"'),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "lacks 'factor'"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling is not a JSON object"),
    ("llama", {"qk_norm": True}, "qk_norm is True, a field that Livery does not know for llama"),
    ("llama", {"logit_scale": 0.5}, "--ignore-field logit_scale"),
]


@pytest.mark.parametrize(("family", "changes", "says"), REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused(
    family: str, changes: dict[str, Any], says: str, root: Path, tmp_path: Path
):
    import re

    folder = changed(family, root, tmp_path / "model", **changes)
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        write_model(folder, tmp_path / "m.gguf", "f32")
    assert "config.json" in str(caught.value)
    assert not (tmp_path / "m.gguf").exists()


def test_another_name_of_a_known_number(root: Path, tmp_path: Path):
    """rope_theta as GPT-NeoX and mlx-lm's models call it."""
    theta = load_base(tiny_model("llama", root)).config["rope_theta"]
    same = changed("llama", root, tmp_path / "same", rotary_emb_base=theta)
    assert numbers(same) == numbers(tiny_model("llama", root))
    other = changed("llama", root, tmp_path / "other", rotary_emb_base=2 * theta)
    with pytest.raises(UserError, match=r"rotary_emb_base is .* a field that Livery does not know"):
        numbers(other)


def test_a_field_that_the_user_vouches_for(root: Path, tmp_path: Path):
    folder = changed("llama", root, tmp_path / "model", my_note={"by": "me"}, off=False, none=None)
    arguments = ["--model", str(folder), "--out", str(tmp_path / "m.gguf")]
    refused = CliRunner().invoke(gguf_command, arguments)
    assert isinstance(refused.exception, UserError)
    taken = CliRunner().invoke(gguf_command, [*arguments, "--ignore-field", "my_note"])
    assert taken.exit_code == 0, taken.output
    assert (tmp_path / "m.gguf").exists()


def test_tokens_without_a_row_are_refused(root: Path, tmp_path: Path):
    folder = changed("llama", root, tmp_path / "model")
    file = folder / "tokenizer.json"
    fast = json.loads(file.read_text())
    token = {**fast["added_tokens"][0], "id": 512, "content": "<tool>"}
    fast["added_tokens"].append(token)
    file.write_text(json.dumps(fast))
    with pytest.raises(UserError, match=r"513 tokens, its embedding 512 rows: '<tool>'"):
        write_model(folder, tmp_path / "m.gguf", "f32")
    # gemma3's text models come with this one, which no text holds.
    token["content"] = "<image_soft_token>"
    file.write_text(json.dumps(fast))
    write_model(folder, tmp_path / "m.gguf", "f32")
    assert len(open_gguf(tmp_path / "m.gguf").metadata["tokenizer.ggml.tokens"]) == 512


# -- written ------------------------------------------------------------------------------------


def torch_logprobs(base: Path) -> np.ndarray:
    import torch

    model = cases.torch_base(base).eval()
    rows: list[np.ndarray] = []
    for length in LENGTHS:
        with torch.no_grad():
            logits = model(torch.tensor(TOKENS[:, :length])).logits[0, -1].double().numpy()
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


def on_llama_cpp(folder: Path) -> np.ndarray:
    prompts = [TOKENS[0, :length].tolist() for length in LENGTHS]
    return np.array(cases.llama_cpp(folder, model=str(folder / "m.gguf"), prompts=prompts)["base"])


NEAR = {"sliding_window": 8}
BY_LAYER = {
    FULL: {"rope_type": "default", "rope_theta": 700.0},
    SLIDING: {"rope_type": "default", "rope_theta": 90.0},
}
WRITTEN: list[tuple[str, dict[str, Any]]] = [
    ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    ("gemma2", {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    ("gemma2", {**NEAR, "layer_types": [FULL, FULL]}),
    ("gemma2", {**NEAR, "layer_types": [SLIDING, SLIDING]}),
    ("gemma2", {**NEAR, "num_hidden_layers": 3, "layer_types": [SLIDING, SLIDING, FULL]}),
    ("gemma3", {**NEAR, "layer_types": [FULL] * 4}),
    ("gemma3", {**NEAR, "layer_types": [SLIDING] * 4}),
    ("gemma3", {**NEAR, "layer_types": [SLIDING, SLIDING, FULL, SLIDING]}),
    ("gemma3", {"final_logit_softcapping": 3.0}),
    ("gemma3", {"rope_parameters": BY_LAYER}),
    ("gemma3", {"tie_word_embeddings": False}),
    ("gemma2", NEAR),
    ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
    ("llama", {"rms_norm_eps": 0.01, "rope_theta": 500.0, "num_key_value_heads": 1}),
    ("mistral", {"head_dim": 8, "sliding_window": 2048, "tie_word_embeddings": True}),
    ("mixtral", {"num_experts_per_tok": 1, "rope_theta": 500.0, "tie_word_embeddings": True}),
    ("qwen2", {"tie_word_embeddings": False, "rope_theta": 500.0, "num_key_value_heads": 1}),
    ("qwen3", {"tie_word_embeddings": False, "head_dim": 8, "rms_norm_eps": 0.01}),
    ("qwen3_moe", {"tie_word_embeddings": True, "num_experts_per_tok": 3, "head_dim": 8}),
    ("gemma", {"rope_theta": 500.0, "rms_norm_eps": 0.01, "num_key_value_heads": 1}),
    ("phi", {"layer_norm_eps": 0.01, "num_key_value_heads": 1, "rope_theta": 500.0}),
    ("phi", {"hidden_act": "gelu_pytorch_tanh", "partial_rotary_factor": 0.25}),
    ("phi3", {"partial_rotary_factor": 0.5, "tie_word_embeddings": True, "rope_theta": 500.0}),
]


@pytest.mark.parametrize(
    ("family", "changes"),
    [pytest.param(*w, marks=[] if n in (0, 2, 5) else pytest.mark.slow) for n, w in
     enumerate(WRITTEN)],
)  # fmt: skip
def test_what_is_written_is_computed(
    family: str, changes: dict[str, Any], root: Path, tmp_path: Path
):
    """Beyond the windows too; and the same weights without the changes answer otherwise."""
    pytest.importorskip("xllamacpp")
    base = tiny_model(family, root, **changes)
    write_model(base, tmp_path / "m.gguf", "f32")
    wanted = torch_logprobs(base)
    assert np.abs(on_llama_cpp(tmp_path) - wanted).max() < (2e-2 if family in GELU else 1e-3)
    others = {} if changes.get("layer_types", [SLIDING]) != [FULL] * 2 else NEAR
    assert np.abs(torch_logprobs(tiny_model(family, root, **others)) - wanted).max() > 0.02


@pytest.mark.slow
def test_a_file_for_what_fits_into_the_window(root: Path, tmp_path: Path):
    """mistral's window: exact within it, and llama.cpp's server takes no longer prompt; a file for
    longer ones (the control) answers otherwise."""
    pytest.importorskip("xllamacpp")
    base = tiny_model("mistral", root, sliding_window=48)
    write_model(base, tmp_path / "m.gguf", "f32", context=48)
    assert open_gguf(tmp_path / "m.gguf").metadata["llama.context_length"] == 48
    assert np.abs(on_llama_cpp(tmp_path) - torch_logprobs(base)).max() < 1e-3
    prompts = [TOKENS[0, :60].tolist()]
    with pytest.raises(AssertionError, match="choices"):
        cases.llama_cpp(tmp_path, model=str(tmp_path / "m.gguf"), prompts=prompts)
    without = tiny_model("mistral", root)
    narrow = tiny_model("mistral", root, sliding_window=8)
    write_model(without, tmp_path / "m.gguf", "f32")
    assert np.abs(on_llama_cpp(tmp_path) - torch_logprobs(narrow)).max() > 0.1
