"""docs/compose.yaml and docs/scaling.md: what they name is there, the figures are the queue's."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from typing import Any

import click
import pytest
import yaml

from benchmarks.queue import Day, simulate
from livery.cli import cli
from tests import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docs/compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, one in SERVICES.items() if one["image"] == "livery")


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_there_is(name: str) -> None:
    words = shlex.split(SERVICES[name]["command"])
    assert words.pop(0) == "livery"
    command: click.Command = cli
    context = click.Context(cli, info_name="livery")
    while isinstance(command, click.Group):
        found_name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=found_name, parent=context)
    command.make_parser(context).parse_args(list(words))


def test_the_compose_file_holds_together() -> None:
    assert OURS == ["server", "worker-0", "worker-1"]
    for name, one in SERVICES.items():
        for needed in one.get("depends_on", {}):
            assert needed in SERVICES
            assert "healthcheck" in SERVICES[needed]
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"], name
        # Nothing is open to other machines.
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        assert one.get("hostname", name) == name
    cards = [
        device for one in SERVICES.values() if "deploy" in one
        for device in one["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
    ]  # fmt: skip
    assert len(cards) == len(set(cards)) == 3


def test_the_image_installs_extras_that_there_are() -> None:
    build = SERVICES["server"]["build"]["dockerfile_inline"]
    (named,) = re.findall(r"/src\[([\w,-]+)\]", build)
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert {*named.split(",")} <= extras.keys()


def minutes(text: str) -> dict[str, float]:
    """What a row of the table in docs/scaling.md asks the simulation."""
    job, orders = text.split("|")
    return {
        "minutes": float(re.findall(r"[\d.]+", job)[0]),
        "gpus": 7 if "seven GPUs" in job else 10,
        "deaths": 4 if "killed 4" in job else 0,
        "peak": 4 if "4 × midnight" in orders else 1,
    }


def test_the_figures_of_the_plan_are_those_of_the_simulation() -> None:
    text = (ROOT / "docs/scaling.md").read_text("utf-8")
    rows = re.findall(
        r"^\| ([\d.]+[^|]*\|[^|]*)\| (\d+) % \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", text, re.M
    )
    assert len(rows) == 8
    for asked, used, median, late, most in rows:
        day: Day = simulate(adapters=1000, **minutes(asked))  # type: ignore[arg-type]
        found = (f"{day.used:.0%}", f"{day.wait_p50:.1f}", f"{day.wait_p99:.1f}", day.longest_queue)
        assert found == (f"{used}%", median, late, int(most)), asked
    (expired, orders) = re.findall(r"(\d+) of (\d+) orders expire in the case of 13", text)[0]
    day = simulate(adapters=1000, gpus=10, minutes=13, peak=4, ttl=60)
    assert (day.expired, day.orders) == (int(expired), int(orders))


def test_waits_are_those_of_queueing_theory() -> None:
    """Of orders that come evenly, by Erlang's formula, whose waits are exponential; a wait is
    shorter where work differs less than exponentially (Lee and Longton). Thirty days' mean."""
    lam, minutes, gpus = 1000 / 1440, 13.0, 10
    load = lam * minutes
    free = sum(load**k / math.factorial(k) for k in range(gpus))
    busy = load**gpus / math.factorial(gpus) * gpus / (gpus - load)
    waits = busy / (free + busy)
    mean = minutes * (1 + math.exp(0.4**2) - 1) / 2 / (gpus - load)
    days = [simulate(adapters=1000, gpus=gpus, minutes=minutes, seed=seed) for seed in range(30)]
    used, median, late = (
        sum(getattr(day, name) for day in days) / len(days)
        for name in ("used", "wait_p50", "wait_p99")
    )
    assert used == pytest.approx(load / gpus, rel=0.02)
    assert median == pytest.approx(math.log(waits / 0.5) * mean, rel=0.4)
    # A day begins with an empty queue: the longest waits of a steady state are rarer in it.
    assert 0.6 < late / (math.log(waits / 0.01) * mean) < 1.1


def test_a_queue_is_one() -> None:
    """Little work waits for nobody; more than there is time for is left, or expires."""
    idle = simulate(adapters=100, gpus=10, minutes=1)
    assert (idle.wait_p99, idle.longest_queue, idle.expired) == (0.0, 0, 0)
    assert 0.05 < idle.used * 10 < 0.1
    full = simulate(adapters=1000, gpus=1, minutes=10)
    assert full.used > 0.99
    assert full.left > 700
    late = simulate(adapters=1000, gpus=1, minutes=10, ttl=30)
    assert late.expired > 700
    assert late.wait_p99 <= 30
