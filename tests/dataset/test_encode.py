"""Supervised spans are what the template renders for the answers, to the token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.dataset.conversation import Conversation
from livery.dataset.encode import encode
from livery.dataset.load import digest, load_dataset
from livery.dataset.rows import read_row
from livery.dataset.template import ChatTemplate, load_chat
from livery.dataset.tokenizer import load_tokenizer
from livery.errors import UserError
from livery.training.plan import Example
from tests.tiny_models import EOS_ID, tiny_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return load_chat(tiny_model("llama", tmp_path_factory.mktemp("chat")))


def encode_row(row: Any, chat: ChatTemplate, where: str, **more: Any) -> tuple[Example, ...]:
    return encode(read_row(row, where), chat, **more).examples


def encode_messages(messages: Any, chat: ChatTemplate, where: str) -> tuple[Example, ...]:
    learn = tuple(m["role"] == "assistant" for m in messages)
    found = encode(Conversation(where, tuple(messages), learn), chat)
    if found.dropped:
        raise UserError(f"{where}: {found.dropped[0].reason}")
    return found.examples


def chat(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30
).filter(lambda s: s.strip() and "<|" not in s)


@pytest.mark.slow
@given(turns=st.lists(words, min_size=2, max_size=6).filter(lambda t: len(t) % 2 == 0))
def test_supervised_tokens_are_the_answers_and_their_ends(
    tokenizer: ChatTemplate, turns: list[str]
) -> None:
    (example,) = encode_messages(chat(*turns), tokenizer, "here")
    learned = tokenizer.tokenizer.decode(example.tokens[example.supervised])
    assert learned == "".join(answer + "<|im_end|>" for answer in turns[1::2])
    assert example.supervised[-1]
    assert example.tokens[-1] == EOS_ID
    assert not example.supervised[0]


def test_every_format_of_other_trainers_gives_the_same_tokens(tokenizer: ChatTemplate) -> None:
    rows = [
        {"messages": chat("hello", "good day")},
        {"prompt": "hello", "completion": "good day"},
        {"prompt": chat("hello"), "completion": [{"role": "assistant", "content": "good day"}]},
        {"instruction": "hello", "response": "good day"},
    ]
    encoded = [encode_row(row, tokenizer, "x")[0] for row in rows]
    assert all(e.tokens.tolist() == encoded[0].tokens.tolist() for e in encoded)
    assert all(e.supervised.tolist() == encoded[0].supervised.tolist() for e in encoded)


def test_plain_text_is_learned_whole_and_ends(tokenizer: ChatTemplate) -> None:
    (example,) = encode_row({"text": "once upon a time"}, tokenizer, "x")
    assert example.supervised.tolist() == [False] + [True] * (len(example.tokens) - 1)
    assert example.tokens[-1] == tokenizer.tokenizer.eos_token_id


def test_unmasked_prompts_are_learned_too(tokenizer: ChatTemplate) -> None:
    (example,) = encode_row(
        {"prompt": "hello", "completion": "good day"}, tokenizer, "x", mask_prompt=False
    )
    assert example.supervised[1:].all()


def test_a_template_that_rewrites_earlier_turns_gives_an_example_a_turn(
    tokenizer: ChatTemplate,
) -> None:
    other = load_tokenizer_with(
        tokenizer,
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and not loop.last %}(earlier) {% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    examples = encode_messages(chat("a", "first", "b", "second"), other, "x")
    learned = [other.tokenizer.decode(e.tokens[e.supervised]) for e in examples]
    assert learned == ["first<|im_end|>", "second<|im_end|>"]


def test_a_template_under_which_the_prompt_is_no_prefix_is_refused(tokenizer: ChatTemplate) -> None:
    other = load_tokenizer_with(
        tokenizer,
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant: think{% endif %}",
    )
    with pytest.raises(UserError, match=r"data\.jsonl:7.*not the beginning"):
        encode_messages(chat("a", "b"), other, "data.jsonl:7")


def test_a_template_without_an_end_of_turn_is_refused(tokenizer: ChatTemplate) -> None:
    other = load_tokenizer_with(
        tokenizer,
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    )
    with pytest.raises(UserError, match="never learn to stop"):
        _ = other.end


def test_no_template_is_said_with_the_remedy(tokenizer: ChatTemplate) -> None:
    other = load_tokenizer_with(tokenizer, None)
    with pytest.raises(UserError, match="--chat-template chatml"):
        encode_messages(chat("a", "b"), other, "x")
    (example,) = encode_row({"prompt": "abc ", "completion": "def"}, other, "x")
    assert other.tokenizer.decode(example.tokens[example.supervised]) == "def<|im_end|>"


def load_tokenizer_with(tokenizer: ChatTemplate, template: str | None) -> ChatTemplate:
    import copy

    other = copy.copy(tokenizer.tokenizer)
    other.chat_template = template
    return ChatTemplate(other)


def write(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def test_rows_that_cannot_be_trained_are_dropped_and_named(
    tokenizer: ChatTemplate, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "train.jsonl",
        {"prompt": "hello", "completion": "good day"},
        {"prompt": "hello", "completion": "  "},
        {"prompt": "hello " * 50, "completion": "good day"},
    )
    found = load_dataset(path, tokenizer, max_length=40)
    assert len(found.examples) == 1
    assert next((d.where[-2:], d.reason[:5]) for d in found.dropped) == (":2", "empty")
    assert found.dropped[1].where.endswith(":3")
    assert "over the limit of 40" in found.dropped[1].reason


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"prompt": "a", "completion": "b"}', "{oops"], r"train\.jsonl:2: not valid JSON"),
        (["[1, 2]"], r"train\.jsonl:1: a list where a JSON object"),
        (['{"question": "a"}'], r"train\.jsonl:1: no messages, prompt and completion"),
        (['{"messages": []}'], r"train\.jsonl:1: messages are not a list of turns"),
        (['{"messages": [{"role": "user"}]}'], r"messages\[0\]: content is not a string"),
        (['{"messages": [{"role": "user", "content": "a"}]}'], "no assistant turn"),
        ([""], "holds no rows"),
        (['{"prompt": "a", "completion": ""}'], "its only row cannot be trained on"),
    ],
)
def test_malformed_files_name_file_line_and_fault(
    tokenizer: ChatTemplate, tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_dataset(write(tmp_path / "train.jsonl", *lines), tokenizer, max_length=100)


def test_bytes_that_are_no_text_and_a_missing_file(tokenizer: ChatTemplate, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "\xff\xfe"}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:1: not UTF-8"):
        load_dataset(tmp_path / "bad.jsonl", tokenizer, max_length=100)
    with pytest.raises(UserError, match="no such file"):
        load_dataset(tmp_path / "none.jsonl", tokenizer, max_length=100)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tokenizer could not be loaded"):
        load_tokenizer(tmp_path)


def test_the_digest_of_a_data_set_tells_what_is_supervised_too() -> None:
    """A run is not resumed on the same tokens under another mask."""
    tokens = np.arange(6, dtype=np.int32)
    one, other = (np.array([0, 0, 0, *ends], bool) for ends in ([0, 1, 1], [1, 1, 1]))
    same = digest([Example(tokens, one)])
    assert same == digest([Example(tokens.copy(), one.copy())])
    assert same != digest([Example(tokens, other)])
    assert same != digest([Example(tokens + 1, one)])
    assert same != digest([Example(tokens, one), Example(tokens, one)])


# In a process of its own: where the cache lies is decided when the hub's library is imported.
HUB = """
from livery.dataset.template import load_chat
from livery.errors import UserError
chat = load_chat("some/model")
chat.check_vocabulary(9, "train.jsonl:1")
try:
    chat.check_vocabulary(10, "train.jsonl:1")
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_ids_beyond_the_embedding_are_refused_for_a_hub_id_too(tmp_path: Path) -> None:
    home = tmp_path / "models--some--model"
    folder = home / "snapshots" / "abc"
    shutil.copytree(tiny_model("llama", tmp_path / "made"), folder)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 10}
    (folder / "config.json").write_text(json.dumps(config))
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=True
    )
    assert "embeddings for 10" in done.stdout
