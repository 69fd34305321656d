"""`livery serve`: the API and the web page of one folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click

from commands import options
from livery.errors import UserError, printable
from livery.machine import install

EPILOG = """\b
Examples:
  livery serve
  livery serve --root ~/assistant --port 9000
  python -c "import secrets; print(secrets.token_urlsafe(32))" > token
  livery serve --host 0.0.0.0 --token-file token --allow-host my-server.lan
  livery serve --database postgresql://livery@db/livery --no-worker
"""
# What the extra brings, by the names that are imported.
NEEDED = ("fastapi", "uvicorn", "dbos")


@click.command("serve", epilog=EPILOG)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder that holds adapters/ and data/; by default this one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=int,
    default=8765,
    show_default=True,
    help="Port to listen on; 0 lets the system choose.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token that requests must bring: 32 characters or more. Needed for any "
    "--host beyond this machine.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Another name that this server is reached by; repeatable.",
)
@click.option(
    "--callback-host",
    "callback_hosts",
    multiple=True,
    metavar="NAME",
    help="A host that jobs may send their result to; repeatable. By default none.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "mlx", "torch", "llamacpp"]),
    default="auto",
    show_default=True,
    help="What answers prompts; auto takes what this machine has.",
)
@click.option("--model", help="The base of every answer; by default each adapter's own.")
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FILE", envvar="LIVERY_LOG",
    help="Append each question to /v1/chat/completions and its answer to this file, redacted "
    "(docs/improving.md). The variable LIVERY_LOG names it too.",
)  # fmt: skip
@click.option(
    "--models",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder whose base models requests may name by path; repeatable. Others go by name.",
)
@click.option(
    "--database",
    metavar="URL",
    envvar="LIVERY_DATABASE",
    show_envvar=True,
    help="PostgreSQL database of the jobs, for workers on several machines; by default SQLite.",
)
@click.option("--no-worker", is_flag=True, help="Start no worker: others take the jobs.")
@options.as_json
def serve_command(
    root: Path,
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    callback_hosts: tuple[str, ...],
    engine: str,
    model: str | None,
    log: Path | None,
    models: tuple[Path, ...],
    database: str | None,
    no_worker: bool,
    as_json: bool,
) -> None:
    """Serve the API and the web page of the folder --root until Ctrl-C.

    Runs and jobs are processes of their own: they outlive the browser and this server. It answers
    on this machine alone; any other --host needs a token.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"Not installed: {', '.join(missing)}. Install with: {install('serve')}")
    from livery.interactions import Log
    from livery.serve.api.app import create_app
    from livery.serve.api.security import allowed_hosts as hosts_of
    from livery.serve.jobs.jobs import Jobs
    from livery.serve.jobs.keeper import Keeper
    from livery.serve.server import serve
    from livery.serve.settings import LOOPBACK, ServeSettings, is_loopback, read_token

    settings = ServeSettings(
        root=root, host=host, port=port,
        token=read_token(token_file) if token_file is not None else None,
        allowed_hosts=allowed_hosts, callback_hosts=callback_hosts,
        models=models, engine=engine, model=model, log=log, database=database,
    )  # fmt: skip
    if log is not None:
        Log(log).check()  # before anybody asks

    jobs = Jobs(settings.root, settings.database)
    keeper = None if no_worker else Keeper(jobs.layout, settings.database, _note)
    app = create_app(settings, jobs=jobs, keeper=keeper)

    def ready(address: str) -> None:
        if not is_loopback(settings.host) and not hosts_of(settings).difference(LOOPBACK):
            _note(
                "requests from other machines are refused until --allow-host says by which name "
                "they reach this one."
            )
        if as_json:
            click.echo(json.dumps({"address": address, "root": str(settings.root)}))
        else:
            click.echo(f"Livery serves {settings.root} at {address}   (Ctrl-C ends it)")

    serve(app, settings, ready)


def _note(text: str) -> None:
    click.echo(f"note: {printable(text)}", err=True)
