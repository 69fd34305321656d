"""`livery doctor`: print what `livery.doctor` finds."""

from __future__ import annotations

import json

import click

from livery.progress import show_bytes


@click.command(short_help="Say what this machine can do and what mends it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Tell chip, memory, MLX, torch and BLAS state, what is missing, and the command that mends it.

    Exits 1 only where nothing could train.

    \b
    Examples:
      livery doctor
      livery doctor --json | python -m json.tool
    """
    from livery import doctor as examiner

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
        kind = {True: ", OpenBLAS", False: ", its own slow BLAS", None: ""}[mlx["openblas"]]
        lines += [
            ("mlx", f"{mlx['version']} on {mlx['device']}{kind}, mlx-lm {mlx['mlx_lm']}"),
            ("", f"float32 matmul {mlx['matmul_gflops']} GFLOP/s"),
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
    lines.append(("trains with", ", ".join(report.can_train) or "nothing"))
    for name, text in lines:
        click.echo(f"{name:<12} {text}")
    if not report.problems:
        click.echo("\nNothing is missing.")
    for problem in report.problems:
        click.echo(f"\n! {problem.what}\n  {problem.remedy}")
    return code
