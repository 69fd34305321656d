"""Load a base model for MLX: a local folder or a hub id, dense or quantized on the way in."""

from __future__ import annotations

import contextlib
import importlib
import io
import platform
import shutil
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from livery.engines.mlx.model_config import (
    complete,
    other_arithmetic,
    tie_as_the_whole,
    translate,
    with_short_factors,
)
from livery.errors import UserError
from livery.models import check_files, download_model, read_config
from livery.reading import read_json
from livery.weights import check_weights, only_what_counts, read_tensors, weight_files

if TYPE_CHECKING:
    from mlx import nn

DTYPES = ("float32", "bfloat16", "float16")
# Linux wheels of MLX are built against this glibc.
NEEDED_GLIBC = (2, 35)


@dataclass(frozen=True)
class Base:
    """A loaded model.

    Attributes:
        model: mlx-lm's module, in eval mode, weights in memory.
        config: its config.json.
        path: the local folder it came from.
        dtype: of its floating-point weights, e.g. "float32".
        bits: of its quantized layers; None where it is dense.
    """

    model: nn.Module
    config: dict[str, Any]
    path: Path
    dtype: str
    bits: int | None


def load_base(model: str | Path, *, dtype: str = "auto", quantize: int | None = None) -> Base:
    """Load `model` with mlx-lm.

    Args:
        model: folder or hub id.
        dtype: "auto" keeps the checkpoint's on a GPU and takes float32 on a CPU, where MLX has no
            fast half-precision matmul.
        quantize: bits to quantize the linear layers and the embedding to; None loads as is.

    Raises:
        UserError: MLX is missing, the folder is not a model, the hub is out of reach, the family is
            not supported, or nothing in it can be quantized.
    """
    require_mlx()
    path = download_model(model)
    check_folder(path)
    config = read_config(path)
    if "quantization" in config and quantize is not None:
        raise UserError(
            f"{path}/config.json: this model is quantized already "
            f"({config['quantization'].get('bits', '?')} bits). Leave out --quantize."
        )
    check_arithmetic(
        path,
        "An adapter trained on that would be one for another model. Use --backend torch, or "
        "--engine torch.",
    )
    with as_mlx_reads(path, short=True) as staged:
        loaded, config = _load(path, staged)
        if compiler_missing():
            import mlx.core as mx

            mx.disable_compile()  # mlx-lm's models compile small functions of their own
        chosen = default_dtype() if dtype == "auto" else dtype
        if chosen is not None:
            _cast(loaded, chosen)
        if quantize is not None:
            config = _quantize(loaded, config, quantize, path)
        import mlx.core as mx

        loaded.eval()
        mx.eval(loaded.parameters())
    bits = config.get("quantization", {}).get("bits")
    return Base(loaded, config, path, floating_dtype(loaded), bits)


def check_arithmetic(path: Path, remedy: str) -> None:
    """Refuse a model that mlx-lm is known to compute differently from its own code.

    Args:
        remedy: what follows for the command, and the way out.

    Raises:
        UserError: saying what mlx-lm does otherwise.
    """
    config = read_config(path)
    if why := other_arithmetic(translate(config), read_tensors(path)):
        raise UserError(
            f"{path}: mlx-lm computes {config.get('model_type')} differently from the model's own "
            f"code does: {why}. {remedy}"
        )


@contextlib.contextmanager
def as_mlx_reads(path: Path, *, short: bool = False) -> Generator[Path]:
    """A folder that mlx-lm reads as what `path` holds: links to the files that count, and its
    config.json in the dialect of mlx-lm's models.

    mlx-lm takes every model*.safetensors whatever the index says, config.json as it is, and a
    default for every key that it does not find there.

    Args:
        short: for texts that are no longer than the base's original context, where it has two sets
            of rope factors.
    """
    from mlx_lm.utils import load_config

    config = complete(load_config(path))
    tie_as_the_whole(config, read_tensors(path))
    with only_what_counts(path, with_short_factors(config) if short else config) as staged:
        yield staged


def _load(path: Path, staged: Path) -> tuple[Any, dict[str, Any]]:
    """mlx-lm's model and its configuration, or what is wrong with the folder at `path`."""
    from mlx_lm.utils import load_model

    try:
        return load_model(staged, lazy=True)
    except ValueError as error:
        raise UserError(f"{path}: mlx-lm cannot load this model: {error}") from error
    except SystemExit as error:  # olmo, where a package of its own is missing
        raise UserError(
            f"{path}: mlx-lm cannot load this model: its family needs a package that is not "
            "installed. Train it with --backend torch."
        ) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, AssertionError) as error:
        raise UserError(
            f"{path}/config.json: mlx-lm cannot build this model from it "
            f"({type(error).__name__}: {error}). Is it a causal language model's folder, complete?"
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"{path}: its weights cannot be read ({error}). Download the model again."
        ) from error


def require_mlx() -> None:
    """Import MLX and mlx-lm, or say why that fails and what fixes it.

    Raises:
        UserError: not installed, or the system is too old for it.
    """
    system = platform.system()
    if system == "Linux":
        name, version = platform.libc_ver()
        found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if name == "glibc" and found and found < NEEDED_GLIBC:
            raise UserError(
                f"MLX needs glibc {NEEDED_GLIBC[0]}.{NEEDED_GLIBC[1]} or newer; this system has "
                f"{version}. Use a newer Linux (Debian 12, Ubuntu 22.04), or --backend torch."
            )
    if system == "Darwin":
        release = platform.mac_ver()[0]
        major = int(release.split(".")[0] or 0) if release else 0
        if major and major < 14:
            raise UserError(f"MLX needs macOS 14 or newer; this one is {release}.")
    try:
        importlib.import_module("mlx.core")
        importlib.import_module("mlx_lm.utils")
    except ImportError as error:
        missing = "mlx-lm" if (error.name or "").startswith("mlx_lm") else "mlx"
        raise UserError(
            f"{missing} cannot be imported ({error}). Install it with: "
            f"{Path(sys.executable).name} -m pip install 'livery[mlx]'"
        ) from error


def compiler_missing() -> str:
    """Why MLX cannot compile functions here; "" where it can.

    On a Linux CPU it calls g++ at run time; GPUs bring their own compiler.
    """
    import mlx.core as mx

    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    if sys.platform == "linux" and on_cpu and shutil.which("g++") is None:
        return "MLX compiles with g++ on a CPU, and there is none: sudo apt install g++"
    return ""


def check_folder(path: Path) -> None:
    """Raises UserError unless `path` is a folder with config.json and readable weights."""
    if not path.is_dir():
        raise UserError(f"{path}: is a file; give the model's folder.")
    if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        raise UserError(
            f"{path}: is an adapter, not a base model. Give its base as --model; "
            "the adapter can be given as --adapter or --init-adapter."
        )
    config = read_config(path)
    check_files(path)
    if not weight_files(path):
        others = [p.name for kind in ("*.bin", "*.gguf", "*.pth", "*.safetensors")
                  for p in sorted(path.glob(kind))]  # fmt: skip
        seen = f" (it has {', '.join(others[:3])})" if others else ""
        raise UserError(
            f"{path}: holds no weights that MLX reads (model*.safetensors){seen}. Download the "
            "safetensors version of the model; a folder cloned without git-lfs lacks them too."
        )
    if (path / "generation_config.json").exists():
        read_json(path / "generation_config.json")
    check_weights(config, path)


def default_dtype() -> str | None:
    """float32 where MLX runs on a CPU; None (keep the checkpoint's) on a GPU."""
    import mlx.core as mx

    return "float32" if mx.default_device() == mx.Device(mx.cpu) else None


def floating_dtype(model: nn.Module) -> str:
    """The dtype that most of the floating-point weights have."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    counts: dict[str, int] = {}
    for _, array in cast(list[tuple[str, mx.array]], tree_flatten(model.parameters())):
        if mx.issubdtype(array.dtype, mx.floating):
            name = str(array.dtype).removeprefix("mlx.core.")
            counts[name] = counts.get(name, 0) + array.size
    return max(counts, key=lambda name: counts[name]) if counts else "float32"


def _cast(model: nn.Module, dtype: str) -> None:
    """Cast floating-point weights, except those the family wants kept as they are."""
    import mlx.core as mx
    from mlx.utils import tree_map_with_path

    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype}; choose auto, {', '.join(DTYPES)}.")
    target = getattr(mx, dtype)
    keep = getattr(model, "cast_predicate", None)

    def recast(path: str, array: Any) -> Any:
        if not mx.issubdtype(array.dtype, mx.floating):
            return array
        if dtype != "float32" and keep is not None and not keep(path):
            return array
        return array.astype(target)

    model.update(tree_map_with_path(recast, model.parameters()))


def _quantize(model: nn.Module, config: dict[str, Any], bits: int, path: Path) -> dict[str, Any]:
    from mlx import nn
    from mlx_lm.utils import quantize_model

    for group_size in (64, 32):
        if all(
            m.weight.shape[-1] % group_size == 0
            for m in model.modules()
            if isinstance(m, nn.Linear)
        ):
            break
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        _, config = quantize_model(model, config, group_size, bits)
    if not any(isinstance(m, nn.QuantizedLinear) for m in model.modules()):
        raise UserError(
            f"{path}: nothing in this model can be quantized to {bits} bits: the inputs of its "
            "linear layers are not multiples of 32. Leave out --quantize."
        )
    return config
