"""What PEFT reads differently from how it is written, or refuses, on certain types of models.

PEFT 0.21 with transformers 5.23; a test holds both tables against theirs. Training leaves out, and
the writer of PEFT folders says otherwise, what is listed here.
"""

from __future__ import annotations

from collections.abc import Mapping

# Models whose experts transformers 5 keeps in one parameter where their checkpoints have linear
# layers of these names. For these model types PEFT reads every target of such a name as a parameter
# of the experts, a full path or a regular expression too; dense first layers and shared experts,
# which are still linear, are left out without a word. As a parameter of its own ("X.weight" in
# target_parameters) such a layer is reached.
_READ_AS_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj"})
_FUSED_BY_GATE = """
    afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe exaone_moe
    flex_olmo glm4_moe glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash mellum olmoe
    qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker solar_open
""".split()
_MIXTRAL = ("minimax", "minimax_m2", "mixtral")
EXPERT_NAMES: Mapping[str, frozenset[str]] = {
    **{str(name): _READ_AS_EXPERTS for name in _FUSED_BY_GATE},
    **{name: frozenset({"w1", "w2", "w3"}) for name in _MIXTRAL},
}

# State-space models whose fused kernel takes these layers' weights without calling the layers, so
# that LoRA on them would be passed over; PEFT refuses them.
FUSED_TYPES = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
FUSED_NAMES = frozenset({"out_proj", "conv1d"})


# PEFT passes the names of an adapter's tensors through transformers' renaming of checkpoints, whose
# expressions also meet what is named rightly ("mlp.shared_expert." in "mlp.shared_experts.", where
# the dot stands for anything). Where that breaks a name, the tensors go by the checkpoint's.
_BROKEN_NAMES = {"laguna": (".mlp.shared_experts.", ".mlp.shared_expert.")}


def tensor_name(model_type: str, module: str) -> str:
    """Under which name PEFT finds the tensors of this module in a file."""
    ours, theirs = _BROKEN_NAMES.get(model_type, ("", ""))
    return module.replace(ours, theirs) if ours else module


# Layers whose weight transformers multiplies by itself without calling them, on every device: PEFT
# puts LoRA on them, and it does nothing.
_UNCALLED = frozenset(
    f"{model_type}.dt_proj" for model_type in ("falcon_mamba", "jamba", "mamba", "zamba")
)


def read_as_experts(model_type: str, leaf: str, *, experts: bool) -> bool:
    """Whether PEFT takes a target of this name for the experts' parameters on such a model.

    Args:
        model_type: the base's; "" where it is not known.
        leaf: the module's last path element.
        experts: the base is known to have routed experts, which decides where its type is unknown.
    """
    if not model_type:
        return experts and leaf in _READ_AS_EXPERTS
    return leaf in EXPERT_NAMES.get(model_type, ())


def refused(model_type: str, path: str) -> str:
    """Why LoRA on this module of such a model has no form in PEFT; "" where it has one."""
    leaf = path.rpartition(".")[2]
    if f"{model_type}.{leaf}" in _UNCALLED:
        return (
            f"{path}: transformers reads its weight without calling it in {model_type} models, so "
            "that LoRA on it does nothing there"
        )
    if model_type not in FUSED_TYPES or leaf not in FUSED_NAMES:
        return ""
    return (
        f"{path}: PEFT takes no LoRA on it in {model_type} models, whose fused kernel reads its "
        "weight without calling it"
    )
