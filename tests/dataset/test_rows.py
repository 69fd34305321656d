"""A row of any usual shape says what its trainers meant by it, and no field of it is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livery.dataset.columns import ANNOTATIONS, Columns, read_columns
from livery.dataset.conversation import Conversation, Pair, Row, RowError, Text
from livery.dataset.rows import asked_and_answered, nothing_to_learn, read_row
from livery.errors import UserError

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
SHAREGPT = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]
WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL = {"type": "function", "function": WEATHER}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}


def talk(row: dict[str, Any], **more: Any) -> Conversation:
    found = read_row(row, "data.jsonl:3", **more)
    assert isinstance(found, Conversation)
    return found


def turns(*texts: str, first: str = "user", **marks: dict[str, Any]) -> list[dict[str, Any]]:
    """Turns of user and assistant in turn; `a1={"weight": 0}` marks the second turn."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [
        {"role": roles[i % 2], "content": text, **marks.get(f"a{i}", {})}
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": HELLO},
        {"conversations": HELLO},
        {"conversation": SHAREGPT},
        {"messages": SHAREGPT},
        {"messages": json.dumps(HELLO)},
        {"Messages": HELLO},
        {"messages": [{**HELLO[0], "role": "User"}, {**HELLO[1], "role": "bot"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hel"}, "lo"]},
                {"role": "model", "content": [{"type": "output_text", "text": "Good day"}]},
            ]
        },
        {"messages": [{**turn, "tool_calls": None, "name": None} for turn in HELLO]},
        {"prompt": HELLO[:1], "completion": HELLO[1:]},
        {"prompt": HELLO[:1], "completion": "Good day"},
        {"prompt": "Hello", "completion": HELLO[1:]},
        # What says nothing, or says it again, is no obstacle.
        {"messages": HELLO, "tools": [], "system": None, "title": "", "prompt": "Hello"},
        {"messages": HELLO, "text": "<|user|>Hello<|end|><|assistant|>Good day<|end|>"},
    ],
)  # fmt: skip
def test_conversations_of_every_dialect_say_the_same(row: dict[str, Any]) -> None:
    assert talk(row) == Conversation("data.jsonl:3", tuple(HELLO), (False, True))


@pytest.mark.parametrize(
    ("row", "prompt", "completion", "system"),
    [
        ({"prompt": "Hello", "completion": "Hi"}, "Hello", "Hi", ""),
        ({"prompt": "Hello", "response": "Hi"}, "Hello", "Hi", ""),
        ({"system": "Shout.", "prompt": "Hello", "completion": "HI"}, "Hello", "HI", "Shout."),
        ({"instruction": "Hello", "output": "Hi"}, "Hello", "Hi", ""),
        ({"instruction": "French:", "input": "day", "output": "jour"}, "French:\nday", "jour", ""),
        ({"instruction": "French:", "input": "", "response": "jour"}, "French:", "jour", ""),
        ({"instruction": "Who?", "context": "Ada.", "response": "Ada", "category": "qa"},
         "Who?\nAda.", "Ada", ""),
        ({"question": "Who?", "answer": "Ada"}, "Who?", "Ada", ""),
        ({"query": "Who?", "response": "Ada"}, "Who?", "Ada", ""),
        ({"input": "Who?", "output": "Ada"}, "Who?", "Ada", ""),
        ({"Question": "Who?", "Answer": "Ada"}, "Who?", "Ada", ""),
        ({"user": "Who?", "assistant": "Ada", "system": "Brief."}, "Who?", "Ada", "Brief."),
        ({"instruction": "Who?", "output": "Ada", "text": "### Who?\n### Ada"}, "Who?", "Ada", ""),
    ],
)  # fmt: skip
def test_pairs_of_every_name(
    row: dict[str, Any], prompt: str, completion: str, system: str
) -> None:
    assert read_row(row, "x") == Pair("x", prompt, completion, system)


def test_a_text() -> None:
    assert read_row({"text": "once", "meta": {"source": "a"}}, "x") == Text("x", "once")


def test_alpacas_history_is_learned_too() -> None:
    row = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"}
    found = talk(row)
    assert [m["content"] for m in found.messages] == ["s", "a", "b", "c", "d"]
    assert found.learn == (False, False, True, False, True)


def test_reasoning_is_kept_under_one_name() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        answer = {"role": "assistant", "content": "4", name: "2+2"}
        expected = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
        assert talk({"messages": [HELLO[0], answer]}).messages[1] == expected
        assert talk({"prompt": "Hello", "completion": "4", name: "2+2"}).messages[1] == expected
    two = {"role": "assistant", "content": "4", "reasoning": "a", "thinking": "b"}
    with pytest.raises(RowError, match="two different reasonings"):
        talk({"messages": [HELLO[0], two]})


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL]},
        {"tools": [WEATHER]},
        {"tools": TOOL},
        {"tools": json.dumps([TOOL])},
        {"tools": [json.dumps(WEATHER)]},
        {"functions": [WEATHER]},
        {"meta": {"tools": [TOOL]}},
        {"metadata": {"tools": json.dumps([WEATHER]), "source": "b"}},
    ],
)
def test_tools_are_kept_wherever_they_stand(more: dict[str, Any]) -> None:
    assert talk({"messages": HELLO, **more}).tools == (TOOL,)
    assert talk({"prompt": "Hello", "completion": "Good day", **more}).tools == (TOOL,)


def test_tools_in_the_system_turn() -> None:
    system = {"role": "system", "content": "Help.", "tools": json.dumps([TOOL])}
    found = talk({"messages": [system, *HELLO]})
    assert found.tools == (TOOL,)
    assert found.messages[0] == {"role": "system", "content": "Help."}


@pytest.mark.parametrize(
    "answer",
    [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather",
                                                           "arguments": '{"city": "Oslo"}'}}]},
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "assistant", "tool_calls": [{"name": "get_weather",
                                              "arguments": {"city": "Oslo"}}]},
        {"from": "function_call",
         "value": '{"name": "get_weather", "arguments": {"city": "Oslo"}}'},
        {"from": "function",
         "value": '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}'},
    ],
)  # fmt: skip
def test_calls_reach_the_template_as_objects(answer: dict[str, Any]) -> None:
    found = talk({"messages": [HELLO[0], answer]})
    assert found.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert found.learn == (False, True)
    assert not nothing_to_learn(found), "a call is an answer"


def test_results_of_calls_keep_their_names() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "c1"}]}
    result = {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "get_weather"}
    for role in ("tool", "observation", "ipython", "function"):
        found = talk({"messages": [HELLO[0], call, {**result, "role": role}, HELLO[1]]})
        assert found.messages[1] == call
        assert found.messages[2] == result
        assert found.learn == (False, True, False, True)


def test_the_template_variables_of_a_row() -> None:
    row = {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}
    assert talk(row).template_kwargs == {"enable_thinking": False}
    row["chat_template_kwargs"] = '{"enable_thinking": true}'
    assert talk(row).template_kwargs == {"enable_thinking": True}
    with pytest.raises(RowError, match="chat_template_kwargs is not a JSON object"):
        talk({**row, "chat_template_kwargs": "[1]"})


# -- what is learned ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "learned"),
    [
        ({"weight": 0}, False), ({"weight": 1}, True), ({"weight": 0.0}, False),
        ({"train": False}, False), ({"train": True}, True), ({"training": False}, False),
        ({"trainable": False}, False), ({"loss": False}, False), ({"loss_mask": 0}, False),
        ({"mask": True}, False), ({"mask": False}, True), ({"masked": True}, False),
        ({"masked": 1, "weight": 0}, False), ({"weight": None}, True), ({}, True),
    ],
)  # fmt: skip
def test_marks_say_which_answers_are_learned(mark: dict[str, Any], learned: bool) -> None:
    found = talk({"messages": turns("2+2?", "five", "Wrong.", "four", a1=mark)})
    assert found.learn == (False, learned, False, True)
    assert found.messages[1] == {"role": "assistant", "content": "five"}


def test_the_last_answer_alone() -> None:
    row = {"messages": turns("a", "b", "c", "d", a1={"weight": 1})}
    assert talk(row, train_on="last").learn == (False, False, False, True)
    row = {"messages": turns("a", "b", "c", "d", a3={"weight": 0})}
    found = talk(row, train_on="last")
    assert found.learn == (False, False, False, False)
    assert "no answer that may be learned" in nothing_to_learn(found)


def test_answers_within_a_prompt_are_no_completions() -> None:
    row = {"prompt": turns("a", "b", "c"), "completion": turns("d", first="assistant")}
    assert talk(row).learn == (False, False, False, True)


def test_what_follows_the_last_answer_is_left_out_and_told() -> None:
    told: list[str] = []
    found = talk({"messages": [*HELLO, {"role": "user", "content": "thanks"}]}, say=told.append)
    assert found.messages == tuple(HELLO)
    assert told == ["turns after the last answer are left out: nothing is learned from them"]


def test_a_greeting_is_context_and_an_answer_to_the_system_prompt_is_learned() -> None:
    told: list[str] = []
    found = talk({"messages": turns("Hi!", "Hello", "Yes?", first="assistant")}, say=told.append)
    assert found.learn == (False, False, True)
    assert told == ["opens with the assistant; that turn is context and is not learned"]
    assert nothing_to_learn(talk({"messages": turns("Hi!", first="assistant")}))
    alone = talk({"messages": [{"role": "system", "content": "Greet."}, HELLO[1]]})
    assert alone.learn == (False, True)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": turns("a")}, "no assistant turn"),
        ({"messages": turns("a", "")}, "empty answer"),
        ({"messages": [HELLO[0], {"role": "assistant"}]}, "empty answer"),
        ({"messages": [HELLO[0], {"role": "assistant", "content": None}]}, "empty answer"),
        ({"messages": turns("a", " ", "b", "c")}, "empty answer"),
        (
            {"messages": [HELLO[0], {"role": "assistant", "content": "", "reasoning": "hm"}]},
            "empty",
        ),
        ({"messages": turns("a", "b", a1={"weight": 0})}, "no answer that may be learned"),
        ({"prompt": "a", "completion": " "}, "empty answer"),
        ({"question": "a", "answer": ""}, "empty answer"),
        ({"text": "\n"}, "empty text"),
    ],
)
def test_rows_with_nothing_to_learn(row: dict[str, Any], why: str) -> None:
    assert why in nothing_to_learn(read_row(row, "x"))


def test_an_empty_answer_that_is_masked_is_no_obstacle() -> None:
    row = {"messages": turns("a", "", "b", "c", a1={"weight": 0})}
    assert nothing_to_learn(talk(row)) == ""


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, r"no messages, prompt and completion, or text among its keys \(none\).*--columns"),
        ({"a": "b", "c": "d"}, r"among its keys \(a, c\)"),
        ({"messages": HELLO, "label": "good"}, "field 'label' is not understood.*ignore=label"),
        ({"prompt": "a", "completion": "b", "is_kind": False}, "'is_kind' is not understood"),
        ({"prompt": "a", "completion": "b", "is_valid": "so"}, "'is_valid' is not understood"),
        ({"text": "a", "language_model": "b", "weight": 2}, "'language_model' is not understood"),
        ({"messages": HELLO, "prompt": "Other", "completion": "x"}, "'prompt' is not understood"),
        ({"messages": HELLO, "text": "another text"}, "two shapes in one row"),
        ({"prompt": "a", "completion": "b", "messages": HELLO}, "not understood"),
        ({"messages": HELLO, "conversations": HELLO[:1]}, "which of them is the messages"),
        ({"prompt": "a", "question": "b", "answer": "c"}, "'prompt' and 'question': which"),
        ({"prompt": "a", "answer": "b", "output": "c"}, "'output' and 'answer': which of them"),
        ({"instruction": "a", "input": "b", "context": "c", "output": "d"}, "them is the context"),
        ({"Prompt": "a", "prompt": "b", "completion": "c"}, "holds both"),
        ({"input_ids": [1, 2], "labels": [1, 2]}, "token ids"),
        ({"messages": HELLO, "images": ["a.png"]}, "other media"),
        ({"messages": HELLO, "tools": "no json"}, "tools are text that is not JSON"),
        ({"messages": HELLO, "tools": [{"type": "function"}]}, r"tools\[0\] is not a tool"),
        ({"messages": HELLO, "tools": 3}, "tools are not a list"),
        ({"messages": HELLO, "system": 3}, "system is not a string"),
        ({"messages": [{"role": "system", "content": "a"}, *HELLO], "system": "b"}, "two system"),
        ({"messages": []}, "messages are not a list of turns"),
        ({"messages": "hello"}, "messages are not a list of turns"),
        ({"messages": "[hello"}, "messages are text that is not JSON"),
        ({"messages": ["hello"]}, r"messages\[0\] is not a turn"),
        ({"messages": [{"content": "a"}]}, r"messages\[0\] is not a turn with a role"),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\]: content is not a string"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: content is not a string"),
        ({"messages": [{"role": "critic", "content": "a"}]}, "the role 'critic' is none of"),
        ({"messages": [{**HELLO[0], "mood": "sad"}, HELLO[1]]}, r"messages\[0\]: 'mood' is not"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         r"content\[0\] is of type image_url; Livery trains on text alone"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_result"),
        ({"messages": turns("a", "b", a1={"weight": 0.5})}, "weight is 0.5; a turn is learn"),
        ({"messages": turns("a", "b", a1={"train": "no"})}, "train is 'no'"),
        ({"messages": turns("a", "b", a1={"weight": 1, "mask": True})}, "contradict each other"),
        ({"messages": turns("a", "b", a0={"train": True})}, "asks to learn a user's turn"),
        ({"messages": [HELLO[0], {"role": "assistant", "tool_calls": [{"function": {}}]}]},
         "names no function"),
        ({"messages": [HELLO[0], {"role": "assistant", "tool_calls": [{"name": "f",
                                                                       "arguments": "{x"}]}]},
         r"tool_calls\[0\]: arguments are text that is not JSON"),
        ({"messages": [HELLO[0], {"role": "assistant", "tool_calls": [{"name": "f",
                                                                       "arguments": [1]}]}]},
         "arguments are not a JSON object"),
        ({"prompt": 3, "completion": "a"}, "prompt is not a string"),
        ({"text": 3}, "text is not a string"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, r"history\[0\] is not a pair"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        read_row(row, "data.jsonl:3")
    assert str(caught.value).startswith("data.jsonl:3: ")
    assert caught.value.reason == str(caught.value).removeprefix("data.jsonl:3: ")


def test_annotations_stand_aside_and_are_told_of() -> None:
    told: list[tuple[str, str]] = []
    row = {"messages": HELLO, "id": 3, "prompt_id": "b", "__index_level_0__": 2, "Unnamed: 0": 1}
    talk({**row, **dict.fromkeys(ANNOTATIONS, "x")}, say=lambda *said: told.append(said))
    assert {field for _, field in told} == {*row, *ANNOTATIONS} - {"messages"}
    assert len({remark for remark, _ in told}) == 1


def test_the_record_of_a_row_that_livery_made_needs_no_word() -> None:
    told: list[tuple[str, str]] = []
    meta = {"id": "train-1", "split": "train", "provenance": "datagen.date_keys 3 seed 7"}
    talk({"messages": HELLO, "meta": meta}, say=lambda *said: told.append(said))
    assert not told


KEYS = st.text("abcdefgh_", min_size=3, max_size=8)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    shape=st.sampled_from([
        {"messages": HELLO}, {"prompt": "Hello", "completion": "Good day"},
        {"question": "Hello", "answer": "Good day"}, {"text": "Hello"},
    ]),
    key=KEYS,
    value=st.text(min_size=1) | st.integers() | st.booleans()
    | st.lists(st.integers(), min_size=1),
)  # fmt: skip
def test_no_field_is_lost_in_silence(shape: dict[str, Any], key: str, value: Any) -> None:
    """Another field is refused by its name, told of, or says what the row says already."""
    told: list[tuple[str, ...]] = []
    plain = read_row(shape, "x")
    refused = ""
    found = plain
    try:
        found = read_row({**shape, key: value}, "x", say=lambda *said: told.append(said))
    except RowError as error:
        refused = error.reason
    assert found != plain or key in refused or any(key in said for said in told)


# -- columns -----------------------------------------------------------------------------------


def test_columns_name_what_names_do_not_tell() -> None:
    def with_columns(*words: str) -> Row:
        row = {"frage": "Hello", "antwort": "Good day", "rolle": "Be kind.", "n": 3, "extra": "x"}
        return read_row(row, "x", read_columns(words))

    known = ("prompt=frage", "completion=antwort", "system=rolle", "ignore=n")
    assert with_columns(*known, "ignore=extra") == Pair("x", "Hello", "Good day", "Be kind.")
    found = with_columns(*known, "context=extra")
    assert found == Pair("x", "Hello\nx", "Good day", "Be kind.")
    with pytest.raises(RowError, match="'extra' is not understood"):
        with_columns(*known)
    with pytest.raises(RowError, match="no messages, prompt and completion"):
        with_columns("prompt=frage")


def test_columns_decide_between_two_shapes() -> None:
    row = {"prompt": "a", "completion": "b", "messages": HELLO, "text": "other"}
    rest = ("ignore=text",)
    found = read_row(row, "x", read_columns(["messages=messages", "ignore=prompt",
                                             "ignore=completion", *rest]))  # fmt: skip
    assert isinstance(found, Conversation)
    found = read_row(
        row, "x", read_columns(["prompt=prompt", "completion=completion", "ignore=messages", *rest])
    )
    assert found == Pair("x", "a", "b")
    chosen = {"prompt": "a", "chosen": "good", "rejected": "bad"}
    found = read_row(chosen, "x", read_columns(["completion=chosen", "ignore=rejected"]))
    assert found == Pair("x", "a", "good")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prompt"], "not of the form"), (["question=prompt"], "'question' is none of: messages"),
        (["prompt=a", "prompt=b"], "both 'a' and 'b'"), (["prompt=a", "ignore=a"], "both used and"),
        (["prompt="], "not of the form"),
    ],
)  # fmt: skip
def test_malformed_columns(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_columns(words)


def test_columns_that_no_row_has_are_found() -> None:
    columns = Columns({"prompt": "q", "completion": "a"}, frozenset({"z"}))
    assert columns.missing(["q", "b"]) == ["a", "z"]


# -- comparing rows ----------------------------------------------------------------------------


def test_what_is_asked_takes_in_all_that_comes_before_the_answer() -> None:
    pair, talk_ = {"prompt": "Hello", "completion": "Good day"}, {"messages": HELLO}
    asked = asked_and_answered(read_row(pair, "x"))
    assert asked == asked_and_answered(read_row(talk_, "x"))
    for more in (
        {"system": "s"},
        {"tools": [TOOL]},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ):
        other = asked_and_answered(read_row({**pair, **more}, "x"))
        assert other == asked_and_answered(read_row({**talk_, **more}, "x"))
        assert other[0] != asked[0]
        assert other[1] == asked[1]


@pytest.mark.parametrize("row", [
    {"instruction": "a", "output": ["good", "bad"]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ["b", "c"]}]},
])  # fmt: skip
def test_several_texts_where_one_belongs_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(RowError, match=r"a list of 2 texts\. Keep the one"):
        read_row(row, "f:1")


def test_a_part_that_is_no_text_is_told_where_it_belongs() -> None:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]
    row = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
    }
    with pytest.raises(RowError, match="reasoning belongs in reasoning_content"):
        read_row(row, "f:1")
