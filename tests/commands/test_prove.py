"""`livery doctor --prove`: every end of a check is a line, and the report gives nobody away."""

from __future__ import annotations

import getpass
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.prove import report
from commands.prove import run as prove_run
from commands.prove import show as prove_show
from commands.prove.checks import CHECKS, Check
from commands.prove.outcome import Outcome
from commands.prove.run import Result, prove
from commands.prove.show import show
from livery.errors import UserError
from tests import PATIENCE, ROOT


def made(name: str, limit: float = 60) -> Check:
    return Check(name, f"what {name} says", f"tests.commands.prove_checks:{name}", limit)


@pytest.mark.slow
def test_every_end_of_a_check_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEFT", str(tmp_path))

    def used(session: int, before: float) -> float:
        """As of a check that works until it has started what it leaves, and then does nothing."""
        return before if (tmp_path / "child").exists() else before + 1e-9

    monkeypatch.setattr(prove_run, "_processor_seconds", used)
    monkeypatch.setattr(prove_run, "_STILL", 1.0)
    monkeypatch.setattr(prove_run, "BUSY", PATIENCE)
    names = ("holds", "crashes", "leaves", "raises", "skips")
    told: list[str] = []
    checks = [made("hangs", limit=1), *map(made, names), Check("x", "gone", "no.such:thing", 60)]
    found = prove(checks=checks, tell=lambda result, done, total: told.append(f"{done}/{total}"))
    said = {result.check.name: result.outcome for result in found}
    assert told == [f"{n}/7" for n in range(1, 8)]
    assert said["holds"] == Outcome("proven", "it holds", {"figure": 1.235})
    assert said["skips"] == Outcome("skipped", "there is no card here")
    assert said["hangs"].said.startswith("it did not end within ")
    assert said["crashes"].said.startswith("its process ended by SIGSEGV: ")
    assert said["leaves"].said == "its process ended with exit code 1: the driver is too old"
    assert said["raises"].said == "RuntimeError: CUDA error: no kernel image"
    assert said["x"].said.startswith("ModuleNotFoundError: ")
    assert {said[name].verdict for name in ("hangs", "crashes", "leaves", "raises", "x")} == {
        "failed"
    }
    # What the hanging check had started is gone with it.
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + PATIENCE
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


@pytest.mark.slow
def test_on_a_busy_machine_a_check_takes_its_time_and_one_that_spins_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prove_run, "BUSY", 1000.0)  # of this machine, however busy it is
    crawls, spins = prove(checks=[made("crawls", limit=4), made("spins", limit=2)])
    assert crawls.outcome == Outcome("proven", "it took its time")
    assert crawls.seconds > 5, "over its limit"
    assert spins.outcome.said.startswith("it did not end within ")
    assert spins.outcome.verdict == "failed"


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_no_time_is_left_for_is_skipped_and_said() -> None:
    (found,) = prove(checks=[made("holds")], room=1.0)
    assert found.outcome == Outcome("skipped", "no time was left of the 1.0 s for all checks")


def test_what_was_not_reached_is_named_with_how_busy_the_machine_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prove_show, "prove", lambda only, tell: prove(["flex"], room=1.0))
    monkeypatch.setattr(os, "getloadavg", lambda: (7.25, 1.0, 1.0))
    assert prove_show.show(tmp_path, [], as_json=False) == 0
    seen = capsys.readouterr()
    assert "load 7.2 at the start" in seen.out
    assert "No time was left for 1 check: " in seen.err
    assert "run the rest: --only flex\n" in seen.err


def test_ended_by_sigterm_it_takes_its_check_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is a session of its own, and `prove` ends it on every way out."""
    ended: list[int] = []
    real = prove_run._end  # pyright: ignore[reportPrivateUsage]

    def end(process: subprocess.Popen[bytes]) -> None:
        real(process)
        ended.append(process.pid)

    def wait(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)  # which the signal cuts short

    monkeypatch.setattr(prove_run, "_end", end)
    monkeypatch.setattr(prove_run, "_wait", wait)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        show(tmp_path, ["flex"], as_json=False)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert len(ended) == 1
    assert not alive(ended[0])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_one_that_is_cut_short_of_its_own_limit_is_skipped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It failed at nothing. By a clock that is six times as fast as ours."""
    clock = SimpleNamespace(monotonic=lambda: 6 * time.monotonic())
    monkeypatch.setattr(prove_run, "time", clock)
    (found,) = prove(checks=[made("sleeps")], room=6.0)
    assert found.outcome == Outcome("skipped", "no time was left of the 6.0 s for all checks")


def test_an_unknown_check_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"--only fox: no such check; there are torch-tree, "):
        prove(["fox"])


def test_all_checks_fit_into_ten_minutes_where_none_hangs() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(0 < check.limit <= 150 for check in CHECKS)


PRIVATE = (f"/home/fox/x.py {Path.cwd()} {Path.home()} {sys.prefix} C:\\Users\\fox\\x "
           f"{platform.node()} ~/secret/place on {getpass.getuser()}'s")  # fmt: skip


def test_the_report_names_no_path_host_or_user(tmp_path: Path) -> None:
    check = Check("a", "b", "c:d", 1)
    found = report.as_dict([Result(check, Outcome("failed", PRIVATE), 1.0)], 2.0)
    report.write(found, tmp_path)
    text = (tmp_path / "proof.md").read_text() + (tmp_path / "proof.json").read_text()
    hidden = (str(Path.cwd()), str(Path.home()) + "/", sys.prefix, "fox", "secret", platform.node())
    assert [word for word in hidden if word in text] == []
    assert getpass.getuser() not in report.clean(f"by {getpass.getuser()}.")
    assert json.loads((tmp_path / "proof.json").read_text())["counts"]["failed"] == 1
    # What is no path stays.
    kept = "1.5 tokens/s, 3/4 of it; https://example.org/a/b, bf16/float32, ||a - b|| / ||b||"
    assert report.clean(kept) == kept


@pytest.mark.slow
@given(st.lists(st.sampled_from(["a", "b c", "ü", "x.py", "1", "-"]), min_size=2, max_size=5))
def test_paths_of_any_depth_are_hidden(parts: list[str]) -> None:
    path = "/" + "/".join(part.replace(" ", "_") for part in parts)
    assert report.clean(f"in {path}: no") == "in PATH: no"


def test_lora_written_here_is_pefts_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PEFT the layers here stand in: outputs and gradients are the same."""
    pytest.importorskip("peft")
    import torch

    from commands.prove import model as proof

    cpu, found = torch.device("cpu"), []
    for with_peft in (True, False):
        if not with_peft:
            monkeypatch.setattr(proof.importlib.util, "find_spec", lambda name: None)
        loss = proof.adapted(proof.make_model(proof.TINY), cpu, "float32")
        found.append((loss.flat.names, proof.gradient(loss, proof.make_batch(proof.TINY), "tree")))
    (names, wanted), (own_names, got) = found
    assert own_names == names
    assert float(wanted.norm()) > 0
    assert proof.compare(got, wanted).share < 1e-6


@pytest.mark.slow
def test_a_wrong_mask_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check could fail: rows that see each other are found out."""
    pytest.importorskip("transformers")
    import torch

    from commands.prove import gradients
    from cuda_train import tree

    assert gradients.tree(tmp_path).verdict == "proven"

    def causal(laid: tree.Tree, window: int | None) -> torch.Tensor:
        count = len(laid.branch)
        return torch.ones(count, count, dtype=torch.bool).tril()[None, None]

    monkeypatch.setattr(tree, "tree_mask", causal)
    assert gradients.tree(tmp_path).verdict == "failed"


BLOCKER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"peft", "bitsandbytes", "trl", "click", "gguf", "llguidance"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
sys.meta_path.insert(0, Missing())
before = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return before(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_bare_checkout_proves_what_it_can_and_names_what_is_missing(tmp_path: Path) -> None:
    """scripts/prove.sh from elsewhere, without PEFT, bitsandbytes, TRL and click."""
    pytest.importorskip("transformers")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BLOCKER)
    only = ("torch-tree", "torch-bf16", "adamw-8bit", "memory", "flex")
    flags = [part for name in only for part in ("--only", name)]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "bare")}
    done = subprocess.run(
        [str(ROOT / "scripts" / "prove.sh"), "--json", *flags],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    checks = {check["name"]: (check["verdict"], check["said"]) for check in found["checks"]}
    assert list(checks) == ["torch-tree", "torch-bf16", "adamw-8bit", "flex", "memory"]
    assert checks["torch-tree"][0] == checks["torch-bf16"][0] == "proven"
    assert checks["adamw-8bit"] == ("skipped", "bitsandbytes is not installed")
    assert checks["memory"] == ("skipped", "peft is not installed")
    assert str(tmp_path) not in done.stdout
    assert "| proven |" in (tmp_path / "proof.md").read_text()


@pytest.mark.slow
def test_the_command_proves_with_everything_there(tmp_path: Path) -> None:
    for name in ("peft", "bitsandbytes", "mlx"):
        pytest.importorskip(name)
    names = ("torch-cache", "torch-nf4", "two-ranks", "mlx-shared")
    flags = [part for name in names for part in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "livery", "doctor", "--prove", "--out", str(tmp_path), *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 proven, 0 failed, 0 skipped" in done.stdout
    assert json.loads((tmp_path / "proof.json").read_text())["counts"]["proven"] == 4


def test_only_and_out_belong_to_prove(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from commands.doctor import doctor

    assert CliRunner().invoke(doctor, ["--only", "flex"]).exit_code == 2
    with pytest.raises(UserError, match="there is no such folder"):
        show(tmp_path / "none", (), as_json=False)
