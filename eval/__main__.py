"""`python -m eval SKILL ...` is `livery eval SKILL ...`."""

import sys

from livery.cli import main

main(["eval", *sys.argv[1:]])
