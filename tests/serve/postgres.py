"""A real Postgres, made for a test on a socket in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests import PATIENCE
from tests.serve.jobs_run import wait_for

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # not in PATH


class Postgres:
    """A server that can be taken away and brought back."""

    def __init__(self, binaries: Path, home: Path) -> None:
        self.binaries, self.home = binaries, home
        user: dict[str, Any] = {}
        if os.getuid() == 0:  # which Postgres refuses to run as
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        environment = {**os.environ, "HOME": str(home)}
        self._plain: dict[str, Any] = {
            "env": environment, "cwd": home, "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL, **user,
        }  # fmt: skip
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(home / "db"), "-U", "livery", "-A", "trust",
             "--no-sync"],
            check=True, **self._plain,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self._server = subprocess.Popen(
            [str(self.binaries / "postgres"), "-D", str(self.home / "db"), "-k", str(self.home),
             "-c", "listen_addresses=", "-c", "fsync=off"],
            **self._plain,
        )  # fmt: skip
        wait_for(self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self._server.send_signal(how)
        self._server.wait(PATIENCE)

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with self._engine().connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return f"postgresql://livery@/{name}?host={self.home}"

    def _engine(self) -> sa.Engine:
        return sa.create_engine(f"postgresql+psycopg://livery@/postgres?host={self.home}")

    def _answers(self) -> bool:
        try:
            self._engine().connect().close()
        except sa.exc.OperationalError:
            return False
        return True


@contextlib.contextmanager
def running_postgres() -> Generator[Postgres]:
    """Skips the test where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    binaries = Path(found).resolve().parent if found else next(iter(DEBIAN), None)
    if binaries is None:
        pytest.skip("PostgreSQL is not installed here (initdb)")
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    try:
        server = Postgres(binaries, home)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)
