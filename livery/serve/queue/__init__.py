"""Adapters trained for other services: a queue that takes work once, and tells its end for sure."""
