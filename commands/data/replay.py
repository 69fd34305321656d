"""`livery data replay`: rows that keep a base as it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from commands.engine_options import ENGINE_OPTIONS, engine_options, open_options
from commands.eval import prepare

COUNT, TOKENS, TOGETHER = 800, 128, 64


@click.command(name="replay", short_help="Add rows that keep the base as it is.")
@click.argument("folder", metavar="DATA", type=click.Path(path_type=Path))
@engine_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=COUNT, show_default=True,
              help="Questions to ask the base.")  # fmt: skip
@click.option("--data-seed", type=int, default=7, show_default=True, help="Draws the questions.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=TOKENS, show_default=True,
              help="Longest answer; longer ones are left out.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads on a CPU.")
@click.option("--batch-size", type=click.IntRange(min=1), default=TOGETHER, show_default=True,
              help="Answers decoded together.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace splits of --out that were edited.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay_command(
    folder: Path,
    adapter: str | None,
    model: str | None,
    engine: str,
    out: Path,
    count: int,
    data_seed: int,
    max_tokens: int,
    threads: int | None,
    batch_size: int,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Write a new folder: DATA, and rows that the base itself has answered.

    An adapter that sees its skill's prompt in every row also changes what is answered without it:
    general questions lose, and a form of address appears where nobody asked for one. The added
    rows are questions of the training split without a system prompt, with the base's own answers.
    Answers that were cut off are left out. What was stopped goes on with the same command. With
    --adapter that adapter answers, and what it has learned so far is kept.

    \b
    Examples:
      livery data replay data/persona --model smollm2-135m --out data/persona-kept
      livery train --data data/persona-kept --model smollm2-135m --output-dir adapters/persona
    """
    from datagen.replay import Base, Said, check, describe, replay

    check(folder, out)
    prepare(engine, threads)
    from livery.adapter_origin import choose_model, complete_options, read_origin
    from livery.engines.engine import Decoding, open_engine
    from livery.progress import Progress
    from livery.training.origin import base_digest

    given = open_options(engine, {name: options[name] for name in ENGINE_OPTIONS})
    origin = read_origin(None if engine == "http" else adapter)
    base = choose_model(model, origin)
    given = complete_options(engine, given, origin, base, adapter)
    opened = open_engine(engine, base, adapter, **given)
    decoding = Decoding(max_tokens=max_tokens, batch_size=batch_size)

    def answer(questions: Sequence[str]) -> list[Said]:
        prompts = [opened.prompt([{"role": "user", "content": text}]) for text in questions]
        return [Said(g.text, g.finished) for g in opened.generate(prompts, decoding)]

    made_from = {
        "base": base_digest(base), "adapter": adapter, "engine": engine, "max_tokens": max_tokens
    }  # fmt: skip
    with Progress("answering", count, "answers") as progress:

        def follow(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        found = replay(
            folder, out, Base(adapter or base, made_from, answer),
            count=count, seed=data_seed, every=batch_size, overwrite=overwrite,
            progress=follow,
        )  # fmt: skip
    click.echo(json.dumps(dataclasses.asdict(found)) if as_json else describe(found))
    return 0
