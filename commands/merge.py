"""`livery merge`: adapters into the full-precision base."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from commands import options
from convert.merge.folders import merge_folders
from livery.errors import printable, shown
from livery.progress import megabytes

EPILOG = """\b
Examples:
  livery merge --base base_model --adapter adapters/date-keys --out merged
  livery merge --base base_model --adapter a --weight 0.7 --adapter b --weight 0.3 --out merged
  livery merge --base model-4bit --adapter adapters/mine --dequantize --out merged
"""


@click.command("merge", epilog=EPILOG)
@click.option(
    "--base",
    "--base-model",
    "base",
    required=True,
    help="Base model: its folder, a GGUF file, a name (livery base list) or a hub id.",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Adapter of any format; repeatable, and left out with --dequantize.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="Weight of each adapter, in the same order.",
)
@options.new_folder
@click.option(
    "--dequantize",
    is_flag=True,
    help="Decode a 4-bit base (MLX, bitsandbytes, MXFP4) to full precision.",
)
@options.dtype("Dtype that --dequantize writes; auto is what the base was quantized from.")
@options.replace_folder
@options.allow_nonfinite
@options.as_json
def merge_command(
    base: str,
    adapters: tuple[Path, ...],
    weights: tuple[float, ...],
    out: Path,
    dequantize: bool,
    dtype: str,
    overwrite: bool,
    allow_nonfinite: bool,
    as_json: bool,
) -> None:
    """Merge adapters into a base model: the same answers without an adapter at run time.

    Works in blocks of rows, so memory use stays small. Merge into the full-precision base and
    quantize afterwards; --dequantize is for an adapter that was trained on a 4-bit base.
    """
    started = time.perf_counter()
    with megabytes("merging", shown=not as_json) as moved:
        report = merge_folders(
            base,
            adapters,
            out,
            weights=weights,
            dequantize=dequantize,
            dtype=dtype,
            overwrite=overwrite,
            allow_nonfinite=allow_nonfinite,
            progress=moved,
        )
    report["seconds"] = round(time.perf_counter() - started, 3)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{report['changed']} of {report['tensors']} tensors changed, "
        f"{report['bytes'] / 1e6:,.1f} MB → {shown(out)} ({report['seconds']:.1f} s)"
    )
    for note in report["notes"]:
        click.echo(printable(f"note: {note}"))
