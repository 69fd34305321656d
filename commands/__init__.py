"""The command line: one file per command, imported by `livery.cli` when it is called."""
