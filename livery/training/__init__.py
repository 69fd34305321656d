"""The training loop and everything it uses; no framework in here."""
