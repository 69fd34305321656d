"""Gradient checkpointing of a model's blocks that is right with a cache.

`mx.checkpoint` recomputes a function from its inputs and differentiates by these alone. A block
that reads keys from a cache and writes new ones has more inputs and outputs than its arguments
show; left out (as mlx-lm's own `grad_checkpoint` leaves them) the gradient through the prefix is
lost without a word. Here the cache's arrays go in and come out explicitly.
"""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from livery.engines.mlx import cache as mlx_cache

_Path = tuple[Any, ...]


def checkpoint_blocks(model: nn.Module) -> None:
    """From now on every block of `model` recomputes its activations while training."""
    for block in cast(Any, model).layers:
        if block is not None and not hasattr(type(block), "recomputes"):
            kind = type(block)
            block.__class__ = type(
                kind.__name__,
                (kind,),
                {"__call__": _recomputing(kind.__call__), "recomputes": True},
            )


def _recomputing(forward: Any) -> Any:
    def call(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return forward(block, *args, **kwargs)
        arguments = (args, kwargs)
        paths = list(_leaves(arguments))
        arrays = [_at(arguments, path) for path in paths]
        caches = [(path, leaf) for path, leaf in zip(paths, arrays, strict=True)
                  if mlx_cache.is_cache(leaf)]  # fmt: skip
        plain = [(path, leaf) for path, leaf in zip(paths, arrays, strict=True)
                 if isinstance(leaf, mx.array)]  # fmt: skip
        trained = cast(list[tuple[str, mx.array]], tree_flatten(block.trainable_parameters()))
        held = [mlx_cache.arrays_of([cache]) for _, cache in caches]
        # As they are now: `run` runs again in the backward pass, when the caches have moved on.
        before = [mlx_cache.with_arrays(cache, arrays)
                  for (_, cache), arrays in zip(caches, held, strict=True)]  # fmt: skip
        left: list[Any] = []  # what the last run of `run` left besides arrays
        results: list[_Path] = []

        def run(
            weights: list[mx.array], inputs: list[mx.array], kept: list[list[mx.array]]
        ) -> tuple[list[mx.array], list[list[mx.array]]]:
            block.update(tree_unflatten(list(zip([n for n, _ in trained], weights, strict=True))))
            twins = [
                mlx_cache.with_arrays(cache, arrays)
                for cache, arrays in zip(before, kept, strict=True)
            ]
            fresh: list[tuple[_Path, Any]] = [
                *zip([path for path, _ in plain], inputs, strict=True),
                *zip([path for path, _ in caches], twins, strict=True),
            ]
            new_args, new_kwargs = _replaced(arguments, dict(fresh))
            out = forward(block, *new_args, **new_kwargs)
            results[:] = list(_leaves(out))
            left[:] = [out, *twins]
            return (
                [_at(out, path) for path in results if isinstance(_at(out, path), mx.array)],
                [mlx_cache.arrays_of([twin]) for twin in twins],
            )

        outputs, states = mx.checkpoint(run)(
            [value for _, value in trained], [value for _, value in plain], held
        )
        out, *twins = left
        for (_, cache), twin, arrays in zip(caches, twins, states, strict=True):
            mlx_cache.adopt(cache, mlx_cache.with_arrays(twin, arrays))
        array_paths = [path for path in results if isinstance(_at(out, path), mx.array)]
        return _replaced(out, dict(zip(array_paths, outputs, strict=True)))

    return call


def _leaves(tree: Any, path: _Path = ()) -> Any:
    """Paths of all leaves of nested tuples, lists and dicts."""
    if isinstance(tree, (list, tuple)):
        for index, item in enumerate(cast(list[Any], tree)):
            yield from _leaves(item, (*path, index))
    elif isinstance(tree, dict):
        for key, item in cast(dict[Any, Any], tree).items():
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _at(tree: Any, path: _Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def _replaced(tree: Any, values: dict[_Path, Any], path: _Path = ()) -> Any:
    """`tree` with the leaves at the given paths exchanged."""
    if isinstance(tree, (list, tuple)):
        items = cast(list[Any], tree)
        return type(tree)(_replaced(item, values, (*path, i)) for i, item in enumerate(items))
    if isinstance(tree, dict):
        pairs = cast(dict[Any, Any], tree)
        return {key: _replaced(item, values, (*path, key)) for key, item in pairs.items()}
    return values.get(path, tree)
