"""Code of cmd.exe: commands between & and |, carets and quotes taken out."""

from __future__ import annotations

import re

from livery.skills.actions.guard.scan import Scan, Stream


def read(scan: Scan, text: str, stdin: Stream | None = None) -> None:
    """Judge code of cmd.exe."""
    plain = re.sub(r"\^(.)", r"\1", text, flags=re.S).replace("\r", "\n")
    plain = re.sub(
        r"%(\w+)(?::[^%]*)?%", lambda found: _VALUES.get(found[1].lower(), "\ue000"), plain
    )
    for part, piped in _parts(plain):
        words: list[str] = []
        tokens = re.findall(r'(?:"[^"]*"?|[^\s"<>]|(?<=\s)[<>]+&?\d?)+|[<>]+', part)
        target = ""
        for token in tokens:
            if re.fullmatch(r"\d?>+", token):
                target = "write"
            elif token == "<":
                target = "read"
            elif target:
                if not token.startswith("&"):
                    scan.use(target, token.replace('"', ""), command=target)
                target = ""
            else:
                words.append(token.replace('"', ""))
        while words and words[0].lower() in ("(", "@", "call", "else", "do", "not"):
            words.pop(0)
        if words:
            words[0] = words[0].lstrip("(@")
        lowered = [word.lower() for word in words]
        if lowered[:1] in (["for"], ["if"]):
            at = lowered.index("do") + 1 if "do" in lowered else _after_test(lowered)
            words = words[at:]
        words = [word.strip("()") if word != "()" else word for word in words]
        if words and words[0]:
            words[0] = re.sub(
                r"^(cd|md|rd|del|dir|type|copy|echo)([\\./].*)", r"\1", words[0], flags=re.I
            )
            scan.judge(words, Stream(None, "network") if piped else stdin)


_VALUES = {
    "userprofile": "\ue001", "homepath": "\ue001", "temp": "/tmp", "tmp": "/tmp",
    "windir": "C:/Windows",
    "systemroot": "C:/Windows", "systemdrive": "C:", "programfiles": "C:/Program Files",
    "programdata": "C:/ProgramData",
    "appdata": "\ue001/AppData/Roaming", "localappdata": "\ue001/AppData/Local", "cd": ".",
    "comspec": "cmd.exe",
    "username": "user", "computername": "host", "public": "C:/Users/Public",
}  # fmt: skip


def _after_test(words: list[str]) -> int:
    if "exist" in words:
        return words.index("exist") + 2
    return next((n + 1 for n, word in enumerate(words) if "==" in word), min(4, len(words)))


def _parts(text: str) -> list[tuple[str, bool]]:
    """The commands, and whether each reads what the one before it prints."""
    parts: list[tuple[str, bool]] = []
    current, quoted, piped = "", False, False
    for position, sign in enumerate(text):
        if sign == '"':
            quoted = not quoted
        if sign in "&|\n" and not quoted and not current.endswith(">"):
            parts.append((current.strip(), piped))
            around = text[max(position - 1, 0) : position + 2]
            current, piped = "", sign == "|" and "||" not in around
        else:
            current += sign
    return [(part, piped) for part, piped in [*parts, (current.strip(), piped)] if part]
