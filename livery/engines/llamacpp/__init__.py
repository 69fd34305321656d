"""The llama.cpp engine: a process of its own around the library."""
