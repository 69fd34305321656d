"""python scripts/evaluate_student.py: `livery dsl evaluate` itself."""

import sys

from livery.cli import main

main(["dsl", "evaluate", *sys.argv[1:]])
