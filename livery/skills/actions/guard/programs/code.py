"""Languages: scripts, and code on the line, let through where it can be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from livery.skills.actions.guard.places import INPUT, OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.shells import runs_input
from livery.skills.actions.guard.risk import Level
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
    r"|send|import|chmod|mkdir|move|copyfile|copytree|symlink"
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
        _input_code(scan, call, python_code)
        return True
    if word == "-" or word in INPUT:
        _input_code(scan, call, python_code)
    elif word.startswith(PIPE):
        scan.act("foreign", word, why="runs what another command prints", command=call.command)
    else:
        scan.use("script", word, command=call.command)
        if word.endswith("manage.py"):
            targets(scan, call, words[position : position + 1])
    return True


def _module(scan: Scan, call: Call, name: str, rest: list[str]) -> None:
    if name in ("pip", "pip3"):
        scan.judge(["pip", *rest], call.stdin)
    elif name in _TOOLS:
        scan.act(_TOOLS[name], name, command=f"{call.command} -m {name}")
    elif UNKNOWN in name or OUTPUT in name:
        scan.unclear(f"{call.command}: a module known to the run only")
    else:
        scan.act("run", name, command=f"{call.command} -m {name}")


def python_code(scan: Scan, call: Call, code: str) -> None:
    """Code on the line: computing and printing passes, everything else asks first."""
    if UNKNOWN in code or OUTPUT in code:
        scan.unclear(f"{call.command}: code that is known to the run only")
        return
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        scan.act("code", call.command, why="runs code that cannot be read", command=call.command)
        return
    worst = next((reason for node in ast.walk(tree) if (reason := _suspicious(node))), "")
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


def _suspicious(node: ast.AST) -> str:
    if isinstance(node, ast.Import):
        return next(
            (
                a.name
                for a in node.names
                if a.name not in _MODULES and a.name.partition(".")[0] not in _MODULES - {"urllib"}
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
    if not node.args:
        return
    first = node.args[0]
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
        path = (
            first.value
            if isinstance(first, ast.Constant) and isinstance(first.value, str)
            else UNKNOWN
        )
        scan.use("tree" if name == "rmtree" else "delete", path)


_NODE_SAFE = re.compile(
    r"(?:console\.(?:log|error|table)|process\.(?:version|versions|platform|arch|argv"
    r"|exit|memoryUsage|hrtime|uptime|cwd)\b|JSON\.(?:parse|stringify)|Math\.\w+|Date"
    r"|Number|parseInt|parseFloat|require\(['\"]\.{0,2}/?[\w@/-]*package\.json['\"]\))"
)
_SAFE_WORDS = frozenset(
    "console log error table process version versions platform arch argv exit "
    "memoryUsage cwd uptime JSON parse stringify Math Date Number parseInt parseFloat "
    "new const let var for of in if else return true false null undefined typeof "
    "length map filter reduce join split slice push forEach toString toFixed "
    "toISOString now max min floor ceil round random abs pow sqrt PI String Object "
    "keys values entries Array from sort reverse includes indexOf "
    "print puts say echo p printf uc lc reverse foreach my local use strict warnings "
    "tr y RUBY_VERSION PHP_VERSION phpversion PHP_EOL times each inspect to_s to_i "
    "chomp next last unless and or not eq ne lt gt sprintf substr index keys values "
    "shift defined BEGIN END sum".split()
)


def node(scan: Scan, call: Call, args: Args) -> bool:
    """node: -e code, -r module, a script."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        head, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            break
        if head in ("-e", "-p", "-pe", "--eval", "--print"):
            code = (
                value
                if equals and head.startswith("--")
                else (words[position] if position < len(words) else "")
            )
            code_on_line(scan, call, code)
            return True
        if head in ("-r", "--require", "--import", "--loader", "--experimental-loader"):
            file = value if equals else (words[position] if position < len(words) else "")
            position += 0 if equals else 1
            if file.startswith(("http:", "https:", "data:")):
                scan.act("foreign", file, command=call.command)
            elif file.startswith((".", "/")):
                scan.use("script", file, command=call.command)
        elif head.startswith(("--inspect", "--debug")):
            scan.act("code", head, level=Level.MEDIUM, why="opens a debugger", command=call.command)
        elif head in ("-v", "--version", "-h", "--help"):
            return True
        elif head in ("-c", "--check", "--test", "--watch", "--run"):
            scan.act("run", word, command=call.command)
    else:
        if not any(f.command == call.command for f in scan.findings):
            _input_code(scan, call, code_on_line)
        return True
    if word == "-":
        _input_code(scan, call, code_on_line)
    else:
        scan.use("script", word, command=call.command)
    return True


def _input_code(scan: Scan, call: Call, judge: Callable[[Scan, Call, str], None]) -> None:
    """Code on standard input: judged as on the line, where it is known."""
    if call.stdin is not None and call.stdin.text is not None:
        judge(scan, call, call.stdin.text)
    else:
        runs_input(scan, call)


def script(scan: Scan, call: Call, args: Args) -> bool:
    """Perl, Ruby, PHP and others: -e code, or a script."""
    words = call.words[1:]
    position = 0
    seen = False
    inplace = False
    while position < len(words):
        word = words[position]
        position += 1
        if word in ("--version", "-v", "-V", "--help", "-h", "-version"):
            return True
        if not word.startswith("-") or word == "-":
            break
        if (
            word.startswith("-")
            and not word.startswith("--")
            and call.name in ("perl", "ruby")
            and "i" in word[1:].partition("e")[0]
        ):
            inplace = True
        if re.fullmatch(
            r"-(?:[a-zA-Z0]*[eErR]|\w*pe|\w*ne)|--eval|--execute|--run|--expr", word
        ) and not word.startswith("-I"):
            if call.name in ("php",) and word not in ("-r", "-B", "-R", "-E", "--run"):
                continue
            code = words[position] if position < len(words) else ""
            position += 1
            code_on_line(scan, call, code)
            seen = True
        elif word.startswith(("-S", "-t")) and call.name == "php":
            scan.act("run", call.command, command=call.command)
            seen = True
        elif (
            re.match(r"-[MmrI]\w", word)
            or (word.startswith(("-d", "--require", "-l")) and len(word) > 2)
        ) and (
            re.match(
                r"-[Mm](?:strict|warnings|Data|List|POSIX|JSON|Time|utf8)|-[Il]|-r(?:json|set|time|date|pp|csv|yaml|rubygems|bundler)",
                word,
            )
            is None
        ):
            scan.act("code", word, why="loads code", command=call.command)
    else:
        if not seen:
            _input_code(scan, call, code_on_line)
        return True
    rest = words[position - 1 :]
    if seen:
        for file in rest:
            scan.use("write" if inplace else "read", file, command=call.command)
    elif rest[0] == "-":
        runs_input(scan, call)
    elif rest[0].startswith(PIPE):
        scan.act("foreign", rest[0], command=call.command)
    elif rest[0] in ("eval", "exec", "-e") and call.name in ("bb", "io", "janet"):
        scan.act("code", rest[0], command=call.command)
    else:
        scan.use("script", rest[0], command=call.command)
        if rest[0] in ("artisan", "bin/console", "bin/rails", "bin/rake"):
            targets(scan, call, rest[1:2])
    return True


def code_on_line(scan: Scan, call: Call, code: str) -> None:
    """Code that is only let through where each word of it is known to compute or print."""
    if UNKNOWN in code or OUTPUT in code:
        scan.unclear(f"{call.command}: code that is known to the run only")
        return
    bare = re.sub(
        r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"",
        lambda found: "" if "#{" not in found[0] and "@{" not in found[0] else found[0],
        code,
    )
    bare = _NODE_SAFE.sub(" ", bare)
    substitution = re.fullmatch(
        r"\s*(?:s|tr|y)(.)(?:(?!\1).)*\1(?:(?!\1).)*\1[gimsx]*\s*(?:;\s*)?", code
    )
    if substitution and "(?{" not in code:
        scan.act(
            "run",
            call.command,
            why="runs code from the line that only computes",
            command=call.command,
        )
        return
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r"\$\w+|@\w+|:\w+", " ", bare))
    unsafe = [word for word in words if word not in _SAFE_WORDS and len(word) > 1]
    strange = re.search(
        r"`|\$\(|\[\s*['\"]|<[A-Z]*>|\$\{|[|]\s*[\w\"']|^\s*%x|\\x|\(\?\{|\bqx\b", bare
    )
    for text in re.findall(
        r"(?:system|exec|execSync|shell_exec|passthru|popen|spawn|`)\s*\(?\s*(['\"])(.*?)\1", code
    ):
        scan.script(text[1], "bash")
    for text in re.findall(r"`([^`]*)`", code):
        scan.script(text, "bash")
    if unsafe or strange:
        what = unsafe[0] if unsafe else "what cannot be read here"
        scan.act(
            "code",
            call.command,
            why=f"runs code from the line that uses {what}",
            command=call.command,
        )
    else:
        scan.act(
            "run",
            call.command,
            why="runs code from the line that only computes",
            command=call.command,
        )


def vim(scan: Scan, call: Call, args: Args) -> bool | None:
    """vim: + and -c run its commands, -s and -S scripts."""
    words = call.words[1:]
    for number, word in enumerate(words):
        if word.startswith("+") and not re.fullmatch(r"\+\d*|\+/.*", word):
            _vim_code(scan, call, word[1:])
        elif word in ("-c", "--cmd") and number + 1 < len(words):
            _vim_code(scan, call, words[number + 1])
        elif (
            word in ("-s", "-S", "-u", "-U", "-W", "-w")
            and number + 1 < len(words)
            and words[number + 1] not in ("NONE", "NORC", "DEFAULTS")
        ):
            scan.use("script", words[number + 1], command=call.command)
    args.operands = [word for word in args.operands if not word.startswith("+")]
    args.flags, args.options = [], []
    return None


def _vim_code(scan: Scan, call: Call, code: str) -> None:
    if not re.fullmatch(
        r":?(?:q!?|qa!?|wq!?|wqa!?|x|set\s+\w+|syntax\s+\w+|\d+|noh)", code.strip()
    ):
        scan.act("code", code, why="runs a command of the editor", command=call.command)
        for text in re.findall(r"!\s*(.+)|system\(['\"](.*?)['\"]", code):
            scan.script(text[0] or text[1], "bash")


def targets(scan: Scan, call: Call, words: list[str]) -> None:
    """Names of scripts and targets that say that they delete or publish: `db:reset`, `deploy`."""
    for word in words:
        if re.fullmatch(_LOSING, word, re.I):
            scan.act("lose", word, why=f"{word} says that it deletes", command=call.command)
        elif re.fullmatch(_PUBLISHING, word, re.I):
            scan.act("send", word, why=f"{word} says that it publishes", command=call.command)


_LOSING = (
    r"(?:[\w-]+[:._-])*(?:destroy|drop|purge|nuke|wipe|teardown|reset|flush|sqlflush|reset_db|fresh"
    r"|truncate|rollback|uninstall)(?:[:._-][\w:.-]+)*"
)
_PUBLISHING = r"(?:[\w-]+[:._-])*(?:publish|deploy|upload)(?:[:._-][\w:.-]+)*"


def build(scan: Scan, call: Call, args: Args) -> bool | None:
    """Builders and testers: targets whose names say that they delete or publish."""
    for word in args.operands:
        name, equals, value = word.partition("=")
        if (
            equals
            and re.fullmatch(r"SHELL|\.SHELLFLAGS|CC|CXX|MAKE\w*|\w+FLAGS", name)
            and not re.fullmatch(
                r"[\w+./-]*(?:gcc|clang|cc|bash|sh|\+\+)[\w.-]*|-[\w\s=/.-]*", value
            )
        ):
            scan.act("code", word, why="decides what the builder runs", command=call.command)
        elif equals and (UNKNOWN in value or re.search(r"[`$(;|]", value)):
            scan.act("code", word, why="gives the builder code", command=call.command)
    targets(scan, call, args.operands)
    return None


def uvrun(scan: Scan, call: Call, args: Args) -> bool:
    """uv run: a command in the project's environment; --with fetches packages."""
    words = call.words[call.words.index("run") + 1 :] if "run" in call.words else []
    position = 0
    scan.act("run", call.command, command=call.command)
    while position < len(words) and words[position].startswith("-"):
        if words[position] in (
            "--with",
            "--with-requirements",
            "--index-url",
            "--from",
            "--script",
            "--python",
            "-p",
            "--extra",
            "--group",
            "--env-file",
            "--directory",
            "--project",
            "--package",
            "--with-editable",
            "-m",
            "--module",
        ):
            if words[position] in ("--with", "--from", "--index-url"):
                scan.act("install", words[position], command=call.command)
            if words[position] in ("-m", "--module"):
                scan.judge(["python", "-m", *words[position + 1 :]])
                return True
            position += 1
        position += 1
    if words[position:]:
        first = words[position]
        scan.judge(
            ["python", *words[position:]] if first.endswith(".py") else words[position:], call.stdin
        )
    return True


def osascript(scan: Scan, call: Call, args: Args) -> bool | None:
    """osascript: `do shell script "…"` is shell code."""
    for word in call.words[1:]:
        for code in re.findall(r'do shell script "((?:\\.|[^"\\])*)"', word):
            scan.script(code.replace('\\"', '"'), "bash")
    return None


HANDLERS = {
    "python": python, "node": node, "script": script, "vim": vim, "build": build, "uvrun": uvrun,
    "osascript": osascript,
}  # fmt: skip
