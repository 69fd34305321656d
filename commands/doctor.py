"""`livery doctor`: print what `livery.machine` finds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from livery.errors import counted, shown
from livery.progress import show_bytes


@click.command(short_help="Say what this machine can do, and how to fix what it cannot.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--clean", is_flag=True, help="Find what killed commands left behind in PATHS.")
@click.option("--yes", is_flag=True, help="With --clean: remove it.")
@click.option("--prove", is_flag=True, help="Prove what trains here; ten minutes at most.")
@click.option("--only", multiple=True, metavar="NAME", help="With --prove: these checks alone.")
@click.option(
    "--out", metavar="DIR", help="With --prove: where proof.md and proof.json go, if not here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    paths: tuple[Path, ...],
    clean: bool,
    yes: bool,
    prove: bool,
    only: tuple[str, ...],
    out: str | None,
    as_json: bool,
) -> int:
    """Show chip, memory, MLX, torch and BLAS state, what is missing, and the command that fixes it.

    Exits 1 only if nothing could train. With --clean: list what killed commands left half-written
    in PATHS (by default here, in Livery's cache and in the system's temporary folder) and how much
    space removing it would free. Files that a running command is writing are never touched.

    With --prove: compute the same things in several ways (float32 and fewer bits, shared prompts
    and plain ones, killed and undisturbed, compared with other trainers) and say for each whether
    the results agree on this machine. The report contains no path, host or user, so it can be
    pasted into an issue. Exits 3 if something failed.

    \b
    Examples:
      livery doctor
      livery doctor --clean adapters models
      livery doctor --clean --yes
      livery doctor --prove
      livery doctor --json | python -m json.tool
    """
    if prove:
        from commands.prove.show import show

        return show(Path(out or ""), only, as_json=as_json)
    if only or out:
        raise click.UsageError("--only and --out belong to --prove.")
    if clean:
        return _clean(paths, remove=yes, as_json=as_json)
    if paths or yes:
        raise click.UsageError("PATHS and --yes belong to --clean.")
    from livery import machine as examiner

    report = examiner.examine()
    code = 0 if report.can_train else 1
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
        return code
    machine, mlx, torch = report.machine, report.mlx, report.torch
    lines = [
        ("machine", f"{machine['chip']} ({machine['architecture']}), {machine['cores']} cores"),
        (
            "memory",
            f"{show_bytes(machine['memory'])}, {show_bytes(machine['memory_available'])} available",
        ),
        ("disk", f"{show_bytes(machine['disk_free'])} free here"),
        ("system", ", ".join(filter(None, (machine["system"], machine["libc"])))),
        ("python", f"{machine['python']} ({machine['executable']})"),
    ]
    if mlx["usable"]:
        lines += [
            ("mlx", f"{mlx['version']} on {mlx['device']}, mlx-lm {mlx['mlx_lm']}"),
            ("", f"float32 matmul {mlx['matmul_gflops']} GFLOP/s{_by(mlx)}"),
            ("", f"mx.compile {'works' if mlx['compile'] else 'does not work'}"),
        ]
    else:
        lines.append(("mlx", "cannot be used"))
    if torch["usable"]:
        devices = ", ".join(torch["gpus"]) or ("MPS" if torch["mps"] else "CPU only")
        lines.append(("torch", f"{torch['version']}, {devices}"))
    else:
        lines.append(("torch", torch["reason"]))
    others = [
        f"{name} {version or 'missing'}"
        for name, version in report.packages.items()
        if name not in ("mlx", "mlx-lm", "torch")
    ]
    lines.append(("packages", ", ".join(others)))
    kept = report.cache
    size = f"{show_bytes(kept['bytes'])} of encoded data in {kept['path']}"
    lines.append(("cache", size if kept["path"] else "off (LIVERY_CACHE)"))
    lines.append(("trains with", ", ".join(report.can_train) or "nothing"))
    for name, text in lines:
        click.echo(f"{name:<12} {text}")
    if not report.problems:
        click.echo("\nNothing is missing.")
    for problem in report.problems:
        click.echo(f"\n! {problem.what}\n  {problem.remedy}")
    return code


def _by(mlx: dict[str, Any]) -> str:
    """What MLX multiplies with, for the line of its speed."""
    if mlx["openblas"] is None:
        return ""
    blas = mlx["blas"]
    if blas is None:
        return " by its own slow BLAS" if not mlx["openblas"] else " by the BLAS of LD_PRELOAD"
    threads = counted(blas["threads"], "thread")
    return f" by OpenBLAS {blas['version']} ({blas['kernels']}, {threads}, {shown(blas['path'])})"


def _clean(paths: tuple[Path, ...], *, remove: bool, as_json: bool) -> int:
    from livery import temporary
    from livery.paths import cache_folder

    every = [f for top in paths or (Path(), cache_folder()) for f in temporary.find_below(top)]
    if not paths:
        every += temporary.find(Path(tempfile.gettempdir()))
    found = list({f.path.resolve(): f for f in every}.values())  # one place may be in another
    gone = [f for f in found if remove and temporary.remove(f.path)]
    size = sum(f.size for f in found)
    if as_json:
        listed = [{"path": str(f.path), "bytes": f.size, "removed": f in gone} for f in found]
        click.echo(json.dumps({"leftovers": listed, "bytes": size}, indent=2))
        return 0
    for leftover in found:
        click.echo(f"{show_bytes(leftover.size):>10}  {leftover.path}")
    if not found:
        click.echo("Killed commands left nothing behind.")
    elif not remove:
        click.echo(f"{show_bytes(size)} would be freed: add --yes to remove them.")
    else:
        kept = f"; {len(found) - len(gone)} could not be removed" if len(gone) < len(found) else ""
        click.echo(f"{show_bytes(sum(f.size for f in gone))} freed{kept}.")
    return 0
