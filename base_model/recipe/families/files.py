"""Shell-like text: paths, file names, plain commands and what they do."""

from __future__ import annotations

from random import Random

from ..dialogue import Pair, Task, is_clean
from ..words import NOUNS, VERBS, any_word, invented

EXTENSIONS = "txt md py json csv log sh yaml png pdf html toml mp3 zip".split()
COMMANDS = [
    ("list the files in {d}", "ls {d}"),
    ("show the file {f}", "cat {f}"),
    ("copy {f} to {d}", "cp {f} {d}"),
    ("move {f} to {d}", "mv {f} {d}"),
    ("make the folder {d}", "mkdir {d}"),
    ("go to {d}", "cd {d}"),
    ("find {w} in {f}", "grep {w} {f}"),
    ("count the lines of {f}", "wc -l {f}"),
    ("show the first {n} lines of {f}", "head -n {n} {f}"),
    ("show the last {n} lines of {f}", "tail -n {n} {f}"),
    ("sort {f}", "sort {f}"),
    ("show the current folder", "pwd"),
    ("print {w}", "echo {w}"),
    ("find files named {w} in {d}", "find {d} -name {w}"),
    ("show free disk space", "df -h"),
    ("rename {f} to {g}", "mv {f} {g}"),
    ("create an empty file {f}", "touch {f}"),
]


def name(rng: Random) -> str:
    form = rng.choice(["{}", "{}_{}", "{}-{}"])
    stem = form.format(any_word(rng), rng.choice([any_word(rng), str(rng.randint(1, 99))]))
    if not is_clean(stem):
        return name(rng)
    return f"{stem}.{rng.choice(EXTENSIONS)}"


def folder(rng: Random) -> str:
    parts = [rng.choice([rng.choice(NOUNS), invented(rng)]) for _ in range(rng.randint(1, 3))]
    return rng.choice(["/", "~/", "", "./"]) + "/".join(parts)


def command(rng: Random) -> Task:
    explain = rng.random() < 0.4

    def draw(rng: Random) -> Pair:
        said, line = rng.choice(COMMANDS)
        slots = {
            "d": folder(rng),
            "f": name(rng),
            "g": name(rng),
            "w": any_word(rng),
            "n": str(rng.randint(1, 50)),
        }
        pair = said.format(**slots), line.format(**slots)
        if explain and line.startswith("mv"):
            return f"mkdir {slots['d']}", f"make the folder {slots['d']}"
        return (pair[1], pair[0]) if explain else pair

    return Task(
        "Say what the command does."
        if explain
        else rng.choice(["Write the shell command.", "Which command does it?"]),
        draw,
    )


def path_part(rng: Random) -> Task:
    act = rng.choice(
        [
            "Write only the file name.",
            "Write only the folder.",
            "Write the file extension.",
            "Join the folder and the file.",
        ]
    )

    def draw(rng: Random) -> Pair:
        place, file = folder(rng), name(rng)
        if act.startswith("Join"):
            return f"{place} {file}", f"{place}/{file}"
        answer = {"Write only the file name.": file, "Write only the folder.": place}.get(
            act, file.rsplit(".", 1)[-1]
        )
        return f"{place}/{file}", answer

    return Task(act, draw)


def slot_line(rng: Random) -> Task:
    """A small line language that the instruction sets: `verb | object`, `verb(object)` ..."""
    form = rng.choice(
        ["{v} | {n}", "{v}({n})", "<{v}> {n}", "do {v} -> {n}", "{v}: {n}", "!{v} {n}"]
    )

    def draw(rng: Random) -> Pair:
        v, n = rng.choice(VERBS), rng.choice(NOUNS)
        said = rng.choice(
            [
                "{v} the {n}",
                "please {v} my {n}",
                "can you {v} the {n} for me",
                "i want you to {v} that {n}",
            ]
        )
        return said.format(v=v, n=n), form.format(v=v, n=n)

    return Task(f"Write the request as {form.format(v='verb', n='object')}", draw)
