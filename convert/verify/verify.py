"""Run an adapter in every runtime that is installed and hold their logits against each other."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convert.convert import Target
from convert.verify.verdict import Run, Verdict
from livery.engines import parity
from livery.engines.parity import Logits
from livery.engines.probe import AdapterRefused
from livery.errors import UserError
from livery.files import CannotWrite
from livery.machine import install
from livery.progress import Progress
from livery.temporary import Scratch

Name = Literal["torch", "mlx", "llamacpp"]
# The reference comes first: torch with PEFT, which defines what a PEFT adapter means.
ENGINES: tuple[Name, ...] = ("torch", "mlx", "llamacpp")
NEEDS = {
    "torch": (("torch", "peft"), "cuda"),
    "mlx": (("mlx", "mlx_lm"), "mlx"),
    "llamacpp": (("xllamacpp",), "llamacpp"),
}
FORMATS: dict[str, Target] = {"torch": "peft", "mlx": "mlx", "llamacpp": "gguf"}
LENGTH = 24
POSITIONS = (1, 2, 4, 8, 12, 16, 20, 24)


def verify(
    adapter: str | Path,
    base: str,
    *,
    also: Mapping[str, Sequence[str | Path]] | None = None,
    engines: Sequence[str] | None = None,
    seed: int = 0,
) -> Verdict:
    """Run every engine on the same tokens, with and without the adapter.

    Args:
        adapter: of any format. Each engine uses the file in its own format, else a conversion.
        also: engine -> where else to look, before `adapter` itself.
        base: the base model's folder, or the hub id of a downloaded one, in full precision.
        engines: which; None for each that is installed.
        seed: of the tokens.

    Returns:
        The differences of each engine from the reference, as log-probabilities in nats, and whether
        they are within its tolerance (`Verdict.passed`).

    Raises:
        UserError: an engine that was asked for is not installed or cannot take the adapter, fewer
            than two can be run, or there is no such adapter or base.
    """
    from convert.base import load_base

    known = load_base(base)
    chosen, left_out = _choose(engines)
    verdict = Verdict(str(adapter), str(base), left_out=left_out, positions=POSITIONS)
    config = known.config
    activation = str(config.get("hidden_activation") or config.get("hidden_act") or "")
    tokens = _tokens(config, seed)
    with Scratch("verify") as scratch:
        places: dict[str, tuple[Path, bool]] = {}
        for name in chosen:
            try:
                tried = [Path(p).expanduser() for p in (*(also or {}).get(name, ()), adapter)]
                places[name] = _artefact(name, tried, known.folder, scratch)
            except UserError as error:
                if engines is not None or isinstance(error, CannotWrite):
                    raise
                verdict.left_out[name] = str(error)
        if len(places) < 2:
            raise UserError(_too_few(verdict))
        logits: dict[str, Logits] = {}
        bases: dict[str, np.ndarray] = {}
        verdict.base_tolerance = parity.tolerance(activation)
        total = len(places) - 1 + len(POSITIONS) if "llamacpp" in places else len(places)
        with Progress("verifying", total, "parts") as progress:
            for name, (artefact, converted) in places.items():
                progress.advance(0, name)
                began = time.monotonic()
                run = Run(str(adapter) if converted else str(artefact), converted)
                try:
                    allowed = parity.tolerance(activation, _stored(artefact))
                    logits[name] = _logits(
                        name, known.folder, artefact, tokens, Path(scratch), progress
                    )
                    bases[name] = logits[name].base
                    run = _judged(run, logits, name, allowed)
                except AdapterRefused as error:
                    bases[name] = error.base
                    run = replace(run, fault=str(error))
                except UserError as error:
                    run = replace(run, fault=str(error))
                if name in bases and name != next(iter(bases)):
                    apart = parity.base_difference(next(iter(bases.values())), bases[name])
                    run = replace(run, base=apart)
                verdict.runs[name] = replace(run, seconds=time.monotonic() - began)
    verdict.reference = next(iter(logits), "")
    verdict.base_reference = next(iter(bases), "")
    _judge_effect(verdict, logits)
    return verdict


def _choose(engines: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Those to run, and why others are not."""
    left_out: dict[str, str] = {}
    chosen: list[str] = []
    for name in ENGINES:
        if engines is not None and name not in engines:
            continue
        packages, extra = NEEDS[name]
        missing = [p for p in packages if importlib.util.find_spec(p) is None]
        if missing and engines is not None:
            raise UserError(f"{name} needs {missing[0]}. Install it: {install(extra)}")
        if missing:
            left_out[name] = f"not installed: {install(extra)}"
        else:
            chosen.append(name)
    return chosen, left_out


def _too_few(verdict: Verdict) -> str:
    why = "\n".join(f"  {name}: {reason}" for name, reason in verdict.left_out.items())
    return (
        f"{verdict.adapter}: nothing to compare; it takes at least two of "
        f"{', '.join(ENGINES)}." + (f"\n{why}" if why else "")
    )


def _tokens(config: Any, seed: int) -> list[int]:
    """(LENGTH,) ids from the whole vocabulary, after the base's beginning-of-text where it has one:
    some models compute nonsense without it."""
    count = int(config["vocab_size"])
    tokens = np.random.default_rng(seed).integers(0, count, LENGTH).tolist()
    begin = config.get("bos_token_id")
    return [begin, *tokens[1:]] if isinstance(begin, int) and begin < count else tokens


def _artefact(engine: str, places: Sequence[Path], base: Path, scratch: Path) -> tuple[Path, bool]:
    """The adapter in the engine's own format, and whether it was converted for this.

    Raises:
        UserError: there is no adapter, or it has no such form.
    """
    from convert.adapters import formats
    from convert.convert import convert

    for place in places:
        if found := _own(engine, place):
            return found, False
    source = places[-1]
    formats.detect(source)  # says what is there where it is not an adapter
    made = scratch / engine / ("adapter.gguf" if engine == "llamacpp" else "adapter")
    convert(source, made, FORMATS[engine], base=base)
    return made, True


def _own(engine: str, place: Path) -> Path | None:
    from livery.engines.llamacpp.files import is_gguf

    if engine == "llamacpp":
        tried = (place, place / "gguf" / "adapter.gguf", place / "adapter.gguf")
        return next((path for path in tried if is_gguf(path)), None)
    if engine == "torch":
        return place if (place / "adapter_model.safetensors").is_file() else None
    tried = (place / "mlx", place)
    return next((path for path in tried if (path / "adapters.safetensors").is_file()), None)


def _logits(
    engine: str, base: Path, artefact: Path, tokens: list[int], scratch: Path, progress: Progress
) -> Logits:
    from convert.gguf.convert import convert_model
    from livery.engines.probe import probe

    before = progress.done
    if engine == "llamacpp":
        file = scratch / "base.gguf"
        convert_model(base, file, "f32")
        base = file
    found = probe(
        engine, base, artefact, tokens, POSITIONS, lambda count: progress.update(before + count)
    )
    if engine != "llamacpp":
        progress.advance()
    return found


def _stored(artefact: Path) -> str:
    """The coarsest type of a GGUF adapter's tensors, which llama.cpp computes in; "float32" for
    other formats, which are computed in float32 however they are stored."""
    if artefact.is_dir():
        return "float32"
    from livery.gguf_reader import open_gguf

    held = {entry.dtype for entry in open_gguf(artefact).entries.values()}
    return max(held, key=lambda dtype: parity.STORED.get(dtype, 0.0), default="float32")


def _judged(run: Run, logits: dict[str, Logits], name: str, allowed: float) -> Run:
    reference = next(iter(logits))
    moved = parity.moved(logits[name])
    if name == reference:
        return replace(run, moved=moved)
    found = parity.compare(logits[reference], logits[name], allowed)
    return replace(run, moved=moved, parity=found, fault=found.fault)


def _judge_effect(verdict: Verdict, logits: dict[str, Logits]) -> None:
    """An adapter that does nothing agrees everywhere, and is still wrong."""
    if not logits:
        return
    if not parity.moved(logits[verdict.reference]):
        verdict.fault = (
            f"the adapter does nothing: {verdict.reference} computes the same logits with and "
            "without it. Was it trained, and does it reach modules that the base has?"
        )
        for name, run in verdict.runs.items():  # the runs have nothing to add to that
            if run.parity and not run.moved:
                verdict.runs[name] = replace(run, fault=None)
