"""What commands of one part need of another: plain functions, handed over in click's context.

`livery/cli.py` puts one `Handover` there; a command takes it with `click.pass_obj`. Nothing is
imported before it is called.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.models import find_base


def gguf_conversions() -> Any:
    """How the llama.cpp engine comes by its files: `livery.engines.llamacpp.files.ToGguf`."""
    from livery.engines.llamacpp.files import ToGguf

    return ToGguf(_model, _adapter, _find, _version())


def _model(folder: Path, out: Path, kind: str) -> None:
    from commands.gguf import KINDS, convert_model
    from convert.megabytes import megabytes

    if kind not in KINDS:
        raise UserError(f"--gguf-type is {kind}; choose one of: {', '.join(KINDS)}.")
    with megabytes(f"writing {kind}") as moved:
        convert_model(folder, out, kind, progress=moved)


def _adapter(source: Path, out: Path, base: Path | None) -> None:
    from commands.convert import convert

    convert(source, out, "gguf", base=base)


def _find(model: str) -> Path:
    folder = find_base(model)
    if folder is None:
        raise UserError(
            f"{model}: no such folder, and no model of that name in the local hub cache. llama.cpp "
            "runs a GGUF file, or one made of a model folder that lies here."
        )
    return folder


@functools.cache
def _version() -> str:
    """Digest of the converter's code: a model made by older code is made anew."""
    import convert

    total = hashlib.sha256()
    for file in sorted(Path(str(convert.__file__)).parent.rglob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def verify_conversion(
    source: Path, destination: Path, source_format: str, target: str, base: str, *, show: bool
) -> Any:
    """Hold what was converted against what it was converted from, and print the table if asked.

    Returns:
        `convert.verify.verify.Verdict`.
    """
    from commands.verify import print_verdict
    from convert.verify.verify import FORMATS, verify

    made = set(FORMATS.values()) - {source_format} if target == "all" else {target}
    also = {name: [destination] for name, kind in FORMATS.items() if kind in made}
    verdict = verify(source, base, also=also)
    if show:
        print_verdict(verdict)
    return verdict


@dataclass(frozen=True)
class Handover:
    """What `livery/cli.py` hands to every command.

    Attributes:
        gguf_conversions: makes `livery.engines.llamacpp.files.ToGguf`.
        verify_conversion: see there.
    """

    gguf_conversions: Callable[[], Any] = gguf_conversions
    verify_conversion: Callable[..., Any] = verify_conversion
