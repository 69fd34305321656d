"""A chat template of Jinja as what stands between messages, and that as a Go template for Ollama.

Most chat templates join turns: a fixed text before the first message, fixed texts between user and
assistant, one before the answer, and a place for the system message. Those texts are found by
rendering marked messages, and are held against the template on whole conversations: a template that
does more is an error, not an approximation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from livery.errors import UserError
from livery.files import read_json

Message = Mapping[str, str]
Render = Callable[[Sequence[Message]], str]

_SYSTEM, _USERS, _ANSWERS = "LIVERYSYSTEM", ("LIVERYUSERA", "LIVERYUSERB"), ("LIVERYANSWERA",)
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Turns:
    """A chat format that joins turns.

    Attributes:
        start: before the first user message where there is no system message.
        before_system, after_system: around the system message; what follows is a user message.
        answer: between a user message and the assistant's.
        again: between an assistant's message and the next user message.
        prompt: after the last user message, where the answer begins.
        system_at: the user message that the system message stands before.
        system_refused: the template itself takes none; it is put before the first user message.
    """

    start: str
    before_system: str
    after_system: str
    answer: str
    again: str
    prompt: str
    system_at: Literal["first", "last"] = "first"
    system_refused: bool = False

    def render(self, messages: Sequence[Message]) -> str:
        """What the Go template makes of a conversation that ends with the user."""
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        turns = [m for m in messages if m["role"] != "system"]
        users = [at for at, m in enumerate(turns) if m["role"] == "user"]
        place = users[0 if self.system_at == "first" else -1]
        text = ""
        for at, message in enumerate(turns):
            if message["role"] == "assistant":
                text += self.answer + message["content"]
                continue
            here = bool(system) and at == place
            if self.system_at == "first" and here:
                text += self.before_system
            else:
                text += self.again if at else self.start
            text += (system + self.after_system if here else "") + message["content"]
        return text + self.prompt

    def without_bos(self, bos: str) -> Turns:
        """For a runtime that puts the BOS token first itself."""
        if not bos:
            return self
        return replace(
            self,
            start=self.start.removeprefix(bos),
            before_system=self.before_system.removeprefix(bos),
        )

    def go_template(self) -> str:
        """As Ollama's TEMPLATE: Go's text/template over .System and .Messages.

        Ollama joins all system messages in .System and consecutive messages of one role.
        """
        start, again = _literal(self.start), _literal(self.again)
        system = "{{ $.System }}" + _literal(self.after_system)
        if self.system_at == "first":
            lead, here = "{{ $n := 0 }}", ""
            opening = "{{ if $.System }}" + _literal(self.before_system) + system
            opening += "{{ else }}" + start + "{{ end }}"
        else:
            lead = (
                "{{ $n := 0 }}{{ $at := 0 }}{{ range $i, $m := .Messages }}"
                '{{ if eq $m.Role "user" }}{{ $at = $i }}{{ end }}{{ end }}'
            )
            opening = start
            here = "{{ if and $.System (eq $i $at) }}" + system + "{{ end }}"
        return (
            lead
            + '{{ $last := "" }}{{ range $i, $m := .Messages }}{{ if eq $m.Role "user" }}'
            + "{{ if $n }}" + again + "{{ else }}" + opening + "{{ end }}" + here
            + "{{ $m.Content }}{{ $n = 1 }}"
            + '{{ else if eq $m.Role "assistant" }}' + _literal(self.answer) + "{{ $m.Content }}"
            + "{{ end }}{{ $last = $m.Role }}{{ end }}"
            + '{{ if eq $last "user" }}' + _literal(self.prompt) + "{{ end }}"
        )  # fmt: skip


def _literal(text: str) -> str:
    """Text that Go's template copies as it is."""
    return text.replace("{{", '{{ "{{" }}')


@dataclass(frozen=True)
class Tokenizer:
    """What of a folder's tokenizer a chat format needs.

    Attributes:
        template: the chat template, Jinja; "" if there is none.
        tokens: "bos_token", "eos_token" … -> its text, where it has one.
        specials: texts of all special tokens.
        adds_bos: it puts BOS before any text, and so does llama.cpp.
    """

    folder: Path
    template: str
    tokens: Mapping[str, str]
    specials: tuple[str, ...]
    adds_bos: bool


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """Read a folder's tokenizer files; None if it has none.

    Raises:
        UserError: one of them is not JSON.
    """
    settings = _object(folder / "tokenizer_config.json")
    fast = _object(folder / "tokenizer.json")
    if not settings and not fast:
        return None
    named = {**_object(folder / "special_tokens_map.json"), **settings}
    tokens = {name: _text(named.get(name)) for name in _TOKENS}
    added = list(fast.get("added_tokens") or ())
    added += list((settings.get("added_tokens_decoder") or {}).values())
    specials = {_text(token) for token in added if token.get("special")}
    specials |= {token for token in tokens.values() if token}
    return Tokenizer(
        folder,
        _template(folder, settings),
        {name: token for name, token in tokens.items() if token},
        tuple(sorted(specials - {""})),
        _adds_bos(fast, settings),
    )


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _text(token: Any) -> str:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _adds_bos(fast: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    steps = fast.get("post_processor") or {}
    for step in steps.get("processors") or [steps]:
        if step.get("type") == "TemplateProcessing":
            return bool(step.get("single")) and "SpecialToken" in step["single"][0]
    return False if fast else bool(settings.get("add_bos_token", True))


class _Refused(Exception):
    """The template called raise_exception."""


def renderer(tokenizer: Tokenizer) -> Callable[[Sequence[Message], bool], str]:
    """A function (messages, whether an answer is wanted) -> text, as transformers renders it.

    Raises:
        UserError: the template is no Jinja.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise _Refused(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    source = tokenizer.template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    try:
        template = environment.from_string(source)
    except jinja2.TemplateError as error:
        raise _unknown(tokenizer, f"it is no Jinja template ({error})") from None

    def render(messages: Sequence[Message], prompt: bool) -> str:
        try:
            return template.render(
                messages=[dict(m) for m in messages],
                add_generation_prompt=prompt,
                raise_exception=refuse,
                **tokenizer.tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise _Refused(str(error)) from None

    return render


def _conversation(system: bool, answers: int) -> list[Message]:
    """Distinct contents, the last one a user's."""
    made: list[Message] = [{"role": "system", "content": _SYSTEM}] if system else []
    for at in range(answers):
        made += [
            {"role": "user", "content": _USERS[0] if at == 0 else f"What of {at}?\nAnd of 7.5%?"},
            {"role": "assistant", "content": _ANSWERS[0] if at == 0 else f'{{"number": {at}}}'},
        ]
    last = _USERS[1] if answers else _USERS[0]
    return [*made, {"role": "user", "content": last}]


def derive(tokenizer: Tokenizer) -> Turns:
    """The turns of a tokenizer's chat template.

    Raises:
        UserError: there is no template, or it does more than join turns; the message says where it
            first differs.
    """
    if not tokenizer.template:
        raise _unknown(tokenizer, "there is none")
    render = renderer(tokenizer)
    try:
        one = _split(render(_conversation(False, 0), True), _USERS[0])
        two = _split(render(_conversation(False, 1), True), _USERS[0], _ANSWERS[0], _USERS[1])
    except (_Refused, _Missing) as error:
        raise _unknown(tokenizer, str(error)) from None
    turns = Turns(one[0], one[0], "\n\n", two[1], two[2], one[1], system_refused=True)
    try:
        system = _split(render(_conversation(True, 0), True), _SYSTEM, _USERS[0])
        turns = replace(
            turns, before_system=system[0], after_system=system[1], system_refused=False
        )
        many = render(_conversation(True, 1), True)
        if -1 < many.find(_USERS[0]) < many.find(_SYSTEM):
            turns = replace(turns, system_at="last")
    except _Refused:
        pass
    except _Missing as error:
        raise _unknown(tokenizer, f"{error} after a system message") from None
    for system_too in (False, True):
        for answers in range(4):
            messages = _conversation(system_too, answers)
            if system_too and turns.system_refused:
                continue
            try:
                wanted = render(messages, True)
            except _Refused as error:
                raise _unknown(tokenizer, str(error)) from None
            made = turns.render(messages)
            if made != wanted:
                raise _unknown(tokenizer, _difference(made, wanted, answers, system_too))
    return turns


class _Missing(Exception):
    """A marked message is not in what the template made."""


def _split(text: str, *marks: str) -> list[str]:
    parts: list[str] = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise _Missing("it leaves a message out or changes it")
        parts.append(before)
    return [*parts, text]


def _difference(made: str, wanted: str, answers: int, system: bool) -> str:
    at = next((i for i, (a, b) in enumerate(zip(made, wanted, strict=False)) if a != b), 0)
    with_system = " and a system message" if system else ""
    return (
        f"it does more than join turns: with {answers} answers{with_system} it writes "
        f"{wanted[max(0, at - 20) : at + 30]!r}"
    )


def _unknown(tokenizer: Tokenizer, why: str) -> UserError:
    return UserError(
        f"{tokenizer.folder}: its chat template has no form in Ollama known to be the same: {why}. "
        "Write one in Go's template language and give it with --template FILE."
    )


def stops(tokenizer: Tokenizer, turns: Turns) -> list[str]:
    """What ends an answer: the special token that follows one, and the end-of-text token."""
    found = [token for token in tokenizer.specials if turns.again.lstrip().startswith(token)]
    made = [max(found, key=len)] if found else []
    made += [tokenizer.tokens["eos_token"]] if "eos_token" in tokenizer.tokens else []
    return list(dict.fromkeys(made))


def known_as(turns: Turns) -> str:
    """The format's usual name, for people."""
    for mark, name in (
        ("<|im_start|>user\n", "ChatML"),
        ("<|start_header_id|>user<|end_header_id|>", "Llama 3"),
        ("<start_of_turn>user\n", "Gemma"),
        ("[INST]", "Mistral"),
        ("<|user|>\n", "Phi-3"),
    ):
        if mark in turns.start:
            return name
    return "turns of its own"
