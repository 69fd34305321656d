"""The perplexity of plain texts: what each engine measures, how it is paired, who reports it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from commands.engine_files import gguf_conversions
from convert.convert import convert
from eval import forgetting, neutral
from eval.evaluate import Request, evaluate
from eval.report import words
from eval.report.report import write_report
from eval.report.terminal import print_record
from livery.engines.engine import open_engine
from livery.errors import UserError
from livery.files import write_json
from tests.engines.libraries import peft_adapter
from tests.tiny_models import tiny_model

NEEDS = {"mlx": "mlx_lm", "torch": "torch", "llamacpp": "xllamacpp"}
TEXTS = ("play the music", "The meeting is on monday, at seven.", "lights")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model, adapter in PEFT's format)."""
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("tuned")
    model = tiny_model("llama", folder)
    return model, peft_adapter(model, folder / "adapter")


def own_nats(model: Path, adapter: Path | None, text: str) -> float:
    """Mean nats a token of a text after the model's first token, by transformers alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        loaded = PeftModel.from_pretrained(loaded, adapter)
    first = tokenizer.bos_token_id
    ids = [tokenizer.eos_token_id if first is None else first]
    ids += tokenizer(text, add_special_tokens=False)["input_ids"]
    row = torch.tensor([ids])
    with torch.no_grad():
        return float(loaded(input_ids=row, labels=row).loss)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_every_engine_measures_what_transformers_does(
    name: str, tuned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, adapter = tuned
    options: dict[str, Any] = {"dtype": "float32"}
    if name == "llamacpp":
        options = {"gguf_type": "f32", "to_gguf": gguf_conversions()}
    if name == "mlx":
        convert(adapter, tmp_path / "mlx", "mlx", base=model)
    engine = open_engine(name, str(model), str(tmp_path / "mlx" if name == "mlx" else adapter),
                         **options)  # fmt: skip
    moved: list[int] = []
    found = forgetting.measure(engine, TEXTS, moved.append)
    assert moved == [1, 2, 3, 4, 5, 6]
    for text, row in zip(TEXTS, found["texts"], strict=True):
        assert row["text"] == text
        assert row["base"] == pytest.approx(own_nats(model, None, text), abs=2e-3)
        assert row["tuned"] == pytest.approx(own_nats(model, adapter, text), abs=2e-3)
        assert abs(row["base"] - row["tuned"]) > 0.01, "the adapter says something else"
    [alone] = engine.logprobs([engine.text_prompt()], [TEXTS[0]])
    engine.use_adapter(False)
    [base] = engine.logprobs([engine.text_prompt()], [TEXTS[0]])
    assert abs(alone - base).max() > 0.01, "the adapter was on again"


def test_the_figures_are_those_of_the_texts_paired() -> None:
    base = [2.0, 3.0, 4.0, 1.0] * 10
    tuned = [value + 0.1 for value in base]
    found = forgetting.compared(["a text"] * 40, [5] * 40, base, tuned)
    assert found["base"] == pytest.approx(math.exp(2.5))
    assert found["ratio"] == pytest.approx(math.exp(0.1))
    assert found["interval"] == pytest.approx([math.exp(0.1)] * 2)
    assert words.texts({"texts": found}) == (
        "Perplexity of 40 plain texts: base 12.18, tuned 13.46 (+10.5 %, 95 % interval +10.5 to "
        "+10.5 %; p < 0.001, worse)."
    )
    assert words.worst_texts({"texts": found})[0] == ("a text", "7.4", "8.2")
    better = forgetting.compared(["a"] * 40, [5] * 40, tuned, base)
    assert words.worst_texts({"texts": better}) == []  # none where it costs most
    same = forgetting.compared(["a"] * 40, [5] * 40, base, base)
    assert "+0.0 %" in words.texts({"texts": same})
    assert "within chance" in words.texts({"texts": same})
    assert words.texts({}) == words.texts({"texts": None}) == ""


def test_there_are_two_hundred_texts_each_once_and_apart_from_the_prompts() -> None:
    texts = forgetting.read_texts()
    assert len(texts) == len(set(texts)) == 200
    assert all(10 <= len(text.split()) <= 45 and text.isascii() for text in texts)
    assert not set(texts) & set(neutral.PROMPTS)


def test_an_endpoint_that_shows_no_probabilities_says_so() -> None:
    engine = open_engine("http", "base", "tuned", url="http://127.0.0.1:9/v1")
    found = forgetting.measure(engine, TEXTS)
    assert set(found) == {"reason"}
    assert words.texts({"texts": found}).startswith("Plain texts were not read: The http engine")
    with pytest.raises(UserError):
        engine.text_prompt()


@pytest.mark.slow
def test_persona_reports_it_beside_its_scores(
    tuned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, adapter = tuned
    request = Request("persona", str(adapter), str(model), "torch", {"dtype": "float32"},
                      cases="general", limit=2, baseline=True)  # fmt: skip
    found = evaluate(request)
    assert found["texts"]["total"] == 2
    print_record(found)
    assert (said := words.texts(found)) in capsys.readouterr().out
    write_json(tmp_path / "evaluation.json", found)
    for path in write_report(tmp_path):
        text = path.read_text(encoding="utf-8")
        assert said.split("(")[0] in text
        assert found["texts"]["texts"][0]["text"] in text
