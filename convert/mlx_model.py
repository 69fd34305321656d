"""A Hugging Face model folder as an MLX one, through mlx-lm's own convert.

mlx-lm reads Hugging Face folders as they are; a converted one is quantized, cast or stacked once
instead of at every start. What is added here: the weights' own dtype is kept unless another is
asked for (mlx-lm casts to the one that config.json names), the folder appears whole or not at all,
and config.json is in the dialect that mlx-lm's models read (`livery.engines.mlx.model_config`), for
whoever loads the folder later.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import load_base
from livery.engines.mlx.load import (
    as_mlx_reads,
    check_arithmetic,
    check_folder,
    require_mlx,
)
from livery.errors import UserError, shown
from livery.files import is_full_disk, read_json
from livery.models import download_model, nested_parts, quantization, read_config
from livery.outputs import check_folder as check_free
from livery.outputs import check_link, new_folder
from livery.progress import OnProgress
from livery.safetensors_file import STORED, check_overflow, open_tensors, round_to
from livery.weights import read_tensors, weight_files

COMMAND = "livery mlx"  # whose mark the folder gets
BITS = (2, 3, 4, 5, 6, 8)
_POLL = 0.5  # seconds between looks at how much has been written


def write_model(
    model: str | Path,
    out: Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    dtype: str = "auto",
    overwrite: bool = False,
    allow_nonfinite: bool = False,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write the MLX folder; returns what was done.

    Args:
        model: folder or hub id.
        out: the new folder.
        bits: quantize linear layers and embeddings to so many; None leaves them dense.
        group_size: how many weights share a scale.
        dtype: of what stays floating: "auto" keeps what the weights are stored in.
        overwrite: replace what an earlier call wrote there.
        allow_nonfinite: write NaN and infinity, the model's own or new in `dtype`.
        progress: called with (bytes written, estimated bytes in all).

    Raises:
        UserError: MLX is missing, the folder is not a model that mlx-lm knows or is one that it
            computes differently, it is quantized already, it holds NaN or infinity or values beyond
            `dtype`, or nothing in it can be quantized as asked.
    """
    check_link(out)
    if Path(model).exists() and out.resolve() == Path(model).resolve():
        raise UserError(f"{out}: is the model itself; write to another folder.")
    check_free(out, command=COMMAND, overwrite=overwrite, inputs=[model])
    require_mlx()
    folder = download_model(model)
    check_folder(folder)
    _check_source(folder)
    check_arithmetic(
        folder,
        "The converted folder would answer like a different model. Run the model with "
        "transformers or vLLM, or with llama.cpp (livery gguf).",
    )
    chosen = _stored_dtype(folder) if dtype == "auto" else dtype
    if not allow_nonfinite:
        _check_values(folder, chosen)
    read = (model, folder)
    with new_folder(out, command=COMMAND, overwrite=overwrite, inputs=read) as fresh:
        inner = fresh / "model"  # mlx-lm wants to make the folder itself
        expected = _expected_bytes(folder, bits, group_size, chosen)
        with _watched(inner, expected, progress), as_mlx_reads(folder) as staged:
            _convert(folder, staged, inner, bits, group_size, chosen)
        for path in sorted(inner.iterdir()):
            path.rename(fresh / path.name)
        inner.rmdir()
        _say_dtype(fresh / "config.json", chosen)
        report = _report(fresh, bits)
        if bits and not report["quantized"]:
            raise UserError(
                f"{folder}: nothing in this model can be quantized in groups of {group_size}: no "
                "layer's input is a multiple of it. Use a smaller --group-size, or leave out "
                "--quantize."
            )
    size = sum(path.stat().st_size for path in out.iterdir())
    return {"path": str(out), "bits": bits, "dtype": chosen, **report, "bytes": size}


def _check_source(folder: Path) -> None:
    if (said := quantization(read_config(folder))) is not None:
        key, found = said
        method = found.get("quant_method", f"{found.get('bits', '?')} bits")
        raise UserError(
            f"{folder / 'config.json'}: the model is quantized already ({key}: {method}). "
            "Convert the full-precision model; livery merge --dequantize makes one of some."
        )
    base = load_base(folder)
    if not base.shapes:
        raise UserError(f"{folder}: holds no float weights (F32, F16, BF16) to convert.")


def _stored_dtype(folder: Path) -> str:
    """The dtype that most of the weights are stored in."""
    counts: dict[str, int] = {}
    for entry in read_tensors(folder).values():
        if entry.tag in STORED:
            dtype = STORED[entry.tag]
            counts[dtype] = counts.get(dtype, 0) + entry.count
    return max(counts, key=lambda name: counts[name])


def _check_values(folder: Path, dtype: str) -> None:
    """Refuse NaN and infinity, and weights that would become so in `dtype`; a tensor is read at a
    time.

    Raises:
        UserError: naming the first tensor, and how many of its values.
    """
    for path in weight_files(folder):
        file = open_tensors(path)
        for name, entry in file.entries.items():
            if entry.tag not in STORED:
                continue
            values = file.read(name)
            odd = values.size - int(np.isfinite(values).sum())
            if odd:
                raise UserError(
                    f"{path}: {shown(name)}: {odd:,} of {values.size:,} values are NaN or "
                    "infinite, and so will every answer be that they reach: the model is damaged, "
                    "or its training diverged. Download it again, or take an earlier one; "
                    "--allow-nonfinite writes them as they are."
                )
            if dtype != "float32" and STORED[entry.tag] not in (dtype, "float16"):
                check_overflow(values, round_to(values, dtype), name, dtype)


def _expected_bytes(folder: Path, bits: int | None, group_size: int, dtype: str) -> int:
    """About how large the weights will be, for the progress."""
    width = 4 if dtype == "float32" else 2
    total = 0
    for entry in read_tensors(folder).values():
        if bits and len(entry.shape) > 1 and entry.shape[-1] % group_size == 0:
            total += entry.count * bits // 8 + entry.count // group_size * 2 * width
        else:
            total += entry.count * width
    return total


def _convert(
    folder: Path, staged: Path, out: Path, bits: int | None, group_size: int, dtype: str
) -> None:
    from mlx_lm.convert import convert

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):  # it prints
            convert(
                str(staged),
                str(out),
                quantize=bits is not None,
                q_bits=bits,
                q_group_size=group_size,
                dtype=dtype,
            )
    except SystemExit as error:  # olmo, where a package of its own is missing
        raise UserError(f"{folder}: mlx-lm cannot convert this model.") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: mlx-lm cannot convert this model: {type(error).__name__}: {error}"
        ) from error
    except RuntimeError as error:
        if is_full_disk(error):
            raise  # said of the output folder, not of the model
        raise UserError(
            f"{folder}: its weights cannot be read ({error}). Download the model again."
        ) from error


@contextlib.contextmanager
def _watched(folder: Path, expected: int, progress: OnProgress | None) -> Generator[None]:
    """Report how much has been written, from a thread: mlx-lm says nothing while it works."""
    if progress is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL):
            files = list(folder.glob("*.safetensors"))
            with contextlib.suppress(OSError):
                progress(min(sum(f.stat().st_size for f in files), expected), expected)

    progress(0, expected)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    progress(expected, expected)


def _say_dtype(path: Path, dtype: str) -> None:
    """Have config.json say the dtype that was written."""
    config: Any = read_json(path)
    for part in (config, *nested_parts(config)):
        for key in ("torch_dtype", "dtype"):
            if part.get(key):
                part[key] = dtype
    path.write_text(json.dumps(config, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _report(folder: Path, bits: int | None) -> dict[str, Any]:
    """How many matrices there are, how many of them quantized, and which stayed dense unasked."""
    names = {name: entry.shape for name, entry in read_tensors(folder).items()}
    quantized = [name for name in names if name.endswith(".scales")]
    dense = [
        name.removesuffix(".weight")
        for name, shape in names.items()
        if name.endswith(".weight")
        and len(shape) > 1
        and name.removesuffix("weight") + "scales" not in names
    ]
    return {
        "tensors": len(names),
        "quantized": len(quantized),
        "left_dense": sorted(dense) if bits else [],
    }
