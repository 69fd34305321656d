"""The wheel, installed into an environment of its own and used from a folder of the user's."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.architecture import FLOORS

pytestmark = pytest.mark.slow
pytest.importorskip("hatchling")

Run = Callable[..., str]
# All that is in it beside Python.
DATA = {
    "base_model/README.md",
    "base_model/config.json",
    "base_model/generation_config.json",
    "base_model/model.safetensors",
    "base_model/tokenizer.json",
    "base_model/tokenizer_config.json",
    "datagen/actions/intents.txt",
    "datagen/actions/seed.jsonl",
    "datagen/actions/words.txt",
    "datagen/date_keys/frames.txt",
    "datagen/date_keys/words.txt",
    "datagen/dsl/domain_prompts.jsonl",
    "datagen/dsl/operator_catalog.json",
    "eval/neutral.txt",
    "eval/report/report.css",
    "livery/config/dsl_defaults.json",
    "livery/config/mlx_config.yaml",
    *(
        f"livery/skills/actions/guard/commands/{table}.txt"
        for table in (
            "actions cloud cmd code containers databases desktop files git network packages "
            "patterns powershell system text wrappers"
        ).split()
    ),
    "livery/skills/actions/conversations.jsonl",
    "livery/skills/actions/second.jsonl",
    "livery/skills/actions/validation.jsonl",
    "livery/skills/date_keys/second.jsonl",
    "livery/skills/date_keys/third.jsonl",
    "livery/skills/date_keys/validation.jsonl",
    "livery/skills/dsl/base_schema_template.json",
    "livery/skills/dsl/schemas.json",
    "livery/skills/dsl/second.jsonl",
    "livery/skills/dsl/validation.jsonl",
    "datagen/persona/general.txt",
    "datagen/persona/maths.txt",
    "datagen/persona/talk.txt",
    "datagen/persona/technical.txt",
    "livery/skills/persona/conversations.jsonl",
    "livery/skills/persona/general.jsonl",
    "livery/skills/persona/second.jsonl",
    "livery/skills/persona/validation.jsonl",
    "livery/skills/state/conversations.jsonl",
    "livery/skills/state/second.jsonl",
    "livery/skills/state/validation.jsonl",
    *(
        str(path.relative_to(ROOT))
        for path in (ROOT / "livery" / "serve" / "page").rglob("*")
        if path.is_file()
    ),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel alone into an environment of its own; returns its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, str(wheel)], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def link_what_is_declared(site: Path) -> set[str]:
    """Link into `site` what the wheel depends on without any extra, and what that depends on;
    returns the packages' names."""
    (own,) = metadata.distributions(name="livery", path=[str(site)])
    waiting, linked = [own], set[str]()
    while waiting:
        for text in waiting.pop().requires or []:
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            if name in linked or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            linked.add(name)
            found = metadata.distribution(name)
            waiting.append(found)
            for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(str(found.locate_file(top)))
    return linked


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of the wheel's own environment in a folder that is empty at first, with the
    backends; or, as `bare`, with nothing but what the wheel declares without extras."""
    home = tmp_path_factory.mktemp("installed")
    # A path in a .pth file is not searched for further ones, so this checkout's own, which an
    # editable install has there, stays out.
    site = install(wheel, home / "env")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    declared = link_what_is_declared(install(wheel, home / "bare"))
    assert {"numpy", "transformers", "huggingface-hub"} <= declared
    assert not {"torch", "mlx", "mlx-lm", "peft", "fastapi", "pytest"} & declared
    place = home / "place"
    place.mkdir()
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | own

    def run(program: str, *arguments: str, code: int = 0, environment: str = "env") -> str:
        command = [str(home / environment / "bin" / program), *arguments]
        done = subprocess.run(
            command, cwd=place, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


def test_it_holds_the_packages_and_what_they_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name for name in names if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in inside} == {*FLOORS, "base_model"}
    assert {name for name in inside if not name.endswith((".py", ".pyi", "/py.typed"))} == DATA
    assert not [name for name in inside if name.startswith("base_model/recipe")]
    sources = {str(path.relative_to(ROOT)) for top in FLOORS for path in (ROOT / top).rglob("*.py")}
    assert sources <= set(inside)


def test_it_is_used_from_another_folder(run: Run) -> None:
    where = run("python", "-c", "import livery, convert; print(livery.__file__, convert.__file__)")
    assert str(ROOT) not in where
    assert "Train an adapter." in run("livery", "--help")
    assert json.loads(run("livery", "doctor", "--json"))["can_train"]
    made = json.loads(run("livery", "data", "date-keys", "--out", "data", "--json"))
    assert made["splits"]["valid"]["rows"] > 100

    # The embedded base, and the configuration that is made for it.
    plan = json.loads(run("livery", "train", "--data", "data", "--dry-run", "--json"))
    assert "site-packages/livery/config/mlx_config.yaml:" in plan["sources"]["batch_size"]

    train = ("--data", "data", "--output-dir", "mine", "--max-steps", "2", "--samples", "0")
    run("livery", "train", *train, "--max-samples", "64", "--eval-max-samples", "8")
    convert = ("convert", "mine", "mine.gguf", "--to", "gguf", "--base", "base_model", "--json")
    assert json.loads(run("livery", *convert))["modules"] > 0

    # Without any extra: what needs no framework works, and what needs one says what to install.
    bare = functools.partial(run, "livery", environment="bare")
    assert "Train an adapter." in bare("--help")
    assert json.loads(bare(*convert, "--overwrite"))["modules"] > 0
    assert not json.loads(bare("doctor", "--json", code=1))["can_train"]
    refused = json.loads(bare("train", "--data", "data", "--dry-run", "--json", code=1))
    assert "pip install 'livery[" in refused["error"]["message"]
