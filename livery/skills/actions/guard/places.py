"""Where a path lies, and how bad it is to read, write, delete or open up what lies there."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from livery.skills.actions.guard.risk import Level, Scope
from livery.skills.actions.guard.tables import patterns

# Characters of the private use area stand for what is only known at run time.
UNKNOWN = "\ue000"  # the value of a variable
HOME = "\ue001"  # the user's home folder
PIPE = "\ue002"  # a process substitution: <(…)
INPUT = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")  # names of standard input
OUTPUT = "\ue003"  # what a command prints: $(…)
SECRET = "\ue004"  # behind UNKNOWN: the variable's name says that it holds a secret
MARKS = {UNKNOWN: "$…", HOME: "~", PIPE: "<(…)", OUTPUT: "$(…)", SECRET: ""}
_UNKNOWNS = (UNKNOWN, OUTPUT)


@dataclass(frozen=True)
class Place:
    """Where a path lies.

    Attributes:
        kind: null, project, temp, home, system, outside, unknown; or what makes it special: secret,
            startup (runs later by itself), auth (accounts), device, root (a folder that holds
            everything of a system, a user or a machine), trunk (within such a system folder).
        scope: for the effect.
        shown: the path as a reader may see it.
    """

    kind: str
    scope: Scope
    shown: str


# What each use of a path costs, by the kind of place. "tree" is deletion with everything below,
# "modes" a change of owner or rights, "open" such a change with everything below, "make" creates
# without overwriting, "script" runs the file.
_L, _M, _H, _C = Level.LOW, Level.MEDIUM, Level.HIGH, Level.CRITICAL
_KINDS = (
    "null", "project", "temp", "home", "system", "trunk", "outside", "unknown", "secret",
    "startup", "auth", "device", "root",
)  # fmt: skip
_COSTS: dict[str, tuple[Level, ...]] = {
    #         null proj temp home syst trnk outs unkn secr strt auth devi root
    "read":   (_L, _L, _L, _L, _L, _L, _L, _M, _H, _L, _M, _H, _L),
    "make":   (_L, _M, _M, _M, _H, _H, _M, _M, _H, _H, _H, _H, _H),
    "write":  (_L, _M, _M, _H, _H, _H, _H, _H, _H, _H, _C, _C, _H),
    "delete": (_L, _H, _M, _H, _H, _H, _H, _H, _H, _H, _C, _C, _C),
    "tree":   (_L, _H, _M, _H, _H, _C, _H, _H, _H, _H, _C, _C, _C),
    "modes":  (_L, _M, _M, _H, _H, _H, _H, _H, _H, _H, _C, _H, _H),
    "open":   (_L, _M, _M, _H, _H, _C, _H, _H, _H, _H, _C, _C, _C),
    "script": (_L, _M, _H, _H, _H, _M, _H, _H, _H, _H, _H, _H, _H),
}  # fmt: skip

_TEMP = re.compile(r"/(?:private/)?(?:var/)?tmp(?:/|$)|/dev/shm(?:/|$)", re.I)
_NULL = re.compile(
    r"/dev/(?:null|stdin|stdout|stderr|tty|zero|random|urandom|fd/\d+)|-|nul:?|\$null", re.I
)
_DISKS = re.compile(
    r"/dev/(?:sd|hd|vd|xvd|nvme|mmcblk|disk|rdisk|mapper/|md\d|loop|dm-|mem|kmem|port"
    r"|sg\d|nbd|root)"
    r"|//\./physicaldrive|//\./[a-z]:",
    re.I,
)
_ROOTS = re.compile(
    r"/(?:(?:bin|boot|dev|etc|home|lib|lib32|lib64|opt|proc|root|sbin|srv|sys|usr|var|mnt|media|run"
    r"|usr/(?:bin|lib|local|sbin|share)|var/(?:lib|log)|users|applications|system|library|volumes"
    r"|private|windows|program files(?: \(x86\))?|programdata)(?:/\*+|/\.\*)?|\*+|\.\*)?"
    r"|(?:/mnt/[a-z]|(?:/mnt)?/[a-z]/(?:windows|users|program files(?: \(x86\))?|programdata))"
    r"(?:/\*+)?"
    r"|[a-z]:/?(?:(?:windows|users|program files(?: \(x86\))?|programdata|windows/system32)/?)?\*?"
    r"(?:\.\*)?",
    re.I,
)
_TRUNKS = re.compile(
    r"(?:/|/[a-z]/|[a-z]:/|/mnt/[a-z]/)"
    r"(?:bin|boot|dev|etc|lib|lib32|lib64|proc|sbin|sys|usr|var/lib|var/log|system|library|windows"
    r"|program files(?: \(x86\))?|programdata)(?:/|$)",
    re.I,
)
_HOMES = re.compile(r"(?:/(?:home|users)/[^/]+|/root|[a-z]:/users/[^/]+)(?=/|$)", re.I)
# All that a folder holds, also the hidden: *, .*, .[!.]*, ?*.
_ALL = re.compile(r"[*?.!\[\]^-]*")
# /$X is the root where the variable is empty.
_FIRST_UNKNOWN = tuple("/" + mark for mark in _UNKNOWNS)
_WINDOWS_DEVICE = re.compile(r"//\./(?:physicaldrive|[a-z]:)", re.I)
_REGISTRY = re.compile(
    r"(?:registry::)?(hklm|hkcr|hku|hkcc|hkcu|hkey_\w+|env|cert|function|variable|alias|wsman)"
    r":?(?:/|$|(?<=:))",
    re.I,
)
_DRIVE = re.compile(r"[a-zA-Z]:(?=[\\/]|$)")


def cost(use: str, kind: str) -> Level:
    """The level of a use of a path ("read", "tree", …) in a kind of place."""
    return _COSTS[use][_KINDS.index(kind)]


def visible(text: str) -> str:
    """A word with its marks as a reader knows them, `$…` and `~`."""
    for mark, sign in MARKS.items():
        if mark in text:
            text = text.replace(mark, sign)
    return text


@functools.lru_cache(maxsize=4096)
def place(path: str, cwd: str = "", project: str = "") -> Place:
    """Where `path` lies when the shell stands in `cwd` (empty: the project's folder).

    Args:
        path: a word after expansion, with marks for what is not known; slashes of either kind.
        cwd: where `cd` led, in the same form.
        project: an absolute path whose inside is the project; empty where it is not known.
    """
    text = _slashed(path)
    seen = visible(path)
    if _NULL.fullmatch(text):
        return Place("null", "project", seen)
    if cwd and not _absolute(text) and not text.startswith(_UNKNOWNS):
        text = f"{_slashed(cwd).rstrip('/')}/{text}"
    if registry := _REGISTRY.match(text):
        return _key(registry, text, seen)
    if project and _absolute(text):
        inside = _slashed(project).rstrip("/")
        if text == inside or text.startswith(inside + "/"):
            text = text[len(inside) + 1 :] or "."
    within = text.startswith("./")
    entered = bool(cwd) and not _absolute(_slashed(path))
    text = _normal(text)
    if text.startswith(("/dev/tcp/", "/dev/udp/")):
        return Place("unknown", "system", seen)
    if _DISKS.match(text):
        return Place("device", "system", seen)
    for kind in ("safe", "auth", "secret", "startup"):
        if patterns(kind).search(text):
            scope = _scope(text)
            return Place(scope if kind == "safe" else kind, scope, seen)
    if PIPE in text or (text.startswith(_UNKNOWNS) and not within):
        return Place("unknown", "system", seen)
    home = HOME if text.startswith(HOME) else _HOMES.match(text)
    if home:
        rest = text[1:] if home == HOME else text[len(home[0]) :]
        # The folder itself, everything in it, or what may be everything in it.
        whole = _ALL.fullmatch(rest.strip("/")) is not None or rest.startswith(
            tuple("/" + mark for mark in _UNKNOWNS)
        )
        root = whole and not any(mark in rest for mark in _UNKNOWNS)
        if entered and not whole:
            # `cd ~/work && make > log`: where a command goes to work is its project.
            return Place("project", "project", seen)
        return Place("root" if root else "home", "home", seen)
    if not _absolute(text):
        outside = text == ".." or text.startswith("../")
        if outside:
            up = text.count("../")
            if up > 2:  # so far up that the rest may well start at the root
                there = place("/" + text.replace("../", "").replace("..", ""), "", "")
                if there.kind in ("root", "trunk", "auth", "device", "secret", "startup"):
                    return Place(there.kind, there.scope, seen)
            return Place("outside", "home", seen)
        return Place("project", "project", seen)
    if _ROOTS.fullmatch(text) or text.startswith(_FIRST_UNKNOWN) or _ALL.fullmatch(text[1:]):
        return Place("root", "system", seen)
    if _TEMP.match(text):
        rest = _TEMP.sub("", text, count=1).strip("/")
        if rest in ("", "*", "**", ".*"):
            return Place("system", "system", seen)
        return Place("temp", "project", seen)
    if _TRUNKS.match(text):
        return Place("trunk", "system", seen)
    return Place("system", "system", seen)


def _key(found: re.Match[str], text: str, seen: str) -> Place:
    """A place in the registry or in another of PowerShell's drives."""
    drive, rest = found[1].lower(), text[found.end() :].strip("/")
    if drive in ("env", "function", "variable", "alias") and ":" in text:
        return Place("temp", "project", seen)  # gone with the shell
    if not (drive.startswith("hk") or ":" in found[0]):
        return Place("project", "project", seen)
    if re.search(r"currentversion/(?:run|policies|winlogon|image file)|/services/", rest, re.I):
        return Place("startup", "system", seen)
    if drive in ("hkcu", "hkey_current_user"):
        return Place("home" if "/" in rest else "root", "home", seen)
    return Place("system" if "/" in rest else "root", "system", seen)


def _slashed(path: str) -> str:
    text = path
    if "\\" in text:
        text = text.replace("\\", "/")
    if text == "~" or text.startswith("~/"):
        text = HOME + text[1:]
    lowered = text.lower()
    for prefix in ("filesystem::", "file://", "//?/"):
        if lowered.startswith(prefix):
            text = text[len(prefix) :]
            lowered = text.lower()
    return text


def _absolute(text: str) -> bool:
    return text.startswith(("/", HOME)) or _DRIVE.match(text) is not None


def _normal(text: str) -> str:
    """Dots and doubled slashes taken out; a glob over a folder's hidden entries kept."""
    lead = "/" if text.startswith("/") else ""
    if _WINDOWS_DEVICE.match(text):
        return text
    parts: list[str] = []
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            last = parts.pop()
            if last == HOME:  # the folder above a home folder holds all of them
                parts, lead = ["home"], "/"
            elif last in _UNKNOWNS:
                parts.append(last)
        elif part == ".." and lead:
            continue
        else:
            parts.append(part)
    return lead + "/".join(parts) or (lead or ".")


def _scope(text: str) -> Scope:
    if text.startswith(HOME) or _HOMES.match(text):
        return "home"
    return "system" if _absolute(text) else "project"
