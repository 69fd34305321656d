"""Every setting of a training run: its file key, flags, variables and help text, in one table.

The configuration file, the environment, the command line and docs/configuration.md all read this
table; the defaults stand in `livery.config.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from livery.config.values import (
    Choice,
    Columns,
    Date,
    Integer,
    Kind,
    Number,
    Several,
    Switch,
    Text,
    Variables,
    Words,
    one_of,
)

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
_FINE_TUNE = Choice(
    {"lora": False, "dora": True},
    refused={"full": "it trains adapters, not whole models (mlx_lm.lora does)"},
)
_CHECK = Choice({"auto": "auto", "yes": "yes", "no": "no", "on": "yes", "off": "no"})
_BITS = Choice({str(bits): bits for bits in (2, 3, 4, 5, 6, 8)} | {"none": None})


@dataclass(frozen=True)
class Option:
    """One setting.

    Attributes:
        name: of the field in TrainSettings; "lora.rank" stands in its LoraSettings. Names that are
            no field ("lora.scale", "iters", "load_in_4bit", "bf16") are turned into one by
            `livery.config.layers`.
        key: in the configuration file; a dot leads into a mapping.
        flags: on the command line; a switch's are written "--x/--no-x".
        kind: what values it takes.
        help: one line.
        also: other keys that the file may use.
        variables: environment variables besides LIVERY_….
    """

    name: str
    key: str
    flags: tuple[str, ...]
    kind: Kind
    help: str
    also: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """Name of the command's Python argument."""
        return self.name.replace(".", "_")

    def environment(self) -> tuple[str, ...]:
        """Variables that set this option, the most usual first."""
        ours = [self.name, self.key.replace("lora_parameters.", "lora.")]
        names = ["LIVERY_" + name.replace(".", "_").upper() for name in ours]
        return (*dict.fromkeys(names), *self.variables)


OPTIONS: tuple[Option, ...] = (
    Option("model", "model", ("--model", "--base-model"), Text("ID_OR_PATH"),
           "Base model: a folder or a hub id; base_model is the embedded one.", ("base_model",),
           ("JARVIS_MODEL_NAME",)),
    Option("data", "data", ("--data", "--training-data", "--training-corpus"), Text("PATH"),
           "Folder with train.jsonl and valid.jsonl, or another data set (docs/data.md).",
           ("training_data", "training_corpus")),
    Option("columns", "columns", ("--columns",), Columns(),
           "Which column holds what: prompt=question,ignore=title."),
    Option("train_on", "train_on", ("--train-on",), one_of("all", "last"),
           "Which answers of a conversation are learned."),
    Option("strict", "strict", ("--strict/--no-strict",), Switch(),
           "Refuse data if any row would be left out."),
    Option("output_dir", "adapter_path", ("--output-dir", "--adapter-path"), Text("DIR"),
           "Adapter folder that the run writes.", ("output_dir",)),
    Option("backend", "backend", ("--backend",), one_of("auto", "mlx", "torch"),
           "Framework; auto takes MLX where it is installed."),
    Option("device", "device", ("--device",), Text("DEVICE"),
           "Where torch trains: auto, cpu, cuda, cuda:N, mps.", (),
           ("JARVIS_ADAPTER_TRAIN_DEVICE_MAP",)),
    Option("max_steps", "max_steps", ("--max-steps",), Integer(1),
           "Optimizer steps; wins over --epochs."),
    Option("iters", "iters", ("--iters",), Integer(1),
           "Micro-batches, as mlx-lm counts; steps are iters / grad-accum."),
    Option("epochs", "epochs", ("--epochs", "--num-epochs"), Number(above=True),
           "Passes over the training data.", ("num_epochs", "num_train_epochs")),
    Option("batch_size", "batch_size", ("--batch-size",), Integer(1),
           "Most examples in a micro-batch."),
    Option("grad_accum", "grad_accumulation_steps", ("--grad-accum", "--grad-accumulation-steps"),
           Integer(1), "Micro-batches in an optimizer step.", ("grad_accum",)),
    Option("learning_rate", "learning_rate", ("--learning-rate", "--lr"), Number(above=True),
           "Peak learning rate."),
    Option("schedule", "schedule", ("--schedule",), one_of("constant", "linear", "cosine"),
           "Learning rate schedule after the warm-up."),
    Option("warmup_steps", "warmup_steps", ("--warmup-steps",), Integer(),
           "Optimizer steps of linear warm-up."),
    Option("min_lr_ratio", "min_lr_ratio", ("--min-lr-ratio",), Number(maximum=1.0),
           "Learning rate at the end, as a share of the peak."),
    Option("lora.rank", "lora_parameters.rank", ("--lora-r", "--lora-rank"), Integer(1),
           "Rank of the adapter."),
    Option("lora.alpha", "lora_parameters.alpha", ("--lora-alpha",), Number(above=True),
           "Numerator of the scale: scale = alpha / rank."),
    Option("lora.scale", "lora_parameters.scale", ("--lora-scale",), Number(above=True),
           "The scale itself instead of alpha."),
    Option("lora.dropout", "lora_parameters.dropout", ("--lora-dropout",),
           Number(maximum=1.0, below=True), "Dropout on the adapter's input."),
    Option("lora.targets", "lora_parameters.keys", ("--lora-targets", "--target-modules"), Words(),
           "Module names to adapt; every linear layer by default."),
    Option("lora.num_layers", "num_layers", ("--num-layers",), Integer(-1),
           "Adapt the last N blocks; -1 for all."),
    Option("lora.rslora", "lora_parameters.rslora", ("--rslora/--no-rslora",), Switch(),
           "Scale by alpha / sqrt(rank)."),
    Option("lora.dora", "fine_tune_type", ("--fine-tune-type",), _FINE_TUNE,
           "lora, or dora to learn magnitudes too."),
    Option("optimizer", "optimizer", ("--optim", "--optimizer"), _OPTIMIZERS,
           "adamw, or adamw_8bit on CUDA.", ("optim",)),
    Option("weight_decay", "weight_decay", ("--weight-decay",), Number(),
           "AdamW's decoupled decay."),
    Option("beta1", "beta1", ("--beta1",), Number(maximum=1.0, below=True),
           "AdamW's first-moment decay."),
    Option("beta2", "beta2", ("--beta2",), Number(maximum=1.0, below=True),
           "AdamW's second-moment decay."),
    Option("eps", "eps", ("--eps",), Number(above=True), "AdamW's epsilon."),
    Option("max_grad_norm", "max_grad_norm", ("--max-grad-norm",), Number(),
           "Clip gradients to this global norm; 0 for none."),
    Option("max_length", "max_seq_length", ("--max-length", "--max-seq-length"), Integer(1),
           "Longest conversation in tokens; longer ones are dropped and counted.", ("max_length",)),
    Option("mask_prompt", "mask_prompt", ("--mask-prompt/--no-mask-prompt",), Switch(),
           "Learn only the answers."),
    Option("chat_template", "chat_template", ("--chat-template",), Text("NAME_OR_FILE"),
           "chatml, one of the tokenizer's templates by name, or a template file."),
    Option("chat_template_kwargs", "chat_template_kwargs", ("--chat-template-kwargs",), Variables(),
           "Variables of the template, such as '{\"enable_thinking\": false}'."),
    Option("template_date", "template_date", ("--template-date",), Date(),
           "What a template that writes the date takes for today."),
    Option("dtype", "dtype", ("--dtype",), one_of("auto", "float32", "bfloat16", "float16"),
           "Dtype of the base's weights."),
    Option("bf16", "bf16", ("--bf16/--no-bf16",), Switch(), "--bf16 is --dtype bfloat16."),
    Option("quantize", "quantize", ("--quantize",), _BITS,
           "Bits to quantize the base to on loading."),
    Option("load_in_4bit", "load_in_4bit", ("--load-in-4bit/--no-load-in-4bit",), Switch(),
           "--load-in-4bit is --quantize 4.", (), ("JARVIS_DATE_ADAPTER_TRAIN_LOAD_IN_4BIT",)),
    Option("load_in_8bit", "load_in_8bit", ("--load-in-8bit/--no-load-in-8bit",), Switch(),
           "--load-in-8bit is --quantize 8."),
    Option("grad_checkpoint", "grad_checkpoint",
           ("--grad-checkpoint/--no-grad-checkpoint",
            "--gradient-checkpointing/--no-gradient-checkpointing",
            "--use-gradient-checkpointing/--no-use-gradient-checkpointing"),
           Switch(), "Recompute activations: less memory, more time.",
           ("use_gradient_checkpointing",)),
    Option("share_prefix", "share_prefix", ("--share-prefix/--no-share-prefix",), Switch(),
           "Compute prompts that examples share only once."),
    Option("attention", "attention", ("--attention",), one_of("auto", "sdpa", "eager", "flex"),
           "Torch's kernel; auto tries flex against sdpa on CUDA."),
    Option("compile", "compile", ("--compile",), one_of("auto", "on", "off"),
           "Let MLX compile the step."),
    Option("check_base", "check_base", ("--check-base",), _CHECK,
           "Compare MLX's base with torch's first; auto once for each base."),
    Option("seed", "seed", ("--seed",), Integer(),
           "Seed of the initial adapter, the order of rows and dropout."),
    Option("steps_per_report", "steps_per_report", ("--steps-per-report", "--logging-steps"),
           Integer(), "Optimizer steps between lines of metrics.", ("logging_steps",)),
    Option("steps_per_eval", "steps_per_eval", ("--steps-per-eval", "--eval-steps"), Integer(),
           "Optimizer steps between evaluations.", ("eval_steps",)),
    Option("save_every", "save_every", ("--save-every", "--save-steps"), Integer(),
           "Optimizer steps between checkpoints.", ("save_steps",)),
    Option("save_total", "save_total", ("--save-total", "--save-total-limit"), Integer(1),
           "Checkpoints kept, besides the best one.", ("save_total_limit",)),
    Option("keep", "keep", ("--keep",), one_of("best", "last"),
           "Weights to keep: those of the lowest eval_loss, or the last."),
    Option("early_stop_patience", "early_stop_patience", ("--early-stop-patience",), Integer(),
           "Stop after this many evaluations without improvement; 0 never."),
    Option("early_stop_min_delta", "early_stop_min_delta", ("--early-stop-min-delta",), Number(),
           "What counts as an improvement."),
    Option("report_to", "report_to", ("--report-to",),
           Several(("tensorboard", "wandb", "trackio", "mlflow", "swanlab")),
           "Trackers to report to; several with commas, or given again."),
    Option("project_name", "project_name", ("--project-name",), Text("NAME"),
           "Project of the trackers; without it, what their own variables say."),
    Option("max_samples", "max_samples", ("--max-samples",), Integer(),
           "Training rows read, from the first; 0 for all."),
    Option("val_split", "val_split", ("--val-split",), Number(maximum=1.0, below=True),
           "Share of the training rows held out, where there is no valid.jsonl."),
    Option("eval_max_samples", "eval_max_samples", ("--eval-max-samples",), Integer(),
           "Validation rows evaluated; 0 for all."),
    Option("samples", "samples", ("--samples",), Integer(),
           "Validation prompts answered at each evaluation."),
    Option("sample_tokens", "sample_tokens", ("--sample-tokens",), Integer(1),
           "Longest such answer."),
    Option("init_adapter", "resume_adapter_file", ("--init-adapter", "--resume-adapter-file"),
           Text("DIR"), "Adapter folder whose weights the run starts from.", ("init_adapter",)),
)  # fmt: skip


def by_name(name: str) -> Option:
    """The option of that name."""
    return next(option for option in OPTIONS if option.name == name)
