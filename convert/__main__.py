"""`python -m convert` is `livery convert`."""

import sys

from livery.cli import main

if __name__ == "__main__":
    main(["convert", *sys.argv[1:]])
