"""Bodies of the commands that belong to no single part; `livery.cli` imports them when called."""
