"""Settings: where each comes from, what it may be, what it decides."""
