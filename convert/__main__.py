"""`python -m convert` is `livery convert`."""

from __future__ import annotations

import sys

from convert.cli import convert_command
from livery.errors import LiveryError


def main() -> None:
    try:
        convert_command(prog_name="python -m convert")
    except LiveryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
