"""The llama.cpp engine against the torch engine, and what it says when llama.cpp dies."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("xllamacpp")
pytest.importorskip("peft")

from commands.engine_files import gguf_conversions
from convert.convert import convert
from convert.gguf.model import write_model
from livery.cli import cli
from livery.engines.engine import Decoding, Grammar, Prompt, open_engine
from livery.engines.llamacpp import files as llamacpp_files
from livery.engines.llamacpp.decode import choose
from livery.engines.llamacpp.process import LlamaProcess, Step
from livery.errors import UserError
from tests.convert import convert_cases as cases
from tests.convert.convert_cases import peft_adapter
from tests.tiny_models import EOS_ID, VOCAB, tiny_model

pytestmark = [*cases.QUIET, pytest.mark.usefixtures("cache")]

TEXTS = ["turn off the kitchen lights", "play", "what is the weather on monday", "stop", ""]
WORDS = Grammar("lark", 'start: WORD (" " WORD)* "!"\nWORD: /[a-zé]{1,6}/')


@pytest.fixture(scope="module")
def llama(root: Path) -> Path:
    return tiny_model("llama", root)


@pytest.fixture(scope="module")
def adapter(llama: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    peft_adapter("llama", root, folder / "peft")
    convert(folder / "peft", folder / "all", "all", base=llama)
    return folder / "all"


@pytest.fixture(scope="module")
def engine(llama: Path, adapter: Path) -> Iterator[Any]:
    made: Any = open_engine(
        "llamacpp", str(llama), str(adapter), gguf_type="f32", to_gguf=gguf_conversions()
    )
    yield made
    made.runtime.process.close()


@pytest.fixture(scope="module")
def torch_engine(llama: Path, adapter: Path) -> Any:
    return open_engine("torch", str(llama), str(adapter), dtype="float32", device="cpu")


def prompts(engine: Any) -> list[Prompt]:
    return [engine.prompt([{"role": "user", "content": text}]) for text in TEXTS]


def torch_margin(torch_engine: Any, prompt: Prompt, tokens: tuple[int, ...]) -> float:
    """How far, at the worst, torch's logit of a token lies below its likeliest."""
    import torch

    model = torch_engine.runtime.model
    ids = torch.tensor([[*prompt.tokens, *tokens]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt.tokens) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())


@pytest.mark.slow
@pytest.mark.parametrize("on", [True, False])
def test_free_answers_are_those_of_torch(engine: Any, torch_engine: Any, on: bool):
    for each in (engine, torch_engine):
        each.use_adapter(on)
    asked = prompts(engine)
    assert asked == prompts(torch_engine)
    found = engine.generate(asked, Decoding(max_tokens=12))
    for prompt, answer in zip(asked, found, strict=True):
        assert answer.tokens
        # llama.cpp keeps keys and values in float16: a near tie may fall the other way.
        assert torch_margin(torch_engine, prompt, answer.tokens) < 0.05
        torch_engine.use_adapter(not on)
        assert torch_margin(torch_engine, prompt, answer.tokens) > 0.05  # it would show
        torch_engine.use_adapter(on)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_constrained_answers_are_those_of_torch(engine: Any, torch_engine: Any, temperature: float):
    decoding = Decoding(max_tokens=10, grammar=WORDS, temperature=temperature, seed=3)
    for each in (engine, torch_engine):
        each.use_adapter(True)
    found = engine.generate(prompts(engine), decoding)
    wanted = torch_engine.generate(prompts(engine), decoding)
    same = [f.tokens == w.tokens for f, w in zip(found, wanted, strict=True)]
    assert sum(same) >= len(same) - 1, (found, wanted)
    for answer in found:
        assert set(answer.text) <= set("abcdefghijklmnopqrstuvwxyzé !")


def test_bytes_amid_a_character_are_told(engine: Any, torch_engine: Any):
    """The case in which llama.cpp leaves out steps: one position is then asked after the other."""
    llama: LlamaProcess = engine.runtime.process
    grammar = Grammar("regex", "[éξ好]{3}")
    engine.use_adapter(True)
    torch_engine.use_adapter(True)
    asked = prompts(engine)
    decoding = Decoding(max_tokens=12, grammar=grammar)
    found = engine.generate(asked, decoding)
    assert all(len(answer.text) == 3 and answer.finished for answer in found)
    wanted = torch_engine.generate(asked, decoding)
    assert [answer.text for answer in found] == [answer.text for answer in wanted]
    byte = int(engine.tokenizer("é", add_special_tokens=False)["input_ids"][0])
    step = llama.next(asked[0].tokens, top=1, scale=1.0, as_if=byte)
    whole = llama.next(asked[0].tokens, top=VOCAB, scale=1.0)
    assert step.chosen == byte
    assert abs(step.logprob - whole.row[byte]) < 1e-3
    assert abs(np.exp(whole.row.astype(np.float64)).sum() - 1) < 1e-4


def test_logprobs_are_those_of_torch(engine: Any, torch_engine: Any):
    answers = ["monday", "é", "", "7 pm", "on"]
    for on in (True, False):
        engine.use_adapter(on)
        torch_engine.use_adapter(on)
        found = engine.logprobs(prompts(engine), answers)
        wanted = torch_engine.logprobs(prompts(engine), answers)
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() < 0.05


def test_choosing_from_a_few_is_choosing_from_all():
    """Where `choose` decides from the likeliest, the whole vocabulary decides the same."""
    rng = np.random.default_rng(0)
    decided = 0
    for trial in range(300):
        size = 50
        logits = rng.normal(size=size).astype(np.float32) * 3
        allowed = rng.random(size) < 0.3 if trial % 3 else None
        noise = rng.gumbel(size=size).astype(np.float32) if trial % 2 else None
        order = np.argsort(-logits)
        known = order[:8]
        found = choose(Step(0, 0.0, known, logits[known]), size, allowed, noise)
        scores = logits + (0 if noise is None else noise)
        scores = scores if allowed is None else np.where(allowed, scores, -np.inf)
        if found is None:
            whole = Step(0, 0.0, order, logits[order])
            found = choose(whole, size, allowed, noise)
        else:
            decided += 1
        assert found == scores.argmax()
    assert 100 < decided < 300


@pytest.mark.slow
def test_a_gguf_base_brings_its_tokenizer(llama: Path, adapter: Path, root: Path, tmp_path: Path):
    write_model(llama, tmp_path / "base.gguf", "f32")
    base = str(tmp_path / "base.gguf")
    plain: Any = open_engine("llamacpp", base)
    told: Any = open_engine("llamacpp", base, tokenizer=str(llama))
    asked = prompts(plain)[0]
    one, other = (e.generate([asked], Decoding(max_tokens=8))[0] for e in (plain, told))
    assert (one.tokens, one.text) == (other.tokens, other.text)
    tuned: Any = open_engine("llamacpp", base, str(adapter / "gguf" / "adapter.gguf"))
    assert (plain.has_adapter, tuned.has_adapter) == (False, True)
    assert tuned.facts().dtype == "F32"
    answers = [e.generate([asked], Decoding(max_tokens=8))[0].tokens for e in (plain, tuned)]
    tuned.use_adapter(False)
    off = tuned.generate([asked], Decoding(max_tokens=8))[0].tokens
    assert answers[0] == off != answers[1]
    with pytest.raises(UserError, match="no adapter to switch on"):
        plain.use_adapter(True)
    other = tmp_path / "other"
    other.mkdir()
    for file in llama.glob("*.json"):
        (other / file.name).write_bytes(file.read_bytes())
    told = json.loads((other / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    one, two = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="token 300 is"):
        open_engine("llamacpp", base, tokenizer=str(other))


def test_converted_bases_are_kept_until_they_change(llama: Path, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in llama.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    made: list[str] = []
    conversions = gguf_conversions()

    def counted(model: Path, out: Path, kind: str) -> None:
        made.append(kind)
        conversions.model(model, out, kind)

    counting = dataclasses.replace(conversions, model=counted)
    first = llamacpp_files.model_file(str(folder), "q8_0", counting)
    assert llamacpp_files.model_file(str(folder), "q8_0", counting) == first
    assert made == ["q8_0"]
    os.utime(folder / "model.safetensors", (time.time() + 5, time.time() + 5))
    assert llamacpp_files.model_file(str(folder), "q8_0", counting) != first
    newer = dataclasses.replace(counting, version="another")
    llamacpp_files.model_file(str(folder), "q8_0", newer)
    assert made == ["q8_0"] * 3
    with pytest.raises(UserError, match="--gguf-type is q9"):
        llamacpp_files.model_file(str(folder), "q9", conversions)


def test_an_adapter_without_gguf_is_converted(llama: Path, adapter: Path, engine: Any):
    conversions = gguf_conversions()
    peft = adapter.parent / "peft"
    made: Any = open_engine("llamacpp", str(llama), str(peft), gguf_type="f32", to_gguf=conversions)
    asked = prompts(made)[:2]
    engine.use_adapter(True)
    decoding = Decoding(max_tokens=8)
    found, wanted = (e.generate(asked, decoding) for e in (made, engine))
    assert [a.tokens for a in found] == [a.tokens for a in wanted]
    with pytest.raises(UserError, match="livery convert"):
        open_engine("llamacpp", str(llamacpp_files.model_file(str(llama), "f32", conversions)),
                    str(peft))  # fmt: skip


@pytest.mark.slow
def test_longer_prompts_get_more_room(engine: Any, monkeypatch: pytest.MonkeyPatch):
    engine.use_adapter(True)
    long = Prompt((), tuple(range(5, 205)))
    decoding = Decoding(max_tokens=4)
    wanted = engine.generate([long], decoding)[0].tokens
    engine.runtime.process.close()
    engine.runtime.process = LlamaProcess(engine.runtime.model, engine.runtime.adapter, context=64)
    assert engine.generate([long], decoding)[0].tokens == wanted
    assert engine.runtime.process.context >= 204
    with pytest.raises(UserError, match="made for 2048"):
        engine.generate([Prompt((), (5,) * 2048)], decoding)


@pytest.mark.slow
def test_bad_files_end_in_an_error_that_names_them(
    llama: Path, adapter: Path, root: Path, tmp_path: Path
):
    base = llamacpp_files.model_file(str(llama), "f32", gguf_conversions())
    gguf = adapter / "gguf" / "adapter.gguf"
    (tmp_path / "cut.gguf").write_bytes(base.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cut.gguf.*(?s:.*)file bounds"):
        LlamaProcess(tmp_path / "cut.gguf", None)
    (tmp_path / "no.gguf").write_bytes(b"GGUFnothing")
    with pytest.raises(UserError, match=r"no.gguf: llama.cpp ended"):
        LlamaProcess(base, tmp_path / "no.gguf")
    other = tmp_path / "qwen2.gguf"
    write_model(tiny_model("qwen2", root), other, "f32")
    with pytest.raises(UserError, match=r"qwen2.gguf with .*adapter.gguf"):
        LlamaProcess(other, gguf)
    with pytest.raises(UserError, match=r"nowhere.gguf: no such file"):
        llamacpp_files.model_file(str(tmp_path / "nowhere.gguf"), "f16", None)


def test_a_process_that_is_killed_ends_in_an_error(llama: Path):
    base = llamacpp_files.model_file(str(llama), "f32", gguf_conversions())
    process = LlamaProcess(base, None)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="signal 9"):
        process.next([5, 6], top=1, scale=0.0)


def test_generate_from_the_command_line(tmp_path: Path, llama: Path, adapter: Path):
    asked = ["generate", "--engine", "llamacpp", "--model", str(llama), "--adapter", str(adapter)]
    result = CliRunner().invoke(
        cli, [*asked, "--max-tokens", "4", "--gguf-type", "q8_0", "--json", "stop"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [answer] = json.loads(result.stdout)["answers"]
    assert answer["tokens"] == 4
    result = CliRunner().invoke(cli, [*asked, "--dtype", "float32", "stop"])
    assert result.exit_code == 2
    assert "--dtype is not for --engine llamacpp" in result.output


@pytest.mark.slow
def test_evaluation_stands_beside_that_of_the_trained_weights(llama: Path, adapter: Path):
    gguf = adapter / "gguf" / "adapter.gguf"
    common = ["eval", "date-keys", "--engine", "llamacpp", "--model", str(llama), "--json"]
    few = ["--constrained", "--max-tokens", "4"]
    cases = adapter.parent / "cases.jsonl"
    cases.write_text('{"text": "wake me at 7 am", "date_keys": ["at_7am"]}\n')
    for given in (adapter, gguf):
        result = CliRunner().invoke(
            cli, [*common, *few, "--adapter", str(given), "--data", str(cases)],
            catch_exceptions=False,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        assert record["facts"]["engine"] == "llamacpp"
        assert record["facts"]["adapter_sha256"]
    assert (adapter / "evaluation_data_llamacpp.json").is_file()


@pytest.mark.slow
def test_the_exported_file_is_compared_with_what_was_trained(llama: Path, adapter: Path):
    """Scored on torch, then as GGUF: every case says whether it changed."""
    asked = ["eval", "date-keys", "--model", str(llama), "--adapter", str(adapter), "--json"]
    few = ["--constrained", "--max-tokens", "6", "--report", str(adapter), "--limit", "3"]
    for engine in (["torch", "--dtype", "float32"], ["llamacpp", "--gguf-type", "f32"]):
        result = CliRunner().invoke(cli, [*asked, *few, "--engine", *engine])
        assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["trained"]["engine"] == "torch"
    arm = record["trained"]["arms"]["tuned_constrained"]
    assert (arm["won"], arm["lost"], arm["total"]) == ([], [], 3)
    assert arm["same_text"] >= 2
    said = (adapter / "report.md").read_text()
    assert "Against the trained weights on torch" in said
    assert "llama.cpp F32" in said
    # Other weights than those that were scored are not compared.
    file = adapter / "adapter_model.safetensors"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b" ")
        result = CliRunner().invoke(cli, [*asked, *few, "--engine", "llamacpp"])
        assert "trained" not in json.loads(result.stdout)
    finally:
        file.write_bytes(kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma3", {"tie_word_embeddings": False, "sliding_window": 20}),
        ("qwen3", {"tie_word_embeddings": False}),
        ("mixtral", {}),
    ],
)
def test_prompts_that_share_a_beginning_are_answered_as_alone(
    family: str, changes: dict[str, Any], root: Path
):
    """What is kept of the prompt before must not show, sliding windows included."""
    base = tiny_model(family, root, **changes)
    engine: Any = open_engine("llamacpp", str(base), gguf_type="f32", to_gguf=gguf_conversions())
    torch_engine = open_engine("torch", str(base), dtype="float32", device="cpu")
    start = [{"role": "system", "content": "Answer with what was asked, be short about it. " * 4}]
    asked = [engine.prompt([*start, {"role": "user", "content": text}]) for text in TEXTS]
    decoding = Decoding(max_tokens=8)
    for prompt, answer in zip(asked, engine.generate(asked, decoding), strict=True):
        tokens = (*answer.tokens, EOS_ID) if answer.finished else answer.tokens
        assert torch_margin(torch_engine, prompt, tokens) < 0.1
    engine.runtime.process.close()


@pytest.mark.slow
def test_the_embedded_base_keeps_to_the_skill_s_grammar():
    from livery.paths import HOME
    from livery.skills import get_skill

    skill = get_skill("date-keys")
    engine: Any = open_engine("llamacpp", str(HOME / "base_model"), to_gguf=gguf_conversions())
    grammar = Grammar("lark", skill.grammar())
    asked = [engine.prompt(skill.messages(text)) for text in ("wake me at seven", "hello", "zzz")]
    for answer in engine.generate(asked, Decoding(max_tokens=64, grammar=grammar)):
        if answer.finished:
            skill.parse(answer.text)
    assert engine.facts().dtype == "F16"
    engine.runtime.process.close()
