"""How the llama.cpp engine gets its GGUF files: made by `convert`, kept by `livery`.

The engine is below `convert` and is handed its functions. Nothing heavy is imported before one
of them is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from livery.errors import UserError
from livery.models import find_base

if TYPE_CHECKING:
    from livery.engines.llamacpp.files import ToGguf


def gguf_conversions() -> ToGguf:
    """What the llama.cpp engine takes as its option `to_gguf`."""
    from livery.engines.llamacpp.files import ToGguf, converter_version

    return ToGguf(_model, _adapter, _find, converter_version())


def _model(folder: Path, out: Path, kind: str) -> None:
    from convert.gguf.convert import KINDS, convert_model
    from livery.progress import megabytes

    if kind not in KINDS:
        raise UserError(f"--gguf-type is {kind}; choose one of: {', '.join(KINDS)}.")
    with megabytes(f"writing {kind}") as moved:
        convert_model(folder, out, kind, progress=moved)


def _adapter(source: Path, out: Path, base: Path | None) -> None:
    from convert.convert import convert

    convert(source, out, "gguf", base=base)


def _find(model: str) -> Path:
    folder = find_base(model)
    if folder is None:
        raise UserError(
            f"{model}: no such folder, and no model of that name in the local hub cache. llama.cpp "
            "runs a GGUF file, or one made of a model folder that lies here."
        )
    return folder
