"""A chat template of Jinja as what is between messages, and that as a Go template for Ollama.

Most chat templates join turns: a fixed text before the first message, fixed texts between user and
assistant, one before the answer, and a place for the system message. Those texts are found by
rendering marked messages, and are held against the template on whole conversations: a template that
does more is an error, not an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from convert.chat_template import Message, Refused, Tokenizer, renderer, unknown

_SYSTEM, _USERS, _ANSWERS = "LIVERYSYSTEM", ("LIVERYUSERA", "LIVERYUSERB"), ("LIVERYANSWERA",)


@dataclass(frozen=True)
class Turns:
    """A chat format that joins turns.

    Attributes:
        start: before the first user message where there is no system message.
        before_system, after_system: around the system message; what follows is a user message.
        answer: between a user message and the assistant's.
        again: between an assistant's message and the next user message.
        prompt: after the last user message, where the answer begins.
        system_at: the user message that the system message is before.
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
        raise unknown(tokenizer, "there is none")
    render = renderer(tokenizer)
    try:
        one = _split(render(_conversation(False, 0), True), _USERS[0])
        two = _split(render(_conversation(False, 1), True), _USERS[0], _ANSWERS[0], _USERS[1])
    except (Refused, _Missing) as error:
        raise unknown(tokenizer, str(error)) from None
    turns = Turns(one[0], one[0], "\n\n", two[1], two[2], one[1], system_refused=True)
    try:
        system = _split(render(_conversation(True, 0), True), _SYSTEM, _USERS[0])
        turns = replace(
            turns, before_system=system[0], after_system=system[1], system_refused=False
        )
        many = render(_conversation(True, 1), True)
        if -1 < many.find(_USERS[0]) < many.find(_SYSTEM):
            turns = replace(turns, system_at="last")
    except Refused:
        pass
    except _Missing as error:
        raise unknown(tokenizer, f"{error} after a system message") from None
    for system_too in (False, True):
        for answers in range(4):
            messages = _conversation(system_too, answers)
            if system_too and turns.system_refused:
                continue
            try:
                wanted = render(messages, True)
            except Refused as error:
                raise unknown(tokenizer, str(error)) from None
            made = turns.render(messages)
            if made != wanted:
                raise unknown(tokenizer, _difference(made, wanted, answers, system_too))
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
