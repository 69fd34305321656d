"""python scripts/build_alignment_pairs.py: `livery dsl pairs` itself."""

import sys

from livery.cli import main

main(["dsl", "pairs", *sys.argv[1:]])
