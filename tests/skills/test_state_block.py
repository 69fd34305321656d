"""The state block: every form the described system writes, positions, round trip, bad input."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livery.errors import UserError
from livery.skills.state import (
    Block,
    Field,
    Note,
    Section,
    StateError,
    Table,
    forged,
    has_block,
    load_block,
    read_block,
    write_block,
)
from tests import takes_less

WHOLE = """You are an agent.

== STATE ==
[self] who I am
  context_level: 2
  fact_count: 20
  rules:
    - never tell vault.code
    - stay who you are
identity.primary_user.name: Ada Lind
identity.machine.name: Juno
last_event: door: opened twice
[trust_levels] who may do what
| person | level |
|---|:--:|
| Mara | verified |
| Tom |  |
[vault]
vault.code: 7741
[crew]
| name | cabin | watch |
|---|---|---|
| Ilse | 4 | night |
[scores] relevance
identity - 8.2
log - -1
something the program wrote
== END STATE ==
Answer in one sentence.
"""


def values(block: Block) -> dict[str, str]:
    return {field.path: field.value for field in block.fields}


def test_every_form_is_read_and_named() -> None:
    block = read_block(WHOLE)
    assert block.closed
    assert values(block) == {
        "self.context_level": "2",
        "self.fact_count": "20",
        "self.rules": "never tell vault.code; stay who you are",
        "self.identity.primary_user.name": "Ada Lind",
        "self.identity.machine.name": "Juno",
        "self.last_event": "door: opened twice",
        "trust_levels.Mara": "verified",
        "trust_levels.Tom": "",
        "vault.code": "7741",
        "crew.Ilse.cabin": "4",
        "crew.Ilse.watch": "night",
        "scores.identity": "8.2",
        "scores.log": "-1",
    }
    assert [s.description for s in block.sections][:2] == ["who I am", "who may do what"]
    kinds = [(f.name, f.kind) for f in block.fields]
    assert ("context_level", "metadata") in kinds
    assert ("identity", "score") in kinds
    assert Note("something the program wrote") in block.sections[-1].entries


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "[trust] who\n  levels:\n    Mara: verified\n    of crew:\n      Tom: none\n  n: 1\n"
            "last: x",
            {
                "trust.levels.Mara": "verified",
                "trust.levels.of crew.Tom": "none",
                "trust.n": "1",
                "trust.last": "x",
            },
        ),
        ("memory:\n  topics:\n    - tea\n  size: 2", {"memory.topics": "tea", "memory.size": "2"}),
        ("rules:\n\n  - one\n\n  - two\nname: x", {"rules": "one; two", "name": "x"}),
        ("rules:\n  * one\n    - within\n  • two", {"rules": "one; within; two"}),
        ("| a | b |\n| - | :-: |\n| Mara | 2 |", {"Mara": "2"}),
        ("empty:\nname: x", {"empty": "", "name": "x"}),
    ],
)
def test_keys_within_keys_and_lists_as_people_write_them(text: str, found: dict[str, str]) -> None:
    block = read_block(f"\ufeff== STATE ==\n{text}")
    assert values(block) == found
    assert values(read_block(write_block(block))) == found


def test_positions_are_those_of_the_message() -> None:
    block = read_block(WHOLE)
    for field in block.fields:
        if field.kind != "list":
            assert WHOLE[field.start : field.end] == field.value, field
        assert field.value.split(";")[0] in "\n".join(WHOLE.split("\n")[field.line - 1 :])
    assert WHOLE[block.start :].startswith("== STATE ==")
    assert WHOLE[: block.end].endswith("== END STATE ==")
    windows = WHOLE.replace("\n", "\r\n")
    for field in read_block(windows).fields:
        assert field.kind == "list" or windows[field.start : field.end] == field.value


def test_an_unclosed_block_reaches_to_the_end() -> None:
    block = read_block("== STATE ==\nidentity.name: Juno\ntail: here")
    assert not block.closed
    assert values(block) == {"identity.name": "Juno", "tail": "here"}
    assert block.end == len("== STATE ==\nidentity.name: Juno\ntail: here")
    assert read_block("== STATE ==").sections == ()
    assert has_block("x\n== STATE ==")
    assert not has_block("x == STATE == y")


def test_names_are_found_in_all_their_forms() -> None:
    block = read_block(WHOLE)
    assert [f.value for f in block.find("trust levels.mara")] == ["verified"]
    assert [f.value for f in block.find("identity.primary_user.name")] == ["Ada Lind"]
    assert block.find("Mara")[0].path == "trust_levels.Mara"
    assert block.find("crew.Ilse.watch")[0].value == "night"
    assert block.holds("trust_levels")
    assert block.holds("identity.primary_user".upper()) is False
    assert block.holds("self.identity.primary_user")
    assert not block.holds("trust_level")
    assert block.find("nobody") == ()


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("never tell vault.code", ["vault.code"]),
        ("`vault.code` is secret", ["vault.code"]),
        ("Nobody may be told vault.code or vault.owner", ["vault.code", "vault.owner"]),
        ("do not ever say Vault.Code aloud", ["vault.code"]),
        ("never tell vault.code2", []),
        ("always cite vault.code", []),
        ("never tell vault.code.", ["vault.code"]),
        ("never tell anybody (vault.code)", ["vault.code"]),
    ],
)
def test_rules_protect_the_fields_they_name(rule: str, found: list[str]) -> None:
    text = f"== STATE ==\n[vault] locked\n  rules:\n    - {rule}\nvault.code: 1\nvault.owner: Bo"
    assert [f.path for f in read_block(text).protected] == found


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("hello", 1, "no state block"),
        ("== STATE ==\na: 1\n== STATE ==\nb: 2", 3, "a second == STATE == inside"),
        ("== STATE ==\na: 1\n== END STATE ==\n\n== STATE ==", 5, "a second == STATE == after"),
        ("a\n== END STATE ==\n== STATE ==", 2, "closes no block"),
        ("x\n== STATE\na: 1", 2, "is cut"),
        ("== STATE ==\na: 1\n== END STATE", 3, "is cut"),
        ("== STATE ==\na: 1\n== END STA", 3, "== END STA is cut"),
        ("== STATE ==\na: 1\n== E", 3, "is cut"),
        ("== STATE ==\na\u200bb: 1", 2, "U+200B"),
        ("== STATE ==\n| a | b |\n| 1 | 2 |", 2, "a line |---|---| under it"),
        ("== STATE ==\n| a | b |\n|---|\n", 3, "1 columns under a head of 2"),
        ("== STATE ==\n| a | b |\n|---|---|\n| 1 | 2 | 3 |", 4, "3 cells in a table of 2 columns"),
        ("== STATE ==\n| a | b |\n|---|---|\n| 1 | 2", 4, "is cut"),
        ("== STATE ==\na: 1\u202e2", 2, "U+202E"),
        ("== STATE ==\na: 1\n\nb: \x07", 4, "U+0007"),
        ("== STATE ==\na: 1\u2028b: 2", 2, "U+2028"),
        ("== STATE ==\n" + "a" * (1 << 20), 1, "at most 1,048,576"),
    ],
)
def test_a_faulty_block_is_refused_by_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(StateError, match=rf"^line {line}: ") as caught:
        read_block(text)
    assert reason in str(caught.value)
    assert caught.value.line == line


def test_a_file_in_another_encoding_is_refused(tmp_path) -> None:
    path = tmp_path / "state.txt"
    path.write_bytes(WHOLE.encode("utf-16"))
    with pytest.raises(UserError, match="Save the file as UTF-8"):
        load_block(path)
    path.write_bytes("== STATE ==\nname: Zoë".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        load_block(path)
    path.write_text("== STATE ==\n\n| a |\n", encoding="utf-8-sig")
    with pytest.raises(UserError, match=r"state.txt:3: a table's head"):
        load_block(path)
    path.write_text(WHOLE, encoding="utf-8-sig")
    assert load_block(path) == read_block(WHOLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["a: 1\n", "| a | b |\n", "  - x\n", "- ", "[s] d\n", "a - 1\n", "=", "|", "a", " "]
)
def test_a_megabyte_of_anything_takes_no_long(line: str) -> None:
    began = time.process_time()
    text = "== STATE ==\n" + line * (((1 << 20) - 20) // len(line))
    with contextlib.suppress(StateError):
        read_block(text)
    forged([{"role": "user", "content": text}])
    assert time.process_time() - began < 20  # 0.9 here; quadratic it takes hours


@pytest.mark.slow
def test_many_rules_over_many_fields_take_no_long() -> None:
    rules = "".join(f"    - never tell f.x{number}\n" for number in range(12_000))
    facts = "".join(f"f.x{number}: 1\n" for number in range(6_000, 26_000))
    block = read_block(f"== STATE ==\n[f]\n  rules:\n{rules}{facts}")

    def look() -> None:
        fresh = replace(block)  # what it has found out it keeps
        assert len(fresh.protected) == 6_000
        assert fresh.protector("f.x11999") == "f.rules"

    assert takes_less(4, look)


NAME = st.from_regex(r"[a-z][a-z_]{0,8}(\.[a-z][a-z0-9_]{0,8}){0,3}", fullmatch=True)
TEXT = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Cf", "Zl", "Zp")), min_size=1, max_size=30
).map(lambda t: " ".join(t.split()))
CELL = TEXT.map(lambda t: t.replace("|", "/"))


@st.composite
def entries(draw: st.DrawFn, section: str) -> Field | Table:
    kind = draw(st.sampled_from(["fact", "metadata", "list", "score", "table"]))
    if kind == "table":
        columns = draw(st.integers(2, 4))
        row = st.lists(CELL, min_size=columns, max_size=columns).map(tuple)
        return Table(draw(row), tuple(draw(st.lists(row, max_size=3))), section)
    name = draw(NAME)
    if kind == "score":
        return Field(name, str(draw(st.integers(-99, 99))), "score", section)
    if kind == "list":
        items = tuple(draw(st.lists(TEXT.filter(bool), min_size=1, max_size=3)))
        return Field(name, "; ".join(items), "list", section, items)
    if not section:
        kind = "fact"
    return Field(name, draw(TEXT), kind, section)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    names = draw(st.lists(NAME, max_size=4, unique=True))
    sections = [
        Section(n, draw(TEXT), tuple(draw(st.lists(entries(n), max_size=4)))) for n in names
    ]
    loose = draw(st.lists(entries(""), max_size=3))
    if loose:
        sections.insert(0, Section("", "", tuple(loose)))
    return Block(tuple(sections), draw(st.booleans()))


@pytest.mark.slow
@given(blocks())
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(block: Block) -> None:
    try:
        text = write_block(block)
    except ValueError:
        return  # said to be unwritable; the next test holds that ordinary ones are not
    assert read_block(text) == block


@pytest.mark.slow
@given(st.lists(st.tuples(NAME, st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_ordinary_blocks_can_be_written(facts: list[tuple[str, str]]) -> None:
    entries_ = tuple(Field(name, value, "fact", "s") for name, value in facts)
    block = Block((Section("s", "all", entries_),))
    assert read_block("Rules first.\n\n" + write_block(block) + "\nmore") == block


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_nothing_makes_the_reader_fail(text: str) -> None:
    for one in (text, f"== STATE ==\n{text}"):
        try:
            block = read_block(one)
        except StateError:
            continue
        for field in block.fields:
            if field.kind != "list":
                assert one[field.start : field.end] == field.value
        assert forged([{"role": "user", "content": one}])


@pytest.mark.parametrize(
    ("name", "value"), [("a:b", "1"), ("a", "x\ny"), ("a", " x"), ("- a", "1"), ("", "1")]
)
def test_what_cannot_be_read_back_is_not_written(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="would"):
        write_block(Block((Section("", "", (Field(name, value),)),)))
