"""Options of what asks a teacher: which one, how patiently, at what price (docs/teacher.md)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.options import Finite

if TYPE_CHECKING:
    from livery.teacher import Teacher

Command = Callable[..., Any]

RECORDS = Path("outputs/teacher/records.sqlite")


@dataclass(frozen=True)
class Asked:
    """What the options say; a command gets it as `asked`."""

    model: str | None
    teacher_url: str | None
    teacher_api: str
    teacher_records: Path
    retries: int
    retry_wait: float
    timeout: float
    context: int | None
    concurrency: int
    price_in: float | None
    price_out: float | None
    dry_run: bool

    def teacher(self) -> Teacher:
        """The teacher that is meant.

        Raises:
            UserError: see `livery.teacher.find_teacher`.
        """
        from livery.teacher import find_teacher
        from livery.teacher.settings import with_options

        found = find_teacher(self.model, self.teacher_url, self.teacher_api)
        return with_options(
            found, retries=self.retries, retry_wait=self.retry_wait, timeout=self.timeout,
            context=self.context, concurrency=self.concurrency, price_in=self.price_in,
            price_out=self.price_out,
        )  # fmt: skip


def teacher_options(*names: str) -> Callable[[Command], Command]:
    """All of them; `names` are the flags that name the model."""

    def apply(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(*args: Any, **given: Any) -> Any:
            own = {field.name: given.pop(field.name) for field in fields(Asked)}
            return command(*args, asked=Asked(**own), **given)

        function: Command = gathered
        for option in reversed(_options(names)):
            function = option(function)
        return function

    return apply


def _options(names: tuple[str, ...]) -> list[Callable[[Command], Command]]:
    return [
        click.option(
            *names, "model", metavar="ID",
            help="Teacher.  [default: LLM_MODEL, then .llmrc, then gpt-oss:120b]",
        ),
        click.option(
            "--teacher-url", metavar="URL", help="Where it is served: an OpenAI-compatible "
            "endpoint or Ollama.  [default: LLM_BASE_URL, OPENAI_BASE_URL, OLLAMA_HOST, then "
            "Ollama on this machine]",
        ),
        click.option(
            "--teacher-api", type=click.Choice(["auto", "openai", "ollama"]), default="auto",
            show_default=True, help="Interface; auto takes Ollama's own on its port.",
        ),
        click.option(
            "--teacher-records", type=click.Path(path_type=Path), default=RECORDS,
            show_default=True, metavar="FILE",
            help="Where its answers are kept; nothing is asked twice.",
        ),
        click.option(
            "--max-retries", "--teacher-retries", "retries", type=click.IntRange(0), default=5,
            show_default=True, help="Further attempts at a request that failed for a while.",
        ),
        click.option(
            "--teacher-retry-wait", "retry_wait", type=Finite(0), default=2.0,
            show_default=True, help="Seconds before the second attempt; later ones wait longer.",
        ),
        click.option(
            "--teacher-timeout", "timeout", type=Finite(0, min_open=True), default=600.0,
            show_default=True, help="Seconds for a whole answer.",
        ),
        click.option(
            "--teacher-context", "context", type=click.IntRange(256), metavar="TOKENS",
            help="Tokens that it reads and writes in one request.  [default: for Ollama as many "
            "as the longest prompt needs]",
        ),
        click.option(
            "--concurrency", type=click.IntRange(1), default=8, show_default=True,
            help="Requests under way at once.",
        ),
        click.option(
            "--price-in", type=Finite(0), help="Price of a million tokens of prompts."
        ),
        click.option(
            "--price-out", type=Finite(0), help="Price of a million tokens of answers."
        ),
        click.option(
            "--dry-run", is_flag=True,
            help="Say how many requests and tokens it takes and what they cost; send nothing.",
        ),
    ]  # fmt: skip
