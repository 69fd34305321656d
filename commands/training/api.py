"""Training from a program: what `livery.train` is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from commands.training import session
from livery.config.layers import Config, Value
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.models import resolve_name
from livery.training.events import Callback
from livery.training.job import RunResult


def train(
    settings: TrainSettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Train an adapter and write its folder: `livery train` as a function.

    Only `settings` decide: no configuration file and no environment variable is read. (A file's
    are `livery.config.layers.resolve(file="mlx_config.yaml", environment={}).settings`.) Nothing
    is printed: notes are events, like steps, evaluations and samples.

    Args:
        settings: of the run; what is left out has the default of docs/configuration.md.
        resume: continue the run in the output folder.
        overwrite: start over in a folder that holds a run.
        callbacks: called with every event of `livery.training.events`, in this order.

    Returns:
        Steps taken, the step whose weights were kept, and the facts of training_metadata.json.

    Raises:
        UserError: data, model, folder or settings are wrong.
        Interrupted: SIGINT or SIGTERM came; everything is saved, and `resume=True` continues.
    """
    if resume and overwrite:
        raise UserError("overwrite starts over and resume continues: choose one.")
    settings = dataclasses.replace(settings, model=resolve_name(settings.model))
    plain = dataclasses.asdict(settings)
    lora = plain.pop("lora")
    named = {**plain, **{f"lora.{name}": value for name, value in lora.items()}}
    values = {name: Value(value, "program") for name, value in named.items()}
    request = session.Request(
        resume=resume,
        overwrite=overwrite,
        resume_command="the same call with resume=True",
        callbacks=callbacks,
    )
    return session.train(Config(settings, values, (), None), request)
