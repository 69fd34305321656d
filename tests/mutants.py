"""Mutants: small faults put into the code one by one, each of which named tests must notice.

    python -m tests.mutants              # all of them, in a copy; half an hour
    python -m tests.mutants lock norm    # those whose name holds one of these words

Run by hand before a release. A mutant that its tests let live, one whose tests fail without it, and
one whose text is no longer in the code are reported, and the exit code is 1. That each text is there
is also a test of its own, `tests/test_mutants.py`; code may move to another file of its room.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LEFT_OUT = (".git", ".venv", ".pytest_cache", ".ruff_cache", "adapters", "shared")  # of the root
# Of a processor, so that a busy machine kills nothing: a mutant that never ends is killed by it.
SECONDS = 300
WAITING = 3600  # by the clock: one that waits for something is told of


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `tests` (arguments of pytest) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # -- configuration and files of rows
    Mutant("the embedded base's configuration for every model", "livery/config/layers.py",
           "if ours.is_file() and is_embedded(model)", "if ours.is_file()",
           "tests/config/test_config.py -k embedded_base_alone"),
    Mutant("a blank stretch counts a line too many", "livery/dataset/raw.py",
           '- whole.count(b"\\r\\n")', "", "tests/dataset/test_raw.py -k lines"),
    Mutant("a carriage return ends a line before its newline", "livery/dataset/raw.py",
           'data.rfind(b"\\r", 0, -1)', 'data.rfind(b"\\r")',
           "tests/dataset/test_raw.py -k lines"),
    Mutant("nulls of a schema stay in rows", "livery/dataset/raw.py",
           "for k, v in value.items() if v is not None}", "for k, v in value.items()}",
           "tests/dataset/test_raw.py -k nulls"),
    Mutant("bombs unpack to their end", "livery/dataset/raw.py",
           "if packed and total > most:", "if packed and total > most**9:",
           "tests/dataset/test_raw.py -k bombs"),
    Mutant("an array's faults have no line", "livery/dataset/raw.py",
           'self.line += self.text.count("\\n", self.at, end)', "pass",
           "tests/dataset/test_raw.py -k 'broken_row or read_on'"),
    # -- data and plan
    Mutant("loss mask reaches back over the prompt", "livery/training/plan.py",
           "example.supervised[start + 1 :]", "example.supervised[start:-1]",
           "tests/training/test_plan.py"),
    Mutant("prefix takes the last prompt token", "livery/training/plan.py",
           "max(0, e.prompt_length - 1)", "e.prompt_length", "tests/training/test_plan.py"),
    Mutant("digest without the mask", "livery/dataset/load.py",
           "total.update(np.packbits(example.supervised).tobytes())", "pass",
           "tests/dataset/test_encode.py -k digest_of"),
    Mutant("order does not depend on the seed", "livery/training/plan.py",
           "np.random.default_rng([self.seed, epoch])", "np.random.default_rng([0, epoch])",
           "tests/training/test_plan.py -k seed"),
    Mutant("leaks: a near case passes", "livery/dataset/leaks.py", "if share >= NEAR]",
           "if share >= 1]", "tests/datagen/test_datagen_check.py"),
    Mutant("leaks: a case has too few signs", "livery/dataset/leaks.py", "math.ceil(NEAR * len(held)) + 1",
           "math.ceil(NEAR * len(held)) - 1", "tests/datagen/test_datagen_check.py"),
    Mutant("skills: tools of a case are not offered", "eval/runner.py",
           "engine.prompt(messages, case.tools)", "engine.prompt(messages)",
           "tests/skills/test_own_skill.py -k conversations"),
    Mutant("skills: like families are split", "datagen/own.py", "parent[other] = root(family)", "pass",
           "tests/skills/test_own_skill.py -k give_each_other"),
    Mutant("skills: rows near held-out ones are trained on", "datagen/own.py",
           "and not near_held(_text(example))", "", "tests/skills/test_own_skill.py -k hand_written"),
    Mutant("skills: a fault has no line", "livery/skills/module.py",
           'place = f"{file}:{line}"\n        return', "place = str(file)\n        return", "tests/skills/test_own_skill.py -k fault"),
    Mutant("metrics: lower is never better", "eval/stats.py",
           '(difference > 0) == (metric.better == "higher")', "difference > 0",
           "tests/eval/test_eval_runner.py -k metrics_have"),
    Mutant("grammar of a prompt is passed over", "livery/engines/token_engine.py",
           "[prompt.grammar or decoding.grammar for", "[decoding.grammar for",
           "tests/engines/test_prompt_grammars.py"),
    # -- sampling
    Mutant("noise does not depend on the seed", "livery/engines/answers.py",
           "[seed % 2**63, *at]", "[0, *at]", "tests/engines/test_sampling.py -k of_its_place"),
    Mutant("noise does not depend on the place", "livery/engines/answers.py",
           "[seed % 2**63, *at]", "[seed % 2**63]", "tests/engines/test_sampling.py -k of_its_place"),
    Mutant("one place's noise is another's moved along", "livery/engines/answers.py",
           "+ keys[:, 1:]", "+ 0 * keys[:, 1:]", "tests/engines/test_sampling.py -k moved_along"),
    Mutant("noise is not Gumbel's", "livery/engines/answers.py", "return -log(-log(",
           "return log(-log(", "tests/engines/test_sampling.py -k of_its_place"),
    Mutant("the nucleus leaves out the token that reaches the share", "livery/engines/answers.py",
           "np.cumsum(shares, -1) - shares < top_p", "np.cumsum(shares, -1) < top_p",
           "tests/engines/test_sampling.py -k smallest_set"),
    Mutant("rows of a batch are seeded by their place in it", "livery/engines/answers.py",
           "(self.rows[row], len(tokens))", "(row, len(tokens))",
           "tests/engines/test_engines.py -k depend_on_the_batch"),
    Mutant("llama.cpp's noise forgets the temperature", "livery/engines/llamacpp/decode.py",
           "decoding.seed, *at) * decoding.temperature", "decoding.seed, *at)",
           "tests/engines/test_sampling.py -k same_on_every_engine"),
    # -- the loop
    Mutant("each step takes the next one's batches", "livery/training/loop.py",
           "self.plan.step(step - 1)", "self.plan.step(step)",
           "tests/training/test_loop.py -k plans_first"),
    Mutant("best weights are not saved", "livery/training/loop.py",
           "            self._save(step)  # last", "            pass  # last",
           "tests/training/test_loop.py -k best_weights"),
    Mutant("logs are not cut on resuming", "livery/training/resume.py",
           "    _cut_logs(folder, backend, found.state.step)\n", "",
           "tests/training/test_loop.py -k stopped_dead"),
    Mutant("warm-up is left out", "livery/training/numerics.py", "if step <= warm:", "if step < 0:",
           "tests/training/test_schedule.py"),
    Mutant("the last step's rate is not the least", "livery/training/numerics.py",
           "(step - warm - 1) / max(1, total - warm)", "(step - warm) / max(1, total - warm)",
           "tests/training/test_schedule.py"),
    # -- checkpoints and the run's folder
    Mutant("prune keeps the oldest", "livery/training/checkpoint.py", "*whole[-keep:]", "*whole[:keep]",
           "tests/training/test_checkpoint.py -k prun"),
    Mutant("prune counts what cannot be read", "livery/training/checkpoint.py",
           "if is_whole(folder(run, step))]", "]", "tests/training/test_checkpoint.py -k prun"),
    Mutant("prune counts what is ahead", "livery/training/checkpoint.py",
           "if now is None or step <= now]", "]", "tests/training/test_checkpoint.py -k ahead"),
    Mutant("a later format is passed over", "livery/training/checkpoint.py",
           "        except OtherFormat:\n            raise\n", "",
           "tests/training/test_checkpoint.py -k later"),
    Mutant("damage is not seen", "livery/training/checkpoint.py",
           'if sha256(tensors_path) != facts["sha256"]:', "if False:",
           "tests/training/test_checkpoint.py -k damaged"),
    Mutant("two holders of a folder", "livery/training/run_lock.py",
           "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
           "tests/training/test_run_folder.py -k 'hold or alone'"),
    Mutant("a lock on a file that is gone", "livery/training/run_lock.py",
           "if os.path.samestat(place.stat(), os.fstat(handle)):\n                return handle",
           "return handle",
           "tests/training/test_run_folder.py -k is_gone"),
    Mutant("starting over removes what no run wrote", "livery/training/run_folder.py",
           "    if not (folder / RUN_CONFIG).exists():\n        return\n", "",
           "tests/training/test_run_folder.py -k not_emptied"),
    # -- files
    Mutant("a file is written in its place", "livery/files.py",
           "fresh, lock = temporary.new_file(path)",
           "fresh, lock = path, os.open(path, os.O_RDWR | os.O_CREAT)",
           "tests/training/test_checkpoint.py -k old_or_new"),
    Mutant("a living process's files are cleaned", "livery/temporary.py",
           "            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            found =",
           "            found =", "tests/livery/test_temporary.py -k never_a_living"),
    Mutant("a killed process's files stay", "livery/temporary.py",
           "    for leftover in find(folder, sizes=False):\n        remove(leftover.path)\n",
           "    pass\n", "tests/livery/test_temporary.py -k 'killed_one or exchange'"),
    Mutant("what was set aside is deleted", "livery/temporary.py",
           "if not os.path.lexists(place):", "if False:", "tests/livery/test_temporary.py -k exchange"),
    Mutant("overwrite takes a folder that is read", "livery/outputs.py",
           "        if place in read.parents:", "        if False:",
           "tests/livery/test_outputs.py -k is_read"),
    Mutant("overwrite takes what somebody added", "livery/outputs.py",
           "        if name not in written or", "        if name in written and",
           "tests/livery/test_outputs.py -k somebody"),
    Mutant("a full disk is not told", "livery/files.py",
           "        if is_full_disk(error):\n", "        if False:\n",
           "tests/training/test_checkpoint.py -k full_disk"),
    # -- arithmetic
    Mutant("MLX's norm in one running sum", "mlx_train/adamw.py", "sum_last(squared)",
           "mx.sum(squared)", "tests/mlx_train/test_sums.py -k mlx_clips"),
    Mutant("torch's norm in float32", "cuda_train/optim.py",
           "vector_norm(vector, dtype=torch.float64)", "vector_norm(vector)",
           "tests/mlx_train/test_sums.py -k torch_clips"),
    Mutant("MLX's vocabulary in one running sum", "mlx_train/loss.py",
           "sum_last(exponentials)[:, None]", "exponentials.sum(axis=-1, keepdims=True)",
           "tests/mlx_train/test_sums.py -k vocabulary"),
    Mutant("rows dealt to streams stay in the streams' order", "mlx_train/loss.py",
           "rows if inputs.order is None else rows[inputs.order]", "rows",
           "tests/training/test_objective.py -k streams"),
    Mutant("pairs are parted", "livery/training/plan.py", "reshape(-1, batch.group)",
           "reshape(-1, 1)", "tests/training/test_objective.py -k parted"),
    Mutant("rows are not weighed", "livery/training/numerics.py", "-(rows.weights * rows.logprobs)",
           "-rows.logprobs", "tests/training/test_objective.py -k weighs_rows"),
    Mutant("constants of a micro-batch stay behind", "livery/training/plan.py",
           "{name: values[rows] for name, values in batch.constants.items()}", "batch.constants",
           "tests/training/test_objective.py -k parted"),
    Mutant("padding of a row is one of its log-probabilities on MLX", "mlx_train/loss.py",
           "mx.concatenate([losses, mx.zeros((1,))])", "mx.concatenate([losses, losses[:1]])",
           "tests/training/test_objective.py -k 'on_mlx and whole'"),
    Mutant("torch sums log-probabilities over columns", "cuda_train/loss.py", "-spread.sum(dim=1)",
           "-spread.sum(dim=0)", "tests/training/test_objective.py -k 'on_torch and tree'"),
    Mutant("a step is divided by tokens whatever its objective", "mlx_train/backend.py",
           "sum(self.objective.count(batch) for", "sum(batch.supervised for",
           "tests/training/test_objective.py -k 'on_mlx and whole'"),
    # -- the check before a run, and what it needs of memory
    Mutant("the self-check holds gradients alone", "livery/training/self_check.py",
           "worst <= tolerance and loss_difference <= tolerance", "worst <= tolerance",
           "tests/training/test_self_check.py"),
    Mutant("the self-check holds the loss alone", "livery/training/self_check.py",
           "worst <= tolerance and loss_difference <= tolerance", "loss_difference <= tolerance",
           "tests/training/test_self_check.py"),
    Mutant("the self-check takes rounding of small gradients for a fault",
           "livery/training/self_check.py", "share = apart / max(norm, floor)",
           "share = apart / max(norm, 1e-12)", "tests/training/test_self_check.py"),
    Mutant("the self-check measures against the whole gradient", "livery/training/self_check.py",
           "floor = _SMALL * math.hypot", "floor = math.hypot", "tests/training/test_self_check.py"),
    Mutant("the self-check compares rows with their padding", "livery/training/self_check.py",
           "plain(_take(batch, np.array([row]), int(batch.lengths[row])))",
           "plain(_take(batch, np.array([row])))", "tests/training/test_self_check.py"),
    Mutant("the self-check allows anything in float32", "livery/training/self_check.py",
           "_EXACT = 1e-3", "_EXACT = 0.1", "tests/training/test_self_check.py"),
    Mutant("rounding is allowed for whatever the depth", "livery/training/self_check.py",
           "_ROUNDING[dtype] * math.sqrt(max(1, blocks))", "_ROUNDING[dtype] * 3.0",
           "tests/training/test_self_check.py"),
    Mutant("what pads a recorded step weighs", "cuda_train/graphs.py",
           '"weights": functional.pad(weights, (0, more)),',
           '"weights": functional.pad(weights, (0, more), value=1.0),',
           "tests/cuda_train/test_torch_graphs.py -k 'gradients or padding'"),
    Mutant("a recorded step's padding stands in a row", "cuda_train/graphs.py",
           "functional.pad(laid.branch, (0, after), value=len(batch.lengths))",
           "functional.pad(laid.branch, (0, after), value=-1)",
           "tests/cuda_train/test_torch_graphs.py -k padding"),
    Mutant("trees come in all lengths on a CPU", "cuda_train/body.py",
           'return device.type in ("cpu", "cuda")', "return False",
           "tests/cuda_train/test_torch_loss.py -k few_shapes"),
    Mutant("supervised tokens count as all tokens", "livery/training/plan.py",
           "return len(self.prefix) * len(self.lengths) + int(self.lengths.sum())",
           "return self.supervised", "tests/training/test_loop.py -k both_rates"),
    Mutant("a path stands in the report of a proof", "commands/prove/report.py",
           'text = _PATH.sub("PATH", text)', "pass", "tests/commands/test_prove.py -k paths"),
    Mutant("experts are counted as one matrix", "livery/training/footprint.py",
           "self.experts * 3 * self.hidden", "self.experts * self.hidden",
           "tests/training/test_footprint.py"),
    Mutant("all layers count, however few are adapted", "livery/training/footprint.py",
           "return self.layers if lora.num_layers < 1 else min(lora.num_layers, self.layers)",
           "return self.layers", "tests/training/test_footprint.py"),
    Mutant("a remedy is named that does not fit", "livery/training/forecast.py",
           "                if total <= room:\n                    alone",
           "                if total <= 2 * room:\n                    alone",
           "tests/cuda_train/test_torch_memory.py -k every_remedy"),
    Mutant("remedies together are named that do not fit", "livery/training/forecast.py",
           "                if total <= room:\n                    return",
           "                if total <= 2 * room:\n                    return",
           "tests/cuda_train/test_torch_memory.py -k every_remedy"),
    # -- the step
    Mutant("clipping is left out on MLX", "mlx_train/adamw.py", "if self.max_norm > 0:",
           "if False:", "tests/mlx_train/test_sums.py -k mlx_clips"),
    Mutant("8-bit moments begin at step 0", "cuda_train/optim.py",
           'state["step"] = step\n', 'state["step"] = 0\n', "tests/cuda_train/test_torch_optim.py"),
    # -- adapters and formats
    Mutant("scale is alpha", "livery/adapter.py",
           "return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)",
           "return self.alpha", "tests/livery/test_adapter.py tests/commands/test_convert_cli.py"),
    Mutant("rslora divides by the rank", "livery/adapter.py",
           "(math.sqrt(self.rank) if self.rslora else self.rank)", "self.rank",
           "tests/livery/test_adapter.py tests/convert/test_convert_roundtrip.py"),
    Mutant("q and k are not permuted", "livery/gguf_base/architectures.py",
           "    return split.swapaxes(1, 2).reshape(rows.shape)\n\n\ndef unpermute",
           "    return rows\n\n\ndef unpermute",
           "tests/convert/test_gguf_rope.py tests/convert/test_convert_roundtrip.py"),
    Mutant("ministral3's q and k are not permuted", "livery/gguf_base/architectures.py",
           '"MISTRAL3", (*_ATTENTION, *_GATED), True', '"MISTRAL3", (*_ATTENTION, *_GATED), False',
           "tests/convert/test_gguf_families.py -k 'model_and_adapter and ministral3'"),
    Mutant("LoRA that llama.cpp passes over is written", "convert/gguf/names.py",
           "if inner in architecture.passed_over:", "if False:",
           "tests/convert/test_gguf_adapters.py -k passes_over"),
    Mutant("experts' products that llama.cpp leaves unscaled are written", "convert/gguf/names.py",
           "if inner in architecture.scaled:", "if False:",
           "tests/convert/test_gguf_adapters.py -k 'gemma4'"),
    Mutant("value heads stay in their order", "livery/gguf_base/architectures.py", ".reshape(keys, values // keys).T.reshape(-1)",
           "", "tests/convert/test_gguf_families.py -k 'model_and_adapter and qwen3_5'"),
    Mutant("a merge forgets the scale", "convert/merge/changes.py",
           "scale = pair.scale * weight", "scale = weight",
           "tests/convert/test_convert_merge.py -k 'merged_logits and llama'"),
    Mutant("the last pattern wins", "convert/adapters/peft_patterns.py",
           "default=len(self._values))", "default=len(self._values)) + 1",
           "tests/convert/test_adapter_input.py -k first_pattern"),
    Mutant("blocks of the first rows for all", "convert/merge/quantized_bnb.py",
           "at = begin // self.block", "at = 0",
           "tests/convert/test_merge_dequantize.py -k from_the_middle"),
    Mutant("vLLM refuses a rank of its limit", "convert/check/vllm.py",
           "max(ranks) <= case.max_lora_rank", "max(ranks) < case.max_lora_rank",
           "tests/convert/test_check.py -k rank_of_max"),
    Mutant("torch loads a head that is not the embedding", "livery/engines/torch/load.py",
           "    check_weights(read_config(path), path)\n", "    read_config(path)\n",
           "tests/livery/test_weights.py -k 'is_said_to_be and torch'"),
    Mutant("a merge copies a head that is not the embedding", "convert/base.py",
           "    check_weights(config, base.folder)\n", "",
           "tests/livery/test_weights.py -k 'is_said_to_be and merge'"),
    # -- scores
    Mutant("Wilson's interval is the textbook's", "eval/stats.py",
           "middle = (share + spread / 2) / (1 + spread)", "middle = share",
           "tests/eval/test_eval_stats.py"),
    Mutant("McNemar's p is not the mid-p", "eval/stats.py",
           "return (2 * below + here) / 2**changed", "return (2 * below + 2 * here) / 2**changed",
           "tests/eval/test_eval_stats.py"),
    # -- jobs
    Mutant("a step that was killed is not started again", "livery/serve/jobs/steps.py",
           "return one.code is None or _by_signal(one.code)", "return False",
           "tests/serve/test_jobs_attend.py -k killed_process"),
    Mutant("only the wrapper of a step holds its lock", "livery/serve/jobs/child.py",
           "pass_fds=locks", "pass_fds=()", "tests/serve/test_jobs_attend.py -k wrapper_was"),
    Mutant("what a step leaves running stays", "livery/serve/jobs/child.py",
           "os.killpg(os.getpgid(0), signal.SIGKILL)", "pass",
           "tests/serve/test_jobs_attend.py -k leaves_running"),
    Mutant("a pause is asked for again and again", "livery/serve/jobs/process.py",
           ".touch(exist_ok=False)", ".touch()", "tests/serve/test_jobs_attend.py -k pause"),
    Mutant("a restart of the machine is an attempt", "livery/serve/jobs/attend.py",
           "one.boot != process.boot()", "False",
           "tests/serve/test_jobs_attend.py -k restarted"),
    Mutant("an older adapter makes way while the job waits", "livery/serve/jobs/attend.py",
           "def claim() -> list[str]:",
           "steps.make_way(layout, job, request)\n\n    def claim() -> list[str]:",
           "tests/serve/test_jobs_attend.py -k older_adapter"),
]  # fmt: skip


def place(mutant: Mutant, root: Path = ROOT) -> Path | None:
    """The one file that holds the mutant's text once: its own, else another of that package."""
    package = Path(mutant.file).parts[0]
    for path in (root / mutant.file, *sorted((root / package).rglob("*.py"))):
        if path.is_file() and path.read_text(encoding="utf-8").count(mutant.old) == 1:
            return path
    return None


def main(words: list[str]) -> int:
    """Run the mutants whose names hold one of `words` (all without); returns the exit code."""
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    verdicts = {
        v: list[str]() for v in ("killed", "SURVIVED", "FAILS ANYWAY", "WAITS", "NO SUCH TEXT")
    }
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copy = Path(scratch) / "livery"
        shutil.copytree(ROOT, copy, ignore=_left_out)
        healthy: dict[str, tuple[int | None, str]] = {}  # tests of the code as it is
        for mutant in chosen:
            began = time.monotonic()
            if mutant.tests not in healthy:
                healthy[mutant.tests] = _outcome(mutant.tests, copy)
            code, fault = healthy[mutant.tests]
            verdict, by = _try(mutant, copy) if code == 0 else ("FAILS ANYWAY", fault or str(code))
            verdicts[verdict].append(mutant.name)
            taken = time.monotonic() - began
            print(f"{verdict:<13} {taken:5.0f} s  {mutant.name}{by and '  by ' + by}", flush=True)
    print(", ".join(f"{len(names)} {verdict}" for verdict, names in verdicts.items()))
    return 0 if len(verdicts["killed"]) == len(chosen) else 1


def _try(mutant: Mutant, copy: Path) -> tuple[str, str]:
    """The verdict, and the test that killed it."""
    file = place(mutant, copy)
    if file is None:
        return "NO SUCH TEXT", ""
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        outcome, by = _outcome(mutant.tests, copy)
    finally:
        file.write_text(text, encoding="utf-8")
    if outcome is None:
        return "WAITS", ""
    if outcome == -signal.SIGXCPU:
        return "killed", f"a test of more than {SECONDS} s"
    return ("killed", by) if outcome == 1 else ("SURVIVED", "")


def _outcome(tests: str, copy: Path) -> tuple[int | None, str]:
    """(pytest's exit code, the test that failed). The code is 0 where all passed, 1 where one
    failed, others where none could be run, minus a signal's number where it was killed; None where
    it still waited after an hour."""
    base = copy.parent / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-x", f"--basetemp={base}", "-p",
               "no:cacheprovider", *shlex.split(tests)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=WAITING,
            check=False, preexec_fn=_limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, ""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return ended.returncode, failed[0] if failed else ""


def _left_out(folder: str, names: list[str]) -> list[str]:
    """What is not copied. (convert/adapters is, which is called as the root's folder of runs.)"""
    of_root = LEFT_OUT if Path(folder) == ROOT else ()
    return [name for name in names if name in of_root or name == "__pycache__"]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 10))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
