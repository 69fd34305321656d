"""Load a base model for torch through transformers: which device, which dtype, dense or quantized.

    base = load_base("base_model", device="auto", dtype="auto", quantize=None)

Device and dtype, where they are "auto": CUDA bfloat16 (float16 on cards without it), MPS float16,
CPU float32. float16 is refused on a CPU, whose matmul runs it a hundred times slower.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livery.errors import UserError
from livery.models import check_files, find_base, local_name, read_config
from livery.reading import parse_json
from livery.training.self_check import FAMILY_ERRORS, first_line
from livery.weights import check_weights, name_some, only_what_counts, read_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TorchBase:
    """A loaded model.

    Attributes:
        model: transformers' module in eval mode, no parameter requiring a gradient.
        device: where its weights are, or will be.
        dtype: of its floating-point weights, e.g. "bfloat16".
        bits: of its quantized layers; None where it is dense.
    """

    model: nn.Module
    device: torch.device
    dtype: str
    bits: int | None


def load_base(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: int | None = None,
    attention: str | None = None,
    on_host: bool = False,
) -> TorchBase:
    """Load `model` with transformers onto one device.

    Args:
        model: folder or hub id.
        device: "auto", "cpu", "cuda", "cuda:1", "mps", or a device map of one entry as
            JARVIS_ADAPTER_TRAIN_DEVICE_MAP holds it ('{"": "mps"}', "0").
        dtype: "auto" or one of DTYPES.
        quantize: 4 (NF4, double-quantized) or 8 bits through bitsandbytes; None loads as is.
        attention: "sdpa" or "eager"; None takes sdpa where the family has it.
        on_host: leave the weights in the machine's memory, to be taken to the device in parts.

    Raises:
        UserError: torch or bitsandbytes is missing or built for another CUDA, the device is not
            there, or the model cannot be loaded.
    """
    require_torch()
    import torch

    place = find_device(device)
    chosen = choose_dtype(dtype, place)
    options: dict[str, Any] = {"dtype": getattr(torch, chosen)}
    if attention is not None:
        options["attn_implementation"] = attention
    if quantize is not None:
        options["quantization_config"] = quantization(quantize, chosen, place)
        # One entry: bitsandbytes quantizes while it loads, so the weights go straight there.
        options["device_map"] = {"": place}
    loaded = _as_adapters_name_it(_from_pretrained(model, options), model)
    if quantize is None and not on_host:
        loaded = loaded.to(place)
    loaded.eval().requires_grad_(False)
    keep_nf4_layout(loaded)
    return TorchBase(loaded, place, chosen, quantize)


def require_torch() -> None:
    """Raises UserError where torch or transformers cannot be imported."""
    # PEFT imports bitsandbytes, which on some CPUs asks for a kernel that would not be used.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    for name in ("torch", "transformers", "peft"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"{name} cannot be imported ({error}). Install it with: pip install 'livery[cuda]'"
            ) from error


def find_device(asked: str = "auto") -> torch.device:
    """The device meant by `asked` (see `load_base`); with several processes, this one's own GPU.

    Raises:
        UserError: it is not there, or a device map spreads over several devices.
    """
    import torch

    name = _device_name(asked)
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device is {asked!r}; choose auto, cpu, cuda, cuda:N or mps.") from error
    if place.type == "cuda":
        return _find_gpu(place)
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device is mps, and this machine has no Metal GPU. Choose auto or cpu.")
    return place


def choose_dtype(asked: str, device: torch.device) -> str:
    """The dtype of the weights on `device`. Raises UserError for float16 on a CPU."""
    import torch

    if asked not in ("auto", *DTYPES):
        raise UserError(f"dtype is {asked}; choose auto, {', '.join(DTYPES)}.")
    if device.type == "cpu" and asked == "float16":
        raise UserError(
            "dtype is float16, which a CPU multiplies a hundred times slower than float32. "
            "Choose float32 or bfloat16."
        )
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    return "float16" if device.type == "mps" else "float32"


def require_bitsandbytes() -> None:
    """Raises UserError where bitsandbytes is missing or its library does not load here."""
    try:
        module = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UserError(
            f"bitsandbytes cannot be imported ({error}); 4 and 8 bits need it. "
            "Install it with: pip install 'livery[cuda]'"
        ) from error
    except Exception as error:  # its loader raises what the CUDA libraries make of it
        raise UserError(_wrong_build(str(error))) from error
    library = getattr(module.cextension, "lib", None)
    if "Error" in type(library).__name__:
        raise UserError(_wrong_build(getattr(library, "error_msg", "its library did not load")))
    # It would say at every layer of every step that int8 products begin with a cast.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _wrong_build(reason: str) -> str:
    import torch

    return (
        f"bitsandbytes does not load here, where torch is built for CUDA {torch.version.cuda}: "
        f"{reason.strip().splitlines()[0]}. Install the bitsandbytes that fits this CUDA "
        "(pip install -U bitsandbytes), or train without --load-in-4bit and adamw_8bit."
    )


def _device_name(asked: str) -> str:
    text = asked.strip() or "auto"
    if text.startswith("{"):
        entries: dict[str, Any] = parse_json(text.replace("'", '"'), f"device map {asked!r}")
        places = {str(value) for value in entries.values()}
        if len(places) != 1:
            raise UserError(
                f"device map {asked!r} spreads the model over {len(places)} devices; training "
                'keeps it on one. Give {"": 0}, {"": "mps"} or auto; --shard-base spreads a base '
                "over several GPUs (docs/scaling.md)."
            )
        text = places.pop()
    return f"cuda:{text}" if text.isdigit() else text


def _find_gpu(place: torch.device) -> torch.device:
    import torch

    if not torch.cuda.is_available():
        built: Any = torch.version.cuda
        why = (
            f"this torch is built for CUDA {built} and sees no GPU (does nvidia-smi?)"
            if built
            else "this torch is built without CUDA"
        )
        raise UserError(
            f"device is {place}, and {why}. Choose auto or cpu, or install torch for it."
        )
    count = torch.cuda.device_count()
    given: Any = place.index  # None where no number was given
    index = int(os.environ.get("LOCAL_RANK", "0")) if given is None else given
    if index >= count:
        raise UserError(f"device is cuda:{index}, and this machine has {count} GPUs, from cuda:0.")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def quantization(bits: int, dtype: str, device: torch.device) -> Any:
    import torch

    if bits not in (4, 8):
        raise UserError(f"quantize is {bits}; torch quantizes to 4 or 8 bits.")
    if device.type == "mps":
        raise UserError(
            "bitsandbytes does not run on MPS. Leave out --quantize (and --load-in-4bit), or train "
            "a quantized base with --backend mlx."
        )
    require_bitsandbytes()
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _from_pretrained(model: str | Path, options: dict[str, Any]) -> Any:
    model, named = local_name(model), model
    path = Path(model).expanduser()
    if path.is_dir() and not (path / "config.json").exists():
        kind = "is an adapter" if (path / "adapter_config.json").exists() else "has no config.json"
        raise UserError(
            f"{model}: {kind}, so it is not a base model's folder. Give its base instead."
        )
    if not path.is_dir():
        loaded = _load(named, str(path) if path.exists() else str(model), options)
        if (folder := find_base(model)) is not None:  # the hub cache has it by now
            check_weights(read_config(folder), folder)
        return loaded
    check_files(path)
    check_weights(read_config(path), path)
    with only_what_counts(path) as folder:
        return _load(named, str(folder), options)


def _load(model: str | Path, name: str, options: dict[str, Any]) -> Any:
    """The model of the folder or hub id `name`, which messages call `model`.

    Raises:
        UserError: transformers cannot load it, or weights are missing: it would draw them at random
            and only print that it did.
    """
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(name)
        _without_dropout(config)
        with _no_progress_bars():
            found: Any = _loader(config).from_pretrained(
                name, config=config, output_loading_info=True, **options
            )
        loaded, info = found
        _refuse_missing(model, info)
        return loaded
    except UserError:
        raise
    except Exception as error:  # transformers raises a dozen types here, for as many causes
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{model}: transformers cannot load this model: {first}. Give a folder with "
            "config.json and safetensors, or an id that this machine can reach."
        ) from error


def _loader(config: Any) -> Any:
    """transformers' class that builds the model; some multimodal families have no causal model of
    their own name."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForCausalLM if causal or not _nests(config) else AutoModelForImageTextToText


def outline(model: str | Path) -> Any:
    """The model of a folder or hub id without its weights, on torch's meta device: its modules and
    their shapes, as `load_base` would give them.

    Raises:
        UserError: transformers cannot build it, or has no language model for it.
    """
    import torch
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(str(Path(local_name(model)).expanduser()))
        with torch.device("meta"):
            built = _loader(config).from_config(config)
    except FAMILY_ERRORS as error:
        raise UserError(
            f"{model}: transformers cannot build this model: {first_line(error)}."
        ) from error
    return _as_adapters_name_it(built, model)


def _as_adapters_name_it(loaded: Any, model: str | Path) -> Any:
    """The language model alone, with its modules at the paths that adapters of the folder name."""
    from livery.engines.torch.text_model import text_alone, under_names_of

    folder = find_base(model)
    alone = text_alone(loaded, str(model))
    return under_names_of(alone, read_tensors(folder) if folder is not None else ())


def _refuse_missing(model: str | Path, info: Mapping[str, Any]) -> None:
    missing = sorted(str(name) for name in info.get("missing_keys", ()))
    if missing:
        raise UserError(
            f"{model}: the weights lack {len(missing)} of the tensors that config.json calls for: "
            f"{name_some(missing)}. transformers would initialize them at random. Download the "
            "complete model again."
        )


def _nests(config: Any) -> bool:
    return getattr(config, "text_config", None) is not None


@contextlib.contextmanager
def _no_progress_bars() -> Generator[None]:
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _without_dropout(config: Any) -> None:
    """Only LoRA's own dropout acts in training, as in MLX, whose models have no other."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key, value in list(vars(part).items()):
            noise = key.endswith(("dropout", "pdrop", "router_jitter_noise"))
            # What is called noise decides phimoe's choice of experts without any, too.
            if noise and isinstance(value, float) and part.model_type != "phimoe":
                setattr(part, key, 0.0)


def keep_nf4_layout(model: Any) -> None:
    """Keep bitsandbytes from repacking NF4 weights for AVX512-BF16 in an eval-mode forward.

    Its training forward would read the repacked weights as if they were not, and go on with
    gradients that are 85 % wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
