"""Runs llama.cpp in a process of its own (a bad adapter aborts it): one JSON job in, one out.

    {"model": F.gguf, "adapter": F.gguf or null, "prompts": [[ids]], "texts": [str], "vocab": V}
    -> {"base": [[V floats]], "adapted": [[V floats]], "tokens": [[ids]]}

"base" and "adapted" are log-probabilities of the token after each prompt, with the adapter's scale
at 0 and at 1.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

from tests import PATIENCE


def main() -> None:
    import xllamacpp

    job = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    if job.get("adapter"):
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(job["adapter"], 1.0)]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = job.get("n_ctx", 256), 1, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type(0)
    params.flash_attn_type = xllamacpp.llama_flash_attn_type(0)
    params.no_extra_bufts = True
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    prompts, texts = job.get("prompts", []), job.get("texts", [])
    scales = {"base": 0.0, "adapted": 1.0} if job.get("adapter") else {"base": 0.0}
    result: dict[str, Any] = {
        name: [next_logprobs(server, prompt, job["vocab"], scale) for prompt in prompts]
        for name, scale in scales.items()
    }
    result["tokens"] = [tokenize(server, text) for text in texts]
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # stdout is llama.cpp's log
        json.dump(result, file)


def next_logprobs(server: Any, prompt: list[int], vocab: int, scale: float) -> list[float]:
    """Log-probabilities over the whole vocabulary, with the adapter at `scale`."""
    request = {
        "prompt": prompt,
        "max_tokens": 1,
        "logprobs": vocab,
        "logit_bias": [[10, 1000.0]],  # sampled, so that no end token hides the answer
        "cache_prompt": False,
        "lora": [{"id": 0, "scale": scale}],
    }
    answer = server.handle_completions(request)
    (choice,) = answer["choices"]
    (step,) = choice["logprobs"]["content"]
    found = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
    return [found[token] for token in range(vocab)]


def tokenize(server: Any, text: str) -> list[int]:
    body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
    request = urllib.request.Request(
        f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["tokens"]


if __name__ == "__main__":
    main()
