"""python scripts/report_training.py: `livery dsl report` itself."""

import sys

from livery.cli import main

main(["dsl", "report", *sys.argv[1:]])
