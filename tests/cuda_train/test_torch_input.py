"""What a user can get wrong with the torch backend, and what it answers."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from commands.training.init_adapter import start_from
from cuda_train import memory
from cuda_train.backend import TorchBackend
from cuda_train.optim import AdamW
from livery.config.settings import LoraSettings, TrainSettings
from livery.engines.torch import load as torch_base
from livery.errors import UserError
from livery.training.backend import PortableState
from livery.training.forecast import Device
from tests.cuda_train.test_torch_loss import draw
from tests.tiny_models import tiny_model

CPU, MPS = torch.device("cpu"), torch.device("mps")
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("models"))


def backend(model: Path, **changes: Any) -> TorchBackend:
    given = {"model": str(model), "lora": LoraSettings(rank=4), "device": "cpu", **changes}
    return TorchBackend(TrainSettings(**given))


# -- device and dtype --------------------------------------------------------------------------


@needs_no_gpu
@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "0", '{"": 0}', "{'': 'cuda:0'}"])
def test_cuda_without_a_gpu(asked: str) -> None:
    with pytest.raises(UserError, match=r"torch is built.*Choose auto or cpu"):
        torch_base.find_device(asked)


def test_devices_that_are_none() -> None:
    assert torch_base.find_device('{"": "cpu"}') == CPU
    with pytest.raises(UserError, match="spreads the model over 2 devices"):
        torch_base.find_device('{"model": 0, "lm_head": "cpu"}')
    with pytest.raises(UserError, match="not valid JSON"):
        torch_base.find_device('{"": ')
    with pytest.raises(UserError, match="choose auto, cpu, cuda"):
        torch_base.find_device("gpu")


def test_dtypes_by_device() -> None:
    assert torch_base.choose_dtype("auto", CPU) == "float32"
    assert torch_base.choose_dtype("bfloat16", CPU) == "bfloat16"
    assert torch_base.choose_dtype("auto", MPS) == "float16"
    with pytest.raises(UserError, match="hundred times slower"):
        torch_base.choose_dtype("float16", CPU)


def test_mps_takes_adamw_by_itself(llama: Path) -> None:
    from cuda_train.backend import choose_optimizer

    made = backend(llama)
    settings = dataclasses.replace(made.settings, optimizer="adamw_8bit")
    base = torch_base.TorchBase(made.loss.model, MPS, "float16", None)
    optimizer, (note,) = choose_optimizer(made.loss.flat, settings, base)
    assert isinstance(optimizer, AdamW)
    assert "does not run on MPS" in note
    with pytest.raises(UserError, match=r"MPS.*--backend mlx"):
        torch_base.quantization(4, "float16", MPS)


# -- bitsandbytes ------------------------------------------------------------------------------


def test_bitsandbytes_is_missing(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for changes in ({"quantize": 4}, {"optimizer": "adamw_8bit"}):
        with pytest.raises(UserError, match=r"bitsandbytes cannot be imported.*livery\[cuda\]"):
            backend(llama, **changes)


def test_bitsandbytes_is_built_for_another_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    class ErrorHandlerMockBNBNativeLibrary:
        error_msg = "libcudart.so.11.0: cannot open shared object file\nmore"

    broken: Any = types.ModuleType("bitsandbytes")
    broken.cextension = types.SimpleNamespace(lib=ErrorHandlerMockBNBNativeLibrary())
    monkeypatch.setitem(sys.modules, "bitsandbytes", broken)
    with pytest.raises(UserError, match=r"built for CUDA .*libcudart.so.11.0.*pip install -U"):
        torch_base.require_bitsandbytes()


def test_bits_and_optimizers_that_torch_has_not(llama: Path) -> None:
    with pytest.raises(UserError, match="4 or 8 bits"):
        backend(llama, quantize=6)
    with pytest.raises(UserError, match="adamw_8bit"):
        backend(llama, optimizer="lion")


# -- model and targets -------------------------------------------------------------------------


def test_models_that_are_none(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter"):
        backend(tmp_path / "adapter")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config.json"):
        backend(tmp_path / "empty")
    (tmp_path / "cut").mkdir()
    for file in llama.iterdir():
        content = file.read_bytes()
        half = len(content) // 2 if file.suffix == ".safetensors" else len(content)
        (tmp_path / "cut" / file.name).write_bytes(content[:half])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        backend(tmp_path / "cut")


def test_targets(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such module. It has: .*q_proj"):
        backend(llama, lora=LoraSettings(targets=("query",)))
    mixtral = tiny_model("mixtral", tmp_path)
    with pytest.raises(UserError, match="--backend mlx"):
        backend(mixtral, lora=LoraSettings(targets=("experts.gate_up_proj",)))
    names = backend(
        llama, lora=LoraSettings(rank=2, targets=("q_proj",), num_layers=1)
    ).loss.flat.names
    assert names == (
        "model.layers.1.self_attn.q_proj.lora_A", "model.layers.1.self_attn.q_proj.lora_B",
    )  # fmt: skip


@pytest.mark.slow
def test_every_linear_layer_of_the_blocks_by_default(llama: Path, tmp_path: Path) -> None:
    def leaves(model: Path) -> set[str]:
        return {name.split(".")[-2] for name in backend(model).loss.flat.names}

    mlp = {"gate_proj", "up_proj", "down_proj"}
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert leaves(llama) == mlp | attention
    assert leaves(tiny_model("mixtral", tmp_path)) == attention
    assert leaves(tiny_model("phi3", tmp_path)) == {
        "qkv_proj", "o_proj", "gate_up_proj", "down_proj",
    }  # fmt: skip


def test_a_state_of_another_adapter(llama: Path) -> None:
    made = backend(llama)
    weights = made.get_state().weights
    first = min(weights)
    with pytest.raises(UserError, match="belong to another adapter"):
        made.set_state(PortableState({k: v for k, v in weights.items() if k != first}))
    with pytest.raises(UserError, match=rf"{first} is \(2, 2\)"):
        made.set_state(PortableState({**weights, first: np.zeros((2, 2), np.float32)}))


# -- memory ------------------------------------------------------------------------------------


def test_out_of_memory_names_the_flags(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backend(llama, batch_size=16, grad_accum=2)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(made.loss, "token_losses", full)
    with pytest.raises(UserError) as caught:
        made.train_step([draw()], step=1, learning_rate=1e-3)
    text = str(caught.value)
    assert "Try, in this order: --batch-size 8 --grad-accum 4 (the same step)" in text
    assert "--grad-checkpoint" in text
    assert "--load-in-4bit" not in text, "it would not help on a CPU"
    cuda = memory.forecast(made.settings, (), torch.device("cpu"))
    cuda = dataclasses.replace(
        cuda, device=Device("cuda:0", 0, quantizes=(8, 4), small_moments=True)
    ).out_of_memory()
    assert "--quantize 8" in cuda
    assert "--optim adamw_8bit" in cuda


def test_a_base_too_large_is_refused_before_it_loads(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = sum(p.numel() for p in torch_base.load_base(llama, device="cpu").model.parameters())
    settings = TrainSettings(model=str(llama), device="cpu")
    assert memory.forecast(settings, ()).need().weights == 4 * count
    monkeypatch.setattr(memory, "free_memory", lambda device: (3 * count, 0))
    monkeypatch.setattr("cuda_train.backend.load_base", None)
    with pytest.raises(UserError, match=r"its weights take .* and this machine has .* free"):
        backend(llama)


# -- optimizers --------------------------------------------------------------------------------


def test_adamw_is_torchs(llama: Path) -> None:
    made = backend(llama, weight_decay=0.1, max_grad_norm=0.5)
    copy = torch.nn.Parameter(made.loss.flat.values.clone())
    theirs = torch.optim.AdamW([copy], lr=1e-2, weight_decay=0.1)
    for step in range(1, 6):
        made.train_step([draw(seed=step)], step=step, learning_rate=1e-2)
        copy.grad = made.loss.flat.grads.clone()
        assert float(copy.grad.norm()) <= 0.5 * (1 + 1e-5)
        theirs.step()
    torch.testing.assert_close(made.loss.flat.values, copy.data, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_eight_bit_moments_go_over_widened(llama: Path) -> None:
    pytest.importorskip("bitsandbytes")
    made = backend(llama, optimizer="adamw_8bit", lora=LoraSettings(rank=64))
    for step in range(1, 4):
        made.train_step([draw(seed=step)], step=step, learning_rate=1e-2)
    state = made.get_state()
    assert "8 bits" in state.notes[0]
    moment = state.second_moment["model.layers.0.mlp.down_proj.lora_B"]
    assert moment.dtype == np.float32
    assert (moment > 0).any()
    for optimizer in ("adamw", "adamw_8bit"):
        other = backend(llama, optimizer=optimizer, lora=LoraSettings(rank=64))
        other.set_state(state)
        back = other.get_state()
        for ours, theirs in ((state.first_moment, back.first_moment),
                             (state.second_moment, back.second_moment)):  # fmt: skip
            for name, value in ours.items():
                np.testing.assert_allclose(theirs[name], value, atol=0.02 * np.abs(value).max())
        other.train_step([draw(seed=4)], step=4, learning_rate=1e-2)
        if optimizer == "adamw":
            reference = made.loss.flat.values.clone()
            made.train_step([draw(seed=4)], step=4, learning_rate=1e-2)
            moved = (made.loss.flat.values - reference).norm()
            assert float((other.loss.flat.values - made.loss.flat.values).norm() / moved) < 0.05


# -- starting from another adapter -------------------------------------------------------------


@pytest.mark.slow
def test_a_peft_adapter_from_elsewhere_is_continued(llama: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=8, lora_alpha=24, target_modules=["q_proj", "v_proj"])
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    torch.manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    plain = backend(llama)
    with pytest.raises(UserError, match=r"--lora-r 8 --lora-alpha 24 --lora-targets q_proj,v_proj"):
        start_from(str(tmp_path), plain.settings, plain)
    lora = LoraSettings(rank=8, alpha=24.0, targets=("q_proj", "v_proj"))
    ours = backend(llama, lora=lora)
    assert "4 modules" in start_from(str(tmp_path), ours.settings, ours)
    tokens = torch.arange(5, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            ours.loss.model(input_ids=tokens).logits, theirs.eval()(input_ids=tokens).logits
        )
