"""The documentation says what is true: help texts, settings, and commands that stand in it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

from datagen.date_keys import TRAIN_ROWS, VALID_ROWS
from livery.cli import cli
from livery.paths import HOME

PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]


def make() -> ModuleType:
    """docs/make.py, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("docs_make", HOME / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_help_texts_are_those_of_the_commands() -> None:
    written = (HOME / "docs" / "cli.md").read_text(encoding="utf-8")
    # In a process of its own: click remembers a command's help option from its first use, and
    # other tests use commands without the group that gives them -h.
    code = "import runpy; print(runpy.run_path('docs/make.py')['cli_page'](), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOME, capture_output=True, encoding="utf-8", check=True
    )
    assert written == done.stdout, "run: python -m docs.make"


def test_the_settings_are_those_of_the_table() -> None:
    written = (HOME / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == make().configuration_page(written), "run: python -m docs.make"


def test_no_help_text_types_a_default() -> None:
    """`[default: 24000]` in a string stays when the code's default changes; click's own does not,
    nor does one in braces."""
    typed = re.compile(r"\[default: (?!\{)")
    found = [
        f"{path.relative_to(HOME)}: {line.strip()}"
        for package in ("livery", "convert", "datagen", "eval", "cuda_train", "mlx_train")
        for path in (HOME / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if typed.search(line)
    ]
    assert not found
    assert typed.search("[default: 24000]")


def test_the_numbers_of_rows_in_the_documentation_are_those_that_are_made() -> None:
    said = [
        (page.name, *(int(number.replace(",", "")) for number in found))
        for page in PAGES
        for found in re.findall(
            r"([\d,]+) training rows(?: and|,) ([\d,]+) held", page.read_text(encoding="utf-8")
        )
    ]
    assert {name for name, *_ in said} == {"README.md", "date-keys.md"}
    assert {(train, valid) for _, train, valid in said} == {(TRAIN_ROWS, VALID_ROWS)}


def commands() -> list[tuple[str, str]]:
    """(page, command) for every line of a shell block that starts with livery or ./train_mac.sh."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for block in re.findall(
            r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S
        ):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.split("#")[0].strip()
                if line.startswith(("livery ", "./train_mac.sh")):
                    found.append((page.name, line))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_in_the_documentation_parse(page: str, line: str) -> None:
    """Names and options exist; nothing is run."""
    words = shlex.split(line.replace("./train_mac.sh", "livery run"))[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="livery")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_each_attack_that_is_listed_has_its_test() -> None:
    page = (HOME / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "**" not in line][1:]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.split(" | ")[-1])
        assert named, row
        for file, test in named:
            text = (HOME / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), (file, test)


def test_pages_that_the_code_points_to_are_here() -> None:
    """A comment must not send its reader to a page that is not in the repository."""
    pages = {path.name for path in HOME.rglob("*.md") if ".venv" not in path.parts}
    # Written for users, or somebody else's.
    pages |= {"report.md", "proof.md", "import.md"}
    named = re.compile(r"\b([A-Za-z_-]+\.md)\b")
    parts = ("livery", "commands", "convert", "datagen", "eval", "mlx_train", "cuda_train")
    found = {
        f"{path.relative_to(HOME)}: {name}"
        for package in parts
        for path in (HOME / package).rglob("*.py")
        for name in named.findall(path.read_text(encoding="utf-8"))
        if name not in pages
    }
    assert not found
    assert named.findall("See FORMATS.md.") == ["FORMATS.md"]


def test_paths_in_the_architecture_and_the_trees_exist() -> None:
    text = (HOME / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+[\w.]*|\w+\.(?:py|md|sh))`", text):
        assert (HOME / name).exists(), name
    for path in tree_of_the_readme():
        assert path.exists(), path


def tree_of_the_readme() -> set[Path]:
    """What has a line in the README's tree; folders of one idea may share one."""
    tree = (HOME / "README.md").read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    found: set[Path] = set()
    at = HOME
    for line in tree.splitlines()[1:]:
        inner = line.startswith("  ")
        names = [line.split()[0], *(re.match(r"(?:\s*[a-z_]+/)*", line) or [""])[0].split()]
        found |= {(at if inner else HOME) / name for name in names}
        at = at if inner else HOME / names[0]
    return found


def test_the_tree_has_a_line_for_all_that_a_newcomer_meets() -> None:
    """At the top everything, and each folder of code that a package is divided into."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=HOME, capture_output=True, encoding="utf-8", check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = [Path(name) for name in listed.stdout.splitlines()]
    top = {file.parts[0] for file in files if not file.parts[0].startswith(".")}
    packages = {file.parts[0] for file in files if file.name == "__init__.py"} - {"tests"}
    inner = {
        Path(*file.parts[:2])
        for file in files
        if len(file.parts) > 2 and file.parts[0] in packages and file.suffix == ".py"
    }
    met = {HOME / name for name in {*top, *inner}} - {HOME / "README.md"}
    assert met - tree_of_the_readme() == set()


FORMS = sorted((HOME / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", [f for f in FORMS if f.name != "config.yml"], ids=lambda f: f.stem)
def test_issue_forms_ask_what_the_doctor_says(form: Path) -> None:
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert found["name"]
    assert found["description"]
    labels = [part["attributes"]["label"] for part in found["body"]]
    assert len({part["id"] for part in found["body"]}) == len(labels)
    assert "livery doctor --json" in labels
