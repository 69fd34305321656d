"""python scripts/audit.py PyPI.zip: known vulnerabilities of what constraints.txt pins, offline.

PyPI.zip is OSV's dump of the PyPI ecosystem, fetched on a machine with a network and carried over:

    curl -O https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip

The format is OSV's (https://ossf.github.io/osv-schema/): a package is affected where its version is
listed, or lies in an ECOSYSTEM range from an `introduced` to before the next `fixed` (or up to
`last_affected`). Exits 1 where something is found.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

sys.path.insert(0, str(Path(__file__).resolve().parent))
from check_pins import ROOT, read_pins


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    pinned = read_pins(ROOT / "constraints.txt")
    found = sorted(audit(Path(arguments[0]), pinned))
    for line in found:
        print(line)
    print(f"{len(pinned)} packages looked up; {len(found)} known vulnerabilities.")
    return 1 if found else 0


def audit(dump: Path, pinned: dict[str, str]) -> Iterator[str]:
    """One line for each vulnerability of a pinned version."""
    with zipfile.ZipFile(dump) as archive:
        for name in archive.namelist():
            if not name.endswith(".json"):
                continue
            entry: dict[str, Any] = json.loads(archive.read(name))
            if entry.get("withdrawn"):
                continue
            for affected in entry.get("affected", ()):
                package = affected.get("package", {})
                if package.get("ecosystem") != "PyPI":
                    continue
                key = str(package.get("name", "")).lower().replace("_", "-").replace(".", "-")
                if key in pinned and is_affected(affected, pinned[key]):
                    names = ", ".join([entry["id"], *entry.get("aliases", ())])
                    yield f"{key} {pinned[key]}: {names}: {entry.get('summary', '')}"


def is_affected(affected: dict[str, Any], version: str) -> bool:
    """Whether a version lies in what OSV calls affected."""
    if version in affected.get("versions", ()):
        return True
    ours = Version(version)
    for span in affected.get("ranges", ()):
        if span.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for event in span.get("events", ()):
            (kind, text), *_ = event.items()
            try:
                at = Version("0" if text == "0" else text)
            except InvalidVersion:
                continue
            if kind == "introduced" and ours >= at:
                inside = True
            if (kind == "fixed" and ours >= at) or (kind == "last_affected" and ours > at):
                inside = False
        if inside:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
