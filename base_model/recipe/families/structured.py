"""JSON: making it, reading it, mending it, escaping; and its neighbours."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from ..dialogue import Pair, Task, json_text
from ..words import NOUNS, PLACES, any_word, title
from .casing import phrase


def key(rng: Random) -> str:
    return rng.choice([rng.choice(NOUNS), rng.choice(NOUNS), "_".join(phrase(rng)[:2])])


def scalar(rng: Random) -> Any:
    draw = rng.random()
    if draw < 0.35:
        return any_word(rng)
    if draw < 0.6:
        return rng.randint(0, 999)
    if draw < 0.7:
        return rng.choice([True, False, None])
    if draw < 0.85:
        return title(rng)
    return " ".join(any_word(rng) for _ in range(rng.randint(2, 4)))


def record(rng: Random, least: int = 1, most: int = 4) -> dict[str, Any]:
    return {key(rng): scalar(rng) for _ in range(rng.randint(least, most))}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def make_object(rng: Random) -> Task:
    """`key: value` lines or a sentence to a JSON object, and back."""
    back, tight = rng.random() < 0.3, rng.random() < 0.4

    def draw(rng: Random) -> Pair:
        data = record(rng)
        form = rng.choice(["{k}: {v}", "{k} = {v}", "{k} is {v}"])
        lines = [
            form.format(k=k, v=v if isinstance(v, str) else compact(v)) for k, v in data.items()
        ]
        if back:
            lines = [f"{k}: {v if isinstance(v, str) else compact(v)}" for k, v in data.items()]
            return compact(data), "\n".join(lines)
        return rng.choice(["\n", ", ", "; "]).join(lines), json_text(data, tight)

    if back:
        return Task("Write the JSON object as key: value lines.", draw)
    return Task(
        rng.choice(["Write it as a JSON object.", "Make JSON of the pairs.", "As JSON."]), draw
    )


def make_array(rng: Random) -> Task:
    tight = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        said = [
            " ".join(any_word(rng) for _ in range(rng.randint(1, 3)))
            for _ in range(rng.randint(0, 5))
        ]
        return rng.choice([", ", " | ", "\n", "; "]).join(said) or "(nothing)", json_text(
            said, tight
        )

    return Task(
        rng.choice(["Write the items as a JSON array of strings.", "As a JSON list."]), draw
    )


def look_up(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        data = record(rng, 2, 6)
        name = rng.choice(list(data))
        if rng.random() < 0.25:
            name = key(rng)
        asked = rng.choice([f"{compact(data)}\n{name}", f"What is {name} in {compact(data)}?"])
        if name not in data:
            return asked, "missing"
        value = data[name]
        return asked, value if isinstance(value, str) else compact(value)

    return Task("Look up the key in the JSON object. Answer missing if it is not there.", draw)


def nested(rng: Random) -> Task:
    """Objects in objects: a path read, a value set, the keys listed."""
    act = rng.choice(["path", "keys", "set", "remove"])
    ask = {
        "path": "Give the value at the path.",
        "keys": "List the top-level keys as a JSON array.",
        "set": "Set the key to the value and write the whole object.",
        "remove": "Remove the key and write the whole object.",
    }[act]

    def draw(rng: Random) -> Pair:
        data: dict[str, Any] = record(rng, 1, 2)
        outer = key(rng)
        data[outer] = record(rng, 1, 3)
        if act == "path":
            inner = rng.choice(list(data[outer]))
            value = data[outer][inner]
            return f"{compact(data)}\n{outer}.{inner}", value if isinstance(
                value, str
            ) else compact(value)
        if act == "keys":
            return compact(data), compact(list(data))
        flat = record(rng, 2, 4)
        name = rng.choice(list(flat))
        if act == "remove":
            rest = {k: v for k, v in flat.items() if k != name}
            return f"{compact(flat)}\n{name}", compact(rest)
        value = scalar(rng)
        return f"{compact(flat)}\n{name} = {compact(value)}", compact({**flat, name: value})

    return Task(ask, draw)


def validity(rng: Random) -> Task:
    mend = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        good = compact(
            record(rng, 1, 3)
            if rng.random() < 0.6
            else [any_word(rng) for _ in range(rng.randint(1, 4))]
        )
        breaks = [good[:-1], good.replace('"', "'"), good.replace(", ", " ", 1), good + good[-1]]
        bad = rng.choice([b for b in breaks if b != good])
        try:
            json.loads(bad)
            bad = good[:-1]
        except json.JSONDecodeError:
            pass
        if mend:
            return bad, good
        return (good, "valid") if rng.random() < 0.5 else (bad, "invalid")

    return Task("Mend the JSON." if mend else "Is it valid JSON? valid or invalid.", draw)


def escaping(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        words = [any_word(rng) for _ in range(rng.randint(2, 6))]
        index = rng.randrange(len(words))
        words[index] = rng.choice(['"{}"', "{}\n", "{}\\", "{}\t", "({})"]).format(words[index])
        text = " ".join(words)
        return text, compact(text)

    return Task(
        rng.choice(["Write the text as a JSON string.", "Quote and escape it for JSON."]), draw
    )


def table(rng: Random) -> Task:
    """Records as CSV lines or a Markdown table, and one cell read from them."""
    read = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        head = rng.sample(NOUNS, rng.randint(2, 3))
        rows = [
            [
                rng.choice([title(rng), rng.choice(PLACES), str(rng.randint(1, 99)), any_word(rng)])
                for _ in head
            ]
            for _ in range(rng.randint(1, 4))
        ]
        csv = "\n".join(",".join(r) for r in [head, *rows])
        if read:
            row, column = rng.choice(rows), rng.randrange(1, len(head))
            return f"{csv}\n{head[column]} of {row[0]}?", next(r for r in rows if r[0] == row[0])[
                column
            ]
        marks = [head, ["---"] * len(head), *rows]
        return csv, "\n".join("| " + " | ".join(r) + " |" for r in marks)

    return Task("Answer from the table." if read else "Make a Markdown table of the CSV.", draw)
