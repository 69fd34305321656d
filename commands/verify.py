"""`livery verify`: does the adapter compute the same in every runtime?"""

from __future__ import annotations

import json

import click

from convert.verify.verdict import Verdict
from convert.verify.verify import ENGINES, LENGTH
from convert.verify.verify import verify as run_verification

FAILED = 1

EPILOG = """\b
Examples:
  livery verify adapters/date-keys --base base_model
  livery verify adapter.gguf --base models/Llama-3.2-1B-Instruct
  livery verify adapters/mine --base models/mine --engines torch,llamacpp --json
"""


def _engines(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in ENGINES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}.")
    return names


@click.command("verify", epilog=EPILOG)
@click.argument("adapter", metavar="ADAPTER")
@click.option(
    "--base",
    required=True,
    help="Base model: its folder, a GGUF file, a name (livery base list) or a hub id.",
)
@click.option(
    "--engines",
    metavar="LIST",
    callback=_engines,
    help=f"Any of {','.join(ENGINES)}; by default those installed.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for the test tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    adapter: str, base: str, engines: tuple[str, ...] | None, seed: int, as_json: bool
) -> int:
    """Run ADAPTER (any format) in torch, MLX and llama.cpp and compare what they compute.

    Each runtime gets its own process, the same tokens, float32, and the adapter in its own format:
    as stored in the folder, or converted. Exits 1 if a runtime differs from the reference (torch,
    if it is installed) by more than a correct conversion can, or if the adapter has no effect.
    """
    verdict = run_verification(adapter, base, engines=engines, seed=seed)
    if as_json:
        click.echo(json.dumps(verdict.as_dict(), ensure_ascii=False))
    else:
        print_verdict(verdict)
    return 0 if verdict.passed else FAILED


_COLUMNS = ("runtime", "base", "adapter", "allowed", "of effect", "KL", "argmax", "effect", "")


def print_verdict(verdict: Verdict) -> None:
    """The table on standard output, and on stderr why it fails."""
    click.echo(f"max |Δlogit| against {verdict.reference or 'nothing'}, {LENGTH} tokens, float32")
    _print_row(_COLUMNS)
    for name, run in verdict.runs.items():
        found = run.parity
        cells = ("",) * 6
        if found is not None:
            cells = (
                f"{run.base:.1e}" if run.base is not None else "",
                f"{found.tuned:.1e}",
                f"{found.tolerance:.0e}",
                f"{found.share:.2%}",
                f"{found.kl:.1e}",
                f"{found.argmax:.3f}",
            )
        effect = "" if run.moved is None else f"{run.moved:.3g}"
        mark = "fails" if run.fault else "reference" if name == verdict.reference else "agrees"
        _print_row((name, *cells, effect, mark))
    for name, run in verdict.runs.items():
        how = "converted for this from " if run.converted else ""
        click.echo(f"{name}: {how}{run.artefact}")
    for name, why in verdict.left_out.items():
        click.echo(f"{name} was not run: {why}")
    for fault in verdict.faults():
        click.echo(f"Failed: {fault}", err=True)


def _print_row(cells: tuple[str, ...]) -> None:
    first, *middle, last = cells
    click.echo(f"  {first:<9}" + "".join(f"{cell:>10}" for cell in middle) + f"  {last}".rstrip())
