"""The torch backend: the same loop, numbers and files as `mlx_train`."""
