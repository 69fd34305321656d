"""Where Livery itself is, where it keeps what it can make again, and the files of a run."""

from __future__ import annotations

import os
from pathlib import Path

# The checkout, or the folder that an installed wheel's packages are in: base_model/ is in both.
HOME = Path(__file__).resolve().parent.parent

# The files of a run's folder, which `livery.training.run_folder` writes.
RUN_CONFIG = "run_config.json"
METRICS = "training_metrics.jsonl"
SAMPLES = "samples.jsonl"
METADATA = "training_metadata.json"
REFERENCE = "reference.jsonl"
TRACKERS_LOG = "trackers.json"
MADE_FROM = "made_from.json"
TENSORBOARD = "tensorboard"
LOCK = ".lock"
RUN_MARK = ".run"  # which run it is, and since when

# Beside the results of an evaluation of a dsl student, whose own name the configuration gives.
DSL_SUMMARY = "evaluation_summary.json"
DSL_PARTIAL = "answers.partial.jsonl"


def python_path() -> str:
    """PYTHONPATH for a process that is to run this very Livery, installed or not, whatever folder
    it starts in."""
    return os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH", ""))))


def cache_folder() -> Path:
    """Where Livery keeps what it can make again; safe to delete at any time."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "livery"


def finished_run(adapter: str) -> str:
    """RUN for `RUN/checkpoint-final`, the older pipeline's name of what a finished run leaves; a
    folder of that name that is there stays itself."""
    path = Path(adapter)
    final = path.name == "checkpoint-final" and not path.exists()
    return str(path.parent) if final and path.parent.is_dir() else adapter
