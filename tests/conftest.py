"""Shared by all tests: a fast BLAS before MLX is imported, and no network."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Every tiny model is a base never seen before, and measuring one takes two processes.
os.environ.setdefault("LIVERY_CHECK_BASE", "no")
# Encoded rows are kept where a test says so, never in the home of whoever runs the tests.
os.environ.setdefault("LIVERY_CACHE", "off")
# Else a run on a slow or busy machine measures how many threads to take, and says so.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from livery.blas import use_openblas

use_openblas()

# The same examples in every run, however fast the machine is: what is found by chance would be
# found in somebody else's change. With LIVERY_FUZZ they are drawn again each time.
settings.register_profile(
    "livery",
    max_examples=60,
    deadline=None,
    derandomize="LIVERY_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("livery")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a session's tiny models lie, made once."""
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture(scope="session", autouse=True)
def kept_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tiny models are made once, for both workers and for processes that tests start."""
    from tests.tiny_models import KEPT

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ[KEPT] = str(shared / "kept models")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache, for a module whose tests decode into one of their own, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A command with --threads sets these for its process, which here is that of later tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(name, os.environ[name])
        yield


# -- which tests are quick -----------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true",
        help="of each test its first case, without those marked slow or sweep",
    )  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("fast"):
        return
    first: dict[str, pytest.Item] = {}
    for item in items:
        if not any(item.iter_markers("slow")) and not any(item.iter_markers("sweep")):
            first.setdefault(item.nodeid.partition("[")[0], item)
    kept = list(first.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


SLOW = 0.2  # seconds of processor time, which does not depend on how busy the machine is
_costs: dict[str, float] = {}
_fixtures: dict[str, float] = {}


def _processor_time() -> float:
    """Of this process and of the children that it waited for, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _measured(item: pytest.Item, name: str) -> Generator[None, Any, Any]:
    began = _processor_time()
    try:
        return (yield)
    finally:
        if item.get_closest_marker("slow") is None and item.get_closest_marker("sweep") is None:
            item.user_properties.append((name, _processor_time() - began))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _measured(item, "processor, fixtures"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _measured(item, "processor"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that reports, also where workers run the tests."""
    for name, value in report.user_properties:
        if name.startswith("processor") and isinstance(value, float):
            (_costs if name == "processor" else _fixtures)[report.nodeid] = value


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the tests that ought to be marked slow, the costliest first."""
    found = sorted(((s, name) for name, s in _costs.items() if s > SLOW), reverse=True)
    if found:
        terminalreporter.section(f"over {SLOW} s of processor time, and not marked slow")
        for seconds, name in found[:20]:
            terminalreporter.write_line(f"{seconds:5.1f} s  {name}")
    if _costs:
        tests, fixtures = sum(_costs.values()), sum(_fixtures.values())
        terminalreporter.write_line(
            f"{tests:.0f} s of processor time in tests, {fixtures:.0f} s in their fixtures"
        )
