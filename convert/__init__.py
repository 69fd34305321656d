"""Adapters from any format to any other: PEFT, MLX and GGUF, through `livery.adapter.Adapter`.

`python -m convert SRC DST --to peft|mlx|gguf|all` is `livery convert`.
"""
