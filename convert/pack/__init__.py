"""One folder or archive for every runtime, with its card; Modelfiles for Ollama."""
