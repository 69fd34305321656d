"""Runs llama.cpp in processes of its own (a bad adapter aborts them): `answer(folder, **job)`.

    {"model": F.gguf, "adapter": F.gguf or null, "prompts": [[ids]], "texts": [str], "vocab": V}
    -> {"base": [[V floats]], "adapted": [[V floats]], "tokens": [[ids]]}

"base" and "adapted" are log-probabilities of the token after each prompt, with the adapter's scale
at 0 and at 1. All jobs are forked from one process that has loaded the library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from tests import PATIENCE, ROOT


def answer(folder: Path, **job: Any) -> tuple[dict[str, Any] | None, str]:
    """What llama.cpp says to a job, None where its process ended badly, and the end of its log."""
    process = _waiting()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"folder": str(folder), **job}) + "\n")
    process.stdin.flush()
    code = int(process.stdout.readline())
    log = (folder / "answer.log").read_text(encoding="utf-8", errors="replace")[-2000:]
    return (json.loads((folder / "answer.json").read_text()) if code == 0 else None), log


@cache
def _waiting() -> subprocess.Popen[str]:
    """The process that jobs are forked from; it ends with this one, whose pipe it reads."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engines.llamacpp_child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def main() -> None:
    """Read jobs, a line each; print the exit status of each."""
    import xllamacpp  # noqa: F401  # pyright: ignore[reportUnusedImport]

    for line in sys.stdin:
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        job = json.loads(line)
        log = os.open(Path(job["folder"]) / "answer.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = 1
        try:
            one(job)
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)


def one(job: dict[str, Any]) -> None:
    """Do a job; the answer lands in its folder's answer.json."""
    import xllamacpp

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
    (Path(job["folder"]) / "answer.json").write_text(json.dumps(result))


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
