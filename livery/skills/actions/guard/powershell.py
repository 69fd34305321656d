"""PowerShell code, walked: commands, pipes, blocks, .NET calls."""

from __future__ import annotations

import functools
import re
from collections.abc import Generator
from contextlib import contextmanager

import tree_sitter
import tree_sitter_powershell
from tree_sitter import Node

from livery.skills.actions.guard.places import HOME, MARKS, OUTPUT, UNKNOWN
from livery.skills.actions.guard.programs.variables import assigned
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Scan, Stream

_ENV = {
    "userprofile": HOME, "home": HOME, "homepath": HOME, "temp": "/tmp", "tmp": "/tmp",
    "windir": "C:/Windows", "systemroot": "C:/Windows",
    "systemdrive": "C:", "programfiles": "C:/Program Files", "programdata": "C:/ProgramData",
    "appdata": HOME + "/AppData/Roaming",
    "localappdata": HOME + "/AppData/Local", "username": "user", "computername": "host",
    "path": UNKNOWN, "public": "C:/Users/Public", "comspec": "cmd.exe",
    "onedrive": HOME + "/OneDrive", "pwd": ".",
}  # fmt: skip
_VARIABLES = {
    "home": HOME,
    "pwd": ".",
    "true": "$true",
    "false": "$false",
    "null": "$null",
    "pshome": "C:/Windows/System32/WindowsPowerShell/v1.0",
    "profile": HOME + "/Documents/PowerShell/Microsoft.PowerShell_profile.ps1",
    "psscriptroot": ".",
    "_": UNKNOWN,
}
# Types whose static members compute or show, and methods of values that do.
_PLAIN_TYPES = re.compile(
    r"(?:system\.)?(?:math|string|datetime|datetimeoffset|timespan|guid|int|int32|int64"
    r"|long|double|decimal|bool|boolean|char|byte|convert|version|uri|text\.encoding"
    r"|io\.path|array|random|globalization\.\w+|timezoneinfo|consolecolor|regex"
    r"|text\.regularexpressions\.regex|net\.webutility|web\.httputility|bitconverter"
    r"|linq\.enumerable|object|net\.dns|diagnostics\.stopwatch|console|stringcomparison"
    r"|runtime\.interopservices\.runtimeinformation)(?:\[\])?",
    re.I,
)
_PLAIN_METHODS = frozenset(
    "tostring replace split trim trimstart trimend toupper tolower toupperinvariant "
    "tolowerinvariant substring contains startswith endswith indexof lastindexof "
    "padleft padright insert equals compareto "
    "gettype gethashcode adddays addhours addminutes addseconds addmonths addyears "
    "subtract add addrange tolongdatestring toshortdatestring tolocaltime "
    "touniversaltime count length format join isnullorempty isnullorwhitespace "
    "round floor ceiling abs max min pow sqrt truncate parse tryparse now combine "
    "getfilename getextension getdirectoryname getfilenamewithoutextension getfullpath "
    "getbytes getstring "
    "getenumerator containskey where foreach toarray tolist first last reverse sort "
    "match matches ismatch escape newguid getnames getvalues next nextdouble elapsed "
    "startnew stop append appendline getenvironmentvariable getfolderpath toint32 "
    "todouble tochararray frombase64string tobase64string getmembers getproperties "
    "getlength clone totitlecase today gethostname isinrole getcurrent writeline write "
    "readallText gethostaddresses gethostentry tostring".lower().split()
)
_GET_COMMAND = re.compile(r"\(\s*(?:gcm|get-command)\s+['\"]?([\w-]+)['\"]?\s*\)", re.I)
_READING = re.compile(
    r"(?:system\.)?io\.(?:file|directory|path|fileinfo|directoryinfo|driveinfo)", re.I
)


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def read(scan: Scan, text: str, stdin: Stream | None = None) -> None:
    """Judge PowerShell code. Code that does not parse is high at least."""
    if all(line.strip() == "" or line.lstrip().startswith("#") for line in text.splitlines()):
        return
    source = text.encode("utf-8", "replace")
    tree = _parser().parse(source)
    if tree.root_node.has_error:
        mended = _mended(text).encode("utf-8", "replace")
        again = _parser().parse(mended)
        if again.root_node.has_error:
            scan.unclear("not valid PowerShell, or more than the guard can read")
        else:
            source, tree = mended, again
    _Walker(scan, source).walk(tree.root_node, stdin)


def _mended(text: str) -> str:
    """What the grammar refuses and PowerShell takes: bare lists (`Select-Object A, B`)."""
    text = re.sub(r"(?<=[\s=,(])(\$\{?[\w:]+\}?[\\/.][^\s;|,)'\"(]*)", r'"\1"', text)
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)[kmgtp]b\b", r"\1", text, flags=re.I)
    made, quote, depth = "", "", 0
    for position, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and text[position - 1] != "`" else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([{":
            depth += sign != "{"
        elif sign in ")]}":
            depth -= sign != "}"
        elif sign == "," and depth <= 0:
            sign = " "
        made += sign
    # A list in parentheses: `@(a, b)` parses; `(a, b)` of bare words does not.
    return made


class _Walker:
    """Walks one source text."""

    def __init__(self, scan: Scan, source: bytes) -> None:
        self.scan = scan
        self.source = source

    def text(self, node: Node) -> str:
        return self.source[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def walk(self, node: Node, stdin: Stream | None = None) -> None:
        """Judge what runs in a node."""
        kind = node.type
        if kind == "pipeline_chain":
            self.pipe(node, stdin)
        elif kind == "command":
            self.command(node, stdin)
        elif kind == "assignment_expression":
            self.assignment(node)
        elif kind == "function_statement":
            self.function(node)
        elif kind in ("invokation_expression",):
            self.invoked(node)
        elif kind == "member_access":
            self.children(node)
        elif kind in (
            "if_statement",
            "while_statement",
            "for_statement",
            "foreach_statement",
            "switch_statement",
            "try_statement",
            "do_statement",
            "trap_statement",
        ):
            with self.scan.perhaps():
                if kind == "foreach_statement":
                    self.each(node)
                self.children(node)
        elif kind == "comment":
            return
        elif kind == "class_statement":
            self.scan.add(None, Level.MEDIUM, "defines a class")
            self.children(node)
        elif kind == "redirection":
            self.redirection(node)
        else:
            self.children(node)

    def each(self, node: Node) -> None:
        """foreach ($x in …): the variable has what is listed, where that is one known text."""
        variable = next((c for c in node.named_children if c.type == "variable"), None)
        listed = next((c for c in node.named_children if c.type == "pipeline"), None)
        if variable is not None and listed is not None:
            value = self.value(listed)
            if not any(mark in value for mark in MARKS if mark != HOME):
                self.scan.state.variables[self.text(variable).strip("${}").lower()] = value

    def children(self, node: Node) -> None:
        self.scan.tick()
        if node.named_child_count == 1:  # most of an expression's levels hold one thing
            child = node.named_children[0]
            while (
                child.named_child_count == 1
                and child.type.endswith("_expression")
                and child.type not in ("invokation_expression", "assignment_expression")
            ):
                child = child.named_children[0]
            with self.scan.deeper() as fits:
                if fits:
                    self.walk(child)
            return
        with self.scan.deeper() as fits:
            if fits:
                for child in node.named_children:
                    self.walk(child)

    def pipe(self, node: Node, stdin: Stream | None) -> None:
        """a | b | c, from left to right."""
        for child in node.named_children:
            start = len(self.scan.findings)
            text: str | None = None
            if child.type != "command":
                value = self.value(child)
                text = value if not any(mark in value for mark in MARKS) else None
            with self.each_of(stdin):
                self.walk(child, stdin)
            effects = [f.effect for f in self.scan.findings[start:] if f.effect is not None]
            network = any(effect.kind == "network" for effect in effects)
            passed = tuple(p.replace("/*", f"/{UNKNOWN}") for p in stdin.found) if stdin else ()
            found = self.listed(child) or passed
            stdin = Stream(text, "network" if network else stdin.origin if stdin else "", found)

    @contextmanager
    def each_of(self, stdin: Stream | None) -> Generator[None]:
        """Code behind a pipe: $_ is what Get-ChildItem listed, where that is one folder."""
        variables = self.scan.state.variables
        kept = {name: variables[name] for name in ("_", "psitem") if name in variables}
        if stdin is not None and len(stdin.found) == 1:
            variables.update(dict.fromkeys(("_", "psitem"), stdin.found[0]))
        try:
            yield
        finally:
            for name in ("_", "psitem"):
                variables.pop(name, None)
            variables.update(kept)

    def listed(self, node: Node) -> tuple[str, ...]:
        """The folders that Get-ChildItem lists."""
        words = self.text(node).split()
        if not words or words[0].lower() not in (
            "get-childitem",
            "gci",
            "ls",
            "dir",
            "get-item",
            "gi",
        ):
            return ()
        elements = next((c for c in node.named_children if c.type == "command_elements"), None)
        if elements is None:
            return ("./*",)
        paths: list[str] = []
        count = len(self.scan.findings)
        given = self.elements(elements)
        del self.scan.findings[count:]
        for number, word in enumerate(given):
            before = given[number - 1].lower() if number else ""
            if not word.startswith("-") and before not in (
                "-filter",
                "-include",
                "-exclude",
                "-depth",
            ):
                paths.append(word)
        filtered = any(re.match(r"-(?:f|i|ex)", word, re.I) for word in given)
        rest = UNKNOWN if filtered or any("*" in path for path in paths) else "*"
        folders = [p.replace("\\", "/").rpartition("/")[0] or "." if "*" in p else p for p in paths]
        return tuple(f"{folder}/{rest}" for folder in folders or ["."])

    def command(self, node: Node, stdin: Stream | None) -> None:
        """A command with its words."""
        words: list[str] = []
        for child in node.named_children:
            if child.type == "command_name":
                words.append(self.text(child).replace("`", ""))
            elif child.type == "command_name_expr":
                words.append(self.named(child))
            elif child.type == "command_invokation_operator":
                words = []
            elif child.type == "command_elements":
                words += self.elements(child)
            elif child.type == "redirection":
                self.redirection(child)
            else:
                self.walk(child)
        if not words:
            return
        name = words[0]
        if re.fullmatch(r"-?\d+(?:\.\.-?\d+)?", name):
            return
        if not name:
            # `& { … }`: the block was walked.
            return
        if name.lower() == "%":
            name = "foreach-object"
        elif name == "?":
            name = "where-object"
        if name.lower() in self.scan.state.aliases:
            name = self.scan.state.aliases[name.lower()]
        self.scan.judge([name, *words[1:]], stdin)

    def named(self, node: Node) -> str:
        """The name behind & or the dot: a text, a block, or what is only known at run time."""
        first = node.named_children[0] if node.named_children else node
        if first.type == "command_name":
            return self.text(first).replace("`", "")
        if "script_block" in first.type:
            self.walk(first)
            return ""
        value = self.value(first)
        self.walk(first)
        return value or UNKNOWN

    def elements(self, node: Node) -> list[str]:
        """The words behind the name. Elements without a gap between them are one word."""
        words: list[str] = []
        end = -1
        for child in node.named_children:
            kind = child.type
            if kind == "command_argument_sep":
                if self.text(child).strip(" \t\n`") == ":" and words:
                    words[-1] += ":"
                    end = child.end_byte
                elif child.end_byte > child.start_byte:
                    end = -1
                continue
            if kind == "redirection":
                self.redirection(child)
                continue
            if kind in ("command_parameter",):
                word = self.text(child)
            elif kind == "generic_token":
                word = self.token(child)
            else:
                self.walk(child)
                word = self.value(child)
                items = self.items(child)
                if len(items) > 1:
                    words += items
                    end = child.end_byte
                    continue
            if child.start_byte == end and words:
                words[-1] += word
            elif kind == "generic_token" and "," in word and not re.match(r"https?:", word):
                words += [part for part in word.split(",") if part]
            else:
                words.append(word)
            end = child.end_byte
        return words

    def items(self, node: Node) -> list[str]:
        """The values of `a, b` and `@(a, b)`."""
        if node.type == "array_literal_expression" and node.named_child_count > 1:
            return [self.value(child) for child in node.named_children]
        return []

    def token(self, node: Node) -> str:
        text = self.text(node).replace("`", "")
        return re.sub(
            r"\$\{?(env:)?(\w+)\}?", lambda m: self.variable((m[1] or "") + m[2]), text, flags=re.I
        )

    def variable(self, name: str) -> str:
        lowered = name.lower().strip("${}")
        if lowered.startswith("env:"):
            return _ENV.get(lowered[4:], UNKNOWN)
        lowered = re.sub(r"^(?:global|script|local|private|using|variable):", "", lowered)
        if lowered in self.scan.state.variables:
            return self.scan.state.variables[lowered]
        return _VARIABLES.get(lowered, UNKNOWN)

    def value(self, node: Node) -> str:
        """What an expression is, where its text alone says so."""
        self.scan.tick()
        kind = node.type
        if kind == "verbatim_string_characters":
            return self.text(node)[1:-1].replace("''", "'")
        if kind == "expandable_string_literal":
            return self.expandable(node)
        if kind in ("verbatim_here_string_characters", "expandable_here_string_literal"):
            return re.sub(r"^@['\"]\s*\n|\n['\"]@$", "", self.text(node))
        if kind == "variable":
            return self.variable(self.text(node)[1:])
        if kind in ("integer_literal", "decimal_integer_literal", "real_literal"):
            return self.text(node)
        if kind == "generic_token":
            return self.token(node)
        if (
            kind in ("additive_expression", "additive_argument_expression")
            and node.named_child_count > 1
        ):
            return "".join(self.value(child) for child in node.named_children)
        if kind == "format_expression" and node.named_child_count > 1:
            return self.formatted(node)
        if kind == "cast_expression" and node.named_child_count > 1:
            number = self.value(node.named_children[-1])
            if "char" in self.text(node.named_children[0]).lower() and re.fullmatch(
                r"\d{1,6}|0x[0-9a-f]+", number, re.I
            ):
                return chr(int(number, 0) if number.lower().startswith("0x") else int(number))
            return number
        if kind == "parenthesized_expression":
            named = _GET_COMMAND.fullmatch(self.text(node))
            if named:
                return named[1]
            inner = node.named_children[0] if node.named_children else node
            return OUTPUT if _has_command(inner) else self.value(inner)
        if kind == "script_block_expression":
            return OUTPUT
        if kind == "sub_expression":
            inner = node.named_children[0] if node.named_children else node
            return OUTPUT if _has_command(node) or inner is node else self.value(inner)
        if kind == "member_access":
            path = re.fullmatch(r"\$(_|psitem)\.(?:fullname|pspath)", self.text(node), re.I)
            if path:
                return self.variable(path[1])
            return UNKNOWN if not _has_command(node) else OUTPUT
        if kind == "invokation_expression":
            return self.called(node)
        if kind == "array_expression":
            return UNKNOWN if node.named_child_count else ""
        if node.named_child_count == 1 and kind != "redirection":
            return self.value(node.named_children[0])
        if node.named_child_count == 0:
            return self.text(node).replace("`", "")
        if kind == "array_literal_expression":
            return " ".join(self.value(child) for child in node.named_children)
        return OUTPUT if _has_command(node) else UNKNOWN

    def expandable(self, node: Node) -> str:
        """A text in double quotes, its variables put in."""
        made, position = "", node.start_byte + 1
        for child in node.named_children:
            made += _ticks(self.source[position : child.start_byte].decode("utf-8", "replace"))
            made += self.value(child)
            position = child.end_byte
        return made + _ticks(self.source[position : node.end_byte - 1].decode("utf-8", "replace"))

    def formatted(self, node: Node) -> str:
        """`"{1}{0}" -f "a", "b"`."""
        named = node.named_children
        form = self.value(named[0])
        rest = named[-1]
        values = (
            [self.value(child) for child in rest.named_children]
            if rest.named_child_count > 1
            else [self.value(rest)]
        )
        return re.sub(
            r"\{(\d+)\}", lambda m: values[int(m[1])] if int(m[1]) < len(values) else UNKNOWN, form
        )

    def called(self, node: Node) -> str:
        """The value of .Replace("a", "b") and .ToLower() on a known text."""
        if _has_command(node):
            return OUTPUT
        found = re.fullmatch(
            r"""(?:\(?)(['"])([^'"]*)\1\)?\.(replace|tolower|toupper|trim|tostring)\((?:(['"])([^'"]*)\4\s*,\s*(['"])([^'"]*)\6)?\)""",
            self.text(node),
            re.I,
        )
        if found:
            verb = found[3].lower()
            if verb == "replace" and found[5] is not None:
                return found[2].replace(found[5], found[7])
            return (
                found[2].lower()
                if verb == "tolower"
                else found[2].upper()
                if verb == "toupper"
                else found[2]
            )
        return UNKNOWN

    def assignment(self, node: Node) -> None:
        """$x = …; $env:X = … decides what later programs see."""
        named = node.named_children
        name = self.text(named[0]).strip()
        found = re.fullmatch(r"(?:\[[\w.\[\]]+\]\s*)?\$\{?([\w:]+)\}?", name)
        value_node = named[-1]
        before = self.value(value_node)
        self.walk(value_node)
        if found is None:
            self.walk(named[0])
            if re.search(r"certificate(?:validationcallback|policy)$", name, re.I):
                self.scan.add(None, Level.HIGH, f"{name}: trusts every certificate from now on")
            if re.search(r"\.\w+$", name):
                self.scan.add(None, Level.MEDIUM, f"sets {name}")
            return
        variable = found[1].lower()
        if variable.startswith("env:"):
            assigned(self.scan, variable[4:].upper(), before)
            return
        if variable in (
            "erroractionpreference",
            "progresspreference",
            "verbosepreference",
            "confirmpreference",
        ):
            return
        operator = self.text(named[1]) if len(named) > 2 else "="
        old = self.scan.state.variables.get(variable, "") if operator == "+=" else ""
        self.scan.state.variables[variable] = old + before

    def function(self, node: Node) -> None:
        """A function's body is judged where it is defined; a call of it is known then."""
        name = next((self.text(c) for c in node.named_children if c.type == "function_name"), "")
        self.scan.state.functions[name] = lambda made: None
        with self.scan.perhaps():
            for child in node.named_children:
                if child.type != "function_name":
                    self.walk(child)

    def invoked(self, node: Node) -> None:
        """[type]::Member(…) and $x.Member(…)."""
        self.children(node)
        member = next(
            (
                self.text(c).lower().strip("'\"")
                for c in node.named_children
                if c.type == "member_name"
            ),
            "",
        )
        typed = next(
            (
                self.text(c).strip("[]").lower()
                for c in node.named_children
                if c.type == "type_literal"
            ),
            "",
        )
        given = next((c for c in node.named_children if c.type == "argument_list"), None)
        values = self.arguments(given) if given is not None else []
        if typed:
            if (_PLAIN_TYPES.fullmatch(typed) and member in _PLAIN_METHODS | {"new"}) or (
                typed.endswith("environment")
                and member in ("getenvironmentvariable", "getfolderpath", "getlogicaldrives")
            ):
                return
            if _READING.fullmatch(typed):
                path = values[0] if values else UNKNOWN
                if re.match(r"delete", member):
                    self.scan.use("tree" if len(values) > 1 else "delete", path)
                elif re.match(r"read|exists|get|enumerate|open(?:read|text)", member):
                    self.scan.use("read", path)
                elif re.match(r"copy|move|replace", member) and len(values) > 1:
                    self.scan.use("write", values[1])
                    if member == "move":
                        self.scan.use("write", path)
                else:
                    self.scan.use("write", path)
                return
            if re.search(r"process$", typed) and member == "start" and values:
                self.scan.judge([values[0], *values[1:]])
            self.scan.act("code", f"[{typed}]::{member}", why=f"calls [{typed}]::{member}")
            return
        if member in _PLAIN_METHODS:
            return
        if re.match(r"download|openread|getstringasync|getasync|navigate", member):
            self.scan.act("look", member, why=f"fetches with .{member}()")
            if "file" in member and len(values) > 1:
                self.scan.use("write", values[1])
        elif re.match(r"upload|post|send", member):
            self.scan.act("send", member, why=f"sends with .{member}()")
            for value in values:
                if self.scan.place(value).kind == "secret":
                    self.scan.use("read", value)
        else:
            self.scan.act("code", f".{member}()", why=f"calls .{member}(), which may do anything")

    def arguments(self, node: Node) -> list[str]:
        inner = next(iter(node.named_children), None)
        return [self.value(child) for child in inner.named_children] if inner is not None else []

    def redirection(self, node: Node) -> None:
        """> file, 2>&1."""
        for child in node.named_children:
            if child.type == "redirected_file_name":
                words = [
                    self.value(c) for c in child.named_children if c.type != "command_argument_sep"
                ]
                for word in words:
                    self.scan.use("write", word, command=">")
                for c in child.named_children:
                    self.walk(c)


def _ticks(text: str) -> str:
    return re.sub(
        r"`(.)",
        lambda m: {"n": "\n", "t": "\t", "r": "\r", "0": ""}.get(m[1], m[1]),
        text,
        flags=re.S,
    ).replace('""', '"')


def _has_command(node: Node) -> bool:
    stack = [node]
    for _ in range(2000):
        if not stack:
            return False
        top = stack.pop()
        if top.type == "command":
            return True
        stack += top.named_children
    return True
