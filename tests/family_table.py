"""The table of families in docs/models.md: python -m tests.family_table [--only llama,qwen3]

Every family is made tiny from its own classes in transformers, trained for a step on torch and,
where mlx-lm has it, on MLX, exported, and the folder loaded by PEFT, mlx-lm and transformers alone.
A cell says what that gave; the columns of GGUF say what `livery convert` and `livery gguf` write.
With --only the rows named are made again and the others stay. Long: by hand, not in CI.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests import ROOT, family_runs, hf_families
from tests.family_runs import Outcome

PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- families: python -m tests.family_table -->", "<!-- end of families -->"
# What people ask for; `tests.hf_families` holds the rest.
ASKED = """
    llama mistral mixtral ministral ministral3 mistral3 qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next
    qwen3_5_text qwen3_5_moe_text gemma gemma2 gemma3_text gemma4_text gemma4_moe phi phi3 phimoe
    smollm3 granite granitemoe
    granitemoehybrid glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa olmo2 olmo3 olmo_hybrid olmoe
    flex_olmo cohere cohere2 cohere2_moe stablelm internlm3 ernie4_5 ernie4_5_moe hunyuan_v1_dense
    hunyuan_v1_moe exaone4 exaone_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 gpt_oss lfm2
    lfm2_moe llama4_text falcon_h1 nemotron nemotron_h mamba mamba2 falcon_mamba bamba jamba
    recurrent_gemma kimi_linear bailing_hybrid minimax minimax_m2 longcat_flash minicpm3 seed_oss
    solar_open apertus arcee afmoe laguna mellum helium starcoder2 gpt2 gpt_neo gpt_neox gptj
    gpt_bigcode bloom falcon mpt opt codegen biogpt xglm persimmon nanochat vaultgemma deepseek_v4
    axk2 cpmant hrm_text
""".split()
HEAD = (
    "| family | MLX | torch | shared prompts | PEFT folder | MLX folder | GGUF adapter | GGUF "
    "model | verified: largest difference of a logit |\n|---|---|---|---|---|---|---|---|---|"
)
# Beyond this share of what the adapter moves, a difference is one of substance: GELU's tables and
# half a dozen float32 kernels stay below a thousandth.
_ALIKE = 1e-3


# Rows that are no model type of transformers' causal models.
_BUILT = ("mistral3", "gemma4_moe")


def _folder(family: str, folder: Path) -> Path:
    if family == "mistral3":
        hf_families.mistral3(folder)
        return folder
    if family == "gemma4_moe":
        return hf_families.tiny("gemma4_text", folder, **hf_families.GEMMA4_EXPERTS)
    return hf_families.tiny(family, folder)


def row(family: str, root: Path) -> str:
    """One line of the table."""
    folder = _folder(family, root / family)
    torch = family_runs.try_torch(folder, root / f"{family}-torch")
    mlx = None
    if family in (*hf_families.ON_MLX, *_BUILT):
        mlx = family_runs.try_mlx(folder, root / f"{family}-mlx")
    made = [o for o in (torch, mlx) if o is not None and o.trains]
    formats = {name for outcome in made for name in outcome.formats}
    cells = [
        "no such model" if mlx is None else _backend(mlx),
        _backend(torch),
        _shared(torch, mlx),
        _alike([(o.peft, o.moved) for o in made]),
        _alike([(o.mlx, o.moved) for o in made if o.mlx is not None]),
        "yes" if "gguf" in formats else "-",
        "yes" if _gguf_model(folder, root / f"{family}.gguf") else "-",
        _figures(torch, mlx),
    ]
    return f"| {family} | " + " | ".join(cells) + " |"


def _backend(outcome: Outcome) -> str:
    if outcome.fault:
        return "FAULT"
    if not outcome.trains:
        return "refused"
    return "other base" if outcome.base is not None and outcome.base > 1e-2 else "exact"


def _shared(torch: Outcome, mlx: Outcome | None) -> str:
    parts = [("MLX", mlx), ("torch", torch)]
    sharing = [name for name, o in parts if o is not None and o.trains and o.shared]
    training = [name for name, o in parts if o is not None and o.trains]
    if not training:
        return "-"
    if sharing == training:
        return "exact"
    return f"{' and '.join(sharing)} exact, else plain" if sharing else "plain"


def _alike(found: list[tuple[float | None, float]]) -> str:
    measured = [(apart, moved) for apart, moved in found if apart is not None]
    if not measured:
        return "-"
    return "whole" if all(a <= _ALIKE * max(moved, 0.1) for a, moved in measured) else "differs"


def _gguf_model(folder: Path, out: Path) -> bool:
    from convert.gguf.model import write_model
    from livery.errors import UserError

    try:
        write_model(folder, out, "f32")
    except UserError:
        return False
    return True


def _figures(torch: Outcome, mlx: Outcome | None) -> str:
    found = [("torch in PEFT", torch.peft)]
    if mlx is not None:
        found += [("MLX's base", mlx.base), ("MLX in PEFT", mlx.peft), ("in mlx-lm", mlx.mlx)]
    said = [f"{name} {apart:.0e}" for name, apart in found if apart is not None]
    return ", ".join(said) or "refused before the first step"


def read_rows(page: str) -> dict[str, str]:
    """family -> its line, from the page."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return {line.split("|")[1].strip(): line for line in lines}


def main() -> None:
    only = sys.argv[2].split(",") if sys.argv[1:2] == ["--only"] else ASKED
    page = PAGE.read_text(encoding="utf-8")
    rows = read_rows(page)
    with tempfile.TemporaryDirectory() as root:
        for family in only:
            rows[family] = row(family, Path(root))
            print(rows[family], flush=True)
            # After each, so that an interrupted run loses nothing.
            lines = [rows[name] for name in ASKED if name in rows]
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
            after = rest.partition(END)[2]
            table = "\n".join([BEGIN, HEAD, *lines, END])
            PAGE.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    main()
