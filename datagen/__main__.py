"""`python -m datagen` is `livery data`."""

import sys

from livery.cli import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
