"""Adapters from any format to any other: PEFT, MLX and GGUF, through `livery.adapter.Adapter`.

    from convert import convert

    convert("adapters/mine", "mine.gguf", "gguf", base="models/base")

`python -m convert SRC DST --to peft|mlx|gguf|all` is `livery convert`.
"""

from convert.convert import convert as convert

__all__ = ["convert"]
