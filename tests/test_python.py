"""docs/python.md and examples/ run as they stand; the names that they promise are there."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import livery
from tests import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
NAMES = re.findall(r"`([a-z]\w*(?:\.\w+)+)`(?=[^|\n]*\|)", PAGE.split("\n## ")[0])


def find(name: str) -> Any:
    """What a program gets by importing the last part of a dotted name: an object, or the module."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute, None)
    return importlib.import_module(name) if found is None else found


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_is_there_and_explained(name: str) -> None:
    found = find(name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
        documented = inspect.getdoc(found) or ""
        assert "Raises:" in documented
        missing = [p for p in signature.parameters if not re.search(rf"\b{p}\b", documented)]
        assert not missing


def test_the_page_names_all_that_livery_offers() -> None:
    offered = {name for name in dir(livery) if f"livery.{name}" in NAMES}
    assert offered >= {"train", "TrainSettings", "LoraSettings", "UserError"}
    stub = (ROOT / "livery" / "__init__.pyi").read_text(encoding="utf-8")
    assert set(re.findall(r" as (\w+)", stub)) == offered
    with pytest.raises(AttributeError, match="no attribute 'trains'"):
        livery.trains  # type: ignore[attr-defined]  # noqa: B018


def test_import_livery_loads_nothing_else() -> None:
    code = (
        "import __future__, importlib, sys, typing; before = set(sys.modules); import livery; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["livery"]


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after another, as one program."""
    pytest.importorskip("mlx.core")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    assert (tmp_path / "merged-q8_0.gguf").is_file()
    assert names["record"]["set"]["cases"] == 10


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")

    def run(name: str) -> str:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / name)], cwd=tmp_path, capture_output=True,
            text=True, check=False, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "to_confirm: rm -r build" in run("guard_answer.py")
    assert "20 steps; the adapter is in adapters/example" in run("train.py")
    assert "peft -> gguf: " in run("convert_adapter.py")
    assert {line.split()[0] for line in run("evaluate_adapter.py").splitlines()} == {
        "tuned_constrained", "tuned_unconstrained", "base_constrained", "base_unconstrained"
    }  # fmt: skip


def test_every_example_is_run_by_a_test() -> None:
    """An example that no test names would be the first to break unnoticed."""
    here = Path(__file__).parent
    tests = "\n".join(path.read_text(encoding="utf-8") for path in here.rglob("test_*.py"))
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert {name for name in examples if f'"{name}"' not in tests} == set()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backend": "jax"}, r"backend is 'jax'; choose one of: 'auto', 'mlx', 'torch'\."),
        ({"data": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_training_says_what_is_wrong_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVERY_BACKEND", "nothing")  # the settings alone decide
    (tmp_path / "mlx_config.yaml").write_text("nonsense: true\n")
    with pytest.raises(livery.UserError, match=said):
        livery.train(livery.TrainSettings(output_dir="out", **changes))
    with pytest.raises(livery.UserError, match="choose one"):
        livery.train(livery.TrainSettings(output_dir="out"), resume=True, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlx_config.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import livery", "pass"])
def test_nobody_is_advised_to_install_torch_for_a_tokenizer(first: str) -> None:
    """transformers does so by itself; what else it has to say is heard."""
    code = f"""if True:
        import importlib.util, logging, sys
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "torch" else real(name, *a)
        {first}
        import transformers
        logging.getLogger("transformers").warning("something else")
    """
    # mlx-lm silences all that transformers advises, once it is imported.
    heard = {k: v for k, v in os.environ.items() if k != "TRANSFORMERS_NO_ADVISORY_WARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=heard
    )
    assert ("PyTorch was not found" in done.stderr) == (first == "pass")
    assert "something else" in done.stderr
