"""What docs/compose.yaml starts, without containers: python -m tests.serve.compose

Its services are started in its order, by its commands and with its environment: PostgreSQL with a
password on loopback, the server with a token, and both workers, each under its own host name. The
server is given two jobs; the table at the end says which worker made which. What a container would
give is replaced: the folder, the token's file, the database's host, the port, and cuda by the CPU.
Needs Linux, its superuser (for host names) and PostgreSQL.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import tries
from tests import ROOT
from tests.serve.postgres import DEBIAN

PASSWORD = "${DATABASE_PASSWORD:?see the top of this file}"
PATIENCE = 1800.0
SETTINGS = {
    "model": "base_model", "max_steps": 3, "batch_size": 2, "samples": 0, "threads": 1,
    "check_base": "no",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What stands in the place of containers."""

    folder: Path
    services: Mapping[str, Any]
    password: str
    database: int
    port: int

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    def environment(self, name: str) -> dict[str, str]:
        host = f"@127.0.0.1:{self.database}/"
        return {
            key: value.replace(PASSWORD, self.password).replace("@database/", host)
            for key, value in self.services[name]["environment"].items()
        }

    def words(self, name: str) -> list[str]:
        """The command of one of our services."""
        here = {"/root-folder": str(self.root), "/run/livery-token": str(self.token),
                "8765": str(self.port), "cuda": "cpu"}  # fmt: skip
        said = shlex.split(self.services[name]["command"])
        words = [sys.executable, "-m", *(here.get(word, word) for word in said)]
        host = self.services[name].get("hostname")
        named = ["unshare", "--uts", "sh", "-c", f"hostname {host}; exec {shlex.join(words)}"]
        return named if host else words

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        token = token or self.token.read_text().strip()
        request = urllib.request.Request(
            f"http://localhost:{self.port}{path}", json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
            method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > until:
            sys.exit("It takes too long.")
        time.sleep(0.5)


@contextlib.contextmanager
def database(place: Place) -> Generator[None]:
    """PostgreSQL as its image makes it, until the healthcheck of the file says that it is there."""
    binaries, home = next(iter(DEBIAN)), place.folder / "database"
    home.mkdir()
    (home / "password").write_text(place.password)
    nobody = pwd.getpwnam("nobody")  # Postgres refuses to run as the superuser
    for path in (home, home / "password"):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    given = place.environment("database")
    plain: dict[str, Any] = {
        "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": home,
        "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
    }  # fmt: skip
    subprocess.run(
        [binaries / "initdb", "-D", home / "db", "-U", given["POSTGRES_USER"],
         "-A", "scram-sha-256", "--pwfile", home / "password"],
        check=True, **plain,
    )  # fmt: skip
    running = subprocess.Popen(
        [binaries / "postgres", "-D", home / "db", "-k", home, "-p", str(place.database),
         "-c", "listen_addresses=127.0.0.1"],
        **plain,
    )  # fmt: skip
    try:
        tool, *words = place.services["database"]["healthcheck"]["test"][1:]
        check = [binaries / tool, *words, "-p", str(place.database)]
        wait_for(lambda: subprocess.run(check, stdout=subprocess.DEVNULL).returncode == 0)
        subprocess.run(
            [binaries / "createdb", "-h", "127.0.0.1", "-p", str(place.database),
             "-U", given["POSTGRES_USER"], given["POSTGRES_DB"]],
            check=True, env={**os.environ, "PGPASSWORD": place.password},
        )  # fmt: skip
        yield
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def service(place: Place, name: str) -> Generator[None]:
    with (place.folder / f"{name}.log").open("wb") as log:
        running = subprocess.Popen(
            place.words(name), cwd=place.root, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), **place.environment(name)},
        )  # fmt: skip
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def answers(place: Place) -> bool:
    try:
        place.ask("GET", "/api/runs")
    except OSError:
        return False
    return True


def run(place: Place) -> None:
    """Start everything, have two jobs made, and say what became of them."""
    place.root.mkdir()
    place.token.write_text(secrets.token_urlsafe(32) + "\n")
    rows = place.root / "data" / "rows"
    rows.mkdir(parents=True)
    (rows / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 8)
    with contextlib.ExitStack() as started:
        started.enter_context(database(place))
        started.enter_context(service(place, "server"))
        wait_for(lambda: answers(place))
        with contextlib.suppress(urllib.error.HTTPError):
            place.ask("GET", "/api/runs", token="another")
            sys.exit("The server asks for no token.")
        for name in ("worker-0", "worker-1"):
            started.enter_context(service(place, name))
        asked = {"data": "rows", "steps": ["train", "convert", "pack"], "backend": "torch"}
        jobs = [
            place.ask("POST", "/api/jobs", {**asked, "name": name, "settings": SETTINGS})["id"]
            for name in ("one", "two")
        ]

        def ended() -> bool:
            return all(
                place.ask("GET", f"/api/jobs/{job}")["state"] in ("done", "failed") for job in jobs
            )

        wait_for(ended)
        for job in jobs:
            said = place.ask("GET", f"/api/jobs/{job}")
            steps = ", ".join(
                f"{one.step} on {one.host}: {one.code}" for one in tries(Layout(place.root), job)
            )
            print(f"{said['name']}: {said['state']} ({steps})")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def main() -> None:
    services = yaml.safe_load((ROOT / "docs" / "compose.yaml").read_text("utf-8"))["services"]
    folder = Path(tempfile.mkdtemp(prefix="compose-", dir="/tmp"))  # a socket's path is short
    folder.chmod(0o755)
    try:
        run(Place(folder, services, secrets.token_urlsafe(32), free_port(), free_port()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
