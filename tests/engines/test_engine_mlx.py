"""What is the MLX engine's own: its samples and log-probabilities, its windows, its refusals."""

# ruff: noqa: E402

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from mlx_lm.utils import load_model

from livery.engines.engine import Decoding, Prompt, open_engine
from livery.errors import UserError
from tests.engines.asked import COMMANDS, conversation
from tests.engines.libraries import mlx_adapter
from tests.tiny_models import EOS_ID, tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def llama(models: Path) -> Path:
    return tiny_model("llama", models)


def test_sampling_follows_the_temperature(llama: Path):
    """First tokens drawn 400 times occur as often as the model's probabilities say."""
    engine = open_engine("mlx", str(llama))
    prompt = engine.prompt(conversation("play"))
    model, _ = load_model(llama)
    logits = np.asarray(model(mx.array(prompt.tokens)[None])[0, -1])
    weights = np.exp(logits / 0.5 - (logits / 0.5).max())
    likeliest = int(weights.argmax())
    share = float(weights[likeliest] / weights.sum())
    answers = engine.generate([prompt] * 400, Decoding(max_tokens=1, temperature=0.5))
    got = sum((a.tokens or (EOS_ID,))[0] == likeliest for a in answers) / 400
    assert abs(got - share) < 4 * (share * (1 - share) / 400) ** 0.5


def test_logprobs_are_the_models_own(llama: Path):
    engine = open_engine("mlx", str(llama))
    prompts = [engine.prompt(conversation(text)) for text in COMMANDS[:3]]
    answers = ["tomorrow", "no lights", "x"]
    model, _ = load_model(llama)
    for prompt, answer, got in zip(
        prompts, answers, engine.logprobs(prompts, answers), strict=True
    ):
        ids = [*engine.tokenizer(answer)["input_ids"], EOS_ID]  # type: ignore[attr-defined]
        logits = np.asarray(model(mx.array([*prompt.tokens, *ids])[None])[0], np.float64)
        scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        want = [scores[len(prompt.tokens) - 1 + i, token] for i, token in enumerate(ids)]
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_a_tokenizer_beside_the_adapter_is_used(llama: Path, tmp_path: Path):
    adapter = mlx_adapter(llama, tmp_path / "run" / "mlx").parent
    tokenizer = open_engine("mlx", str(llama)).tokenizer  # type: ignore[attr-defined]
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>X' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>X' }}{% endif %}"
    )
    tokenizer.save_pretrained(adapter)
    engine = open_engine("mlx", str(llama), str(adapter))
    text = tokenizer.decode(engine.prompt([{"role": "user", "content": "hi"}]).tokens)
    assert text == "<|im_start|>Xhi<|im_end|><|im_start|>X"


def test_what_is_wrong_with_an_adapter_is_said(llama: Path, models: Path, tmp_path: Path):
    def complaint(adapter: Path) -> str:
        with pytest.raises(UserError) as caught:
            open_engine("mlx", str(llama), str(adapter))
        return str(caught.value)

    assert "no such adapter folder" in complaint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no adapter weights" in complaint(tmp_path / "empty")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_model.safetensors").write_bytes(b"")
    assert "--to mlx" in complaint(tmp_path / "peft")

    partial = mlx_adapter(llama, tmp_path / "partial")
    weights = dict(mx.load(str(partial / "adapters.safetensors")))
    gone = weights.pop(sorted(weights)[0])
    assert gone.size > 0
    mx.save_safetensors(str(partial / "adapters.safetensors"), weights)
    assert "lacks 1 of the" in complaint(partial)

    other = mlx_adapter(tiny_model("qwen3", models), tmp_path / "other")
    assert "Was it trained on another one?" in complaint(other)

    nothing = mlx_adapter(llama, tmp_path / "nothing")
    config = json.loads((nothing / "adapter_config.json").read_text())
    config["lora_parameters"]["keys"] = ["no_such_module"]
    (nothing / "adapter_config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(nothing / "adapters.safetensors"), {})
    assert "names no module" in complaint(nothing)

    del config["num_layers"]
    (nothing / "adapter_config.json").write_text(json.dumps(config))
    assert "num_layers" in complaint(nothing)

    cut = mlx_adapter(llama, tmp_path / "cut")
    whole = (cut / "adapters.safetensors").read_bytes()
    (cut / "adapters.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in complaint(cut)

    lonely = mlx_adapter(llama, tmp_path / "lonely")
    (lonely / "adapter_config.json").unlink()
    assert "no adapter_config.json" in complaint(lonely)

    full = mlx_adapter(llama, tmp_path / "full")
    (full / "adapter_config.json").write_text('{"fine_tune_type": "full", "num_layers": 2}')
    assert "not an adapter" in complaint(full)


def test_unknown_engines_and_wrong_decoding():
    with pytest.raises(UserError, match="Choose one of: mlx"):
        open_engine("tpu", "base_model")
    with pytest.raises(UserError, match="max_tokens is 0"):
        Decoding(max_tokens=0)
    with pytest.raises(UserError, match="batch_size is 0"):
        Decoding(batch_size=0)
    with pytest.raises(UserError, match="temperature is -1"):
        Decoding(temperature=-1)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch):
    import builtins
    import sys

    for name in [n for n in sys.modules if n.startswith("livery.engines.mlx.engine")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "mlx" or name.startswith("mlx."):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'livery\[mlx\]'"):
        open_engine("mlx", "base_model")


def test_what_goes_beyond_a_window_that_mlx_has_not_is_refused(root: Path) -> None:
    """As in training; up to it the engine answers and scores."""
    base = tiny_model("mistral", root, sliding_window=16)
    engine = open_engine("mlx", str(base))
    prompt = Prompt((), tuple(range(3, 15)))
    [answer] = engine.generate([prompt], Decoding(max_tokens=4))
    assert len(answer.tokens) <= 4
    with pytest.raises(UserError, match=r"beyond 16 tokens.*12 tokens with.*--engine torch"):
        engine.generate([prompt], Decoding(max_tokens=5))
    with pytest.raises(UserError, match="beyond 16 tokens"):
        engine.stream(prompt, Decoding(max_tokens=5), lambda text: None)
    short = Prompt((), tuple(range(3, 8)))
    assert len(engine.logprobs([short], ["a"])) == 1
    with pytest.raises(UserError, match="a prompt of 5 tokens with an answer of"):
        engine.logprobs([short], ["remind me of the report " * 9])
