"""What a command prints, where its words and its input alone decide it: `echo cm0= | base64 -d`."""

from __future__ import annotations

import base64
import binascii
import re

from livery.skills.actions.guard.places import HOME, MARKS
from livery.skills.actions.guard.words import ansi

MAX_TEXT = 65_536


def output(words: list[str], stdin: str | None) -> str | None:
    """The text that a command prints; None where that is not known here.

    Args:
        words: the command after expansion.
        stdin: what it reads, None where that is not known.
    """
    if not words or any(mark in word for word in words for mark in MARKS if mark != HOME):
        return None
    name, rest = words[0].rpartition("/")[2], words[1:]
    if name in ("true", ":", "false"):
        return ""
    if name == "echo":
        return _echo(rest)
    if name == "printf":
        return _printf([word for word in rest if word != "--"])
    if name in ("which", "type", "command") and rest and re.fullmatch(r"[\w.+-]+", rest[-1]):
        return rest[-1] + "\n" if name == "which" or rest[0] in ("-v", "-P", "-p") else None
    if name == "mktemp":
        plain = [word for word in rest if not word.startswith("-")]
        return f"{plain[-1]}\n" if plain and not {"-t", "-p"} & set(rest) else "/tmp/tmp.x\n"
    if name in ("dirname", "basename") and len(rest) == 1:
        folder, _, last = rest[0].rstrip("/").rpartition("/")
        above = folder or ("/" if rest[0].startswith("/") else ".")
        return f"{last if name == 'basename' else above}\n"
    if name == "pwd" or (words[:2] == ["git", "rev-parse"] and "--show-toplevel" in words):
        return "./\n"
    if stdin is None or len(stdin) > MAX_TEXT:
        return None
    if name in ("cat", "tee", "sudo-cat") and not [
        word for word in rest if word not in ("-", "-u")
    ]:
        return stdin
    if name == "tee":
        return stdin
    try:
        return _turned(name, rest, stdin)
    except (binascii.Error, ValueError, UnicodeError, LookupError):
        return None


def _echo(words: list[str]) -> str:
    escapes, end = False, "\n"
    while words and re.fullmatch(r"-[neE]+", words[0]):
        flags = words[0]
        end = "" if "n" in flags else end
        escapes = "e" in flags or escapes
        words = words[1:]
    text = " ".join(words)
    return (ansi(text) if escapes else text) + end


def _printf(words: list[str]) -> str | None:
    if not words or words[0] == "-v":
        return None if words else ""
    form, values = ansi(words[0]), words[1:]
    if "%" not in form:
        return form
    if not re.fullmatch(r"(?:[^%]|%%|%-?\d*[sbd])*", form):
        return None
    count = len(re.findall(r"%-?\d*[sbd]", form))
    made = ""
    for start in range(0, max(len(values), 1), max(count, 1)):
        row = iter(values[start : start + count])
        made += re.sub(
            r"%%|%-?\d*([sbd])",
            lambda found, row=row: (
                "%"
                if found[0] == "%%"
                else ansi(next(row, ""))
                if found[1] == "b"
                else next(row, "")
            ),
            form,
        )
    return made


def _turned(name: str, words: list[str], text: str) -> str | None:
    decodes = any(re.fullmatch(r"-\w*[dD]\w*|--decode", word) for word in words)
    plain = not [word for word in words if not word.startswith("-")]
    if name in ("base64", "gbase64") and plain:
        if decodes:
            return base64.b64decode("".join(text.split())).decode("utf-8")
        return base64.b64encode(text.encode()).decode() + "\n"
    if name == "base32" and plain and decodes:
        return base64.b32decode("".join(text.split())).decode("utf-8")
    if (
        name == "openssl"
        and words[:1] in (["base64"], ["enc"])
        and "-d" in words
        and not {"-in", "-k", "-pass"} & set(words)
    ):
        return base64.b64decode("".join(text.split())).decode("utf-8")
    if (name == "xxd" and "-r" in words and ("-p" in words or "-ps" in words)) or (
        name == "xxd" and words in (["-rp"], ["-r", "-p"], ["-p", "-r"])
    ):
        return bytes.fromhex("".join(text.split())).decode("utf-8")
    if name == "rev" and plain:
        return "\n".join(line[::-1] for line in text.split("\n"))
    if name == "tac" and plain:
        return "\n".join(reversed(text.rstrip("\n").split("\n"))) + "\n"
    if name == "tr":
        return _tr(words, text)
    if name in ("head", "tail", "sort", "uniq", "grep") and not words:
        return text if name in ("head", "tail") and text.count("\n") <= 10 else None
    if (
        name == "sed"
        and len(words) == 1
        and (found := re.fullmatch(r"s([/|,#])([\w ./-]*)\1([\w ./-]*)\1g?", words[0]))
    ):
        return text.replace(found[2], found[3])
    return None


def _tr(words: list[str], text: str) -> str | None:
    if words[:1] == ["-d"] and len(words) == 2:
        gone = _set(ansi(words[1]))
        return "".join(sign for sign in text if sign not in gone)
    if len(words) != 2 or words[0].startswith("-"):
        return None
    first, second = _set(ansi(words[0])), _set(ansi(words[1]))
    if not second:
        return None
    second += second[-1] * (len(first) - len(second))
    return text.translate({ord(a): b for a, b in zip(first, second, strict=False)})


def _set(text: str) -> str:
    text = text.replace("[:upper:]", "A-Z").replace("[:lower:]", "a-z").replace("[:digit:]", "0-9")
    return re.sub(
        r"(.)-(.)", lambda m: "".join(map(chr, range(ord(m[1]), ord(m[2]) + 1))), text, flags=re.S
    )
