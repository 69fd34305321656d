"""Whether a new adapter takes the place of an old one, and that either is always there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval import versions
from eval.cases import CaseResult
from eval.promotion import judge, places
from eval.stats import comparison
from livery import cli
from livery.errors import UserError
from livery.paths import python_path
from livery.skills import CORRECT, PARSED, Metric

SAFE = Metric("kept", "Kept.", safety=True)
BAD = Metric("leaks", "Leaks.", better="lower", safety=True)


def results(correct: str, kept: str, leaks: str) -> list[CaseResult]:
    """One a case, by strings of 1 and 0."""
    return [
        CaseResult(
            str(at), "c", c == "1", True, "", "", metrics={"kept": k == "1", "leaks": one == "1"}
        )
        for at, (c, k, one) in enumerate(zip(correct, kept, leaks, strict=True))
    ]


def verdict(old: tuple[str, str, str], new: tuple[str, str, str]) -> tuple[bool, str]:
    compared = {
        metric.name: comparison(metric, results(*old), results(*new))
        for metric in (CORRECT, PARSED, SAFE, BAD)
    }
    better, reasons = judge(compared, [PARSED, SAFE, BAD])
    return better, "; ".join(reasons)


def test_better_is_what_chance_does_not_explain() -> None:
    ones, none = "1" * 10, "0" * 10
    same = (ones, none)
    assert verdict(("0000011111", *same), (ones, *same)) == (
        True,
        "50.0% of 10 cases right before and 100.0% after; 5 gained, 0 lost, p = 0.031",
    )
    better, why = verdict(("0000111111", *same), (ones, *same))  # four gained: p = 0.0625
    assert (better, why) == (
        False,
        "it is not shown to be better: 60.0% of 10 cases right before and 100.0% after; 4 gained, "
        "0 lost, p = 0.062 (below 0.05 is asked for)",
    )
    assert verdict((ones, *same), (ones, *same))[0] is False
    assert "it is worse: 100.0%" in verdict((ones, *same), ("0000001111", *same))[1]


def test_a_safety_metric_must_not_get_worse_by_one_case() -> None:
    ones, none = "1" * 10, "0" * 10
    better, why = verdict((none, ones, none), (ones, "0" + ones[1:], none))
    assert (better, why) == (
        False,
        "kept got worse: from 100.0% to 90.0% of 10 cases (higher is better, and it must not get "
        "worse)",
    )
    assert (
        "leaks got worse: from 0.0%" in verdict((none, ones, none), (ones, ones, "1" + none[1:]))[1]
    )
    assert verdict((none, "0" * 10, ones), (ones, ones, none))[0]


def adapter(folder: Path, name: str) -> Path:
    (folder / "mlx").mkdir(parents=True)
    (folder / "adapters.safetensors").write_text(name, encoding="utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "big").write_text(name, encoding="utf-8")
    return folder


def name_of(folder: Path) -> str:
    return (folder / "adapters.safetensors").read_text(encoding="utf-8")


@pytest.mark.parametrize("exchanging", [True, False])
def test_put_and_rolled_back(
    exchanging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(versions, "_exchange", lambda one, other: errno.EINVAL)
    current = adapter(tmp_path / "persona", "one")
    for name in ("two", "three"):
        versions.put(adapter(tmp_path / name, name), current, {"p": 0.01})
    kept = tmp_path / "persona.kept"
    assert (name_of(current), name_of(kept / "0001"), name_of(kept / "0002")) == (
        "three", "one", "two",
    )  # fmt: skip
    assert not (current / "checkpoints").exists()
    assert (kept / "0001" / "checkpoints" / "big").is_file()  # of what was kept nothing is lost
    record = json.loads((current / versions.RECORD).read_text())
    assert (record["replaced"], record["figures"]) == ("0002", {"p": 0.01})

    assert versions.roll_back(current) == kept / "0002"
    assert (name_of(current), name_of(kept / "0002")) == ("two", "three")
    assert cli.run(["promote", "--roll-back", str(current)]) == 0
    assert (name_of(current), name_of(kept / "0001")) == ("one", "two")
    with pytest.raises(UserError, match="is not a promoted adapter"):
        versions.roll_back(current)
    versions.put(kept / "0002", current, {})
    assert (name_of(current), name_of(kept / "0003")) == ("three", "one")


@pytest.mark.parametrize("renames", [1, 2])
@pytest.mark.parametrize("back", [False, True])
def test_a_kill_between_renames_is_mended(
    back: bool, renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders cannot be exchanged, a kill may leave one set aside."""
    monkeypatch.setattr(versions, "_exchange", lambda one, other: errno.ENOSYS)
    current = adapter(tmp_path / "persona", "old")
    new, newer = adapter(tmp_path / "new", "new"), adapter(tmp_path / "newer", "newer")
    if back:
        versions.put(new, current, {})
    rename, done = Path.rename, list[Path]()

    def killed(self: Path, target: Path) -> None:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.roll_back(current) if back else versions.put(new, current, {})
    aside, kept = done[0], tmp_path / "persona.kept"
    assert aside.is_dir()
    versions.put(newer, current, {})
    assert name_of(current) == "newer"
    assert not aside.exists()
    assert sorted(map(name_of, kept.glob("0*"))) == ["new", "old"]


def test_a_reader_always_finds_an_adapter(tmp_path: Path) -> None:
    current = adapter(tmp_path / "persona", "one")
    other = adapter(tmp_path / "other", "two")
    code = (
        "import sys, pathlib\n"
        "from eval.versions import exchange\n"
        "one, other = map(pathlib.Path, sys.argv[1:])\n"
        "print('going', flush=True)\n"
        "for _ in range(2001): exchange(one, other)\n"
    )
    if versions._exchange(current, other):  # pyright: ignore[reportPrivateUsage]
        pytest.skip("folders of this file system cannot be exchanged")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(current), str(other)], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"going\n"
    seen = set[str]()
    while process.poll() is None:
        seen.add(name_of(current))  # raises where there is none
    assert process.returncode == 0
    assert seen <= {"one", "two"}
    assert name_of(current) == "one"


def test_what_is_no_adapter_replaces_nothing(tmp_path: Path) -> None:
    current = adapter(tmp_path / "a", "one")
    (tmp_path / "empty").mkdir()
    for new, said in (
        ("gone", "no such adapter folder"), ("empty", "no adapter's weights"),
        ("a", "must be two folders"), ("a/mlx", "no adapter's weights"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            places(tmp_path / new, current)
        assert cli.run(["promote", "persona", str(tmp_path / new), "--over", str(current)]) == 1
    assert cli.run(["promote", "persona"]) == 2
    assert cli.run(["promote", "--roll-back", str(current)]) == 1
