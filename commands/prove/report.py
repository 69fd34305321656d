"""What was proven as Markdown and JSON that can be pasted into an issue: nothing in it says whose
machine it was or where anything is.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands.prove.run import Result
from livery import __version__
from livery.files import atomic_write
from livery.machine import chip, cores, memory, version
from livery.paths import HOME

FORMAT = 1
NAMES = ("proof.md", "proof.json")
_PACKAGES = (
    "torch", "transformers", "peft", "bitsandbytes", "trl", "unsloth", "mlx", "mlx-lm", "numpy",
)  # fmt: skip
# A path of any system, but for a single name behind a slash ("tokens/s") and for a URL's.
_PATH = re.compile(r"(?<![\w:/])(?:~|[A-Za-z]:)?(?:[/\\]+[^\s/\\:;,'\"()<>|]+){2,}[/\\]?")


def as_dict(results: Sequence[Result], seconds: float, load: float | None = None) -> dict[str, Any]:
    """All of it, as plain values; `load` is the machine's before the first check."""
    counts = {
        verdict: sum(result.outcome.verdict == verdict for result in results)
        for verdict in ("proven", "failed", "skipped")
    }
    found = {
        "format": FORMAT,
        "livery": __version__,
        "machine": {**machine(), "load": load},
        "counts": counts,
        "seconds": round(seconds, 1),
        "checks": [result.as_dict() for result in results],
    }
    return _cleaned(found)


def machine() -> dict[str, Any]:
    """Chip, memory, system, versions and GPUs; no name of anybody or anything of theirs."""
    mac = platform.mac_ver()[0]
    return {
        "chip": chip(),
        "cores": cores(),
        "memory_gb": round(memory()[0] / 1e9, 1),
        "system": f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "gpus": _gpus(),
    }


def markdown(found: dict[str, Any]) -> str:
    """The report for people."""
    machine, counts = found["machine"], found["counts"]
    has = [f"{name} {given}" for name, given in machine["packages"].items() if given]
    lacks = [name for name, given in machine["packages"].items() if not given]
    load = "" if machine["load"] is None else f"; load {machine['load']:.1f} at the start"
    lines = [
        f"# Livery {found['livery']}: what was proven on this machine",
        "",
        f"{counts['proven']} proven, {counts['failed']} failed, {counts['skipped']} skipped, in "
        f"{found['seconds']:.0f} s.",
        "",
        f"- {machine['chip']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"{machine['system']}, Python {machine['python']}{load}",
        f"- GPU: {', '.join(machine['gpus']) or 'none'}",
        f"- {', '.join(has)}" + (f"; not installed: {', '.join(lacks)}" if lacks else ""),
        "",
        "| check | verdict | what was seen | s |",
        "|---|---|---|---|",
    ]
    for check in found["checks"]:
        said = str(check["said"]).replace("|", "\\|").replace("\n", " ")
        verdict = f"**{check['verdict']}**" if check["verdict"] == "failed" else check["verdict"]
        lines.append(f"| {check['what']} | {verdict} | {said} | {check['seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def write(found: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """proof.md and proof.json in `folder`. Raises UserError where they cannot be written."""
    texts = (markdown(found), json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    paths = (folder / NAMES[0], folder / NAMES[1])
    for path, text in zip(paths, texts, strict=True):
        with atomic_write(path) as file:
            file.write(text.encode("utf-8"))
    return paths


def clean(text: str) -> str:
    """`text` without paths, host and user names."""
    for place, name in _places():
        text = text.replace(place, name)
    text = _PATH.sub("PATH", text)
    for word in _private_words():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "NAME", text)
    return text


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(inner) for key, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def _places() -> list[tuple[str, str]]:
    """Folders whose paths tell who and where, the longest first."""
    given = [HOME, Path.cwd(), Path.home(), Path(sys.prefix), Path(tempfile.gettempdir())]
    found = {str(path) for path in (*given, *(path.resolve() for path in given))}
    return [(path, "PATH") for path in sorted(found, key=len, reverse=True) if len(path) > 1]


def _private_words() -> list[str]:
    found: set[str] = {platform.node(), platform.node().partition(".")[0]}
    with contextlib.suppress(Exception):  # no such user, no network: nothing to hide
        found |= {getpass.getuser(), socket.gethostname(), socket.getfqdn()}
    found |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME")}
    return sorted((word for word in found if len(word) > 1 and word != "localhost"), key=len)[::-1]


def _gpus() -> list[str]:
    """Names and memory of the GPUs that torch or MLX sees."""
    found: list[str] = []
    with contextlib.suppress(Exception):  # torch missing or broken: the checks say so
        import torch

        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            found.append(f"{about.name}, {about.total_memory / 1e9:.0f} GB")
        if found:
            found.append(f"CUDA {torch.version.cuda}")
        elif torch.backends.mps.is_available():
            found.append("Metal")
    return found
