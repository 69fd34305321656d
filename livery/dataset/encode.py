"""Rows -> token ids and supervised spans, by the model's own template and tokenizer.

    for encoded in encode_batches(batches, chat, max_length=2048):
        for row in encoded:
            row.examples, row.dropped, row.notes

What a row becomes depends on the row and the template alone, so rows may be encoded in any batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from livery.dataset.answers import Rendering, find_answers
from livery.dataset.bounds import Refused
from livery.dataset.conversation import (
    Conversation,
    Dropped,
    Message,
    Pair,
    Row,
    Text,
    as_conversation,
)
from livery.dataset.noticed import ControlTokens, left_out, says_nothing
from livery.dataset.reasoning import contradicted, left_open, split_reasoning
from livery.dataset.rows import nothing_to_learn
from livery.dataset.template import ChatTemplate
from livery.dataset.tokens import Marks
from livery.errors import UserError, counted
from livery.training.plan import Example

BATCH = 512  # rows tokenized at once
SYSTEM_MERGED = (
    "the chat template knows no system role, so the system text opens the first user turn, here "
    "and in every engine"
)
_AS_IT_IS = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}


@dataclass(frozen=True)
class Encoded:
    """What became of one row.

    Attributes:
        row: as it was read.
        examples: what is trained on; a row may give several (see `livery.dataset.answers`).
        dropped: why the row, or some of its answers, are left out.
        notes: what the template left out or put elsewhere, in words that are counted over all rows.
        reasons: a learned answer comes with its reasoning.
    """

    row: Row
    examples: tuple[Example, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: bool = False


def encode_batches(
    batches: Iterable[Sequence[Row]],
    chat: ChatTemplate,
    *,
    mask_prompt: bool = True,
    max_length: int | None = None,
) -> Iterator[list[Encoded]]:
    """What the rows of each batch become, in order.

    While one batch is tokenized, which is half of the work and leaves Python free, the next one is
    read and rendered.

    Args:
        mask_prompt: learn the answers alone, else every token.
        max_length: longer examples, in tokens, are dropped; None keeps all.

    Raises:
        UserError: the tokenizer has no template and a row needs one, or its template ends turns
            with no token; or what reading the batches raises, once those before are through.
    """
    encoder = _Encoder(chat, mask_prompt, max_length)
    reading = iter(batches)
    waiting: tuple[Sequence[Row], list[_Draft], Future[list[_Tokens]]] | None = None
    failure: UserError | None = None
    with ThreadPoolExecutor(1) as tokenizing:
        while True:
            try:
                rows = next(reading, None)
                drafts = encoder.draft(rows or ())
            except UserError as error:
                rows, drafts, failure = None, [], error
            tokens = tokenizing.submit(encoder.tokenize, drafts)
            if waiting is not None:
                yield encoder.examples(waiting[0], waiting[1], waiting[2].result())
            if failure is not None:
                raise failure
            if rows is None:
                return
            waiting = rows, drafts, tokens


def encode(row: Row, chat: ChatTemplate, *, mask_prompt: bool = True) -> Encoded:
    """What one row becomes; see `encode_batches`."""
    return next(encode_batches([[row]], chat, mask_prompt=mask_prompt))[0]


class _Encoder:
    def __init__(self, chat: ChatTemplate, mask_prompt: bool, max_length: int | None) -> None:
        self.chat = chat
        self.tokenizer = chat.tokenizer
        self.mask_prompt = mask_prompt
        self.max_length = max_length
        self.control = ControlTokens(chat)
        self.added = frozenset(int(token) for token in self.tokenizer.added_tokens_decoder)
        self.leads: dict[str, list[int]] = {}

    @cached_property
    def marks(self) -> Marks | None:
        """How tokens are found by counting; None where the tokenizer must account for each."""
        marks = Marks(self.chat)
        return marks if marks.usable else None

    def draft(self, rows: Sequence[Row]) -> list[_Draft]:
        """Each row's texts, or why there are none."""
        return [self._draft(row) for row in rows]

    def tokenize(self, drafts: Sequence[_Draft]) -> list[_Tokens]:
        """The tokens of all texts, in order."""
        texts = [rendering.text for draft in drafts for rendering in draft.renderings]
        if not texts:  # which tokenizers refuse
            return []
        if self.marks is not None:
            tokens = self.marks.tokens(texts)
            return [_Tokens(ids) for ids in tokens]
        batch = self._accounted(texts)
        return [_Tokens(ids, batch, at) for at, ids in enumerate(batch["input_ids"])]

    def _accounted(self, texts: list[str]) -> Any:
        return self.tokenizer(
            texts, add_special_tokens=False, verbose=False, return_attention_mask=False,
            return_token_type_ids=False,
        )  # fmt: skip

    def examples(
        self, rows: Sequence[Row], drafts: Sequence[_Draft], tokens: Sequence[_Tokens]
    ) -> list[Encoded]:
        """What is trained on, of rows whose texts were tokenized."""
        made: list[Encoded] = []
        each = iter(tokens)
        for row, draft in zip(rows, drafts, strict=True):
            examples = list(draft.examples)
            dropped = list(draft.dropped)
            for rendering in draft.renderings:
                try:
                    examples += self._examples(rendering, next(each), draft.where)
                except Refused as error:
                    dropped.append(Dropped(draft.where, f"{error}"))
            fitting: list[Example] = []
            for example in examples:
                self.chat.check_vocabulary(int(example.tokens.max()), draft.where)
                if self.max_length is not None and len(example.tokens) > self.max_length:
                    size = counted(len(example.tokens), "token")
                    reason = f"{size}, over the limit of {self.max_length}"
                    dropped.append(Dropped(draft.where, reason))
                else:
                    fitting.append(example)
            made.append(Encoded(row, tuple(fitting), tuple(dropped), draft.notes, draft.reasons))
        return made

    # -- rows to texts -----------------------------------------------------------------------

    def _draft(self, row: Row) -> _Draft:
        if reason := nothing_to_learn(row):
            return _Draft(row.where, dropped=(Dropped(row.where, reason),))
        if isinstance(row, Text):
            return self._whole_text(row)
        if isinstance(row, Pair):
            if not self.chat:
                return self._plain_pair(row)
            row = as_conversation(row)
        self.chat.require(row.where)
        self.chat.end_text  # noqa: B018 - a template without an end of turn fits no row
        self.marks  # noqa: B018 - made here, since it renders, and the other thread may not
        try:
            found = find_answers(row, self.chat)
        except Refused as error:
            reason = f"the chat template refuses the row: {error}"
            return _Draft(row.where, dropped=(Dropped(row.where, reason),))
        kept = [one for one in found if not says_nothing(one, self.chat)]
        if len(kept) < len(found):
            reason = "an answer of which the chat template writes nothing"
            return _Draft(row.where, dropped=(Dropped(row.where, reason),))
        notes = [f"the chat template leaves out {what}" for what in left_out(row, found, self.chat)]
        notes += [
            f"chat_template_kwargs holds {name}, which the chat template does not read"
            for name in self.chat.unread(row.template_kwargs)
        ]
        if row.messages[0]["role"] == "system" and self.chat.merges_system:
            notes.append(SYSTEM_MERGED)
        if token := self._control_token(row.messages):
            notes.append(
                f"text that holds a control token of the chat template ({token}), which the "
                "model reads as the token itself"
            )
        notes += self._reasoning_notes(row, found)
        learned = [row.messages[turn] for one in found for turn in one.turns]
        reasons = any(split_reasoning(message)[0].strip() for message in learned)
        return _Draft(row.where, tuple(found), notes=tuple(notes), reasons=reasons)

    def _reasoning_notes(self, row: Conversation, found: Sequence[Rendering]) -> list[str]:
        """Notes on learned answers whose reasoning is not what it seems."""
        notes: list[str] = []
        for at in (turn for one in found for turn in one.turns):
            if tag := left_open(row.messages[at]["content"]):
                notes.append(f"answers that open a block of reasoning ({tag}) and never close it")
            if self.chat.reasons:
                notes.append(contradicted(row.messages, at))
        return list(dict.fromkeys(filter(None, notes)))

    def _control_token(self, messages: Sequence[Message]) -> str:
        return next((t for m in messages if (t := self.control.find(m["content"]))), "")

    def _whole_text(self, row: Text) -> _Draft:
        tokens = self._opened(row.text)
        ends = {self.tokenizer.eos_token_id, self._turn_end()}
        # A text that some template laid out ends with its end token and a line break.
        last = (self._opened(row.text.rstrip()) or tokens)[-1]
        if self.tokenizer.eos_token_id is not None and last not in ends:
            tokens.append(int(self.tokenizer.eos_token_id))
        # Nothing predicts the first token.
        return _Draft(row.where, (), (_example(tokens, [(1, len(tokens))], row.where),))

    def _plain_pair(self, row: Pair) -> _Draft:
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{row.where}: the tokenizer has no end token; give a --chat-template.")
        prompt = "\n".join(filter(None, (row.system, row.prompt)))
        head = self._opened(prompt) if prompt else []
        if head and head[-1] == self.tokenizer.eos_token_id:
            head.pop()  # some tokenizers end whatever they are given
        tokens = [*head, *self.chat.ids(row.completion)]
        if tokens[-1] != self.tokenizer.eos_token_id:
            tokens.append(int(self.tokenizer.eos_token_id))
        start = max(1, len(head)) if self.mask_prompt else 1
        return _Draft(row.where, (), (_example(tokens, [(start, len(tokens))], row.where),))

    def _opened(self, text: str) -> list[int]:
        """Token ids of a text that begins a sequence, with one BOS where the tokenizer adds it."""
        tokens = list(self.tokenizer(text, verbose=False)["input_ids"])
        bos = self.tokenizer.bos_token_id
        if bos is not None and tokens[:2] == [bos, bos]:
            del tokens[0]  # the text brings its own
        return tokens

    def _turn_end(self) -> int | None:
        try:
            return self.chat.end
        except (UserError, TypeError):
            return None

    # -- texts to tokens ---------------------------------------------------------------------

    def _examples(self, rendering: Rendering, tokens: _Tokens, where: str) -> list[Example]:
        """The rendering as one example; as one each where a token spans the seam between a prompt
        and its answer, since a model that answers meets the two tokenized apart."""
        text, ids = rendering.text, tokens.ids
        spans = self._counted(rendering, ids) if tokens.batch is None else None
        if spans is None:
            if tokens.batch is None:
                tokens = _Tokens(ids, self._accounted([text]))
            spans = self._spans(rendering, tokens)
        if spans is None:
            return [self._apart(text, start, stop, where) for start, stop in rendering.spans]
        ids = ids[: spans[-1][1]]
        return [_example(ids, spans if self.mask_prompt else [(1, len(ids))], where)]

    def _counted(self, rendering: Rendering, ids: list[int]) -> list[tuple[int, int]] | None:
        """The spans' tokens found by counting; None where it does not tell, whatever the cause."""
        places = self.marks.places(rendering.text, ids) if self.marks is not None else None
        if places is None:
            return None
        end = len(self.chat.end_text)
        spans: list[tuple[int, int]] = []
        for start, stop in rendering.spans:
            last = places.get(stop - end)
            if last is None or not rendering.text.endswith(self.chat.end_text, 0, stop):
                return None
            span = self._token_span(rendering.text, start, ids, last, places.get)
            if span is None:
                return None
            spans.append(span)
        return spans

    def _spans(self, rendering: Rendering, tokens: _Tokens) -> list[tuple[int, int]] | None:
        """(first token of the answer, one past its last) of each; None where the tokens before one
        are not those of its prompt alone."""
        text, ids = rendering.text, tokens.ids
        spans: list[tuple[int, int]] = []
        for start, stop in rendering.spans:
            if not self.tokenizer.is_fast:
                prompt, whole = self.chat.ids(text[:start]), self.chat.ids(text[:stop])
                same = ids[: len(prompt)] == prompt and ids[: len(whole)] == whole
                span = (len(prompt), len(whole)) if same else None
            else:
                last = tokens.at_character(stop - 1)
                span = last is not None and self._token_span(
                    text, start, ids, last, tokens.at_character
                )
            if not span:
                return None
            spans.append(span)
        return spans

    def _token_span(
        self,
        text: str,
        start: int,
        ids: list[int],
        last: int,
        at_character: Callable[[int], int | None],
    ) -> tuple[int, int] | None:
        """(first token of the answer, one past its last); None where the tokens before it are not
        those of its prompt alone.

        An added token splits the text before anything else is done to it, so what is before
        the last one of a prompt is tokenized alike whatever follows, and only the rest is compared.

        Args:
            start: the answer's first character.
            last: its last token.
            at_character: the token of a character; of one that begins an added token at least.
        """
        anchor = max((text.rfind(token, 0, start) for token in self.chat.anchors), default=-1)
        lead = text[max(0, anchor) : start]
        if lead not in self.leads:
            if len(self.leads) > 1000:
                self.leads.clear()
            self.leads[lead] = self.chat.ids(lead)
        before = self.leads[lead]
        place: int | None = 0
        if anchor > 0:
            place = at_character(anchor)
            if place is None or not before or before[0] not in self.added:
                return None
        first = place + len(before)
        return (first, last + 1) if ids[place:first] == before and first <= last else None

    def _apart(self, text: str, start: int, stop: int, where: str) -> Example:
        """The answer's tokens after the prompt's own, as it is generated."""
        prompt = self.chat.ids(text[:start])
        whole = self.tokenizer.decode(self.chat.ids(text[:stop]), **_AS_IT_IS)
        newline = self.chat.ids("\n")
        for answer in (
            self.chat.ids(text[start:stop]),
            # Behind a line break, for tokenizers that put a space before any text.
            self.chat.ids("\n" + text[start:stop])[len(newline) :],
        ):
            tokens = [*prompt, *answer]
            if self.tokenizer.decode(tokens, **_AS_IT_IS) == whole:
                begin = len(prompt) if self.mask_prompt else 1
                return _example(tokens, [(begin, len(tokens))], where)
        raise Refused("the prompt and the answer cannot be tokenized apart")


@dataclass(frozen=True)
class _Draft:
    """A row on its way: texts that wait for their tokens, or examples already."""

    where: str
    renderings: tuple[Rendering, ...] = ()
    examples: tuple[Example, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: bool = False


@dataclass(frozen=True)
class _Tokens:
    """A text's token ids, and the batch in which the tokenizer accounts for its characters."""

    ids: list[int]
    batch: Any = None
    at: int = 0

    def at_character(self, place: int) -> int | None:
        """The token that a character went into."""
        return self.batch.char_to_token(self.at, place)


def _example(tokens: Sequence[int], spans: Iterable[tuple[int, int]], where: str) -> Example:
    mask = np.zeros(len(tokens), dtype=bool)
    for start, stop in spans:
        mask[start:stop] = True
    mask[0] = False
    return Example(np.asarray(tokens, np.int32), mask, where)
