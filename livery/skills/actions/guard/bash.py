"""bash code, walked: every command of a chain, a pipe, a substitution, a loop or a function."""

from __future__ import annotations

import functools
import itertools
import re

import tree_sitter
import tree_sitter_bash
from tree_sitter import Node

from livery.skills.actions.guard.output import output
from livery.skills.actions.guard.places import OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.languages import finds_all
from livery.skills.actions.guard.programs.variables import assigned
from livery.skills.actions.guard.risk import Effect, Level
from livery.skills.actions.guard.scan import MAX_TEXT, Call, Scan, Stream
from livery.skills.actions.guard.words import Reader

_WORDS = frozenset((
    "word", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation",
    "simple_expansion", "expansion", "command_substitution",
    "process_substitution", "number", "arithmetic_expansion", "brace_expression", "regex",
    "variable_name", "extglob_pattern", "special_variable_name", "array", "test_operator",
    "{", "}", "[", "]", "==", "=~", "=", "!=", "!", "$",
))  # fmt: skip
_SUBSHELLS = ("subshell", "command_substitution", "process_substitution")


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def parse(source: bytes) -> tree_sitter.Tree:
    """The syntax tree of bash code."""
    return _parser().parse(source)


# `! for …`, `time { …`: for the grammar `for` and `{` are a command's name there. What stands
# before them makes no difference to what they do.
_BEFORE = re.compile(
    r"(^|[;&|\n({)]|\b(?:then|do|else|elif|if|while|until)\s)[ \t]*"
    r"(?:(?:!|coproc|time(?:[ \t]+-p)?)[ \t]+)+(?=(?:for|while|until|if|case|select|\{)\s|\()"
)
# A line that begins with a backslash is for the grammar the rest of the line before.
_BROKEN = re.compile(r"(^|\n)[ \t]*(?:\\\r?\n[ \t]*)+")
_LINE = re.compile(r"\n(?=\\)")
_JOINED = re.compile(r"(?<=[^\s\\])(?:\\\n)+(?=\S)")


def read(scan: Scan, text: str, stdin: Stream | None = None) -> None:
    """Judge bash code. What does not parse is high at least; what can be read of it counts."""
    text = _LINE.sub("\n ", _BROKEN.sub(r"\1", _BEFORE.sub(r"\1 ", text)))
    if _JOINED.search(text):
        # A line break within a word: bash joins the halves, the grammar takes them for two words.
        # In a comment or a quoted text it does not, so what stands there is read as well.
        with scan.apart():
            read(scan, _JOINED.sub("", text), stdin)
    source = text.encode("utf-8", "replace")
    tree = parse(source)
    walker = Walker(scan, source, stdin)
    if tree.root_node.has_error:
        mended = _mended(text)
        if mended is not None:
            source = mended.encode("utf-8", "replace")
            tree = parse(source)
            walker = Walker(scan, source, stdin)
        if tree.root_node.has_error:
            scan.unclear("not valid bash, or more than the guard can read")
            _loose(scan, text)
    walker.walk(tree.root_node, stdin)


# What the grammar does not know and bash does, in words that it knows.
_GAPS = (
    (re.compile(r"(?<=[\w)'\"}\]])[ \t]+"
        r"((?:\d|&)?>+[ \t]*(?:&\d|[\w./-]+|>\([^()\n]*\))(?:[ \t]+\d?>&\d)?)[ \t]+"
        r"(<<<[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s;&|<>]+))"), r" \2 \1"),
    (re.compile(r"<>"), "> "),
    (re.compile(r"\$\([ \t]*\)|(?<!\\)``"), ""),
    (re.compile(r"\{(\w+)\}(?=[<>])"), ""),
    (re.compile(r"(?<![\w\\\"'])\{([^\s{}'\"`$();&|<>]*,[^\s{}'\"`$();&|<>]*)\}(?=\s|$|;|&|\|)"),
        lambda m: " ".join(m[1].split(","))),
)  # fmt: skip


def _mended(text: str) -> str | None:
    """The text without what is known to be a gap of the grammar; None where it holds none."""
    changed = text
    for pattern, by in _GAPS:
        changed = pattern.sub(by, changed)
    return changed if changed != text else None


def _loose(scan: Scan, text: str) -> None:
    """Words of code that does not parse, taken by line and separator: none may hide in an error."""
    for part in re.split(r"[;\n|&(){}`]+", text)[:200]:
        words = [re.sub(r"['\"\\]", "", word) for word in part.split()]
        while words and re.match(r"\w+=|then$|do$|else$|if$|while$|!$", words[0]):
            words.pop(0)
        if words and re.fullmatch(r"[\w./+-]+", words[0]):
            start = len(scan.findings)
            with scan.apart():
                scan.judge([re.sub(r"\$\{?\w+\}?", UNKNOWN, word) for word in words])
            scan.findings[start:] = [f for f in scan.findings[start:] if f.level is Level.CRITICAL]


def _affirmed(node: Node) -> Node:
    """A command without the `!` before it: that changes its status, not what it does."""
    while node.type == "negated_command" and node.named_child_count == 1:
        node = node.named_children[0]
    return node


class Walker:
    """Walks one source text."""

    def __init__(self, scan: Scan, source: bytes, stdin: Stream | None) -> None:
        self.scan = scan
        self.source = source
        self.stdin = stdin
        self.reader = Reader(scan, source, self.substituted)
        self.written: list[str] = []
        self.outlets: list[Node] = []  # each >(…) met, until it is known what is written into it
        self.quiet = False

    # -- nodes

    def walk(self, node: Node, stdin: Stream | None = None) -> None:
        """Judge what runs in a node."""
        met = len(self.outlets)
        self.parted(node, stdin)
        self.feed(met, Stream())

    def parted(self, node: Node, stdin: Stream | None) -> None:
        """Judge what runs in a node, by its kind."""
        kind = node.type
        if kind == "command":
            self.command(node, [], stdin)
        elif kind == "redirected_statement":
            self.redirected(node, stdin)
        elif kind == "pipeline":
            self.pipeline(node, stdin)
        elif kind == "list":
            self.chain(node, stdin)
        elif kind in ("variable_assignment", "variable_assignments"):
            self.assignments(node)
        elif kind == "declaration_command":
            for child in node.named_children:
                if child.type == "variable_assignment":
                    self.assignments(child, exported=True)
                else:
                    self.reader.words([child])
        elif kind == "function_definition":
            self.function(node)
        elif kind in _SUBSHELLS:
            self.substituted(node, stdin)
        elif kind in (
            "if_statement",
            "while_statement",
            "case_statement",
            "c_style_for_statement",
            "for_statement",
        ):
            self.compound(node, stdin)
        elif kind in ("comment", "heredoc_body", "heredoc_start", "heredoc_end"):
            return
        elif kind in ("file_redirect", "herestring_redirect", "heredoc_redirect"):
            self.redirects([node], stdin)
        elif kind in _WORDS:
            self.reader.words([node])
        else:
            self.children(node, stdin)

    def children(self, node: Node, stdin: Stream | None = None) -> None:
        """Each child in turn, deep nesting cut off."""
        with self.scan.deeper() as fits:
            if fits:
                for child in node.named_children:
                    self.walk(child, stdin)

    def chain(self, node: Node, stdin: Stream | None) -> None:
        """a && b, a || b: the left runs, the right perhaps."""
        for part in self.parts(node):
            self.walk(part, stdin)

    def parts(self, node: Node) -> list[Node]:
        """The statements of a chain in order. Long ones lean left: no recursion."""
        parts: list[Node] = []
        while node.type == "list":
            named = node.named_children
            parts += reversed(named[1:])
            if not named:
                break
            node = named[0]
        return [node, *reversed(parts)]

    def compound(self, node: Node, stdin: Stream | None) -> None:
        """if, while, for, case: their parts run perhaps; a for loop's variable has its words."""
        if node.type == "for_statement":
            named = node.named_children
            name = self.reader.text(named[0])
            values = self.reader.words([c for c in named[1:] if c.type in _WORDS])
            body = [child for child in named if child.type in ("do_group", "compound_statement")]
            few = (
                values
                if 0 < len(values) <= 8 and not any(UNKNOWN in v or OUTPUT in v for v in values)
                else [UNKNOWN]
            )
            with self.scan.perhaps():
                for value in few:
                    self.scan.state.variables[name] = value
                    for child in body:
                        self.walk(child, stdin)
            return
        with self.scan.perhaps():
            self.children(node, stdin)

    def function(self, node: Node) -> None:
        """A function: judged where it is defined, and with its arguments where it is called."""
        named = node.named_children
        name = self.reader.text(named[0]) if named else ""
        body = named[-1] if named else node
        text = self.reader.text(body)
        if re.search(
            rf"{re.escape(name)}\s*\|\s*{re.escape(name)}\s*&|{re.escape(name)}\s*&\s*{re.escape(name)}",
            text.replace("${IFS}", " "),
        ):
            self.scan.add(
                Effect("execute", "system", name),
                Level.CRITICAL,
                f"{name}: starts itself over and over (a fork bomb)",
            )

        def call(made: Call) -> None:
            if name in self.scan.loops:
                return
            self.scan.loops.append(name)
            kept = self.scan.state.arguments
            self.scan.state.arguments = made.words[1:]
            self.walk(body, made.stdin)
            self.scan.state.arguments = kept
            self.scan.loops.remove(name)

        self.scan.state.functions[name] = call
        self.scan.loops.append(name)
        with self.scan.apart(), self.scan.perhaps():
            kept = self.scan.state.arguments
            self.scan.state.arguments = [UNKNOWN] * 9
            self.walk(body)
            self.scan.state.arguments = kept
        self.scan.loops.remove(name)

    def assignments(self, node: Node, *, exported: bool = False) -> None:
        """name=value, kept for later words; some names decide what runs."""
        nodes = node.named_children if node.type == "variable_assignments" else [node]
        for one in nodes:
            name, value = self.assignment(one)
            if not name:
                continue
            known = one.children[1].type if one.child_count > 1 else "="
            old = self.scan.state.variables.get(name, "")
            joined = old + value if known == "+=" else value
            self.scan.state.variables[name] = joined if len(joined) <= MAX_TEXT else UNKNOWN
            if (
                name in ("PATH", "IFS", "BASH_ENV", "ENV", "PROMPT_COMMAND", "LD_PRELOAD")
                or exported
            ):
                if name != "IFS":
                    assigned(self.scan, name, value)
            else:
                # Not exported, or exported before: it counts if it is one that programs read.
                assigned(self.scan, name, value)

    def assignment(self, node: Node) -> tuple[str, str]:
        """Name and value of an assignment; an array's name has its words joined."""
        named = node.named_children
        if not named:
            return "", ""
        name = self.reader.text(named[0]).partition("[")[0]
        for child in named[0].named_children:
            self.reader.words([child])
        return name, self.reader.one(named[1:]) if len(named) > 1 else ""

    def substituted(self, node: Node, stdin: Stream | None = None) -> str | None:
        """Code in a shell of its own: $(…), `…`, <(…), ( … ). Its output, where that is known."""
        if not self.quiet and stdin is None and self.reader.text(node).startswith(">("):
            self.outlets.append(node)
            return None
        if self.quiet:
            named = [child for child in node.named_children if child.type != "comment"]
            return self.printed(named[0]) if len(named) == 1 else None if named else ""
        with self.scan.deeper() as fits:
            if not fits:
                return None
            with self.scan.apart():
                text: str | None = ""
                first = True
                for child in node.named_children:
                    if child.type == "comment":
                        continue
                    if child.type == "file_redirect":
                        self.redirects([child], stdin)
                        text = None
                        continue
                    before = self.printed(child)
                    self.walk(child, stdin)
                    text = before if first else None
                    first = False
                return text

    def feed(self, met: int, stdin: Stream) -> None:
        """Judge each >(…) that was met since: it reads what the command in front of it writes."""
        fed, self.outlets[met:] = self.outlets[met:], []
        for node in fed:
            self.substituted(node, stdin)

    def passed(self, words: list[str], text: str | None) -> str | None:
        """What a command prints, and tee writes into each of its files."""
        copies = any(word.rpartition("/")[2] == "tee" for word in words)
        return text if copies else output(words, text)

    def printed(self, node: Node) -> str | None:
        """What a command prints, where its words alone say so."""
        if node.type == "command":
            words = self.quietly(node)
            return output(words, self.fed(node)) if words else None
        if node.type == "pipeline":
            text: str | None = None
            for number, child in enumerate(c for c in node.named_children):
                if child.type != "command":
                    return None
                text = output(self.quietly(child), text if number else self.fed(child))
                if text is None:
                    return None
            return text
        return None

    def quietly(self, node: Node) -> list[str]:
        """A command's words without findings: they are judged elsewhere."""
        count, steps, quiet = len(self.scan.findings), self.scan.steps, self.quiet
        self.quiet = True
        words = self.reader.words(
            [c for c in node.children if c.type == "command_name" or c.type in _WORDS]
        )
        del self.scan.findings[count:]
        self.scan.steps, self.quiet = steps, quiet
        return list(itertools.dropwhile("!".__eq__, words))

    def fed(self, node: Node) -> str | None:
        """The text that stands behind `<<<` in a command; None where there is none."""
        given = [c for c in node.named_children if c.type == "herestring_redirect"]
        if not given:
            return None
        count, quiet, self.quiet = len(self.scan.findings), self.quiet, True
        text = "".join(self.reader.one([c]) for c in given[-1].named_children)
        del self.scan.findings[count:]
        self.quiet = quiet
        return self.known(text + "\n")

    # -- commands

    def pipeline(self, node: Node, stdin: Stream | None) -> None:
        """a | b: what a prints is what b reads."""
        with self.scan.apart():
            for child in node.named_children:
                if child.type == "comment":
                    continue
                stdin = self.piped(child, stdin)

    def piped(self, node: Node, stdin: Stream | None) -> Stream:
        """Judge one part of a pipe and say what it prints."""
        start = len(self.scan.findings)
        text: str | None = None
        node = _affirmed(node)
        if node.type == "command":
            given = self.fed(node)
            text = self.passed(
                self.quietly(node), given if given is not None else stdin.text if stdin else None
            )
        elif node.type == "redirected_statement":
            text = self.redirected(node, stdin)
            return Stream(text, self.origin(start))
        self.walk(node, stdin)
        origin = self.origin(start) or (stdin.origin if stdin else "")
        passed = stdin.found if stdin else ()
        found = self.searched(node, passed) if node.type == "command" else ()
        # What passes something on may leave some of it out.
        return Stream(text, origin, found or tuple(path.removesuffix("/*") for path in passed))

    def searched(self, node: Node, passed: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The folders that a command lists names of, as find and git ls-files do; with /* behind
        it where it lists all that there is. grep behind a pipe passes on what it was given."""
        words = self.quietly(node)
        name = words[0].rpartition("/")[2] if words else ""
        if passed and name in ("grep", "rg"):
            return ()
        if name not in ("find", "fd", "ls", "rg", "grep", "git", "fdfind", "gfind", "tree"):
            return ()
        if name in ("find", "gfind"):
            starts = itertools.takewhile(lambda word: word[:1] not in ("-", "(", "!"), words[1:])
            found = tuple(starts) or (".",)
            return tuple(f"{path.rstrip('/')}/*" for path in found) if finds_all(words) else found
        if name == "ls":
            # Of a glob ls prints whole paths, of a folder the names in it.
            globs = {w.rpartition("/")[0] for w in words[1:] if "/" in w and re.search(r"[*?[]", w)}
            return tuple(sorted(globs)) or (".",)
        return (".",)

    def origin(self, start: int) -> str:
        """network, where something found since `start` came from there."""
        effects = [f.effect for f in self.scan.findings[start:] if f.effect is not None]
        return "network" if any(effect.kind == "network" for effect in effects) else ""

    def redirected(self, node: Node, stdin: Stream | None) -> str | None:
        """A statement with redirections; gives what it prints, where that is known."""
        body = [c for c in node.named_children if not c.type.endswith("_redirect")]
        redirects = [c for c in node.named_children if c.type.endswith("_redirect")]
        if len(body) == 1 and body[0].type == "list":
            # `a && b > file`: the grammar ties the file to the chain, the shell to its end, and
            # what runs before may have made the file a link or changed the folder.
            *before, last = self.parts(body[0])
            for part in before:
                self.walk(part, stdin)
            body = [last]
        self.written = []
        met, start = len(self.outlets), len(self.scan.findings)
        given, extra, after = self.redirects(redirects, stdin)
        written, self.written = self.written, []
        text: str | None = None
        for child in body:
            child = _affirmed(child)
            if child.type == "command":
                own = self.fed(child)
                text = self.passed(
                    [*self.quietly(child), *extra],
                    own if own is not None else given.text if given else None,
                )
                self.command(child, extra, given)
            else:
                self.walk(child, given)
        self.feed(met, Stream(text, self.origin(start)))
        for path in written:
            self.scan.wrote(path, text, self.origin(start))
        for follower in after:
            stream = Stream(text, self.origin(start))
            if follower.type == "pipeline":
                self.pipeline(follower, stream)
            elif follower.type in ("command", "redirected_statement"):
                # `cat <<E | sh`: the grammar puts what follows the pipe into the redirection.
                self.walk(follower, stream)
            else:
                self.walk(follower, None)
        return text

    def redirects(
        self, nodes: list[Node], stdin: Stream | None
    ) -> tuple[Stream | None, list[str], list[Node]]:
        """Files written and read; gives standard input, further words, and what follows."""
        extra: list[str] = []
        after: list[Node] = []
        for node in nodes:
            if node.type == "herestring_redirect":
                stdin = Stream(
                    self.known("".join(self.reader.one([c]) for c in node.named_children) + "\n")
                )
            elif node.type == "heredoc_redirect":
                stdin = self.heredoc(node)
                for child in node.named_children:
                    if child.type in (
                        "heredoc_start",
                        "heredoc_body",
                        "heredoc_end",
                        "file_descriptor",
                    ):
                        continue
                    if child.type.endswith("_redirect"):
                        stdin, more, follow = self.redirects([child], stdin)
                        extra += more
                        after += follow
                    elif child.type in _WORDS:
                        extra += self.reader.words([child])
                    else:
                        after.append(child)
            else:
                stdin, more = self.file_redirect(node, stdin)
                extra += more
        return stdin, extra, after

    def known(self, text: str) -> str | None:
        """A text, or None where part of it is only known at run time."""
        return None if any(mark in text for mark in (UNKNOWN, OUTPUT, PIPE)) else text

    def file_redirect(self, node: Node, stdin: Stream | None) -> tuple[Stream | None, list[str]]:
        """`> file`, `2>> file`, `< file`, `>& file`. Words behind the file are the command's."""
        sign = next((c.type for c in node.children if not c.is_named), ">")
        targets = [c for c in node.named_children if c.type != "file_descriptor"]
        met = len(self.outlets)
        words = self.reader.words(targets)
        number = next((c for c in node.named_children if c.type == "file_descriptor"), None)
        if number is not None and self.reader.text(number) != "1":
            self.feed(met, Stream())  # what is written there is not what the command prints
        if not words:
            return stdin, []
        target = words[0]
        if sign in (">&", "<&") and re.fullmatch(r"\d+-?|-", target):
            return stdin, words[1:]
        if target.startswith(("/dev/tcp/", "/dev/udp/")):
            self.scan.act(
                "send", target, why="opens a connection through the shell", command="redirection"
            )
            return Stream(None, "network"), words[1:]
        if target == PIPE:
            return stdin if sign.startswith(">") else Stream(None, self.origin(0)), words[1:]
        if sign.startswith("<"):
            place = self.scan.use("read", target, command="<")
            return Stream("" if place.kind == "null" else None), words[1:]
        self.scan.use("write", target, command=sign)
        self.written.append(target)
        return stdin, words[1:]

    def heredoc(self, node: Node) -> Stream:
        """A here-document: without quotes around its word, substitutions in it run."""
        start = next((c for c in node.named_children if c.type == "heredoc_start"), None)
        body = next((c for c in node.named_children if c.type == "heredoc_body"), None)
        if body is None:
            return Stream("")
        text = self.reader.text(body)
        mark = self.reader.text(start) if start is not None else ""
        if any(sign in mark for sign in "'\"\\"):
            return Stream(text)
        pieces: list[str] = []
        position = body.start_byte
        for child in body.named_children:
            if child.type == "heredoc_content":
                continue
            pieces.append(self.source[position : child.start_byte].decode("utf-8", "replace"))
            pieces.append("".join(piece.text for piece in self.reader.pieces(child)))
            position = child.end_byte
        pieces.append(self.source[position : body.end_byte].decode("utf-8", "replace"))
        # The grammar does not see backticks here, and bash runs them.
        joined = "".join(pieces)

        def run(found: re.Match[str]) -> str:
            with self.scan.apart():
                self.scan.script(re.sub(r"\\([`$\\])", r"\1", found[1]), "bash")
            return OUTPUT

        joined = re.sub(r"(?<!\\)`((?:\\.|[^`\\])*)`", run, joined)
        return Stream(self.known(joined))

    def command(self, node: Node, extra: list[str], stdin: Stream | None) -> None:
        """One command: assignments before it, its words, redirections within it, and what it
        writes into each >(…)."""
        met, start = len(self.outlets), len(self.scan.findings)
        words, stdin = self.called(node, extra, stdin)
        if len(self.outlets) > met:
            origin = self.origin(start) or (stdin.origin if stdin else "")
            text = self.passed(words, stdin.text if stdin else None)
            self.feed(met, Stream(text, origin))

    def called(
        self, node: Node, extra: list[str], stdin: Stream | None
    ) -> tuple[list[str], Stream | None]:
        """Judge a command by itself; gives its words, and what it reads."""
        nodes: list[Node] = []
        assignments: list[tuple[str, str]] = []
        redirects: list[Node] = []
        for child in node.children:
            kind = child.type
            if kind == "variable_assignment":
                assignments.append(self.assignment(child))
            elif kind.endswith("_redirect"):
                redirects.append(child)
            elif kind == "command_name" or kind in _WORDS:
                nodes.append(child)
            elif kind == "subshell" or kind == "ERROR" or kind == "comment":
                self.children(child)
            elif child.is_named:
                nodes.append(child)
        if redirects:
            stdin, more, after = self.redirects(redirects, stdin)
            extra = [*extra, *more]
            for follower in after:
                self.walk(follower, stdin)
        words = [*self.reader.words(nodes), *extra]
        for name, value in assignments:
            # `IFS=, read a b` splits what this one builtin reads, and runs nothing.
            if name and (name != "IFS" or words[:1] not in (["read"], ["mapfile"], ["readarray"])):
                assigned(self.scan, name, value)
        if not words:
            for name, value in assignments:
                self.scan.state.variables[name] = value
            return [], stdin
        self.scan.judge(words, stdin)
        return words, stdin
