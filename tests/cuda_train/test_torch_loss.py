"""The torch backend's fast losses against each row by itself, and the ways they could go wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cuda_train.backend import TorchBackend
from cuda_train.body import choose_route
from cuda_train.route import LONGEST_TREE, shape_of
from livery.config.settings import LoraSettings, TrainSettings
from livery.engines.torch import attention as torch_attention
from livery.training.plan import MicroBatch, bucket
from tests.runs import moved
from tests.tiny_models import VOCAB, tiny_model

FAMILIES = ("llama", "qwen3", "gemma2", "gemma3", "phi", "phi3", "mixtral")
PREFIX = 70  # longer than the window of 64 of the tiny gemma3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def make(model: Path, *, attention: str | None = None, **changes: Any) -> TorchBackend:
    """A backend whose adapter already does something, so that all its gradients matter."""
    settings = TrainSettings(model=str(model), **{"lora": LoraSettings(rank=4), **changes})
    backend = TorchBackend(settings, device="cpu", attention=attention)
    moved(backend)
    return backend


def draw(prefix: int = PREFIX, rows: int = 3, width: int = 24, seed: int = 0) -> MicroBatch:
    """Rows of uneven length with a few supervised positions each."""
    rng = np.random.default_rng(seed)
    lengths = np.asarray([width - 5 * (i % 4) for i in range(rows)], np.int32)
    tokens = rng.integers(5, VOCAB, (rows, width)).astype(np.int32)
    targets = rng.integers(5, VOCAB, (rows, width)).astype(np.int32)
    for i, length in enumerate(lengths):
        tokens[i, length:], targets[i, length:], targets[i, : length // 2] = 0, -1, -1
    first = rng.integers(5, VOCAB, prefix).astype(np.int32)
    return MicroBatch(first, tokens, targets, lengths, tuple(range(rows)))


def reference(backend: TorchBackend, batch: MicroBatch) -> tuple[float, torch.Tensor]:
    """Loss sum and gradient of every row by itself."""
    backend.loss.flat.message.zero_()
    loss = backend.loss.plain_gradient(batch)
    return loss, backend.loss.flat.grads.clone()


def fast(backend: TorchBackend, batch: MicroBatch, route: Any) -> tuple[float, torch.Tensor]:
    backend.loss.flat.message.zero_()
    loss = backend.loss.gradient([batch], route).loss_sum
    return loss, backend.loss.flat.grads.clone()


def apart(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((got - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_route_gives_the_plain_gradient(models: Path, family: str, attention: str) -> None:
    if family == "gemma2" and attention == "sdpa":
        attention = "eager"  # its soft cap exists in eager attention alone
    branches = ("branches",) if attention == "sdpa" else ()
    backend = make(tiny_model(family, models), attention=attention)
    assert backend.fast_path() == (True, "")
    batch = draw()
    loss, gradient = reference(backend, batch)
    wanted = backend.loss.flat.split(gradient)
    assert all(float(g.norm()) > 0 for g in wanted.values())
    for route in (*branches, "tree", "cache", "plain"):
        got_loss, got = fast(backend, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6)
        for name, part in backend.loss.flat.split(got).items():
            assert apart(part, wanted[name]) < 1e-5, (route, name)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "window"), [("gemma3", 8), ("mistral", 16)])
def test_windows_shorter_than_a_branch(models: Path, family: str, window: int) -> None:
    backend = make(tiny_model(family, models, sliding_window=window))
    assert window in backend.loss.body.attention.windows.values()
    batch = draw()
    loss, gradient = reference(backend, batch)
    for route in ("branches", "tree", "cache", "plain"):
        got_loss, got = fast(backend, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6)
        assert apart(got, gradient) < 1e-5, route


def test_no_prefix_and_one_row(models: Path) -> None:
    backend = make(tiny_model("llama", models))
    for batch in (draw(prefix=0), draw(rows=1), draw(prefix=1)):
        loss, gradient = reference(backend, batch)
        for route in ("branches", "tree", "plain"):
            got_loss, got = fast(backend, batch, route)
            assert got_loss == pytest.approx(loss, rel=1e-6)
            assert apart(got, gradient) < 1e-5


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(rank=4, dora=True),
        LoraSettings(rank=4, rslora=True, alpha=3.0),
        LoraSettings(rank=4, targets=("q_proj", "lm_head"), num_layers=1),
    ],
)
def test_other_adapters(models: Path, lora: LoraSettings) -> None:
    backend = make(tiny_model("llama", models), lora=lora)
    batch = draw()
    loss, gradient = reference(backend, batch)
    for route in ("branches", "tree", "cache"):
        got_loss, got = fast(backend, batch, route)
        assert got_loss == pytest.approx(loss, rel=1e-6)
        assert apart(got, gradient) < 1e-5


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_is_drawn_by_seed_and_step(models: Path, dora: bool) -> None:
    lora = LoraSettings(rank=4, dropout=0.5, dora=dora)
    backend = make(tiny_model("llama", models), lora=lora)
    batch = draw()

    def loss(step: int | None, made: TorchBackend = backend) -> float:
        with torch.no_grad(), made.dropout_at(step):
            return float(made.loss.token_losses(batch).sum())

    assert loss(1) == loss(1)
    assert len({loss(1), loss(2), loss(None)}) == 3
    assert loss(1, make(tiny_model("llama", models), lora=lora, seed=1)) != loss(1)
    assert loss(None) == pytest.approx(-backend.logprobs(batch).sum())
    assert backend.self_check(batch).ok


def test_the_wrong_kind_of_mask_is_caught(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booleans given to eager attention are added to its scores, without a word."""
    backend = make(tiny_model("llama", models), attention="eager")
    batch = draw()
    assert backend.self_check(batch).ok
    monkeypatch.setattr(torch_attention, "additive", lambda mask, _: mask)
    result = backend.self_check(batch)
    assert not result.ok
    assert result.gradient_difference > 0.1
    assert "tree" in result.reason


def test_a_window_that_is_left_out_is_caught(models: Path) -> None:
    backend = make(tiny_model("gemma3", models, sliding_window=8))
    right = backend.loss.body
    open_windows = dict.fromkeys(right.attention.windows)
    assert backend.self_check(draw()).ok
    backend.loss.body = dataclasses.replace(
        right, attention=dataclasses.replace(right.attention, windows=open_windows)
    )
    assert not backend.self_check(draw()).ok


def test_gradient_checkpointing_takes_the_tree(models: Path) -> None:
    backend = make(tiny_model("llama", models), grad_checkpoint=True)
    batch = draw()
    loss, gradient = reference(backend, batch)
    got_loss, got = fast(backend, batch, None)
    assert got_loss == pytest.approx(loss, rel=1e-6)
    assert apart(got, gradient) < 1e-5
    # Why never the cache: transformers drops it under checkpointing. Without a mask, whose shape
    # gives it away, nothing fails and the answer is conditioned on no prompt at all.
    body, row = backend.loss.model.model, torch.from_numpy(batch.tokens[:1]).long()
    prefix = torch.from_numpy(batch.prefix)[None].long()
    places = torch.arange(PREFIX, PREFIX + row.shape[1])[None]

    def on_a_cache() -> torch.Tensor:
        from transformers import DynamicCache

        cache = DynamicCache()
        body(input_ids=prefix, past_key_values=cache, use_cache=True)
        after = {"past_key_values": cache, "position_ids": places, "use_cache": True}
        return body(input_ids=row, **after).last_hidden_state

    dropped = on_a_cache()
    backend.loss.model.eval()
    assert apart(dropped, on_a_cache()) > 0.1


def test_long_trees_are_split_where_no_cache_may_be_used(models: Path) -> None:
    model = tiny_model("llama", models, num_hidden_layers=1)
    batch = draw(prefix=40, rows=400)
    assert len(batch.prefix) + int(batch.lengths.sum()) < LONGEST_TREE
    batch = draw(prefix=40, rows=600)
    backend = make(model, grad_checkpoint=True, attention="eager")
    parts = backend.loss.parts(batch)
    assert len(parts) == 2
    assert sorted(row for part, _ in parts for row in part.rows) == list(range(600))
    assert choose_route(backend.loss.body, shape_of(batch), recomputes=False) == "cache"
    assert make(model, attention="eager").loss.parts(batch) == [(batch, "cache")]
    assert make(model).loss.route(batch) == "branches"  # has no mask that grows
    assert make(model).loss.parts(batch) == [(batch, "branches")]


def test_logits_are_made_a_few_rows_at_a_time(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuda_train import head

    backend = make(tiny_model("gemma2", models))  # a soft cap after the head
    batch = draw(rows=8)
    whole_loss, whole = fast(backend, batch, "tree")
    rows: list[int] = []
    logits = head.Head.logits

    def counting(self: head.Head, hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return logits(self, hidden)

    monkeypatch.setattr(head.Head, "logits", counting)
    monkeypatch.setattr(head, "LOGITS_BYTES", 7 * 4 * VOCAB)
    loss, chunked = fast(backend, batch, "tree")
    assert max(rows) == 7
    assert sum(rows) == bucket(batch.supervised)  # in few shapes, for a CPU
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert apart(chunked, whole) < 1e-6


def test_on_a_cpu_trees_and_logits_come_in_few_shapes(models: Path) -> None:
    """Else oneDNN keeps a program for each: a run of 320 steps grew by 2.5 GB."""
    backend = make(tiny_model("llama", models))
    places: set[int] = set()
    heads: set[int] = set()
    backend.loss.body.module.register_forward_pre_hook(
        lambda module, args, kwargs: places.add(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    chunk = backend.loss.head.chunk
    backend.loss.head.chunk = lambda h, t: heads.add(len(t)) or chunk(h, t)  # type: ignore[method-assign]
    batches = [draw(rows=rows, prefix=40 + rows) for rows in range(2, 12)]
    with torch.no_grad():
        for batch in batches:
            backend.logprobs(batch)
    lengths = {len(batch.prefix) + int(batch.lengths.sum()) for batch in batches}
    assert len(lengths) == 10
    assert places == {bucket(length) for length in lengths}
    assert heads <= {bucket(count) for count in range(1, 200)}
    assert any(length not in places for length in lengths)


def test_only_supervised_positions_meet_the_head(models: Path) -> None:
    backend = make(tiny_model("llama", models))
    batch = draw()
    assert len(backend.loss.token_losses(batch)) == batch.supervised < batch.computed // 3


@pytest.mark.slow
def test_evaluation_is_the_training_loss(models: Path) -> None:
    backend = make(tiny_model("qwen3", models), lora=LoraSettings(rank=4, dropout=0.5))
    batch = draw()
    loss, tokens = backend.objective.scored(batch, backend.logprobs(batch))
    backend.loss.flat.message.zero_()
    assert (loss, tokens) == (pytest.approx(backend.loss.plain_gradient(batch)), batch.supervised)


def test_recurrent_hybrids_run_plain_and_say_why(tmp_path: Path) -> None:
    from transformers import Lfm2Config, Lfm2ForCausalLM

    config = Lfm2Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    torch.manual_seed(0)
    Lfm2ForCausalLM(config).save_pretrained(tmp_path)
    backend = make(tmp_path)
    applies, reason = backend.fast_path()
    assert not applies
    assert "lfm2 has recurrent layers" in reason
    backend.use_plain(reason)
    batch = draw()
    loss, gradient = reference(backend, batch)
    got_loss, got = fast(backend, batch, None)
    assert got_loss == pytest.approx(loss, rel=1e-6)
    assert apart(got, gradient) < 1e-5


@pytest.mark.slow
def test_nf4_gradients_stay_right_after_an_evaluation(models: Path) -> None:
    """bitsandbytes would repack the weights for AVX512-BF16 in the first eval-mode forward."""
    bnb = pytest.importorskip("bitsandbytes")
    model = tiny_model("llama", models, hidden_size=128)
    batch = draw()

    def gradients(repack: bool) -> tuple[torch.Tensor, torch.Tensor]:
        backend = make(model, quantize=4, dtype="bfloat16")
        for module in backend.loss.model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                assert not module.support_avx512bf16_for_cpu
                module.support_avx512bf16_for_cpu = repack
        before = fast(backend, batch, "tree")[1]
        backend.loss.model.eval()
        with torch.no_grad():
            backend.loss.model(input_ids=torch.arange(5, 20)[None])
        backend.loss.model.train()
        return before, fast(backend, batch, "tree")[1]

    before, after = gradients(repack=False)
    assert torch.equal(before, after)
    if bnb.functional.has_avx512bf16():
        before, after = gradients(repack=True)
        assert apart(after, before) > 0.1


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_bases_pass_their_check(models: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    backend = make(tiny_model("llama", models, hidden_size=128), quantize=bits)
    dense = make(tiny_model("llama", models, hidden_size=128))
    assert backend.parameters == dense.parameters
    assert backend.self_check(draw()).ok
