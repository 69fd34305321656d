"""Python: code on the line passes where it only computes and prints; modules by name."""

from __future__ import annotations

import ast
import itertools
import re

from livery.skills.actions.guard.places import HOME, INPUT, OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.code import input_code, targets
from livery.skills.actions.guard.scan import Args, Call, Scan

# Modules whose use reads and computes; what else Python imports is code nobody read here.
_MODULES = frozenset(
    "json sys math re datetime time random string collections itertools functools "
    "statistics decimal fractions textwrap pprint "
    "base64 hashlib uuid calendar platform operator typing dataclasses enum bisect "
    "heapq unicodedata zlib binascii struct difflib numpy "
    "pandas torch tensorflow scipy sklearn matplotlib transformers mlx django flask "
    "requests yaml toml tomllib csv html urllib importlib.metadata sysconfig site "
    "locale secrets colorsys cmath array copy".split()
)
_TOOLS = {
    "json.tool": "read", "venv": "change", "pytest": "run", "unittest": "run",
    "compileall": "change", "timeit": "code", "tabnanny": "read",
    "site": "read", "sysconfig": "read", "platform": "read", "calendar": "read",
    "ensurepip": "install", "py_compile": "change", "dis": "read", "tokenize": "read",
    "ast": "read",
    "cProfile": "run", "profile": "run", "pdb": "run", "doctest": "run", "trace": "run",
    "this": "none", "antigravity": "look",
    "mypy": "change", "ruff": "change", "black": "change", "isort": "change", "flake8": "change",
    "pylint": "change", "coverage": "run",
    "build": "run", "twine": "send", "tox": "run", "nox": "run", "http.server": "run",
    "zipfile": "change", "tarfile": "change", "gzip": "change", "sphinx": "run",
    "pre_commit": "run", "IPython": "code", "jupyter": "run", "virtualenv": "change",
    "pipx": "install", "poetry": "run", "uv": "run", "idlelib": "run", "turtledemo": "run",
    "webbrowser": "look", "smtpd": "run", "code": "code", "asyncio": "code",
}  # fmt: skip
_NO_CALL = frozenset(
    (
        "exec eval compile __import__ open input getattr setattr delattr globals locals "
        "vars breakpoint memoryview"
    ).split()
)
_NO_ATTRIBUTE = re.compile(
    r"^_|system|popen|spawn|exec|remove|unlink|rmtree|rename|write|delete|kill|fork"
    r"|call|run|load|save|to_\w+|post|put|patch|urlretrieve|environ|modules|connect"
    r"|^os$|^posix|truncate|send|import|chmod|mkdir|move|copyfile|copytree|symlink"
)


def python(scan: Scan, call: Call, args: Args) -> bool:
    """python: -c code, -m module, a script, or what comes on standard input."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in ("-W", "-X", "--check-hash-based-pycs"):
            position += 1
        elif word in ("--version", "-V", "--help", "-h", "-VV"):
            return True
        elif word == "-" or not word.startswith("-"):
            break
        elif word.startswith("--"):
            continue
        elif "c" in word or "m" in word:
            at = min(word.find(letter) % 99 for letter in "cm")
            value = word[at + 1 :]
            if not value:
                value = words[position] if position < len(words) else ""
                position += 1
            if word[at] == "c":
                python_code(scan, call, value)
            else:
                _module(scan, call, value, words[position:])
            return True
    else:
        input_code(scan, call, python_code)
        return True
    if word == "-" or word in INPUT:
        input_code(scan, call, python_code)
    elif word.startswith(PIPE):
        scan.act("foreign", word, why="runs what another command prints", command=call.command)
    else:
        scan.use("script", word, command=call.command)
        if word.endswith("manage.py"):
            targets(scan, call, words[position : position + 1])
            if words[position : position + 1] in (["shell"], ["shell_plus"]):
                for flag, code in itertools.pairwise(words[position:]):
                    if flag in ("-c", "--command"):
                        python_code(scan, call, code)
    return True


def _module(scan: Scan, call: Call, name: str, rest: list[str]) -> None:
    if name in ("pip", "pip3"):
        scan.judge(["pip", *rest], call.stdin)
    elif name in _TOOLS:
        scan.act(_TOOLS[name], name, command=f"{call.command} -m {name}")
    elif UNKNOWN in name or OUTPUT in name:
        scan.unclear(f"{call.command}: a module that is only known at run time")
    else:
        scan.act("run", name, command=f"{call.command} -m {name}")


def python_code(scan: Scan, call: Call, code: str) -> None:
    """Code on the line: computing and printing passes, everything else asks first."""
    if UNKNOWN in code or OUTPUT in code:
        scan.unclear(f"{call.command}: code that is only known at run time")
        return
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        scan.act("code", call.command, why="runs code that cannot be read", command=call.command)
        return
    worst = next((reason for node in ast.walk(tree) if (reason := _suspicious(node))), "")
    worst = worst or _os_beyond_reading(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _shell_within(scan, node)
    if worst:
        scan.act("code", call.command, why=f"runs code that uses {worst}", command=call.command)
    else:
        scan.act(
            "run",
            call.command,
            why="runs code from the line that only computes",
            command=call.command,
        )


# What of os looks only; any other use of the module, also under another name, is not judged here.
_OS = frozenset(
    "path getcwd listdir sep linesep name cpu_count getpid uname pathsep curdir".split()
)


def _os_beyond_reading(tree: ast.Module) -> str:
    """A use of os that may do more than look."""
    whole = sum(isinstance(node, ast.Name) and node.id == "os" for node in ast.walk(tree))
    for node in ast.walk(tree):
        if _member(node)[0] == "os":
            whole -= 1
            if _member(node)[1] not in _OS:
                return f"os.{_member(node)[1]}"
    return "os" if whole else ""


def _member(node: ast.AST) -> tuple[str, str]:
    """(name, attribute) of `name.attribute`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    return "", ""


def _suspicious(node: ast.AST) -> str:
    if _member(node) in _HARMLESS:
        return ""
    if isinstance(node, ast.Import):
        return next(
            (
                a.name
                for a in node.names
                if (a.name, a.asname) != ("os", None)  # see _os_beyond_reading
                and a.name not in _MODULES
                and a.name.partition(".")[0] not in _MODULES - {"urllib"}
            ),
            "",
        )
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        return (
            ""
            if module in _MODULES or module.partition(".")[0] in _MODULES - {"urllib"}
            else module or "."
        )
    if isinstance(node, ast.Name) and (node.id in _NO_CALL or node.id.startswith("__")):
        return node.id
    if (
        isinstance(node, ast.Attribute)
        and _NO_ATTRIBUTE.search(node.attr)
        and not node.attr.startswith("__version__")
    ):
        return node.attr
    return ""


# Called like what is not, and only reading.
_HARMLESS = {("json", "load"), ("json", "loads"), ("tomllib", "load"), ("tomllib", "loads"),
             ("platform", "system"), ("copy", "copy"), ("os", "path")}  # fmt: skip
_DELETES = ("rmtree", "remove", "unlink", "removedirs", "rmdir")


def _shell_within(scan: Scan, node: ast.Call) -> None:
    """os.system("…"), subprocess.run([…]) and shutil.rmtree("…") with what is written there."""
    name = (
        node.func.attr
        if isinstance(node.func, ast.Attribute)
        else node.func.id
        if isinstance(node.func, ast.Name)
        else ""
    )
    if isinstance(node.func, ast.Attribute) and name in ("post", "put", "patch", "sendall"):
        scan.act("send", name, why="sends data out", command="python")
    if not node.args:
        if name in ("read_text", "read_bytes") and isinstance(node.func, ast.Attribute):
            scan.use("read", _path(node.func.value))
        return
    first = node.args[0]
    if name == "open" and isinstance(node.func, ast.Name):
        # The mode is not looked at: code that opens anything is high, and what it opens may leak.
        scan.use("read", _path(first))
    if name in (
        "system",
        "popen",
        "getoutput",
        "getstatusoutput",
        "run",
        "call",
        "check_call",
        "check_output",
        "Popen",
        "spawn",
        "execvp",
        "execv",
    ):
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            scan.script(first.value, "bash")
        elif isinstance(first, (ast.List, ast.Tuple)):
            scan.judge(
                [
                    e.value if isinstance(e, ast.Constant) and isinstance(e.value, str) else UNKNOWN
                    for e in first.elts
                ]
            )
    elif name in _DELETES:
        scan.use("tree" if name == "rmtree" else "delete", _path(first))


def _path(node: ast.expr) -> str:
    """A path as code spells it out: a text, the home folder by its usual names, else unknown."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    inside = node.args[0] if isinstance(node, ast.Call) and node.args else None
    if name == "home" or (
        isinstance(node, ast.Subscript)
        and _member(node.value) == ("os", "environ")
        and isinstance(node.slice, ast.Constant)
        and node.slice.value in ("HOME", "USERPROFILE")
    ):
        return HOME
    if name in ("getenv", "get") and isinstance(inside, ast.Constant):
        return HOME if inside.value in ("HOME", "USERPROFILE") else UNKNOWN
    if name in ("expanduser", "Path", "PurePath", "str", "abspath", "realpath") and inside:
        text = _path(inside)
        return HOME + text[1:] if name == "expanduser" and text.startswith("~") else text
    return UNKNOWN


HANDLERS = {"python": python}
