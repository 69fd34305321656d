"""Engines of one kind on one base at a time, each with an adapter of its own.

MLX and torch keep the base and put adapters on and off it. llama.cpp gets its adapter when it
starts: another one is another process, whose base the system holds in memory already.
"""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

from livery.adapter_origin import choose_model, complete_options, read_origin
from livery.engines.engine import engine_module
from livery.engines.folders import CONFIG, adapter_files
from livery.engines.token_engine import TokenEngine, on_base
from livery.errors import UserError, shown
from livery.machine import gpu_of
from livery.models import find_base, local_name
from livery.serve.answers.question import Question
from livery.serve.known import mark

# What each engine needs; the first that is here is taken, before it the first that has a GPU.
PACKAGES = {"mlx": "mlx_lm", "torch": "torch", "llamacpp": "xllamacpp"}
KEPT = 8  # adapters on a base
_FILES = (CONFIG, "adapters.safetensors", "adapter_model.safetensors", "adapter.gguf",
          "tokenizer.json", "tokenizer_config.json", "run_config.json")  # fmt: skip
_LAST_LINES = 6


def choose(name: str) -> str:
    """The engine that "auto" is on this machine; another name is itself.

    Raises:
        UserError: there is none, or none of this name.
    """
    if name in PACKAGES:
        return name
    if name != "auto":
        known = ", ".join(("auto", *PACKAGES))
        raise UserError(f"{shown(name)}: is not an engine of a server; choose one of: {known}.")
    here = [n for n, package in PACKAGES.items() if importlib.util.find_spec(package)]
    if not here:
        raise UserError("No engine is installed. Install one: pip install 'livery[mlx]'")
    return next((n for n in here if n != "llamacpp" and gpu_of(n)), here[0])


Place = tuple[Any, ...]


class Engines:
    """What is open.

    Attributes:
        name: "mlx", "torch" or "llamacpp".
        loads: bases loaded so far, for a test.
    """

    def __init__(self, name: str) -> None:
        """Raises UserError where the engine is not installed."""
        self.name, self.loads = choose(name), 0
        if self.name == "mlx":
            from livery import blas

            blas.use_openblas()
        self._module = engine_module(self.name)
        self._key: Place = ()
        self._base: Any = None
        self._open: dict[Place, TokenEngine] = {}  # the last used is the last
        self._on: TokenEngine | None = None

    def get(self, question: Question) -> TokenEngine:
        """The engine that answers it, its adapter as the question wants it.

        Raises:
            UserError: base or adapter cannot be opened.
        """
        model, options, key, place = self._place(question)
        if key != self._key:
            self.close()
            self._key = key
        engine = self._open.pop(place, None)
        if engine is None:
            self._switch_off()
            engine = self._opened(model, question.adapter, options)
        self._open[place] = engine
        self.put_on(engine, question)
        return engine

    def opened(self, question: Question) -> TokenEngine | None:
        """The engine that answers it, where it can take turns with those that were got before: on
        the same base, and open already, since one that is being opened and turns out to be faulty
        is on half. llama.cpp takes no turns: it holds one conversation, and would read the other
        one again at each."""
        try:
            *_, key, place = self._place(question)
        except UserError:  # told when it is got
            return None
        if self.name == "llamacpp" or key != self._key:
            return None
        return self._open.get(place)

    def put_on(self, engine: TokenEngine, question: Question) -> None:
        """Have the base be what this question's engine needs: its adapter on or off, no other on.
        Before every turn, where there are several."""
        if engine is not self._on:
            self._switch_off()
        if engine.has_adapter:
            engine.use_adapter(question.tuned)
            self._on = engine

    def _place(self, question: Question) -> tuple[str, dict[str, Any], Place, Place]:
        """(base, options, what the base is, which engine on it)."""
        adapter = question.adapter
        origin = read_origin(adapter)
        model = choose_model(question.model, origin)
        options = complete_options(self.name, {}, origin, model, adapter)
        if adapter is not None and self.name != "llamacpp":
            adapter_files(adapter, "peft" if self.name == "torch" else "mlx")
        key = (model, options.get("quantize"))
        return model, options, key, (adapter, _state(adapter), repr(options.get("template")))

    def close(self) -> None:
        """Let go of everything."""
        for engine in self._open.values():
            if self.name == "llamacpp":
                engine.runtime.process.close()  # pyright: ignore[reportAttributeAccessIssue]
        self._open, self._on, self._base, self._key = {}, None, None, ()
        gc.collect()
        if self.name == "torch":
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _switch_off(self) -> None:
        if self._on is not None and self.name != "llamacpp":
            self._on.use_adapter(False)
        self._on = None

    def _opened(self, model: str, adapter: str | None, options: dict[str, Any]) -> TokenEngine:
        key = self._key
        try:
            if self.name == "llamacpp":
                self.close()
                self.loads += 1
                engine = self._module.open(model, adapter, to_gguf=_conversions(), **options)
                self._key = key
                return engine
            if self._base is None:
                self._base = self._module.load_base(model, quantize=options.get("quantize"))
                self.loads += 1
            while len(self._open) >= KEPT:
                del self._open[next(iter(self._open))]
            runtime = self._module.Runtime(self._base, adapter)
            return on_base(runtime, runtime.config, model, adapter, options.get("template"))
        except BaseException:
            self.close()  # an adapter may have been put on half
            raise


def _state(adapter: str | None) -> tuple[Any, ...]:
    """Changes when the adapter's files do: one that was trained anew is opened anew."""
    if adapter is None:
        return ()
    folder = Path(adapter)
    return tuple(mark(folder / part / name) for part in ("", "mlx", "gguf") for name in _FILES)


# -- GGUF files, made by the commands that make them -----------------------------------------------


def _conversions() -> Any:
    from livery.engines.llamacpp.files import ToGguf, converter_version

    return ToGguf(_model, _adapter, _find, converter_version())


def _model(folder: Path, out: Path, kind: str) -> None:
    _livery("gguf", "--model", str(folder), "--out", str(out), "--type", kind)


def _adapter(source: Path, out: Path, base: Path | None) -> None:
    of = ["--base", str(base)] if base is not None else []
    _livery("convert", str(source), str(out), "--to", "gguf", *of)


def _find(model: str) -> Path:
    folder = find_base(local_name(model))
    if folder is None:
        raise UserError(f"{model}: no such model folder here, and llama.cpp needs one.")
    return folder


def _livery(*arguments: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "livery", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
        check=False,
    )  # fmt: skip
    if ended.returncode:
        last = "\n".join(ended.stderr.strip().splitlines()[-_LAST_LINES:])
        raise UserError(last.removeprefix("Error: ") or f"livery {arguments[0]} failed.")
