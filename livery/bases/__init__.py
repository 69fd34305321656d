"""Where a base can come from besides a folder and a hub: names of our own, and Ollama."""
