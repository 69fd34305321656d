"""The weights of a model's folder: which shards count, what stands in them, and what is missing.

An index decides which shards count. Libraries differ here: mlx-lm takes every model*.safetensors,
transformers prefers model.safetensors to an index; both then load a stale shard without a word.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from livery.errors import UserError, shown
from livery.models import CONFIG, nested_parts, quantization, text_config
from livery.reading import open_file, read_json
from livery.safetensors_file import Entry, open_tensors
from livery.temporary import Scratch

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_SHARD = re.compile(r"^(.+)-(\d{5})-of-(\d{5})\.safetensors$")


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: its dtype as safetensors names it ("BF16"), its shape, its bytes, and how
    many of the model's numbers each of its elements holds: two in a byte of MXFP4."""

    tag: str
    shape: tuple[int, ...]
    nbytes: int
    packed: int = 1

    @property
    def count(self) -> int:
        return math.prod(self.shape) * self.packed


def weight_files(folder: Path) -> list[Path]:
    """The shards that count, sorted: those of the index, where there is one.

    Without an index model.safetensors is the model, and whatever is beside it is not; without
    that the numbered shards are (model-00001-of-00003.safetensors …), of which none may be missing.
    Empty where there are none.

    Raises:
        UserError: a shard is missing, is not a file, or the index points out of the folder.
    """
    names = _indexed(folder)
    if names is None:
        if (folder / SINGLE).exists():
            names = {SINGLE}
        else:
            names = {path.name for path in folder.glob("model*.safetensors")}
            names = _numbered(folder, names)
    files = [folder / name for name in sorted(names)]
    for file in files:
        if not file.exists():
            raise UserError(_missing_shard(folder, file))
        open_file(file).close()
    return files


def _missing_shard(folder: Path, file: Path) -> str:
    if not (folder / INDEX).exists():
        return f"{shown(file)}: this shard of the weights is missing. Download the model again."
    others = sorted(p.name for p in folder.glob("model*.safetensors"))
    stale = f", or remove the index if it is stale (here are {name_some(others)})" if others else ""
    return (
        f"{shown(file)}: this shard of the weights is missing; {INDEX} names it. Download the "
        f"model again{stale}."
    )


def _indexed(folder: Path) -> set[str] | None:
    """The files that the index names; None where there is no index."""
    path = folder / INDEX
    if not path.exists():
        return None
    index: Any = read_json(path)
    places: Any = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise UserError(f"{shown(path)}: weight_map must map tensors' names to files' names.")
    names = set(cast("dict[str, str]", places).values())
    for name in sorted(names):
        if name != Path(name).name or name in ("", ".", ".."):
            raise UserError(
                f"{shown(path)}: names {shown(name)} as a file of weights; only files of the "
                "model's own folder may be. Do not trust this model."
            )
    if not names:
        raise UserError(f"{shown(path)}: its weight_map is empty. Download the model again.")
    return names


def _numbered(folder: Path, names: set[str]) -> set[str]:
    found = {name: match for name in names if (match := _SHARD.match(name))}
    if not found:
        return names
    sets = {(match[1], match[3]) for match in found.values()}
    if len(sets) > 1 or len(found) < len(names):
        raise UserError(
            f"{shown(folder)}: holds shards of several sets of weights ({', '.join(sorted(names))})"
            f" and no {INDEX} that says which count. Remove the stale ones."
        )
    stem, count = next(iter(sets))
    return {f"{stem}-{n:05d}-of-{count}.safetensors" for n in range(1, int(count) + 1)}


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, from its header alone.

    Raises:
        UserError: no regular file, a git-lfs pointer, or a header that does not fit the file.
    """
    entries = open_tensors(path).entries
    return {
        name: Stored(e.tag, e.shape, e.end - e.start, 1 + is_mxfp4(name, e.tag))
        for name, e in entries.items()
    }


def is_mxfp4(name: str, tag: str) -> bool:
    """Whether a tensor holds blocks of 4-bit numbers, as gpt-oss's checkpoints have its experts."""
    return tag == "U8" and name.endswith("_blocks")


def read_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of the shards that count.

    Raises:
        UserError: as `weight_files` and `read_header`, a tensor is in two shards, or a shard
            lacks one that the index places in it.
    """
    found: dict[str, Stored] = {}
    places: dict[str, str] = {}
    for file in weight_files(folder):
        for name, tensor in read_header(file).items():
            if name in places:
                raise UserError(
                    f"{shown(folder)}: {shown(name)} is in both {places[name]} and {file.name}. "
                    "Download the model again."
                )
            found[name], places[name] = tensor, file.name
    index: Any = read_json(folder / INDEX) if (folder / INDEX).exists() else {"weight_map": {}}
    lacking = [name for name in index["weight_map"] if name not in found]
    if lacking:
        raise UserError(
            f"{shown(folder)}: the weights lack {name_some(lacking)}, which {INDEX} lists. "
            "Download the complete model again."
        )
    return found


def name_some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    listed = sorted(names)
    shown_names = ", ".join(shown(name) for name in listed[:most])
    more = len(listed) - most
    return f"{shown_names} and {more:,} more" if more > 0 else shown_names


@contextlib.contextmanager
def only_what_counts(folder: Path, config: Mapping[str, Any] | None = None) -> Generator[Path]:
    """A folder of links to `folder`'s files without the shards that do not count, for libraries
    that choose shards by rules of their own; `folder` itself where they would choose the same.

    Args:
        config: for mlx-lm: written as config.json instead of the folder's own.
    """
    files = weight_files(folder)
    counted = {file.name for file in files}
    stray = [
        path.name for path in folder.glob("*.safetensors")
        if path.name.startswith("model") and path.name not in counted
    ]  # fmt: skip
    indexed = (folder / INDEX).exists() or counted == {SINGLE}
    if config is None and not stray and (indexed or not files):
        yield folder
        return
    with Scratch("base") as view:
        for path in folder.resolve().iterdir():
            if path.name in stray or (config is not None and path.name == CONFIG):
                continue
            # mlx-lm reads model*.safetensors, whatever the index calls them.
            renamed = config is not None and path.name in counted and path.name[:5] != "model"
            (view / (f"model-{path.name}" if renamed else path.name)).symlink_to(path)
        if files and not indexed:
            places = {name: file.name for file in files for name in read_header(file)}
            index = {"metadata": {}, "weight_map": places}
            (view / INDEX).write_text(json.dumps(index), encoding="utf-8")
        if config is not None:
            (view / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        yield view


# -- what is missing ------------------------------------------------------------------------------

_BLOCK = re.compile(r"^(.*?)\b(?:layers|h|blocks|block)\.(\d+)\.(.+)$")
_HEADS = ("lm_head", "output", "embed_out", "output_layer")
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
# What stands beside packed weights: mlx-lm's, bitsandbytes', GPTQ's and AWQ's, compressed-tensors'.
_QUANTIZED = re.compile(r"\.(scales|absmax|SCB|qweight|qzeros|weight_scale(_inv)?)$|_blocks$")
_WHOLE = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")
_NO_TEXT = re.compile(r"visi|visual|audio|mtp|encoder|merger|projector")
# Families whose config.json leaves the key out and that are tied then: the defaults of transformers
# 5.23's configurations. (transformers writes only what differs from them.)
TIED_UNSAID = frozenset(
    """bloom cohere cohere2 cohere2_moe ernie4_5 ernie4_5_moe falcon falcon_mamba gemma gemma2
    gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_text gpt2 gpt_bigcode gpt_neo jetmoe
    lfm2 lfm2_moe mamba minicpm3 mpt opt recurrent_gemma smollm3 starcoder2 vaultgemma""".split()
)
# Families that leave modules out of some of their layers, by a key that says so.
_UNEVEN = ("num_kv_shared_layers", "num_kv_reuse_layers", "use_cla", "block_configs")


def check_complete(config: Mapping[str, Any], names: Iterable[str], folder: Path) -> None:
    """Raises UserError where weights are missing, as far as a configuration alone can tell.

    Each layer must be there, with the modules that the other layers of its kind have; an embedding,
    a norm behind the layers, and a head unless it is tied. torch and MLX know every tensor that
    they need and say so themselves; this is for who copies weights without building the model.
    """
    names = set(names)
    text: Mapping[str, Any] = text_config(config)
    layers, others = _by_layer(names)
    count: Any = text.get("num_hidden_layers", text.get("n_layer"))
    if not isinstance(count, int):
        return
    check_head(config, names, folder)
    if not layers or any(text.get(key) for key in _UNEVEN):
        return
    lacking = [f"layer {number}" for number in range(count) if number not in layers]
    kinds: dict[Any, dict[int, set[str]]] = {}
    for number, modules in layers.items():
        if number < count:  # what stands behind the last layer predicts further tokens
            kinds.setdefault(_kind(text, count, number, modules), {})[number] = modules
    for alike in kinds.values():
        whole = set[str]().union(*alike.values())
        if whole in alike.values():  # else they are of kinds that no key tells apart
            lacking += [
                f"{name} of layer {number}"
                for number, modules in alike.items()
                for name in whole - modules
            ]
    for what, parts in (("embedding", ("embed", "wte")), ("last norm", ("norm", "ln_f"))):
        if not any(part in name for name in others for part in parts):
            lacking.append(f"the {what}")
    if lacking:
        raise UserError(
            f"{shown(folder)}: the weights lack {name_some(lacking)}. Download the complete model "
            "again."
        )


def check_weights(config: Mapping[str, Any], folder: Path) -> None:
    """What nobody may load or copy: every engine and every conversion of a whole model asks here.

    Raises:
        UserError: weights are stored as integers though nothing says that they are quantized; or
            as `check_head` and `check_tied_head`. Folders without safetensors are not looked at.
    """
    tensors = read_tensors(folder)
    if tensors:
        _check_numbers(config, tensors, folder)
        check_head(config, tensors, folder)
        check_tied_head(config, folder)


def _check_numbers(config: Mapping[str, Any], tensors: Mapping[str, Stored], folder: Path) -> None:
    """torch and MLX would compute with the integers as they are."""
    if quantization(config) or any(_QUANTIZED.search(name) for name in tensors):
        return
    whole = [name for name, stored in tensors.items()
             if name.endswith(".weight") and stored.tag in _WHOLE]  # fmt: skip
    if whole:
        raise UserError(
            f"{shown(folder)}: holds whole numbers ({tensors[whole[0]].tag}) where a model has "
            f"floats, and nothing says that they are quantized: {name_some(whole)}. Download the "
            "complete model again."
        )


def check_head(config: Mapping[str, Any], names: Iterable[str], folder: Path) -> None:
    """Raises UserError if config.json says that the head is not a copy of the embedding, and there
    is none. Some loaders then silently use the embedding."""
    said = _said(config)
    if any(said) or not said:
        return
    modules = [name.split(".weight")[0] for name in names]
    # deepseek_v4's is called head; within towers and layers that is something else.
    if not any(name == "head" or name.rpartition(".")[2] in _HEADS for name in modules):
        raise UserError(
            f"{shown(folder)}: the weights lack lm_head.weight, and config.json says that the "
            "embedding does not stand in for it (tie_word_embeddings: false). Download the "
            "complete model again; or set it to true if the model was trained so."
        )


def check_tied_head(config: Mapping[str, Any], folder: Path) -> None:
    """Raises UserError where config.json ties the head to the embedding and the weights hold a head
    that differs from it: transformers 5 then computes with that head, other runtimes without.
    """
    if not _is_said_tied(config):
        return
    heads: list[_Place] = []
    embeddings: list[_Place] = []
    for file in weight_files(folder):
        for name, entry in open_tensors(file).entries.items():
            part = name.removesuffix(".weight").rpartition(".")[2]
            # A layer's own predict further tokens; towers and what follows them are no head.
            if name.endswith(".weight") and not (_BLOCK.match(name) or _NO_TEXT.search(name)):
                place = _Place(name, file, entry)
                heads += [place] if part in _HEADS else []
                embeddings += [place] if part in _EMBEDDINGS else []
    for head in heads:
        if embeddings and not any(_same_bytes(head, embedding) for embedding in embeddings):
            raise UserError(
                f"{shown(folder / CONFIG)}: ties the head to the embedding (tie_word_embeddings is "
                f"true{'' if _said(config) else ' by default'}), but the weights hold a head, "
                f"{shown(head.name)}, that differs from {shown(embeddings[0].name)}. transformers "
                "5 computes with that head, mlx-lm and llama.cpp with the embedding. Set "
                f"tie_word_embeddings to false in {CONFIG}, or take {shown(head.name)} out of the "
                "weights, whichever the model was trained with."
            )


@dataclass(frozen=True)
class _Place:
    name: str
    file: Path
    entry: Entry


def _said(config: Mapping[str, Any]) -> list[bool]:
    """What a configuration and its parts say of the head."""
    said = [part.get("tie_word_embeddings") for part in (config, *nested_parts(config))]
    return [value for value in said if isinstance(value, bool)]


def _is_said_tied(config: Mapping[str, Any]) -> bool:
    return any(_said(config)) if _said(config) else config.get("model_type") in TIED_UNSAID


def _same_bytes(one: _Place, other: _Place) -> bool:
    a, b = one.entry, other.entry
    if (a.tag, a.shape) != (b.tag, b.shape):
        return False
    with open_file(one.file) as left, open_file(other.file) as right:
        left.seek(a.start)
        right.seek(b.start)
        rest = a.end - a.start
        while rest > 0:
            size = min(rest, 1 << 22)
            if left.read(size) != right.read(size):
                return False
            rest -= size
    return True


def _by_layer(names: Iterable[str]) -> tuple[dict[int, set[str]], list[str]]:
    """Modules by the number of their layer, of the longest stack of layers; and what else there is.

    Vision and audio towers have stacks of their own."""
    stacks: dict[str, dict[int, set[str]]] = {}
    others: list[str] = []
    for name in names:
        found = _BLOCK.match(name)
        if found is None:
            others.append(name)
            continue
        module = found[3].split(".weight")[0].split(".bias")[0]
        if module == found[3]:  # a parameter of a module that holds more: A_log, sinks
            module = module.rpartition(".")[0] or module
        stacks.setdefault(found[1], {}).setdefault(int(found[2]), set()).add(module)
    of_text = {p: s for p, s in stacks.items() if not _NO_TEXT.search(p)}
    if not of_text:
        return {}, others
    return max(of_text.values(), key=lambda stack: sum(map(len, stack.values()))), others


def _kind(text: Mapping[str, Any], count: int, number: int, modules: set[str]) -> Any:
    """What kind of layer this is, by every key that says something of each layer."""
    said = [
        json.dumps(value[number])
        for key, value in sorted(text.items())
        if isinstance(value, list | str)
        and len(value) == count
        and re.search("layer|type|pattern|block", key)
    ]
    return (*said, any("experts" in module for module in modules))
