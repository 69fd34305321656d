"""python scripts/build_schemas.py: `livery dsl schemas` itself."""

import sys

from livery.cli import main

main(["dsl", "schemas", *sys.argv[1:]])
