"""llama.cpp in a process of its own, because bad input aborts the process that it runs in.

    python -m livery.engines.llamacpp.child      # started by llamacpp_process

One JSON object a line comes in, one a line goes out; the first says what to load:

    {"model": F.gguf, "adapter": F.gguf or null, "context": tokens, "exact": bool}
    -> {"vocabulary": V, "trained_context": tokens, "context": tokens, "device": str}
    {"do": "write", "prompt": [ids], "max_tokens": n, "top": k, "scale": 0 or 1}
    -> {"count": n, "steps": [STEP]}
    {"do": "next", "prompt": [ids], "top": k, "scale": 0 or 1, "as_if": id or null}
    -> {"step": STEP or null}
    {"do": "memory"} -> {"bytes": peak resident}

STEP is [chosen id, [ids], [log-probabilities], log-probability of the chosen id], the likeliest
ids first. "write" answers greedily and may leave out the steps of tokens that end amid a character,
so `count` is what to hold `steps` against. "next" tells one position whatever its token: another
one is sampled, and log-probabilities are those before the bias that makes it so. With "as_if" that
is the token whose log-probability is asked for.

"exact" computes as near to float32 as llama.cpp does: float32 keys and values, no flash attention,
no repacked weights, no GPU, nothing cached.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import signal
import sys
import urllib.request
from pathlib import Path
from typing import IO, Any

from livery.resident import peak_resident

# Below this a second thread costs more in waiting than it saves, and llama.cpp's threads wait
# actively: one that gets no core holds up all others (a busy machine was 500 times slower).
SMALL_MODEL = 100_000_000
BATCH = 512
WARNINGS = 2  # llama.cpp's level: what it says on stderr
BIAS = 1000.0


def main() -> None:
    # What llama.cpp prints to stdout goes to stderr; the answers have the channel for themselves.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    requests = sys.stdin
    llama = Llama(json.loads(requests.readline()))
    _send(channel, llama.facts())
    for line in requests:
        _send(channel, llama.answer(json.loads(line)))


def _send(channel: IO[str], value: dict[str, Any]) -> None:
    channel.write(json.dumps(value) + "\n")
    channel.flush()


class Llama:
    """One model, loaded."""

    def __init__(self, job: dict[str, Any]) -> None:
        xllamacpp: Any = importlib.import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = job["model"]
        if job["adapter"]:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(job["adapter"], 1.0)]
        devices = [d for d in xllamacpp.get_device_info() if "GPU" in str(d["type"])]
        self._device = devices[0]["description"] if devices and not job["exact"] else "cpu"
        self._exact = bool(job["exact"])
        self._adapter = bool(job["adapter"])
        self._key = secrets.token_hex()
        threads = _threads(Path(job["model"]))
        params.api_keys = [self._key]
        params.n_ctx, params.n_parallel = int(job["context"]), 1
        params.n_batch = params.n_ubatch = BATCH
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.swa_full = True  # else the keys and values of a prompt's beginning are not kept
        params.cache_ram_mib = 0
        params.fit_params = self._device != "cpu"
        params.warmup = False
        params.verbosity = WARNINGS
        if self._exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type(0)
            params.flash_attn_type = xllamacpp.llama_flash_attn_type(0)
            params.no_extra_bufts = True
            params.n_gpu_layers = 0
            params.no_op_offload = params.no_kv_offload = True
        self._server: Any = xllamacpp.Server(params)
        self._filler = int(self._ask("/tokenize", {"content": "a", "add_special": False})
                           ["tokens"][-1])  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What was loaded."""
        meta = self._ask("/v1/models")["data"][0]["meta"]
        return {
            "vocabulary": meta["n_vocab"],
            "trained_context": meta["n_ctx_train"],
            "context": meta["n_ctx"],
            "device": self._device,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do as asked; {"error": text} where llama.cpp refuses."""
        if request["do"] == "memory":
            return {"bytes": peak_resident()}
        if request["do"] == "write":
            return self._write(request)
        return self._next(request)

    def _write(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self._complete(request, temperature=0.0, max_tokens=request["max_tokens"])
        if "error" in found:
            return {"error": found["error"]["message"]}
        return {"count": found["usage"]["completion_tokens"], "steps": _steps(found)}

    def _next(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = request["as_if"]
        token = self._filler if asked is None else asked
        found = self._complete(request, max_tokens=1, logit_bias=[[token, BIAS]])
        if "error" in found:
            return {"error": found["error"]["message"]}
        steps = _steps(found)
        if not steps:  # bytes amid a character: then the filler, and the whole vocabulary
            return {"step": None}
        return {"step": steps[0]}

    def _complete(self, request: dict[str, Any], **how: Any) -> dict[str, Any]:
        lora = {"lora": [{"id": 0, "scale": float(request["scale"])}]} if self._adapter else {}
        return self._server.handle_completions(
            {
                "prompt": request["prompt"],
                "logprobs": request["top"],
                "cache_prompt": not self._exact,
                **lora,
                **how,
            }
        )

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The server's own endpoints, which the package has no function for."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        asked = urllib.request.Request(self._server.listening_address + path, data, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)


def _steps(found: dict[str, Any]) -> list[list[Any]]:
    """A STEP a position."""
    (choice,) = found["choices"]
    content = (choice.get("logprobs") or {}).get("content") or []
    steps: list[list[Any]] = []
    for entry in content:
        top = sorted(entry["top_logprobs"], key=lambda one: (-one["logprob"], one["id"]))
        # A bias may have chosen a token that is not among the likeliest: it is told all the same.
        steps.append(
            [
                entry["id"],
                [one["id"] for one in top],
                [one["logprob"] for one in top],
                entry["logprob"],
            ]
        )
    return steps


def _threads(model: Path) -> int:
    """OMP_NUM_THREADS where it is set; else one for a small model, every core for others."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    if model.is_file() and model.stat().st_size < SMALL_MODEL:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
