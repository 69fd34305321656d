"""`livery dpo`: training on pairs of a better and a worse answer to one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.train import carry_out, check_checkpoint, check_resume, run_options
from livery.config.flags import given_flags, preference_flags
from livery.config.layers import Config, Value, resolve
from livery.errors import UserError
from livery.paths import RUN_CONFIG


@click.command(short_help="Train an adapter on pairs of answers.")
@click.option("--pairs", metavar="FILE", help="Rows of prompt, chosen and rejected.")
@click.option("--adapter", metavar="DIR", help="Adapter that the run starts from: its reference.")
@run_options
@preference_flags
def dpo(
    pairs: str | None,
    adapter: str | None,
    config_file: str | None,
    **options: Any,
) -> int:
    """Train an adapter on pairs: a chosen and a rejected answer to each prompt.

    The run starts from --adapter, and stays near it: that adapter is the reference. Base, template
    and shape are the adapter's own unless flags say otherwise; without --adapter a new one is
    trained, against the bare base. The losses are sigmoid (DPO, the default), ipo and orpo, which
    needs no reference; --sft-weight adds the chosen answer's own loss.

    A configuration file is read where --config names one; of a pipeline's, its
    section alignment. --val-split or --valid-data hold pairs out: the best weights are those of the
    highest reward margin on them, and a run whose margin stops rising ends.

    \b
    Examples:
      livery dpo --pairs pairs.jsonl --adapter adapters/mine --output-dir adapters/mine-dpo
      livery dpo --pairs pairs.jsonl --adapter adapters/mine --output-dir OUT --val-split 0.1
      livery dpo --pairs pairs.jsonl --model ID_OR_PATH --output-dir OUT --loss-type orpo
      livery dpo --pairs pairs.jsonl --adapter adapters/mine --output-dir OUT --dry-run
      livery dpo --resume --output-dir adapters/mine-dpo
    """
    flags = given_flags(options)
    for flag, name, value in (("--pairs", "data", pairs), ("--adapter", "init_adapter", adapter)):
        if value is not None and flags.setdefault(name, value) != value:
            raise click.UsageError(f"{flag} {value} and another flag say {flags[name]}: keep one.")
    check_resume(options)
    config = _resolve(flags, config_file, options["resume"])
    check_checkpoint(options["resume_from_checkpoint"], config)
    return carry_out(config, options, "dpo")


def _resolve(flags: dict[str, Any], file: str | None, resume: bool) -> Config:
    config = resolve(flags, file=file, search=False, section="alignment")
    if config.values["output_dir"].source == "default":
        raise click.UsageError("Missing option '--output-dir': where the adapter goes.")
    record = Path(config.settings.output_dir) / RUN_CONFIG
    if resume and file is None and record.is_file():
        config = resolve(flags, recorded=record)
    else:
        if config.values["data"].source == "default":
            raise click.UsageError("Missing option '--pairs': rows of prompt, chosen, rejected.")
        if config.values["loss_type"].source == "default":
            config = config.with_values({"loss_type": Value("sigmoid", "livery dpo")})
        from commands.training.init_adapter import adopt

        config = adopt(config)
    if not config.settings.paired:
        raise UserError("loss_type is sft, which learns single answers: that is `livery train`.")
    return config
