"""Absurd values for every option and argument of every command: an exit code and one message.

Each option gets a few of the values, in turn; `LIVERY_FUZZ=1` tries all of them on all (minutes).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from commands.options import Finite
from livery import cli, faults
from tests import PATIENCE, ROOT
from tests.hostile import Inputs, make, values

# Values that each option is tried with where time is short.
FEW = 2
HTTP = "--engine http --url http://127.0.0.1:9/v1 --model m --adapter a".split()


def fasttext_eval(inputs: Inputs) -> list[str]:
    """Of a classifier that is trained when it is first asked for."""
    pytest.importorskip("fasttext")
    data, model = inputs.run.parent / "date-keys", inputs.run.parent / "fasttext"
    if not model.is_dir():
        assert cli.run(["data", "date-keys", "--out", str(data), "--count", "3"]) == 0
        few = ["--epochs", "5", "--dim", "8", "--buckets", "1000"]
        assert cli.run(["fasttext", "train", "--data", str(data), "--out", str(model), *few]) == 0
    return ["--fasttext", str(model), "--threshold", "0.5", "--limit", "1", *HTTP]


# The smallest of each stage.
DSL = "--offline-fallback --examples-per-schema 1 --per-schema 2 --positives-per-schema 2".split()


def dsl(inputs: Inputs, stage: str) -> list[str]:
    """A stage of the pipeline on the artefacts of the one before, which are made first."""
    folder = inputs.run.parent / "dsl"
    prompts = folder / "prompts.jsonl"
    specs, schemas, queries, rows, corpus = (
        str(folder / name) for name in ("d_01", "d_02", "d_03", "d_04", "d_05")
    )
    if not folder.is_dir():
        folder.mkdir()
        prompts.write_text('{"domain": "tickets"}\n', encoding="utf-8")
        config = folder / "config.json"
        keys = ("schema_specs_out", "final_schemas_out", "schema_queries_out", "dataset_out",
                "training_corpus_out")  # fmt: skip
        places = dict(zip(keys, (specs, schemas, queries, rows, corpus), strict=True))
        config.write_text(json.dumps({"dataset_generation": places}), encoding="utf-8")
        words = ["dsl", "data", "--config", str(config), "--prompts", str(prompts), *DSL]
        assert cli.run(words) == 0
        assert cli.run(["data", "dsl", "--out", str(folder / "others"), "--count", "3"]) == 0
    offline, few, per_schema, positives = DSL[:1], DSL[1:3], DSL[3:5], DSL[5:]
    return {
        "specs": ["--prompts", str(prompts), "--out", "OUT", *offline, *few],
        "schemas": ["--domain-specs", specs, "--out", "OUT"],
        "queries": ["--schemas", schemas, "--out", "OUT", *offline, *per_schema],
        "dataset": ["--schemas", schemas, "--queries", queries, "--out", "OUT", *offline,
                    *positives],
        "corpus": ["--dataset", rows, "--out", "OUT"],
        "data": ["--prompts", str(prompts), *DSL],
        "evaluate": ["--dataset", rows, "--train-data", str(folder / "others"), "--judge", "rule",
                     "--limit", "1", "--out-dir", "OUT", *HTTP],
    }[stage]  # fmt: skip


def interactions(inputs: Inputs) -> str:
    """A log with one interaction, which a review approves."""
    from livery.interactions import Log
    from livery.skills import persona

    log = inputs.run.parent / "log.jsonl"
    if not log.exists():
        id = Log(log).record(persona.messages("Who sang it?"), "She did, sir.", skill="persona")
        Log(log).mark(id, "good")
        review = ["data", "review", str(log), "--skill", "persona", "--approve-marked"]
        assert cli.run(review) == 0
        assert (
            cli.run(["data", "persona", "--out", str(log.parent / "persona"), "--count", "3"]) == 0
        )
    return str(log)


def replayed(inputs: Inputs) -> str:
    """Data of a skill, whose questions an endpoint would be asked that is not there."""
    data = inputs.run.parent / "replayed"
    if not data.is_dir():
        assert cli.run(["data", "persona", "--out", str(data), "--count", "30"]) == 0
    return str(data)


def pairs(inputs: Inputs) -> str:
    file = inputs.run.parent / "pairs.jsonl"
    row = {"prompt": "say 1", "chosen": "1", "rejected": "2"}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return str(file)


# A command line that ends soon, one way or the other.
LINES: dict[str, Callable[[Inputs], list[str]]] = {
    "base get": lambda i: [str(i.base)],
    "data check": lambda i: [str(i.rows)],
    **{
        f"data {skill}": lambda _: ["--out", "OUT", "--count", "3"]
        for skill in ("actions", "date-keys", "dsl", "persona", "state")
    },
    "data review": lambda i: [interactions(i), "--skill", "persona", "--all", "--again", "--json"],
    "data merge": lambda i: [
        interactions(i), "--skill", "persona", "--data", str(i.run.parent / "persona"),
        "--out", "OUT",
    ],
    "data replay": lambda i: [replayed(i), "--out", "OUT", "--count", "2", *HTTP],
    "train": lambda i: [
        "--dry-run", "--model", str(i.base), "--data", str(i.rows), "--output-dir", "OUT",
        "--backend", "torch",
    ],
    "dpo": lambda i: [
        "--dry-run", "--model", str(i.base), "--pairs", pairs(i), "--output-dir", "OUT",
        "--backend", "torch",
    ],
    "eval": lambda i: ["date-keys", "--unconstrained", "--limit", "1", *HTTP],
    "convert": lambda i: [str(i.peft), "OUT", "--to", "mlx", "--base", str(i.base)],
    "merge": lambda i: ["--base", str(i.base), "--adapter", str(i.peft), "--out", "OUT"],
    "gguf": lambda i: ["--model", str(i.base), "--out", "OUT"],
    "mlx": lambda i: ["--model", str(i.base), "--out", "OUT"],
    "check": lambda i: [str(i.peft), "--base", str(i.base)],
    "pack": lambda i: [str(i.peft), "--out", "OUT"],
    "verify": lambda i: [str(i.peft), "--base", "nowhere"],
    "guard": lambda i: ["ls"],
    "generate": lambda i: ["hello", *HTTP],
    "report": lambda i: [str(i.run), "--out", "OUT"],
    "fasttext train": lambda i: ["--data", str(i.rows), "--out", "OUT"],
    "fasttext eval": fasttext_eval,
    **{
        f"dsl {stage}": lambda i, stage=stage: dsl(i, stage)
        for stage in ("specs", "schemas", "queries", "dataset", "corpus", "data", "evaluate")
    },
    "dsl run": lambda _: ["--offline-fallback", "--data-arg=--dry-run"],
    "dsl align": lambda _: ["--offline-fallback", "--adapter", "nowhere"],
    "dsl pairs": lambda _: ["--eval-results", "nowhere", "--out", "OUT"],
    "dsl report": lambda _: ["--eval-results", "nowhere"],
    "dsl reset": lambda _: ["--report", "--yes"],
    "jobs submit": lambda _: ["date-keys", "--root", "."],
    "jobs list": lambda _: ["--root", "."],
    **{
        f"jobs {what}": lambda _: ["3f9a0c61d2b84e57", "--root", "."]
        for what in ("show", "log", "cancel", "pause", "resume", "retry")
    },
    "jobs worker": lambda _: ["--drain", "--root", "."],
    "serve": lambda _: ["--host", "0.0.0.0", "--no-worker"],  # without a token it ends at once
    "promote": lambda _: ["date-keys", "nowhere", "--over", "elsewhere"],
    "run": lambda i: [
        "date-keys", "--model", "nowhere", "--data", str(i.rows), "--output-dir", "OUT",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make(tmp_path_factory.mktemp("inputs"))


def test_every_command_is_tried() -> None:
    context = click.Context(cli.cli)
    names = set(leaves("", cli.cli, context)) - {"doctor", "base list"}  # which take no value
    assert names == set(LINES)


def leaves(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    """Whatever can be typed as a command, `data SKILL` among it."""
    if not isinstance(command, click.Group):
        yield name
        return
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found is not None
        yield from leaves(f"{name} {word}".strip(), found, context)


@pytest.mark.parametrize("name", LINES)
def test_absurd_values(
    name: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    absurd = values(tmp_path)
    took = len(absurd) if os.environ.get("LIVERY_FUZZ") else FEW
    line = LINES[name](inputs)
    for number, change in enumerate(changes(name, line)):
        for turn in range(took):
            words = change(absurd[(number * FEW + turn) % len(absurd)])
            run([*name.split(), *words])
            for left in work.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def command_of(name: str) -> click.Command:
    command: click.Command = cli.cli
    context = click.Context(command)
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        assert found is not None
        command = found
    return command


def changes(name: str, line: list[str]) -> Iterator[Callable[[str], list[str]]]:
    """For each option and argument, what puts a value into the line."""
    command = command_of(name)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    for place in range(min(len(arguments), sum(1 for w in line[:2] if not w.startswith("-")))):
        yield lambda value, at=place: [*line[:at], value, *line[at + 1 :]]
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            rest = list(line)
            for flag in option.opts:
                if flag in rest:
                    del rest[rest.index(flag) : rest.index(flag) + 2]
            flag = max(option.opts, key=len)
            root = flag == "--root"  # the jobs of a folder are written into it: never into /
            yield lambda value, flag=flag, rest=rest, root=root: [
                *rest, f"{flag}={'.' if root and value == '/' else value}"
            ]  # fmt: skip


def run(words: list[str]) -> None:
    """Run one line in this process, as `livery.cli.main` would, or in one that it may end."""
    if words[:2] == ["jobs", "worker"]:
        done = subprocess.run(
            [sys.executable, "-m", "livery", *words], check=False, capture_output=True, text=True,
            timeout=PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        check(words, done.returncode, done.stdout, done.stderr)
        return
    out, err = io.StringIO(), io.StringIO()
    began = time.process_time()
    refused: OSError | None = None
    code: int | str | None = 1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.run(words)
        except SystemExit as error:
            code = error.code
        except OSError as error:
            refused = error
    assert refused is None or faults.understood(refused), words
    assert time.process_time() - began < 20, words
    check(words, code, out.getvalue(), err.getvalue())


def check(words: list[str], code: int | str | None, out: str, err: str) -> None:
    """The exit code is one of ours, and what was said a message."""
    assert code in (0, 1, 2, 3, *((10, 20, 30) if words[0] == "guard" else ())), words
    said = out + err
    assert "Traceback" not in said, words
    assert all(c.isprintable() or c in "\n\t\xa0" for c in said), (words, said[-300:])
    assert len(err) < 12_000, words


@pytest.mark.parametrize("number", ["4097", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("name", ["generate", "eval"])
def test_more_threads_than_any_machine_has(
    name: str, number: str, inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*name.split(), *LINES[name](inputs), "--threads", number]) in (1, 2)
    said = capsys.readouterr().err
    assert "threads" in said
    assert len(said) < 6_000


@pytest.mark.parametrize("name", ["train", "run"])
def test_what_a_note_quotes(
    name: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that MLX has no use for is quoted in a note: as text, not as a terminal's codes."""
    pytest.importorskip("mlx_lm")
    monkeypatch.chdir(tmp_path)
    line = [*LINES[name](inputs), "--backend", "mlx", "--device", "a\x1b[31m\u202e"]
    run([name, *line])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"data {skill} --out OUT --count", "1<=x<=1000000")
        for skill in ("actions", "date-keys", "dsl", "persona", "state")
    ]
    + [
        ("dsl specs --offline-fallback --examples-per-schema", "0<=x<=10000"),
        ("dsl queries --offline-fallback --per-schema", "1<=x<=1000000"),
        ("dsl dataset --offline-fallback --positives-per-schema", "1<=x<=1000000"),
        ("train --dry-run --output-dir OUT --epochs", "at most 10000"),
        ("jobs list --limit", "1<=x<=10000"),
        ("jobs submit date-keys --attempts", "1<=x<=1000"),
    ],
)
def test_how_much_is_made_has_an_end(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run([*words.split(), "9" * 30]) in (1, 2)
    assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("name", ["max-samples", "batch-size", "grad-accum", "seed", "lora-rank"])
def test_numbers_that_nothing_counts_to(
    name: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", *LINES["train"](inputs), f"--{name}", "9" * 30]) in (1, 2)
    assert "a whole number below 2**63" in capsys.readouterr().err


def test_no_number_is_infinite_or_none() -> None:
    """click's own ranges let NaN through, and what comes of it is a traceback far away."""
    context = click.Context(cli.cli)
    for name in leaves("", cli.cli, context):
        for option in command_of(name).params:
            found = option.type
            assert not isinstance(found, click.FloatRange) or isinstance(found, Finite), (
                name, option.name,
            )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    ["dsl schemas --domain-specs IT --out OUT", "dsl schemas --operator-catalog IT --domain-specs "
     "SPECS --out OUT", "dsl schemas --base-template IT --domain-specs SPECS --out OUT",
     "data review IT --skill persona", "data merge IT --skill persona --data . --out OUT"],
)  # fmt: skip
def test_nothing_is_read_from_a_device(
    words: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dsl(inputs, "specs")
    specs = str(inputs.run.parent / "dsl" / "d_01")
    line = [{"IT": "/dev/zero", "SPECS": specs}.get(word, word) for word in words.split()]
    run(line)
