"""The `livery` command: a group that imports a command when it is called, and no sooner."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import sys
from typing import Any, NoReturn

import click

from livery import __version__, streams
from livery.errors import LiveryError, printable, shown

# name -> (module:attribute, what `livery --help` says of it)
COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": (
        "commands.doctor:doctor",
        "Say what this machine can do, and how to fix what it cannot.",
    ),
    "base": ("commands.base:base", "List base models that have a name, or fetch one."),
    "data": ("commands.data:data", "Make a skill's data, or check data you have."),
    "train": ("commands.train:train", "Train an adapter."),
    "dpo": ("commands.dpo:dpo", "Train an adapter on pairs of a better and a worse answer."),
    "eval": ("commands.eval:eval_command", "Score an adapter on a skill's cases."),
    "convert": (
        "commands.convert:convert_command",
        "Turn an adapter of any format into any other.",
    ),
    "merge": ("commands.merge:merge_command", "Bake an adapter into its base."),
    "gguf": ("commands.gguf:gguf_command", "Turn a model folder into GGUF for llama.cpp."),
    "mlx": ("commands.mlx:mlx_command", "Turn a model folder into MLX, quantized or not."),
    "check": ("commands.check:check_command", "Say which runtimes would refuse an adapter."),
    "pack": ("commands.pack:pack_command", "Pack an adapter for every runtime, or for Ollama."),
    "verify": ("commands.verify:verify", "Run an adapter in every runtime and compare."),
    "dsl": ("commands.dsl.data:dsl", "The pipeline of the skill dsl, from data to report."),
    "guard": ("commands.guard:guard_command", "Say how dangerous a shell command is, and why."),
    "fasttext": (
        "commands.fasttext:fasttext",
        "A FastText classifier of date keys, alone and with an adapter.",
    ),
    "generate": (
        "commands.generate:generate_command",
        "Answer prompts with a model and an adapter.",
    ),
    "report": ("commands.eval:report_command", "Write report.md and report.html of a run."),
    "promote": (
        "commands.improve:promote_command",
        "Use a new adapter in place of another, if it is better.",
    ),
    "run": ("commands.run:run", "Data, training, evaluation and report in one go."),
    "jobs": ("commands.serving.jobs:jobs_command", "Make adapters in the background."),
    "serve": ("commands.serving.serve:serve_command", "Serve an API and a web page of one folder."),
}

USAGE_ERROR = 2
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Lists its commands without importing them; suggests a name for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, EOFError) as error:
            # click would take the first for a reader of ours that has gone and the second for
            # Ctrl-D, and leave without a word. Standard output raises OutputError instead.
            raise RuntimeError(f"a pipe or file ended too soon ({error!r})") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="livery")
def cli() -> None:
    """Fit one base model with small LoRA adapters: make data, train, evaluate, report.

    \b
    Examples:
      livery doctor                    what this machine can do
      livery run date-keys             everything for one skill, resumable
      livery train --data my/data --output-dir adapters/mine --model ID_OR_PATH
      livery eval date-keys --adapter adapters/date-keys --baseline

    Exit codes: 0 done, 1 your data or input is wrong, 2 usage, 3 a target was missed,
    70 a fault of Livery's own, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code.

    Here alone is the net under everything: what nobody foresaw becomes one message.
    """
    streams.prepare()
    arguments = sys.argv[1:] if arguments is None else arguments
    code = 1
    with contextlib.suppress(streams.OutputError):
        try:
            code = run(arguments)
        except streams.OutputError:
            raise
        except Exception as error:
            from livery import faults

            said = faults.understood(error)
            if said is not None:
                code = _fail(arguments, said, 1)
            else:
                code = _fail(arguments, faults.report(arguments, error), faults.FAULT)
    fault = streams.output_fault()
    if fault is not None:
        code = code or 1
        # Where the reader (`| head`) has gone, nobody is left to tell.
        if not isinstance(fault, BrokenPipeError):
            click.echo(
                f"Error: standard output: {fault.strerror}. What the command printed is cut off; "
                "files that it wrote are whole.", err=True,
            )  # fmt: skip
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code. Mistakes that are understood become one message on stderr, or one JSON object
        on stdout where `--json` was asked for.
    """
    try:
        _check_text(arguments)
        result: Any = cli.main(arguments, prog_name="livery", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except LiveryError as error:
        return _fail(arguments, str(error), error.exit_code)
    except click.UsageError as error:
        if "--json" in arguments:
            return _fail(arguments, error.format_message(), USAGE_ERROR)
        usage = ""
        if error.ctx:
            usage = f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n\n"
        return _fail(arguments, error.format_message(), USAGE_ERROR, before=usage)
    except click.ClickException as error:
        return _fail(arguments, error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail(arguments, "Interrupted.", INTERRUPTED)


def _check_text(arguments: list[str]) -> None:
    """The libraries that open models and tokenizers take no name that is not UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(
                f"{shown(argument)}: not UTF-8. Rename the file or folder."
            ) from None


def _fail(arguments: list[str], message: str, code: int, before: str = "") -> int:
    if "--json" in arguments:
        click.echo(json.dumps({"error": {"message": message, "exit_code": code}}))
    else:
        # The newline leaves a half-drawn progress bar, or the terminal's ^C, on its own line.
        lead = "\n" if code == INTERRUPTED and sys.stderr.isatty() else ""
        label = "" if code in (INTERRUPTED, 3) else "Error: "
        text = printable(_on_one_line(arguments, message))
        click.echo(f"{lead}{before}{label}{text}", err=True)
    return code


def _on_one_line(arguments: list[str], message: str) -> str:
    """The message with the line breaks of names that the user gave escaped."""
    parts = {part for argument in arguments for part in (argument, *argument.split("/"))}
    for part in sorted((p for p in parts if "\n" in p or "\t" in p), key=len, reverse=True):
        message = message.replace(part, shown(part))
    return message
