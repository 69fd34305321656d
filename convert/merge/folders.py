"""Adapters merged into the base in a folder: what `livery merge` calls.

from convert.merge.folders import merge_folders

merge_folders("models/base", ["adapters/mine"], "merged")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livery.errors import UserError
from livery.outputs import check_folder, check_link

if TYPE_CHECKING:
    from livery.progress import OnProgress


def merge_folders(
    base: str | Path,
    adapters: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] = (),
    dequantize: bool = False,
    dtype: str = "auto",
    overwrite: bool = False,
    allow_nonfinite: bool = False,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Merge adapters into a base model: the same answers without an adapter at run time.

    Args:
        base: its folder, or the hub id of a downloaded one; in full precision, or with
            `dequantize` a 4-bit one (MLX, bitsandbytes).
        adapters: of any format, merged in this order; may be empty with `dequantize`.
        out: the new model folder.
        weights: one factor for each adapter; empty for 1 each.
        dequantize: write a 4-bit base in full precision.
        dtype: what `dequantize` writes; "auto" is what the base was quantized from.
        overwrite: replace what an earlier merge wrote there.
        allow_nonfinite: carry NaN and infinite values over instead of refusing them.
        progress: called with (bytes written, bytes in all).

    Returns:
        "path", "shards", "bytes", "changed" and "tensors" (counts of tensors), "notes".

    Raises:
        UserError: `out` exists or is the base itself, weights do not match adapters, an adapter
            does not fit the base, or a sum is too large for its dtype.
    """
    from convert.adapters import formats
    from convert.base import load_base
    from convert.merge.changes import Part
    from convert.merge.merge import COMMAND, merge

    out = Path(out)
    if dtype != "auto" and not dequantize:
        raise UserError(
            "--dtype belongs to --dequantize; a merge keeps what the base is stored in."
        )
    if not adapters and not dequantize:
        raise UserError("Nothing to merge: give an --adapter.")
    if weights and len(weights) != len(adapters):
        raise UserError(
            f"{len(weights)} --weight for {len(adapters)} --adapter: give one each, or none."
        )
    check_link(out)
    found_base = load_base(base)
    if out.resolve() == found_base.folder.resolve():
        raise UserError(f"{out}: is the base itself; write to another folder.")
    read = (base, found_base.folder, *adapters)
    check_folder(out, command=COMMAND, overwrite=overwrite, inputs=read)
    parts: list[Part] = []
    for at, path in enumerate(adapters):
        source = formats.detect(path)
        adapter = formats.read_adapter(source, found_base, allow_nonfinite=allow_nonfinite)
        parts.append(Part(adapter, weights[at] if weights else 1.0, source.format))
    if dequantize:
        from convert.merge.dequantize import merge_dequantized

        report = merge_dequantized(
            found_base, parts, out, dtype, progress, allow_nonfinite=allow_nonfinite,
            overwrite=overwrite, inputs=read,
        )  # fmt: skip
    else:
        report = merge(
            found_base, parts, out, progress, allow_nonfinite=allow_nonfinite,
            overwrite=overwrite, inputs=read,
        )  # fmt: skip
    report["notes"] = [*(n for part in parts for n in part.adapter.notes), *report["notes"]]
    return report
