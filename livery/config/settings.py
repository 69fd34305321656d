"""What a training run is asked to do: one frozen value that both backends read.

`livery.config.layers` builds it from defaults, file, environment and flags; nothing else reads
those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from livery.dataset.columns import read_columns
from livery.errors import UserError

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class LoraSettings:
    """The shape of the adapter.

    Attributes:
        rank: rank r of every pair (A (r, in), B (out, r)).
        alpha: numerator of the scale; the delta is `scale * B @ A`.
        dropout: probability of dropping an input feature of A while training.
        rslora: scale is alpha / sqrt(rank) instead of alpha / rank.
        dora: also learn the magnitude of each output (weight-decomposed LoRA).
        targets: module names to adapt, matched by suffix of the module path ("q_proj",
            "mlp.down_proj"); empty means every linear layer of the blocks, MoE experts and router
            excepted.
        num_layers: adapt only the last N blocks; -1 for all.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ()
    num_layers: int = -1

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"rank is {self.rank}; it must be at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is {self.dropout}; it must be at least 0 and below 1.")

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
    """One run.

    Attributes:
        model: folder or hub id of the base model.
        data: folder with train.jsonl and, if there is one, valid.jsonl; or any other data set of
            `livery.dataset.sources`.
        output_dir: the adapter folder that the run writes.
        lora: the shape of the adapter.
        backend: which framework trains; "auto" takes MLX where it is installed.
        device: where torch trains: "auto", "cpu", "cuda", "cuda:N" or "mps".
        batch_size: examples that a micro-batch holds at most.
        grad_accum: micro-batches that an optimizer step holds; a step sees at most
            batch_size * grad_accum examples.
        epochs: passes over the training data, where max_steps does not say otherwise.
        max_steps: optimizer steps; None means by epochs.
        learning_rate: peak learning rate.
        schedule: shape of the learning rate after the warm-up.
        warmup_steps: optimizer steps of linear warm-up from 0.
        min_lr_ratio: what the schedule ends at, as a share of learning_rate.
        optimizer: "adamw" (float32 moments), or on CUDA "adamw_8bit".
        weight_decay, beta1, beta2, eps: AdamW's own.
        max_grad_norm: global norm that gradients are clipped to; 0 for none.
        max_length: longest example in tokens; longer ones are dropped and counted.
        mask_prompt: supervise the assistant's turns alone (else every token).
        dtype: "auto", "float32", "bfloat16" or "float16" of the base's weights.
        quantize: bits that the base is quantized to on loading; None leaves it as it is.
        grad_checkpoint: recompute activations in the backward pass.
        share_prefix: run prompts that examples share once.
        attention: torch's kernel: "auto" (sdpa where the family has it; on CUDA flex where that is
            faster), "sdpa", "eager" or "flex".
        compile: "auto", "on" or "off": let MLX compile the step.
        seed: of everything drawn: LoRA's initial A, order, dropout.
        steps_per_report, steps_per_eval, save_every: in optimizer steps; 0 means never
            (evaluation and saving still happen at the end).
        early_stop_patience: evaluations without an improvement of early_stop_min_delta in
            eval_loss before the run stops; 0 never stops early.
        early_stop_min_delta: see there.
        samples: how many validation prompts are answered at each evaluation.
        sample_tokens: longest such answer, in tokens.
        max_samples: training rows read, from the first; 0 reads all.
        val_split: share of the training rows that is held out where there is no valid.jsonl.
        eval_max_samples: validation rows evaluated, at even distances; 0 evaluates all.
        save_total: checkpoints kept (the best one is kept besides).
        report_to: trackers that are told of metrics and evaluations: "tensorboard", "wandb",
            "trackio", "mlflow", "swanlab" (see `livery.training.trackers`).
        project_name: the trackers' project or experiment; "" leaves it to their own variables.
        keep: which weights the adapter folder gets: those of the lowest eval_loss, or the last.
        chat_template, chat_template_kwargs, template_date: see TemplateSettings.
        init_adapter: adapter folder whose weights the run starts from.
        columns: which column of the data holds what, as words "prompt=question"
            (see `livery.dataset.columns`).
        train_on: learn every answer of a conversation, or its last one alone.
        check_base: compare MLX's base with torch's before training ("auto": once for each base).
        strict: a row that cannot be trained on is an error, not left out.
    """

    model: str = "base_model"
    data: str = "data/date-keys"
    output_dir: str = "adapters/date-keys"
    lora: LoraSettings = LoraSettings()
    backend: Literal["auto", "mlx", "torch"] = "auto"
    device: str = "auto"
    batch_size: int = 16
    grad_accum: int = 1
    epochs: float = 3.0
    max_steps: int | None = None
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 20
    min_lr_ratio: float = 0.0
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    max_length: int = 2048
    mask_prompt: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantize: int | None = None
    grad_checkpoint: bool = False
    share_prefix: bool = True
    attention: Literal["auto", "sdpa", "eager", "flex"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    steps_per_report: int = 10
    steps_per_eval: int = 100
    save_every: int = 100
    early_stop_patience: int = 0
    early_stop_min_delta: float = 0.0
    max_samples: int = 0
    val_split: float = 0.0
    eval_max_samples: int = 0
    samples: int = 4
    sample_tokens: int = 64
    save_total: int = 2
    report_to: tuple[str, ...] = ()
    project_name: str = ""
    keep: Literal["best", "last"] = "best"
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    template_date: str = ""
    init_adapter: str | None = None
    columns: tuple[str, ...] = ()
    train_on: Literal["all", "last"] = "all"
    strict: bool = False
    check_base: Literal["auto", "yes", "no"] = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_size", "grad_accum", "max_length", "save_total"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "epochs"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.val_split < 1:
            raise UserError(f"val_split is {self.val_split:g}; it must be at least 0 and below 1.")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"max_steps is {self.max_steps}; it must be at least 1.")
        read_columns(self.columns)
        if self.quantize not in (None, 2, 3, 4, 5, 6, 8):
            raise UserError(f"quantize is {self.quantize}; choose 2, 3, 4, 5, 6 or 8 bits.")

    @property
    def template(self) -> TemplateSettings:
        """How conversations are rendered."""
        return TemplateSettings(self.chat_template, self.chat_template_kwargs, self.template_date)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run_config.json and hashes."""
        return dataclasses.asdict(self)
