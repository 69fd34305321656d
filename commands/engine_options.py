"""Options of what runs an engine: which one, with which adapter, and how it decodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from commands.engine_files import gguf_conversions
from livery.config import values as kinds
from livery.config.settings import TEMPLATE_OPTIONS
from livery.engines.engine import DEFAULT_SHOWN, GGUF_TYPE, default_engine, engine_names

Command = Callable[..., Any]

ENGINE_OPTIONS = ("dtype", "quantize", *TEMPLATE_OPTIONS, "gguf_type", "tokenizer", "url")


def engine_options(command: Command) -> Command:
    """--adapter, --model, --engine and what the engines take."""
    return _apply(
        command,
        click.option("--adapter", "--adapter-path", "adapter", metavar="DIR", help="Adapter "
                     "folder, or for llamacpp a GGUF file; leave out for the base."),
        click.option(
            "--model", "--base-model", metavar="ID_OR_PATH",
            help="Base model; by default the adapter's own, else the embedded one.",
        ),
        click.option("--engine", type=click.Choice(engine_names()), default=default_engine,
                     show_default=DEFAULT_SHOWN, help="What runs the model."),
        click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
                     default="auto", show_default=True, help="Dtype of the base (mlx, torch)."),
        click.option("--quantize", type=int, metavar="BITS",
                     help="Quantize the base on loading; by default as it was trained."),
        click.option("--chat-template", metavar="NAME_OR_FILE",
                     help="chatml, one of the tokenizer's templates by name, or a template file; "
                     "by default as the adapter was trained."),
        click.option("--chat-template-kwargs", metavar="JSON", type=Variables(),
                     help="Variables of the chat template, such as "
                     "'{\"enable_thinking\": false}'; by default as the adapter was trained."),
        click.option("--template-date", metavar="YYYY-MM-DD", help="The date that a chat template "
                                                                   "writes as today's; by default "
                                                                   "as the adapter was trained."),
        click.option("--gguf-type", metavar="TYPE",
                     help="llamacpp: how to store a base that is not a GGUF file yet; the choices "
                     f"are those of livery gguf --type.  [default: {GGUF_TYPE}]"),
        click.option("--tokenizer", metavar="DIR", help="llamacpp: folder of the tokenizer and "
                     "chat template, instead of the adapter's or the GGUF base's."),
        click.option("--url", metavar="URL", help="OpenAI-compatible endpoint (http), ending in "
                     "/v1. The API key is read from OPENAI_API_KEY."),
    )  # fmt: skip


def decoding_options(
    max_tokens: int, longest: str = "Longest answer."
) -> Callable[[Command], Command]:
    """--max-tokens, --temperature, --top-p, --seed, --threads, --batch-size."""

    def apply(command: Command) -> Command:
        return _apply(
            command,
            click.option("--max-tokens", "--max-new-tokens", "max_tokens", type=int,
                         default=max_tokens, show_default=True, help=longest),
            click.option("--temperature", type=float, default=0.0, show_default=True,
                         help="Sampling temperature; 0 always takes the most likely token."),
            click.option("--top-p", type=float, default=1.0, show_default=True,
                         help="Sample from the most likely tokens whose probabilities add up to "
                         "this."),
            click.option("--seed", type=int, default=0, show_default=True,
                         help="Seed for sampling."),
            click.option("--threads", type=click.IntRange(min=1), help="Threads on a CPU; by "
                         "default OMP_NUM_THREADS, else measured (mlx, torch)."),
            click.option("--batch-size", type=int, default=64, show_default=True,
                         help="Answers decoded together."),
        )  # fmt: skip

    return apply


def open_options(engine: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options that `engine` takes, from those on the command line.

    Raises:
        click.UsageError: an option of another engine was given, or --url is missing.
    """
    local = ("dtype", "quantize", *TEMPLATE_OPTIONS)
    llamacpp = ("gguf_type", "tokenizer", *TEMPLATE_OPTIONS)
    ours = {
        "mlx": local, "torch": local, "llamacpp": llamacpp, "http": ("url", "chat_template_kwargs")
    }  # fmt: skip
    for name, value in given.items():
        if name not in ours[engine] and value not in (None, "auto"):
            raise click.UsageError(
                f"--{name.replace('_', '-')} is not for --engine {engine}; leave it out."
            )
    if engine == "http" and not given.get("url"):
        raise click.UsageError("--engine http needs --url, such as http://127.0.0.1:8000/v1")
    found = {name: given[name] for name in ours[engine] if name in given}
    if engine == "llamacpp":
        found = {name: value for name, value in found.items() if value is not None}
        found["to_gguf"] = gguf_conversions()
    return found


class Variables(click.ParamType):
    """Variables of a chat template, as `livery.config.values.Variables` reads them."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        try:
            return kinds.Variables().read(value)
        except ValueError as error:
            self.fail(f"{value!r} is not {error}", param, ctx)


def _apply(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
