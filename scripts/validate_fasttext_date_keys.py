"""python scripts/validate_fasttext_date_keys.py: `livery fasttext eval`, FastText alone."""

import sys

from livery.cli import main

main(["fasttext", "eval", *sys.argv[1:]])
