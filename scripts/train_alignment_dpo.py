"""python scripts/train_alignment_dpo.py: `livery dpo` by config/defaults.json, if here."""

import sys

from commands.dsl.config import with_defaults
from livery.cli import main

main(["dpo", *with_defaults(sys.argv[1:])])
