"""`livery mlx`: a Hugging Face model folder as an MLX one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from commands import options
from livery.errors import shown
from livery.progress import megabytes

EPILOG = """\b
Examples:
  livery mlx --model merged/ --out merged-mlx
  livery mlx --model merged/ --out merged-4bit --quantize 4
  livery mlx --model merged/ --out merged-8bit --quantize 8 --group-size 32
"""


@click.command("mlx", epilog=EPILOG)
@click.option(
    "--model",
    required=True,
    help="Model folder, a GGUF file, a name (livery base list) or a hub id.",
)
@options.new_folder
@click.option(
    "--quantize",
    "bits",
    type=click.Choice(["2", "3", "4", "5", "6", "8"]),
    help="Bits for linear layers and embeddings; by default they stay dense.",
)
@click.option(
    "--group-size",
    type=click.Choice(["32", "64", "128"]),
    default="64",
    show_default=True,
    help="Weights that share a scale.",
)
@options.dtype("Dtype of what is not quantized; auto keeps the stored one.")
@options.allow_nonfinite
@options.replace_folder
@options.as_json
def mlx_command(
    model: str,
    out: Path,
    bits: str | None,
    group_size: str,
    dtype: str,
    allow_nonfinite: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert a model folder, merged or not, to MLX, with mlx-lm's own convert.

    mlx-lm reads Hugging Face folders as they are: this makes a quantized copy, or one in another
    dtype, so that starting the model needs no conversion.
    """
    from convert.mlx_model import write_model

    started = time.perf_counter()
    asked = int(bits) if bits else None
    size = int(group_size)
    with megabytes("converting to MLX", shown=not as_json) as moved:
        report = write_model(
            model,
            out,
            bits=asked,
            group_size=size,
            dtype=dtype,
            overwrite=overwrite,
            allow_nonfinite=allow_nonfinite,
            progress=moved,
        )
    report["seconds"] = round(time.perf_counter() - started, 3)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    kind = f"{asked} bits, {report['quantized']} layers" if asked else report["dtype"]
    click.echo(
        f"MLX, {kind} → {shown(out)} ({report['bytes'] / 1e6:,.1f} MB, {report['seconds']:.1f} s)"
    )
    dense = report["left_dense"]
    if dense:
        click.echo(
            f"note: {len(dense)} matrices stay {report['dtype']}: their rows are not a multiple of "
            f"{size} or mlx-lm keeps them: {shown(', '.join(dense[:3]))}{' …' if dense[3:] else ''}"
        )
