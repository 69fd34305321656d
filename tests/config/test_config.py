"""Where settings come from, which layer wins, and what each value says of its source."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from livery.config.layers import Config, resolve
from livery.config.settings import OPTIONS, LoraSettings, TrainSettings
from livery.config.values import Variables
from livery.errors import UserError
from livery.paths import HOME


def configured(
    tmp_path: Path, text: str = "", flags: dict[str, Any] | None = None, **environment: str
) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return resolve(flags, file=file, environment=environment)


def test_every_setting_has_an_option_and_a_source() -> None:
    fields = {f.name for f in dataclasses.fields(TrainSettings)} - {"lora"}
    fields |= {f"lora.{f.name}" for f in dataclasses.fields(LoraSettings)}
    views = {"lora.scale", "iters", "load_in_4bit", "load_in_8bit", "bf16"}
    assert {option.name for option in OPTIONS} == fields | views
    assert set(resolve(environment={}).values) == fields


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert config.settings == TrainSettings()
    assert {value.source for value in config.values.values()} == {"default"}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "seed: 1\nbatch_size: 2\nlearning_rate: 1e-5\n"
    config = configured(tmp_path, text, {"seed": 3}, LIVERY_SEED="2", LIVERY_BATCH_SIZE="4")
    file = tmp_path / "c.yaml"
    settings = config.settings
    assert (settings.seed, settings.batch_size, settings.learning_rate) == (3, 4, 1e-5)
    assert config.values["seed"].source == "flag --seed"
    assert config.values["batch_size"].source == "environment LIVERY_BATCH_SIZE"
    assert config.values["learning_rate"].source == f"{file}:3"
    assert config.values["epochs"].source == "default"


def test_our_own_file_resolves_without_a_note_worth_reading() -> None:
    config = resolve(file=HOME / "mlx_config.yaml", environment={})
    assert config.notes == ()
    assert config.settings.max_steps == 1400
    assert config.settings.lora == LoraSettings(rank=64, alpha=128.0)
    assert config.settings.learning_rate == 1.4e-3


def test_the_working_folders_file_comes_before_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(environment={}).file == HOME / "mlx_config.yaml"
    assert resolve({"model": "base_model"}, environment={}).file == HOME / "mlx_config.yaml"
    (tmp_path / "mlx_config.yaml").write_text("seed: 9\n", encoding="utf-8")
    assert resolve(environment={}).settings.seed == 9


def test_the_packaged_file_is_for_the_embedded_base_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rank and learning rate are what that small base needs, and no other model."""
    monkeypatch.chdir(tmp_path)
    for found in (
        resolve({"model": "someone/else"}, environment={}),
        resolve(environment={"LIVERY_MODEL": "someone/else"}),
    ):
        assert found.file is None
        assert found.settings.model == "someone/else"
        assert found.settings.learning_rate == TrainSettings().learning_rate
    monkeypatch.chdir(HOME)  # where the file is the working folder's, and fits that base as little
    assert resolve({"model": "someone/else"}, environment={}).settings.max_steps is None


def test_the_embedded_base_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(environment={}).settings.model == str(HOME / "base_model")
    (tmp_path / "base_model").mkdir()
    assert resolve(environment={}).settings.model == "base_model"


# -- rank, alpha, scale ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "flags", "rank", "alpha"),
    [
        ("rank: 8, alpha: 16", {}, 8, 16.0),
        ("rank: 8, scale: 20.0", {}, 8, 160.0),
        ("rank: 8, alpha: 16, scale: 2.0", {}, 8, 16.0),
        # alpha stays where only the rank changes, as in PEFT ...
        ("rank: 8, alpha: 16", {"lora.rank": 4}, 4, 16.0),
        ("rank: 8, alpha: 16, scale: 2.0", {"lora.rank": 4}, 4, 16.0),
        # ... and the scale, where that is all that was given, as in mlx-lm
        ("rank: 8, scale: 2.0", {"lora.rank": 4}, 4, 8.0),
        # a later layer's word replaces an earlier layer's
        ("rank: 8, scale: 2.0", {"lora.alpha": 8.0}, 8, 8.0),
        ("rank: 8, alpha: 16", {"lora.scale": 1.0}, 8, 8.0),
        ("rank: 4, alpha: 8, rslora: true, scale: 4.0", {}, 4, 8.0),
        ("rank: 4, scale: 4.0, rslora: true", {}, 4, 8.0),
    ],
)
def test_any_two_of_rank_alpha_and_scale_settle_the_third(
    tmp_path: Path, lora: str, flags: dict[str, Any], rank: int, alpha: float
) -> None:
    settings = configured(tmp_path, f"lora_parameters: {{{lora}}}", flags).settings.lora
    assert (settings.rank, settings.alpha) == (rank, alpha)


@pytest.mark.parametrize("wrong", ["alpha: 32, scale: 20.0", "alpha: 16, scale: 2.0, rslora: true"])
def test_rank_alpha_and_scale_that_contradict_each_other_are_an_error(
    tmp_path: Path, wrong: str
) -> None:
    with pytest.raises(UserError, match=r"c\.yaml:1: .*scale is .* but alpha / .*Correct one"):
        configured(tmp_path, f"lora_parameters: {{rank: 8, {wrong}}}")


# -- length ------------------------------------------------------------------------------------


def test_iters_count_micro_batches(tmp_path: Path) -> None:
    config = configured(tmp_path, "iters: 1000\ngrad_accumulation_steps: 3\n")
    assert config.settings.max_steps == 334
    # ... and accumulation from a later layer counts too.
    config = configured(tmp_path, "iters: 1000\n", {"grad_accum": 4})
    assert config.settings.max_steps == 250


def test_a_later_word_on_the_length_replaces_an_earlier_one(tmp_path: Path) -> None:
    by_epochs = configured(tmp_path, "iters: 600\n", {"epochs": 2.0}).settings
    assert (by_epochs.max_steps, by_epochs.epochs) == (None, 2.0)
    by_steps = configured(tmp_path, "epochs: 5\n", {"max_steps": 7}).settings
    assert by_steps.max_steps == 7
    assert configured(tmp_path, "iters: 600\n", {"max_steps": 7}).settings.max_steps == 7


def test_steps_and_epochs_of_one_layer(tmp_path: Path) -> None:
    config = configured(tmp_path, "max_steps: 10\nepochs: 3\n")
    assert config.settings.max_steps == 10
    assert any("epochs is not used" in note for note in config.notes)
    with pytest.raises(UserError, match="comes to 20 steps"):
        configured(tmp_path, "max_steps: 10\niters: 20\n")


# -- the environment ---------------------------------------------------------------------------


def test_the_older_variables_work(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        JARVIS_MODEL_NAME="some/model",
        JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT="true",
        JARVIS_ADAPTER_TRAIN_DEVICE_MAP='{"": "mps"}',
    )
    assert config.settings.model == "some/model"
    assert config.settings.quantize == 4
    assert config.values["quantize"].source.startswith("environment JARVIS_DATE_ADAPTER")
    assert config.settings.device == '{"": "mps"}'
    off = configured(tmp_path, "quantize: 8", JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT="false")
    assert off.settings.quantize is None


def test_the_state_trainers_variables_work(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        AIOS_FT_DATA="rows",
        AIOS_FT_MODEL="some/model",
        AIOS_FT_ADAPTER_DIR="out",
        AIOS_FT_RESUME_ADAPTER="old",
        AIOS_FT_RUN_NAME="first",
        AIOS_FT_RUN_DIR="runs/first",
        AIOS_FT_MODELL="x",
    )
    found = config.settings
    assert (found.data, found.model, found.output_dir) == ("rows", "some/model", "out")
    assert found.init_adapter == "old"
    assert config.values["data"].source == "environment AIOS_FT_DATA"
    notes = " ".join(config.notes)
    assert "AIOS_FT_RUN_NAME: not used; a run has the name of its folder" in notes
    assert "AIOS_FT_RUN_DIR: not used" in notes
    assert "AIOS_FT_MODELL: no setting of that name; did you mean AIOS_FT_MODEL?" in notes
    empty = configured(tmp_path, AIOS_FT_RESUME_ADAPTER="", AIOS_FT_RUN_NAME="")
    assert empty.settings.init_adapter is None
    assert not any("AIOS" in note for note in empty.notes)


def test_variables_that_disagree_or_are_unknown_or_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LIVERY_MODEL.*JARVIS_MODEL_NAME"):
        configured(tmp_path, LIVERY_MODEL="a", JARVIS_MODEL_NAME="b")
    with pytest.raises(UserError, match="environment LIVERY_SEED: 'x' is not a whole number"):
        configured(tmp_path, LIVERY_SEED="x")
    notes = configured(tmp_path, LIVERY_BATCHSIZE="4").notes
    assert any("did you mean LIVERY_BATCH_SIZE" in note for note in notes)
    assert configured(tmp_path, LIVERY_SEED="").settings.seed == 0  # set to nothing is not set


def test_optimizers_that_are_another_name_are_said_aloud(tmp_path: Path) -> None:
    config = configured(tmp_path, "optimizer: adam\n", {"weight_decay": None})
    assert config.settings.optimizer == "adamw"
    assert any("adam is read as adamw" in note for note in config.notes)
    assert configured(tmp_path, flags={"optimizer": "adamw_8bit"}).settings.optimizer == (
        "adamw_8bit"
    )
    with pytest.raises(UserError, match="no decoupled weight decay"):
        configured(tmp_path, "optimizer: adam\nweight_decay: 0.1\n")


def test_mlx_lms_weights_file_names_its_folder(tmp_path: Path) -> None:
    text = "resume_adapter_file: old/adapters.safetensors\n"
    assert configured(tmp_path, text).settings.init_adapter == "old"
    with pytest.raises(UserError, match="name the adapter's folder"):
        configured(tmp_path, "resume_adapter_file: old/0000100_adapters.safetensors\n")


def test_the_templates_variables_come_from_file_and_flag_and_record(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "chat_template_kwargs:\n  enable_thinking: false\n  effort: low\n"
        "template_date: 2024-07-26\n"
    )
    found = resolve(file=path, environment={}).settings
    assert found.chat_template_kwargs == {"enable_thinking": False, "effort": "low"}
    assert found.template_date == "2024-07-26"
    kwargs = Variables().read("enable_thinking=true,effort=high")
    assert kwargs == {"enable_thinking": True, "effort": "high"}
    flags = {"chat_template_kwargs": kwargs}
    assert resolve(flags, file=path, environment={}).settings.chat_template_kwargs == kwargs
    record = tmp_path / "run_config.json"
    record.write_text(json.dumps({"settings": found.as_dict()}))
    assert resolve({}, recorded=record).settings.template == found.template
    for wrong in ("[1]", "thinking", "{a: .nan}"):
        path.write_text(f"chat_template_kwargs: {wrong}\n")
        with pytest.raises(UserError, match=r"c\.yaml:1: chat_template_kwargs"):
            resolve(file=path, environment={})
    path.write_text("template_date: soon\n")
    with pytest.raises(UserError, match="not a date"):
        resolve(file=path, environment={})


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("warmup_steps", -1, "warmup_steps is -1; it must be at least 0."),
        ("learning_rate", 0, "learning_rate is 0; it must be above 0."),
        ("learning_rate", math.nan, "learning_rate is nan; it must be above 0."),
        ("val_split", 1.0, "val_split is 1.0; it must be at least 0 and below 1."),
        ("min_lr_ratio", 1.5, "min_lr_ratio is 1.5; it must be at least 0 and at most 1."),
        ("max_steps", 0, "max_steps is 0; it must be at least 1."),
        (
            "schedule",
            "cosin",
            "schedule is 'cosin'; choose one of: 'constant', 'linear', 'cosine'.",
        ),
        ("quantize", 7, "quantize is 7; choose one of: 2, 3, 4, 5, 6, 8, None."),
        ("columns", ("prompt",), "'prompt' is not of the form"),
        ("lora.rank", 0, "rank is 0; it must be at least 1."),
        ("lora.alpha", 0.0, "alpha is 0.0; it must be above 0."),
    ],
)
def test_python_is_held_to_the_declared_bounds(setting: str, value: Any, expected: str) -> None:
    made = LoraSettings if setting.startswith("lora.") else TrainSettings
    with pytest.raises(UserError, match=re.escape(expected)):
        made(**{setting.removeprefix("lora."): value})


def test_a_recorded_setting_of_any_length_is_named_in_a_line(tmp_path: Path) -> None:
    record = tmp_path / "run_config.json"
    record.write_text(json.dumps({"settings": {"x" * 3000: 1}}), encoding="utf-8")
    with pytest.raises(UserError, match="no such setting in this version") as told:
        resolve(recorded=record, environment={})
    assert len(str(told.value).replace(str(tmp_path), "")) < 500
