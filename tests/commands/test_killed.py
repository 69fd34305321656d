"""kill -9 in the middle of a command: nothing is lost, and the same line goes on and cleans up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.make import make_data
from livery import temporary
from tests import PATIENCE, ROOT, hostile, runs
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
# Words -> the changes of files at which they die, one after the other, and what they need.
LINES = {
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
    "data": ("data date-keys --out PLACE/data --count 200", [1, 3, 5, 8, 11], ""),
    "data over others": ("data date-keys --out PLACE/data --count 30", [*range(3, 16)], ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    made = hostile.make(root)
    make_data("date-keys", root / "keys", 7, 30)
    runs.write_data(root / "trained on", rows=8)
    return {
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

    def ended(place: Path, kills: list[int]) -> list[int]:
        place.mkdir()
        if name == "data over others":
            make_data("date-keys", place / "data", 8, 20)
        known = {**inputs, "PLACE": place}
        words = [
            next((word.replace(key, str(path)) for key, path in known.items() if key in word), word)
            for word in line.split()
        ]
        command = [sys.executable, "-m", "tests.commands.killing", str(place), json.dumps(kills)]
        done = subprocess.run(
            [*command, modules, *words],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found[-1] == 0, done.stderr
        assert set(found) <= {0, -9}, done.stderr
        return found

    assert ended(tmp_path / "whole", []) == [0]
    assert ended(tmp_path / "killed", kills).count(-9) >= 3
    assert not temporary.find_below(tmp_path)
    whole, killed = (everything(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for file in whole:
        if not file.endswith((".json", ".jsonl", ".md")):  # which tell of times and folders
            assert whole[file] == killed[file], file


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
