"""python scripts/train_fasttext_date_keys.py: `livery fasttext train` itself."""

import sys

from livery.cli import main

main(["fasttext", "train", *sys.argv[1:]])
