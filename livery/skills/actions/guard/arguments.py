"""A command's words as its rule reads them: options, their values, operands, subcommands."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from livery.skills.actions.guard.scan import Args
from livery.skills.actions.guard.tables import Spec

# Parameters with a value that every cmdlet has, also abbreviated: -ErrorAction, -ea, -OutV.
_COMMON = re.compile(
    r"-(?:error|warning|information|progress)(?:a(?:c(?:t(?:i(?:on?)?)?)?)?"
    r"|v(?:a(?:r(?:i(?:a(?:b(?:le?)?)?)?)?)?)?)|out(?:v\w*|b\w*)|pipelinev\w*"
    r"|ea|wa|infa|proga|ev|wv|iv|ov|ob|pv"
)


def parse(spec: Spec, words: list[str]) -> Args:
    """Options, values and operands; from a subcommand on, its own rule reads them."""
    args = Args(spec)
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if args.dashed is not None or not _is_option(spec, word):
            sub = None if args.operands else spec.subs.get(word)
            if sub is not None:
                merged = replace(sub, options={**spec.options, **sub.options})
                below = parse(merged, words[position:])
                return Args(
                    below.spec,
                    args.flags + below.flags,
                    args.options + below.options,
                    below.operands,
                    below.dashed,
                )
            args.operands.append(word)
            if spec.style == "stop":
                first_only = spec.first is not None and len(args.operands) == 1
                if not first_only:
                    args.operands += words[position:]
                    break
            continue
        if word == "--" and spec.style != "none":
            args.dashed = len(args.operands)
            if spec.style == "stop":
                args.operands += words[position:]
                break
            continue
        taken = _option(spec, word, words[position:])
        args.flags += taken[0]
        args.options += [spec.options[name] for name, _ in taken[0]]
        position += taken[1]
    return args


def _is_option(spec: Spec, word: str) -> bool:
    if spec.style == "none":
        return False
    if spec.style == "dos" and len(word) > 1 and word[0] == "/" and "/" not in word[1:]:
        return True
    if word in spec.options or (word in spec.subs and word[:1] == "-"):
        return word not in spec.subs
    return len(word) > 1 and word[0] == "-"


def _option(
    spec: Spec, word: str, following: list[str]
) -> tuple[list[tuple[str, str | None]], int]:
    """The flags in one word, and how many of the following words are their values."""
    options = spec.options
    if spec.style == "ps":
        return _parameter(spec, word, following)
    head, equals, value = word.partition("=")
    if spec.style == "dos":
        head = next(
            (o for o in options if word.lower() == o or word.lower().startswith(o + ":")), word
        )
        return ([(head, None)] if head in options else []), 0
    if word.startswith("--") or spec.style == "long":
        if spec.style == "long":
            for name in options:
                if name.endswith(":") and word.startswith(name):
                    return [(name, word[len(name) :])], 0
        found = [head] if head in options else []
        if not found and len(head) > 3 and word.startswith("--"):
            found = [name for name in options if name.startswith(head)]
        if not found:
            return [], 0
        if any(name in options and options[name].value for name in found) and not equals:
            taken = following[0] if following else ""
            flags = [(n, taken if n in options and options[n].value else None) for n in found]
            return flags, 1 if following else 0
        return [(name, value if equals else None) for name in found], 0
    if word in options and not options[word].value:
        return [(word, None)], 0
    if equals and len(head) > 2 and head in options and options[head].value:
        return [(head, value)], 0
    if word in options and len(word) > 2:
        return [(word, following[0] if following else "")], 1 if following else 0
    flags: list[tuple[str, str | None]] = []
    for number, letter in enumerate(word[1:], start=1):
        name = word[0] + letter
        option = options.get(name)
        if option is None:
            continue
        if option.value:
            glued = word[number + 1 :]
            if glued:
                return [*flags, (name, glued[1:] if glued[0] == "=" else glued)], 0
            return [*flags, (name, following[0] if following else "")], 1 if following else 0
        flags.append((name, None))
    return flags, 0


def _parameter(
    spec: Spec, word: str, following: list[str]
) -> tuple[list[tuple[str, str | None]], int]:
    """A parameter of a cmdlet: without regard to case, abbreviated, its value behind a colon."""
    head, glued, value = word.lower().partition(":")
    found = [head] if head in spec.options else [n for n in spec.options if n.startswith(head)]
    if not found:
        return [], 1 if following and not glued and _COMMON.fullmatch(head) else 0
    taking = [name for name in found if spec.options[name].value]
    if taking and not glued:
        taken = following[0] if following else ""
        return [(name, taken if name in taking else None) for name in found], 1 if following else 0
    if glued and value in ("$false", "0"):
        return [], 0
    return [(name, value if name in taking else None) for name in found], 0


def split(text: str) -> list[str]:
    """A text split into words as a shell would; by white space where its quotes do not close."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
