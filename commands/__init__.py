"""The command line: a file a command, imported by `livery.cli` when it is called."""
