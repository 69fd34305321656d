"""Options that conversions share. Importing them costs nothing: no engine, no settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Finite(click.FloatRange):
    """A number in a range; click's own lets NaN and infinity through."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return found


# How many rows to make: as many as are held in memory, not as many as somebody can type.
ROWS = click.IntRange(1, 1_000_000)
as_json = click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
new_folder = click.option(
    "--out",
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path),
    help="The new folder.",
)
allow_nonfinite = click.option(
    "--allow-nonfinite",
    is_flag=True,
    help="Keep NaN and infinite values instead of refusing them.",
)
replace_folder = click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")


def dtype(text: str) -> Callable[[Any], Any]:
    """`--dtype`, with what it decides in this command."""
    return click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
        default="auto",
        show_default=True,
        help=text,
    )
