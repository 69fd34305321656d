"""report.md and report.html: what they must hold, and that nothing in them comes alive."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from eval import record
from eval.report import facts, markdown, plots, words
from eval.report.report import write_report
from eval.report.run_data import Sample, read_run
from eval.report.terminal import print_record
from livery.errors import UserError
from tests.eval.test_eval_runner import BASE, TUNED, TUNED_FREE, make_case, make_record, make_run

HOSTILE = "</code></td><script>alert('x')</script><img src=x onerror=y> | `a` **b** ]] & \n# c"


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text, and whether every tag is closed."""

    VOID = frozenset({"meta", "use", "path", "rect", "br", "img"})

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run with an evaluation, and hostile text wherever text can stand."""
    folder = tmp_path / "my <run>"
    (folder / "mlx").mkdir(parents=True)
    (folder / "mlx" / "adapters.safetensors").write_bytes(b"weights")
    cases = [make_case(f"c{i}", "mixed" if i < 3 else HOSTILE, HOSTILE) for i in range(6)]
    runs = [make_run(TUNED, cases, "ynyyny"), make_run(TUNED_FREE, cases, "yn-yny")]
    runs.append(make_run(BASE, cases, "nynnnn"))
    found = make_record(cases, runs, target=0.5)
    for case in found["cases"]:
        for answer in case["answers"].values():
            answer["answer"] = HOSTILE
    found["facts"]["command"] = HOSTILE
    found["leaks"] = {"path": "t", "sha256": "e", "rows": 9, "same": 1, "near": 2, "cases": []}
    asked = {"prompt": "What do bees make?", "base": HOSTILE, "tuned": f"honey {HOSTILE}"}
    found["neutral"] = {
        "total": 2, "differ": 2, "like_skill": 1, "like_skill_base": 0,
        "prompts": [{**asked, "differs": True, "like_skill": like} for like in (False, True)],
    }  # fmt: skip
    write(folder / "evaluation.json", found)
    settings = {"model": HOSTILE, "learning_rate": 1e-3, "schedule": "cosine", "seed": 0}
    settings["lora"] = {"rank": 16, "alpha": 32.0}
    write(folder / "run_config.json", {"settings": settings})
    metadata = {
        "steps": 60, "epochs": 3.0, "kept_step": 40, "eval_loss": 0.2, "seconds": 75.0,
        "tokens_per_second": 1234.5, "peak_memory_mb": 412.0, "examples": 100,
        "valid_examples": 20, "backend": "mlx", "settings": settings,
    }  # fmt: skip
    write(folder / "training_metadata.json", metadata)
    rows = [{"step": s, "loss": 3.0 / s, "grad_norm": 1.0} for s in range(10, 70, 10)]
    rows += [{"step": s, "eval_loss": 2.0 / (s + 1)} for s in (0, 20, 40, 60)]
    log(folder / "training_metrics.jsonl", rows)
    samples = [
        {"step": s, "prompt": f"<sys> {HOSTILE} {q}", "expected": "[]", "answer": HOSTILE}
        for s in (0, 60) for q in ("one question", "two of them")
    ]  # fmt: skip
    log(folder / "samples.jsonl", samples)
    return folder


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def log(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_whole_and_self_contained(run_folder: Path):
    md, html = write_report(run_folder)
    page = Page(html.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in page.attributes if name.endswith("href")}
    assert targets <= set(ids)
    text = html.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"url\((?!#)|@import", text)
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip
    assert md.read_text(encoding="utf-8").startswith("# my &lt;run&gt;")


@pytest.mark.slow
def test_both_say_what_they_must(run_folder: Path):
    md, html = write_report(run_folder)
    page = Page(html.read_text(encoding="utf-8")).text
    document = md.read_text(encoding="utf-8")
    for text in (page, document):
        assert "66.7 %" in text  # tuned, constrained
        assert "30.0–90.3 %" in text  # its interval
        assert "target of 50 % met" in text
        assert "4 cases won, 1 case lost (McNemar mid-p: p = 0.219, within chance)" in text
        assert "1 of 6 cases are in the training file" in text
        assert "cut off" in text
        assert "1234" in text  # tokens a second
        assert "412 MB" in text
        assert "2 differently from its base; 1 of its answers look like" in text
        assert "What do bees make?" in text
        assert "honey" in text
        assert "1:15" in text
        assert "rank 16, alpha 32.0" in text
        assert text.index("Regressions") < text.index("Failures, tuned, constrained")
        assert text.index("Failures, tuned, constrained") < text.index("Samples over time")
        assert "expected" in text
        assert "kept" in text
    assert page.count("alert('x')") > 10  # the hostile text is there, to be read
    assert "one question" in page


def test_a_dsl_students_summary_in_the_folder_is_none_of_its_evaluations(run_folder: Path):
    before = write_report(run_folder)[0].read_bytes()
    write(run_folder / "evaluation_summary.json", {"samples": 1})
    assert write_report(run_folder)[0].read_bytes() == before


def test_markdown_stays_text(run_folder: Path):
    document = write_report(run_folder)[0].read_text(encoding="utf-8")
    outside = re.sub(r"(`+).+?\1", "", document)  # what stands in code spans is shown as it is
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\*\*b", outside)
    blocks = re.findall(r"(?:^\|.*\n)+", document, flags=re.MULTILINE)
    assert len(blocks) > 6
    for block in blocks:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(columns) == 1, block


def test_code_spans_hold_anything():
    assert markdown.code("a") == "`a`"
    assert markdown.code("a`b") == "`` a`b ``"
    assert markdown.code("a|b\nc") == "`a\\|b⏎c`"


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run_folder: Path, tmp_path: Path):
    first = [path.read_bytes() for path in write_report(run_folder)]
    again = [path.read_bytes() for path in write_report(run_folder, tmp_path / "elsewhere")]
    assert first == again


@pytest.mark.slow
def test_changed_weights_make_an_evaluation_stale(run_folder: Path):
    from eval.record import adapter_hashes

    path = run_folder / "evaluation.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["facts"]["adapter_sha256"] = adapter_hashes(run_folder)
    assert list(found["facts"]["adapter_sha256"]) == ["mlx/adapters.safetensors"]
    write(path, found)
    assert "has changed since" not in write_report(run_folder)[1].read_text(encoding="utf-8")
    (run_folder / "mlx" / "adapters.safetensors").write_bytes(b"others")
    for path in write_report(run_folder):
        assert "has changed since" in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_record_from_before_metrics_still_makes_a_report(run_folder: Path):
    path = run_folder / "evaluation.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for text in (page.read_text(encoding="utf-8") for page in write_report(run_folder)):
        assert "The answer follows the skill's contract." in text.replace("&#x27;", "'")
    del found["metrics"], found["targets"]
    for arm in found["arms"].values():
        del arm["metrics"]
    for compared in found["comparisons"]:
        del compared["metrics"]
    for case in found["cases"]:
        del case["messages"], case["tools"]
        for answer in case["answers"].values():
            del answer["metrics"]
    write(path, found)
    for text in (page.read_text(encoding="utf-8") for page in write_report(run_folder)):
        assert "66.7 %" in text
        assert "follows the skill" not in text


def test_parts_that_are_missing_are_left_out(run_folder: Path):
    (run_folder / "evaluation.json").unlink()
    (run_folder / "samples.jsonl").unlink()
    page = Page(write_report(run_folder)[1].read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 1
    assert "Failures" not in page.text
    for name in ("training_metrics.jsonl", "training_metadata.json"):
        (run_folder / name).unlink()
    with pytest.raises(UserError, match="nothing to report on yet"):
        write_report(run_folder)
    with pytest.raises(UserError, match="no such adapter folder"):
        write_report(run_folder / "nowhere")


def test_a_log_that_a_kill_cut_off(run_folder: Path):
    path = run_folder / "training_metrics.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + '{"step": 70, "lo', encoding="utf-8")
    assert len(read_run(run_folder).losses) == 6
    path.write_text('{"step": 70, "lo\n' + whole, encoding="utf-8")
    with pytest.raises(UserError, match=r"training_metrics\.jsonl:1: not valid JSON"):
        read_run(run_folder)


def test_a_clean_record_says_so():
    cases = [make_case("a"), make_case("b")]
    found = make_record(cases, [make_run(TUNED, cases, "yy"), make_run(BASE, cases, "yn")])
    from eval.report import html

    assert "nothing that the base had right is wrong now" in html.regressions(found)
    assert "None." in html.failures(found)
    assert words.leaks(found).startswith("The training file is unknown")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0.0 %"), (0.0001, "0.1 %"), (0.9999, "99.9 %"), (1.0, "100.0 %"), (0.9516, "95.2 %")],
)
def test_percent_never_rounds_a_fault_away(share: float, shown: str):
    assert words.percent(share) == shown


@pytest.mark.parametrize("name", [r"$\frac{", "a$b$c", "日本語 🎉", "a\nb", "", "x" * 500, "<b>&"])
def test_any_category_can_be_plotted(name: str, recwarn: pytest.WarningsRecorder):
    shares = {name: record.share(1, 2)}
    svg = plots.categories("p", [("tuned", plots.TUNED, shares)], [name], 0.9)
    ElementTree.fromstring(svg.replace("xlink:", ""))  # one well-formed element
    assert not list(recwarn)


def test_p_values():
    assert words.p_value(0.0001) == "p < 0.001"
    assert words.p_value(0.0312) == "p = 0.031"


def test_prompts_are_shown_without_what_they_share():
    def sample(question: str) -> Sample:
        return Sample(f"<s>system\nbe brief<e>\n<s>user\n{question}<e>\n<s>assistant\n", "[]", ())

    found = facts.short_prompts([sample("turn on the lights"), sample("turn off ten lights")])
    assert found == ["turn on the lights", "turn off ten lights"]
    assert facts.short_prompts([sample("x")])[0].startswith("<s>system")
    assert len(facts.short_prompts([Sample("a" * 500, "", ())])[0]) == facts.LONGEST_PROMPT


@pytest.mark.slow
def test_a_report_that_livery_did_not_write_is_not_replaced(run_folder: Path, tmp_path: Path):
    place = tmp_path / "reports"
    write_report(run_folder, place)
    write_report(run_folder, place)  # its own it replaces
    (place / "report.html").unlink()
    for name in ("report.md", "report.html"):
        (place / name).write_text("<title>mine</title>")
        with pytest.raises(UserError, match="not a report that Livery wrote"):
            write_report(run_folder, place)
        assert (place / name).read_text() == "<title>mine</title>"


def test_a_record_takes_the_place_of_a_record_alone(run_folder: Path, tmp_path: Path):
    from commands.eval import check_places

    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"text": "wake me"}\n')
    empty = tmp_path / "made-by-mktemp"
    empty.write_text("")
    for allowed in (tmp_path / "new.json", empty, run_folder / "evaluation.json", "/dev/null"):
        check_places(None, str(allowed), (str(run_folder), str(cases)))
    for kept, why in (
        (cases, "is what the command reads"),
        (run_folder / "run_config.json", "is not an evaluation's record"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=why):
            check_places(None, str(kept), (str(run_folder), str(cases)))


def test_a_place_that_cannot_be_made_is_told_before_the_evaluation(tmp_path: Path):
    from commands.eval import check_places

    (tmp_path / "file").write_text("mine")
    (tmp_path / "gone").symlink_to("not mounted")
    for place in ("file", "file/below", "gone", "gone/below"):
        why = rf"{tmp_path / place.partition('/')[0]}( is|: is a) .*(file|link)"
        with pytest.raises(UserError, match=why):
            check_places(str(tmp_path / place), None, ())
        if place != "file":
            with pytest.raises(UserError, match=why):
                check_places(None, str(tmp_path / place / "x.json"), ())
    check_places(str(tmp_path / "new" / "place"), str(tmp_path / "new" / "x.json"), ())
    assert not (tmp_path / "new").exists()


def test_a_record_without_its_facts_is_refused_in_words(run_folder: Path):
    path = run_folder / "evaluation.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["facts"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match="record in it is damaged, or of another version"):
        write_report(run_folder)


def test_a_list_of_cases_keeps_to_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A model in a loop printed a screen of lines, and control characters reached the terminal."""
    cases = [make_case("a"), make_case("b")]
    found = make_record(cases, [make_run(TUNED, cases, "nn")], 0.5)
    for case in found["cases"]:
        case["answers"]["tuned_constrained"]["answer"] = "10 pm\n" * 50 + "\x1b[2J" + "x" * 999
    found["metrics"].append({**found["metrics"][-1], "name": "never"})
    found["arms"]["tuned_constrained"]["metrics"]["never"] = {
        "value": None, "total": 0, "interval": None, "count": 0
    }  # fmt: skip
    print_record(found)
    out = capsys.readouterr().out
    assert out.count("10 pm⏎10 pm⏎") >= 2
    assert "\x1b[2J" not in out
    assert max(map(len, out.splitlines())) < 400
    assert len([line for line in out.splitlines() if "10 pm" in line]) == 2
    assert "never" not in out  # a metric of which no case says anything
