"""`livery doctor --prove`: checks of training on this machine, each in its own process.

    python -m commands.prove              # from a plain checkout, without installing anything
    livery doctor --prove --json

Nothing here runs on hardware that its authors have, so whoever has it runs one command of at most
ten minutes and pastes the report. A check proves, fails, or is skipped for a reason it names; a
crash or a hang is a line in the report and never the end of it.
"""
