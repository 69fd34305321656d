"""GGUF files: adapters, whole models, tokenizers, quantization."""
