"""`livery check`: what vLLM, llama.cpp, Ollama and mlx-lm would refuse, and what fixes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from commands import options
from livery.errors import printable

if TYPE_CHECKING:
    from convert.check.case import Finding
    from convert.check.check import Verdict

EPILOG = """\b
Examples:
  livery check adapters/date-keys
  livery check adapter.gguf --base base.gguf --runtime llamacpp --runtime ollama
  livery check adapters/big --base BASE --runtime vllm --max-lora-rank 64 --json
"""


@click.command("check", epilog=EPILOG)
@click.argument("adapter", metavar="ADAPTER", type=click.Path(path_type=Path))
@click.option("--base", help="Base model: its folder, a downloaded hub id, or a .gguf file.")
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(["vllm", "llamacpp", "ollama", "mlx"]),
    multiple=True,
    help="Runtime to check; repeatable. All four by default.",
)
@click.option(
    "--max-lora-rank",
    type=click.Choice(["1", "8", "16", "32", "64", "128", "256", "320", "512"]),
    default="16",
    show_default=True,
    help="What vLLM will be started with.",
)
@click.option(
    "--enable-mixed-moe-lora-format",
    "mixed_moe",
    is_flag=True,
    help="What vLLM will be started with.",
)
@options.as_json
def check_command(
    adapter: Path,
    base: str | None,
    runtimes: tuple[str, ...],
    max_lora_rank: str,
    mixed_moe: bool,
    as_json: bool,
) -> int:
    """Say which runtimes take ADAPTER (a folder, a .gguf file or a packed .zip) and which do not.

    Each refusal comes with its reason and the command that fixes it. Exits 1 if a chosen runtime
    would refuse; lines with a dash are only notes and do not count.
    """
    from convert.check.check import RUNTIMES, check

    chosen = cast("Any", runtimes or RUNTIMES)
    verdicts = check(
        adapter,
        base=base,
        runtimes=list(dict.fromkeys(chosen)),
        max_lora_rank=int(max_lora_rank),
        mixed_moe=mixed_moe,
    )
    taken = all(verdict.taken for verdict in verdicts)
    if as_json:
        report = {
            "adapter": str(adapter),
            "taken": taken,
            "runtimes": [verdict.as_dict() for verdict in verdicts],
        }
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(table(verdicts)))
    return 0 if taken else 1


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Lines for the terminal: a row a runtime, its findings below it."""
    from convert.check.check import NAMES

    lines: list[str] = []
    for verdict in verdicts:
        word = "takes it" if verdict.taken else "REFUSES"
        line = f"{NAMES[verdict.runtime]:<10} {word:<9} {verdict.form}"
        lines.append(printable(line.rstrip()))
        for finding in verdict.findings:
            lines += _lines(finding)
    return lines


def _lines(finding: Finding) -> list[str]:
    mark = "✗" if finding.refused else "-"
    made = [printable(f"  {mark} {finding.rule}: {finding.why}")]
    if finding.remedy:
        made.append(printable(f"    → {finding.remedy}"))
    return made
