"""python scripts/check_pins.py: is everything that is installed, and that an extra could install on
another platform, pinned in constraints.txt? Exits 1 and names what is not.

A package that nobody pinned is one that can change under CI, and that an audit of constraints.txt
does not see.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# Of the environment itself.
OURS = {"livery", "pip", "wheel"}
EXTRAS = ("mlx", "cuda", "llamacpp", "serve", "fasttext", "shell", "openblas", "bench", "dev")
# Where Livery runs. A requirement for none of these (Windows, older Pythons) needs no pin.
PLATFORMS = [
    {"sys_platform": sys_platform, "platform_system": system, "platform_machine": machine,
     "os_name": "posix", "python_version": version, "python_full_version": f"{version}.0",
     "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    for sys_platform, system, machine in (
        ("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
    for version in ("3.11", "3.12", "3.13", "3.14")
]  # fmt: skip


def main() -> int:
    pinned = read_pins(ROOT / "constraints.txt")
    faults = [*installed(pinned), *required(pinned)]
    for fault in sorted(set(faults)):
        print(f"constraints.txt: {fault}", file=sys.stderr)
    return 1 if faults else 0


def read_pins(path: Path) -> dict[str, str]:
    """{normalised name: version} of a constraints file."""
    pins: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = re.fullmatch(r"([\w.-]+)==([\w.!]+)", text)
        if not found:
            raise SystemExit(f"{path.name}:{number}: {text}: write NAME==VERSION.")
        if _name(found[1]) in pins:
            raise SystemExit(f"{path.name}:{number}: {found[1]} stands twice.")
        pins[_name(found[1])] = found[2]
    return pins


def installed(pinned: dict[str, str]) -> list[str]:
    """What is in this environment and not pinned, or pinned to another version."""
    faults: list[str] = []
    for package in metadata.distributions():
        name, version = _name(package.metadata["Name"]), package.version.partition("+")[0]
        if name not in OURS and pinned.get(name) != version:
            wrong = f"pinned to {pinned[name]}" if name in pinned else "not pinned"
            faults.append(f"{name}=={version} is installed and {wrong}.")
    return faults


def required(pinned: dict[str, str]) -> list[str]:
    """What an extra of ours needs on some platform, as far as installed packages tell."""
    faults: list[str] = []
    todo = [("livery", frozenset(EXTRAS))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of an extra or a platform that is not this one's: its pin is all we know
        for text in needs:
            need = Requirement(text)
            if not _applies(need, extras):
                continue
            if _name(need.name) not in pinned:
                faults.append(f"{need.name} is needed by {name} and not pinned.")
            todo.append((_name(need.name), frozenset(need.extras)))
    return faults


def _applies(need: Requirement, extras: frozenset[str]) -> bool:
    marker = need.marker
    return marker is None or any(
        marker.evaluate({**place, "extra": extra}) for place in PLATFORMS for extra in (*extras, "")
    )


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


if __name__ == "__main__":
    sys.exit(main())
