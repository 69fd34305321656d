"""Which architectures take LoRA in vLLM: its own list of supported models, of the time of 0.33.

The names are those of config.json's `architectures`. One that is in neither set is not known here:
vLLM may still run it by way of transformers, with LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

VERSION = "0.33"

WITH = frozenset(
    """
    BailingMoeForCausalLM BailingMoeV2ForCausalLM ChatGLMModel ChatGLMForConditionalGeneration
    CohereForCausalLM Cohere2ForCausalLM Cohere2MoeForCausalLM CwmForCausalLM DeciLMForCausalLM
    DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM DeepseekV32ForCausalLM
    Ernie4_5ForCausalLM Ernie4_5_MoeForCausalLM ExaoneForCausalLM Exaone4ForCausalLM
    FalconH1ForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Gemma4ForCausalLM
    GlmForCausalLM Glm4ForCausalLM Glm4MoeForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM
    GptOssForCausalLM GraniteForCausalLM GraniteMoeForCausalLM GraniteMoeHybridForCausalLM
    GraniteMoeSharedForCausalLM HunYuanDenseV1ForCausalLM HunYuanMoEV1ForCausalLM HYV3ForCausalLM
    InternLM2ForCausalLM InternLM3ForCausalLM JambaForCausalLM Lfm2ForCausalLM Lfm2MoeForCausalLM
    LlamaForCausalLM LongcatFlashForCausalLM MiMoForCausalLM MiniCPMForCausalLM
    MiniCPM3ForCausalLM MiniMaxM2ForCausalLM MistralForCausalLM MistralLarge3ForCausalLM
    MixtralForCausalLM NemotronForCausalLM NemotronHForCausalLM Olmo3ForCausalLM
    OlmoHybridForCausalLM OPTForCausalLM PhiForCausalLM Phi3ForCausalLM PhiMoEForCausalLM
    Plamo3ForCausalLM Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM
    Qwen3NextForCausalLM SeedOssForCausalLM SolarForCausalLM TeleChat2ForCausalLM
    GPTBigCodeForCausalLM OlmoForCausalLM Olmo2ForCausalLM SmolLM3ForCausalLM
    Starcoder2ForCausalLM VaultGemmaForCausalLM
    """.split()
)
WITHOUT = frozenset(
    """
    ArcticForCausalLM BailingMoeV2_5ForCausalLM BloomForCausalLM DbrxForCausalLM
    DeepseekV4ForCausalLM FalconForCausalLM RWForCausalLM FalconMambaForCausalLM
    FlexOlmoForCausalLM Gemma3nForCausalLM GPT2LMHeadModel GPTJForCausalLM GPTNeoXForCausalLM
    Jais2ForCausalLM KimiLinearForCausalLM MambaForCausalLM Mamba2ForCausalLM MPTForCausalLM
    OrionForCausalLM StableLmForCausalLM StableLMEpochForCausalLM Step3p5ForCausalLM
    Zamba2ForCausalLM
    """.split()
)


def takes_lora(config: Mapping[str, Any]) -> tuple[str, bool | None]:
    """(architecture, whether it takes LoRA) of a base's config.json; None where not known here."""
    named = config.get("architectures")
    items = cast("list[Any]", named) if isinstance(named, list) else []
    name = next((item for item in items if isinstance(item, str)), "")
    if name in WITH or name in WITHOUT:
        return name, name in WITH
    return name, None
