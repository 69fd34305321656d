"""`python -m commands.prove`: what `livery doctor --prove` runs, without click."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from commands.prove.show import show
from livery.errors import UserError


def main() -> int:
    """Parse, prove, report."""
    parser = argparse.ArgumentParser(
        prog="scripts/prove.sh",
        description="Prove what this machine can train, in at most ten minutes; writes proof.md "
        "and proof.json, which name no path, host or user.",
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the two files")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these checks")
    parser.add_argument("--json", action="store_true", help="print the JSON report")
    given = parser.parse_args()
    try:
        return show(given.out, given.only, as_json=given.json)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
