"""The memory estimate for torch against what the kernel measures, and the flags it advises."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import ROOT

pytest.importorskip("peft")

from cuda_train import memory
from cuda_train.backend import TorchBackend
from cuda_train.body import find_body
from cuda_train.estimate import HOLES, Step, estimate
from cuda_train.route import Shape, shape_of
from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from livery.models import EMBEDDED
from livery.resident import resident
from livery.training.footprint import BYTES, read_sizes
from livery.training.forecast import Forecast, first_epoch
from livery.training.plan import Example
from tests.cuda_train.test_torch_loss import draw
from tests.tiny_models import tiny_model

TOLERANCE = 0.25
WIDE: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4,
}  # fmt: skip
DEEP: dict[str, Any] = {
    "hidden_size": 192, "intermediate_size": 448, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"rank": 8, "targets": ["gate_proj", "up_proj", "down_proj", "q_proj"]}


@dataclass(frozen=True)
class Case:
    """A step to measure; `shape` is (prefix, rows, width, supervised of each row)."""

    family: str
    sizes: dict[str, Any]
    shape: tuple[int, int, int, int]
    route: Any
    dtype: str = "float32"
    checkpoint: bool = False
    lora: dict[str, Any] = field(default_factory=lambda: {"rank": 8})

    def peak(self, folder: str, *, checkpoint: bool) -> float:
        """Bytes that the estimate gives for the step."""
        settings = TrainSettings(lora=LoraSettings(**self.lora), grad_checkpoint=checkpoint)
        config = json.loads((Path(folder) / "config.json").read_text())
        eager = bool(config.get("attn_logit_softcapping"))
        prefix, rows, width, answers = self.shape
        shape = Shape(prefix, rows, width, rows * width, rows * answers)
        step = Step(read_sizes(config), settings, BYTES[self.dtype], eager, few_lengths=True)
        return sum(step.peak(shape, self.route))


CASES = [
    Case("llama", WIDE, (0, 4, 128, 32), "plain"),
    Case("llama", WIDE, (0, 4, 128, 32), "branches"),
    Case("llama", WIDE, (300, 8, 24, 8), "branches"),
    Case("llama", DEEP, (64, 8, 64, 16), "branches", "bfloat16"),
    Case("llama", WIDE, (300, 8, 24, 8), "tree"),
    Case("llama", WIDE, (300, 8, 24, 8), "tree", checkpoint=True),
    Case("llama", WIDE, (300, 8, 24, 8), "cache"),
    Case("llama", DEEP, (64, 8, 64, 16), "tree", "bfloat16"),
    Case("llama", DEEP, (64, 8, 64, 16), "cache", "bfloat16"),
    Case("llama", {**DEEP, "intermediate_size": 1024}, (64, 8, 32, 8), "tree", "bfloat16", True),
    Case("llama_tied", {**WIDE, "vocab_size": 8000}, (200, 8, 30, 30), "tree", checkpoint=True),
    Case("llama", WIDE, (200, 4, 30, 8), "tree", lora={"rank": 8, "dora": True}),
    Case("llama", WIDE, (200, 4, 30, 8), "tree", lora={"rank": 8, "dropout": 0.1}),
    Case("llama", WIDE, (200, 4, 30, 8), "tree", lora={"rank": 64, "targets": ["q_proj"]}),
    Case("qwen3", DEEP, (200, 4, 60, 8), "tree"),
    Case("gemma2", DEEP, (300, 8, 24, 8), "tree"),
    Case("gemma2", DEEP, (200, 8, 24, 8), "tree", "bfloat16", True),
    Case("gemma3", WIDE, (300, 8, 24, 8), "cache", "bfloat16"),
    Case("phi", {**WIDE, "num_key_value_heads": 8}, (200, 8, 24, 8), "tree"),
    Case("mixtral", DEEP, (200, 8, 24, 8), "tree"),
    Case("mixtral", DEEP, (200, 8, 24, 8), "tree", lora=EXPERTS),
    Case("qwen3_moe", DEEP, (200, 8, 24, 8), "tree", checkpoint=True, lora=EXPERTS),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's own count")
def test_the_estimate_is_near_what_the_kernel_counts(tmp_path: Path) -> None:
    found = run(tmp_path, CASES)
    off: dict[int, float] = {}
    for number, (case, got) in enumerate(zip(CASES, found, strict=True)):
        off[number] = case.peak(got["folder"], checkpoint=case.checkpoint) / got["grew"] - 1
        config = json.loads((Path(got["folder"]) / "config.json").read_text())
        settings = TrainSettings(lora=LoraSettings(**case.lora))
        guess = estimate(settings, config, [], dtype=case.dtype, folder=Path(got["folder"]))
        assert guess.weights == got["weights"], case
        if not case.lora.get("dora"):  # its magnitudes are left out, and experts
            assert guess.adapter == 24 * got["trainable"], case
    far = {f"{CASES[n]}": f"{share:+.0%}" for n, share in off.items() if abs(share) > TOLERANCE}
    assert not far, far
    # It could fail: with checkpointing taken for the other, every one is far off.
    for case, got in zip(CASES, found, strict=True):
        other = case.peak(got["folder"], checkpoint=not case.checkpoint)
        if case.route != "cache":
            assert abs(other / got["grew"] - 1) > 2 * TOLERANCE, case


def run(root: Path, cases: list[Case]) -> list[dict[str, Any]]:
    """What each step took, measured in another process."""
    environment = {
        **os.environ, "MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_MMAP_MAX_": "10000000", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    given = json.dumps([dataclasses.asdict(case) for case in cases])
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda_train.torch_memory_child", str(root), given],
        env=environment, capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


SMOL: dict[str, Any] = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the heap of glibc")
@pytest.mark.parametrize(
    ("family", "sizes", "dtype", "steps", "rows"),
    [
        ("", {}, "float32", 6, (70, 8, 60)),
        ("", {}, "bfloat16", 6, (70, 8, 60)),
        ("", {}, "float32", 3, (400, 100, 200)),
        ("llama", {}, "float32", 6, (70, 8, 60)),
        ("llama_tied", SMOL, "bfloat16", 2, (70, 8, 60)),
        ("llama_tied", SMOL, "float32", 1, (70, 8, 60)),
    ],
    ids=["embedded", "embedded-bf16", "embedded-long", "tiny", "smollm2-bf16", "smollm2"],
)
def test_a_run_on_a_cpu_takes_what_was_foretold(
    tmp_path: Path, family: str, sizes: dict[str, Any], dtype: str, steps: int,
    rows: tuple[int, int, int],
) -> None:  # fmt: skip
    """The whole process's peak, from before anything was imported."""
    model = tiny_model(family, tmp_path, **sizes) if family else EMBEDDED
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda_train.rss_child", str(model), dtype, str(steps),
         *map(str, rows)],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["foretold"] == pytest.approx(found["took"], rel=TOLERANCE), found
    # It could fail: without libraries and the heap's holes it would be far too low.
    live = found["weights"] + found["adapter"] + (found["activations"] + found["logits"]) / HOLES
    assert live < (1 - TOLERANCE) * found["took"]


def examples(rows: int = 64, length: int = 200, shared: int = 150) -> list[Example]:
    """Rows of like length that share most of their prompt."""
    rng = np.random.default_rng(0)
    first = rng.integers(5, 500, shared).astype(np.int32)
    found: list[Example] = []
    for row in range(rows):
        rest = rng.integers(5, 500, length - shared + 8 * (row % 8)).astype(np.int32)
        tokens = np.concatenate([first, rest])
        found.append(Example(tokens, np.arange(len(tokens)) >= len(tokens) - 10))
    return found


def test_it_needs_no_torch_and_takes_the_route_that_training_takes(llama: Path) -> None:
    code = "import sys, cuda_train.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    made = TorchBackend(TrainSettings(model=str(llama)), device="cpu")
    config = json.loads((llama / "config.json").read_text())
    step = Step(read_sizes(config), made.settings, 4, False, branches=True)
    trained = made.trainable // 2  # of two blocks
    assert read_sizes(config).block_weights() + trained == find_body(made.loss.model).weight
    for batch in (draw(0), draw(rows=1), draw(70), draw(600, 12)):
        rows, width = batch.tokens.shape
        suffixes = int(batch.lengths.sum())
        shape = Shape(len(batch.prefix), rows, width, suffixes, batch.supervised)
        assert step.route(shape) == made.loss.route(batch)


def test_what_makes_a_run_smaller_makes_the_estimate_smaller(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    rows = examples()

    def total(dtype: str = "float32", **changes: Any) -> int:
        settings = TrainSettings(**changes)
        shapes = set(map(shape_of, first_epoch(rows, settings)))
        return estimate(settings, config, shapes, dtype=dtype).total

    assert total(batch_size=4) < total()
    assert total(grad_checkpoint=True) < total()
    assert total(share_prefix=False) > 1.5 * total()
    # Quantized layers keep PEFT's forward, which holds more of a row than these weights weigh.
    assert total(quantize=4, batch_size=1) < total(batch_size=1)
    assert total("bfloat16") < total()
    assert total(optimizer="adamw_8bit") < total()
    assert total(lora=LoraSettings(rank=64)) > total()
    assert total(max_length=210) < total()


@pytest.fixture
def forecast(llama: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Forecast]:
    """(device, bytes that are free on it) -> what a run of the tiny model needs there."""

    def make(device: str = "cuda", free: int = 0, **changes: Any) -> Forecast:
        monkeypatch.setattr(memory, "free_memory", lambda device: (free, 0))
        settings = TrainSettings(model=str(llama), dtype="bfloat16", **changes)
        return memory.forecast(settings, examples(), torch.device(device))

    return make


def test_every_remedy_fits_by_the_estimate(forecast: Callable[..., Forecast]) -> None:
    ahead = forecast()
    room = int(0.95 * ahead.need().total)
    ways = ahead.remedies(room)
    assert ways[0].startswith("--batch-size 8 --grad-accum 2 (about")
    assert "the same step" in ways[0]
    assert any(way.startswith("--grad-checkpoint") for way in ways)
    smaller = dataclasses.replace(ahead.settings, batch_size=8, grad_accum=2)
    assert ahead.need(smaller).total <= room
    # Not by one flag alone: together; and what no flag fixes is said.
    least = dataclasses.replace(
        ahead.settings, batch_size=1, grad_accum=16, grad_checkpoint=True,
        lora=LoraSettings(rank=8), quantize=4, optimizer="adamw_8bit",
    )  # fmt: skip
    (way,) = ahead.remedies(ahead.need(least).total)
    assert "--batch-size 1 --grad-accum 16 --grad-checkpoint --load-in-4bit" in way
    assert "together" in way
    (way,) = ahead.remedies(1000)
    assert way.startswith("a smaller base model (even --batch-size 1")
    *_, elsewhere = forecast("mps").remedies(1000)
    assert elsewhere == "--backend mlx --load-in-4bit"
    assert "4bit" not in "".join(forecast("cpu").remedies(1000))


def test_the_preflight_refuses_warns_or_is_silent(forecast: Callable[..., Forecast]) -> None:
    need = forecast().need().total
    assert need > 3 * forecast().need().weights
    assert forecast().preflight() == "", "nobody knows what is free"
    assert forecast(free=need).preflight() == ""
    assert "Trying anyway" in forecast(free=int(0.9 * need)).preflight()
    with pytest.raises(UserError, match=r"by estimate this run takes .* It fits with --batch-size"):
        forecast(free=need // 2).preflight()
    with pytest.raises(UserError, match=r"its weights take .* smaller base model"):
        forecast(free=1000).preflight()
    swapping = dataclasses.replace(forecast().device, free=need // 2, swap=need)
    assert "Trying anyway" in dataclasses.replace(forecast(), device=swapping).preflight()


def test_out_of_memory_names_values_that_fit(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = TorchBackend(TrainSettings(model=str(llama), device="cpu"), examples=examples())

    def full(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(made.loss, "token_losses", full)
    with pytest.raises(
        UserError, match=r"By estimate the run takes .* Any of these would fit: --batch-s"
    ):
        made.train_step([draw()], step=1, learning_rate=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's large pages")
def test_the_allocator_is_settled_before_torch_is_there() -> None:
    """Torch reads the variable with its first array; what somebody set stays."""
    code = (
        "import os, sys; from commands.training import backends; "
        "from livery.config.settings import TrainSettings; "
        "backends.choose(TrainSettings(backend='torch')); "
        "print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    )
    for given, said in ((None, "1 False"), ("0", "0 False")):
        environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
        environment |= {"THP_MEM_ALLOC_ENABLE": given} if given else {}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
            check=True, cwd=ROOT,
        )  # fmt: skip
        assert done.stdout.strip() == said


def test_holes_of_the_heap_are_given_back():
    """Blocks below malloc's threshold for mappings, with living ones between them, so that glibc
    itself gives nothing back when the others are freed."""
    if sys.platform != "linux" or "glibc" not in " ".join(platform.libc_ver()):
        pytest.skip("only glibc has malloc_trim")
    holes = memory.Holes(torch.device("cpu"))
    holes.after_step()
    small = [b"x" * 100_000 for _ in range(300)]
    holes.after_step()  # what a step takes
    before = resident()
    blocks = [b"x" * 100_000 for _ in range(4000)]
    kept = blocks[::20] + blocks[-1:]
    del blocks
    full = resident()
    assert full - before > 300_000_000
    holes.after_step()
    assert resident() < before + 150_000_000
    assert all(block[0] == ord("x") for block in kept + small)
    of_a_gpu = memory.Holes(torch.device("meta"))
    of_a_gpu.after_step()
    assert not of_a_gpu.live
