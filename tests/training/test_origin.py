"""What a run was made from: one record, old ones read, and told apart by what decides."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from commands import stages
from livery.config.settings import LoraSettings, TrainSettings
from livery.dataset.sources import digest, find
from livery.errors import UserError
from livery.files import write_json, write_jsonl
from livery.paths import MADE_FROM, METADATA
from livery.training import origin, run_folder
from livery.training.origin import base_digest
from tests.training.test_run_folder import base_folder

# What a version before this one recorded as settings, in its made_from.json.
OLDER = (
    "batch_size grad_accum learning_rate schedule warmup_steps min_lr_ratio weight_decay beta1 "
    "beta2 eps max_grad_norm max_length mask_prompt quantize share_prefix seed chat_template "
    "init_adapter epochs dtype keep"
).split()


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    rows = [{"prompt": "a", "completion": "b"}]
    write_jsonl(tmp_path / "data" / "train.jsonl", rows)
    write_jsonl(tmp_path / "data" / "valid.jsonl", rows)
    base = base_folder(tmp_path / "base")
    return TrainSettings(model=str(base), data=str(tmp_path / "data"), max_steps=5)


def test_an_adapter_is_of_its_settings_data_and_base(settings: TrainSettings) -> None:
    made = origin.of_adapter(settings)
    assert origin.read(json.loads(json.dumps(dataclasses.asdict(made)))) == made

    def changed(**changes: object) -> list[str]:
        return origin.of_adapter(dataclasses.replace(settings, **changes)).differences(made)

    assert changed(backend="torch", samples=9, steps_per_report=1, report_to=("wandb",)) == []
    assert changed(keep="last") == ["keep is 'last' and was 'best'"]
    assert changed(lora=LoraSettings(rank=4)) == ["lora.rank is 4 and was 16"]
    assert changed(max_steps=6) == ["total_steps is 6 and was 5"]
    write_jsonl(Path(settings.data) / "valid.jsonl", [{"prompt": "c", "completion": "d"}])
    assert [text[:17] for text in changed()] == ["the training data"]


def test_a_record_of_an_older_version_is_the_same_origin(settings: TrainSettings) -> None:
    lora = {f"lora.{key}": value for key, value in settings.as_dict()["lora"].items()}
    lora["lora.targets"] = list(lora["lora.targets"])
    splits = find(settings.data)
    record = {name: getattr(settings, name) for name in OLDER} | lora | {
        "total_steps": 5, "train": digest(splits.train), "valid": digest(splits.valid),
        "base": base_digest(settings.model),
    }  # fmt: skip
    before = origin.read(record)
    assert origin.of_adapter(settings, before.base).differences(before) == []
    # A setting that the record does not know had its default.
    other = origin.of_adapter(dataclasses.replace(settings, train_on="last"))
    assert other.differences(before) == ["train_on is 'last' and was 'all'"]
    assert origin.of_adapter(settings).differences(origin.read({**record, "train": "x"})) != []


def test_a_checkpoint_is_not_told_apart_by_what_changes_no_step(settings: TrainSettings) -> None:
    made = origin.of_steps(settings, 5, "d" * 64)
    freed = dataclasses.replace(settings, keep="last", epochs=1.0, dtype="float32")
    assert origin.of_steps(freed, 5, "d" * 64) == made
    seeded = dataclasses.replace(settings, seed=3)
    assert origin.of_steps(seeded, 5, "d" * 64).differences(made) == ["seed is 3 and was 0"]
    with pytest.raises(TypeError):
        origin.read({"settings": {}, "of": 1})


def test_livery_run_knows_its_own_adapter(settings: TrainSettings, tmp_path: Path) -> None:
    made = dataclasses.replace(settings, output_dir=str(tmp_path / "out"))
    folder = Path(made.output_dir)
    assert not stages.training_is_done(made)
    run_folder.write_run_config(folder, made, {})
    with pytest.raises(UserError, match="did not make"):
        stages.training_is_done(made)
    write_json(folder / MADE_FROM, dataclasses.asdict(origin.of_adapter(made)))
    assert not stages.training_is_done(made), "it was begun, not finished"
    write_json(folder / METADATA, {})
    assert stages.training_is_done(made)
    with pytest.raises(UserError, match=r"keep is 'last' and was 'best'.*--fresh"):
        stages.training_is_done(dataclasses.replace(made, keep="last"))
    write_json(folder / MADE_FROM, {"settings": {}, "made": "up"})
    with pytest.raises(UserError, match="not a record of what a run was made from"):
        stages.training_is_done(made)
