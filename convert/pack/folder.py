"""One folder for every runtime: PEFT at the root, `mlx/` and `gguf/` beside it, and the card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.adapters import formats
from convert.adapters import mlx as mlx_format
from convert.adapters import peft as peft_format
from convert.archive import TOKENIZER_FILES, copy_file
from convert.base import Base, load_base
from convert.check import check
from convert.check import vllm as check_vllm
from convert.pack import card
from livery.adapter import Adapter
from livery.errors import UserError
from livery.files import CannotWrite, atomic_write, replace_together

# Without these no form is read. PEFT's weights stay where they are until others replace them: they
# tell that the folder is Livery's.
_FORMS = (
    f"mlx/{mlx_format.WEIGHTS}",
    f"mlx/{mlx_format.CONFIG}",
    "gguf/adapter.gguf",
    peft_format.CONFIG,
)


@dataclass(frozen=True)
class FolderReport:
    """What was written.

    Attributes:
        formats: "peft", then "mlx" and "gguf" where the adapter has that form.
        left_out: format -> why it is not there, naming the way out.
        notes: what a user should know of the conversion.
    """

    formats: tuple[str, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def write_adapter_folder(
    adapter: Adapter,
    out_dir: str | Path,
    base_dir: str | Path | None,
    card_facts: Mapping[str, Any] | None = None,
    *,
    source: formats.Format | None = None,
) -> FolderReport:
    """Write everything a runtime may want of an adapter; other files in `out_dir` are left alone.

    Args:
        adapter: what was trained or read.
        out_dir: the adapter folder; made where it is missing.
        base_dir: the base model's folder, for shapes, tokenizer and chat template. Without it the
            tokenizer is left out, and so is GGUF where it needs the base.
        card_facts: see `card.render`.
        source: the format it was read from; None for a trained one.

    Raises:
        UserError: the adapter has no PEFT form, does not fit the base, or the folder cannot be
            written.
    """
    out = Path(out_dir)
    base = load_base(base_dir) if base_dir else None
    adapter = formats.with_base(adapter, base)
    # However this ends, no form is of another adapter than the rest; one that this adapter does
    # not have is removed.
    with replace_together(out, *_FORMS, first=peft_format.WEIGHTS) as fresh:
        report = _write_forms(adapter, fresh, base, source)
        if base:
            copy_tokenizer(base, fresh)
        text = card.render(
            adapter,
            card_facts or {},
            formats=list(report.formats),
            left_out=report.left_out,
            verdicts=verdicts_on(adapter, fresh, base),
        )
        with atomic_write(fresh / "README.md", "w") as file:
            file.write(text)
    return report


def _write_forms(
    adapter: Adapter, folder: Path, base: Base | None, source: formats.Format | None
) -> FolderReport:
    notes = formats.write_adapter(adapter, folder, "peft", base=base, source=source)
    written = ["peft"]
    left_out: dict[str, str] = {}
    places: dict[formats.Format, Path] = {"mlx": folder / "mlx", "gguf": folder / "gguf"}
    for target, place in places.items():
        try:
            notes += formats.write_adapter(adapter, place, target, base=base, source=source)
            written.append(target)
        except CannotWrite:
            raise
        except UserError as error:
            left_out[target] = str(error)
    return FolderReport(tuple(written), left_out, tuple(notes))


def verdicts_on(adapter: Adapter, folder: Path, base: Base | None) -> list[check.Verdict]:
    """What `livery check` says of a finished folder, as its card may: without this machine's
    paths, and of a vLLM that is started as the card says."""
    try:
        case = check.gather(folder, base.folder if base else None, check_vllm.RANKS[-1], True)
    except UserError:  # other adapters are beside it
        return []
    name = card.base_name(adapter)
    return check.judge(dataclasses.replace(case, path=Path(), base_name=name))


def copy_tokenizer(base: Base, out: Path) -> list[str]:
    """Copy the base's tokenizer files and chat template; returns their names."""
    copied: list[str] = []
    for name in TOKENIZER_FILES:
        if (base.folder / name).is_file() and (base.folder / name).resolve() != out / name:
            copy_file(base.folder / name, out / name)
            copied.append(name)
    return copied
