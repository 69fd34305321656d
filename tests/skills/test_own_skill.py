"""A skill in one Python file: found, made into data, scored, and blamed by line for its faults."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import datagen
import eval.scorers
import livery.skills
from datagen.make import get_generator
from eval.scorers import get_scorer
from livery import cli
from livery.dataset.leaks import find_leaks
from livery.errors import UserError
from livery.files import read_jsonl
from livery.skills import AnswerError, get_skill
from tests import ROOT
from tests.tiny_models import tiny_model

HOME_SKILL = ROOT / "examples" / "home_skill.py"
PAGE = (ROOT / "docs" / "your-own-skill.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
REMOTE = BLOCKS[0]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a skill's file; the working folder is another one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def file(text: str, name: str = "my_skill.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("own"))


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.stem: [row for _, row in read_jsonl(p)] for p in sorted(folder.glob("*.jsonl"))}


@pytest.mark.slow
def test_the_example_from_data_to_report(
    write: Write, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/your-own-skill.md has it, on the embedded base, from another folder."""
    skill = str(HOME_SKILL)
    assert len(HOME_SKILL.read_text().splitlines()) <= 150
    assert cli.run(["data", skill, "--count", "200"]) == 0
    assert cli.run(["train", skill, "--max-steps", "24", "--learning-rate", "1e-3"]) == 0
    command = ["eval", skill, "--adapter", "adapters/home", "--baseline", "--json"]
    assert cli.run([*command, "--limit", "40", "--report", "adapters/home"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [metric["name"] for metric in found["metrics"]] == [
        "correct", "parsed", "device", "off_by"
    ]  # fmt: skip
    assert found["set"]["name"] == "test set"
    assert found["leaks"]["same"] == found["leaks"]["near"] == 0
    assert list(found["arms"]["tuned_constrained"]["categories"]) == [
        "heating", "lights", "blinds", "none"
    ]  # fmt: skip
    tuned = found["arms"]["tuned_constrained"]["metrics"]
    assert tuned["parsed"]["value"] == 1.0  # held to the schema's grammar
    assert 0 <= tuned["off_by"]["interval"][0] <= tuned["off_by"]["value"] <= 100
    base = found["arms"]["base_unconstrained"]["metrics"]
    assert base["off_by"] == {"value": None, "total": 0, "interval": None,
                              "categories": base["off_by"]["categories"]}  # fmt: skip
    [compared] = [c for c in found["comparisons"] if c["after"] == "tuned_constrained"
                  and c["before"] == "base_constrained"]  # fmt: skip
    assert (
        compared["metrics"]["off_by"]["interval"][0] <= compared["metrics"]["off_by"]["difference"]
    )
    page = Path("adapters/home/report.html").read_text()
    document = Path("adapters/home/report.md").read_text()
    for text in (page, document):
        assert "off by (lower is better)" in text
        assert "How far the value is from the right one." in text

    again = ["run", skill, "--max-steps", "3", "--output-dir", "adapters/run", "--target", "0"]
    again += ["--model", str(model)]
    capsys.readouterr()
    assert cli.run([*again, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["adapter"] == "adapters/run", "nothing else on standard output"
    assert "train.jsonl.edited" not in said.err
    assert cli.run([*again, "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert all(stage["skipped"] for stage in stages.values())
    asked = ["generate", "--skill", skill, "--adapter", "adapters/run", "--json", "heat the attic"]
    assert cli.run(asked) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["value"]["device"]


@pytest.mark.slow
def test_the_documented_file_makes_data(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(REMOTE, "remote_skill.py")
    assert cli.run(["data", str(path)]) == 0
    assert "data/remote-skill/train.jsonl  250 rows" in capsys.readouterr().out
    splits = rows_of(Path("data/remote-skill"))
    families = [{row["meta"]["family"] for row in splits[s]} for s in ("train", "valid", "test")]
    for one in range(3):
        for other in range(one):
            assert not families[one] & families[other]
    assert {row["meta"]["scenario"] for row in splits["test"]} == {
        "volume_up", "volume_down", "mute", "next", "off"
    }  # fmt: skip
    assert not find_leaks(splits["train"], [*splits["valid"], *splits["test"]])
    assert not find_leaks(splits["valid"], splits["test"])
    text = splits["train"][0]["messages"]
    assert [turn["role"] for turn in text] == ["system", "user", "assistant"]
    manifest = json.loads(Path("data/remote-skill/manifest.json").read_text())
    assert manifest["skill"] == "remote-skill"
    code = BLOCKS[-1].replace('"remote_skill.py"', repr(str(path)))
    exec(compile(code, "docs/your-own-skill.md", "exec"), {})


def test_a_schema_that_refers_elsewhere_is_blamed_and_nothing_is_fetched(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    path = write('JSON_SCHEMA = {"$ref": "http://127.0.0.1:9/schema"}\nGRAMMAR = None\n')
    with pytest.raises(UserError, match=r"\.py: JSON_SCHEMA: The JSON Schema cannot be followed"):
        get_skill(str(path)).parse("1")
    assert asked == []


def test_the_documented_metrics_score(write: Write) -> None:
    path = write('JSON_SCHEMA = {"type": "object"}\n' + BLOCKS[1])
    scorer = get_scorer(str(path))
    [case] = scorer.cases([{"text": "21", "answer": {"device": "heating", "value": 21}}])
    found = scorer.score_case(case, '{"device": "heating", "value": 25}')
    assert (found.correct, found.parsed) == (False, True)
    assert found.metrics == {"device": True, "off_by": 4.0}
    assert scorer.score_case(case, '{"value":21,"device":"heating"}').correct
    assert scorer.score_case(case, "oops").metrics == {"device": False, "off_by": 30}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_any_process(write: Write) -> None:
    path = write(REMOTE, "remote_skill.py")
    for out, seed in (("one", "7"), ("other", "8")):
        assert cli.run(["data", str(path), "--out", out, "--seed", seed]) == 0
    code = f"from livery.cli import main; main(['data', {str(path)!r}, '--out', 'two'])"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT),
                   "PYTHONHASHSEED": "4"}, capture_output=True)  # fmt: skip
    read = {out: (Path(out) / "train.jsonl").read_bytes() for out in ("one", "two", "other")}
    assert read["one"] == read["two"] != read["other"]


@pytest.mark.slow
def test_three_kinds_of_names(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An installed package brings a skill: every command takes its name, nothing else changes."""
    site = tmp_path / "site"
    package = site / "tv_skills" / "remote"
    package.mkdir(parents=True)
    (site / "tv_skills" / "__init__.py").write_text("")
    (package / "__init__.py").write_text(REMOTE + 'NAME = "remote"\n')
    (package / "validation.jsonl").write_text(
        '{"text": "quiet now", "answer": "mute"}\n{"text": "good night", "answer": "off"}\n'
    )
    info = site / "tv_skills-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tv-skills\nVersion: 1.0\n")
    points = "[livery.skills]\nremote = tv_skills.remote\nbroken = tv_skills.nowhere\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(site))

    assert get_skill("remote").parse(" off ") == "off"
    assert get_skill("date-keys").name == "date-keys"
    assert get_skill(str(write(REMOTE))).name == "my-skill"
    assert cli.run(["data", "--help"]) == 0
    assert re.search(r"remote +Of the package tv-skills", capsys.readouterr().out)
    assert cli.run(["data", "remote", "--count", "40"]) == 0
    command = ["eval", "remote", "--model", str(model), "--report", "out", "--max-tokens", "16"]
    assert cli.run([*command, "--output-json", "found.json"]) == 0
    found = json.loads(Path("found.json").read_text())
    assert found["set"]["name"] == "validation set"
    assert found["arms"]["base_constrained"]["metrics"]["parsed"]["value"] == 1.0
    capsys.readouterr()
    assert cli.run(["data", "nothing"]) == 1
    said = capsys.readouterr().err
    assert "remote (of tv-skills), broken (of tv-skills)" in said
    assert cli.run(["eval", "broken", "--model", str(model)]) == 1
    assert "skill broken of the package tv-skills cannot be imported" in capsys.readouterr().err


@pytest.mark.slow
def test_a_skill_that_ships_is_three_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, model: Path
) -> None:
    """Files put where a fifth skill's would lie are found, without a line anywhere else."""
    for package, name, text in [
        (livery.skills, "echo/__init__.py", (
            "from livery.skills.contract import AnswerError, Skill\n"
            "def parse(answer):\n"
            "    if not answer.startswith('<'): raise AnswerError('no <')\n"
            "    return answer\n"
            "def messages(text, value=None):\n"
            "    return [{'role': 'user', 'content': text}]\n"
            "SKILL = Skill('echo', '1', messages, str, parse, 'Says it again.')\n"
        )),
        (livery.skills, "echo/validation.jsonl", '{"q": "hello", "a": "<hello"}\n'),
        (datagen, "echo/__init__.py", (
            "NAME, VERSION, TRAIN_ROWS = 'datagen.echo', '1', 2\n"
            "def generate(seed, count=TRAIN_ROWS):\n"
            "    row = lambda n: {'messages': [{'role': 'user', 'content': str(n)},\n"
            "        {'role': 'assistant', 'content': f'<{n}'}], 'meta': {'scenario': 'all'}}\n"
            "    rows = [row(n) for n in range(count)]\n"
            "    return {'train': rows, 'valid': rows[:1], 'test': rows[:1], 'core': rows[1:]}\n"
        )),
        (eval.scorers, "echo.py", (
            "from eval.cases import Case, CaseResult, read_cases\n"
            "from livery.skills import Metric, get_skill\n"
            "SKILL, CATEGORIES, TAUGHT = get_skill('echo'), (), ''\n"
            "METRICS = (Metric('length', 'Letters.', kind='number', better='lower'),)\n"
            "def cases(source):\n"
            "    def read(row, where):\n"
            "        asked = [{'role': 'user', 'content': row['q']}]\n"
            "        return Case(where, 'all', tuple(asked), row['q'], row['a'], row['a'], where)\n"
            "    return read_cases(source, read, '{q, a}')\n"
            "def score_case(case, answer):\n"
            "    return CaseResult(case.id, 'all', answer == case.expected, True, answer, answer,\n"
            "                      'wrong', metrics={'length': float(len(answer))})\n"
            "def is_taught(case): return False\n"
        )),
    ]:  # fmt: skip
        path = tmp_path / package.__name__ / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        place = str(tmp_path / package.__name__)
        if place not in package.__path__:
            monkeypatch.setattr(package, "__path__", [*package.__path__, place])
    try:
        assert cli.run(["data", "echo"]) == 0
        assert len(rows_of(Path("data/echo"))["core"]) == 1  # a split of its own
        command = ["eval", "echo", "--model", str(model), "--max-tokens", "4", "--report", "out"]
        assert cli.run(command) == 0
        found = json.loads(Path("out/evaluation.json").read_text())
        assert list(found["arms"]) == ["base_unconstrained"]  # it has no grammar
        assert found["arms"]["base_unconstrained"]["metrics"]["length"]["total"] == 1
        assert cli.run([*command, "--constrained"]) == 1
    finally:
        for name in [n for n in sys.modules if n.endswith(".echo")]:
            del sys.modules[name]


@pytest.mark.slow
def test_conversations_system_prompts_and_tools_are_the_cases_own(
    write: Write, model: Path, tmp_path: Path
) -> None:
    from livery.dataset.encode import encode
    from livery.dataset.rows import read_row
    from livery.dataset.template import TemplateSettings, load_chat
    from livery.engines.engine import open_engine
    from tests.dataset.templates import FAMILIES, TOOLS
    from tests.engines.test_engine_http import completion, server

    path = write(f"""
SYSTEM_PROMPT = "Answer."
TOOLS = {TOOLS!r}
TURNS = [{{"role": "user", "content": "Delete it."}},
         {{"role": "assistant", "content": "Are you sure?"}},
         {{"role": "user", "content": "Yes, go ahead."}}]
CASES = [
    {{"text": "Weather in Oslo?", "answer": "3 degrees", "tools": TOOLS, "system": "Be brief."}},
    {{"messages": TURNS, "answer": "Done.", "meta": {{"risk": "high"}}}},
    {{"text": "Hello", "answer": "Hi"}},
]
def generate(rng):
    for number in range(40):
        word = ("count the sheep", "stop", "sing a song of home", "walk the dog")[number % 4]
        yield {{"text": f"{{word}} {{number}}", "answer": word, "family": word}}
""")
    template = tmp_path / "tools.jinja"
    template.write_text(FAMILIES["tools"])
    assert cli.run(["data", str(path)]) == 0
    out = Path("found.json")
    command = ["eval", str(path), "--model", str(model), "--chat-template", str(template)]
    assert (
        cli.run([*command, "--max-tokens", "4", "--report", "out", "--output-json", str(out)]) == 0
    )
    found = {case["text"]: case for case in json.loads(out.read_text())["cases"]}
    assert found["Hello"]["messages"] is found["Hello"]["tools"] is None
    assert found["Weather in Oslo?"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert found["Weather in Oslo?"]["tools"] == TOOLS
    turns = found["Yes, go ahead."]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    page = Path("out/report.html").read_text()
    assert "tools: get_weather" in page
    assert "Are you sure?" in page
    assert "Yes, go ahead. (after 2 turns)" in page

    # An endpoint is sent each case's own turns and tools.
    with server(lambda *_: (200, completion("Done."))) as (url, seen):
        asked = ["eval", str(path), "--engine", "http", "--url", url, "--model", "m"]
        assert cli.run([*asked, "--unconstrained", "--report", "http"]) == 0
    bodies = {body["messages"][-1]["content"]: body for body in seen}
    assert bodies["Weather in Oslo?"]["tools"] == TOOLS
    assert bodies["Yes, go ahead."]["messages"] == turns
    assert bodies["Hello"]["messages"][0]["content"] == "Answer."
    assert "tools" not in bodies["Hello"]
    assert json.loads(Path("http/evaluation.json").read_text())["accuracy"] == 1 / 3

    # What the engine is asked is what training on the row of test.jsonl shows it.
    chosen = TemplateSettings(template=str(template))
    chat, engine = load_chat(model, chosen), open_engine("mlx", str(model), template=chosen)
    scorer = get_scorer(str(path))
    cases = scorer.cases(Path("data/my-skill/test.jsonl"))
    assert cases[1].meta["risk"] == "high"
    assert cases[1].asked == "Delete it.\nYes, go ahead."
    for (_, row), case in zip(read_jsonl("data/my-skill/test.jsonl"), cases, strict=True):
        [example] = encode(read_row(row, "x", train_on="last"), chat).examples
        tokens = example.tokens[: example.prompt_length].tolist()
        assert list(engine.prompt(case.messages, case.tools).tokens) == tokens


@pytest.mark.slow
def test_a_case_brings_its_own_grammar(write: Write, model: Path) -> None:
    path = write("""
import json
WORDS = {"colours": ["red", "green"], "pets": ["cat", "dog"], "tools": ["saw", "axe"]}
ASK = ("which is best of {}", "name one thing {}", "what did i say about my {}", "{} now")

def grammar(case):
    return {"enum": case.meta["words"]} if case.meta else None

def parse(answer):
    return json.loads(answer)

def render(value):
    return json.dumps(value)

def generate(rng):
    while True:
        kind, ask = rng.choice(list(WORDS)), rng.choice(ASK)
        yield {"text": ask.format(kind), "answer": rng.choice(WORDS[kind][:1]), "family": ask,
               "meta": {"words": WORDS[kind]}}

TRAIN_ROWS = 3
""")
    assert cli.run(["data", str(path)]) == 0
    command = ["eval", str(path), "--model", str(model), "--max-tokens", "16", "--report", "out"]
    assert cli.run(command) == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["headline"] == "base_constrained"
    assert len(found["cases"]) == 3
    for case in found["cases"]:
        words = {"red": ["red", "green"], "cat": ["cat", "dog"], "saw": ["saw", "axe"]}
        answer = case["answers"]["base_constrained"]
        assert answer["got"] in words[case["expected"]], answer
    write(path.read_text().replace("WORDS[kind][:1]", "['fish']"))
    with pytest.raises(UserError, match="the grammar does not admit the answer"):
        get_generator(str(path)).generate(7)


GENERATE = "def generate(rng):\n    yield {}\n"
FAULTS = [
    # the file's text, the command, what is said
    ("x = 1\n", "data", ": holds no skill: none of generate, score"),
    ("SYSTEM_PROMPT = 'x'\n", "data", ": has no generate(), which is needed to make data. docs"),
    ("SYSTEM_PROMPT = 'x'\ndef genrate(rng): ...\n", "data", "It has genrate(); is that the one?"),
    ("def generate(rng)\n    pass\n", "data", ":1: is not Python: expected ':'"),
    ("import nowhere_at_all\n", "data", ":1: importing it raised ModuleNotFoundError: No module "
     "named 'nowhere_at_all'. Install it with: pip install nowhere_at_all"),
    ("import sys\n\nsys.exit(3)\n", "data", ":3: importing it raised SystemExit: 3. Put what is"),
    ("generate = 3\n", "data", ": generate is 3; it must be a function"),
    ("JSON_SCHEMA = 'x'\n", "data", ": JSON_SCHEMA is 'x'; it must be a dict"),
    ("JSON_SCHEMA = {'type': 'sting'}\n" + GENERATE, "data", ": JSON_SCHEMA is not a JSON Schema,"),
    ("JSON_SCHEMA = {'enum': [{1}]}\n" + GENERATE, "data", ": JSON_SCHEMA holds what JSON cannot"),
    ("GRAMMAR = 'start: ('\n" + GENERATE, "data", "py: The lark grammar is faulty"),
    ("GRAMMAR = 'start: ('\n", "eval", "my_skill.py: The lark grammar is faulty"),
    ("JSON_SCHEMA = {'not': {}}\n" + GENERATE, "data", "with GRAMMAR = None answers are parsed"),
    ("METRICS = ['a']\n", "data", ": METRICS[0] is 'a'; each is a livery.skills.Metric"),
    ("NAME = '../x'\n" + GENERATE, "data", ": its name would be '../x'"),
    ("NAME = 'date-keys'\n" + GENERATE, "data", "is that of a skill that ships with Livery"),
    ("def generate(rng):\n    return 3\n", "data", ":1: generate() returned 3; it must yield rows"),
    ("def generate(rng):\n    return []\n", "data", ":1: generate() yields rows of 0 distinct"),
    ("def generate(rng):\n    yield 3\n", "data", ":2: generate(): a row is 3; it must be"),
    ("def generate(rng):\n    yield {'txt': 'a'}\n", "data", ":2: generate(): a row holds 'txt', "
     "which is not a key of a row; did you mean 'text'?"),
    ("def generate(rng):\n    yield {'text': 'a'}\n", "data", ":2: generate(): a row has no"),
    ("def generate(rng):\n    yield {'text': ' ', 'answer': 'b'}\n", "data", ":2: generate(): a "),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': {}}\n", "data", "it is no text"),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': ''}\n", "data", "is empty"),
    ("def generate(rng):\n    yield {'answer': 'a'}\n", "data", "neither \"text\" nor"),
    ("def generate(rng):\n    yield {'messages': [{'role': 'usr', 'content': 'a'}], 'answer': 1}\n",
     "data", ":2: generate(): \"messages\" holds a turn [0] that is"),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': 'b', 'tools': [{}]}\n", "data",
     ":2: generate(): \"tools\"[0] is not a tool"),
    ("def pick(d):\n    return d['mute']\ndef generate(rng):\n    yield pick({})\n", "data",
     ":2: generate() raised KeyError: 'mute'. Correct it there"),
    ("def parse(a):\n    raise ValueError('no')\ndef render(v):\n    return v\n"
     "def generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n", "data",
     ":6: generate(): the answer 'b' is refused by the skill's own parser: no."),
    ("def parse(a):\n    return a.upper()\ndef render(v):\n    return v\n"
     "def generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n", "data",
     ":6: generate(): the answer 'b' is read by the skill's own parser as one that it writes 'B'"),
    ("def parse(a):\n    return a[9]\ndef render(v):\n    return v\n"
     "def generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n", "data",
     ":2: parse('b') raised IndexError: string index out of range. For an answer that breaks"),
    ("def render(v):\n    return 3\ndef generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n",
     "data", ":1: render() returned 3; it must return"),
    ("def messages(t):\n    return t\ndef generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n",
     "data", ":1: messages() returned 'a'; it must be a list of"),
    ("JSON_SCHEMA = {'enum': ['a']}\ndef generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n",
     "data", ":3: generate(): the answer '\"b\"' is refused by the skill's own parser: 'b' is not"),
    ("GRAMMAR = 'start: \"a\"'\ndef generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n",
     "data", ":3: generate(): the grammar does not admit the answer 'b': it expects something"),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': 'b'}\n"
     "    yield {'text': 'a', 'answer': 'c'}\n", "data",
     ":3: generate(): 'a' is answered 'b' in one row and 'c' in another"),
    ("def generate(rng):\n    while True:\n        n = rng.randrange(9)\n"
     "        yield {'text': f'tell me of {n}', 'answer': 'b'}\n", "data",
     ":1: generate() yields rows of 1 distinct wordings, and at least 3"),
    ("import random\ndef generate(rng):\n    while True:\n"
     "        yield {'text': str(random.random()), 'answer': 'b'}\n", "data",
     ":2: generate() yields different rows for the same seed: '0."),
    ("def generate():\n    yield {}\n", "data", ":1: generate() is called as generate(rng); take"),
    ("def score(case):\n    return True\n", "eval", ":1: score() is called as score(case, value)"),
    ("import sys\ndef generate(rng):\n    yield sys.exit(0)\n", "data",
     ":3: generate() raised SystemExit: 0. Correct it"),
    ("async def generate(rng):\n    yield {}\n", "data", ":1: generate() returned <async_gen"),
    ("def generate(rng):\n    yield {'text': '\\ud83d', 'answer': 'b'}\n", "data",
     ":2: generate(): a row holds half a character, '\\ud83d'"),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': 'b', 'meta': {'x': {1}}}\n", "data",
     ":2: generate(): a row holds what JSON cannot"),
    ("def generate(rng):\n    yield {'text': 'a', 'answer': 'b', 'meta': {'x': float('nan')}}\n",
     "data", ":2: generate(): a row holds what JSON cannot"),
    ("T = 'go home', 'feed the cat', 'what time is it', 'sing a song'\ndef generate(rng):\n"
     "    return [{'text': t + e, 'answer': 'b', 'id': 'x'} for t in T for e in (' 1', ' a b')]\n",
     "data", "have the id 'x'; give each its own"),
    ("from livery.skills import Metric\nMETRICS = (Metric('correct', 'x'),)\n", "eval",
     ": METRICS hold 'correct', which is taken"),
    ("from livery.skills import Metric\nMETRICS = (Metric('a', 'x', kind='numbr'),)\n", "eval",
     ":2: importing it raised ValueError: kind is 'numbr'; it must be share or number"),
    ("CATEGORIES = (1,)\n", "eval", ": CATEGORIES hold 1; each is a text"),
    ("CASES = 'nowhere.jsonl'\n" + GENERATE, "data", "nowhere.jsonl, and there is no such file"),
    ("TRAIN_ROWS = 0\n" + GENERATE, "data", ": TRAIN_ROWS is 0; it must be at least 1"),
    ("W = ('go home', 'feed the cat', 'what time is it', 'sing')\ndef generate(rng):\n"
     "    while True:\n        w = rng.choice(W)\n        yield {'text': w, 'answer': w}\n", "data",
     ":2: generate() yielded 2 distinct rows for training"),
    ("SYSTEM_PROMPT = ''\ndef score(case, value):\n    return 1\n", "eval",
     ":2: score() returned 1; it must return whether"),
    ("def grammar(case):\n    return 3\n", "eval", ":1: grammar() returned 3; it must return Lark"),
    ("def grammar(case):\n    return case.mta\n", "eval", ":2: grammar('a') raised AttributeError"),
    ("def score(case, value):\n    return {'close': True}\n", "eval", "'close' is no metric of"),
    ("def score(case, value):\n    x = 1 / 0\n", "eval",
     ":2: score('a', '"),
    ("from livery.skills import Metric\nMETRICS = (Metric('m', 'M.'),)\n"
     "def score(case, value):\n    return {'m': 3}\n", "eval", "'m' must be True or False, or"),
    ("from livery.skills import Metric\nMETRICS = (Metric('m', 'M.', kind='number'),)\n"
     "def score(case, value):\n    return {'m': float('nan')}\n", "eval", "must be a finite"),
    ("from livery.skills import Metric\nMETRICS = (Metric('m', 'M.'),)\n"
     "def score(case, value):\n    return {}\n", "eval", "without 'm' of METRICS"),
    ("from livery.skills import Metric\nMETRICS = (Metric('m', 'M.'),)\n", "eval",
     "has no score(), which is needed for METRICS"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "command", "complaint"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_names_file_line_function_and_remedy(
    text: str, command: str, complaint: str, write: Write, model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = write(text)
    if command == "data":
        words = ["data", str(path)]
    else:
        Path("cases.jsonl").write_text('{"text": "a", "answer": "b"}\n')
        words = ["eval", str(path), "--model", str(model), "--data", "cases.jsonl"]
        words += ["--max-tokens", "2"]
    assert cli.run(words) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert str(path) in said
    assert "Traceback" not in said
    assert not Path("data").exists()  # nothing half-written


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere.py", "no such file; a skill is a Python file, or a name"),
        ("./folder.py", "is a folder; give the path"),
        ("./notes.txt", "is not a Python file"),
        ("my_skill", "Did you mean the file my_skill.py?"),
        ("", "choose one of: actions, date-keys"),
        ("a\x1b[2J", r"no skill 'a\x1b[2J'"),
    ],
)
def test_names_that_lead_nowhere(
    name: str, complaint: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.py").mkdir()
    Path("notes.txt").write_text("x")
    Path("my_skill.py").write_text(REMOTE)
    for words in (["data", name], ["train", name], ["eval", name], ["run", name]):
        assert cli.run(words) == 1
        assert complaint in capsys.readouterr().err.replace("\\\\", "\\")
    with pytest.raises(UserError):
        get_skill(name)


def test_what_the_file_prints_and_returns_spoils_no_json(
    write: Write, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("""\ufeff
import datetime
from livery.skills import Metric
import numpy as np
print("hello from the file")
METRICS = (Metric("early", "Before noon."), Metric("hours", "Of the day.", kind="number"))
def parse(answer):
    print("parsing")
    return datetime.time(int(answer))
def render(value):
    return str(value.hour)
def score(case, value):
    return {"early": np.bool_(value.hour < 12), "hours": np.float32(value.hour), "correct": True}
GRAMMAR = 'start: /[0-9]/'
CASES = [{"text": "seven", "answer": datetime.time(7)}]
def generate(rng):
    words = ("half past", "in the evening at", "a bit before", "could it be", "never later than")
    return [{"text": f"{word} {n}", "answer": datetime.time(n), "family": word}
            for word in words for n in range(9)]
""")
    assert cli.run(["data", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["rows"] == 1
    assert cli.run(["eval", str(path), "--model", str(model), "--json", "--constrained"]) == 0
    [found] = json.loads(capsys.readouterr().out)["cases"]
    assert found["expected"] == "datetime.time(7, 0)"
    answer = found["answers"]["base_constrained"]
    assert answer["got"].startswith("datetime.time(")
    assert answer["metrics"]["hours"] == float(answer["answer"])


@pytest.mark.slow
def test_the_data_of_another_skill_are_no_cases(
    write: Write, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(REMOTE)
    assert cli.run(["data", str(write(REMOTE, "other.py")), "--out", "there"]) == 0
    adapter = Path("adapter")
    adapter.mkdir()
    settings = {"settings": {"model": str(model), "data": "there"}}
    (adapter / "run_config.json").write_text(json.dumps(settings))
    command = ["eval", str(path), "--adapter", str(adapter)]
    assert cli.run(command) == 1
    assert "There are no cases for the skill my-skill yet" in capsys.readouterr().err
    assert cli.run(["data", str(path)]) == 0
    assert cli.run([*command, "--set", "core"]) == 1
    assert "no set 'core' of cases for the skill my-skill; there are: " in capsys.readouterr().err


def test_an_edited_file_is_read_anew_and_makes_other_data(write: Write) -> None:
    path = write(REMOTE)
    first = get_generator(str(path)).VERSION
    assert get_skill(str(path)).system_prompt.startswith("Name the key")
    write(REMOTE.replace("Name the key", "Give the key"))
    assert get_skill(str(path)).system_prompt.startswith("Give the key")
    assert first != get_generator(str(path)).VERSION


def test_answers_are_written_in_the_order_of_the_schema(write: Write) -> None:
    skill = get_skill(
        str(
            write("""
JSON_SCHEMA = {"type": "object", "properties": {
    "steps": {"type": "array", "items": {"type": "object", "properties": {"b": {}, "a": {}}}},
    "last": {"type": "string"}}}
""")
        )
    )
    assert skill.render({"last": "é", "steps": [{"a": 1, "b": 2}]}) == (
        '{"steps":[{"b":2,"a":1}],"last":"é"}'
    )
    for broken in ("{", "[]", '{"last": 3}', "NaN", "[" * 100_000):
        with pytest.raises(AnswerError):
            skill.parse(broken)
    assert skill.constraint().kind == "json_schema"  # pyright: ignore[reportOptionalMemberAccess]
    skill = get_skill(str(write("GRAMMAR = None\nJSON_SCHEMA = {'type': 'object'}\n")))
    assert skill.constraint() is None
    with pytest.raises(AnswerError):
        skill.parse("[]")


@pytest.mark.slow
def test_hand_written_cases_are_the_test_split_and_keep_rows_like_them_out(write: Write) -> None:
    path = write(
        REMOTE.replace(
            "TRAIN_ROWS = 250",
            """
TRAIN_ROWS = 150
CASES = "cases.jsonl"
""",
        )
    )
    asked = {
        "louder": "volume_up",
        "mute it": "mute",
        "skip this": "next",
        "good night telly": "off",
    }
    asked |= {"switch yourself off": "off", "this is too loud": "volume_down"}
    cases = [{"text": f"ok {text} please", "answer": key} for text, key in asked.items()]
    cases[0]["id"] = "a"
    (path.parent / "cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    assert cli.run(["data", str(path)]) == 0
    splits = rows_of(Path("data/my-skill"))
    assert [row["meta"]["id"] for row in splits["test"]][:2] == ["a", "test-00002"]
    assert len(splits["test"]) == 6
    assert len(splits["train"]) == 150
    assert not find_leaks([*splits["train"], *splits["valid"]], splits["test"])
    (path.parent / "cases.jsonl").write_text('{"text": "ok"}\n')
    assert cli.run(["data", str(path)]) == 1


def test_families_that_give_each_other_away_are_one(write: Write) -> None:
    texts = [
        "please bring the dog home before it gets dark", "what a day", "sing us a song of old",
        "count up to ten and go", "never again will i eat there", "is anybody in this house",
    ]  # fmt: skip
    made = [
        {"text": f"{before}{text}{after}", "answer": "x", "family": f"{before}{text}{after}"}
        for text in texts for before in ("", "um ") for after in ("", " thanks")
    ]  # fmt: skip
    path = write(f"def generate(rng):\n    return {made!r}\n")
    splits = get_generator(str(path)).generate(7)
    assert sum(map(len, splits.values())) == len(made)  # none had to be left out
    where = {
        text: {name for name, rows in splits.items() for row in rows if text in str(row)}
        for text in texts
    }
    assert all(len(names) == 1 for names in where.values()), where


def test_splits_stay_apart_whatever_the_rows(write: Write) -> None:
    """Random templates, many of them nearly alike, with and without families named."""
    words = "a red big dog and one old cat run up to the new house by some tall tree".split()
    for seed in range(12):
        rng = random.Random(seed)
        made = [
            {"text": " ".join(rng.choices(words, k=rng.randrange(3, 8))), "answer": "x"}
            for _ in range(60)
        ]
        if seed % 2:
            made = [{**row, "family": row["text"].split()[0]} for row in made]
        path = write(f"def generate(rng):\n    return {made!r}\n")
        splits = get_generator(str(path)).generate(seed)
        assert all(splits.values())
        assert len(splits["train"]) >= len(made) / 4
        assert not find_leaks(splits["train"], [*splits["valid"], *splits["test"]])
        families = [{row["meta"].get("family") for row in rows} for rows in splits.values()]
        if seed % 2:
            assert not families[0] & (families[1] | families[2])
