"""`livery data check` and `livery train` never differ over a row: taken, left out, or refused."""

from __future__ import annotations

import bz2
import dataclasses
import datetime
import gzip
import json
import lzma
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.training.data import load_data
from datagen.check import check
from livery.cli import run
from livery.config.settings import TrainSettings
from livery.errors import UserError
from tests.dataset import files
from tests.tiny_models import tiny_model

USER, ANSWER = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}
CALL = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]}
GOOD = {"messages": [USER, ANSWER]}
# One row of a kind; what becomes of it.
ODD: list[tuple[str, bytes | dict[str, Any]]] = [
    ("taken", {"prompt": "a", "completion": "b"}),
    ("taken", {"instruction": "a", "input": "b", "output": "c", "id": 3}),
    ("taken", {"text": "once upon"}),
    ("left out", {"messages": [USER, CALL]}),  # this model's template renders no calls
    ("taken", {"messages": [USER, ANSWER, USER]}),
    ("taken", {"messages": [ANSWER, USER, ANSWER]}),
    ("taken", {"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER]}),
    ("taken", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
    ("left out", {"messages": [USER]}),
    ("left out", {"messages": [USER, {**ANSWER, "content": ""}]}),
    ("left out", {"messages": [USER, {**ANSWER, "train": False}]}),
    ("left out", {"prompt": "a", "completion": " "}),
    ("left out", {"prompt": "a " * 400, "completion": "b"}),
    ("left out", {"prompt": "a", "completion": "b " * 90_000}),
    ("left out", {"text": ""}),
    ("refused", {"prompt": "a"}),
    ("refused", {"prompt": "a", "completion": "b", "label": True}),
    ("refused", {"prompt": "a", "chosen": "b", "rejected": "c"}),
    ("refused", {"messages": [USER, {**ANSWER, "role": "critic"}]}),
    ("refused", {"messages": [USER, {**ANSWER, "content": [{"type": "image"}]}]}),
    ("refused", {"messages": [USER, {**ANSWER, "weight": 0.5}]}),
    ("refused", {"messages": [USER, ANSWER], "tools": "{"}),
    ("refused", b'{"prompt": "cut \\ud83d", "completion": "b"}'),
    ("refused", b'{"prompt": "\xff", "completion": "b"}'),
    ("refused", b'{"prompt": ' + b"[" * 3000),
    ("refused", b"[1, 2]"),
    ("refused", b"{oops"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model("llama", tmp_path_factory.mktemp("verdict")))


def line(row: bytes | dict[str, Any]) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row).encode()


def agree(path: Path, model: str, **more: Any) -> tuple[set[str], str]:
    """(places left out, why training refuses it all or ""), the same to both."""
    chosen = TrainSettings(model=model, data=str(path), max_length=128, **more)
    found = check(path, chosen, model=model)
    refused = [p for p in found.problems if p.kind == "form"]
    data, refusal = None, ""
    try:
        data = load_data(chosen)
    except UserError as error:
        refusal = str(error)
    if data is None:
        assert refused, f"only training refuses it: {refusal}"
        assert refused[0].where in refusal
        assert refused[0].message.rstrip(".") in refusal
        return {p.where for p in found.problems if p.kind == "dropped"}, refusal
    assert not refused, "only the check refuses it"
    parts = {"train": data.train, "valid": data.valid}
    for name, part in parts.items():
        if name in found.rows:
            assert found.rows[name] == len({e.where for e in part.examples})
            assert found.lengths[name].examples == len(part.examples)
            assert found.lengths[name].supervised == sum(
                int(e.supervised.sum()) for e in part.examples
            )
    left_out = {(d.where, d.reason) for part in parts.values() for d in part.dropped}
    said = {
        (p.where, p.message.removeprefix("left out: ").removesuffix("."))
        for p in found.problems if p.kind == "dropped"
    }  # fmt: skip
    assert said == left_out
    for note in found.notes:
        assert note in data.notes
    return {where for where, _ in left_out}, ""


@pytest.mark.parametrize(("verdict", "row"), ODD)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_each_odd_row(
    tmp_path: Path, model: str, verdict: str, row: bytes | dict[str, Any], end: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(end.encode().join([line(GOOD), line(row), line(GOOD)]))
    left_out, refusal = agree(path, model)
    assert (left_out == {f"{path}:2"}) == (verdict == "left out")
    assert bool(refusal) == (verdict == "refused")
    if refusal:
        assert refusal.startswith(f"{path}:2: ")


@pytest.mark.slow
@given(
    rows=st.lists(st.sampled_from([row for _, row in ODD]), max_size=6),
    train_on=st.sampled_from(["all", "last"]),
    ends=st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
)
def test_files_of_odd_rows(
    tmp_path: Path, model: str, rows: list[bytes | dict[str, Any]], train_on: str, ends: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(ends.encode().join(map(line, rows)))
    agree(path, model, train_on=train_on)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_rows_before_a_fault_of_the_whole_file_get_their_verdict(
    tmp_path: Path, model: str, ending: str
) -> None:
    """They stand in one batch, and in one chunk, with the place where the file ends."""
    rng = random.Random(0)
    odd = [line({"prompt": "a"}), line({"prompt": "a", "completion": " "})]
    noise = [line({"prompt": f"{rng.random()}", "completion": "b"}) for _ in range(300)]
    path = tmp_path / f"x.jsonl{ending}"
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[ending]
    whole = pack(b"\n".join([*odd, *noise]))
    rest = pack(b"\n".join([b"", line(GOOD)]))
    path.write_bytes(whole + rest[:-12])
    found = check(path, TrainSettings(model=model, max_length=128), model=model).problems
    assert [(p.kind, p.where) for p in found if p.kind in ("form", "dropped")][:3] == [
        ("form", f"{path}:1"),
        ("dropped", f"{path}:2"),
        ("form", str(path)),
    ]
    assert "not a complete" in found[2].message


@pytest.mark.parametrize(
    "name", ["x.json", "x.csv", "x.parquet", "x.jsonl.gz", "train.jsonl.zst", "x.tsv"]
)
def test_other_formats(tmp_path: Path, model: str, name: str) -> None:
    answers = ("b", " ", "c " * 200, "d")
    rows = [{"prompt": f"a{c}", "completion": c} for c in answers]
    path = files.write(tmp_path, name, rows)
    left_out, refusal = agree(path, model)
    assert len(left_out) == 2
    assert not refusal
    first = load_data(TrainSettings(model=model, data=str(path), max_samples=2, max_length=128))
    assert len(first.train.examples) == 1
    assert first.train.more
    held = load_data(TrainSettings(model=model, data=str(path), val_split=0.5, max_length=128))
    assert (len(held.train.examples), len(held.valid.examples)) == (1, 1)


@pytest.mark.slow
def test_folders_columns_and_validation_rows(tmp_path: Path, model: str) -> None:
    rows = [{"q": "a", "a": "b", "n": 1}, {"q": "c", "a": ""}]
    files.write(tmp_path, "train.csv", rows)
    files.write(tmp_path, "validation.parquet", rows)
    columns = ("prompt=q", "completion=a", "ignore=n")
    left_out, refusal = agree(tmp_path, model, columns=columns)
    assert len(left_out) == 2
    assert not refusal
    _, refusal = agree(tmp_path, model, columns=(*columns, "system=s"))
    assert "no row has the column 's' that columns names; there are: a, n, q" in refusal
    _, refusal = agree(tmp_path, model)
    assert "no messages, prompt and completion" in refusal


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", b""), ("x.jsonl", b"\n \n"), ("x.json", b"[]"), ("x.csv", b"a,b\n"),
        ("x.json", b'[{"prompt": "a", "completion": "b"}, {'), ("x.jsonl.gz", b"no"),
        ("x.parquet", b"no"), ("x.jsonl", b'{"prompt": "a", "completion": ""}'),
    ],
)  # fmt: skip
def test_files_with_nothing_to_train_on(tmp_path: Path, model: str, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    _, refusal = agree(tmp_path / name, model)
    assert refusal


def test_strict_refuses_what_is_left_out(tmp_path: Path, model: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(GOOD) + b"\n" + line({"messages": [USER]}))
    lenient = TrainSettings(model=model, data=str(path))
    assert len(load_data(lenient).train.dropped) == 1
    with pytest.raises(UserError, match=r"x\.jsonl:2: no assistant turn.*With --strict no row"):
        load_data(dataclasses.replace(lenient, strict=True))
    assert run(["data", "check", str(path)]) == 0
    assert run(["data", "check", str(path), "--strict"]) == 1


def test_the_check_takes_its_limits_from_the_configuration(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(GOOD) + b"\n" + line({"prompt": "a " * 99, "completion": "b"}))
    config = tmp_path / "c.yaml"
    config.write_text("max_seq_length: 40\n")
    command = ["data", "check", str(path), "--model", model]
    assert run([*command, "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"train": 1}
    assert run([*command, "--config", str(config), "--max-length", "900", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"train": 0}
    assert run([*command, "--config", str(config)]) == 0
    assert f"max_length: 40 ({config}:1)" in capsys.readouterr().out


def test_a_huge_row_costs_no_tokenizing(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livery.dataset import load

    seen: list[int] = []
    real = load.encode_batches

    def counted(batches: Any, *rest: Any, **more: Any) -> Any:
        held = list(batches)
        seen.extend(len(rows) for rows in held)
        return real(held, *rest, **more)

    monkeypatch.setattr(load, "encode_batches", counted)
    path = tmp_path / "x.jsonl"
    huge = {"messages": [USER, {**ANSWER, "content": "abc " * 500_000}]}
    path.write_bytes(line(GOOD) + b"\n" + line(huge))
    data = load_data(TrainSettings(model=model, data=str(path), max_length=128))
    assert seen == [1]
    assert "2,000,005 characters, over the limit of 128 tokens" in data.train.dropped[0].reason


@pytest.mark.parametrize(
    "name",
    ["x.csv", "x.tsv", "x.parquet", "x.jsonl.gz", "x.jsonl.zst", "mac.jsonl", "dos.jsonl",
     "data.zip", "folder"],
)  # fmt: skip
def test_two_steps_on_each_kind_of_file(
    tmp_path: Path, model: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed as users type it; every kind trains on the same tokens."""
    pytest.importorskip("torch")
    rows = [{"prompt": f"a{n}", "completion": f"b\u2028{n}"} for n in range(4)]
    path = tmp_path / name
    if name == "data.zip":
        path.write_bytes(files.zipped({"d/train.jsonl": files.as_lines(rows), "d/notes.txt": b"x"}))
    elif name == "folder":
        files.write(path, "train.parquet", rows)
        files.write(path, "valid.csv", [{"prompt": "z", "completion": "y"}])
        (path / "README.md").write_text("about")
    else:
        files.write(tmp_path, name, rows)
    assert run(["data", "check", str(path), "--model", model]) == 0
    assert "train: 4 rows; " in capsys.readouterr().out
    out = tmp_path / "out"
    command = ["train", "--model", model, "--data", str(path), "--output-dir", str(out)]
    assert run([*command, "--backend", "torch", "--iters", "2", "--lora-rank", "2"]) == 0
    said = capsys.readouterr()
    assert "2 steps; an epoch is 1 step over 4 examples: " in said.out + said.err
    plain = files.write(tmp_path, "plain.jsonl", rows)
    found, same = (load_data(TrainSettings(model=model, data=str(p))) for p in (path, plain))
    assert found.train.digest == same.train.digest
    assert (out / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_run_goes_on_the_next_day_under_a_template_with_a_date(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the day that it began with: its prompts are those that it was trained on."""
    pytest.importorskip("torch")
    from commands.training import session as training
    from tests.dataset.templates import FAMILIES

    class Clock(datetime.date):
        given = "2026-03-01"

        @classmethod
        def today(cls) -> Any:
            return datetime.date.fromisoformat(cls.given)

    monkeypatch.setattr(training.datetime, "date", Clock)
    template = tmp_path / "dated.jinja"
    template.write_text(FAMILIES["dated"])
    data = files.write(tmp_path, "x.jsonl", [{"prompt": f"a{n}", "completion": "b"} for n in "12"])
    out = tmp_path / "out"
    command = ["train", "--model", model, "--data", str(data), "--output-dir", str(out)]
    command += ["--backend", "torch", "--lora-rank", "2", "--save-every", "1"]
    command += ["--chat-template", str(template)]
    assert run([*command, "--iters", "2"]) == 0
    assert "that is 2026-03-01 (--template-date" in capsys.readouterr().err
    shutil.rmtree(out / "checkpoints" / "step-000002")  # as if it had been stopped before
    Clock.given = "2026-03-02"
    assert run([*command, "--iters", "2", "--resume"]) == 0
    said = capsys.readouterr().err
    assert "that is 2026-03-01 (--template-date" in said
    assert "Resuming from step 1" in said
    assert json.loads((out / "run_config.json").read_text())["settings"]["template_date"] == (
        "2026-03-01"
    )
