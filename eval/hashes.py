"""Which bytes were evaluated: hashes of adapter files."""

from __future__ import annotations

from pathlib import Path

from livery.files import sha256

# Weights only: the configuration shows in the run's own facts.
_WEIGHTS = (
    "adapter_model.safetensors",
    "adapters.safetensors",
    "mlx/adapters.safetensors",
    "gguf/adapter.gguf",
)


def adapter_hashes(folder: str | Path | None) -> dict[str, str]:
    """{file within the folder: hex SHA-256} of the adapter's weights in every format it holds; of a
    single file its own."""
    if folder is None:
        return {}
    if Path(folder).is_file():
        return {Path(folder).name: sha256(folder)}
    return {
        name: sha256(Path(folder) / name) for name in _WEIGHTS if (Path(folder) / name).is_file()
    }
