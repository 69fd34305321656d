"""The stages of a dsl student's data: resumed, refused, read from files of the original's shape."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from datagen.dsl import stages
from datagen.dsl.offline import Offline
from datagen.dsl.rows import spec_fault
from datagen.dsl.source import AstJob, Made, QueryJob, SpecJob
from datagen.dsl.specs import PROMPTS
from datagen.dsl.stored import MADE_FROM, partial
from livery.errors import UserError
from livery.skills import dsl

SIZES: dict[str, Any] = {"positives": 6, "negative_ratio": 0.5, "seed": 11}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Pipe:
    """The stages in a folder, with little data."""

    def __init__(self, root: Path, source: Any = None) -> None:
        self.root = root
        self.source = source or Offline(11)
        first = [row for row in rows_of(PROMPTS) if row["domain"] in ("tickets", "cars", "drones")]
        root.mkdir(parents=True, exist_ok=True)
        self.prompts = write(root / "prompts.jsonl", first)
        self.d = {n: root / f"outputs/d_0{n}_x.jsonl" for n in range(1, 6)}

    def specs(self, **more: Any) -> Any:
        return stages.make_specs(self.source, self.prompts, self.d[1], examples=2, seed=11, **more)

    def schemas(self, **more: Any) -> Any:
        sizes = {"fewest": 4, "most": 7, "seed": 11, **more}
        return stages.make_schemas(self.d[1], self.d[2], **sizes)

    def queries(self, **more: Any) -> Any:
        return stages.make_queries(self.source, self.d[2], self.d[3], per_schema=4, seed=11, **more)

    def dataset(self, **more: Any) -> Any:
        return stages.make_dataset(
            self.source, self.d[2], self.d[3], self.d[4], **{**SIZES, **more}
        )

    def corpus(self, **more: Any) -> Any:
        return stages.make_corpus(self.d[4], self.d[5], **{"include_invalid": False, **more})

    def all(self) -> list[Any]:
        return [self.specs(), self.schemas(), self.queries(), self.dataset(), self.corpus()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pipe:
    pipe = Pipe(tmp_path_factory.mktemp("dsl"))
    pipe.all()
    return pipe


@pytest.fixture
def pipe(made: Pipe, tmp_path: Path) -> Pipe:
    """All artefacts, in a folder to change them in."""
    shutil.copytree(made.root, tmp_path / "p")
    return Pipe(tmp_path / "p")


def test_rows_have_the_shape_of_the_described_system(made: Pipe) -> None:
    d = {number: rows_of(path) for number, path in made.d.items()}
    assert [row["schema_id"] for row in d[1]] == ["tickets", "cars", "drones"]
    assert {"schema_id", "domain", "description", "fields", "example_queries"} <= set(d[1][0])
    assert len(d[1][0]["example_queries"]) == 2
    for row in d[2]:
        assert json.loads(row["schema_json"]) == row["schema"]
        assert 4 <= len(row["operators"]) <= 7
        assert "labels" not in row["schema_json"]
    assert len(d[3][0]["queries"]) == len(d[3][0]["example_queries"]) == 4
    keys = ["schema_id", "domain", "operators", "schema_json", "query", "current_date", "ast_json",
            "is_valid", "validation_error", "error_type"]  # fmt: skip
    assert all(list(row)[:10] == keys for row in d[4])
    counts = Counter((row["schema_id"], row["is_valid"]) for row in d[4])
    assert set(counts.values()) == {6, 3}
    for row in d[4]:
        faults = dsl.find_faults(json.loads(row["ast_json"]), json.loads(row["schema_json"]))
        assert not faults if row["is_valid"] else row["error_type"] and row["validation_error"]
        assert " \n" not in row["schema_json"]
        assert "\n" not in row["ast_json"]
    assert {row["split"] for row in d[4] if row["schema_id"] == "drones"} == {"test"}
    assert [*d[5][0]] == ["schema_id", "domain", "prompt", "completion", "is_valid"]
    assert {row["schema_id"] for row in d[5]} == {"tickets", "cars"}  # never the held-out one
    for row in d[5]:
        assert row["is_valid"]
        assert dsl.read_prompt(row["prompt"]).query == dsl.parse(row["completion"])["prompt"]
    for path in made.d.values():
        pretty = json.loads((path.parent / "pretty" / f"{path.stem}.json").read_text())
        assert pretty == rows_of(path)


def test_the_same_seed_gives_the_same_bytes(made: Pipe, tmp_path: Path) -> None:
    again = Pipe(tmp_path)
    again.all()
    for number, path in again.d.items():
        assert path.read_bytes() == made.d[number].read_bytes()
    other = Pipe(tmp_path / "other", Offline(12))
    other.all()
    assert other.d[4].read_bytes() != made.d[4].read_bytes()


def test_what_is_there_is_not_made_again_until_something_changes(pipe: Pipe) -> None:
    before = {number: path.stat().st_mtime_ns for number, path in pipe.d.items()}
    assert [done.skipped for done in pipe.all()] == ["made before"] * 5
    assert {number: path.stat().st_mtime_ns for number, path in pipe.d.items()} == before
    assert not pipe.schemas(most=5).skipped
    assert not pipe.queries().skipped  # its input is another now
    assert not pipe.dataset(positives=3).skipped


def test_an_edited_artefact_is_used_and_never_replaced_unasked(pipe: Pipe) -> None:
    rows = rows_of(pipe.d[1])
    rows[0]["description"] = "By hand."
    write(pipe.d[1], rows)
    assert pipe.specs().skipped.startswith("edited by hand")
    pipe.schemas()
    assert rows_of(pipe.d[2])[0]["schema"]["description"] == "By hand."
    write(pipe.prompts, rows_of(pipe.prompts)[:2])
    with pytest.raises(UserError, match=r"edited since it was made.*--fresh"):
        pipe.specs()
    assert rows_of(pipe.d[1]) == rows
    assert pipe.specs(fresh=True).rows == 2


@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_that_is_not_ours_is_not_replaced(pipe: Pipe, fresh: bool) -> None:
    mine = pipe.root / "mine.jsonl"
    mine.write_text('{"mine": 1}\n')
    for number, stage, more in (
        (1, pipe.specs, {}), (2, pipe.schemas, {}), (3, pipe.queries, {}), (4, pipe.dataset, {}),
        (5, pipe.corpus, {}), (5, pipe.corpus, {"fits": lambda prompt, completion: ""}),
    ):  # fmt: skip
        own, pipe.d[number] = pipe.d[number], mine
        with pytest.raises(UserError, match=r"mine\.jsonl: is not an artefact of livery dsl"):
            stage(fresh=fresh, **more)
        pipe.d[number] = own
    assert mine.read_text() == '{"mine": 1}\n'


@pytest.mark.parametrize("fresh", [False, True])
def test_no_stage_writes_over_what_it_reads(pipe: Pipe, fresh: bool) -> None:
    before = {number: path.read_bytes() for number, path in pipe.d.items()}
    for number, stage, more in (
        (2, pipe.schemas, {}), (3, pipe.queries, {}), (4, pipe.dataset, {}), (5, pipe.corpus, {}),
        (5, pipe.corpus, {"fits": lambda prompt, completion: ""}),
    ):  # fmt: skip
        own, pipe.d[number] = pipe.d[number], pipe.d[number - 1]
        with pytest.raises(UserError, match="is what the command reads"):
            stage(fresh=fresh, **more)
        pipe.d[number] = own
    assert {number: path.read_bytes() for number, path in pipe.d.items()} == before


def test_no_stage_begins_where_it_cannot_write(pipe: Pipe) -> None:
    """A device without end, a pipe that nobody reads, a folder: before anybody is asked."""
    pipe.source = Failing(stop=0)
    os.mkfifo(pipe.root / "pipe")
    for place in (Path("/dev/zero"), Path("/dev/full"), pipe.root / "pipe", pipe.root):
        pipe.d[4] = place
        with pytest.raises(UserError, match=r"is not an artefact|is a folder"):
            pipe.dataset()
        pipe.d[4] = pipe.root / "d_04.jsonl"
        with pytest.raises(UserError, match=r"is not a checkpoint|is a folder"):
            pipe.dataset(checkpoint=place)
    assert pipe.source.asked == 0


def test_damaged_lines_of_a_stopped_run_are_made_again(pipe: Pipe) -> None:
    whole = pipe.d[4].read_bytes()
    pipe.source = Failing(stop=7)
    with pytest.raises(KeyboardInterrupt):
        pipe.dataset(fresh=True)
    kept = partial(pipe.d[4])
    good = kept.read_bytes()
    for line in ('{"row": {}}', '{"at": "1", "row": {}, "provenance": {}}', '{"at": 3}',
                 '{"at": 1, "row": [], "provenance": {}}', '{"at": -1, "row": {}}',
                 '{"at": 99, "row": {}, "provenance": {}}', "[" * 100_000, "\\ud800", "1" * 5000,
                 '{"at": 2, "row": {"x": "\\ud83d"}, "provenance": {}}'):  # fmt: skip
        kept.write_bytes(good + line.encode() + b"\n")
        pipe.d[4].unlink(missing_ok=True)
        pipe.source = Failing()
        assert pipe.dataset().rows == 27, line
        assert pipe.d[4].read_bytes() == whole, line


class Failing(Offline):
    """Stops, as a killed process would, or fails at some jobs."""

    def __init__(self, stop: int = -1, faulty: Sequence[int] = ()) -> None:
        super().__init__(11)
        self.stop, self.faulty, self.asked = stop, faulty, 0

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        for made in super().asts(jobs):
            if self.asked == self.stop:
                raise KeyboardInterrupt
            self.asked += 1
            yield Made(made.at, fault="timed out") if made.at in self.faulty else made


def test_a_stopped_stage_continues_and_asks_nothing_twice(pipe: Pipe) -> None:
    whole = pipe.d[4].read_bytes()
    pipe.d[4].unlink()
    pipe.source = Failing(stop=7)
    with pytest.raises(KeyboardInterrupt):
        pipe.dataset()
    assert not pipe.d[4].exists()
    kept = partial(pipe.d[4])
    kept.write_bytes(kept.read_bytes() + b'{"at": 7, "row": {"pro')  # killed within a line
    pipe.source = Failing()
    assert pipe.dataset().rows == 27
    assert pipe.source.asked == 18 - 7
    assert pipe.d[4].read_bytes() == whole
    assert not kept.exists()


# Runs the stage in a folder and dies, as by kill -9, just before its n-th file takes its place.
_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.datagen.test_dsl_stages import Pipe

pipe, left = Pipe(Path(sys.argv[1])), int(sys.argv[2])

def die(event, values):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
pipe.schemas(most=int(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
def test_a_stage_that_is_killed_while_it_writes_is_made_by_the_same_command(
    pipe: Pipe, tmp_path: Path, there: bool
) -> None:
    """Whether its file was there before, made from something else, or not."""
    whole = Pipe(tmp_path / "whole")
    whole.specs()
    whole.schemas(most=5)
    if not there:
        pipe.d[2].unlink()
        (pipe.root / "outputs" / MADE_FROM).unlink()
    kills = 0
    while True:
        folder = tmp_path / f"killed-{kills}"
        shutil.copytree(pipe.root, folder)
        command = [sys.executable, "-c", _KILLED, str(folder), str(kills), "5"]
        died = subprocess.run(command, check=False).returncode
        again = Pipe(folder)
        assert not again.schemas(most=5).faults
        assert again.d[2].read_bytes() == whole.d[2].read_bytes()
        assert again.schemas(most=5).skipped == "made before"
        if not died:
            break
        assert died == -signal.SIGKILL
        kills += 1
    assert kills == 3  # the copy to look at, what it was made from, the file itself


def test_what_was_kept_for_other_inputs_is_not_used(pipe: Pipe) -> None:
    pipe.d[4].unlink()
    pipe.source = Failing(stop=7)
    with pytest.raises(KeyboardInterrupt):
        pipe.dataset()
    pipe.source = Failing()
    pipe.dataset(seed=12)
    assert pipe.source.asked == 18
    pipe.d[4].unlink()
    pipe.source = Failing(stop=7)
    with pytest.raises(KeyboardInterrupt):
        pipe.dataset(checkpoint=pipe.root / "kept.jsonl")
    pipe.source = Failing()
    pipe.dataset(checkpoint=pipe.root / "kept.jsonl", resume=False)
    assert pipe.source.asked == 18


@pytest.mark.parametrize("resume", [True, False])
def test_a_checkpoint_that_is_not_ours_is_not_replaced(pipe: Pipe, resume: bool) -> None:
    pipe.d[4].unlink()
    mine = pipe.root / "mine.jsonl"
    mine.write_text('{"key": "k", "mine": 1}\n')
    with pytest.raises(UserError, match=r"mine\.jsonl: is not a checkpoint.*--checkpoint-path"):
        pipe.dataset(checkpoint=mine, resume=resume)
    assert mine.read_text() == '{"key": "k", "mine": 1}\n'
    mine.write_text("")
    assert pipe.dataset(checkpoint=mine, resume=resume).rows == 27
    assert not mine.exists()


def test_a_job_that_fails_is_told_and_asked_again(pipe: Pipe) -> None:
    whole = pipe.d[4].read_bytes()
    pipe.d[4].unlink()
    pipe.source = Failing(faulty=(2, 5))
    done = pipe.dataset()
    assert done.faults == ("timed out", "timed out")
    assert sum(row["is_valid"] for row in rows_of(pipe.d[4])) == 16
    pipe.source = Failing()
    assert not pipe.dataset().faults
    assert pipe.source.asked == 2
    assert pipe.d[4].read_bytes() == whole


class LateQueries(Offline):
    """Fails at first to give the first schema more queries."""

    failing = True

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        for made in super().queries(jobs):
            yield Made(0, fault="timed out") if self.failing and made.at == 0 else made


def test_fewer_queries_than_were_asked_for_are_told(pipe: Pipe) -> None:
    class Few(Offline):
        """Out of queries after three of a schema, as a teacher is that repeats itself."""

        def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
            for made in super().queries(jobs):
                room = max(0, 3 - len(jobs[made.at].known))
                yield Made(made.at, {"queries": (made.row or {})["queries"][:room]})

    pipe.source = Few(11)
    told = "{}: 3 queries of the {} asked for; the source had no more"
    names = [row["schema_id"] for row in rows_of(pipe.d[2])]
    assert list(pipe.queries(fresh=True).notes) == [told.format(name, 4) for name in names]
    assert list(pipe.dataset().notes) == [told.format(name, 6) for name in names]
    assert not pipe.dataset(positives=2).notes


def test_queries_that_come_late_do_not_take_the_asts_of_others(pipe: Pipe) -> None:
    whole = pipe.d[4].read_bytes()
    pipe.d[4].unlink()
    pipe.source = LateQueries(11)
    assert pipe.dataset().faults == ("timed out",)
    pipe.source.failing = False
    assert not pipe.dataset().faults
    assert pipe.d[4].read_bytes() == whole


class Foreign:
    """A source whose rows are those of a teacher: some of them wrong."""

    name = "teacher"

    def specs(self, jobs: Sequence[SpecJob]) -> Iterator[Made]:
        good = {"fields": [{"const": "size", "enum": [{"const": "big"}]}, {"const": "name"}]}
        bad = {"fields": [{"const": "size"}, {"const": "size"}]}
        for at, job in enumerate(jobs):
            row = {**(bad if at == 1 else good), "domain": job.prompt["domain"]}
            yield Made(at, row, provenance={"attempts": 2})

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        for at, job in enumerate(jobs):
            texts = [f"big ones {len(job.known) + n}" for n in range(job.count)]
            yield Made(at, {"queries": [{"query": text, "language": "en"} for text in texts]})

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        for at, job in reversed([*enumerate(jobs)]):  # as they come
            value = "big" if at else "huge"
            condition = {"field": "size", "value": value,
                         "operator": job.schema["operators"][0]["const"]}  # fmt: skip
            step = {"name": "s", "conditions": [condition], "description": "size"}
            yield Made(at, {"prompt": job.query["query"], "steps": [step],
                            "timeframe": {"start": "", "end": ""}})  # fmt: skip


def test_a_teachers_rows_are_checked_and_carry_their_provenance(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path, Foreign())
    done = pipe.specs()
    assert done.rows == 2
    assert "cars: two fields" in done.faults[0]
    pipe.schemas()
    pipe.queries()
    found = pipe.dataset()
    assert found.faults[0].startswith("tickets: 'big ones 0': 'huge'")
    right = [row for row in rows_of(pipe.d[4]) if row["is_valid"]]
    assert len(right) == 11
    assert right[0]["source"] == "teacher"
    assert rows_of(pipe.d[1])[0]["provenance"] == {"attempts": 2}
    # Offline, queries without a meaning beside them have no AST.
    pipe.source = Offline(11)
    faults = pipe.dataset().faults
    assert len(faults) == 8
    assert all("ask a teacher" in fault for fault in faults)


def test_the_offline_source_reads_specs_without_labels(tmp_path: Path) -> None:
    """A teacher's d_01 gives offline queries by the words of its constants."""
    pipe = Pipe(tmp_path, Foreign())
    pipe.specs()
    pipe.source = Offline(11)
    pipe.schemas()
    pipe.queries()
    done = pipe.dataset()
    right = [row for row in rows_of(pipe.d[4]) if row["is_valid"]]
    assert done.faults == ()
    assert any("size" in row["query"] and '"big"' in row["ast_json"] for row in right)


def test_a_row_that_does_not_fit_is_refused_whole_with_its_length(pipe: Pipe) -> None:
    longest = max(rows_of(pipe.d[5]), key=lambda row: len(row["completion"]))

    def fits(prompt: str, completion: str) -> str:
        assert prompt.startswith(dsl.prompt_text(dsl.read_prompt(prompt))[:40])
        return "2,310 tokens, over the limit" if completion == longest["completion"] else ""

    done = pipe.corpus(fits=fits)
    (fault,) = done.faults
    assert "2,310 tokens" in fault
    assert longest["schema_id"] in fault
    prompts = [row["prompt"] for row in rows_of(pipe.d[5])]
    assert longest["prompt"] not in prompts
    assert all("[SCHEMA]\n{" in prompt for prompt in prompts)


def test_wrong_rows_are_in_a_corpus_only_when_asked_for_and_marked(pipe: Pipe) -> None:
    done = pipe.corpus(include_invalid=True)
    rows = rows_of(pipe.d[5])
    assert done.counts == {"valid": 12, "wrong": 6}
    assert Counter(row["is_valid"] for row in rows) == {True: 12, False: 6}
    pipe.corpus(include_invalid=False, max_samples=4)
    few = rows_of(pipe.d[5])
    assert len(few) == 4
    assert {row["schema_id"] for row in few} == {"tickets", "cars"}


def test_rows_of_the_original_become_compact(pipe: Pipe) -> None:
    """Its JSONs are pretty-printed with sorted keys; its first files had no date, no split."""
    theirs = rows_of(pipe.d[4])[0]
    row = {
        "schema_id": theirs["schema_id"],
        "schema_json": json.dumps(json.loads(theirs["schema_json"]), indent=2, sort_keys=True),
        "query": theirs["query"],
        "ast_json": json.dumps(json.loads(theirs["ast_json"]), indent=2, sort_keys=True),
        "is_valid": True,
    }
    out = pipe.root / "theirs" / "d_05.jsonl"
    stages.make_corpus(write(pipe.root / "theirs.jsonl", [row]), out, include_invalid=False)
    (made,) = rows_of(out)
    assert made["completion"] == theirs["ast_json"]
    assert "\n  " not in made["prompt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ast_json": "{"}, "ast_json"),
        ({"schema_json": "{"}, "schema_json"),
        ({"query": ""}, 'needs "query"'),
    ],
)
def test_a_malformed_row_is_refused_with_its_place(pipe: Pipe, change: Any, said: str) -> None:
    rows = rows_of(pipe.d[4])
    write(pipe.d[4], [rows[0], {**rows[1], **change}])
    with pytest.raises(UserError) as error:
        pipe.corpus(include_invalid=True, fresh=True)
    assert said in str(error.value)
    assert "d_04" in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, 'needs "fields"'),
        ({"fields": [3]}, "const"),
        ({"fields": [{"const": ""}]}, "has none"),
        ({"fields": [{"const": "a", "enum": ["x"]}]}, "enum"),
        ({"fields": [{"const": "a", "enum": [{"const": "x"}, {"const": "x"}]}]}, "twice"),
    ],
)
def test_a_malformed_spec_is_told(spec: Any, said: str) -> None:
    assert said in spec_fault(spec)


def test_schemas_take_a_catalogue_and_template_of_ones_own(pipe: Pipe) -> None:
    catalog = pipe.root / "ops.json"
    catalog.write_text('["same", {"const": "gt", "synonyms": ["bigger"]}]')
    template = json.loads(dsl.TEMPLATE.read_text())
    del template["properties"]["timeframe"]["description"]
    base = pipe.root / "base.json"
    base.write_text(json.dumps(template))
    pipe.schemas(catalog=catalog, template=base, fewest=1, most=2)
    for row in rows_of(pipe.d[2]):
        assert {o["canonical"] for o in row["operators"]} <= {"same", "gt"}
        assert "description" not in row["schema"]["properties"]["timeframe"]
    for text, said in (
        ("{}", "list of operators"),
        ('[{"synonyms": []}]', "canonical"),
        ('[{"const": "is", "descriptions": "x"}]', "list of texts"),
    ):
        catalog.write_text(text)
        with pytest.raises(UserError, match=said):
            pipe.schemas(catalog=catalog)
    with pytest.raises(UserError, match="more than --max-operators"):
        pipe.schemas(fewest=5, most=4)


def test_a_spec_that_names_its_operators_keeps_them(pipe: Pipe) -> None:
    rows = rows_of(pipe.d[1])
    rows[0]["operators"] = ["is", {"const": "later", "canonical": "gt"}]
    write(pipe.d[1], rows)
    pipe.schemas()
    assert [o["const"] for o in rows_of(pipe.d[2])[0]["operators"]] == ["is", "later"]


def test_a_day_for_all_rows_or_one_for_each(pipe: Pipe) -> None:
    days = {row["current_date"] for row in rows_of(pipe.d[4])}
    assert len(days) > 5
    pipe.dataset(current_date="2026-06-14")
    assert {row["current_date"] for row in rows_of(pipe.d[4])} == {"2026-06-14"}
    with pytest.raises(UserError, match="YYYY-MM-DD"):
        pipe.dataset(current_date="today")


def test_without_a_stage_before_it_a_stage_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it with the stage before"):
        Pipe(tmp_path).schemas()
    pipe = Pipe(tmp_path)
    write(pipe.prompts, [{"domain": "a", "schema_id": "x"}, {"domain": "b", "schema_id": "x"}])
    with pytest.raises(UserError, match="appears twice"):
        pipe.specs()


def test_splits_are_drawn_where_prompts_name_none(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path)
    write(pipe.prompts, [{"domain": "tickets", "schema_id": f"t{n}"} for n in range(20)])
    pipe.specs()
    splits = Counter(row["split"] for row in rows_of(pipe.d[1]))
    assert splits == {"train": 16, "valid": 2, "test": 2}
    assert json.loads((pipe.d[1].parent / MADE_FROM).read_text()).keys() == {pipe.d[1].name}
