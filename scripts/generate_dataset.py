"""python scripts/generate_dataset.py: `livery dsl dataset` itself."""

import sys

from livery.cli import main

main(["dsl", "dataset", *sys.argv[1:]])
