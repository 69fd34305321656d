"""Timeframes: how English and French say them, and which days they are.

A time is kept as {"kind": ..., ...} beside its query and becomes days when the current date is
known. Conventions: weeks begin on Monday; "the last 7 days" begin seven days before the current
date and end with it; "since" leaves the end open, "until" the start; both days are included.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

Time = dict[str, Any]

MONTHS = {
    "en": "January February March April May June July August September October November "
    "December".split(),
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre "
    "décembre".split(),
}


def draw_day(rng: random.Random) -> date:
    """A day that queries name."""
    return date(2023, 1, 1) + timedelta(days=rng.randrange(4 * 365))


def say_day(day: date, language: str, rng: random.Random) -> str:
    """A day in words: "3 May 2026", "May 3, 2026", "le 3 mai 2026" without its article."""
    month = MONTHS[language][day.month - 1]
    if language == "fr":
        number = "1er" if day.day == 1 else str(day.day)
        return rng.choice((f"{number} {month} {day.year}", f"{day:%d/%m/%Y}"))
    return rng.choice(
        (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", day.isoformat())
    )


# kind -> (English, French) wordings; {n} days, {day}, {end}, {month}, {year}
_SAID: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "today": (("today", "from today"), ("aujourd'hui", "d'aujourd'hui")),
    "yesterday": (("yesterday", "from yesterday"), ("hier", "d'hier")),
    "this_month": (("this month", "in the current month"), ("ce mois-ci", "du mois en cours")),
    "last_month": (("last month", "in the previous month"), ("le mois dernier",
                    "du mois dernier")),
    "next_month": (("next month", "in the coming month"), ("le mois prochain",
                    "du mois prochain")),
    "this_year": (("this year", "in the current year"), ("cette année", "de l'année en cours")),
    "last_year": (("last year", "in the previous year"), ("l'année dernière",
                   "de l'an dernier")),
    "this_week": (("this week",), ("cette semaine", "de la semaine en cours")),
    "last_week": (("last week", "in the previous week"), ("la semaine dernière",
                   "de la semaine dernière")),
    "last_days": (("in the last {n} days", "over the past {n} days"),
                  ("ces {n} derniers jours", "sur les {n} derniers jours")),
    "month": (("in {month} {year}", "during {month} {year}"),
              ("en {month} {year}", "au mois de {month} {year}")),
    "year": (("in {year}", "during {year}"), ("en {year}", "durant l'année {year}")),
    "since": (("since {day}", "from {day} on"), ("depuis le {day}", "à partir du {day}")),
    "until": (("until {day}", "up to {day}"), ("jusqu'au {day}",)),
    "on": (("on {day}",), ("le {day}",)),
    "between": (("between {day} and {end}", "from {day} to {end}"),
                ("entre le {day} et le {end}", "du {day} au {end}")),
}  # fmt: skip
_SHARES = {
    "today": 4, "yesterday": 4, "this_month": 6, "last_month": 8, "next_month": 4, "this_year": 6,
    "last_year": 6, "this_week": 3, "last_week": 5, "last_days": 8, "month": 14, "year": 10,
    "since": 12, "until": 8, "on": 6, "between": 12,
}  # fmt: skip
_HELD_OUT = {
    "month": (("within {month} {year}",), ("courant {month} {year}",)),
    "year": (("within {year}",), ("au cours de {year}",)),
    "since": (("starting {day}",), ("dès le {day}",)),
    "until": (("no later than {day}",), ("au plus tard le {day}",)),
    "last_days": (("within the last {n} days",), ("au cours des {n} derniers jours",)),
}


@dataclass(frozen=True)
class Said:
    """A time and its words."""

    time: Time
    words: str


def draw(rng: random.Random, language: str, *, held_out: bool = False) -> Said:
    """A time in words."""
    kind = rng.choices([*_SHARES], [*_SHARES.values()])[0]
    day = draw_day(rng)
    time: Time = {"kind": kind}
    if kind == "last_days":
        time["n"] = rng.choice((3, 5, 7, 10, 14, 20, 30, 60, 90))
    elif kind == "month":
        time |= {"year": day.year, "month": day.month}
    elif kind == "year":
        time["year"] = day.year
    elif kind in ("since", "until", "on", "between"):
        time["day"] = day.isoformat()
        if kind == "between":
            time["end"] = (day + timedelta(days=rng.randrange(2, 120))).isoformat()
    wordings = _HELD_OUT.get(kind, _SAID[kind]) if held_out else _SAID[kind]
    words = rng.choice(wordings[language == "fr"]).format(
        n=time.get("n"),
        year=time.get("year"),
        month=MONTHS[language][time.get("month", 1) - 1],
        day=say_day(day, language, rng),
        end=say_day(date.fromisoformat(time["end"]), language, rng) if "end" in time else "",
    )
    return Said(time, words)


def timeframe(time: Mapping[str, Any] | None, current_date: str) -> dict[str, str]:
    """{"start", "end"} of a time on a day; both "" where there is none."""
    if not time:
        return {"start": "", "end": ""}
    start, end = _days(time, date.fromisoformat(current_date))
    return {"start": start.isoformat() if start else "", "end": end.isoformat() if end else ""}


def _days(time: Mapping[str, Any], now: date) -> tuple[date | None, date | None]:
    kind = time["kind"]
    if kind in ("today", "yesterday"):
        day = now - timedelta(days=kind == "yesterday")
        return day, day
    if kind in ("this_week", "last_week"):
        monday = now - timedelta(days=now.weekday() + 7 * (kind == "last_week"))
        return monday, monday + timedelta(days=6)
    if kind in ("this_month", "last_month", "next_month"):
        months = now.year * 12 + now.month - 1 + {"t": 0, "l": -1, "n": 1}[kind[0]]
        return _month(months // 12, months % 12 + 1)
    if kind in ("this_year", "last_year", "year"):
        year = time["year"] if kind == "year" else now.year - (kind == "last_year")
        return date(year, 1, 1), date(year, 12, 31)
    if kind == "month":
        return _month(time["year"], time["month"])
    if kind == "last_days":
        return now - timedelta(days=time["n"]), now
    day = date.fromisoformat(time["day"])
    if kind == "between":
        return day, date.fromisoformat(time["end"])
    return (None if kind == "until" else day), (None if kind == "since" else day)


def _month(year: int, month: int) -> tuple[date, date]:
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
