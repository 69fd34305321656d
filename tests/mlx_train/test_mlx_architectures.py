"""Every text family of mlx-lm that can be built here: fast loss and gradients are the plain ones.

The table below is the list of what takes the fast path; all of it does that has a cache of a kind
mlx-lm shares between families, recurrent states included. Not in it:

- bitnet: its layers exist as Metal kernels only;
- deepseek_v41: brings a cache of its own, so every row runs whole; and mlx-lm's code for it has no
  derivative (indices picked by the forward pass), so training refuses it either way;
- phixtral and, now and then, phi3small: the backward pass of mlx-lm's own code aborts the process;
- recurrent_gemma: mlx-lm's class cannot be frozen (it never initializes its base class);
- olmo and families whose configurations are large to make small (dbrx, kimi_linear, longcat_flash,
  nemotron-nas, and vision models around a family that is in the list).
"""

from __future__ import annotations

import numpy as np
import pytest

from livery.config.settings import LoraSettings, TrainSettings
from mlx_train.backend import MlxBackend
from tests.mlx_train.mlx_exact import fast, micro_batch, plain, randomize
from tests.mlx_train.mlx_families import tiny

FAMILIES = """
    Klear afm7 afmoe apertus baichuan_m1 bailing_moe bailing_moe_v3 cohere cohere2 deepseek
    deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5 ernie4_5_moe exaone exaone4 exaone_moe
    falcon_h1 gear gemma gemma2 gemma3 gemma3_text gemma4_text glm glm4 glm4_moe glm4_moe_lite
    glm_moe_dsa gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid helium
    hunyuan hunyuan_v1_dense internlm2 internlm3 iquestloopcoder jamba kimi_k25 kimi_vl laguna lfm2
    lfm2_moe lille-130m llama llama4_text mamba mamba2 mellum mimo minicpm minicpm3 minimax
    ministral3 mistral3 mistral4 mixtral muse_glimmer nanbeige nanochat nemotron nemotron_h olmo2
    olmo3 olmo_hybrid olmoe openelm phi phi3 phimoe plamo plamo2 qwen qwen2
    qwen2_moe qwen3 qwen3_5 qwen3_moe qwen3_next rwkv7 seed_oss smollm3 solar_open
    stablelm starcoder2 step3p5 youtu_llm
""".split()

BATCH = micro_batch(20, (7, 4, 9), (3, 2, 5))
# test_mlx_loss holds four families to 1e-5. Among these are some whose random weights amplify
# rounding: gemma4 was off by 4e-5 on one CPU and by less than 2e-5 on another. What goes wrong
# silently is wrong by tenths.
BOUND = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_fast_is_plain(family: str) -> None:
    settings = TrainSettings(lora=LoraSettings(rank=4, alpha=8))
    made = MlxBackend(settings, tiny(family))
    randomize(made)
    assert made.fast_path() == (True, "")
    assert made.head is not None
    (loss, ours), (expected, theirs) = fast(made, [BATCH]), plain(made, [BATCH])
    assert loss == pytest.approx(expected, rel=2e-6)
    largest = max(np.linalg.norm(slope) for slope in theirs.values())
    assert largest > 0
    for name, slope in theirs.items():
        # Some layers get no gradient in either (an indexer that picks all there is to pick).
        size = max(float(np.linalg.norm(slope)), 1e-4 * largest)
        assert np.linalg.norm(ours[name] - slope) < BOUND * size, name
    assert made.self_check(BATCH).ok


def test_a_cache_that_cannot_be_shared_is_named() -> None:
    made = MlxBackend(TrainSettings(lora=LoraSettings(rank=4)), tiny("deepseek_v41"))
    applies, reason = made.fast_path()
    assert not applies
    assert reason == (
        "deepseek_v41: its cache is a LayerCache, which cannot be shared by several rows"
    )


def test_sharing_switched_off_is_a_reason() -> None:
    settings = TrainSettings(lora=LoraSettings(rank=4), share_prefix=False)
    assert MlxBackend(settings, tiny("llama")).fast_path() == (
        False, "sharing is switched off (share_prefix)",
    )  # fmt: skip
