"""The training loop and all it stands on; no framework in here."""
