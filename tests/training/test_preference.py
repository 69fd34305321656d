"""Objectives over pairs: formulas by hand, gradients of both backends, TRL's losses; and what a run
on pairs does from its first step to its last."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from livery.training.backend import PortableState
from livery.training.events import Evaluated, Metrics, Stepped
from livery.training.numerics import Rows
from livery.training.plan import MicroBatch, Plan, evaluation_batches, work
from livery.training.preference import MARGIN, MEASURES, objective_of
from tests.runs import moved, notes, open_backend, run, tiny_settings
from tests.tiny_models import tiny_model
from tests.training.test_objective import apart, pairs, whole_row

LOSSES: list[dict[str, Any]] = [
    {"loss_type": "sigmoid", "beta": 0.3},
    {"loss_type": "sigmoid", "label_smoothing": 0.2},
    {"loss_type": "sigmoid", "beta": 2.0, "length_normalized": True},
    {"loss_type": "sigmoid", "sft_weight": 0.7},
    {"loss_type": "ipo", "beta": 0.2},
    {"loss_type": "ipo", "sft_weight": 0.5},
    {"loss_type": "orpo", "beta": 0.4},
]
IDS = ["-".join(map(str, case.values())) for case in LOSSES]


def by_hand(case: dict[str, Any], chosen: float, rejected: float, counts: tuple[int, int],
            reference: tuple[float, float]) -> float:  # fmt: skip
    """The loss of one pair, written out with Python's own functions."""
    beta = case.get("beta", 0.1)
    (n, m), (c0, r0) = counts, reference

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    own = -chosen / n * case.get("sft_weight", 0.0)
    if case["loss_type"] == "ipo":
        return ((chosen - c0) / n - (rejected - r0) / m - 1 / (2 * beta)) ** 2 + own
    if case["loss_type"] == "orpo":
        odds = [math.exp(x) / (1 - math.exp(x)) for x in (chosen / n, rejected / m)]
        return -chosen / n - beta * math.log(sigmoid(math.log(odds[0] / odds[1])))
    if case.get("length_normalized"):
        apart = (chosen - c0) / n - (rejected - r0) / m
    else:
        apart = (chosen - c0) - (rejected - r0)
    e = case.get("label_smoothing", 0.0)
    return -(1 - e) * math.log(sigmoid(beta * apart)) - e * math.log(sigmoid(-beta * apart)) + own


def rows(logprobs: list[float], counts: list[int], reference: list[float]) -> Rows:
    named = {"reference": np.asarray(reference)}
    return Rows(np, np.asarray(logprobs), np.asarray(counts), np.ones(len(counts)), named)


@pytest.mark.parametrize("case", LOSSES, ids=IDS)
def test_the_losses_are_their_formulas(case: dict[str, Any]) -> None:
    logprobs, counts = [-7.5, -9.0, -3.25, -2.0], [4, 9, 3, 2]
    reference = [-8.0, -7.0, -3.0, -4.0]
    got = objective_of(TrainSettings(**case)).loss(rows(logprobs, counts, reference))
    wanted = sum(
        by_hand(case, logprobs[i], logprobs[i + 1], (counts[i], counts[i + 1]),
                (reference[i], reference[i + 1]))
        for i in (0, 2)
    )  # fmt: skip
    assert float(got) == pytest.approx(wanted, rel=1e-12)


def test_far_apart_answers_keep_the_loss_finite() -> None:
    for case in LOSSES:
        for c, r in ((0.0, -4000.0), (-4000.0, 0.0)):
            loss = objective_of(TrainSettings(**case)).loss(rows([c, r], [3, 3], [0.0, 0.0]))
            assert math.isfinite(float(loss)), case


def test_accuracy_is_counted_per_pair_and_margins_have_their_sign() -> None:
    """Of means, both pairs would be right: the first one's margin is larger than the second's."""
    objective = objective_of(TrainSettings(loss_type="sigmoid", beta=0.5))
    found = dict(zip(MEASURES, objective.measure(
        rows([-1.0, -11.0, -6.0, -5.0], [2, 2, 2, 2], [-3.0, -3.0, -3.0, -3.0])
    ), strict=True))  # fmt: skip
    assert found["rewards/accuracies"] == 1
    assert found[MARGIN] == pytest.approx(0.5 * (10 - 1))
    assert found["rewards/chosen"] == pytest.approx(0.5 * (2 - 3))
    assert found["logps/rejected"] == -16.0


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"loss_type": "sigmod"}, r"Did you mean sigmoid\?"),
        ({"loss_type": "hinge"}, "sigmoid is the smooth form"),
        ({"loss_type": "orpo", "sft_weight": 1.0}, "sft_weight: orpo has none"),
        ({"loss_type": "ipo", "label_smoothing": 0.1}, "label_smoothing: ipo has none"),
        ({"loss_type": "sigmoid", "mask_prompt": False}, "compare answers alone"),
        ({"loss_type": "sigmoid", "beta": 0.0}, "beta"),
        ({"loss_type": "sigmoid", "label_smoothing": 0.5}, "label_smoothing"),
    ],
)
def test_what_is_no_loss_is_refused(case: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        objective_of(TrainSettings(**case))


# -- gradients ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("models"))


def torch_backend(model: Path, case: dict[str, Any]) -> Any:
    from cuda_train.backend import TorchBackend

    lora = LoraSettings(rank=4, alpha=8.0)
    made = TorchBackend(TrainSettings(model=str(model), lora=lora, **case), device="cpu")
    moved(made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("case", LOSSES, ids=IDS)
def test_torch_equals_two_plain_forwards_and_so_does_mlx(model: Path, case: dict[str, Any]) -> None:
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("peft")
    pytest.importorskip("mlx.core")
    from mlx_train.backend import MlxBackend

    made, batch = torch_backend(model, case), pairs()
    assert batch.weights is not None
    flat, network = made.loss.flat, made.loss.model

    def logprob(row: int) -> Any:
        tokens, at, targets = (torch.from_numpy(a) for a in whole_row(batch, row))
        logits = network(input_ids=tokens[None], use_cache=False).logits[0, at].float()
        return torch.log_softmax(logits, -1)[torch.arange(len(targets)), targets].sum()

    flat.message.zero_()
    logprobs = torch.stack([logprob(row) for row in range(len(batch.lengths))])
    counts = torch.tensor((batch.targets >= 0).sum(axis=1)).float()
    moved = logprobs - torch.tensor(batch.constants["reference"])
    c, r = logprobs[0::2] / counts[0::2], logprobs[1::2] / counts[1::2]
    beta = case.get("beta", 0.1)
    log_sigmoid = torch.nn.functional.logsigmoid
    if case["loss_type"] == "orpo":
        odds = (c - torch.log1p(-torch.exp(c))) - (r - torch.log1p(-torch.exp(r)))
        each = -c - beta * log_sigmoid(odds)
    else:
        mean = case.get("length_normalized") or case["loss_type"] == "ipo"
        moved = moved / counts if mean else moved
        apart_ = moved[0::2] - moved[1::2]
        e = case.get("label_smoothing", 0.0)
        each = -(1 - e) * log_sigmoid(beta * apart_) - e * log_sigmoid(-beta * apart_)
        if case["loss_type"] == "ipo":
            each = (apart_ - 1 / (2 * beta)) ** 2
        each = each - case.get("sft_weight", 0.0) * c
    loss = (torch.tensor(batch.weights[0::2]) * each).sum()
    loss.backward()
    wanted = flat.grads.clone()
    flat.message.zero_()
    found = made.loss.gradient([batch], objective=made.objective)
    assert found.loss_sum == pytest.approx(float(loss.detach()), rel=1e-5)
    assert found.count == 4
    assert apart(flat.grads.numpy(), wanted.numpy()) < 1e-5
    other = MlxBackend(dataclasses.replace(made.settings, compile="off"))
    other.set_state(made.get_state())
    loss_sum, gradients = other.gradients(batch)
    assert loss_sum == pytest.approx(found.loss_sum, rel=1e-5)
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    assert norm == pytest.approx(float(wanted.norm()), rel=1e-4)
    step = other.train_step([batch], step=1, learning_rate=0.0)
    np.testing.assert_allclose(step.measures, found.measures, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_log_probabilities_are_summed_in_float32(model: Path) -> None:
    """In bfloat16, as the logits are, a sum near 300 would be off by one."""
    pytest.importorskip("peft")
    lora = LoraSettings(rank=4)
    made = open_backend("torch", TrainSettings(model=str(model), dtype="bfloat16", lora=lora))
    batch = pairs(count=1, width=100)
    whole = made.logprobs(batch)
    assert whole.dtype == np.float32
    parts = np.zeros(2)
    for row, at in np.argwhere(batch.targets >= 0):
        targets = np.full_like(batch.targets, -1)
        targets[row, at] = batch.targets[row, at]
        parts[row] += made.logprobs(dataclasses.replace(batch, targets=targets))[row]
    assert (np.abs(whole) > 150).any()
    np.testing.assert_allclose(whole, parts, atol=1e-2)


# -- against TRL ----------------------------------------------------------------------------------


def trl_texts() -> list[dict[str, str]]:
    return [
        {"prompt": f"what about {i} or so, please?", "chosen": "it is " + "7 " * (i + 1),
         "rejected": "no idea " * (3 - i)}
        for i in range(3)
    ]  # fmt: skip


def in_trl(trainer: Any, made: Any) -> Any:
    """The trainer's model with the adapter of our backend."""
    import torch

    network = trainer.model
    state = made.get_state().weights
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            ours = name.replace("base_model.model.", "").replace(".default.weight", "")
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(state[ours]))
    return network


def micro_batch(inputs: Any, made: Any) -> MicroBatch:
    """TRL's batch, whose first half are the chosen rows, as pairs without a shared prefix."""
    count = len(inputs["input_ids"])
    order = [row for pair in range(count // 2) for row in (pair, pair + count // 2)]
    tokens = inputs["input_ids"].numpy()[order].astype(np.int32)
    mask = inputs["completion_mask"].numpy()[order].astype(bool)
    lengths = inputs["attention_mask"].sum(dim=1).numpy()[order].astype(np.int32) - 1
    targets = np.where(mask[:, 1:], tokens[:, 1:], -1).astype(np.int32)
    batch = MicroBatch(tokens[0, :0], tokens[:, :-1], targets, lengths, group=2)
    weights = made.get_state()
    bare = {k: np.zeros_like(v) if "lora_B" in k else v for k, v in weights.weights.items()}
    made.set_state(dataclasses.replace(weights, weights=bare))
    reference = made.logprobs(batch)
    made.set_state(weights)
    return dataclasses.replace(batch, constants={"reference": reference})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "case"),
    [
        ({"loss_type": ["sigmoid"]}, LOSSES[0]),
        ({"loss_type": ["sigmoid_norm"]}, LOSSES[2]),
        ({"loss_type": ["ipo"]}, LOSSES[4]),
    ],
    ids=["sigmoid", "length-normalized", "ipo"],
)
def test_the_loss_and_its_gradient_are_trls(
    model: Path, tmp_path: Path, theirs: dict[str, Any], case: dict[str, Any]
) -> None:
    pytest.importorskip("trl", reason="TRL is not installed (the extra `bench` has it)")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    from livery.dataset.tokenizer import load_tokenizer

    made = torch_backend(model, case)
    targets = sorted({name.split(".")[-2] for name in made.get_state().weights})
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=3, beta=case.get("beta", 0.1),
            report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
            max_length=None, disable_tqdm=True, **theirs,
        ),
        train_dataset=Dataset.from_list(trl_texts()),
        processing_class=load_tokenizer(str(model)),
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=targets),
    )  # fmt: skip
    network = in_trl(trainer, made)
    inputs = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(network, inputs)
    loss.backward()
    made.loss.flat.message.zero_()
    found = made.loss.gradient([micro_batch(inputs, made)], objective=made.objective)
    assert found.loss_sum / found.count == pytest.approx(float(loss.detach()), rel=1e-5)
    ours = made.loss.flat.split(made.loss.flat.grads)
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and "lora_" in name:
            key = name.replace("base_model.model.", "").replace(".default.weight", "")
            got = ours[key].numpy() / found.count
            assert apart(got, parameter.grad.numpy()) < 1e-4, key
    measured = dict(zip(MEASURES, found.measures / found.count, strict=True))
    assert found.count == 3
    if "sigmoid" in theirs["loss_type"]:  # TRL's rewards are never divided by tokens
        for name in MEASURES:
            logged = float(np.mean(trainer._metrics["train"][name]))
            assert measured[name] == pytest.approx(logged, rel=1e-4, abs=1e-5), name


def test_orpo_is_trls() -> None:
    pytest.importorskip("trl", reason="TRL is not installed (the extra `bench` has it)")
    torch: Any = pytest.importorskip("torch")
    from types import SimpleNamespace

    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    logprobs, counts = [-7.5, -9.0, -3.25, -2.0, -0.01, -70.0], [4, 9, 3, 2, 5, 6]
    average = torch.tensor(logprobs) / torch.tensor(counts)
    stub: Any = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device="cpu"))
    losses, chosen, rejected, *_ = ORPOTrainer.odds_ratio_loss(stub, average[0::2], average[1::2])
    objective = objective_of(TrainSettings(loss_type="orpo", beta=0.4))
    ours = rows(logprobs, counts, [0.0] * 6)
    wanted = float((-average[0::2] - losses).sum())
    assert float(objective.loss(ours)) == pytest.approx(wanted, rel=1e-5)
    found = dict(zip(MEASURES, objective.measure(ours), strict=True))
    assert found["rewards/chosen"] == pytest.approx(float(chosen.sum()), rel=1e-5)
    assert found["rewards/rejected"] == pytest.approx(float(rejected.sum()), rel=1e-5)


# -- the plan -------------------------------------------------------------------------------------


def test_pairs_stay_together_and_share_their_prompt() -> None:
    from tests.training.test_plan import example

    rng = np.random.default_rng(0)
    made = []
    for _ in range(7):
        prompt = rng.integers(1, 50, 100).tolist()
        made += [example(prompt, rng.integers(50, 90, int(n)).tolist()) for n in (5, 9)]
    made += [example([1, 2, 3], [int(n)]) for n in rng.integers(50, 90, 6)]
    plan = Plan(made, 3, 2, seed=1, group=2)
    seen: list[int] = []
    for step in range(len(plan.epoch(0))):
        batches = plan.step(step)
        assert sum(len(batch.rows) for batch in batches) <= 2 * 3 * 2
        for batch in batches:
            assert batch.group == 2
            couples = zip(batch.rows[0::2], batch.rows[1::2], strict=True)
            assert all(c + 1 == r and c % 2 == 0 for c, r in couples)
            if max(batch.rows) < 14:
                assert len(batch.prefix) == 99, "the prompt runs once for both answers"
            seen += batch.rows
    assert sorted(seen) == list(range(20)), "the last incomplete batch counts, too"
    again = [row for batch in evaluation_batches(made, 3, group=2) for row in batch.rows]
    assert sorted(again) == list(range(20))
    assert work(plan).examples == 10


# -- runs -----------------------------------------------------------------------------------------


def settings(folder: Path, **changes: Any) -> TrainSettings:
    asked = {"loss_type": "sigmoid", "samples": 0, "max_steps": 6, "steps_per_report": 1}
    return tiny_settings(folder, **{**asked, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_a_run_from_an_adapter_begins_with_ln_2_and_every_margin_0(
    tmp_path: Path, backend: str
) -> None:
    """With the adapter switched off for a reference, neither would hold."""
    pytest.importorskip("mlx.core" if backend == "mlx" else "peft")
    asked = settings(tmp_path, max_steps=1, lora={"dropout": 0.0})
    _, told = run(asked, backend, prepare=lambda made: moved(made, 2, 0.2))
    first = next(event for event in told if isinstance(event, Evaluated))
    assert first.step == 0
    assert first.eval_loss == pytest.approx(math.log(2), abs=1e-6)
    for name in ("rewards/chosen", "rewards/rejected", MARGIN):
        assert first.figures[name] == pytest.approx(0, abs=1e-6)
    step = next(event for event in told if isinstance(event, Stepped))
    assert step.loss == pytest.approx(math.log(2), abs=1e-5)
    metrics = next(event for event in told if isinstance(event, Metrics))
    assert metrics.figures[MARGIN] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_the_reference_knows_no_dropout(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    plain, dropped = settings(tmp_path / "a"), settings(tmp_path / "b", lora={"dropout": 0.5})
    for asked in (plain, dropped):
        run(asked)
    texts = [(tmp_path / name / "run" / "reference.jsonl").read_text() for name in "ab"]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_it_learns_shows_both_sides_and_keeps_the_highest_margin(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    result, told = run(settings(tmp_path, max_steps=12, steps_per_eval=2))
    lines = (tmp_path / "run" / "training_metrics.jsonl").read_text().splitlines()
    rows_ = [json.loads(line) for line in lines]
    for row in rows_:
        lead = "eval_" if "eval_loss" in row else ""
        assert {f"{lead}{name}" for name in MEASURES} <= row.keys()
    evaluated = [event for event in told if isinstance(event, Evaluated)]
    margins = {event.step: event.figures[MARGIN] for event in evaluated if event.step}
    assert margins[12] > 0.5
    assert evaluated[-1].figures["rewards/accuracies"] == 1.0
    assert result.kept_step == max(margins, key=lambda step: margins[step])
    assert result.facts["eval_rewards/margins"] == max(margins.values())
    assert result.facts["examples"] == 40
    assert result.facts["valid_examples"] == 10


@pytest.mark.slow
def test_it_stops_on_the_held_out_margin(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    asked = {"max_steps": 12, "steps_per_eval": 1}
    result, told = run(settings(tmp_path / "a", target_margin=0.3, **asked))
    margins = [event.figures[MARGIN] for event in told if isinstance(event, Evaluated)]
    assert result.steps < 12
    assert margins[-1] >= 0.3 > margins[-2]
    assert any("held-out margin is" in text for text in notes(told))
    never = settings(tmp_path / "b", early_stop_patience=2, early_stop_min_delta=1e6, **asked)
    result, told = run(never)
    assert result.steps == 2
    assert any("rewards/margins stopped rising" in text for text in notes(told))


@pytest.mark.slow
def test_falling_chosen_answers_are_warned_of_once(tmp_path: Path) -> None:
    """An answer that is certain can only fall, and does where what is rejected begins alike."""
    pytest.importorskip("mlx.core")

    def rewrite(folder: Path, row: dict[str, Any]) -> None:
        for name in ("train", "valid"):
            path = folder / "data" / f"{name}.jsonl"
            rows_ = [json.dumps({"prompt": f"{i}?"} | row) + "\n" for i in range(12)]
            path.write_text("".join(rows_))

    quick = {"learning_rate": 2e-2, "steps_per_report": 4, "steps_per_eval": 8}
    first = settings(tmp_path / "first", loss_type="sft", max_steps=40, **quick)
    rewrite(tmp_path / "first", {"completion": "it is so"})
    run(first)
    learned = load_file(tmp_path / "first" / "run" / "final.safetensors")
    asked = settings(tmp_path / "then", max_steps=16, beta=0.05, **quick)
    rewrite(tmp_path / "then", {"chosen": "it is so", "rejected": "it is so so so so so"})
    _, told = run(asked, prepare=lambda made: made.set_state(PortableState(learned)))
    seen = [event for event in told if isinstance(event, Metrics | Evaluated)]
    assert seen[-1].figures["rewards/chosen"] < -0.5 * 0.05, "the control does not fall"
    warned = [text for text in notes(told) if "become less likely" in text]
    assert len(warned) == 1
    assert "--sft-weight" in warned[0]
    assert not objective_of(asked).warning({"rewards/chosen": -0.02}, {})
