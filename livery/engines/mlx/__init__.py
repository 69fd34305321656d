"""The MLX engine, and how MLX loads a base."""
