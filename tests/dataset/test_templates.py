"""What chat templates of every kind make of a row, and what is learned of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livery.dataset.conversation import Conversation, Row
from livery.dataset.encode import Encoded, encode
from livery.dataset.load import load_dataset
from livery.dataset.rows import read_row
from livery.dataset.template import ChatTemplate, TemplateSettings, load_chat
from livery.errors import UserError
from tests.dataset.templates import FAMILIES, TOOLS, tokenizer, trl_templates


def chat(template: Any, *, kind: str = "bytes", date: str = "", **kwargs: Any) -> ChatTemplate:
    settings = TemplateSettings(kwargs=kwargs, date=date)
    return ChatTemplate(tokenizer(template, kind=kind), settings)


def template(name: str) -> str:
    """The template of a family of ours, or of the trl package ("trl/…") where that is there."""
    if not name.startswith("trl/"):
        return FAMILIES[name]
    if name not in trl_templates():
        pytest.skip("trl is not installed")
    return trl_templates()[name]


def turns(*texts: str, system: str = "") -> list[dict[str, Any]]:
    made = [{"role": ("user", "assistant")[at % 2], "content": t} for at, t in enumerate(texts)]
    return [{"role": "system", "content": system}, *made] if system else made


def read(messages: Any, **more: Any) -> Row:
    return read_row({"messages": messages, **more}, "data.jsonl:7")


def parts(encoded: Encoded, made: ChatTemplate) -> list[tuple[str, str]]:
    """[(what comes before the first learned token, what is learned), …] of each example."""
    found: list[tuple[str, str]] = []
    for example in encoded.examples:
        before = example.tokens[: example.prompt_length]
        learned = example.tokens[example.supervised]
        decode = made.tokenizer.decode
        found.append((decode(before.tolist()), decode(learned.tolist())))
    return found


def prompt(made: ChatTemplate, messages: Any) -> str:
    return made.tokenizer.decode(made.prompt(messages))


CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    ],
}


# -- tools, masks ------------------------------------------------------------------------------


def test_tools_reach_the_template_and_calls_are_learned() -> None:
    made = chat("tools")
    rows = [*turns("Weather in Oslo?"), CALL, {"role": "tool", "content": "3"}]
    row = [*rows, {"role": "assistant", "content": "It is 3 degrees."}]
    with_tools = encode(read(row, tools=TOOLS), made)
    without = encode(read(row), made)
    ((before, learned),) = parts(with_tools, made)
    assert "Weather of a city" in before
    assert '{"name": "get_weather", "arguments": {"city": "Oslo"}}' in learned
    assert learned.endswith("It is 3 degrees.<|im_end|>")
    assert "3<|im_end|>\n<|im_start|>tool" not in learned
    assert with_tools.examples[0].tokens.tolist() != without.examples[0].tokens.tolist()
    other = encode(read(row, tools=json.loads(json.dumps(TOOLS).replace("city", "town"))), made)
    assert other.examples[0].tokens.tolist() != with_tools.examples[0].tokens.tolist()
    assert not with_tools.notes


def test_a_call_as_the_last_answer_is_learned() -> None:
    made = chat("tools")
    ((_, learned),) = parts(encode(read([*turns("Weather?"), CALL]), made), made)
    assert "get_weather" in learned
    assert learned.endswith("<|im_end|>")


def test_templates_that_join_arguments_as_text_get_json() -> None:
    made = chat("texts")
    ((_, learned),) = parts(encode(read([*turns("Weather?"), CALL]), made), made)
    assert '<tool_call>get_weather\n{"city": "Oslo"}</tool_call>' in learned


def test_masked_turns_carry_no_loss() -> None:
    made = chat("chatml")
    row = turns("two plus two?", "five", "wrong", "four")
    row[1]["weight"] = 0
    ((before, learned),) = parts(encode(read(row), made), made)
    assert "five" in before
    assert learned == "four<|im_end|>"


# -- what is left out --------------------------------------------------------------------------


def test_what_a_template_leaves_out_is_told() -> None:
    made = chat("deaf")
    row = [*turns("Weather?"), {**CALL, "content": "let me see"}, {"role": "tool", "content": "17"}]
    row += [{"role": "assistant", "content": "cold", "reasoning_content": "below twenty"}]
    notes = " | ".join(encode(read(row, tools=TOOLS), made).notes)
    for missing in ("a tool call of a learned answer", "the text of a tool turn", "tools",
                    "the reasoning of a learned answer"):  # fmt: skip
        assert missing in notes
    assert not encode(read(turns("a", "b", system="s")), chat("chatml")).notes


def test_tools_that_are_not_offered_are_told_whatever_their_name() -> None:
    """A name may stand in the conversation, or in the template's own tokens."""
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    row = turns("search the web", "done")
    notes = encode(read(row, tools=[tool]), chat("chatml")).notes
    assert notes == (
        "the chat template leaves out tools: the template does not offer them to the model",
    )
    assert not encode(read(row, tools=[tool]), chat("tools")).notes


def test_a_row_with_tools_is_rendered_once_more_than_one_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = chat("tools")
    encode(read(turns("a", "b"), tools=TOOLS), made)  # what is asked of a template once
    rendered: list[bool] = []
    render = made.render

    def counted(*given: Any, **how: Any) -> str:
        rendered.append(bool(how.get("tools")))
        return render(*given, **how)

    monkeypatch.setattr(made, "render", counted)
    encode(read(turns("a", "b"), tools=TOOLS), made)
    assert sorted(rendered) == [False, True, True]  # prompt and whole; whole without its tools


def test_trimmed_and_escaped_text_counts_as_rendered() -> None:
    escaped = "(m.content | tojson if m.role == 'user' else m.content | trim) }}"
    made = chat(FAMILIES["chatml"].replace("m.content }}", escaped))
    row = turns('say "hi"\nto ü ', '  "hi"\t')
    assert encode(read(row), made).examples
    assert not encode(read(row), made).notes


def test_an_answer_that_renders_to_nothing_is_dropped_never_an_end_alone() -> None:
    made = chat("deaf")
    found = encode(read([*turns("Weather?"), CALL]), made)
    assert not found.examples
    assert "writes nothing" in found.dropped[0].reason
    # Beside an empty block of reasoning, too.
    made = chat(
        FAMILIES["opened"].replace("{{ m.content }}", "{{ m.content if m.content != 'b' }}")
    )
    assert "writes nothing" in encode(read(turns("a", "b")), made).dropped[0].reason
    with pytest.raises(UserError, match="nothing of an assistant's turn"):
        encode(read(turns("a", "b")), chat(FAMILIES["chatml"].replace("m.content", "''")))


def test_notes_come_once_with_their_count(tmp_path: Path) -> None:
    made = chat("gemma")
    path = tmp_path / "train.jsonl"
    rows = [{"messages": turns(f"say {i}", f"{i}", system="Be brief.")} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from livery.dataset.reader import Reader

    reader = Reader()
    load_dataset(path, made, max_length=100, reader=reader)
    (note,) = reader.notes()
    assert note.startswith("3 rows")
    assert "knows no system role" in note
    assert f"{path}:1" in note


def test_control_tokens_in_what_people_wrote_are_told() -> None:
    made = chat("chatml")
    found = encode(read(turns("what is <|im_end|> for?", "it ends a turn")), made)
    assert any("<|im_end|>" in note for note in found.notes)
    assert not encode(read(turns("what is <im_end> for?", "nothing")), made).notes


# -- reasoning ---------------------------------------------------------------------------------

REASONS = [
    {"role": "user", "content": "two plus two?"},
    {"role": "assistant", "content": "four", "reasoning_content": "add two and two"},
]
INLINE = turns("two plus two?", "<think>\nadd two and two\n</think>\n\nfour")


@pytest.mark.parametrize("family", ["hybrid", "opened", "r1"])
@pytest.mark.parametrize("thinks", [None, False, True])
def test_plain_answers_follow_an_empty_block_as_the_model_is_prompted(
    family: str, thinks: bool | None
) -> None:
    made = chat(family) if thinks is None else chat(family, enable_thinking=thinks)
    row = turns("Say number 1", "Number 1 it is.")
    ((before, learned),) = parts(encode(read(row), made), made)
    assert before == prompt(made, row[:1])
    assert "<think>\n\n</think>\n\nNumber 1 it is." in before + learned
    if thinks is False:
        assert learned.startswith("Number 1 it is.")


@pytest.mark.parametrize("family", ["hybrid", "opened", "r1"])
@pytest.mark.parametrize("row", [REASONS, INLINE])
def test_reasoning_is_learned(family: str, row: Any) -> None:
    made = chat(family)
    found = encode(read(row), made)
    ((before, learned),) = parts(found, made)
    assert before == prompt(made, row[:1])
    text = before + learned
    assert text.count("<think>") == 1
    assert "<think>\nadd two and two\n</think>\n\nfour" in text
    assert "add two and two" in learned
    assert found.reasons
    assert not found.notes


REASONING = (
    "hybrid", "opened", "r1", "switched", "chatml",
    "trl/qwen3", "trl/qwen3_5_think", "trl/qwen3_6", "trl/nemotron_3_nano",
)  # fmt: skip


@pytest.mark.parametrize("family", REASONING)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("<think>\nadd two and", "its reasoning is cut off: <think> without </think>"),
        ("\n<think>", "its reasoning is cut off"),
        ("[THINK]add two and", "its reasoning is cut off: [THINK] without [/THINK]"),
        ("<think>\nadd two and two\n</think>\n\n", "an answer that is only reasoning"),
        ("add two and two\n</think>", "an answer that is only reasoning"),
        ("<think>\n\n</think>", "an answer that is only reasoning"),
    ],
)
def test_reasoning_without_an_answer_is_left_out(family: str, answer: str, why: str) -> None:
    """Else it would be learned behind an empty block, or as an answer that ends without a word."""
    made = chat(template(family))
    for row in (
        read(turns("two plus two?", answer)),
        read(turns("Hello", "Good day", "two plus two?", answer)),
        read_row({"prompt": "two plus two?", "completion": answer}, "data.jsonl:7"),
    ):
        found = encode(row, made)
        assert not found.examples
        (dropped,) = found.dropped
        assert why in dropped.reason
    masked = turns("two plus two?", answer, "well?", "four")
    masked[1]["weight"] = 0
    assert encode(read(masked), made).examples


def test_reasoning_before_a_call_and_a_tag_in_a_text_are_learned() -> None:
    made = chat("hybrid")
    asked = turns("Weather in Oslo?")
    calls = {**CALL, "content": "<think>\nlook it up\n</think>\n\n"}
    ((_, learned),) = parts(encode(read([*asked, calls]), made), made)
    assert "look it up\n</think>" in learned
    assert "get_weather" in learned
    assert encode(read([*asked, {**calls, "content": "<think>\nlook"}]), made).dropped
    found = encode(read(turns("How does it reason?", "It writes <think> first.")), made)
    assert found.examples
    assert found.notes == (
        "answers that open a block of reasoning (<think>) and never close it",
    )  # fmt: skip


@pytest.mark.parametrize("family", ["hybrid", "opened"])
def test_reasoning_that_stands_twice_is_learned_once(family: str) -> None:
    made = chat(family)
    plain = parts(encode(read(REASONS), made), made)
    for answer in (
        {**INLINE[1], "reasoning_content": "add two and two"},
        {**REASONS[1], "reasoning_content": "<think>\nadd two and two\n</think>"},
    ):
        assert parts(encode(read([INLINE[0], answer]), made), made) == plain
    pair = {"prompt": "two plus two?", "completion": INLINE[1]["content"]}
    row = read_row({**pair, "reasoning": "add two and two"}, "x")
    assert parts(encode(row, made), made) == plain
    with pytest.raises(UserError, match="two different reasonings"):
        read([INLINE[0], {**INLINE[1], "reasoning_content": "guess"}])


def test_a_switch_in_the_system_text_is_trained_as_prompted() -> None:
    made = chat("switched")
    for system, mode in (("Be brief. /no_think", "/no_think"), ("/think Be brief.", "/think")):
        row = turns("Say number 1", "Number 1.", system=system)
        found = encode(read(row), made)
        ((before, learned),) = parts(found, made)
        assert before == prompt(made, row[:2])
        assert f"Mode: {mode}\nBe brief." in before.replace("\n ", "\n")
        assert before.endswith("<think>\n\n</think>\n") == (mode == "/no_think")
        assert learned == "Number 1.<|im_end|>"
        told = ["answers without reasoning although /think before them asks for it"]
        assert list(found.notes) == (told if mode == "/think" else [])


@pytest.mark.parametrize("family", ["hybrid", "opened", "switched"])
@pytest.mark.parametrize("place", ["user", "system"])
def test_an_answer_that_does_otherwise_than_its_switch_is_told(family: str, place: str) -> None:
    made = chat(family)
    reasons = "answers with reasoning although /no_think before them asks for none"
    plain = "answers without reasoning although /think before them asks for it"
    for word, answer, told in (
        ("/no_think", INLINE[1]["content"], reasons), ("/no_think", "four", None),
        ("/think", INLINE[1]["content"], None), ("/think", "four", plain),
        ("/thinking", "four", None), ("see /no_think/x", INLINE[1]["content"], None),
    ):  # fmt: skip
        row = turns(f"2+2? {word}" if place == "user" else "2+2?", answer)
        if place == "system":
            row.insert(0, {"role": "system", "content": f"Be brief. {word}"})
        notes = encode(read(row), made).notes
        assert {reasons, plain} & set(notes) == ({told} if told else set()), (word, answer)


def test_reasoning_that_a_template_cuts_is_told() -> None:
    cut = FAMILIES["chatml"].replace("m.content }}", "m.content.split('</think>')[-1] }}")
    found = encode(read(INLINE), chat(cut))
    assert found.notes == ("the chat template leaves out the reasoning of a learned answer",)


def test_earlier_reasoning_is_left_out_of_later_prompts_and_still_learned() -> None:
    made = chat("hybrid")
    row = [*REASONS, *turns("and three?")]
    row += [{"role": "assistant", "content": "six", "reasoning_content": "double three"}]
    found = encode(read(row), made)
    first, second = parts(found, made)
    assert "add two and two" in first[1]
    assert "add two and two" not in second[0]
    assert second[0] == prompt(made, row[:3])
    assert "double three" in second[1]


def test_a_rows_own_variables_come_before_the_settings() -> None:
    made = chat("hybrid", enable_thinking=True)
    row = turns("a", "b")
    ((before, _),) = parts(
        encode(read(row, chat_template_kwargs={"enable_thinking": False}), made), made
    )
    assert before.endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("family", "opens"), [("hybrid", True), ("opened", True), ("r1", True), ("chatml", False)]
)
def test_templates_that_open_answers_with_an_empty_block_are_known(
    family: str, opens: bool
) -> None:
    assert chat(family).opens_empty_block is opens
    assert not chat(family, enable_thinking=False).opens_empty_block


# -- the seam between prompt and answer --------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "legacy"])
@pytest.mark.parametrize("answer", ["\n\nHello there", "\nno", " yes", "yes", "  \n yes"])
def test_a_token_that_spans_the_seam_is_taken_apart(kind: str, answer: str) -> None:
    made = chat("chatml", kind=kind)
    row = turns("Say hello", answer)
    found = encode(read(row), made)
    (example,) = found.examples
    before = example.tokens[: example.prompt_length].tolist()
    assert before == made.prompt(row[:1])
    whole = made.ids(made.render(row, generate=False))
    decode = made.tokenizer.decode
    assert decode(example.tokens.tolist()) == decode(whole).rstrip()
    assert example.tokens[-1] == made.end


def test_a_seam_that_is_spanned_in_one_of_several_answers() -> None:
    made = chat("chatml")
    row = turns("a", "b", "c", "\n\nd", "e", "f")
    found = parts(encode(read(row), made), made)
    assert [learned for _, learned in found] == ["b<|im_end|>", "\n\nd<|im_end|>", "f<|im_end|>"]
    for at, (before, _) in zip((1, 3, 5), found, strict=True):
        assert before == prompt(made, row[:at])


def test_a_prompt_that_is_no_beginning_is_a_dropped_row_with_its_place() -> None:
    made = chat(FAMILIES["chatml"].replace("assistant\n' }}{% endif", "assistant: now' }}{% endif"))
    (dropped,) = encode(read(turns("a", "b")), made).dropped
    assert dropped.where == "data.jsonl:7"
    assert "not the beginning of the conversation" in dropped.reason


# -- system prompts ----------------------------------------------------------------------------


def test_a_system_text_that_moves_is_trained_as_prompted() -> None:
    made = chat("mistral")
    row = turns("one", "first", "two", "second", system="Be brief.")
    found = encode(read(row), made)
    assert not found.dropped
    learned = parts(found, made)
    assert [answer.strip() for _, answer in learned] == [
        "first<|endoftext|>", "second<|endoftext|>"
    ]  # fmt: skip
    for at, (before, _) in zip((2, 4), learned, strict=True):
        assert before == prompt(made, row[:at])
        assert "Be brief.\n\n" in before
    assert "Be brief.\n\none" not in learned[1][0]


@pytest.mark.parametrize("family", ["gemma", "deaf"])
def test_without_a_system_role_the_text_opens_the_first_user_turn(family: str) -> None:
    made = chat(family)
    row = turns("one", "first", "two", "second", system="Be brief.")
    ((before, _),) = parts(encode(read(row), made), made)
    assert before == prompt(made, row[:2])
    assert "Be brief.\n\none" in before
    assert any("no system role" in note for note in encode(read(row), made).notes)


def test_rows_that_a_template_refuses_are_dropped_and_named() -> None:
    welcome = [{"role": "assistant", "content": "Welcome!"}, *turns("Hello", "Good day")]
    for row in (welcome, [{"role": "system", "content": "Be kind."}, *welcome]):
        found = encode(read(row), chat("gemma"))
        assert not found.examples
        assert found.dropped[0].where == "data.jsonl:7"
        assert "must alternate" in found.dropped[0].reason
    ((_, learned),) = parts(encode(read(welcome), chat("chatml")), chat("chatml"))
    assert learned == "Good day<|im_end|>"


SKILL_ROWS = {
    "system": turns("ask", "tell", system="Be brief."),
    "several": turns("ask", "tell", "more", "said", system="Be brief."),
    "plain": turns("ask", "tell"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", SKILL_ROWS)
def test_every_family_takes_the_rows_of_the_skills(family: str, kind: str) -> None:
    made = chat(family)
    row = SKILL_ROWS[kind]
    found = encode(read(row), made)
    assert not found.dropped
    learned = "".join(text for _, text in parts(found, made))
    assert all(m["content"] in learned for m in row if m["role"] == "assistant")
    assert "ask" not in learned
    assert found.examples[0].tokens[: found.examples[0].prompt_length].tolist() == made.prompt(
        row[: 2 if row[0]["role"] == "system" else 1]
    )


# -- several templates, files, dates -----------------------------------------------------------

NAMED = {
    "default": FAMILIES["chatml"],
    "tool_use": FAMILIES["tools"],
    "rag": FAMILIES["chatml"].replace("assistant\n", "assistant (rag)\n"),
}


def saved(folder: Path, template: Any) -> Path:
    tokenizer(template).save_pretrained(folder)
    return folder


def test_of_several_templates_default_is_taken_and_tool_use_for_tools(tmp_path: Path) -> None:
    folder = saved(tmp_path, NAMED)
    assert (folder / "additional_chat_templates").is_dir()
    made = load_chat(folder)
    ((plain, _),) = parts(encode(read(turns("a", "b")), made), made)
    assert plain == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    ((offered, _),) = parts(encode(read(turns("a", "b"), tools=TOOLS), made), made)
    assert "get_weather" in offered
    named = load_chat(folder, TemplateSettings("rag"))
    assert prompt(named, turns("a")).endswith("assistant (rag)\n")
    with pytest.raises(UserError, match="rag, tool_use"):
        load_chat(folder, TemplateSettings("rags"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"none called default.*--chat-template rag"):
        load_chat(folder)


def test_the_date_is_fixed() -> None:
    made = chat("dated", date="2024-07-26")
    assert made.asks_date
    assert "Today: 26 Jul 2024" in prompt(made, turns("a"))
    assert "Today: 27 Jul 2024" in prompt(chat("dated", date="2024-07-27"), turns("a"))
    ((_, learned),) = parts(encode(read(turns("a", "b")), made), made)
    assert learned == "b<|im_end|>"
    assert "Today: long ago" in prompt(chat("dated", date_string="long ago"), turns("a"))
    with pytest.raises(UserError, match="template_date"):
        chat("dated", date="tomorrow")


def test_a_hostile_template_is_stopped_with_a_clear_line(tmp_path: Path) -> None:
    made = chat(
        FAMILIES["chatml"] + "{% if messages[0].content == 'boom' %}{{ 'x' * 10 ** 10 }}{% endif %}"
    )
    (dropped,) = encode(read(turns("boom", "b")), made).dropped
    assert "64,000,000 characters" in dropped.reason
    assert encode(read(turns("calm", "b")), made).examples
    with pytest.raises(UserError, match="not a Jinja"):
        chat("{% for %}")


# -- texts, special tokens ---------------------------------------------------------------------


def test_a_text_with_its_own_bos_gets_no_second() -> None:
    from tokenizers.processors import TemplateProcessing

    made = chat("chatml")
    bos = made.tokenizer.bos_token_id
    made.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", bos)]
    )
    for text in ("<|bos|>once upon a time", "once upon a time"):
        (example,) = encode(read_row({"text": text}, "x"), made).examples
        assert example.tokens.tolist().count(bos) == 1
        assert example.tokens[-1] == made.tokenizer.eos_token_id
    row = read_row({"text": "<|bos|><|im_start|>user\nhi<|im_end|>"}, "x")
    assert encode(row, made).examples[0].tokens.tolist().count(made.end) == 1
    bare = made.tokenizer
    bare.chat_template = None
    pair = ChatTemplate(bare)
    (example,) = encode(read_row({"prompt": "<|bos|>a", "completion": "b"}, "x"), pair).examples
    assert example.tokens.tolist().count(bos) == 1


def test_an_end_that_is_also_the_padding_is_learned() -> None:
    made = chat("chatml")
    made.tokenizer.pad_token = "<|im_end|>"
    (example,) = encode(read(turns("a", "b")), made).examples
    assert example.tokens[-1] == made.tokenizer.pad_token_id
    assert example.supervised[-1]


# -- long conversations ------------------------------------------------------------------------


def test_a_long_conversation_is_rendered_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from livery.dataset import answers
    from livery.dataset.sandbox import Template

    made = chat("chatml")
    row = turns(*(f"word number {at}" for at in range(400)))
    calls: list[int] = []
    render = Template.render
    monkeypatch.setattr(Template, "render", lambda *a, **k: calls.append(1) or render(*a, **k))
    fast = encode(read(row), made).examples
    assert len(calls) < 100
    monkeypatch.setattr(answers, "EACH", 10_000)
    slow = encode(read(row), made).examples
    assert len(calls) > 400
    assert [e.tokens.tolist() for e in fast] == [e.tokens.tolist() for e in slow]
    assert [e.supervised.tolist() for e in fast] == [e.supervised.tolist() for e in slow]


@pytest.mark.parametrize("family", ["hybrid", "mistral", "gemma", "tools"])
def test_long_conversations_are_what_short_ones_are(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livery.dataset import answers

    made = chat(family)
    said = [f"word {at}" if at % 7 else "user" for at in range(60)]
    row = turns(*said)
    if family == "tools":
        row[21] = CALL
    if family == "hybrid":
        for at in range(1, 60, 2):
            row[at]["reasoning_content"] = f"thought {at}"
    fast = encode(read(row), made).examples
    monkeypatch.setattr(answers, "EACH", 10_000)
    slow = encode(read(row), made).examples
    assert [e.tokens.tolist() for e in fast] == [e.tokens.tolist() for e in slow]
    assert [e.supervised.tolist() for e in fast] == [e.supervised.tolist() for e in slow]


def test_a_conversation_without_an_answer_to_learn() -> None:
    row = Conversation("x", tuple(turns("a", "b")), (False, False))
    assert "no answer" in encode(row, chat("chatml")).dropped[0].reason


def test_a_token_beyond_the_embedding_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = saved(tmp_path, "chatml")
    (folder / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 500}}))
    made = load_chat(folder)
    assert made.vocabulary == 500
    assert encode(read(turns("a", "b")), made).examples
    with pytest.raises(UserError, match=r"data\.jsonl:7.*</think>.*500 tokens.*resize_token"):
        encode(read(turns("a", "b</think>c")), made)
    with pytest.raises(UserError, match="resize_token"):
        made.prompt(turns("</think>"))


def test_a_run_keeps_its_day_and_its_prompts_are_those_it_was_trained_on(tmp_path: Path) -> None:
    import dataclasses
    import datetime

    from commands.training.data import choose_prompts, load_data
    from commands.training.session import fix_date
    from livery.adapter_origin import complete_options, read_origin
    from livery.config.settings import TrainSettings

    folder = saved(tmp_path / "model", "dated")
    out = tmp_path / "run"
    out.mkdir()
    begun = TrainSettings(model=str(folder), output_dir=str(out))
    before = datetime.date.today().isoformat()
    settings, note = fix_date(begun, resume=False)
    today = settings.template_date or ""
    assert before <= today <= datetime.date.today().isoformat()
    assert today in note
    yesterday = dataclasses.replace(settings, template_date="2024-07-26")
    (out / "run_config.json").write_text(json.dumps({"settings": yesterday.as_dict()}))
    assert fix_date(begun, resume=True)[0].template_date == "2024-07-26"
    assert (fix_date(begun, resume=False)[0].template_date or "") >= today
    options = complete_options("mlx", {}, read_origin(str(out)), str(folder), str(out))
    assert options["template"].date == "2024-07-26"
    asked = {"template_date": "2025-01-01", "chat_template_kwargs": {"a": 1}}
    options = complete_options("mlx", asked, read_origin(str(out)), str(folder), str(out))
    assert options["template"] == TemplateSettings(None, {"a": 1}, "2025-01-01")

    plain = saved(tmp_path / "plain", "chatml")
    assert fix_date(dataclasses.replace(begun, model=str(plain)), resume=False)[1] == ""

    # Plain answers on a template that opens a block: trained from the usual prompt, and Livery's
    # own prompts go on behind the block.
    hybrid = saved(tmp_path / "hybrid", "hybrid")
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"messages": turns("a", "b")}) + "\n")
    chosen = dataclasses.replace(begun, model=str(hybrid), data=str(path))
    data = load_data(chosen)
    kwargs, note = choose_prompts(data)
    assert kwargs == {"enable_thinking": False}
    assert "empty block" in note
    record = {"settings": chosen.as_dict(), "prompt_kwargs": kwargs}
    (out / "run_config.json").write_text(json.dumps(record))
    options = complete_options("mlx", {}, read_origin(str(out)), str(hybrid), str(out))
    asked_so = load_chat(hybrid, options["template"]).prompt(turns("a"))
    (example,) = data.train.examples
    assert example.tokens[: len(asked_so)].tolist() == asked_so
    assert data.chat.tokenizer.decode(example.tokens[len(asked_so) :].tolist()) == "b<|im_end|>"
    path.write_text(json.dumps({"messages": REASONS}) + "\n")
    assert choose_prompts(load_data(chosen)) == ({}, "")


def test_a_text_that_was_laid_out_ends_once() -> None:
    """Templates write a line break behind the end of a turn."""
    made = chat("chatml")
    laid_out = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    (example,) = encode(read_row({"text": laid_out}, "f:1"), made).examples
    assert example.tokens.tolist() == made.ids(laid_out)


def test_a_templates_own_full_stop_is_enough(tmp_path: Path) -> None:
    made = chat("mistral")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": turns("a", "b")[:1] * 2 + turns("a", "b")[1:]}) + "\n")
    with pytest.raises(UserError, match=r"its only row cannot be trained on.*roles!$"):
        load_dataset(path, made, max_length=99)
    with pytest.raises(UserError, match=r"refuses this conversation: .*roles!$"):
        made.prompt(turns("a", "b")[:1] * 2)


def test_variables_that_a_template_does_not_read_are_told() -> None:
    """A misspelt switch changes nothing, in the settings as in a row."""
    said = "chat_template_kwargs holds {}, which the chat template does not read"
    off = read(turns("2+2?", "4"), chat_template_kwargs={"enable_thinking": False})
    for family, told in (("hybrid", False), ("chatml", True), ("r1", False)):
        found = encode(off, chat(FAMILIES[family])).notes
        assert (said.format("enable_thinking") in found) == told, family
    misspelt = read(turns("2+2?", "4"), chat_template_kwargs={"enable_thinkng": False})
    assert encode(misspelt, chat(FAMILIES["hybrid"])).notes == (said.format("enable_thinkng"),)
    made = chat(FAMILIES["hybrid"], enable_thinkng=False)
    assert encode(read(turns("2+2?", "4")), made).notes == (said.format("enable_thinkng"),)
