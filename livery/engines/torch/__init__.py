"""The torch engine, and how torch loads a base."""
