"""What a training run is asked to do: one frozen value that both backends read.

A field declares everything about a setting (see `livery.config.options`); `livery.config.layers`
builds the value from defaults, file, environment and flags, and nothing else reads those.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from livery.config.options import Decides, Option, alternative, check, declared, setting
from livery.config.values import (
    Choice,
    Columns,
    Date,
    Integer,
    Names,
    Number,
    Several,
    Switch,
    Text,
    Variables,
    one_of,
)

Schedule = Literal["constant", "linear", "cosine"]

_OPTIMIZERS = Choice(
    {
        "adamw": "adamw",
        "adamw_torch": "adamw",
        "adamw_torch_fused": "adamw",
        "adam": "adam",
        "adamw_8bit": "adamw_8bit",
        "adamw_bnb_8bit": "adamw_8bit",
    },
    refused=dict.fromkeys(
        ("muon", "sgd", "adafactor", "lion", "paged_adamw_8bit"),
        "its optimizers are adamw and, on CUDA, adamw_8bit",
    ),
)
# TRL's names, and what its losses that are missing here are for.
_LOSSES = Choice(
    {"sft": "sft", "sigmoid": "sigmoid", "dpo": "sigmoid", "ipo": "ipo", "orpo": "orpo"},
    refused={
        "sigmoid_norm": "write sigmoid with --length-normalized",
        "robust": "write sigmoid with --label-smoothing",
        "rpo": "write sigmoid with --sft-weight 1",
        "hinge": "sigmoid is the smooth form of it",
        "kto": "it learns from pairs; write rows of prompt, chosen and rejected",
        "kto_pair": "sigmoid learns from the same pairs",
        "simpo": "orpo is the loss that needs no reference",
        "cpo": "orpo is the loss that needs no reference",
    },
)
_FINE_TUNE = Choice(
    {"lora": False, "dora": True},
    refused={"full": "it trains adapters, not whole models (mlx_lm.lora does)"},
)
_CHECK = Choice({"auto": "auto", "yes": "yes", "no": "no", "on": "yes", "off": "no"})
_BITS = Choice({str(bits): bits for bits in (2, 3, 4, 5, 6, 8)} | {"none": None})
_SHARE = Number(maximum=1.0, below=True)


@dataclass(frozen=True)
class LoraSettings:
    """The shape of the adapter."""

    rank: int = setting(16, Integer(1), "Rank of the adapter.", flags=("--lora-r", "--lora-rank"))
    """r of every pair: A (r, in), B (out, r)."""
    alpha: float = setting(
        32.0, Number(above=True), "Numerator of the scale: scale = alpha / rank.",
        flags=("--lora-alpha",),
        alternatives=(
            alternative("lora.scale", Number(above=True), "The scale itself instead of alpha.",
                        key="lora_parameters.scale", flags=("--lora-scale",)),
        ),
    )  # fmt: skip
    """The delta is `scale * B @ A`."""
    dropout: float = setting(
        0.0, _SHARE, "Dropout on the adapter's input.", flags=("--lora-dropout",)
    )
    """Probability of dropping an input feature of A while training."""
    targets: tuple[str, ...] = setting(
        (), Names(), "Module names to adapt; every linear layer by default.",
        key="lora_parameters.keys", flags=("--lora-targets", "--target-modules"),
    )  # fmt: skip
    """Matched by suffix of the module path ("q_proj", "mlp.down_proj"); empty means every linear
    layer of the blocks, MoE experts and router excepted."""
    num_layers: int = setting(
        -1, Integer(-1), "Adapt the last N blocks; -1 for all.", key="num_layers"
    )
    rslora: bool = setting(False, Switch(), "Scale by alpha / sqrt(rank).")
    """Rank-stabilized LoRA; else the scale is alpha / rank."""
    dora: bool = setting(
        False, _FINE_TUNE, "lora, or dora to learn magnitudes too.",
        key="fine_tune_type", flags=("--fine-tune-type",),
    )  # fmt: skip
    """Also learn the magnitude of each output (weight-decomposed LoRA)."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


# What a user calls the fields of `TemplateSettings`.
TEMPLATE_OPTIONS = ("chat_template", "chat_template_kwargs", "template_date")


@dataclass(frozen=True)
class TemplateSettings:
    """What a user says of the template; a run records it, and its adapter is prompted by it.

    Attributes:
        template: "chatml", a name among the tokenizer's own templates, or a Jinja file; None takes
            the tokenizer's (of several "default", and "tool_use" where a row has tools).
        kwargs: variables of the template, such as enable_thinking; a row's own come before them.
        date: what the template takes for today, YYYY-MM-DD; "" is today.
    """

    template: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    date: str = ""


@dataclass(frozen=True)
class TrainSettings:
    """One run."""

    model: str = setting(
        "base_model", Text("ID_OR_PATH"),
        "Base model: a folder, a GGUF file, a name of livery base list, a hub id or ollama:NAME; "
        "base_model is the embedded one.",
        flags=("--model", "--base-model"), also=("base_model",),
        variables=("JARVIS_MODEL_NAME", "AIOS_FT_MODEL"), decides="",
    )  # fmt: skip
    data: str = setting(
        "data/date-keys", Text("PATH"),
        "Folder with train.jsonl and valid.jsonl, or another data set (docs/data.md).",
        flags=("--data", "--training-data", "--training-corpus"),
        also=("training_data", "training_corpus"), variables=("AIOS_FT_DATA",), decides="",
    )  # fmt: skip
    """Whatever `livery.dataset.sources` finds; valid.jsonl may be missing."""
    valid_data: str | None = setting(
        None, Text("PATH"), "Validation rows, instead of the valid.jsonl beside the training rows.",
        flags=("--valid-data", "--validation-data"), decides="",
    )  # fmt: skip
    columns: tuple[str, ...] = setting(
        (), Columns(), "Which column holds what: prompt=question,ignore=title.", decides="result"
    )
    """As words "prompt=question" (see `livery.dataset.columns`)."""
    train_on: Literal["all", "last"] = setting(
        "all", one_of("all", "last"), "Which answers of a conversation are learned.",
        decides="result",
    )  # fmt: skip
    """Every answer, or the last one alone."""
    strict: bool = setting(False, Switch(), "Refuse data if any row would be left out.", decides="")
    output_dir: str = setting(
        "adapters/date-keys", Text("DIR"), "Adapter folder that the run writes.",
        key="adapter_path", flags=("--output-dir", "--adapter-path"), also=("output_dir",),
        variables=("AIOS_FT_ADAPTER_DIR",), decides="",
    )  # fmt: skip
    backend: Literal["auto", "mlx", "torch"] = setting(
        "auto", one_of("auto", "mlx", "torch"),
        "Framework; auto uses MLX, or on a CPU whichever is faster.", decides="",
    )  # fmt: skip
    device: str = setting(
        "auto", Text("DEVICE"), "Where torch trains: auto, cpu, cuda, cuda:N, mps.",
        variables=("JARVIS_ADAPTER_TRAIN_DEVICE_MAP",), decides="",
    )  # fmt: skip
    threads: int | None = setting(
        None, Integer(1), "Threads on a CPU; without it, measured at the start.", decides=""
    )
    """None takes OMP_NUM_THREADS, or what a resumed run began with, else what was fastest."""
    max_steps: int | None = setting(
        None, Integer(1), "Optimizer steps; takes precedence over --epochs.", decides="",
        alternatives=(
            alternative("iters", Integer(1),
                        "Micro-batches, as mlx-lm counts; steps are iters / grad-accum."),
        ),
    )  # fmt: skip
    """None means by epochs."""
    epochs: float = setting(
        3.0, Number(above=True, maximum=10_000), "Passes over the training data.",
        flags=("--epochs", "--num-epochs"), also=("num_epochs", "num_train_epochs"),
        decides="result",
    )  # fmt: skip
    """Where max_steps does not say otherwise."""
    batch_size: int = setting(16, Integer(1), "Maximum examples in a micro-batch.")
    grad_accum: int = setting(
        1, Integer(1), "Micro-batches in an optimizer step.", key="grad_accumulation_steps",
        flags=("--grad-accum", "--grad-accumulation-steps"), also=("grad_accum",),
    )  # fmt: skip
    """A step sees at most batch_size * grad_accum examples."""
    loss_type: Literal["sft", "sigmoid", "ipo", "orpo"] = setting(
        "sft", _LOSSES,
        "What is minimised: sft learns answers; sigmoid (DPO), ipo and orpo learn from pairs.",
        flags=("--loss-type", "--loss"),
    )  # fmt: skip
    """Pairs are rows of prompt, chosen and rejected (see `livery.training.preference`)."""
    beta: float = setting(
        0.1, Number(above=True), "How closely a preference run stays to its reference."
    )
    """For sigmoid and ipo the smaller, the further from it; for orpo the odds ratio's weight."""
    label_smoothing: float = setting(
        0.0, Number(maximum=0.5, below=True), "Share of pairs taken to be labelled the wrong way."
    )
    length_normalized: bool = setting(
        False, Switch(), "Divide an answer's log-probability by its tokens.",
        flags=("--length-normalized", "--length-normalised"),
    )  # fmt: skip
    """For sigmoid; ipo and orpo always do."""
    sft_weight: float = setting(
        0.0, Number(), "Weight of the chosen answer's own loss beside the preference (RPO).",
        flags=("--sft-weight", "--rpo-alpha"), also=("rpo_alpha",),
    )  # fmt: skip
    target_margin: float = setting(
        0.0, Number(), "Stop once the held-out pairs' reward margin reaches this; 0 never.",
        decides="result",
    )  # fmt: skip
    learning_rate: float = setting(
        1e-3, Number(above=True), "Peak learning rate.", flags=("--learning-rate", "--lr")
    )
    schedule: Schedule = setting(
        "cosine", one_of("constant", "linear", "cosine"),
        "Learning rate schedule after the warm-up.",
    )  # fmt: skip
    warmup_steps: int = setting(20, Integer(), "Optimizer steps of linear warm-up.")
    """From a learning rate of 0."""
    min_lr_ratio: float = setting(
        0.0, Number(maximum=1.0), "Learning rate at the end, as a share of the peak."
    )
    lora: LoraSettings = LoraSettings()
    """The shape of the adapter."""
    optimizer: str = setting(
        "adamw", _OPTIMIZERS, "adamw, or adamw_8bit on CUDA.",
        flags=("--optim", "--optimizer"), also=("optim",), decides="",
    )  # fmt: skip
    """adamw keeps its moments in float32."""
    weight_decay: float = setting(0.0, Number(), "AdamW's decoupled decay.")
    beta1: float = setting(0.9, _SHARE, "AdamW's first-moment decay.")
    beta2: float = setting(0.999, _SHARE, "AdamW's second-moment decay.")
    eps: float = setting(1e-8, Number(above=True), "AdamW's epsilon.")
    max_grad_norm: float = setting(1.0, Number(), "Clip gradients to this global norm; 0 for none.")
    max_length: int = setting(
        2048, Integer(1), "Longest conversation in tokens; longer ones are dropped and counted.",
        key="max_seq_length", flags=("--max-length", "--max-seq-length"), also=("max_length",),
    )  # fmt: skip
    mask_prompt: bool = setting(True, Switch(), "Learn only the answers.")
    """Else every token is supervised."""
    chat_template: str | None = setting(
        None, Text("NAME_OR_FILE"),
        "chatml, one of the tokenizer's templates by name, or a template file.",
    )  # fmt: skip
    """See TemplateSettings."""
    chat_template_kwargs: dict[str, Any] = setting(
        dict[str, Any](), Variables(),
        "Variables of the template, such as '{\"enable_thinking\": false}'.", decides="result",
    )  # fmt: skip
    template_date: str = setting(
        "", Date(), "The date that a template writes as today's.", decides="result"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", one_of("auto", "float32", "bfloat16", "float16"), "Dtype of the base's weights.",
        decides="result",
        alternatives=(alternative("bf16", Switch(), "--bf16 is --dtype bfloat16."),),
    )  # fmt: skip
    quantize: int | None = setting(
        None, _BITS, "Bits to quantize the base to on loading.",
        alternatives=(
            alternative("load_in_4bit", Switch(), "--load-in-4bit is --quantize 4.",
                        variables=("JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT",)),
            alternative("load_in_8bit", Switch(), "--load-in-8bit is --quantize 8."),
        ),
    )  # fmt: skip
    """None leaves it as it is."""
    grad_checkpoint: bool = setting(
        False, Switch(), "Recompute activations: less memory, more time.",
        flags=("--grad-checkpoint", "--gradient-checkpointing", "--use-gradient-checkpointing"),
        also=("use_gradient_checkpointing",), decides="",
    )  # fmt: skip
    shard_base: bool = setting(
        False, Switch(),
        "Keep a share of the base on each process of torchrun (docs/scaling.md).", decides="",
    )  # fmt: skip
    """For a base that is larger than one GPU (see `cuda_train.shard`)."""
    share_prefix: bool = setting(True, Switch(), "Compute prompts that examples share only once.")
    attention: Literal["auto", "sdpa", "eager", "flex"] = setting(
        "auto", one_of("auto", "sdpa", "eager", "flex"),
        "Torch's kernel; auto tries flex against sdpa on CUDA.", decides="result",
    )  # fmt: skip
    """auto is sdpa where the family has it, and on CUDA flex where that is faster."""
    compile: Literal["auto", "on", "off"] = setting(
        "auto",
        one_of("auto", "on", "off"),
        "Let MLX compile the step, or torch record it on CUDA.",
        decides="",
    )
    check_base: Literal["auto", "yes", "no"] = setting(
        "auto", _CHECK, "Compare MLX's base with torch's first; auto once for each base.",
        decides="",
    )  # fmt: skip
    seed: int = setting(
        0, Integer(), "Seed for the initial adapter, the order of rows and dropout."
    )
    steps_per_report: int = setting(
        10, Integer(), "Optimizer steps between lines of metrics.",
        flags=("--steps-per-report", "--logging-steps"), also=("logging_steps",), decides="",
    )  # fmt: skip
    """0 means never."""
    steps_per_eval: int = setting(
        100, Integer(), "Optimizer steps between evaluations.",
        flags=("--steps-per-eval", "--eval-steps"), also=("eval_steps",), decides="",
    )  # fmt: skip
    """0 means at the end alone."""
    save_every: int = setting(
        100, Integer(), "Optimizer steps between checkpoints.",
        flags=("--save-every", "--save-steps"), also=("save_steps",), decides="",
    )  # fmt: skip
    """0 means at the end alone."""
    save_total: int = setting(
        2, Integer(1), "Checkpoints kept, besides the best one.",
        flags=("--save-total", "--save-total-limit"), also=("save_total_limit",), decides="",
    )  # fmt: skip
    keep: Literal["best", "last"] = setting(
        "best", one_of("best", "last"),
        "Weights to keep: those with the lowest eval_loss, or the last.", decides="result",
    )  # fmt: skip
    early_stop_patience: int = setting(
        0, Integer(), "Stop after this many evaluations without improvement; 0 never.", decides=""
    )
    early_stop_min_delta: float = setting(
        0.0, Number(), "Least change that counts as an improvement.", decides=""
    )
    """How much eval_loss has to fall."""
    report_to: tuple[str, ...] = setting(
        (), Several(("tensorboard", "wandb", "trackio", "mlflow", "swanlab")),
        "Trackers to report to, separated by commas; may be repeated.", decides="",
    )  # fmt: skip
    """They receive metrics and evaluations (see `livery.training.trackers`)."""
    project_name: str = setting(
        "", Text("NAME"), "Project name for the trackers; by default, what their variables say.",
        decides="",
    )  # fmt: skip
    max_samples: int = setting(
        0, Integer(), "Training rows read, from the first; 0 for all.", decides="result"
    )
    val_split: float = setting(
        0.0, _SHARE, "Share of the training rows held out if there is no valid.jsonl.",
        decides="result",
    )  # fmt: skip
    eval_max_samples: int = setting(
        0, Integer(), "Validation rows evaluated; 0 for all.", decides="result"
    )
    """Taken at even distances."""
    samples: int = setting(
        4, Integer(), "Validation prompts answered at each evaluation.", decides=""
    )
    sample_tokens: int = setting(64, Integer(1), "Longest such answer.", decides="")
    """In tokens."""
    init_adapter: str | None = setting(
        None, Text("DIR"), "Adapter folder whose weights the run starts from.",
        key="resume_adapter_file", flags=("--init-adapter", "--resume-adapter-file"),
        also=("init_adapter",), variables=("AIOS_FT_RESUME_ADAPTER",),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)

    @property
    def paired(self) -> bool:
        """Whether the rows are pairs of a chosen and a rejected answer."""
        return self.loss_type != "sft"

    @property
    def group(self) -> int:
        """Neighbouring examples that belong together: two of a pair."""
        return 2 if self.paired else 1

    @property
    def template(self) -> TemplateSettings:
        """How conversations are rendered."""
        return TemplateSettings(self.chat_template, self.chat_template_kwargs, self.template_date)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run_config.json and hashes."""
        return dataclasses.asdict(self)


OPTIONS: tuple[Option, ...] = tuple(declared(TrainSettings))

# What only a run on pairs reads: flags of `livery dpo`, and of no other command.
PREFERENCE = (
    "loss_type", "beta", "label_smoothing", "length_normalized", "sft_weight", "target_margin",
)  # fmt: skip


def by_name(name: str) -> Option:
    """The option of that name."""
    return next(option for option in OPTIONS if option.name == name)


def can_be(name: str, value: Any) -> bool:
    """Whether a recorded value is one that the setting can have."""
    _, _, plain = name.rpartition("lora.")
    hint = get_type_hints(LoraSettings if name.startswith("lora.") else TrainSettings)[plain]
    hints = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None or get_origin(hint) is Literal:
        return type(None) in hints if value is None else value in get_args(hint)
    if get_origin(hints[0]) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    wanted = get_origin(hints[0]) or hints[0]
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        return False
    kind = by_name(name).kind
    if isinstance(kind, Integer | Number):
        try:
            kind.read(value)
        except ValueError:
            return False
    return True


def decided(settings: TrainSettings, *what: Decides) -> dict[str, Any]:
    """The settings that decide a run's steps, or its result, as JSON would give them back."""
    values = json.loads(json.dumps(settings.as_dict()))
    values.update({f"lora.{key}": value for key, value in values.pop("lora").items()})
    return {o.name: values[o.name] for o in OPTIONS if o.name in values and o.decides in what}
