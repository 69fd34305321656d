"""python scripts/train_student_unsloth.py: `livery train` by config/defaults.json, if here."""

import sys

from commands.dsl.config import with_defaults
from livery.cli import main

main(["train", *with_defaults(sys.argv[1:])])
