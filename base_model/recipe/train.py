"""A course of training: shards drawn on demand, two phases of row length, checkpoints, a log."""

from __future__ import annotations

import ctypes
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .corpus import PAD, PROMPT_WEIGHT, dialogues, pack, tokens
from .model import Decoder, ModelShape, initialise, loss_sum, rotary
from .muon import Optimizer
from .tokenizer import load_tokenizer, token_id, train_tokenizer


@dataclass(frozen=True)
class Run:
    """All that decides the outcome of a course; each starts from the weights of the one before."""

    course: int = 1
    steps: int = 3100
    seed: int = 1
    tokens_per_step: int = 4096
    short_row: int = 256
    long_row: int = 768
    long_share: float = 0.2
    warmup: int = 60
    decay_share: float = 0.4
    muon_lr: float = 0.02
    adam_lr: float = 0.004
    shard_dialogues: int = 25_000
    tokenizer_dialogues: int = 60_000
    layers: int = 4
    compile: bool = True
    save_every: int = 100

    @classmethod
    def second(cls) -> Run:
        """What follows the first course: other shares, lower rates, longer rows for longer."""
        return cls(course=2, steps=4000, seed=2, muon_lr=0.014, adam_lr=0.003, long_share=0.25)

    @classmethod
    def third(cls) -> Run:
        """Commands as people type them, from the second course's weights: lower rates, a long
        warm-up so that nothing is lost at the start, and a long way down."""
        return cls(
            course=3,
            steps=5200,
            seed=3,
            warmup=200,
            decay_share=0.6,
            long_share=0.12,
            muon_lr=0.012,
            adam_lr=0.0025,
        )

    @property
    def shape(self) -> ModelShape:
        return ModelShape(layers=self.layers)

    def scale(self, step: int) -> float:
        """Warm-up, a plateau, then a straight way down to zero."""
        down = (self.steps - step) / max(1, round(self.steps * self.decay_share))
        return max(0.0, min(1.0, (step + 1) / self.warmup, down))

    def row(self, step: int) -> int:
        """Row length: short rows first (cheaper), long ones at the end."""
        return self.long_row if step >= self.steps * (1 - self.long_share) else self.short_row


def make_shard(
    work: Path, run: Run, index: int, row: int
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Shard `index`: conversations of their own seed, packed; kept in `work` for a resumed run."""
    path = work / f"shard-{run.seed}-{index:04d}-{row}.npz"
    if path.exists():
        kept = np.load(path)
        return kept["ids"], kept["answer"]
    tokenizer = load_tokenizer(work)
    drawn = dialogues(
        run.seed * 1_000_003 + index,
        run.shard_dialogues,
        early=run.course == 1 and index == 0,
        course=run.course,
    )
    ids, answer = pack([tokens(d, tokenizer) for d in drawn], row, token_id(tokenizer, PAD))
    order = np.random.default_rng(run.seed + index).permutation(len(ids))
    ids, answer = ids[order], answer[order]
    partial = path.with_suffix(".part.npz")
    np.savez(partial, ids=ids, answer=answer)
    partial.rename(path)
    for old in work.glob(f"shard-{run.seed}-*.npz"):
        if old != path and int(old.name.split("-")[2]) < index - 1:
            old.unlink()
    return ids, answer


def batches(
    work: Path, run: Run, cursor: dict[str, int], rank: int, world: int
) -> Iterator[tuple[Any, Any]]:
    """Endless (ids, answer marks); `cursor` says where to go on and is kept up to date."""
    while True:
        row = run.row(cursor["step"])
        count = run.tokens_per_step // row
        if rank == 0:
            make_shard(work, run, cursor["shard"], row)
        if world > 1:
            dist.barrier()
        ids, answer = make_shard(work, run, cursor["shard"], row)
        while cursor["offset"] + count <= len(ids) and run.row(cursor["step"]) == row:
            place = slice(cursor["offset"], cursor["offset"] + count)
            cursor["offset"] += count
            yield ids[place], answer[place]
        cursor["shard"] += 1
        cursor["offset"] = 0


def to_tensors(ids: Any, answer: Any, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids: (rows, length) -> ids (rows, length) and weights (rows, length - 1) of the targets."""
    tensor = torch.from_numpy(ids.astype(np.int64))
    weight = np.where(answer, 1.0, PROMPT_WEIGHT) * (ids != pad)
    return tensor, torch.from_numpy(weight[:, 1:].astype(np.float32))


def train(
    work: Path,
    run: Run,
    log: Any = print,
    rank: int = 0,
    world: int = 1,
    start: Path | None = None,
) -> Decoder:
    """Trains to `run.steps`, from the checkpoint in `work` where there is one.

    `start` is the finished model of the course before: its weights and tokenizer are gone on with.
    With `world` processes in a torch.distributed group each takes its share of every batch.
    One thread a process: on a shared machine that is faster than threads which wait for each
    other at every operation. Returns the model with its float32 master weights.
    """
    work.mkdir(parents=True, exist_ok=True)
    if rank == 0 and start is not None:
        shutil.copyfile(start / "tokenizer.json", work / "tokenizer.json")
    if rank == 0 and not (work / "tokenizer.json").exists():
        train_tokenizer(dialogues(run.seed, run.tokenizer_dialogues)).save(
            str(work / "tokenizer.json")
        )
    if world > 1:
        dist.barrier()
    pad = token_id(load_tokenizer(work), PAD)
    model = Decoder(run.shape)
    if start is None:
        initialise(model, run.seed)
    else:
        load_weights(model, start)
    optimizer = Optimizer(model, muon_lr=run.muon_lr, adam_lr=run.adam_lr, rank=rank, world=world)
    model.to(torch.bfloat16)
    cursor = {"step": 0, "shard": 0, "offset": 0, "tokens": 0}
    state_path = work / "checkpoint.safetensors"
    if state_path.exists():
        cursor = load_state(state_path, optimizer)
        log(f"resumed at step {cursor['step']}")
    loss_fn: Any = torch.compile(loss_sum, dynamic=False) if run.compile else loss_sum
    tables = {
        row: rotary(run.shape, row - 1, torch.bfloat16) for row in (run.short_row, run.long_row)
    }
    keep_pages()
    with (work / "log.jsonl").open("a") as out:
        begun, seen, running = time.perf_counter(), 0, 0.0
        stream = batches(work, run, cursor, rank, world)
        while cursor["step"] < run.steps:
            step = cursor["step"]
            ids, weights = to_tensors(*next(stream), pad)
            total = weights.sum()
            part = ids[rank::world], weights[rank::world]
            loss = loss_fn(model, *part, *tables[ids.shape[1]]) / total
            loss.backward()
            norm = optimizer.step(run.scale(step))
            shown = loss.detach().reshape(1)
            if world > 1:
                dist.all_reduce(shown)
            value = float(shown)
            if not math.isfinite(value):
                raise RuntimeError(f"the loss is {value} at step {step}: lower the learning rates")
            running = value if step == 0 or running == 0.0 else 0.95 * running + 0.05 * value
            cursor["step"] += 1
            cursor["tokens"] += int(ids.numel())
            seen += int(ids.numel())
            if rank:
                continue
            if cursor["step"] % 20 == 0 or cursor["step"] == run.steps:
                spent = time.perf_counter() - begun
                rate = seen / spent
                left = (run.steps - cursor["step"]) * run.tokens_per_step / rate
                row = {
                    "step": cursor["step"],
                    "tokens": cursor["tokens"],
                    "loss": round(running, 4),
                }
                row |= {"grad_norm": round(norm, 3), "tokens_per_second": round(rate)}
                out.write(json.dumps(row) + "\n")
                out.flush()
                log(
                    f"step {row['step']}/{run.steps} loss {running:.4f} {rate:.0f} tokens/s "
                    f"{left / 60:.1f} min left"
                )
            if cursor["step"] % run.save_every == 0 or cursor["step"] == run.steps:
                save_state(state_path, optimizer, cursor)
    model.float()
    optimizer.load(optimizer.state())
    return model


def keep_pages() -> None:
    """Asks glibc to keep freed memory: on Linux giving it back cost a third of the speed."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # from malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 2**28)


def load_weights(model: Decoder, folder: Path) -> None:
    """The weights of an exported model, into a network of the same shape."""
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): w for name, w in weights.items()})


def save_state(path: Path, optimizer: Optimizer, cursor: dict[str, int]) -> None:
    """Masters and moments as tensors `part.name`; counters in the file's metadata."""
    state = optimizer.state()
    count = state.pop("count")
    tensors = {f"{part}.{name}": t for part, named in state.items() for name, t in named.items()}
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata={"state": json.dumps({"cursor": cursor, "count": count})})
    partial.rename(path)


def load_state(path: Path, optimizer: Optimizer) -> dict[str, int]:
    """Puts a saved state into `optimizer`; returns the cursor."""
    with safe_open(path, framework="pt") as file:
        kept = json.loads(file.metadata()["state"])
        state: dict[str, Any] = {"count": kept["count"]}
        for key in file.keys():  # noqa: SIM118 (no mapping)
            part, name = key.split(".", 1)
            state.setdefault(part, {})[name] = file.get_tensor(key)
    optimizer.load(state)
    return kept["cursor"]
