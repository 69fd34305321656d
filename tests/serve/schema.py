"""Requests made from the OpenAPI document: python -m tests.serve.schema --examples 100

schemathesis makes them, such as the document allows and such as it forbids; half are for runs,
adapters and rows that are there. Each answer is held against the document: no server error, a
status, media type and body that the operation declares.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from tests import PATIENCE
from tests.serve.run_folders import make_run
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter

# Half of the requests are for what is there.
REAL = {
    "/api/runs/": {"name": "run"},
    "/api/adapters/": {"name": "adapter"},
    "/api/datasets/": {"name": "rows", "n": 1},
}
# Starts processes of Livery's, for a second each; tests of their own ask it.
LONG = ("/api/machine",)
TOO_LARGE = 413
UNAVAILABLE = 503  # what would answer is not installed on this machine
NEGATIVE = schemathesis.GenerationMode.NEGATIVE
CHECKS = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance,
    checks.negative_data_rejection,
]  # fmt: skip


@dataclass
class Asked:
    """What was asked of one server.

    Attributes:
        operations: how many were asked.
        statuses: how often each status was answered.
    """

    operations: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter[int])

    @property
    def requests(self) -> int:
        return self.statuses.total()


@contextlib.contextmanager
def example(root: Path) -> Generator[Client]:
    """A server with a run, an adapter and rows."""
    settings = settings_of(root)
    make_run(settings.root, "run")
    make_adapter(settings.root, "adapter", "peft", "gguf")
    (settings.data / "rows").mkdir()
    (settings.data / "rows" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with served(settings) as client:
        yield client


def ask_all(client: Client, each: int, seed: int | None = None) -> Asked:
    """Send `each` requests of every operation that the document allows, and as many others.

    Args:
        seed: of the requests; None leaves it to hypothesis's profile.

    Raises:
        FailureGroup (schemathesis): an answer that is not as the document says, with its request.
    """
    load_all_checks()
    asked = Asked()
    schema = schemathesis.openapi.from_url(f"{client.address}/openapi.json")
    found: list[Any] = [*schema.get_all_operations()]
    # What is deleted is asked for no more: that comes last.
    every = [one.ok() for one in found]
    for operation in sorted(every, key=lambda one: one.method.upper() == "DELETE"):
        if operation.path not in LONG:
            asked.operations += 1
            for mode in schemathesis.GenerationMode:
                _ask(client, operation, mode, each, seed, asked)
    return asked


def _ask(
    client: Client, operation: Any, mode: Any, each: int, seed: int | None, asked: Asked
) -> None:
    real = next((v for start, v in REAL.items() if operation.path.startswith(start)), {})

    @hypothesis.settings(
        max_examples=each, database=None, phases=[hypothesis.Phase.generate], deadline=None,
        suppress_health_check=list[Any](hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        wrong = {place for place, one in case.meta.components.items() if one.mode == NEGATIVE}
        if asked.requests % 2 and case.path_parameters and ParameterLocation.PATH not in wrong:
            named = {key: value for key, value in real.items() if key in case.path_parameters}
            case.path_parameters.update(named)
        if case.path.endswith("/events") and ParameterLocation.QUERY not in wrong:
            case.query = {**(case.query or {}), "follow": "false"}
        answer = case.call(base_url=client.address, timeout=PATIENCE)
        asked.statuses[answer.status_code] += 1
        if answer.status_code != UNAVAILABLE:
            # A body that is too large is not read, so that it is wrong is not seen.
            left_out = [checks.negative_data_rejection] if answer.status_code == TOO_LARGE else []
            case.validate_response(answer, checks=CHECKS, excluded_checks=left_out)

    try:
        (ask if seed is None else hypothesis.seed(seed)(ask))()
    except Unsatisfiable:
        assert mode == NEGATIVE  # there is nothing that could be wrong


def main() -> None:
    """Ask an example's server, and say what it answered."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--examples", type=int, default=100, help="of each operation and kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, example(Path(folder) / "root") as client:
        asked = ask_all(client, given.examples, given.seed)
    told = ", ".join(f"{status}: {times}" for status, times in sorted(asked.statuses.items()))
    print(f"{asked.operations} operations, {asked.requests} requests, no server error, each answer")
    print(f"as the document says: {told}")


if __name__ == "__main__":
    main()
