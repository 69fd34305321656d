"""The embedded base: loads everywhere with the same logits, its template, its recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base_model.recipe.corpus import PAD, dialogues, pack, pieces, tokens
from base_model.recipe.dialogue import Dialogue, ForbiddenOutput, Turn, check
from base_model.recipe.scenes import sentence
from base_model.recipe.typed import exact, open_clock
from livery.skills import date_keys
from tests import ROOT

BASE = ROOT / "base_model"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE)


def test_same_logits_in_transformers_and_mlx(tokenizer: Any) -> None:
    import mlx.core as mx
    import torch
    from mlx_lm.utils import load_model
    from transformers import AutoModelForCausalLM

    ids = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "what is 3 plus 4?"},
        ],
        add_generation_prompt=True,
        return_dict=False,
    )
    hf = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = hf(torch.tensor([ids])).logits[0].numpy()
    model, _ = load_model(BASE)
    model.set_dtype(mx.float32)
    got = np.array(model(mx.array([ids]))[0])
    assert expected.shape == (len(ids), 4096)
    assert np.abs(expected - got).max() < 1e-4
    assert expected.std() > 0.5, "all logits alike would agree anywhere"


def test_loads_with_mlx_lm_as_users_do(tokenizer: Any) -> None:
    from mlx_lm import load

    _, wrapped = load(str(BASE), lazy=True)
    chat = [{"role": "user", "content": "hello"}]
    assert wrapped.apply_chat_template(chat, add_generation_prompt=True) == list(
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    )
    assert wrapped.eos_token_ids == {tokenizer.eos_token_id}


def test_the_recipe_s_own_network_is_the_exported_one(tokenizer: Any) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from base_model.recipe.model import Decoder, ModelShape, rotary

    layers = json.loads((BASE / "config.json").read_text())["num_hidden_layers"]
    own = Decoder(ModelShape(layers=layers))
    stored = load_file(BASE / "model.safetensors")
    own.load_state_dict({k.removeprefix("model."): v.float() for k, v in stored.items()})
    ids = torch.tensor([tokenizer.encode("the red kettle is in the garden at half past three")])
    hf = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = own(ids, *rotary(own.shape, ids.shape[1], torch.float32))
        ours = hidden @ own.embed_tokens.weight.T
        assert (ours - hf(ids).logits).abs().max() < 1e-4


def test_small_enough_and_quantizable(tokenizer: Any) -> None:
    from safetensors import safe_open

    assert (BASE / "model.safetensors").stat().st_size <= 20_000_000
    with safe_open(BASE / "model.safetensors", "np") as stored:
        for name in stored.keys():  # noqa: SIM118 (safe_open is no mapping)
            assert all(size % 64 == 0 for size in stored.get_slice(name).get_shape()), name
    # K-quants take rows of 256.
    config = json.loads((BASE / "config.json").read_text())
    assert config["hidden_size"] % 256 == 0
    assert config["intermediate_size"] % 256 == 0
    assert config["vocab_size"] == len(tokenizer)


def test_four_bit_mlx_still_answers(tokenizer: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.utils import load_model

    model, _ = load_model(BASE)
    model.set_dtype(mx.float32)
    ids = mx.array([tokenizer.encode("repeat the text")])
    before = model(ids)
    nn.quantize(model, group_size=64, bits=4)
    after = model(ids)
    assert 0 < float(mx.abs(before - after).max()) < 0.5 * float(mx.abs(before).max())


def test_special_tokens_are_distinct(tokenizer: Any) -> None:
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(named) == 3
    config = json.loads((BASE / "config.json").read_text())
    generation = json.loads((BASE / "generation_config.json").read_text())
    for where in (config, generation):
        assert where["eos_token_id"] == tokenizer.eos_token_id
        assert where["pad_token_id"] == tokenizer.pad_token_id
        assert where["bos_token_id"] == tokenizer.bos_token_id
    assert tokenizer.decode([tokenizer.eos_token_id]) == "<|end|>"


def test_pieces_of_keys_are_words_digits_and_underscores(tokenizer: Any) -> None:
    assert tokenizer.tokenize("at_3_30pm") == ["at", "_", "3", "_", "3", "0", "pm"]
    assert tokenizer.tokenize("day_after_tomorrow") == ["day", "_", "after", "_", "tomorrow"]
    assert tokenizer.tokenize("in_120_minutes") == ["in", "_", "1", "2", "0", "_", "minutes"]


content = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["<|end|>", "<|assistant|>", " ", "\n", "{{ bos_token }}", "a <|user|> b", ""]),
)
conversations = st.builds(
    lambda system, pairs: [
        *([{"role": "system", "content": system}] if system is not None else []),
        *(
            {"role": role, "content": text}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ),
    ],
    st.none() | content,
    st.lists(st.tuples(content, content), min_size=1, max_size=3),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(conversations)
def test_prompt_tokens_are_a_prefix(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    def ids(part: list[dict[str, str]], prompt: bool) -> list[int]:
        return tokenizer.apply_chat_template(part, add_generation_prompt=prompt, return_dict=False)

    whole = ids(messages, False)
    for end in range(1, len(messages)):
        if messages[end]["role"] == "assistant":
            prompt = ids(messages[:end], True)
            assert whole[: len(prompt)] == prompt
    assert whole[-1] == tokenizer.eos_token_id


def test_template_refuses_unknown_roles_and_matches_training(tokenizer: Any) -> None:
    import jinja2

    with pytest.raises(jinja2.TemplateError, match="roles system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])
    for dialogue in dialogues(3, 50):
        chat = [{"role": t.role, "content": t.text} for t in dialogue.turns]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False)
        assert rendered == "".join(text for text, _ in pieces(dialogue))


def test_text_survives_the_tokenizer(tokenizer: Any) -> None:
    for text in ("Été à 15h30 — “ok” 東京 🙂", "  two  spaces\n\ttab", "a_b__c 12.5%"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("course", [1, 2, 3])
def test_corpus_is_decided_by_its_seed(course: int) -> None:
    first = list(dialogues(11, 300, course=course))
    assert first == list(dialogues(11, 300, course=course))
    assert first != list(dialogues(12, 300, course=course))


@pytest.mark.parametrize(
    "planted",
    [
        '["next_friday"]',
        "in_30_minutes",
        "at_3_30pm",
        "at_3pm",
        "tomorrow_morning",
        "day_after_tomorrow",
        "this_weekend",
        "after_dinner",
        "last_night",
        "[ACTION]open: browser[/ACTION]",
        "[SHELL]ls[/SHELL]",
        "== STATE ==",
        '{"conditions": [{"field": "age"}]}',
    ],
)
def test_a_skill_s_answer_in_the_corpus_raises(planted: str) -> None:
    with pytest.raises(ForbiddenOutput):
        check(Dialogue((Turn("user", "when?"), Turn("assistant", planted))))


def test_plain_words_pass_the_filter() -> None:
    plain = Dialogue((Turn("assistant", "next friday, 3:30 pm, in 30 minutes, red_kettle_30pm"),))
    assert check(plain) is plain


def as_key(plain: str) -> str:
    """A plain time with the underscores of a key: "3:15 pm" -> "at_3_15pm"."""
    clock = re.fullmatch(r"(\d+)(?::(\d\d))? ([ap]m)", plain)
    if clock:
        return f"at_{clock[1]}{'_' + clock[2] if clock[2] else ''}{clock[3]}"
    return plain.replace(" ", "_")


@pytest.fixture(scope="module")
def typed_sentences() -> list[tuple[str, list[str]]]:
    rng = Random(17)
    return [sentence(rng) for _ in range(4000)]


def test_the_third_course_names_times_as_the_contract_does(
    typed_sentences: list[tuple[str, list[str]]],
) -> None:
    named = {plain for _, times in typed_sentences for plain in times}
    assert [plain for plain in named if not date_keys.is_key(as_key(plain))] == []
    assert not named & {"12 am", "12 pm"}, "twelve is noon or midnight"
    static = {key.replace("_", " ") for key in date_keys.STATIC_KEYS if "at_1" not in key}
    missing = {key for key in static - named if not key.endswith(("am", "pm"))}
    # The vocabulary has grown by these since the base was trained; adapters learn them.
    assert missing <= {"during breakfast", "during dinner"}, "every key without a number is drawn"
    for text, times in typed_sentences:
        assert len(set(times)) == len(times) <= date_keys.MAX_KEYS, text
    lengths = Counter(len(times) for _, times in typed_sentences)
    assert all(lengths[count] > 200 for count in range(4)), lengths


def test_a_clock_that_could_be_morning_or_evening_has_no_plain_time() -> None:
    rng = Random(4)
    for _ in range(2000):
        said = open_clock(rng)
        assert said.plain == ()
        assert not re.search(
            r"[ap]\.?m\b|noon|night|morning|(?<!\d)(0\d|1[3-9]|2\d)[:.h]", said.text
        ), said.text
        text, plain = exact(rng)
        clear = r"[ap]\b|[ap]\.|[ap] ?m\b|[ap] m|morning|noon|night|evening|\b(0\d|1[3-9]|2[0-3])"
        clear += r"|hundred|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty"
        assert re.search(clear, text), f"{text} is said to be {plain}"


@pytest.mark.slow
def test_no_sentence_of_the_third_course_stands_in_a_validation_set(
    typed_sentences: list[tuple[str, list[str]]],
) -> None:
    from datagen.date_keys import SETS

    kept: set[str] = set()
    for path in SETS.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept |= {date_keys.normalise(row["text"]) for row in rows}
    assert len(kept) > 233
    assert not kept & {date_keys.normalise(text) for text, _ in typed_sentences}


def test_packing_keeps_every_document_whole(tokenizer: Any) -> None:
    backend = tokenizer.backend_tokenizer
    documents = [tokens(d, backend) for d in dialogues(5, 400)]
    pad = backend.token_to_id(PAD)
    ids, answer = pack(documents, 256, pad)
    short = [d for d in documents if len(d[0]) <= 256]
    begin = backend.token_to_id("<|begin|>")
    assert (ids == begin).sum() == len(short)
    assert (ids != pad).sum() == sum(len(d[0]) for d in short)
    assert answer.sum() == sum(sum(d[1]) for d in short)
    assert (ids == pad).mean() < 0.05
    assert not answer[ids == pad].any()


def tiny_run(steps: int) -> Any:
    from base_model.recipe.train import Run

    return Run(
        steps=steps,
        layers=1,
        tokens_per_step=1024,
        short_row=128,
        long_row=256,
        warmup=2,
        shard_dialogues=400,
        tokenizer_dialogues=6000,
        compile=False,
        save_every=4,
    )


@pytest.mark.slow
def test_a_tiny_run_learns_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    import torch

    from base_model.recipe.export import export
    from base_model.recipe.train import train

    torch.set_num_threads(1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    parts.mkdir()
    run = tiny_run(16)
    straight = train(whole, run, log=lambda _: None)
    logged = [json.loads(line)["loss"] for line in (whole / "log.jsonl").read_text().splitlines()]
    assert logged[-1] < 7.6, "8.3 is the loss of knowing nothing"

    (parts / "tokenizer.json").write_bytes((whole / "tokenizer.json").read_bytes())

    def stop(line: str) -> None:
        raise KeyboardInterrupt(line)

    # The checkpoint of step 4 is written before the loop is stopped by its first log line.
    interrupted = tiny_run(16)
    with pytest.raises(KeyboardInterrupt):
        train(parts, interrupted, log=stop)
    assert (parts / "checkpoint.safetensors").exists()
    lines: list[str] = []
    resumed = train(parts, run, log=lines.append)
    assert lines[0].startswith("resumed at step ")
    for (name, a), (_, b) in zip(
        straight.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    export(resumed, parts, tmp_path / "model", run)
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.config.num_hidden_layers == 1


def test_the_recipe_s_command_shows_its_corpus_and_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from base_model.recipe.__main__ import main

    main(["--show", "2"])
    assert capsys.readouterr().out.count("[assistant]") >= 2
    with pytest.raises(SystemExit):
        main([])
    assert "--work DIR is missing" in capsys.readouterr().err


def test_a_base_that_has_been_through_every_course_is_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from base_model.recipe.__main__ import main

    done = tmp_path / "done"
    done.mkdir()
    (done / "training_run.json").write_text(json.dumps({"courses": [{}, {}, {}]}))
    with pytest.raises(SystemExit):
        main(["--work", str(tmp_path / "work"), "--start", str(done)])
    assert "has been through all 3 courses" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
