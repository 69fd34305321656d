"""Mutants: small faults put into the code one by one, each of which named tests must notice.

    python -m tests.mutants              # all of them, in a copy; a quarter of an hour
    python -m tests.mutants lock norm    # those whose name holds one of these words

Run by hand before a release. A mutant that its tests let live, and one whose text is no longer in
the code, are reported, and the exit code is 1.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LEFT_OUT = (".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "adapters", "shared")
SECONDS = 300  # a mutant that never ends counts as killed


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `tests` (arguments of pytest) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # -- configuration
    Mutant("the embedded base's configuration for every model", "livery/config/layers.py",
           "if ours.is_file() and is_embedded(model)", "if ours.is_file()",
           "tests/config/test_config.py -k embedded_base_alone"),
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
           "engine.prompt(case.messages, case.tools)", "engine.prompt(case.messages)",
           "tests/skills/test_own_skill.py -k conversations"),
    Mutant("skills: like families are split", "datagen/own.py", "parent[other] = root(family)", "pass",
           "tests/skills/test_own_skill.py -k give_each_other"),
    Mutant("skills: rows near held-out ones are trained on", "datagen/own.py",
           "and not near_held(_text(example))", "", "tests/skills/test_own_skill.py -k hand_written"),
    Mutant("skills: a fault has no line", "livery/skills/module.py", 'place = f"{file}:{line}"',
           "place = str(file)", "tests/skills/test_own_skill.py -k fault"),
    Mutant("metrics: lower is never better", "eval/stats.py",
           '(difference > 0) == (metric.better == "higher")', "difference > 0",
           "tests/eval/test_eval_runner.py -k metrics_have"),
    Mutant("grammar of a prompt is passed over", "livery/engines/token_engine.py",
           "[prompt.grammar or decoding.grammar for", "[decoding.grammar for",
           "tests/engines/test_prompt_grammars.py"),
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
    Mutant("two holders of a folder", "livery/training/run_folder.py",
           "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
           "tests/training/test_run_folder.py -k 'hold or alone'"),
    Mutant("a lock on a file that is gone", "livery/training/run_folder.py",
           "if os.path.samestat(place.stat(), os.fstat(handle)):", "if True:",
           "tests/training/test_run_folder.py -k is_gone"),
    Mutant("beginning anew removes what no run wrote", "livery/training/run_folder.py",
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
    Mutant("q and k are not permuted", "convert/gguf/names.py",
           "    return split.swapaxes(1, 2).reshape(rows.shape)\n\n\ndef unpermute",
           "    return rows\n\n\ndef unpermute",
           "tests/convert/test_gguf_rope.py tests/convert/test_convert_roundtrip.py"),
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
    # -- scores
    Mutant("Wilson's interval is the textbook's", "eval/stats.py",
           "middle = (share + spread / 2) / (1 + spread)", "middle = share",
           "tests/eval/test_eval_stats.py"),
    Mutant("McNemar's p is not the mid-p", "eval/stats.py",
           "return (2 * below + here) / 2**changed", "return (2 * below + 2 * here) / 2**changed",
           "tests/eval/test_eval_stats.py"),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Run the mutants whose names hold one of `words` (all without); returns the exit code."""
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    verdicts: dict[str, list[str]] = {"killed": [], "SURVIVED": [], "NO SUCH TEXT": []}
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copy = Path(scratch) / "livery"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for mutant in chosen:
            began = time.monotonic()
            verdict = _try(mutant, copy)
            verdicts[verdict].append(mutant.name)
            print(f"{verdict:<13} {time.monotonic() - began:5.0f} s  {mutant.name}", flush=True)
    print(", ".join(f"{len(names)} {verdict}" for verdict, names in verdicts.items()))
    return 0 if len(verdicts["killed"]) == len(chosen) else 1


def _try(mutant: Mutant, copy: Path) -> str:
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if text.count(mutant.old) < 1:
        return "NO SUCH TEXT"
    file.write_text(text.replace(mutant.old, mutant.new, 1), encoding="utf-8")
    try:
        return "SURVIVED" if _pass(mutant.tests, copy) else "killed"
    finally:
        file.write_text(text, encoding="utf-8")


def _pass(tests: str, copy: Path) -> bool:
    base = copy.parent / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-x", f"--basetemp={base}", "-p",
               "no:cacheprovider", *shlex.split(tests)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if ended.returncode not in (0, 1):  # 1: a test failed; others: none ran
        said = ended.stdout.decode(errors="replace")[-600:]
        print(f"              pytest ended with {ended.returncode}: {said.strip()}", flush=True)
        return True
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
