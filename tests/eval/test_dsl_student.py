"""Teacher evaluation of a dsl student: records, rates, pairs, and going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.dsl.answering import Answer, answer, longest_answer
from eval.dsl.comparison import Evaluation, compare_rows, report
from eval.dsl.items import read_items
from eval.dsl.pairs import build_pairs
from eval.dsl.results import RULE, Judge, judge_rows, summarise
from livery import cli
from livery.engines.engine import Decoding, Generation, Prompt
from livery.errors import UserError
from livery.paths import HOME
from livery.skills import dsl
from livery.teacher import Teacher
from tests.engines.test_engine_http import server
from tests.tiny_models import tiny_model

SPEC = {
    "domain": "tickets",
    "fields": [{"const": "status", "enum": [{"const": "open"}, {"const": "closed"}]}],
}


def schema(name: str, *values: str) -> dict[str, Any]:
    fields = [{"const": "status", "enum": [{"const": value} for value in values]}]
    return dsl.build_schema({**SPEC, "schema_id": name, "fields": fields}, [{"const": "is"}])


def ast(value: str, query: str) -> dict[str, Any]:
    condition = {"field": "status", "operator": "is", "value": value}
    step = {"name": "step_1", "conditions": [condition], "description": "status"}
    return {"prompt": query, "steps": [step], "timeframe": {"start": "", "end": ""}}


def row(name: str, value: str, **more: Any) -> dict[str, Any]:
    query = f"the {value} ones of {name}"
    return {
        "schema_id": name,
        "domain": "tickets",
        "schema_json": dsl.compact(schema(name, "open", "closed", name)),
        "query": query,
        "current_date": "2026-06-14",
        "ast_json": dsl.render(ast(value, query)),
        "is_valid": True,
        "language": "en",
        "split": "test",
        **more,
    }


ROWS = [row("desk", "open"), row("desk", "closed"), row("shop", "open"), row("shop", "closed")]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "d_04_dataset.jsonl"
    wrong = row("desk", "lost", is_valid=False, validation_error="bad_enum", error_type="bad_enum")
    rows = [row("yard", "open", split="train"), *ROWS, wrong]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def answers(*texts: str) -> list[Answer]:
    return [Answer(text, True, 9) for text in texts]


def target(at: int) -> str:
    return str(ROWS[at]["ast_json"])


def judged(dataset: Path) -> list[dict[str, Any]]:
    """A right answer, one in other words, one of the wrong value, and one cut in mid-JSON."""
    items, _ = read_items(dataset)
    reworded = json.dumps({**json.loads(target(1)), "prompt": "closed ones"}, indent=2)
    wrong = dsl.render(ast("closed", "x"))
    given = [*answers(target(0), reworded, wrong), Answer(target(3)[:40], False, 20)]
    return judge_rows(items, given, Judge())


# -- records and rates -----------------------------------------------------------------------------


def test_without_a_teacher_the_rule_judges_and_is_named_everywhere(dataset: Path) -> None:
    rows = judged(dataset)
    told = ("parsed", "schema_valid", "exact_match", "semantic_match_target", "teacher_verdict")
    assert [tuple(one[key] for key in told) for one in rows] == [
        (True, True, True, True, "accept"),
        (True, True, False, True, "accept"),
        (True, True, False, False, "reject"),
        (False, False, False, False, "reject"),
    ]
    assert rows[1]["student_canonical"] == dsl.render(json.loads(rows[1]["raw_output"]))
    assert "cut off after 20 tokens" in rows[3]["parse_error"]
    assert rows[0]["prompt_text"] == dsl.prompt_text(
        dsl.Request(schema("desk", "open", "closed", "desk"), ROWS[0]["query"], "2026-06-14")
    )
    assert all(one["teacher_canonical"] is None and one["judge"] == RULE for one in rows)
    summary = summarise(rows, RULE, {})
    assert summary["judge"] == RULE
    rates = ("parsed_rate", "schema_valid_rate", "exact_match_rate", "semantic_match_target_rate")
    assert [summary[name] for name in rates] == [0.75, 0.75, 0.25, 0.5]
    assert summary["teacher_accept_rate"] == summary["semantic_pass_rate"] == 0.5
    assert summary["teacher_agreement_rate"] is None  # nobody gave an AST to agree with
    assert summary["intervals"]["parsed_rate"]["of"] == 4
    assert summary["by_schema"]["shop"]["semantic_pass"] == 0
    assert summary["cut_off"] == 1
    assert set(summary["failures"]) == {"no_json", rows[2]["failure"]}


def test_an_answer_that_its_schema_forbids_is_told_why(dataset: Path) -> None:
    items, _ = read_items(dataset, limit=1)
    wrong = ast("lost", "x")
    (one,) = judge_rows(items, answers(dsl.render(wrong)), Judge())
    (fault,) = dsl.find_faults(wrong, items[0].case.meta["schema"])
    assert (one["schema_valid"], one["failure"]) == (False, "bad_enum")
    assert one["schema_error"] == str(fault)
    twice = judge_rows(items, answers('{"cut off": 1, "cut off": 2}'), Judge())
    assert "cut off" in twice[0]["parse_error"]
    assert summarise(twice, RULE, {})["cut_off"] == 0, "the student's own words"


def test_a_teacher_gives_its_own_ast_and_a_verdict(dataset: Path, tmp_path: Path) -> None:
    def speak(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked = body["messages"][-1]["content"]
        if "[AST]" in asked:
            accepts = '"value":"open"' in asked
            said: Any = {"reason": "it is", "verdict": "accept" if accepts else "reject"}
        elif "shop" in asked:
            return 400, {"error": "no"}
        else:
            query = asked.partition("[QUERY]\n")[2].partition("\n")[0]
            said = ast("open", query)
        text = json.dumps(said)
        return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}

    items, _ = read_items(dataset)
    with server(speak) as (url, seen):
        teacher = Teacher("wise", url, retries=0, max_error_rate=1.0)
        judge = Judge(teacher, tmp_path / "teacher" / "records.sqlite")
        given = answers(target(0), target(1), target(2), "none")
        rows = judge_rows(items, given, judge)
        asked = len(seen)
        assert judge_rows(items[:2], given[:2], judge) == rows[:2]
        assert len(seen) == asked  # what is on record is not asked again
    told = ("matches_teacher", "semantic_match_teacher", "teacher_verdict", "semantic_pass")
    assert [tuple(one[key] for key in told) for one in rows] == [
        (True, True, "accept", True),
        (False, False, "reject", False),
        (None, None, "accept", True),
        (None, None, "reject", False),
    ]
    assert rows[2]["teacher_error"].startswith("ast: refused")
    assert {one["judge"] for one in rows} == {"teacher: wise"}
    summary = summarise(rows, judge.name, {})
    assert summary["teacher_agreement_rate"] == 0.5
    assert summary["intervals"]["teacher_agreement_rate"]["of"] == 2
    assert summary["teacher_errors"] == 2
    pairs, without = build_pairs([("x:1", one) for one in rows])
    assert [pair["chosen"] for pair in pairs] == [rows[1]["teacher_canonical"], target(3)]
    assert without == {"accepted": 2}


# -- rows ------------------------------------------------------------------------------------------


def test_the_split_that_was_held_out_is_taken_and_wrong_rows_when_asked(dataset: Path) -> None:
    items, refused = read_items(dataset)
    assert [item.case.text for item in items] == [one["query"] for one in ROWS]
    assert refused == {}
    items, _ = read_items(dataset, include_invalid=True)
    assert [item.target_error for item in items] == [*[""] * 4, "bad_enum"]
    assert items[4].case.grammar == items[0].case.grammar is not None
    rows = judge_rows(items, answers(*[target(0)] * 5), Judge())
    assert (rows[4]["target_valid"], rows[4]["teacher_verdict"]) == (False, None)
    assert summarise(rows, RULE, {})["intervals"]["exact_match_rate"]["of"] == 4
    items, _ = read_items(dataset, split="train")
    assert [item.case.meta["schema_id"] for item in items] == ["yard"]
    with pytest.raises(UserError, match="no row is of the split 'dev'; there are: test, train"):
        read_items(dataset, split="dev")
    drawn = [read_items(dataset, limit=2, seed=seed)[0] for seed in range(8)]
    assert len({tuple(item.case.id for item in items) for items in drawn}) > 1
    assert [len(items) for items in drawn] == [2] * 8


def test_rows_that_the_student_was_trained_on_are_refused(dataset: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "d_05.jsonl"

    def write(*rows: dict[str, Any]) -> None:
        made = [
            {
                "prompt": dsl.prompt_text(
                    dsl.Request(json.loads(one["schema_json"]), one["query"], "2026-01-01")
                ),
                "completion": one["ast_json"],
            }
            for one in rows
        ]
        corpus.write_text("".join(json.dumps(one) + "\n" for one in made))

    # The same schema under another name is the same schema.
    renamed = json.loads(ROWS[0]["schema_json"]) | {"$id": "other", "title": "Other"}
    write({**ROWS[0], "schema_json": json.dumps(renamed)}, row("yard", "open"))
    items, refused = read_items(dataset, train=corpus)
    assert {item.case.meta["schema_id"] for item in items} == {"shop"}
    assert refused == {"training_row": 1, "training_schema": 1}
    write(*ROWS)
    with pytest.raises(UserError, match="every row has a schema that the student was trained on"):
        read_items(dataset, train=corpus)
    corpus.write_text('{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(UserError, match="holds no row of this skill"):
        read_items(dataset, train=corpus)


# -- answers ---------------------------------------------------------------------------------------


class Student:
    """An engine that counts what it is asked, and dies when it is told to."""

    def __init__(self, dies_after: int = 99):
        self.asked = 0
        self.dies_after = dies_after

    def prompt(self, messages: Any, tools: Any = ()) -> Prompt:
        return Prompt(tuple(messages), tuple(range(len(messages[-1]["content"]))))

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, progress: Any = None
    ) -> list[Generation]:
        if self.asked >= self.dies_after:
            raise KeyboardInterrupt
        self.asked += len(prompts)
        return [Generation((), f"{p.messages[-1]['content'][-80:]}", True, 0.1, 3) for p in prompts]


def ask(student: Student, dataset: Path, **options: Any) -> list[Answer]:
    items, _ = read_items(dataset)
    return answer(
        student, items, Decoding(50), dataset.with_name("partial.jsonl"),  # pyright: ignore[reportArgumentType]
        options.pop("made_from", {"adapter": "a"}), every=1, **options,
    )  # fmt: skip


def test_an_evaluation_that_died_goes_on_where_it_was(dataset: Path) -> None:
    whole = ask(Student(), dataset, resume=False)
    partial = dataset.with_name("partial.jsonl")
    with pytest.raises(KeyboardInterrupt):
        ask(Student(dies_after=2), dataset, resume=False)
    # A kill may leave half a line.
    partial.write_text(partial.read_text() + '{"raw": "hal')
    student = Student()
    assert ask(student, dataset) == whole
    assert student.asked == 2
    again = Student()
    assert ask(again, dataset) == whole
    assert again.asked == 0
    other = Student()
    ask(other, dataset, made_from={"adapter": "b"})
    assert other.asked == 4


def test_a_prompt_without_room_for_its_answer_is_refused_with_its_length(dataset: Path) -> None:
    with pytest.raises(UserError, match=r"jsonl:\d: the prompt has [\d,]+ tokens and its answer"):
        ask(Student(), dataset, longest=1_000)
    items, _ = read_items(dataset)
    longest = max(len(item.case.expected_text) for item in items)
    assert longest < longest_answer(Student(), items) < 2 * longest + 64  # pyright: ignore[reportArgumentType]


# -- pairs -----------------------------------------------------------------------------------------


def test_pairs_are_of_rejected_answers_unparsed_ones_too(dataset: Path) -> None:
    rows = [("r.jsonl:1", one) for one in judged(dataset)]
    pairs, without = build_pairs(rows)
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [
        (target(2), dsl.render(ast("closed", "x"))),
        (target(3), target(3)[:40]),
    ]
    assert set(pairs[0]) == {
        "prompt", "chosen", "rejected", "schema_id", "teacher_verdict", "judge_name",
    }  # fmt: skip
    assert {p["judge_name"] for p in pairs} == {RULE}
    assert without == {"accepted": 2}
    # An answer of the same meaning is no worse one, whoever asks for it.
    assert build_pairs(rows, only_rejected=False) == (pairs, {"both mean the same": 2})
    assert build_pairs([*rows, *rows])[1]["the same pair twice"] == 2
    assert build_pairs(rows, most=1)[0] == pairs[:1]
    with pytest.raises(UserError, match=r"x:7: no prompt_text"):
        build_pairs([("x:7", {"a": 1})])


# -- the commands ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_commands_write_the_described_files(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    model = tiny_model("llama", tmp_path / "model")
    out = tmp_path / "eval"
    command = ["dsl", "evaluate", "--engine", "torch", "--model", str(model), "--judge", "rule"]
    command += ["--dataset", str(dataset), "--out-dir", str(out), "--max-new-tokens", "6"]
    assert cli.run([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "evaluation_summary.json").read_text())
    assert (summary["samples"], summary["parsed_rate"], summary["cut_off"]) == (4, 0.0, 4)
    rows = [json.loads(s) for s in (out / "evaluation_results.jsonl").read_text().splitlines()]
    assert [one["query"] for one in rows] == [one["query"] for one in ROWS]
    pairs = tmp_path / "pairs.jsonl"
    source = str(out / "evaluation_results.jsonl")
    assert cli.run(["dsl", "pairs", "--eval-results", source, "--out", str(pairs)]) == 0
    assert len(pairs.read_text().splitlines()) == 4
    # Another file is never replaced, and a device not read.
    before = {path: path.read_bytes() for path in (dataset, pairs, Path(source))}
    for flag in ("--eval-summary", "--eval-results", "--checkpoint-path"):
        for place in (dataset, pairs, Path("/dev/zero")):
            assert cli.run([*command, flag, str(place)]) == 1
            said = capsys.readouterr().err
            assert "is not an evaluation" in said or "is what the command reads" in said, said
    for place in (dataset, Path(source), Path("/dev/zero")):
        assert cli.run(["dsl", "pairs", "--eval-results", source, "--out", str(place)]) == 1
    assert "is not pairs of livery dsl" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    # Constrained, every answer is an AST of its schema.
    command[command.index("6")] = "250"
    held = ["--constrained", "--temperature", "2", "--max-samples", "1", "--json"]
    assert cli.run([*command, *held]) == 0
    rates = json.loads(capsys.readouterr().out)
    assert rates["schema_valid_rate"] == 1 - rates["cut_off"]


def test_two_evaluations_of_the_same_rows_are_paired(dataset: Path) -> None:
    items, _ = read_items(dataset)
    before = judge_rows(items, answers(target(0), target(1), "x", "x"), Judge())
    after = judge_rows(items, answers(target(0), "x", target(2), target(3)), Judge())
    found = compare_rows(before, after)["semantic_pass_rate"]
    assert (found["before"], found["after"], found["of"]) == (0.5, 0.75, 4)
    assert (found["gained"], found["lost"]) == ([items[2].case.id, items[3].case.id],
                                                [items[1].case.id])  # fmt: skip
    assert "teacher_agreement_rate" not in compare_rows(before, after)
    with pytest.raises(UserError, match="different rows"):
        compare_rows(before, after[:3])
    with pytest.raises(UserError, match="different judges"):
        compare_rows(before, [{**one, "judge": "teacher: x"} for one in after])
    facts = {"dataset": "d", "adapter": "a", "model": "m"}
    runs = [
        Evaluation(name, summarise(rows, RULE, facts | {"adapter": adapter}), rows)
        for name, rows, adapter in (("base", before, None), ("DPO", after, "a"))
    ]
    text = report(runs, compare_rows(before, after))
    assert "| rate | base | DPO | gained" in text
    assert "Gained, lost and p: DPO against base" in text
    failed = text.index("## Failures of base")
    assert "- no_json: 2\n    - `" in text[failed:]
    assert f"`{items[2].case.text}` → `x`\n" in text[failed:], "an example: query and answer"
    assert "Base m; 0 cut off." in text
    assert "Adapter `a` on m" in text
    assert f"judged by {RULE}" in text
    assert "| semantic_pass_rate | 50.0% [15.0%, 85.0%] | 75.0% [30.1%, 95.4%] | 2 | 1 |" in text


@pytest.mark.slow
def test_a_student_is_made_evaluated_aligned_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    model = tiny_model("llama", tmp_path / "model")
    prompts = tmp_path / "prompts.jsonl"
    listed = [
        {"schema_id": f"d{n}", "domain": f"domain {n}", "prompt": "tickets"} for n in range(6)
    ]
    prompts.write_text("".join(json.dumps(one) + "\n" for one in listed))
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    monkeypatch.chdir(tmp_path)
    command = ["dsl", "run", "--offline-fallback", "--with-training", "--with-evals"]
    command += ["--with-alignment", "--with-base", "--engine", "torch", "--base-model", str(model)]
    command += [f"--data-arg=--prompts={prompts}", "--data-arg=--per-schema=2"]
    command += ["--data-arg=--positives-per-schema=2", "--train-arg=--max-steps=2"]
    command += ["--dpo-arg=--max-steps=2", "--max-new-tokens", "8", "--max-seq-length", "9000"]
    assert cli.run(command) == 0
    capfd.readouterr()
    made = json.loads((tmp_path / "outputs/student_runs/eval/report.json").read_text())
    assert [one["judge"] for one in made["evaluations"]] == [RULE] * 3
    assert [bool(one["adapter"]) for one in made["evaluations"]] == [False, True, True]
    assert set(made["paired"]) >= {"parsed_rate", "semantic_pass_rate"}
    for name, logged in (("report", "grad_norm"), ("aligned", "rewards/margins")):
        text = (tmp_path / f"outputs/reports/{name}.md").read_text()
        assert f"judged by {RULE}" in text
        assert logged in text.split("## Training in ")[1]
        assert (tmp_path / f"outputs/reports/{name}/report.html").is_file()
    # Again: nothing is trained a second time.
    assert cli.run(command) == 0
    assert capfd.readouterr().err.count(": made before") == 2
    assert cli.run([*command, "--train-arg=--max-steps=3"]) == 1
    assert "holds a run of other data or settings" in capfd.readouterr().err
