"""Livery fits one base model with small LoRA adapters, and moves them between runtimes."""

__version__ = "0.1.0"
