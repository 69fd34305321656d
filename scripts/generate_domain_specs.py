"""python scripts/generate_domain_specs.py: `livery dsl specs` itself."""

import sys

from livery.cli import main

main(["dsl", "specs", *sys.argv[1:]])
