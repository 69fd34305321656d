"""Where everything of a job is below the root folder."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from livery.files import atomic_write, explain_os_errors, one_at_a_time


@dataclass(frozen=True)
class Layout:
    """Paths in `root`, the folder that holds adapters/, data/ and .livery/."""

    root: Path

    @property
    def private(self) -> Path:
        """What is Livery's own."""
        return self.root / ".livery"

    @property
    def database(self) -> Path:
        return self.private / "jobs.sqlite"

    def adapter(self, name: str) -> Path:
        """An adapter's folder, which is its run's too."""
        return self.root / "adapters" / name

    def artefact(self, name: str) -> Path:
        """The zip of an adapter."""
        return self.root / "adapters" / f"{name}.zip"

    def data(self, name: str) -> Path:
        """A folder of rows by its name; an absolute path is itself."""
        return self.root / "data" / name

    def log(self, job: str) -> Path:
        """What a job's processes print."""
        return self.private / "logs" / f"{job}.log"

    def job(self, job: str) -> Path:
        """What is kept of a job's processes: locks, and how each ended."""
        return self.private / "jobs" / job

    def replaced(self, job: str) -> Path:
        """The adapter that stood where the job's is now."""
        return self.private / "replaced" / job

    def lock(self, kind: str, name: str) -> Path:
        """The lock of a worker or device."""
        return self.private / "locks" / f"{kind}-{name}"

    def make(self) -> None:
        """Make the folders. Raises UserError where the system refuses."""
        with explain_os_errors(self.private, "making the folder of jobs"):
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in ("logs", "jobs", "locks", "replaced"):
                (self.private / folder).mkdir(exist_ok=True)
            for folder in ("adapters", "data"):
                (self.root / folder).mkdir(exist_ok=True)

    def mark(self) -> str:
        """A word that tells this folder from every other, made once."""
        path = self.private / "mark"
        with one_at_a_time(path):
            if not path.exists():
                with atomic_write(path, "w") as file:
                    file.write(secrets.token_hex(8))
        return path.read_text()
