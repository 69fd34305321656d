"""`livery verify` on tiny models in the real runtimes, and the adapters that it must refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("peft")
pytest.importorskip("mlx_lm")

from safetensors.numpy import load_file, save_file

from convert.convert import convert
from convert.gguf.file import write_gguf
from convert.verify import verify as verifying
from livery import cli
from livery.engines import parity
from livery.engines.parity import Logits
from livery.errors import UserError
from livery.gguf_base import architectures
from livery.gguf_reader import open_gguf
from tests import PATIENCE
from tests.convert import convert_cases as cases
from tests.convert.convert_cases import peft_adapter
from tests.tiny_models import tiny_model

pytestmark = cases.QUIET


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def llama(root: Path) -> Path:
    return tiny_model("llama", root)


@pytest.fixture(scope="module")
def peft(llama: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "peft"
    peft_adapter("llama", root, folder)
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run([str(a) for a in arguments])
        return code, *capfd.readouterr()

    return command


@pytest.fixture
def verified(run: Run) -> Callable[..., tuple[int, dict[str, Any]]]:
    def command(*arguments: object) -> tuple[int, dict[str, Any]]:
        code, out, _ = run("verify", *arguments, "--json")
        return code, json.loads(out)

    return command


@pytest.mark.slow
def test_a_peft_folder_agrees_everywhere(llama: Path, peft: Path, verified: Any):
    code, found = verified(peft, "--base", llama)
    assert (code, found["passed"], found["faults"]) == (0, True, [])
    assert found["reference"] == "torch"
    assert list(found["engines"]) == ["torch", "mlx", "llamacpp"]
    assert found["engines"]["torch"]["moved"] > 0.5
    for name in ("mlx", "llamacpp"):
        one = found["engines"][name]
        assert one["difference"] < one["tolerance"] == 1e-3
        assert one["converted"]
        assert one["argmax"] == 1.0
        assert 0 <= one["kl"] < 1e-6
        assert one["share_of_effect"] < 0.01


@pytest.mark.slow
def test_a_q_and_k_in_the_wrong_order_fail(
    llama: Path, peft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verified: Any
):
    """The negative control: the folder's PEFT half is right, its GGUF half is not permuted."""
    folder = tmp_path / "adapter"
    shutil.copytree(peft, folder)
    (folder / "gguf").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(architectures, "permute", lambda rows, heads: rows)
        convert(peft, folder / "gguf" / "adapter.gguf", "gguf", base=llama)
    code, found = verified(folder, "--base", llama, "--engines", "mlx,llamacpp")
    assert code == 1
    run = found["engines"]["llamacpp"]
    assert run["base_difference"] < 1e-3  # it is the adapter
    assert run["difference"] > 0.1
    assert not run["converted"]
    assert "with the adapter it differs" in found["faults"][0]


@pytest.mark.slow
def test_a_wrong_scale_fails(llama: Path, peft: Path, tmp_path: Path, run: Run):
    """Another negative control, and what a person reads of it."""
    right = tmp_path / "right.gguf"
    convert(peft, right, "gguf", base=llama)
    file = open_gguf(right)
    metadata = {**file.metadata, "adapter.lora.alpha": file.metadata["adapter.lora.alpha"] * 1.05}
    tensors = {name: file.read(name) for name in file.entries}
    folder = tmp_path / "adapter"
    shutil.copytree(peft, folder)
    wrong = folder / "gguf" / "adapter.gguf"
    write_gguf(wrong, metadata, tensors, dict.fromkeys(tensors, "float32"))
    code, table, said = run("verify", folder, "--base", llama, "--engines", "mlx,llamacpp")
    assert code == 1
    assert "  fails\n" in table
    assert "Failed: llamacpp: with the adapter it differs by" in said
    assert "mlx: converted for this from" in table


@pytest.mark.slow
def test_an_adapter_that_does_nothing_cannot_pass(
    llama: Path, peft: Path, tmp_path: Path, verified: Any
):
    folder = tmp_path / "idle"
    shutil.copytree(peft, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    idle = {n: np.zeros_like(w) if "lora_B" in n else w for n, w in weights.items()}
    save_file(idle, folder / "adapter_model.safetensors")
    code, found = verified(folder, "--base", llama, "--engines", "mlx,llamacpp")
    assert code == 1
    assert found["engines"]["mlx"]["moved"] == 0
    assert found["faults"][0].startswith("the adapter does nothing")


@pytest.mark.slow
def test_a_file_that_llama_cpp_refuses_fails_by_name(
    llama: Path, peft: Path, tmp_path: Path, verified: Any
):
    """A GGUF that llama.cpp refuses ends in that runtime's line, and the others still run."""
    folder = tmp_path / "adapter"
    shutil.copytree(peft, folder)
    (folder / "gguf").mkdir()
    (folder / "gguf" / "adapter.gguf").write_bytes(b"GGUF and nothing else")
    code, found = verified(folder, "--base", llama, "--engines", "mlx,llamacpp")
    assert code == 1
    assert found["engines"]["mlx"]["passed"]
    assert "adapter.gguf" in found["engines"]["llamacpp"]["fault"]


@pytest.mark.slow
def test_a_gguf_file_alone_and_a_gelu_base(root: Path, tmp_path: Path, verified: Any):
    base = tiny_model("gemma2", root)
    peft_adapter("gemma2", root, tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "half.gguf", "gguf", base=base, dtype="float16")
    given = (tmp_path / "half.gguf", "--base", base, "--engines", "mlx,llamacpp")
    code, found = verified(*given)
    assert code == 0, found
    runs = found["engines"]
    assert not runs["llamacpp"]["converted"]
    assert runs["llamacpp"]["tolerance"] == 5e-2
    assert runs["mlx"]["converted"]


@pytest.mark.slow
def test_dora_is_compared_where_it_can_run(
    root: Path, llama: Path, tmp_path: Path, run: Run, verified: Any
):
    peft_adapter("llama", root, tmp_path / "peft", use_dora=True)
    code, found = verified(tmp_path / "peft", "--base", llama)
    assert code == 0, found
    assert list(found["engines"]) == ["torch", "mlx"]
    assert "DoRA has no GGUF form" in found["left_out"]["llamacpp"]
    code, _, said = run("verify", tmp_path / "peft", "--base", llama, "--engines", "mlx,llamacpp")
    assert code == 1
    assert "DoRA has no GGUF form" in said


def test_what_is_not_there_is_said(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
):
    with pytest.raises(UserError, match="no such file or folder"):
        verifying.verify(tmp_path / "nowhere", str(llama), engines=["torch", "mlx"])
    code, _, said = run("verify", tmp_path, "--base", llama, "--engines", "tf")
    assert code == 2
    assert "is not one of torch" in said
    needs = dict.fromkeys(verifying.ENGINES, (("surely_not_installed",), "cuda"))
    monkeypatch.setattr(verifying, "NEEDS", needs)
    with pytest.raises(UserError, match="takes at least two of"):
        verifying.verify(tmp_path, str(llama))
    with pytest.raises(UserError, match="mlx needs surely_not_installed"):
        verifying.verify(tmp_path, str(llama), engines=["mlx", "llamacpp"])


@pytest.mark.slow
def test_convert_can_end_with_it(
    llama: Path, peft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
):
    arguments = ["--to", "gguf", "--verify", "--base", llama]
    assert run("convert", peft, tmp_path / "a.gguf", *arguments[:3])[0] == 2  # --base is missing
    monkeypatch.setattr(verifying, "ENGINES", ("mlx", "llamacpp"))
    code, out, _ = run("convert", peft, tmp_path / "a.gguf", *arguments, "--json")
    report = json.loads(out)
    assert (code, report["verify"]["passed"]) == (0, True)
    runs = report["verify"]["engines"]
    assert runs["llamacpp"]["artefact"] == str(tmp_path / "a.gguf")
    assert [run["converted"] for run in runs.values()] == [True, False]
    # Faulty code would convert base and adapter wrongly alike: the base shows it.
    monkeypatch.setattr(architectures, "permute", lambda rows, heads: rows)
    code, table, said = run("convert", peft, tmp_path / "b.gguf", *arguments)
    assert code == 1
    assert "peft → gguf" in table
    assert "it is the base that differs, not the adapter" in said


@pytest.mark.slow
def test_another_base_is_told_from_another_adapter(root: Path, tmp_path: Path):
    """mlx-lm's gemma2 has no sliding window, so beyond it the base is another one."""
    base = tiny_model("gemma2", root, sliding_window=8)
    peft_adapter("gemma2", root, tmp_path / "peft", target_modules=["q_proj"])
    verdict = verifying.verify(tmp_path / "peft", str(base), engines=["torch", "mlx"])
    assert (verdict.passed, verdict.other_bases) == (False, ["mlx"])
    (fault,) = verdict.faults()
    assert fault.startswith("mlx: it is the base that differs, not the adapter: without one")
    known = verdict.as_dict()
    assert known["bases_agree"] is False
    assert known["engines"]["mlx"]["base_difference"] > 0.1
    assert known["engines"]["torch"]["base_difference"] is None


def test_comparison_of_logits():
    rng = np.random.default_rng(0)
    base, tuned = rng.normal(size=(2, 5, 40))
    reference = Logits(base, tuned)
    same = parity.compare(reference, Logits(base + 3, tuned - 2), 1e-3)  # constants mean nothing
    assert (same.fault, same.argmax) == (None, 1.0)
    assert same.tuned < 1e-12
    assert same.wanted == same.moved == parity.moved(reference)
    wider = Logits(np.pad(base, ((0, 0), (0, 9))), np.pad(tuned, ((0, 0), (0, 9))))
    assert parity.compare(reference, wider, 1e-3).fault is None
    off = tuned.copy()
    off[3, 7] += 0.01
    assert "with the adapter" in str(parity.compare(reference, Logits(base, off), 1e-3).fault)
    assert parity.compare(reference, Logits(base, off), 2e-2).fault is None
    assert "base alone" in str(parity.compare(reference, Logits(off, tuned), 1e-3).fault)
    assert "nothing there" in str(parity.compare(reference, Logits(base, base), 9.0).fault)
    faint = Logits(base, base + 1e-2 * (tuned - base))
    noisy = Logits(base, faint.tuned + rng.normal(size=tuned.shape) * 1e-2)
    assert "told apart" in str(parity.compare(faint, noisy, 9.0).fault)
    assert "finite" in str(parity.compare(reference, Logits(base, base * np.nan), 1e-3).fault)
    known = np.log([[0.5, 0.5], [0.9, 0.1]])
    other = np.log([[0.25, 0.75], [0.9, 0.1]])
    found = parity.compare(Logits(known, known), Logits(other, other), 9.0)
    assert abs(found.kl - 0.5 * np.log(4 / 3)) < 1e-12
    assert found.argmax == 0.5 or found.argmax == 1.0  # a tie in the reference


def test_tolerances_are_those_of_the_formats_document():
    assert parity.tolerance("silu") == 1e-3
    assert parity.tolerance("gelu_pytorch_tanh") == 2e-2
    assert parity.tolerance("silu", "float16") == 0.05
    assert parity.tolerance("gelu", "q8_0") == 0.7


@pytest.mark.slow
def test_training_can_end_with_it(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch, run: Run
):
    monkeypatch.setattr(verifying, "ENGINES", ("mlx", "llamacpp"))
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"turn {n}"},
                {"role": "assistant", "content": w},
            ]
        }
        for n, w in enumerate("on off up down left right".split())
    ]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    where = ["--model", llama, "--data", data, "--output-dir", out]
    how = ["--max-steps", 2, "--warmup-steps", 0, "--backend", "mlx", "--verify", "--json"]
    code, told, said = run("train", *where, *how)
    assert code == 0, said
    found = json.loads(told)["verify"]
    assert found["passed"]
    assert {name: run["converted"] for name, run in found["engines"].items()} == {
        "mlx": False, "llamacpp": False,
    }  # fmt: skip


@pytest.mark.slow
def test_the_program_prints_nothing_else_with_json(llama: Path, peft: Path):
    """The children's own output must not reach ours."""
    ended = subprocess.run(
        [sys.executable, "-m", "livery", "verify", str(peft), "--base", str(llama),
         "--engines", "mlx,llamacpp", "--json"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    found = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert found["reference"] == "mlx"


@pytest.mark.slow
def test_the_embedded_base(tmp_path: Path, verified: Any):
    """On a base with trained weights, an adapter that moves it by little is still told apart."""
    from convert.adapters.formats import write_adapter
    from convert.base import load_base
    from livery.adapter import Adapter, Pair
    from livery.paths import HOME

    base = load_base(HOME / "base_model")
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(
            rng.normal(size=(4, shape[1])).astype(np.float32) * np.float32(0.02),
            rng.normal(size=(shape[0], 4)).astype(np.float32) * np.float32(0.02),
            8.0,
        )
        for module, shape in base.shapes.items()
        if "_proj" in module
    }
    adapter = Adapter(pairs, base_model="base_model", model_type=base.model_type)
    write_adapter(adapter, tmp_path / "peft", "peft", base=base)
    given = (tmp_path / "peft", "--base", "base_model", "--engines", "mlx,llamacpp")
    code, found = verified(*given)
    assert code == 0, found
    assert found["engines"]["mlx"]["moved"] > 100 * found["engines"]["llamacpp"]["difference"]
