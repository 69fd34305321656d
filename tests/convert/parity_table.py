"""The parity table of benchmarks/RESULTS.md: python -m tests.convert.parity_table

Random adapters on tiny models of every family, made by PEFT; the same tokens in torch with PEFT,
mlx-lm and llama.cpp, in float32, and the adapter back in PEFT.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from convert.convert import convert
from convert.gguf.model import write_model
from tests.convert import convert_cases as cases
from tests.convert.convert_cases import MOE
from tests.convert.test_convert_llamacpp import adapter_of, logprobs, prompts
from tests.tiny_models import FAMILIES

VARIANTS = ("plain", "rslora", "patterns", "experts")


def row(family: str, variant: str, root: Path, folder: Path) -> str:
    """One line: max |Δlogit| of MLX, max |Δlog p| of llama.cpp, max |Δlogit| back in PEFT."""
    base = cases.base_of(family, root)
    wanted = adapter_of(family, variant, root, folder / "peft")
    plain = cases.base_logits(base)
    convert(folder / "peft", folder / "mlx", "mlx", base=base)
    convert(folder / "peft", folder / "a.gguf", "gguf", base=base)
    convert(folder / "a.gguf", folder / "back", "peft", base=base)
    write_model(base, folder / "base.gguf", "f32")
    files = {"model": str(folder / "base.gguf"), "adapter": str(folder / "a.gguf")}
    found = cases.llama_cpp(folder, **files, prompts=prompts())
    mlx = cases.mlx_logits(base, folder / "mlx")
    back = cases.peft_logits(base, folder / "back")
    adapted, target = np.array(found["adapted"]), logprobs(wanted)
    same = [mlx.argmax(-1) == wanted.argmax(-1), adapted.argmax(-1) == target.argmax(-1)]
    cells = [
        f"{np.abs(np.array(found['base']) - logprobs(plain)).max():.1e}",
        f"{np.abs(adapted - target).max():.1e}",
        f"{np.abs(mlx - wanted).max():.1e}",
        f"{np.abs(back - wanted).max():.1e}",
        f"{np.concatenate(same).mean():.3f}",
        f"{np.abs(wanted - plain).max():.1f}",
    ]
    return f"| {family} | {variant} | " + " | ".join(cells) + " |"


def main() -> None:
    print("| family | adapter | llama.cpp, base | with adapter | MLX | back in PEFT | argmax "
          "| moved by |\n|---|---|---|---|---|---|---|---|", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        for family in FAMILIES:
            for variant in VARIANTS:
                if variant != "experts" or family in MOE:
                    folder = Path(name) / f"{family}-{variant}"
                    folder.mkdir()
                    print(row(family, variant, Path(name) / "tiny", folder), flush=True)


if __name__ == "__main__":
    main()
