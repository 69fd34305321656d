"""A day of a training queue, simulated: how long adapters wait, and what breaks first.

    python -m benchmarks.queue --adapters 1000 --gpus 10 --minutes 9
    python -m benchmarks.queue --minutes 9 --peak 4 --json

Orders come at random (a Poisson process whose rate rises and falls over the day, `--peak` times as
high at noon as at midnight), a job takes `--minutes` on average (log-normal, half as much again or
a third less is usual), and the first free GPU takes the oldest. With `--deaths` each GPU's process
dies that often a day, and its job goes on from its last checkpoint, `--repair` minutes later. No
clock is read: a seed gives the same day on every machine.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from dataclasses import asdict, dataclass

import click


@dataclass(frozen=True)
class Day:
    """What came of a simulated day; times in minutes.

    Attributes:
        used: share of the GPUs' time that was spent on jobs.
        wait_p50, wait_p99: from the order to its beginning.
        longest_queue: orders that waited at the same time.
        expired: orders not begun within their time to live.
        left: orders not finished at the end of the day.
    """

    orders: int
    used: float
    wait_p50: float
    wait_p99: float
    longest_queue: int
    expired: int
    left: int


def simulate(
    *, adapters: int, gpus: int, minutes: float, peak: float = 1.0, deaths: float = 0.0,
    repair: float = 10.0, ttl: float = math.inf, seed: int = 0,
) -> Day:  # fmt: skip
    """Simulate a day. See the module for what the arguments mean; times are in minutes."""
    dice = random.Random(seed)
    length = 1440.0
    free = [0.0] * gpus  # when each GPU is free again
    heapq.heapify(free)
    begun: list[tuple[float, float]] = []  # (came, begins)
    busy, expired, left = 0.0, 0, 0
    orders = _orders(dice, adapters, length, peak)
    for came in orders:
        at = max(came, free[0])
        if at - came > ttl:
            expired += 1
            continue
        spread = 0.4
        work = minutes * math.exp(dice.gauss(-spread * spread / 2, spread))
        if dice.random() < 1 - math.exp(-deaths * work / length):
            work += repair
        heapq.heapreplace(free, at + work)
        begun.append((came, at))
        busy += max(0.0, min(at + work, length) - min(at, length))
        left += at + work > length
    waits = sorted(at - came for came, at in begun) or [0.0]
    return Day(
        orders=len(orders),
        used=busy / (gpus * length),
        wait_p50=waits[len(waits) // 2],
        wait_p99=waits[min(len(waits) - 1, len(waits) * 99 // 100)],
        longest_queue=_longest(begun),
        expired=expired,
        left=left,
    )


def _orders(dice: random.Random, count: int, length: float, peak: float) -> list[float]:
    """When orders come, by thinning: the rate is 1 at midnight and `peak` at noon, `count` on
    average over the day."""
    mean = (1 + peak) / 2
    found: list[float] = []
    at = 0.0
    while True:
        at += dice.expovariate(count / length * max(1.0, peak) / mean)
        if at >= length:
            return found
        rate = 1 + (peak - 1) * (1 - math.cos(2 * math.pi * at / length)) / 2
        if dice.random() < rate / max(1.0, peak):
            found.append(at)


def _longest(begun: list[tuple[float, float]]) -> int:
    changes = sorted([(came, 1) for came, at in begun if at > came]
                     + [(at, -1) for came, at in begun if at > came])  # fmt: skip
    length = longest = 0
    for _, change in changes:
        length += change
        longest = max(longest, length)
    return longest


@click.command()
@click.option("--adapters", default=1000, show_default=True, help="Ordered a day, on average.")
@click.option("--gpus", type=click.IntRange(1), default=10, show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="A job on one GPU, on average.")
@click.option("--peak", default=1.0, show_default=True, help="Noon's rate in midnight's.")
@click.option("--deaths", default=0.0, show_default=True, help="Of a GPU's process, a day.")
@click.option("--repair", default=10.0, show_default=True, help="Minutes that one costs.")
@click.option("--ttl", default=math.inf, help="Minutes after which an order expires.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool, **said: float | int) -> None:
    """Simulate a day of a training queue."""
    day = simulate(**said)  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps(asdict(day)))
        return
    click.echo(
        f"{day.orders} orders, GPUs {day.used:.0%} used; wait p50 {day.wait_p50:.1f} min, p99 "
        f"{day.wait_p99:.1f} min; at most {day.longest_queue} waited; {day.expired} expired; "
        f"{day.left} not done at midnight"
    )


if __name__ == "__main__":
    main()
