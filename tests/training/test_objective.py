"""The objective's seam: a loss over pairs of rows, written here, gives both backends the gradients
of a plain computation with two forward passes a pair.

The seam is wide enough for DPO: a sigmoid of the difference of two rows' sums against a reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livery.config.settings import LoraSettings, TrainSettings
from livery.training.numerics import SFT, Objective, Rows
from livery.training.plan import MicroBatch, shard, split_batch
from tests.mlx_train.mlx_exact import backend as mlx_backend
from tests.runs import moved
from tests.tiny_models import VOCAB, tiny_model

BETA = 0.3


def pairs_loss(rows: Rows) -> Any:
    """sum over pairs of -weight * sigmoid(beta * ((chosen - its reference) - (rejected - its)))."""
    moved = rows.logprobs - rows.constants["reference"]
    difference = BETA * (moved[0::2] - moved[1::2])
    return -(rows.weights[0::2] / (1 + rows.xp.exp(-difference))).sum()


PAIRS = Objective("pairs", pairs_loss, lambda batch: len(batch.lengths) // 2)


def pairs(count: int = 4, prefix: int = 14, width: int = 12) -> MicroBatch:
    """Pairs of rows of uneven length after one prompt, with a reference near what models say."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, width + 1, 2 * count).astype(np.int32)
    tokens = rng.integers(5, VOCAB, (2 * count, width)).astype(np.int32)
    targets = rng.integers(5, VOCAB, (2 * count, width)).astype(np.int32)
    for row, length in enumerate(lengths):
        tokens[row, length:], targets[row, length:], targets[row, : length // 2] = 0, -1, -1
    supervised = (targets >= 0).sum(axis=1)
    return MicroBatch(
        rng.integers(5, VOCAB, prefix).astype(np.int32), tokens, targets, lengths,
        tuple(range(2 * count)), group=2,
        weights=np.repeat(rng.uniform(0.5, 2.0, count), 2).astype(np.float32),
        constants={"reference": (-6.3 * supervised).astype(np.float32)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("models"))


def by_hand(batch: MicroBatch, logprob: Any, xp: Any, array: Any) -> Any:
    """The loss of all pairs, from `logprob(row)` of whole rows, one forward each."""
    assert batch.weights is not None
    reference, total = batch.constants["reference"], array(0.0)
    for row in range(0, len(batch.lengths), 2):
        chosen, rejected = (logprob(row + i) - float(reference[row + i]) for i in (0, 1))
        total = total - float(batch.weights[row]) * xp.sigmoid(BETA * (chosen - rejected))
    return total


def whole_row(batch: MicroBatch, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens, supervised places, their targets) of a row with its prompt."""
    tokens = np.concatenate([batch.prefix, batch.tokens[row, : batch.lengths[row]]])
    (at,) = np.nonzero(batch.targets[row] >= 0)
    return tokens.astype(np.int64), at + len(batch.prefix), batch.targets[row, at].astype(np.int64)


def apart(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["whole", "streams", "compiled", "chunks"])
def test_pairs_on_mlx(model: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    mx: Any = pytest.importorskip("mlx.core")
    from mlx import nn

    made = mlx_backend(model, objective=PAIRS, compile="on" if case == "compiled" else "off")
    if case == "compiled" and not made.compiled:
        pytest.skip("this machine cannot compile")
    if case == "streams":
        made.cores.count = 2
    if case == "chunks":
        monkeypatch.setattr("mlx_train.loss.LOGITS", 3 * VOCAB)
    batch = pairs()
    network: Any = made.model

    def logprob(row: int) -> Any:
        tokens, at, targets = (mx.array(a) for a in whole_row(batch, row))
        logits = network(tokens[None])[0, at].astype(mx.float32)
        return -nn.losses.cross_entropy(logits, targets, reduction="sum")

    def plain(values: list[Any]) -> Any:
        for parameter, value in zip(made.trained, values, strict=True):
            parameter.put(value)
        return by_hand(batch, logprob, mx, mx.array)

    held = [parameter.get() for parameter in made.trained]
    loss, wanted = mx.value_and_grad(plain)(held)
    for parameter, value in zip(made.trained, held, strict=True):
        parameter.put(value)
    got_loss, got = made.gradients(batch)
    assert got_loss == pytest.approx(float(loss), rel=1e-5)
    for ours, theirs in zip(got.values(), wanted, strict=True):
        assert apart(ours, np.asarray(theirs)) < 1e-5
    got = PAIRS.scored(batch, made.logprobs(batch))
    assert got.tolist() == [pytest.approx(float(loss), rel=1e-5), 4]
    assert made.train_step([batch], step=1, learning_rate=0.0).count == 4
    assert made.self_check(batch).ok


@pytest.mark.parametrize("case", ["branches", "tree", "cache", "plain", "parts"])
def test_pairs_on_torch(model: Path, monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from cuda_train.backend import TorchBackend

    settings = TrainSettings(model=str(model), lora=LoraSettings(rank=4, alpha=8.0))
    made = TorchBackend(settings, device="cpu", objective=PAIRS)
    moved(made)
    batch, flat = pairs(), made.loss.flat

    def logprob(row: int) -> Any:
        tokens, at, targets = (torch.from_numpy(a) for a in whole_row(batch, row))
        logits = made.loss.model(input_ids=tokens[None], use_cache=False).logits[0, at].float()
        return torch.log_softmax(logits, -1)[torch.arange(len(targets)), targets].sum()

    flat.message.zero_()
    loss = by_hand(batch, logprob, torch, torch.tensor)
    loss.backward()
    wanted = flat.grads.clone()
    flat.message.zero_()
    if case == "parts":  # a tree too long for one mask is cut between pairs
        monkeypatch.setattr("cuda_train.loss.LONGEST_TREE", 50)
        assert len(made.loss.parts(batch, "tree")) > 1
    found = made.loss.gradient([batch], "tree" if case == "parts" else case, PAIRS)
    assert found.loss_sum == pytest.approx(float(loss.detach()), rel=1e-5)
    assert found.count == 4
    assert apart(flat.grads.numpy(), wanted.numpy()) < 1e-5
    got = PAIRS.scored(batch, made.logprobs(batch))
    assert got.tolist() == [pytest.approx(float(loss.detach()), rel=1e-5), 4]
    assert made.train_step([batch], step=1, learning_rate=0.0).count == 4
    assert made.self_check(batch).ok


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
def test_a_pair_is_never_parted(parts: int) -> None:
    batch = pairs()
    made = split_batch(batch, parts)
    assert len(made) == min(parts, 4)
    for part in made:
        assert part.group == 2
        firsts, seconds = part.rows[0::2], part.rows[1::2]
        assert [first + 1 for first in firsts] == list(seconds)
        for i, row in enumerate(part.rows):
            assert part.constants["reference"][i] == batch.constants["reference"][row]
            assert part.weights is not None
            assert batch.weights is not None
            assert part.weights[i] == batch.weights[row]
    assert sorted(row for part in made for row in part.rows) == list(range(8))
    shards = [shard([batch], rank, parts) for rank in range(parts)]
    assert all(len(part.rows) % 2 == 0 for mine in shards for part in mine)
    assert sum(len(part.rows) for mine in shards for part in mine) == 8


def test_supervised_training_weighs_rows() -> None:
    rows = Rows(np, np.asarray([-1.0, -2.0]), np.asarray([1, 2]), np.asarray([1.0, 3.0]), {})
    assert SFT.loss(rows) == 7.0
