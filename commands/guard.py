"""`livery guard`: how dangerous a shell command is, for people and for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from commands import options as options
from livery.errors import UserError, printable, shown

if TYPE_CHECKING:
    from livery.skills.actions.guard import Guarded, Judged, Level, Policy, Risk

EPILOG = """\b
Examples:
  livery guard "rm -rf build && make"
  livery guard 'Remove-Item C:\\data -Recurse' --shell powershell
  livery guard "git push" --policy policy.yaml --json
  cat script.sh | livery guard
  livery guard --jsonl < commands.jsonl > judged.jsonl
  livery guard --answer < answer.txt

\b
Exit codes: 0 at or below --allow, else 10 medium, 20 high, 30 critical; of several, the worst.
1 your input is wrong, 2 usage.
"""
LEVELS = ("low", "medium", "high")
MAX_BYTES = 64 * 1024 * 1024


@click.command("guard", epilog=EPILOG)
@click.argument("command", metavar="[COMMAND]", required=False)
@click.option(
    "--shell",
    type=click.Choice(["auto", "bash", "powershell"]),
    default="auto",
    show_default=True,
    help="The shell that would run it.",
)
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="YAML file with levels of your own for commands, paths and hosts.",
)
@click.option(
    "--allow",
    type=click.Choice(LEVELS),
    default="medium",
    show_default=True,
    help="Highest level that exits with 0.",
)
@click.option(
    "--jsonl",
    is_flag=True,
    help="Standard input holds a command a line, as a JSON string or an object with `command` "
    "and perhaps `shell`; a JSON line is printed for each.",
)
@click.option("--answer", is_flag=True, help="Judge the tags of an assistant's answer instead.")
@options.as_json
def guard_command(
    command: str | None,
    shell: str,
    policy_file: Path | None,
    allow: str,
    jsonl: bool,
    answer: bool,
    as_json: bool,
) -> int:
    """Say how dangerous COMMAND is, and why. Nothing is run.

    low reads; medium changes the project or looks at the network; high is to be asked about first;
    critical should never run. Without COMMAND, standard input is judged as one script.
    """
    from livery.skills.actions.guard import Level, classify, guard, load_policy

    policy = load_policy(policy_file) if policy_file is not None else None
    read_as = cast("Any", shell)
    if jsonl:
        if command is not None or answer:
            raise click.UsageError("--jsonl reads commands from standard input; give no COMMAND.")
        return _lines(read_as, policy, allow)
    text = command if command is not None and command != "-" else _input()
    if answer:
        guarded = guard(text, shell=read_as, policy=policy)
        click.echo(_json(_answer(guarded)) if as_json else "\n".join(answer_table(guarded)))
        return code(guarded.level, Level.of(allow))
    risk = classify(text, read_as, policy=policy)
    click.echo(_json(risk.as_dict()) if as_json else "\n".join(table(risk)))
    return code(risk.level, Level.of(allow))


def code(level: Level, allow: Level) -> int:
    """The exit code of a level: 0 where it is allowed, else 10, 20 or 30."""
    return 0 if level <= allow else 10 * int(level)


def table(risk: Risk) -> list[str]:
    """Lines for the terminal: the level, the command, why, and what it does."""
    first, *more = risk.shown.splitlines() or [""]
    rest = f" (and {len(more):,} more lines)" if more else ""
    lines = [printable(f"{risk.level}: {shown(first, 300)}{rest}")]
    lines += [printable(f"  - {reason}") for reason in risk.reasons[:12]]
    if len(risk.reasons) > 12:
        lines.append(f"  - and {len(risk.reasons) - 12:,} more reasons; --json has them all")
    return lines


def answer_table(guarded: Guarded) -> list[str]:
    """Lines for the terminal: each tag with what becomes of it."""
    groups = (
        ("runs", guarded.allowed),
        ("ask first", guarded.to_confirm),
        ("never", guarded.blocked),
    )
    lines = [f"{word:<9} {line}" for word, group in groups for judged in group
             for line in table(judged.risk)[:1]]  # fmt: skip
    if guarded.problem:
        lines.append(printable(guarded.problem))
    return lines or ["The answer carries no tags."]


def _lines(shell: Any, policy: Policy | None, allow: str) -> int:
    """Judge each line of standard input and print a JSON line for it."""
    from livery.skills.actions.guard import Level, classify

    worst = Level.LOW
    for number, line in enumerate(_input().splitlines(), start=1):
        if not line.strip():
            continue
        text, of = _row(line, number, shell)
        risk = classify(text, cast("Any", of), policy=policy)
        worst = max(worst, risk.level)
        click.echo(json.dumps({"line": number, **risk.as_dict()}, ensure_ascii=False))
    return code(worst, Level.of(allow))


def _row(line: str, number: int, shell: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"standard input, line {number}: not JSON ({error}). Write a command a line, such as "
            '"ls -la" or {"command": "ls -la", "shell": "bash"}.'
        ) from error
    if isinstance(row, str):
        return row, shell
    if not isinstance(row, dict) or not isinstance(cast("Any", row).get("command"), str):
        raise UserError(
            f"standard input, line {number}: give a JSON string, or an object with `command`."
        )
    given = cast("dict[str, Any]", row)
    of = given.get("shell", shell)
    if of not in ("auto", "bash", "powershell"):
        raise UserError(
            f"standard input, line {number}: shell: {shown(of)}: choose auto, bash or powershell."
        )
    return given["command"], of


def _input() -> str:
    """Standard input as text; bytes that are no UTF-8 become replacement characters."""
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError('Give a command, such as livery guard "ls -la", or pipe one in.')
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"standard input: longer than {MAX_BYTES >> 20} MB.")
    return data.decode("utf-8", "replace")


def _answer(guarded: Guarded) -> dict[str, Any]:
    def rows(group: tuple[Judged, ...]) -> list[dict[str, Any]]:
        return [{"tag": judged.tag.written, **judged.risk.as_dict()} for judged in group]

    return {
        "allowed": rows(guarded.allowed),
        "to_confirm": rows(guarded.to_confirm),
        "blocked": rows(guarded.blocked),
        "problem": guarded.problem,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
