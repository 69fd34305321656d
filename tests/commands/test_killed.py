"""kill -9 in the middle of a command: nothing is lost, and the same line goes on and cleans up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from datagen.make import make_data
from livery import temporary
from livery.paths import RUN_MARK
from tests import forks, hostile, runs
from tests.convert import convert_cases as cases

pytestmark = cases.QUIET
TRAIN = (
    "train --backend mlx --model BASE --data ROWS --output-dir PLACE/run --lora-rank 4 "
    "--batch-size 2 --max-steps 6 --steps-per-eval 2 --save-every 2 --samples 1 --dtype float32 "
    "--compile off --max-seq-length 128"
)
FASTTEXT = (
    "fasttext train --data KEYS --out PLACE/fast --epochs 5 --dim 8 --buckets 1000 --overwrite"
)
# Of a few rows and three cases.
SKILL = """
SYSTEM_PROMPT = "Say the number."
WORDS = ("one apple", "two pears", "three plums", "four figs", "five nuts", "six limes", "ten eels")
CASES = [{"text": f"how many are {words}?", "answer": words.split()[0]} for words in WORDS[:3]]

def generate(rng):
    return [
        {"text": f"{ask} {words}", "answer": words.split()[0], "family": ask + words}
        for words in WORDS[3:] for ask in ("please count", "tell me the sum of", "number of")
    ]
"""
# Each stage of `livery run`, at its beginning, within it, and before what makes it done is there.
RUN = (
    "run SKILL --model BASE --output-dir PLACE/adapters/own --lora-rank 4 --batch-size 2 "
    "--max-steps 4 --save-every 2 --steps-per-eval 2 --samples 1 --backend mlx --dtype float32 "
    "--compile off --check-base no --no-neutral --target 0"
)
RUN_KILLS = [
    "train.jsonl", "manifest.json", "made_from.json", "run_config.json", "step-000002",
    "step-000004", "adapter_config.json", "training_metadata.json", "evaluation.json",
    "report.html", "report.md",
]  # fmt: skip
# Words -> the changes of files at which they die, one after the other, and what they need.
LINES: dict[str, tuple[str, Sequence[int | str], str]] = {
    "train": (TRAIN, [2, 5, 11, 19, 30, 26, 40], "mlx.core,mlx_lm,transformers"),
    "fasttext": (FASTTEXT, [1, 2, 3, 5, 7, 9, 4], "fasttext"),
    "convert": (
        "convert PEFT PLACE/all --to all --base BASE --overwrite", [1, 4, 9, 14, 20, 26, 31], ""
    ),
    "merge": ("merge --base BASE --adapter PEFT --out PLACE/merged --overwrite",
              [1, 3, 6, 8, 7, 9, 10], ""),
    "gguf": ("gguf --model BASE --out PLACE/m.gguf --overwrite", [1, 2, 3], ""),
    "mlx": ("mlx --model BASE --out PLACE/mlx --overwrite", [1, 3, 5, 7, 9], "mlx.core,mlx_lm"),
    "pack": ("pack PEFT --out PLACE/p.zip --base BASE --overwrite", [1, 2, 3], ""),
    "run": (RUN, RUN_KILLS, "mlx.core,mlx_lm,transformers"),
    "data": ("data date-keys --out PLACE/data --count 200", [1, 3, 5, 8, 11], ""),
    "data over others": ("data date-keys --out PLACE/data --count 30", [*range(3, 16)], ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    made = hostile.make(root)
    make_data("date-keys", root / "keys", 7, 30)
    runs.write_data(root / "trained on", rows=8)
    (root / "own.py").write_text(SKILL, encoding="utf-8")
    return {
        "SKILL": root / "own.py",
        "BASE": made.base, "PEFT": made.peft, "KEYS": root / "keys", "ROWS": root / "trained on",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_the_next_start_ends_as_if_nothing_had_been(
    name: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    line, kills, modules = LINES[name]
    for module in filter(None, modules.split(",")):
        pytest.importorskip(module)

    def ended(place: Path, kills: Sequence[int | str]) -> list[int]:
        place.mkdir()
        if name == "data over others":
            make_data("date-keys", place / "data", 8, 20)
        known = {**inputs, "PLACE": place}
        words = [
            next((word.replace(key, str(path)) for key, path in known.items() if key in word), word)
            for word in line.split()
        ]
        code, printed, said = forks.ended(
            "tests.commands.killing", [str(place), json.dumps(kills), *words],
            tmp_path / f"{place.name} said", of="killing",
            loads=[module for module in modules.split(",") if module],
        )  # fmt: skip
        assert code == 0, said
        found = json.loads(printed)
        assert found[-1] == 0, said
        assert set(found) <= {0, -9}, said
        return found

    assert ended(tmp_path / "whole", []) == [0]
    died = ended(tmp_path / "killed", kills).count(-9)
    assert died == len(kills) if name == "run" else died >= 3
    assert not temporary.find_below(tmp_path)
    whole, killed = (everything(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for file in whole:
        # These tell of times and folders, all but a run's rows.
        told = file.endswith((".json", ".jsonl", ".md", ".html", RUN_MARK))
        if not told or file.startswith("data/own/t"):
            assert whole[file] == killed[file], file
    if name == "run":
        one, other = (
            json.loads(each["adapters/own/evaluation.json"])["cases"] for each in (whole, killed)
        )
        assert one == other


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
