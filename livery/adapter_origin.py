"""What an adapter folder says of itself: which base it was trained on, from which data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livery.config.settings import TEMPLATE_OPTIONS, TemplateSettings
from livery.engines.folders import own_tokenizer
from livery.errors import UserError
from livery.files import read_json
from livery.models import EMBEDDED, resolve_name
from livery.paths import RUN_CONFIG


@dataclass(frozen=True)
class Origin:
    """Where an adapter came from; what is not known is None.

    Attributes:
        model: its base, folder or hub id.
        quantize: bits that the base was quantized to on loading.
        train_data: the data set it was trained on, where that is still there.
        columns: which of its columns holds what.
        template: how it was prompted.
    """

    model: str | None = None
    quantize: int | None = None
    train_data: str | None = None
    columns: tuple[str, ...] = ()
    template: TemplateSettings = field(default_factory=TemplateSettings)


def read_origin(adapter: str | None) -> Origin:
    """Look into run_config.json, then into the adapter's own configuration.

    Raises:
        UserError: no such folder, or a file in it is broken.
    """
    if adapter is None:
        return Origin()
    folder = adapter_folder(adapter)
    settings = _settings(folder / RUN_CONFIG)
    if settings:
        data = str(settings.get("data") or "")
        return Origin(
            model=settings.get("model"),
            quantize=settings.get("quantize"),
            train_data=data if data and Path(data).exists() else None,
            columns=tuple(settings.get("columns", ())),
            template=_template(folder / RUN_CONFIG, settings),
        )
    for config, key in (
        ("adapter_config.json", "base_model_name_or_path"),
        ("mlx/adapter_config.json", "model"),
        ("adapter_config.json", "model"),
    ):
        value = read_json(folder / config) if (folder / config).is_file() else {}
        if isinstance(value, dict) and isinstance(value.get(key), str) and value[key]:
            return Origin(model=value[key])
    return Origin()


def adapter_folder(adapter: str) -> Path:
    """The folder that knows of an adapter: itself, or of a file (adapters/NAME/gguf/adapter.gguf)
    the one that it is in.

    Raises:
        UserError: no such folder or file.
    """
    path = Path(adapter).expanduser()
    if path.is_file():
        return path.parent.parent if path.parent.name == "gguf" else path.parent
    if not path.is_dir():
        raise UserError(f"{path}: no such adapter folder.")
    return path


def complete_options(
    engine: str, given: dict[str, Any], origin: Origin, model: str, adapter: str | None
) -> dict[str, Any]:
    """The engine's options completed with what the adapter records."""
    options = dict(given)
    asked = {name: options.pop(name, None) for name in TEMPLATE_OPTIONS}
    known = origin.template
    kwargs = {**known.kwargs, **(asked["chat_template_kwargs"] or {})}
    if engine == "http":
        options["template_kwargs"] = kwargs
    else:
        template = asked["chat_template"]
        if template is None and own_tokenizer(adapter) is None:
            template = known.template  # an adapter that brings its tokenizer has it there
        date = asked["template_date"] or known.date
        options["template"] = TemplateSettings(template, kwargs, date)
    if engine in ("mlx", "torch") and options.get("quantize") is None:
        options["quantize"] = origin.quantize
    if engine == "llamacpp" and Path(model).is_file() and "tokenizer" not in options:
        brings = own_tokenizer(adapter)
        if not brings and origin.model:
            options["tokenizer"] = resolve_name(origin.model)
    return options


def choose_model(asked: str | None, origin: Origin) -> str:
    """The base to load: what was asked for, else the adapter's own, else the embedded one."""
    return resolve_name(asked or origin.model or EMBEDDED)


def _template(path: Path, settings: dict[str, Any]) -> TemplateSettings:
    """How a run's rows were rendered, and what its record adds for prompts."""
    record = read_json(path)
    kwargs = settings.get("chat_template_kwargs") or {}
    added = record.get("prompt_kwargs") if isinstance(record, dict) else None
    template, date = settings.get("chat_template"), settings.get("template_date")
    if not isinstance(kwargs, dict) or not isinstance(added or {}, dict):
        raise UserError(f"{path}: chat_template_kwargs is not a JSON object.")
    return TemplateSettings(
        template if isinstance(template, str) else None,
        {**(added or {}), **kwargs},
        date if isinstance(date, str) else "",
    )


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = read_json(path)
    settings = value.get("settings") if isinstance(value, dict) else None
    return settings if isinstance(settings, dict) else {}
