"""The data of a run: encoded training and validation rows, and what the user is told of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livery.config.settings import TrainSettings
from livery.dataset import selection
from livery.dataset.cache import default_cache, load_cached
from livery.dataset.columns import read_columns
from livery.dataset.conversation import Conversation
from livery.dataset.encode import encode
from livery.dataset.load import Dataset
from livery.dataset.packed import Source
from livery.dataset.reader import Reader
from livery.dataset.sources import find
from livery.dataset.template import ChatTemplate, load_chat
from livery.errors import UserError, counted, sentence
from livery.training.preference import objective_of


@dataclass(frozen=True)
class Data:
    """Encoded training and validation rows, what encoded them, and what to say of them."""

    chat: ChatTemplate
    train: Dataset
    valid: Dataset
    notes: tuple[str, ...] = ()


def load_data(settings: TrainSettings) -> Data:
    """Encode train.jsonl and, if there is one, valid.jsonl; or what the settings select of them.

    Raises:
        UserError: the folder or file is missing or empty, or a row is malformed.
    """
    objective_of(settings)  # settings that contradict each other are told before rows are read
    splits = find(settings.data, settings.valid_data)
    if settings.target_margin and not (settings.val_split or splits.valid):
        raise UserError(
            f"target_margin is {settings.target_margin:g}, but no pairs are held out. Add "
            "--val-split 0.1, or --valid-data FILE."
        )
    if settings.val_split and splits.valid:
        raise UserError(
            f"val_split is {settings.val_split:g}, but {splits.valid[0]} is there to be evaluated. "
            "Remove one of them: --val-split 0, or the file."
        )
    chat = load_chat(settings.model, settings.template)
    reader = Reader(read_columns(settings.columns), settings.train_on, pairs=settings.paired)
    cache = default_cache()

    def load(sources: Sequence[Source], **more: Any) -> Dataset:
        return load_cached(
            cache,
            sources,
            chat,
            reader,
            max_length=settings.max_length,
            mask_prompt=settings.mask_prompt,
            **more,
        )

    notes: list[str] = []
    train = load(splits.train, first=settings.max_samples, with_questions=settings.val_split > 0)
    if train.more:
        notes.append(
            f"max_samples: the first {counted(settings.max_samples, 'row is', 'rows are')} read, "
            "no more."
        )
    valid = load(splits.valid) if splits.valid else Dataset(())
    _refuse_dropped(settings, train, valid)
    if settings.val_split:
        train, valid, note = selection.split(settings, str(splits.train[0]), train)
        notes.append(note)
    valid, note = selection.evenly(valid, settings.eval_max_samples)
    notes += [note, *reader.notes()]
    return Data(chat, train, valid, tuple(note for note in notes if note))


def _refuse_dropped(settings: TrainSettings, *parts: Dataset) -> None:
    dropped = [row for part in parts for row in part.dropped]
    if settings.strict and dropped:
        raise UserError(
            f"{dropped[0].where}: {sentence(dropped[0].reason)} With --strict no row may be left "
            f"out; {len(dropped)} would be (`livery data check` lists them)."
        )


def describe_dropped(data: Data, *, paired: bool = False) -> list[str]:
    """What was left out of the data, for people."""
    notes = list(data.notes)
    row = "pair" if paired else "row"
    for name, part in (("training", data.train), ("validation", data.valid)):
        if part.dropped:
            first = part.dropped[0]
            notes.append(
                f"{counted(len(part.dropped), f'{name} {row} is', f'{name} {row}s are')} left out; "
                f"the first, {first.where}: {sentence(first.reason)}"
            )
    if not data.valid.examples:
        notes.append(
            "There is no valid.jsonl: nothing is evaluated, and the last weights are kept."
            + (" --val-split 0.1 holds pairs out, and stops a run that learns the others by heart."
               if paired else "")
        )  # fmt: skip
    return notes


def choose_prompts(data: Data) -> tuple[dict[str, Any], str]:
    """(variables that Livery's own prompts of the adapter add, what to tell the user).

    A template that begins plain answers with an empty block of reasoning is learned so; prompts
    that hold the block already go on at the answer's first word, where a grammar begins.
    """
    if data.train.reasons or data.valid.reasons or not data.chat.plain_kwargs:
        return {}, ""
    if not _goes_on_behind(data.chat, data.chat.plain_kwargs):
        return {}, (
            "The chat template puts an empty block of reasoning before an answer that has none, as "
            "all of these have, and another one into a prompt with enable_thinking off: the block "
            "is learned with the answer. To have it in the prompts instead, add "
            "--chat-template-kwargs enable_thinking=false."
        )
    return data.chat.plain_kwargs, (
        "The chat template puts an empty block of reasoning before an answer without reasoning, "
        "as all of these are: the block is learned with the answer, and Livery's own prompts for "
        "the adapter hold it (enable_thinking is false)."
    )


def _goes_on_behind(chat: ChatTemplate, kwargs: dict[str, Any]) -> bool:
    """Whether a prompt with these variables is what is before a plain answer's words."""
    turns = ({"role": "user", "content": "ask"}, {"role": "assistant", "content": "tell"})
    found = encode(Conversation("a plain answer", turns, (False, True)), chat).examples
    settings = dataclasses.replace(chat.settings, kwargs={**chat.settings.kwargs, **kwargs})
    prompt = ChatTemplate(chat.tokenizer, settings).prompt(turns[:1])
    return bool(found) and found[0].tokens[: len(prompt)].tolist() == prompt
