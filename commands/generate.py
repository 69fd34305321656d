"""`livery generate`."""

from __future__ import annotations

import json
from typing import Any

import click

from commands.engine_options import ENGINE_OPTIONS, decoding_options, engine_options, open_options
from commands.eval import prepare, tell
from commands.options import Finite
from livery.errors import UserError
from livery.interactions.log import DAYS, MEGABYTES

TOKENS = 256


@click.command(name="generate", short_help="Answer prompts with a model and an adapter.")
@click.argument("text", nargs=-1)
@engine_options
@click.option("--skill", help="Prompt as this skill does, and constrain answers to its grammar.")
@click.option("--unconstrained", is_flag=True, help="With --skill: do not use the grammar.")
@click.option(
    "--system",
    metavar="TEXT",
    help="System prompt (without --skill; with --skill state, one that holds the block).",
)
@click.option("--state", metavar="FILE", help="--skill state: the file that holds the state block.")
@click.option(
    "--shell",
    type=click.Choice(["bash", "powershell"]),
    help="--skill actions: what runs the commands; by default powershell on Windows, else bash.",
)
@click.option(
    "--address", metavar="TEXT", help='--skill persona: sir (default), madam, a name, or "".'
)
@click.option(
    "--tools",
    metavar="FILE",
    help="JSON list of tools to offer, in the format of training rows.",
)
@click.option(
    "--json-schema",
    metavar="FILE",
    help="Hold answers to this JSON Schema (without --skill).",
)
@click.option("--base", is_flag=True, help="Answer without the adapter.")
@click.option(
    "--log", metavar="FILE", envvar="LIVERY_LOG",
    help="Append each question and answer to this file, redacted (docs/improving.md). The variable "
    "LIVERY_LOG names it too.",
)  # fmt: skip
@click.option(
    "--log-days", type=Finite(min=0, min_open=True), default=DAYS, show_default=True,
    help="Drop what is older from the log.",
)  # fmt: skip
@click.option(
    "--log-megabytes", type=Finite(min=0, min_open=True), default=MEGABYTES,
    show_default=True, help="Drop the oldest where the log grows beyond this.",
)  # fmt: skip
@decoding_options(TOKENS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all answers.")
def generate_command(
    text: tuple[str, ...],
    engine: str,
    threads: int | None,
    log: str | None,
    log_days: float,
    log_megabytes: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Answer each TEXT; without one, each line of standard input.

    \b
    Examples:
      livery generate --adapter adapters/date-keys --skill date-keys "wake me at half seven"
      livery generate --adapter adapters/state --skill state --state ship.txt "Who is on watch?"
      livery generate --adapter adapters/persona --skill persona --address Ada "I am bored."
      livery generate --model ID_OR_PATH --system "Be brief." "What is a lease?"
      livery generate --model ID_OR_PATH --tools tools.json "Weather in Oslo?"
      livery generate --model ID_OR_PATH --json-schema book.json "A book about bees"
      livery generate --adapter adapters/date-keys --skill date-keys --json < commands.txt
      livery generate --adapter adapters/persona --skill persona --log interactions.jsonl "Good day"
    """
    from eval import generate
    from livery import streams
    from livery.interactions import Log
    from livery.skills import find

    requests = text or tuple(streams.requests())
    if not requests:
        raise click.UsageError("Nothing to answer: give a TEXT, or lines on standard input.")
    request = generate.Request(
        texts=requests,
        engine=engine,
        engine_options=open_options(engine, {name: options.pop(name) for name in ENGINE_OPTIONS}),
        threads=threads,
        **options,
    )
    kept = Log(log, log_days, log_megabytes) if log else None
    if kept is not None:
        kept.check()  # before a model is loaded
    faults: list[str] = []

    def keep(messages: Any, found: Any) -> None:
        """An answer is worth more than its line in a log: a fault there is told at the end."""
        if kept is None:
            return
        try:
            kept.record(
                messages, found.text, skill=find(request.skill).name if request.skill else "",
                finished=found.finished, adapter=None if request.base else request.adapter,
                model=request.model,
            )  # fmt: skip
        except UserError as error:
            faults.append(str(error))

    prepare(engine, threads)
    if as_json:
        click.echo(json.dumps(generate.answers(request, tell, keep), ensure_ascii=False))
    else:
        generate.stream_answers(
            request,
            lambda piece: click.echo(piece, nl=False),
            before=lambda asked: click.secho(asked, dim=True) if len(requests) > 1 else None,
            after=lambda found: click.echo("" if found.finished else " ..."),
            tell=tell,
            keep=keep,
        )
    for fault in faults:
        tell(f"not logged: {fault}")
    return 1 if faults else 0
