"""Programs and words that a line of a table cannot describe; registry.py lists them."""
