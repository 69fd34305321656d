"""The two interfaces: what a question looks like in each, and how its answer is read.

OpenAI-compatible endpoints and Ollama's native interface. Structured output is asked for in the
strictest form that the endpoint takes: the JSON Schema, else that schema rewritten without the
keywords that few servers compile (if/then, oneOf, not), else any JSON object, else plain text. What
comes back is validated under the schema itself in any case: several servers take one and do not
hold to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livery.errors import shown
from livery.teacher.question import Messages, Question, characters
from livery.teacher.settings import Teacher
from livery.teacher.wire import TroubleError

FORMS = ("json_schema", "rewritten_schema", "json_object", "text")  # the strictest first

# Words by which endpoints name what they do not take of a request.
_ABOUT_FORM = ("response_format", "json_schema", "json schema", "json_object", "grammar",
               "structured", "guided", "invalid format", "schema")  # fmt: skip
_LIMITS = ("max_tokens", "max_completion_tokens")

# No text of prompts like ours has more characters in a token, white space not counted:
# compact JSON has 2.5 to 4, English prose 4 to 5.
_MOST_CHARACTERS = 8.0
_USUAL_CHARACTERS = 4.0


@dataclass
class Habits:
    """What was learned of an endpoint during a run.

    Attributes:
        forms: by the schema, as JSON, the place in FORMS that the endpoint takes.
        limit: the name it takes for the token limit.
    """

    forms: dict[str, int]
    limit: str = _LIMITS[0]

    def form(self, schema: str) -> int:
        return self.forms.get(schema, 0)

    def learn(self, trouble: TroubleError, form: int, question: Question, limit: str) -> bool:
        """Whether a refused request may be put in another way, which is then the one to take."""
        text = trouble.text.lower()
        if trouble.status in (400, 422) and _LIMITS[1] in text and limit == _LIMITS[0]:
            self.limit = _LIMITS[1]
            return True
        about_form = trouble.status in (400, 422, 500, 501) and any(w in text for w in _ABOUT_FORM)
        if about_form and form + 1 < len(FORMS):
            rewrites = form == 0 and question.rewritten is not None
            self._take(question, 1 if rewrites else max(form + 1, 2))
            return True
        return False

    def learn_of_answer(self, form: str, question: Question) -> None:
        """After an answer that the schema does not allow: an endpoint that took the schema leaves
        out what it does not know of it (llama.cpp does), and is asked for its equivalent."""
        if form == FORMS[0] and question.rewritten is not None:
            self._take(question, 1)

    def _take(self, question: Question, form: int) -> None:
        self.forms[question.schema_text] = max(self.form(question.schema_text), form)


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered.

    Attributes:
        text: without a reasoning model's thoughts.
        cut: it reached the token limit.
        prompt_tokens, completion_tokens: None where the endpoint does not count.
        served: the model as the endpoint names it.
    """

    text: str
    cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    served: str


def request_body(
    teacher: Teacher, question: Question, messages: Messages, *, limit: int, form: int,
    limit_name: str, context: int,
) -> dict[str, Any]:  # fmt: skip
    """The body of a request.

    Args:
        limit: longest answer, tokens.
        form: place in FORMS.
        limit_name: for openai, the name of the limit.
        context: for ollama, tokens of prompt and answer together.
    """
    wanted, schema = question.parameters, None
    if FORMS[form] == "json_schema":
        schema = question.schema
    elif FORMS[form] == "rewritten_schema":
        schema = question.rewritten
    body: dict[str, Any] = {"model": teacher.model, "messages": [dict(m) for m in messages]}
    sampling: dict[str, Any] = {"temperature": wanted.temperature}
    if wanted.top_p is not None:
        sampling["top_p"] = wanted.top_p
    if wanted.seed is not None and wanted.temperature > 0:
        sampling["seed"] = wanted.seed
    if teacher.api == "ollama":
        if FORMS[form] != "text":
            body["format"] = "json" if schema is None else schema
        if wanted.effort is not None:
            body["think"] = wanted.effort
        # Newer versions then refuse what does not fit; older ones cut it, which `cut_of` finds.
        body |= {"stream": False, "truncate": False, "shift": False}
        body["options"] = {**sampling, "num_ctx": context, "num_predict": limit}
        return body
    if schema is not None:
        named = {"name": "answer", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif FORMS[form] == "json_object":
        body["response_format"] = {"type": "json_object"}
    if wanted.effort is not None:
        body["reasoning_effort"] = wanted.effort
    return {**body, **sampling, limit_name: limit, "stream": False}


def read_reply(api: str, found: Mapping[str, Any]) -> Reply:
    """What a response says.

    Raises:
        TroubleError: it is no chat completion, or the answer was declined.
    """
    try:
        return _ollama(found) if api == "ollama" else _openai(found)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise TroubleError(
            "not_an_answer", f"no chat completion: {shown(json.dumps(found))}", status=200
        ) from None


def _openai(found: Mapping[str, Any]) -> Reply:
    choice = found["choices"][0]
    message, reason = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or reason == "content_filter":
        raise TroubleError(
            "declined", shown(message.get("refusal") or "content filter"), status=200
        )
    usage = found.get("usage") or {}
    text = message.get("content")
    if text is None and reason == "length":  # everything went into its thoughts
        text = ""
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    served = str(found.get("model") or "")
    return Reply(_spoken(text), reason == "length", read, written, served)


def _ollama(found: Mapping[str, Any]) -> Reply:
    text, reason = found["message"]["content"], found.get("done_reason")
    if found.get("done") is False:  # one piece of a stream that nobody asked for
        raise TypeError
    read, written = _count(found.get("prompt_eval_count")), _count(found.get("eval_count"))
    served = str(found.get("model") or "")
    return Reply(_spoken(text), reason == "length", read, written, served)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def _spoken(text: Any) -> str:
    """An answer without the thoughts before it and without a code fence around it."""
    if not isinstance(text, str):
        raise TypeError
    text = text.strip()
    if text.startswith("<think>"):
        text = text.partition("</think>")[2].strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text.partition("\n")[2].removesuffix("```").strip()
    return text


def cut_of(messages: Messages, counted: int | None, window: int | None) -> str:
    """How one sees that an endpoint read only a part of the prompt; "" where it read all.

    Args:
        counted: tokens of the prompt as the endpoint counted them; None where it did not.
        window: tokens of the context that it was asked for; None where it was not.
    """
    if counted is None:
        return ""
    letters = characters(messages)
    words = [word for message in messages for word in message["content"].split()]
    solid = sum(map(len, words)) + len(words)
    if window is not None and counted >= window:
        return f"it read {counted:,} tokens, all that its context of {window:,} holds"
    if counted * _MOST_CHARACTERS < solid:
        return f"it read {counted:,} tokens of a prompt of {letters:,} characters"
    # A context's usual sizes: a prompt that ends exactly at one was longer.
    usual = counted >= 512 and counted & (counted - 1) == 0
    if usual and counted * _USUAL_CHARACTERS < solid:
        return f"it read exactly {counted:,} tokens of a prompt of {letters:,} characters"
    return ""
