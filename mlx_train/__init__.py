"""The MLX backend: load a base with LoRA, the exact shared-prefix loss, the step."""
