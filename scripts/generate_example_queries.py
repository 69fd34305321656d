"""python scripts/generate_example_queries.py: `livery dsl queries` itself."""

import sys

from livery.cli import main

main(["dsl", "queries", *sys.argv[1:]])
