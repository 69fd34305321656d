"""Answers of a server: an engine in a process of its own, and what is made of what it says."""
