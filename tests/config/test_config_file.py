"""Configuration files: ours, mlx-lm's, and broken ones, each error with file, line and key."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from livery.config import file as config_file
from livery.config.layers import Config, resolve
from livery.config.settings import TrainSettings
from livery.errors import UserError
from tests import ROOT

# The keys and values of the example file that mlx-lm's documentation points to, at version 0.32.
MLX_LM_EXAMPLE = """\
model: "mlx_model"
train: true
fine_tune_type: lora
training_mode: normal
optimizer: adamw
optimizer_config:
  adamw:
    betas: [0.9, 0.98]
    eps: 1e-6
    weight_decay: 0.05
    bias_correction: true
data: "/path/to/training/data"
seed: 0
num_layers: 16
batch_size: 4
iters: 1000
val_batches: 25
learning_rate: 1e-5
steps_per_report: 10
steps_per_eval: 200
resume_adapter_file: null
adapter_path: "adapters"
save_every: 100
test: false
test_batches: 100
max_seq_length: 2048
grad_checkpoint: false
lora_parameters:
  keys: ["self_attn.q_proj", "self_attn.v_proj"]
  rank: 8
  scale: 20.0
  dropout: 0.0
lr_schedule:
  name: cosine_decay
  warmup: 100
  warmup_init: 1e-7
  arguments: [1e-5, 1000, 1e-7]
"""


def load(tmp_path: Path, text: str | bytes) -> Config:
    file = tmp_path / "c.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return resolve(file=file, environment={})


def message(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_mlx_lms_own_example_loads(tmp_path: Path) -> None:
    config = load(tmp_path, MLX_LM_EXAMPLE)
    settings = config.settings
    assert settings.lora.targets == ("self_attn.q_proj", "self_attn.v_proj")
    assert (settings.lora.rank, settings.lora.alpha, settings.lora.num_layers) == (8, 160.0, 16)
    assert (settings.learning_rate, settings.warmup_steps, settings.schedule) == (
        1e-5,
        100,
        "cosine",
    )
    assert settings.min_lr_ratio == pytest.approx(0.01)
    assert (settings.beta2, settings.eps, settings.weight_decay) == (0.98, 1e-6, 0.05)
    assert (settings.max_steps, settings.max_length) == (1000, 2048)
    aloud = "\n".join(config.notes)
    for key in ("val_batches", "warmup_init", "steps of decay", "test_batches"):
        assert key in aloud


# The training section of an older pipeline's config/defaults.json, whole.
DEFAULTS_JSON = """{
  "dataset_generation": {"seed": 11, "per_schema_queries": 60},
  "training": {
    "training_corpus": "outputs/d_05_training_corpus.jsonl",
    "output_dir": "outputs/student_runs/gemma3-270m",
    "base_model": "unsloth/gemma-3-270m-it",
    "seed": 3407, "max_samples": null, "max_seq_length": 32768, "batch_size": 4, "grad_accum": 4,
    "learning_rate": 5e-5, "weight_decay": 0.01, "warmup_steps": 50, "max_steps": 3000,
    "num_epochs": 20.0, "val_split": 0.05, "eval_max_samples": 256, "eval_steps": 50,
    "eval_accumulation_steps": 2, "logging_steps": 10, "save_steps": 200, "save_total_limit": 3,
    "max_grad_norm": 1.0, "early_stop_min_delta": 0.002, "early_stop_patience": 2,
    "load_in_4bit": true, "bf16": true, "use_gradient_checkpointing": false,
    "lora_r": 64, "lora_alpha": 128, "lora_dropout": 0.05
  },
  "alignment": {"beta": 0.1}
}
"""


def test_a_pipelines_training_section_loads(tmp_path: Path) -> None:
    config = load(tmp_path, DEFAULTS_JSON)
    got = config.settings
    assert (got.model, got.data) == (
        "unsloth/gemma-3-270m-it", "outputs/d_05_training_corpus.jsonl",
    )  # fmt: skip
    assert (got.lora.rank, got.lora.alpha, got.lora.dropout) == (64, 128.0, 0.05)
    assert (got.quantize, got.dtype, got.grad_checkpoint) == (4, "bfloat16", False)
    assert (got.max_steps, got.steps_per_eval, got.save_total) == (3000, 50, 3)
    assert (got.val_split, got.eval_max_samples, got.max_samples) == (0.05, 256, 0)
    assert (got.early_stop_min_delta, got.early_stop_patience) == (0.002, 2)
    said = "\n".join(config.notes)
    for key in (
        "dataset_generation",
        "alignment",
        "training.eval_accumulation_steps",
        "num_epochs",
    ):
        assert key in said
    assert config.values["lora.rank"].source.endswith("c.yaml:13")


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("load_in_4bit: false\nload_in_8bit: true\n", 8),
        ("load_in_4bit: true\nload_in_8bit: false\n", 4),
        ("load_in_4bit: false\nload_in_8bit: false\n", None),
    ],
)
def test_four_and_eight_bits_side_by_side(tmp_path: Path, text: str, bits: int | None) -> None:
    assert load(tmp_path, text).settings.quantize == bits
    assert "load_in_8bit says 8" in message(tmp_path, "load_in_4bit: true\nload_in_8bit: true\n")


def test_an_unknown_key_of_the_training_section_is_an_error(tmp_path: Path) -> None:
    text = message(tmp_path, DEFAULTS_JSON.replace('"lora_r"', '"lora_rnk"'))
    assert "c.yaml:13: training.lora_rnk: no such key; did you mean lora_rank?" in text
    assert "expected `key: value`" in message(tmp_path, "training: 3\n")
    said = load(tmp_path, "eval_accumulation_steps: 2\ntraining: {wandb: fox, rank: 4}\n")
    assert [note.split(": ")[1] for note in said.notes] == [
        "eval_accumulation_steps", "training.wandb",
    ]  # fmt: skip
    assert said.settings.lora.rank == 4


def test_known_keys_that_are_not_honoured_are_said_aloud(tmp_path: Path) -> None:
    notes = load(tmp_path, "wandb: fox\nval_batches: 9\nclear_cache_threshold: 3\n").notes
    assert [re.search(r":(\d+): (\w+)", note).groups() for note in notes] == [  # type: ignore[union-attr]
        ("1", "wandb"),
        ("2", "val_batches"),
        ("3", "clear_cache_threshold"),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("report_to: [tensorboard, wandb]", ("tensorboard", "wandb")),
        ("report_to: wandb, mlflow", ("wandb", "mlflow")),  # as mlx-lm writes it
        ("report_to: none", ()),
        ("report_to: []", ()),
        ("report_to:", ()),
        ("training: {report_to: trackio}", ("trackio",)),
    ],
)
def test_trackers_are_a_list_or_a_line(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    settings = load(tmp_path, text + "\nproject_name: fox\n").settings
    assert (settings.report_to, settings.project_name) == (names, "fox")
    wrong = message(tmp_path, "report_to: [wandb, comet]\n")
    assert "c.yaml:1: report_to: ['wandb', 'comet'] is not none, or some of: tensorboard" in wrong


@pytest.mark.parametrize("number", ["1e-5", "1.0e-5", "0.00001", "'1e-5'", "1E-5", "+1e-05"])
def test_1e_5_is_a_number(tmp_path: Path, number: str) -> None:
    assert load(tmp_path, f"learning_rate: {number}\n").settings.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("grad_checkpointing", "grad_checkpoint"),
        ("learningrate", "learning_rate"),
        ("lora_layers", "num_layers"),
        ("lora_alpha", "lora_parameters.alpha"),
        ("gradient_accumulation_steps", "grad_accumulation_steps"),
        ("per_device_train_batch_size", "batch_size"),
        ("lora_parameter", "lora_parameters"),
    ],
)
def test_an_unknown_key_is_an_error_that_suggests_the_right_one(
    tmp_path: Path, key: str, suggestion: str
) -> None:
    said = message(tmp_path, f"seed: 1\n{key}: 8\n")
    assert f"c.yaml:2: {key}: no such key; did you mean {suggestion}?" in said


def test_a_key_at_the_wrong_level_says_where_it_belongs(tmp_path: Path) -> None:
    assert "belongs under lora_parameters" in message(tmp_path, "rank: 8\n")
    said = message(tmp_path, "lora_parameters:\n  rank: 8\n  batch_size: 4\n")
    assert "c.yaml:3: lora_parameters.batch_size" in said
    assert "belongs under the top level" in said
    assert "did you mean keys" in message(tmp_path, "lora_parameters: {target_modules: [a]}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size: four\n", "c.yaml:1: batch_size: 'four' is not a whole number of at least 1"),
        ("seed: 1\nbatch_size: 0\n", "c.yaml:2: batch_size: 0 is not a whole number"),
        ("batch_size: true\n", "batch_size: True is not a whole number"),
        ("batch_size: 2.5\n", "batch_size: 2.5 is not a whole number"),
        ("learning_rate: -1e-5\n", "learning_rate: -1e-05 is not a number above 0"),
        ("learning_rate: .nan\n", "learning_rate: nan is not a number"),
        ("learning_rate: [1]\n", "learning_rate: [1] is not a number"),
        ("mask_prompt: perhaps\n", "mask_prompt: 'perhaps' is not true or false"),
        ("lora_parameters: 8\n", "lora_parameters: expected `key: value` lines under it"),
        ("lora_parameters: {dropout: 1.0}\n", "dropout: 1.0 is not a number of at least 0"),
        ("lora_parameters: {keys: [1]}\n", "lora_parameters.keys: [1] is not a list of names"),
        ("model: {a: 1}\n", "c.yaml:1: model: {'a': 1} is not a name or path"),
        ("fine_tune_type: full\n", "it trains adapters, not whole models"),
        ("optimizer: muon\n", "its optimizers are adamw"),
        ("dtype: fp8\n", "dtype: 'fp8' is not one of: auto, float32"),
        ("hf_dataset: {paths: x}\n", "hf_dataset.paths: no such key; did you mean path"),
        ("hf_dataset: {prompt_feature: q}\n", "hf_dataset: needs a path"),
        ("hf_dataset: [{path: x}, {path: y}]\n", "a list of 2 data sets"),
        ("hf_dataset: {path: x, train_split: 'train[:9%]'}\n", "takes the data set's own splits"),
        ("hf_dataset: {path: x, config: {name: fr}}\n", "c.yaml:1: hf_dataset.config: is not"),
        ("data: a\nhf_dataset: {path: x}\n", "Keep one of them"),
        ("columns: {question: x}\n", "'question' is none of: messages"),
        ("columns: 3\n", "c.yaml:1: columns: 3 is not a mapping such as"),
        ("columns: {prompt: [a, b]}\n", "prompt is both 'a' and 'b'"),
        ("prompt_feature: [a]\n", "prompt_feature: ['a'] is not a column's name"),
        ("prompt_feature: a\ncolumns: {prompt: b}\n", "c.yaml:2: columns: prompt is both"),
        ("train_on: first\n", "train_on: 'first' is not one of: all, last"),
        ("training_mode: dpo\n", "c.yaml:1: training_mode"),
        ("lr_schedule: {name: step_decay, arguments: [1e-5, 2]}\n", "not one of: cosine_decay"),
        ("lr_schedule: {name: cosine_decay}\n", "needs both name and arguments"),
        ("lr_schedule: {name: cosine_decay, arguments: [1e-5]}\n", "takes [peak, steps, end]"),
        ("lr_schedule: {name: cosine_decay, arguments: [a, 1]}\n", "is not a list of numbers"),
        ("lr_schedule: {name: cosine_decay, arguments: [1e-5, 9, 1]}\n", "the rate must fall"),
        ("lr_schedule: {nam: cosine_decay}\n", "lr_schedule.nam: no such key; did you mean name"),
        ("optimizer_config: {adamw: {beta: [1, 2]}}\n", "did you mean betas"),
        ("adapter_path: a\noutput_dir: b\n", "Keep one of them"),
        ("seed: 1\nseed: 2\n", "c.yaml:2: seed appears again (first on line 1)"),
        ("seed: 1\n\tbatch_size: 2\n", "not valid YAML"),
        ("- a\n", "c.yaml:1: expected `key: value` lines at the top"),
        ("just words\n", "expected `key: value` lines"),
        ("a: [1, 2\n", "not valid YAML"),
        ("? [a]\n: 1\n", "a key must be a plain word"),
        ("x: &a [*a]\n", "c.yaml:1: "),
        (b"seed: \xff\n", "not UTF-8"),
        ("seed: !!python/name:os.system\n", "not valid YAML"),
        ("x: " + "[" * 30 + "]" * 30 + "\n", "nested deeper"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    assert expected in message(tmp_path, text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        resolve(file=tmp_path / "none.yaml", environment={})
    with pytest.raises(UserError, match="is a folder"):
        resolve(file=tmp_path, environment={})


def test_the_schedules_peak_comes_before_learning_rate_but_not_silently(tmp_path: Path) -> None:
    text = "learning_rate: 1e-4\nlr_schedule: {name: cosine_decay, arguments: [1e-3, 10]}\n"
    config = load(tmp_path, text)
    assert config.settings.learning_rate == 1e-3
    assert config.settings.warmup_steps == 0
    assert any("learning_rate 0.0001 is not used" in note for note in config.notes)


def test_linear_schedule_and_switches_that_yaml_reads_as_booleans(tmp_path: Path) -> None:
    text = "lr_schedule: {name: linear_schedule, arguments: [1e-3, 1e-4, 90]}\ncompile: off\n"
    settings = load(tmp_path, text).settings
    assert (settings.schedule, settings.compile) == ("linear", "off")
    assert settings.min_lr_ratio == pytest.approx(0.1)


def test_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    text = "lora_parameters: &l {rank: 4, alpha: 8}\nseed: 1\n"
    assert load(tmp_path, text).settings.lora.rank == 4
    text = "optimizer_config:\n  adamw: &a {eps: 1e-6}\n  adam:\n    <<: *a\n    eps: 1e-6\n"
    assert load(tmp_path, text).settings.eps == 1e-6


def test_null_means_not_given(tmp_path: Path) -> None:
    assert load(tmp_path, "seed: null\nmodel:\nlr_schedule: ~\n").settings.seed == 0
    assert "no such key" in message(tmp_path, "sead: null\n")


def test_columns_are_mapped_in_our_words_and_mlx_lms(tmp_path: Path) -> None:
    def columns(text: str) -> TrainSettings:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return resolve(file=path, environment={}).settings

    ours = "columns: {prompt: q, completion: a, ignore: [n, m]}\n"
    assert columns(ours).columns == ("prompt=q", "completion=a", "ignore=n", "ignore=m")
    theirs = "prompt_feature: q\ncompletion_feature: a\nchat_feature: messages\n"
    assert columns(theirs).columns == ("prompt=q", "completion=a")
    assert columns("chat_feature: c\ncolumns: {ignore: n}\n").columns == ("messages=c", "ignore=n")
    hub = "hf_dataset: [{path: people/chats, text_feature: body, train_split: train}]\n"
    assert columns(hub).columns == ("text=body",)
    assert columns(hub).data == "people/chats"
    path = tmp_path / "c.yaml"
    assert "first 80 % of train" in " ".join(resolve(file=path, environment={}).notes)
    flags = {"columns": ("text=t",)}
    assert resolve(flags, file=path, environment={}).settings.columns == ("text=t",)
    environment = {"LIVERY_COLUMNS": "prompt=q, completion=a"}
    assert resolve(environment=environment).settings.columns == ("prompt=q", "completion=a")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}], k{name}: 1}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, ":1: its aliases grow it to more than 20,000 values"),
        (MERGES, ":1: a: no such key"),
        ("a: &a [*a]", ":1: nested deeper than 20 levels"),
        ("a: &a {<<: *a}", r":1: this mapping is merged \(<<\) into itself"),
        ("\n<<: [1]", ":2: << takes a mapping"),
        ("\nseed: " + "[" * 5000 + "]" * 5000, ":2: nested deeper than 20 levels"),
        ("\n" + "{" * 5000, ":2: nested deeper than 20 levels"),
        ("\nseed: !!int abc", ":2: 'abc' is no whole number"),
        ("seed: !!int ''", ":1: '' is no whole number"),
        ("seed: !!bool maybe", ":1: 'maybe' is no truth value"),
        ("seed: !!timestamp x", ":1: 'x' is no date"),
        ("seed: 2020-99-99", ":1: '2020-99-99' is no date"),
        ("seed: 2020-01-01", r":1: seed: .* is not a whole number"),
        ("seed: 010", r":1: 010 is 8 in YAML 1\.1"),
        ("seed: 1:30", r":1: 1:30 is 90 in YAML 1\.1"),
        ("seed: " + "9" * 5000, r":1: '9+… \(5,000 characters\)' is no whole number"),
        ("seed: " + "9" * 4000, ":1: seed: 9+... is not a whole number"),
        ("learning_rate: 1e400", ":1: learning_rate: inf is not a number above 0"),
        ("seed: 1\nmodel: a\x01b", r":2: not valid YAML: the control character U\+0001"),
        ("seed: 1\n\tmodel: x", ":2: not valid YAML"),
        ("\n? [a]\n: 1", ":2: a key must be a plain word"),
        ("~: 1", ":1: ~: no such key"),
        ("seed: 1\nseed: 2", r":2: seed appears again \(first on line 1\)"),
        ("lora_parameters: {rank: 1, rank: 2}", ":1: rank appears again"),
        ('model: "\\ud83d"', r":1: '\\ud83d' holds half of a character"),
        ('model: "a\\0b"', ":1: model: .* is not a name or path"),
        ("model: !!python/name:os.system", ":1: not valid YAML: could not determine"),
        ("seed: 1\n" * 100_000, ": more than 256 KB"),
    ],
)
def test_hostile_yaml_is_one_line_in_bounded_time(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(UserError, match=rf"c\.yaml{message}") as refused:
        config_file.read(file)
    assert time.process_time() - began < 10  # 0.6 here
    assert len(str(refused.value)) < 400


def test_yaml_that_is_not_utf8(tmp_path: Path) -> None:
    for data, message in (
        ("seed: 1\n".encode("utf-16"), "UTF-16 text. Save the file as UTF-8"),
        (b"seed: 1\nmodel: caf\xe9\n", ":2: not UTF-8 text"),
    ):
        (tmp_path / "c.yaml").write_bytes(data)
        with pytest.raises(UserError, match=message):
            config_file.read(tmp_path / "c.yaml")


def test_a_pipelines_alignment_section_is_what_dpo_reads(tmp_path: Path) -> None:
    ours = (ROOT / "config" / "defaults.json").read_text()
    place = tmp_path / "c.json"
    place.write_text(ours)
    config = resolve(file=place, section="alignment", environment={})
    got = config.settings
    assert (got.data, got.beta) == ("outputs/student_runs/alignment/dpo_pairs.jsonl", 0.1)
    assert (got.learning_rate, got.max_steps, got.batch_size, got.grad_accum) == (5e-6, 500, 2, 8)
    assert got.lora.rank == TrainSettings().lora.rank, "training is another section"
    assert any("`livery dpo` reads alignment" in note for note in config.notes)
    place.write_text('{"training": {"lora_r": 3}}')
    assert resolve(file=place, section="alignment", environment={}).settings.lora.rank == 3
    place.write_text('{"alignment": {"betta": 0.1}}')
    with pytest.raises(UserError, match=r"alignment\.betta: no such key; did you mean beta"):
        resolve(file=place, section="alignment", environment={})


def test_checkpoint_final_is_the_finished_run(tmp_path: Path) -> None:
    place, run = tmp_path / "c.json", tmp_path / "run"
    run.mkdir()
    place.write_text(json.dumps({"alignment": {"adapter": str(run / "checkpoint-final")}}))
    assert resolve(file=place, section="alignment").settings.init_adapter == str(run)
    (run / "checkpoint-final").mkdir()
    there = resolve(file=place, section="alignment").settings.init_adapter
    assert there == str(run / "checkpoint-final")
