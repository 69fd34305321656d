"""python scripts/validate_hybrid_date_keys.py: `livery fasttext eval` with an adapter."""

import sys

from livery.cli import main

# A later --adapter or --adapter-path on the command line takes its place.
main(["fasttext", "eval", "--adapter", "adapters/date-keys", *sys.argv[1:]])
