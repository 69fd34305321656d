"""A GGUF file's metadata as config.json: the reverse of `convert.gguf.numbers`, `.families` and
`.windows`, for the families that `livery gguf` writes.

What the file does not say is what llama.cpp computes with; what it says and nobody here reads is an
error (`Numbers.check_all_asked`).
"""

from __future__ import annotations

from livery.errors import UserError, quoted, shown
from livery.gguf_base import rope as gguf_rope
from livery.gguf_base.architectures import TABLE
from livery.gguf_base.families import FAMILIES, Config
from livery.gguf_base.numbers import Numbers
from livery.gguf_reader import GgufFile

# model_type -> transformers' class.
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "gemma4_text": "Gemma4ForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
}


def model_type(file: GgufFile) -> str:
    """The config.json model type of a GGUF model.

    Raises:
        UserError: the file is no model, or of an architecture that cannot be decoded.
    """
    metadata = file.metadata
    kind = metadata.get("general.type", "model")
    if kind != "model":
        what = "an adapter" if kind == "adapter" else f"of the type {quoted(kind)}"
        raise UserError(f"{file.path}: {what}, not a model. Give the base's own GGUF file.")
    name = metadata.get("general.architecture")
    kinds = {a.name: a.model_types[0] for a in TABLE if a.model_types[0] in _CLASSES}
    if not isinstance(name, str) or name not in kinds:
        raise UserError(
            f"{file.path}: general.architecture is {quoted(name)}; as a base Livery takes GGUF "
            f"files of {', '.join(sorted(kinds))}. Use the model's Hugging Face folder."
        )
    if name == "llama" and metadata.get("llama.expert_count"):
        return "mixtral"
    if name == "olmo2" and metadata.get("olmo2.attention.sliding_window"):
        return "olmo3"
    return kinds[name]


def make_config(file: GgufFile) -> Config:
    """config.json of a GGUF model, without what the tokenizer adds to it.

    Raises:
        UserError: naming the field that is missing, wrong or not known here.
    """
    kind = model_type(file)
    numbers = Numbers(file.path, str(file.metadata["general.architecture"]), file.metadata)
    entries = file.entries
    if (count := file.metadata.get("split.count", 1)) not in (0, 1):
        raise UserError(
            f"{file.path}: one of {shown(count, 20)} parts of a model. Join them first: "
            "llama-gguf-split --merge FIRST-PART WHOLE.gguf"
        )
    if "token_embd.weight" not in entries or len(entries["token_embd.weight"].shape) != 2:
        raise UserError(f"{file.path}: lacks token_embd.weight. Download the file again.")
    vocabulary, width = entries["token_embd.weight"].shape
    layers, heads = numbers.whole("block_count", most=1024), numbers.whole("attention.head_count")
    if not layers or not heads:
        raise UserError(f"{file.path}: a model of {layers} layers with {heads} heads.")
    if numbers.whole("embedding_length") != width:
        raise numbers.wrong("embedding_length", width, "the embedding's width")
    head = numbers.whole("attention.key_length", width // heads)
    config: Config = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "head_dim": head,
        "max_position_embeddings": numbers.whole("context_length"),
        "tie_word_embeddings": "output.weight" not in entries,
    }
    if kind not in _OWN_SIZES:
        config["intermediate_size"] = numbers.whole("feed_forward_length")
        config["num_key_value_heads"] = numbers.whole("attention.head_count_kv", heads)
        if numbers.whole("attention.value_length", head) != head:
            raise numbers.wrong("attention.value_length", "of another size", "that of the keys")
        usual = numbers.number("rope.global.freq_base", 10000.0)  # Ollama's own name for it
        theta = numbers.number("rope.freq_base", usual)
        config["rope_theta"] = theta
        turned = numbers.whole("rope.dimension_count", head)
        if kind in _PARTIAL:
            config["partial_rotary_factor"] = turned / head
        elif turned != head:
            raise numbers.wrong("rope.dimension_count", turned, f"the head's size, {head}")
        if kind != "phi3" and (found := gguf_rope.scaling(numbers, file, head, theta)):
            config["rope_scaling"] = found
    if kind == "phi":
        config["layer_norm_eps"] = numbers.number("attention.layer_norm_epsilon")
    elif kind != "lfm2":
        config["rms_norm_eps"] = numbers.number("attention.layer_norm_rms_epsilon")
    FAMILIES[kind](config, numbers, file)
    _window(config, numbers)
    numbers.check_all_asked()
    return config


# Whose layers differ in their sizes: their functions read these themselves.
_OWN_SIZES = ("lfm2", "gemma4_text")
_PARTIAL = ("phi", "phi3", "glm4", "qwen3_5_text", "qwen3_5_moe_text")
_WINDOWED = ("gemma2", "gemma3_text", "olmo3", "gemma4_text", "phi3")


def _window(config: Config, numbers: Numbers) -> None:
    """Elsewhere llama.cpp has no window, and a file that names one must not need it."""
    if config["model_type"] in _WINDOWED or "attention.sliding_window" not in numbers:
        return
    if 0 < numbers.whole("attention.sliding_window") < config["max_position_embeddings"]:
        raise numbers.wrong(
            "attention.sliding_window",
            numbers.whole("attention.sliding_window"),
            "no shorter than the context, for this architecture",
        )
