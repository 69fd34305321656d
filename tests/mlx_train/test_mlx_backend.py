"""The MLX backend as the loop sees it: steps, state, processes, samples, and its refusals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from livery.config.settings import LoraSettings, TrainSettings
from livery.dataset.template import load_chat
from livery.engines.folders import end_tokens
from livery.engines.mlx.load import load_base
from livery.errors import UserError
from livery.training.backend import Backend, PortableState
from livery.training.numerics import initial_a
from livery.training.plan import MicroBatch
from mlx_train.backend import MlxBackend
from tests import PATIENCE, ROOT
from tests.mlx_train import mlx_processes
from tests.mlx_train.mlx_exact import backend, micro_batch, plain
from tests.tiny_models import tiny_model

BATCH = micro_batch(20, (7, 4, 9), (3, 2, 5))
OTHER = micro_batch(13, (5, 6), (2, 2), seed=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def llama(models: Path) -> Path:
    return tiny_model("llama", models)


def trained(made: MlxBackend, steps: int = 3, first: int = 1) -> PortableState:
    for step in range(first, first + steps):
        made.train_step([BATCH, OTHER], step=step, learning_rate=1e-2)
    return made.get_state()


def same(a: PortableState, b: PortableState) -> bool:
    return all(
        x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)
        for x, y in (
            (a.weights, b.weights),
            (a.first_moment, b.first_moment),
            (a.second_moment, b.second_moment),
        )
    )


# -- start ---------------------------------------------------------------------------------------


def test_names_shapes_and_first_numbers_are_the_portable_ones(llama: Path) -> None:
    made: Backend = MlxBackend(TrainSettings(model=str(llama), lora=LoraSettings(rank=4), seed=7))
    weights = made.get_state().weights
    name = "model.layers.1.mlp.down_proj"
    assert weights[f"{name}.lora_A"].shape == (4, 128)
    assert weights[f"{name}.lora_B"].shape == (64, 4)
    assert len(weights) == 2 * 7 * 2
    np.testing.assert_array_equal(weights[f"{name}.lora_A"], initial_a(7, name, 4, 128))
    assert not any(w.any() for n, w in weights.items() if n.endswith("lora_B"))
    assert made.trainable == sum(w.size for w in weights.values())
    assert made.dtype == "float32"
    assert made.parameters == sum(int(np.prod(w.shape)) for w in torch_weights(llama).values())


def torch_weights(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


def test_router_and_experts_are_left_alone_unless_named(models: Path) -> None:
    made = MlxBackend(TrainSettings(model=str(tiny_model("qwen3_moe", models))))
    assert {n.split(".")[-2] for n in made.get_state().weights} == {
        "q_proj", "k_proj", "v_proj", "o_proj",
    }  # fmt: skip


def test_last_layers_only(llama: Path) -> None:
    made = MlxBackend(TrainSettings(model=str(llama), lora=LoraSettings(num_layers=1)))
    assert {n.split(".")[2] for n in made.get_state().weights} == {"1"}


def test_a_target_that_fits_nothing_names_what_would(llama: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'q_proj'.*k_proj"):
        MlxBackend(TrainSettings(model=str(llama), lora=LoraSettings(targets=("q_prj",))))
    with pytest.raises(UserError, match="RMSNorm; LoRA goes on linear"):
        MlxBackend(TrainSettings(model=str(llama), lora=LoraSettings(targets=("input_layernorm",))))
    mixtral = str(tiny_model("mixtral", llama.parent))
    with pytest.raises(UserError, match="no DoRA for experts"):
        MlxBackend(
            TrainSettings(model=mixtral, lora=LoraSettings(targets=("down_proj",), dora=True))
        )


def test_an_optimizer_it_does_not_have(llama: Path) -> None:
    with pytest.raises(UserError, match="adamw_8bit"):
        MlxBackend(TrainSettings(model=str(llama), optimizer="adamw_8bit"))


# -- steps ---------------------------------------------------------------------------------------


def test_a_step_is_torchs_adamw_on_the_token_mean(llama: Path) -> None:
    """Loss, clipping and update against torch.optim.AdamW fed with the plain gradients."""
    settings: dict[str, Any] = {"max_grad_norm": 0.05, "weight_decay": 0.1}
    made = backend(llama, **settings)
    paths = {
        f"{path}.{key}": p.name
        for p in made.trained
        for path, module in made.model.named_modules()
        if module is p.module
        for key in [p.key]
    }
    start = made.get_state().weights
    tensors = {n: torch.nn.Parameter(torch.tensor(w)) for n, w in start.items()}
    optimizer = torch.optim.AdamW(tensors.values(), lr=1e-2, weight_decay=0.1)
    for step in (1, 2, 3):
        loss, gradients = plain(made, [BATCH, OTHER])
        tokens = BATCH.supervised + OTHER.supervised
        for name, gradient in gradients.items():
            tensors[paths[name]].grad = torch.tensor(gradient.T / tokens, dtype=torch.float32)
        norm = torch.nn.utils.clip_grad_norm_(list(tensors.values()), 0.05)
        optimizer.step()
        done = made.train_step([BATCH, OTHER], step=step, learning_rate=1e-2)
        assert done.count == tokens
        assert done.loss_sum == pytest.approx(loss, rel=1e-6)
        assert done.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert done.grad_norm > 0.05  # or the clipping would not be seen
    weights = made.get_state().weights
    for name, tensor in tensors.items():
        np.testing.assert_allclose(weights[name], tensor.detach(), atol=2e-5)
    assert any(np.abs(weights[n] - start[n]).max() > 1e-2 for n in start)


def test_accumulation_is_the_mean_over_all_tokens(llama: Path) -> None:
    rows = [
        MicroBatch(BATCH.prefix, BATCH.tokens[i : i + 1], BATCH.targets[i : i + 1],
                   BATCH.lengths[i : i + 1])
        for i in range(3)
    ]  # fmt: skip
    whole, parts = backend(llama), backend(llama)
    a = whole.train_step([BATCH], step=1, learning_rate=1e-2)
    b = parts.train_step(rows, step=1, learning_rate=1e-2)
    assert a.count == b.count == 10
    assert a.loss_sum == pytest.approx(b.loss_sum, rel=1e-6)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-5)


@pytest.mark.slow
def test_training_learns(llama: Path) -> None:
    made = MlxBackend(TrainSettings(model=str(llama), lora=LoraSettings(rank=8)))
    first = made.logprobs(BATCH).sum()
    for step in range(1, 31):
        made.train_step([BATCH], step=step, learning_rate=1e-2)
    assert made.logprobs(BATCH).sum() > 0.2 * first


def test_evaluation_is_the_plain_loss_without_dropout(llama: Path) -> None:
    made = backend(llama, lora=LoraSettings(rank=4, alpha=8, dropout=0.5))
    shared = -made.logprobs(BATCH).sum()
    made.use_plain("for the test")
    assert -made.logprobs(BATCH).sum() == pytest.approx(shared, rel=1e-6)
    made.model.eval()
    assert plain(made, [BATCH])[0] == pytest.approx(shared, rel=1e-6)


def test_a_step_without_batches_changes_nothing(llama: Path) -> None:
    made = backend(llama)
    before = made.get_state()
    assert made.train_step([], step=1, learning_rate=1.0).count == 0
    assert same(before, made.get_state())


# -- state ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lora", [LoraSettings(4, 8, dropout=0.3), LoraSettings(4, 8, dora=True)])
def test_a_resumed_run_ends_in_the_same_bytes(llama: Path, lora: LoraSettings) -> None:
    whole = trained(backend(llama, lora=lora), 4)
    half = trained(backend(llama, lora=lora), 2)
    assert half.step == 2
    resumed = MlxBackend(TrainSettings(model=str(llama), lora=lora))
    resumed.generate([[1, 2, 3]], 4)  # what happens between steps must not shift the masks
    resumed.set_state(half)
    assert same(whole, trained(resumed, 2, first=3))


def test_dropout_depends_on_seed_and_step(llama: Path) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.5)
    losses = [
        backend(llama, lora=lora, seed=seed).train_step([BATCH], step=step, learning_rate=0.1)
        for seed, step in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    sums = [result.loss_sum for result in losses]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


def test_a_state_of_another_run_is_refused(llama: Path) -> None:
    made = backend(llama)
    other = backend(llama, lora=LoraSettings(rank=8)).get_state()
    with pytest.raises(UserError, match=r"has shape .*another rank"):
        made.set_state(other)
    state = made.get_state()
    gone = {n: w for n, w in state.weights.items() if ".0." not in n}
    with pytest.raises(UserError, match="lacks 14 of this run's 28 parameters"):
        made.set_state(PortableState(gone))
    extra = {**state.weights, "model.layers.9.mlp.up_proj.lora_A": np.zeros((4, 64), np.float32)}
    with pytest.raises(UserError, match="1 parameters that this run does not train"):
        made.set_state(PortableState(extra))


# -- processes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(llama: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    mlx_processes.main(str(llama), str(one))
    launch = Path(sys.executable).parent / "mlx.launch"
    command = [sys.executable, "-m", mlx_processes.__name__, str(llama), str(two)]
    for _ in range(3):  # a port that was free may be another's by the time it is taken
        done = subprocess.run(
            [str(launch), "-n", "2", "--starting-port", str(two_ports()), "--", *command],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    a, b = np.load(one), np.load(two)
    assert (int(a["world"]), int(b["world"])) == (1, 2)
    np.testing.assert_allclose(a["results"], b["results"], rtol=1e-6)
    np.testing.assert_allclose(b["sums"], [1 + 2e-9, 2.0**31 + 1], rtol=1e-14)  # not float32
    for name in set(a.files) - {"world", "results", "sums"}:
        # One process deals its rows to streams otherwise than two do, and AdamW makes a whole step
        # of 1e-2 of a gradient of any size: a thousandth of a step is rounding.
        np.testing.assert_allclose(a[name], b[name], atol=1e-5, rtol=1e-5, err_msg=name)


def two_ports() -> int:
    """The first of two ports in a row that nobody listens on."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


# -- samples -------------------------------------------------------------------------------------


def test_samples_are_greedy_answers_of_the_current_adapter(llama: Path) -> None:
    made = backend(llama, lora=LoraSettings(rank=4, alpha=64.0, dropout=0.3))
    prompts = [[1, 5, 6, 7, 8], [1, 5, 6, 9], [1, 5, 6, 10, 11, 12, 13]]
    answers = made.generate(prompts, 6)
    assert made.model.training
    made.model.eval()
    model: Any = made.model
    stop = end_tokens(load_chat(str(llama)), {}, llama)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = list(prompt)
        while len(tokens) < len(prompt) + 6:
            token = int(mx.argmax(model(mx.array([tokens]))[0, -1]).item())
            if token in stop:
                break
            tokens.append(token)
        assert answer == tokens[len(prompt) :]
    base = MlxBackend(TrainSettings(model=str(llama))).generate(prompts, 6)
    assert base != answers


# -- machines and models that will not do --------------------------------------------------------


def test_without_a_compiler_it_runs_uncompiled(
    llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        made = backend(llama, compile="on")
        assert not made.compiled
        assert made.why_compiled.startswith("MLX compiles with g++")
        assert "apt install g++" in capsys.readouterr().err
        trained(made, 1)
        assert len(made.generate([[1, 2, 3]], 2)[0]) <= 2
    finally:
        mx.enable_compile()


def test_compile_is_off_by_itself_on_a_cpu(llama: Path) -> None:
    assert not backend(llama).compiled


def test_folders_that_are_no_models(llama: Path, tmp_path: Path) -> None:
    def broken(change: str) -> Path:
        folder = tmp_path / change
        shutil.copytree(llama, folder)
        return folder

    no_weights = broken("no-weights")
    (no_weights / "model.safetensors").rename(no_weights / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no weights that MLX reads.*pytorch_model.bin"):
        load_base(no_weights)
    pointer = broken("pointer")
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="git lfs pull"):
        load_base(pointer)
    cut = broken("cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_base(cut)
    for change, message in (
        ({"model_type": "bert"}, "cannot load this model: Model type bert not supported"),
        ({"hidden_size": None}, "cannot build this model"),
        ({"intermediate_size": 96}, "cannot load this model"),
    ):
        folder = broken(str(change).replace(" ", ""))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=message):
            load_base(folder)
    config_only = tmp_path / "empty"
    config_only.mkdir()
    with pytest.raises(UserError, match=r"no config.json"):
        load_base(config_only)
    (config_only / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter, not a base model"):
        load_base(config_only)


def test_models_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        load_base("./nowhere/at/all")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        load_base("nobody/nothing-here")


def test_quantized_on_the_way_in(llama: Path) -> None:
    base = load_base(llama, quantize=4)
    assert base.bits == 4
    assert base.dtype == "float32"
    folder = llama.parent / "quantized"
    shutil.copytree(llama, folder)
    (folder / "config.json").write_text(json.dumps(base.config))
    with pytest.raises(UserError, match="quantized already"):
        load_base(folder, quantize=4)
