"""The pipeline's stages with a teacher as their source, and the teacher's verdicts.

The teacher is a server on loopback that knows its answers from the offline source, so what it says
is right unless a test has it say something else.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from datagen.dsl import stages
from datagen.dsl.offline import Offline
from datagen.dsl.planning import Planned, Planning
from datagen.dsl.rows import schema_row as make_schema_row
from datagen.dsl.source import QueryJob, SpecJob
from datagen.dsl.specs import read_catalog
from datagen.dsl.teacher import FromTeacher
from livery.files import read_jsonl
from livery.skills import dsl
from livery.skills.dsl import teaching
from tests.teacher.endpoint import chat, endpoint, teacher

DOMAINS = ("tickets", "books", "machines")


class Knowing:
    """A teacher that answers as the offline source would. `calls` counts what it was asked for."""

    def __init__(self) -> None:
        self.offline = Offline(3)
        self.meanings: dict[str, Any] = {}
        self.rows: dict[str, Any] = {}
        self.calls: dict[str, int] = {}

    def __call__(self, body: dict[str, Any], _: int) -> Any:
        system, user = (message["content"] for message in body["messages"][:2])
        kind = next(
            name for name, start in (("specs", "You design"), ("queries", "You write"),
                                     ("asts", "You translate"), ("verdicts", "You judge"))
            if system.startswith(start)
        )  # fmt: skip
        self.calls[kind] = self.calls.get(kind, 0) + 1
        value = getattr(self, kind)(system, user)
        return chat(json.dumps(value), prompt=len(system + user) // 3)

    def specs(self, _: str, user: str) -> Any:
        domain = user.split("\n")[0].removeprefix("Domain: ")
        prompt = {"schema_id": domain, "domain": domain}
        [made] = self.offline.specs([SpecJob(prompt, 6)])
        assert made.row is not None
        fields = [
            {"const": f["const"], "description": f.get("description") or f["const"],
             "type": f["type"],
             "enum": [{"const": v["const"], "description": v.get("description") or v["const"]}
                      for v in f.get("enum") or ()]}
            for f in made.row["fields"]
        ]  # fmt: skip
        return {"title": domain, "description": f"Records of {domain}.", "fields": fields,
                "example_queries": made.row["example_queries"]}  # fmt: skip

    def queries(self, system: str, user: str) -> Any:
        schema = json.loads(user.split("\n")[1])
        number = re.search(r"Write (\d+) requests", system)
        assert number is not None
        row = self.rows[schema["$id"]]
        # Another draw for another prompt.
        known = tuple(map(str, range(zlib.crc32((system + user).encode()) % 997)))
        [made] = self.offline.queries([QueryJob(row, int(number[1]), known)])
        assert made.row is not None
        for query in made.row["queries"]:
            self.meanings[query["query"]] = query
        return {"queries": [{k: q[k] for k in ("query", "language")} for q in made.row["queries"]]}

    def asts(self, _: str, user: str) -> Any:
        from datagen.dsl.offline import ast_of

        request = dsl.read_prompt(f"{user}\n\n[OUTPUT]\n")
        return ast_of(self.meanings[request.query], request.current_date)

    def verdicts(self, _: str, user: str) -> Any:
        head, ast = user.removesuffix("\n[/AST]").split("\n\n[AST]\n")
        same = dsl.same_meaning(json.loads(ast), self.asts("", head))
        return {"reason": "It was compared.", "verdict": "accept" if same else "reject"}


def pipeline(folder: Path, knowing: Knowing, url: str) -> list[dict[str, Any]]:
    """d_01 to d_04; the rows of d_04."""
    source = FromTeacher(teacher(url), folder / "teacher" / "records.sqlite")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"domain": d, "schema_id": d}) + "\n" for d in DOMAINS))
    d = [folder / f"d_0{n}.jsonl" for n in range(1, 5)]
    stages.make_specs(source, prompts, d[0], examples=6, seed=1)
    stages.make_schemas(d[0], d[1], fewest=4, most=7, seed=1)
    knowing.rows = {row["schema_id"]: row for _, row in read_jsonl(d[1])}
    stages.make_queries(source, d[1], d[2], per_schema=25, seed=1)
    stages.make_dataset(source, d[1], d[2], d[3], positives=25, negative_ratio=0.2, seed=1)
    return [row for _, row in read_jsonl(d[3])]


@pytest.mark.slow
def test_a_teacher_makes_every_stage_and_is_asked_nothing_twice(tmp_path: Path):
    knowing = Knowing()
    with endpoint(knowing) as (url, seen):
        rows = pipeline(tmp_path, knowing, url)
        right = [row for row in rows if row["is_valid"]]
        assert len({row["query"] for row in right}) == len(right) == 75
        assert {row["language"] for row in right} == {"en", "fr"}
        for row in right:
            ast, schema = json.loads(row["ast_json"]), json.loads(row["schema_json"])
            assert dsl.find_faults(ast, schema) == []
            assert ast["prompt"] == row["query"]
            assert row["source"] == row["provenance"]["model"] == "tiny"
            assert row["provenance"]["prompt_tokens"] > 100
        specs, queries, asts = (knowing.calls[k] for k in ("specs", "queries", "asts"))
        assert (specs, asts) == (3, 75)
        assert queries >= 6  # two batches a schema, more for repetitions
        before = len(seen)
        # A plan sends nothing and finds what is on record, and what one more row would take.
        planning = Planning(
            FromTeacher(teacher(url), tmp_path / "teacher" / "records.sqlite", send=False),
            Offline(1),
            "asts",
        )
        d = [tmp_path / f"d_0{n}.jsonl" for n in (2, 3)]
        with pytest.raises(Planned):
            stages.make_dataset(
                planning, *d, tmp_path / "plan.jsonl", positives=26, negative_ratio=0, seed=1
            )
        plans = dict(planning.plans)
        assert (len(plans["queries"].missing), len(plans["queries"].found)) == (3, 0)
        assert (len(plans["asts"].missing), len(plans["asts"].found)) == (3, 75)
        assert len(seen) == before
        # The artefacts are lost, the records are not: everything comes from them.
        for file in [*tmp_path.glob("d_0*"), *tmp_path.glob("made_from.json")]:
            file.unlink()
        again = pipeline(tmp_path, knowing, url)
        assert len(seen) == before
        assert again == rows


def schema_row() -> dict[str, Any]:
    offline = Offline(3)
    [made] = offline.specs([SpecJob({"schema_id": "tickets", "domain": "tickets"}, 2)])
    assert made.row is not None
    return make_schema_row(made.row, read_catalog(), 4, 7, 1)


def test_an_ast_that_no_schema_could_refuse_is_repaired_with_the_reason(tmp_path: Path):
    row = schema_row()
    request = dsl.Request(row["schema"], "tickets since May", "2026-06-14")
    condition = {"field": row["fields"][0]["const"],
                 "operator": row["operators"][0]["const"], "value": "x"}  # fmt: skip
    enum = row["fields"][0].get("enum")
    if enum:
        condition["value"] = enum[0]["const"]
    elif row["fields"][0].get("type") in dsl.PATTERNS:
        condition["value"] = "2026-01-01" if row["fields"][0]["type"] == "date" else "5"
    ast = {
        "prompt": "tickets since May",
        "steps": [{"name": "step_1", "conditions": [condition], "description": "x"}],
        "timeframe": {"start": "2026-06-01", "end": "2026-05-01"},
    }
    good = {**ast, "timeframe": {"start": "2026-05-01", "end": ""}}
    with endpoint([chat(json.dumps(ast), prompt=None), chat(json.dumps(good), prompt=None)]) as (
        url, seen,
    ):  # fmt: skip
        from livery.teacher import ask

        question = teaching.ast_question(request, "tickets")
        [result] = ask([question], teacher(url), tmp_path / "teacher" / "r.sqlite")
    assert result.value == good
    assert "ends before it begins" in seen[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"const": "b"}, "two fields are called b"),
        ({"const": "the state"}, "no identifier"),
        ({"type": "enum"}, "needs at least two values"),
        ({"enum": [{"const": "x", "description": "x"}]}, "must have an empty enum"),
    ],
)
def test_a_spec_that_no_schema_could_refuse_is_refused(change: dict[str, Any], told: str):
    plain: dict[str, Any] = {"description": "d", "type": "text", "enum": []}
    fields = [{**plain, "const": name} for name in "abc"]
    check = teaching.spec_question("t", "tickets", "", 2).check
    assert check is not None
    assert check({"fields": fields}) == ""
    assert told in check({"fields": [{**fields[0], **change}, *fields[1:]]})


def test_the_verdict_brings_the_teachers_own_ast_and_a_reason(tmp_path: Path):
    row, knowing = schema_row(), Knowing()
    knowing.rows["tickets"] = row
    [made] = knowing.offline.queries([QueryJob(row, 4)])
    assert made.row is not None
    queries = made.row["queries"]
    knowing.meanings = {query["query"]: query for query in queries}

    def answer(body: dict[str, Any], at: int) -> Any:
        failing = queries[3]["query"] in body["messages"][1]["content"]
        return chat("I cannot say.", prompt=None) if failing else knowing(body, at)

    requests = [dsl.Request(row["schema"], query["query"], "2026-06-14") for query in queries]
    right = [knowing.asts("", dsl.prompt_text(r).removesuffix("[OUTPUT]\n")) for r in requests]
    other = {"prompt": "x", "refusal": {"reason": "r", "suggestion": "s"}}
    wrong = other if "refusal" not in right[1] else right[0]
    answers = [
        teaching.Answer(request, "tickets", ast)
        for request, ast in zip(requests, [right[0], wrong, None, right[3]], strict=True)
    ]
    with endpoint(answer) as (url, seen):
        judged = teaching.judge(answers, teacher(url), tmp_path / "teacher" / "r.sqlite")
        verdicts = [body for body in seen if body["messages"][0]["content"].startswith("You judge")]
    assert [j.verdict for j in judged] == ["accept", "reject", "reject", None]
    assert [j.teacher_ast for j in judged] == [*right[:3], None]
    assert [j.reason for j in judged] == [
        "It was compared.", "It was compared.", teaching.UNREADABLE, ""
    ]  # fmt: skip
    assert [bool(j.error) for j in judged] == [False, False, False, True]
    assert "invalid_json" in judged[3].error
    assert len(verdicts) == 2 + 2  # none for the unreadable one, two for the one that failed
    assert judged[0].provenance["verdict"]["model"] == "tiny"
    # The student's answer is judged without the teacher's, and the teacher's made without it.
    assert all("[AST]" not in b["messages"][1]["content"] for b in seen if b not in verdicts)
