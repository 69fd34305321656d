"""Where the answers are in a rendered conversation: texts, and the spans that are learned.

What is learned is read off the template's rendering: what is between the rendering of the turns
before an answer (with what opens an answer) and the end of the answer's turn. So a model is trained
on the very prompts that it is given later. Where the two renderings do not agree, three causes are
known and mended, and each keeps the prompt as it will be; anything else is refused:

- the prompt opens a block of reasoning that the template leaves out of a written turn (R1-Distill);
- the prompt holds an empty such block that a written turn lacks;
- the template writes the system message into the last user turn (Mistral), which is another turn
  once an answer follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from livery.dataset.bounds import Refused
from livery.dataset.conversation import Conversation
from livery.dataset.reasoning import EMPTY_BLOCK, OPEN_BLOCK, closing, split_reasoning
from livery.dataset.template import ChatTemplate

# Answers of one conversation up to which the prompt of each is rendered and compared.
EACH = 24


@dataclass(frozen=True)
class Rendering:
    """A text to train on.

    Attributes:
        text: the conversation up to the end of its last learned answer.
        spans: (start, stop) of what is learned, in characters, in order; each ends with the token
            that ends a turn, and text[:start] is the prompt of its answer.
        turns: the message of each span.
        whole: the last rendering of a row has what the template writes of the conversation up to
            its last learned answer, all that stands behind that answer with it.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    turns: tuple[int, ...]
    whole: str = ""


def find_answers(row: Conversation, chat: ChatTemplate) -> list[Rendering]:
    """The renderings of a conversation: one where all its answers are in one, else one each.

    Some templates render an earlier turn differently once another follows (they drop its reasoning,
    say). Then each answer becomes an example of its own, which is exact, and cheap since the
    examples share their prompt.

    Raises:
        Refused: the template does not take the row, or prompt and conversation do not agree.
    """
    return _Finder(row, chat).find()


class _Finder:
    def __init__(self, row: Conversation, chat: ChatTemplate) -> None:
        self.chat = chat
        self.row = row
        self.messages = row.messages
        self.learned = [
            at
            for at, (message, learn) in enumerate(zip(row.messages, row.learn, strict=True))
            if learn and message["role"] == "assistant"
        ]

    def find(self) -> list[Rendering]:
        if not self.learned:
            raise Refused("no assistant turn to learn from")
        if self.learned[0] == 0:
            raise Refused("the conversation opens with the answer: there is nothing to answer")
        last = self.learned[-1]
        whole = self._render(last + 1, False)
        if len(self.learned) > EACH:
            spans = self._in_one(whole)
            if spans is not None:
                text = whole[: spans[-1][1]]
                return [Rendering(text, tuple(spans), tuple(self.learned), whole)]
        found = [self._answer(at, whole if at == last else None) for at in self.learned]
        final, _, _ = found[-1]
        if all(final.startswith(text) for text, _, _ in found):
            spans = [(start, stop) for _, start, stop in found]
            return [Rendering(final, tuple(spans), tuple(self.learned), whole)]
        return [
            Rendering(text, ((start, stop),), (at,), whole if at == last else "")
            for at, (text, start, stop) in zip(self.learned, found, strict=True)
        ]

    def _render(self, count: int, generate: bool, *, first: int = 0) -> str:
        return self.chat.render(
            self.messages[first:count], generate=generate, tools=self.row.tools,
            kwargs=self.row.template_kwargs,
        )  # fmt: skip

    def _answer(self, at: int, turn: str | None = None) -> tuple[str, int, int]:
        """(text up to the end of the answer's turn, where the answer starts, where it ends)."""
        prompt = self._render(at, True)
        turn = self._render(at + 1, False) if turn is None else turn
        text = self._joined(prompt, turn, at)
        stop = self._end(text, len(prompt))
        return text[:stop], len(prompt), stop

    def _joined(self, prompt: str, turn: str, at: int) -> str:
        """The conversation with the answer, beginning with the prompt."""
        if turn.startswith(prompt):
            return turn
        if found := EMPTY_BLOCK.search(prompt):
            if turn.startswith(prompt[: found.start()]):
                return prompt + turn[found.start() :].lstrip("\n")
        elif found := OPEN_BLOCK.search(prompt):
            if turn.startswith(prompt[: found.start()]):
                return self._with_reasoning(prompt, turn[found.start() :], found[1], at)
        elif self.messages[0]["role"] == "system" and at > 1:
            plain = self._render(at, True, first=1)
            answered = self._render(at + 1, False, first=1)
            answer = answered[len(plain) :]
            if answered.startswith(plain) and answer and turn.endswith(answer):
                return prompt + answer
        raise Refused(
            "under this model's chat template the prompt is not the beginning of the conversation, "
            "so what the model would see when it answers is not what it would be trained on; give "
            "another template with --chat-template"
        )

    def _with_reasoning(self, prompt: str, answer: str, tag: str, at: int) -> str:
        """The answer put behind the block of reasoning that its prompt opened."""
        reasoning, _ = split_reasoning(self.messages[at], tag)
        end = f"</{tag}>"
        if own := re.match(rf"\s*<{tag}>\s*(.*?){end}", answer, re.DOTALL):
            # Written with its own block, spaced differently from a prompt's (Nemotron).
            return prompt + own[1] + end + answer[own.end() :]
        if reasoning and reasoning.strip() in answer:
            raise Refused(f"the chat template writes <{tag}> in a prompt, not in a written turn")
        if answer.startswith(end):
            return prompt + reasoning + answer
        reasoning = reasoning.strip("\n")
        return prompt + reasoning + closing(prompt, tag) + answer.lstrip("\n")

    def _end(self, text: str, start: int) -> int:
        """One past the token that ends the turn which starts at `start`."""
        end = self.chat.end_text
        at = text.rfind(end, start)
        if at >= 0:
            # Once, where the end of the text is the same token again (Phi-3).
            while text[start:at].rstrip().endswith(end):
                at = text.rfind(end, start, at)
            return at + len(end)
        # Some formats end a tool call differently from an answer.
        rest = text[start:].rstrip()
        for token in self.chat.tokenizer.all_special_tokens:
            if rest.endswith(token) and rest != token:
                return start + len(rest)
        raise Refused(f"the answer's turn does not end with {end!r}")

    # -- many answers in one rendering -------------------------------------------------------

    def _in_one(self, whole: str) -> list[tuple[int, int]] | None:
        """The spans of many answers found in one rendering, in time linear in its length.

        The prompts of the first and last few answers, and of some between, are rendered and must
        be beginnings of `whole`; between them each answer must follow its question by the same text
        as those do. None where that does not hold: then every prompt is rendered.
        """
        count = len(self.learned)
        known = {*range(8), *range(count - 8, count), *range(0, count, max(1, count // 8))}
        exact: dict[int, tuple[int, int]] = {}
        leads: dict[str, str] = {}
        for place in sorted(known):
            at = self.learned[place]
            text, start, stop = self._answer(at)
            if not whole.startswith(text):
                return None
            exact[place] = (start, stop)
            asked = self.messages[at - 1]
            words = asked["content"].strip()
            begins = whole.rfind(words, 0, start)
            if not words or begins < 0:
                return None
            lead = whole[begins + len(words) : start]
            if leads.setdefault(asked["role"], lead) != lead:
                return None
        return self._walk(whole, exact, leads)

    def _walk(
        self, whole: str, exact: dict[int, tuple[int, int]], leads: dict[str, str]
    ) -> list[tuple[int, int]] | None:
        end = self.chat.end_text
        spans: list[tuple[int, int]] = []
        cursor = 0
        for place, at in enumerate(self.learned):
            asked = self.messages[at - 1]
            words = asked["content"].strip()
            lead = leads.get(asked["role"])
            found = whole.find(lead, cursor) if lead and words else -1
            if found < 0 or not whole.endswith(words, cursor, found):
                return None
            start = found + len(lead or "")
            ends = whole.find(end, start)
            span = (start, ends + len(end))
            if ends < 0 or exact.get(place, span) != span:
                return None
            spans.append(span)
            cursor = span[1]
        said = (f"{m['content']}{m.get('tool_calls', '')}" for m in self.messages)
        return None if any(end in text for text in said) else spans
