"""python scripts/build_training_corpus.py: `livery dsl corpus` itself."""

import sys

from livery.cli import main

main(["dsl", "corpus", *sys.argv[1:]])
