"""Options that several of the conversion commands take."""

from __future__ import annotations

from pathlib import Path

import click

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
    help="Carry NaN and infinite values over instead of refusing them.",
)
replace_folder = click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
