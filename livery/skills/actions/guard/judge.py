"""A command's words, judged by the tables: its acts, its options, its operands.

Acts stand in scan.py (`ACTS`). Roles say what a word of the command is:

    none                     nothing: a pattern, a number, a name
    read write make delete tree modes script
                             a path, and what happens to it (places.py has the costs)
    move                     a path that is gone afterwards
    rmdir                    a folder that is deleted if it is empty
    exec                     this and all that follows is a command
    shell                    shell code
    program                  a program that will be run, with words
    sql, mongo               statements for a database
    url giturl host package copyhost gitpush sshoption gitconfig mode aptoption
                             see programs/words.py
    any act                  the word brings that act with it
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import replace

from livery.skills.actions.guard import tables
from livery.skills.actions.guard.arguments import parse
from livery.skills.actions.guard.places import MARKS, UNKNOWN, visible
from livery.skills.actions.guard.programs.registry import HANDLERS, ROLES, VERBS
from livery.skills.actions.guard.risk import Finding, Level
from livery.skills.actions.guard.scan import ACTS, Args, Call, Scan
from livery.skills.actions.guard.tables import Act, Spec

_PATHS = ("read", "write", "make", "delete", "tree", "modes", "script")
_BINARIES = re.compile(
    r"/(?:usr/|opt/homebrew/|home/linuxbrew/\.linuxbrew/|usr/local/|opt/local/"
    r"|run/current-system/sw/)?"
    r"s?bin/[^/]+|[a-z]:/windows/(?:system32|syswow64)(?:/windowspowershell/v1\.0)?/[^/]+"
    r"|c:/program files(?: \(x86\))?/.+",
    re.I,
)
_HELP = (
    "--help",
    "--version",
    "-V",
    "-h",
    "-version",
    "--usage",
    "/?",
    "version",
    "help",
    "-v",
    "--info",
)


# What an option does not do in a dry run.
_SAID_ONLY = ("change", "install", "lose", "remote", "destroy", "system", "wreck")

# What -WhatIf keeps a cmdlet from doing, whichever way the path is given.
_CHANGES = ("delete", "move", "write", "make", "modes")


def _said_only(spec: Spec, act: str) -> bool:
    return act in _SAID_ONLY or (spec.style == "ps" and act in _CHANGES)


_OPENING = ("{", "!", "do", "then", "else", "elif", "if", "while", "until")
_CLOSING = ("}", "fi", "done", "esac")


def judge(scan: Scan, call: Call) -> None:
    """Judge one command, given as words."""
    start, overrides = len(scan.findings), len(scan.overrides)
    name = call.words[0]
    if not name:
        if len(call.words) > 1:
            scan.judge(call.words[1:], call.stdin)
        return
    if name == ":" or name in _CLOSING:
        return
    if name in _OPENING and scan.dialect == "bash":
        # Where the grammar takes a block for a command (`! { …; }`), its words still run.
        scan.judge(call.words[1:], call.stdin)
        return
    if any(mark in name for mark in MARKS):
        _unread_name(scan, call)
        return
    if name in scan.state.functions:
        scan.state.functions[name](call)
        return
    if name in scan.state.aliases and scan.loops.count(name) == 0:
        scan.loops.append(name)
        words = [re.sub(r"(?<!^)'", "'\\''", word) for word in call.words[1:]]
        quoted = " ".join(f"'{word}'" for word in words)
        scan.script(f"{scan.state.aliases[name]} {quoted}", "bash", call.stdin)
        scan.loops.remove(name)
        return
    if any(sign in name for sign in "*?[") and name != "[":
        _globbed_name(scan, call)
        return
    spec = _lookup(scan, call)
    if spec is None:
        return
    args = parse(spec, call.words[1:])
    call.command = args.spec.name
    run(scan, call, args)
    _overrule(scan, call, args, start, overrides)


def judge_action(scan: Scan, verb: str, argument: str, runs: str = "") -> None:
    """Judge an [ACTION]: a verb of the tables, or one of the user's own.

    Args:
        runs: "shell" or "code" where a verb that the tables lack runs its argument as such.
    """
    start, overrides = len(scan.findings), len(scan.overrides)
    call = Call([verb, argument] if argument else [verb], name=verb, command=verb)
    spec = tables.action(verb) or (tables.action(_RUNS[runs]) if runs else None)
    args = Args(spec or Spec(verb), operands=[argument] if argument else [])
    if spec is None:
        scan.unclear(f"{verb}: a verb whose effect only its runtime knows", command=verb)
    else:
        run(scan, call, args)
    _overrule(scan, call, args, start, overrides)


_RUNS = {"shell": "shell", "code": "exec_code"}


def run(scan: Scan, call: Call, args: Args) -> None:
    """Note what a command does whose words are read."""
    spec, command = args.spec, call.command
    words = call.words[1:]
    if len(words) == 1 and words[0] in _HELP and (words[0].startswith("-") or spec.other):
        return
    if _asks_for_help(call, spec):
        return
    tree = args.has(*spec.tree)
    if args.has(*spec.dry):
        spec = replace(spec, acts=())
    handled = HANDLERS[spec.handler](scan, call, args) if spec.handler else False
    if handled is True:
        return
    for act in spec.acts:
        scan.act(act.name, _what(call, args), level=act.level, why=act.why, command=command)
    if spec.other is not None and args.operands and not spec.acts:
        _unlisted(scan, call, args)
    elif spec.bare is not None and not args.operands:
        act = spec.bare
        scan.act(act.name, command, level=act.level, why=act.why, command=command)
    dry = args.has(*spec.dry)
    for (flag, value), option in zip(args.flags, args.options, strict=True):
        if flag in spec.tree or (dry and _said_only(spec, option.act.name)):
            continue
        give(scan, call, option.act, flag if value is None else value, source=flag)
        if value and option.act.name == "none" and not _NO_PATH.search(flag):
            _swallowed(scan, call, spec, value, tree=tree)
    if (
        spec.style == "ps"
        and call.stdin is not None
        and not args.operands
        and spec.operands is not None
        and spec.operands.name in ("delete", "move", "write", "modes")
        and not any(value for _, value in args.flags)
    ):
        args.operands = list(call.stdin.found) or [UNKNOWN]
        if call.stdin.text is not None:
            args.operands = call.stdin.text.splitlines() or [UNKNOWN]
    if spec.style == "stop" and spec.operands is not None and spec.operands.name == "exec":
        # An option that only some of these programs give a value may have swallowed the command.
        for flag, value in args.flags:
            if value and "=" not in flag and _known_program(value.rpartition("/")[2]) is not None:
                scan.judge(words[words.index(value) :] if value in words else [value], call.stdin)
    count = len(args.operands)
    for number, word in enumerate(args.operands):
        role = spec.operands
        if spec.first is not None and number == 0:
            role = spec.first
        elif (
            spec.last is not None
            and (number == count - 1 or (number and spec.style == "ps"))
            and (count > 1 or spec.first)
            and not args.has("-t", "--target-directory")
        ):
            role = spec.last
        if role is None:
            continue
        if role.name in ("exec", "shell"):
            rest = args.operands[number:]
            if role.name == "exec":
                _run_rest(scan, call, rest)
            else:
                scan.script(" ".join(rest), "bash", call.stdin)
                # Some of these programs take a command an operand, or run them as they are.
                for word in rest if len(rest) > 1 else ():
                    if " " in word:
                        scan.script(word, "bash", call.stdin)
            return
        if tree and role.name in ("delete", "modes"):
            role = replace(role, name="tree" if role.name == "delete" else "open")
        if dry and spec.style == "ps" and role.name in _CHANGES:
            continue
        if dry and role.name in ("delete", "tree", "modes", "open"):
            role = replace(role, name="read" if role.name == "modes" else "none")
        give(scan, call, role, word, source=word)


# Options whose value is a pattern, also where it looks like a path.
_NO_PATH = re.compile(r"clude|ignore|^-[exX]$|regexp|filter|pattern")


def _swallowed(scan: Scan, call: Call, spec: Spec, value: str, *, tree: bool) -> None:
    """A path that only some programs of a rule take for an option's value (`head -n 5`, and `cat -n
    ~/.ssh/id_rsa`) counts as the operand that it may be."""
    role = spec.operands
    if role is None or role.name not in _PATHS:
        return
    if scan.place(value).kind not in ("null", "project", "temp", "unknown"):
        name = {"delete": "tree", "modes": "open"}.get(role.name, role.name) if tree else role.name
        give(scan, call, replace(role, name=name), value, source=value)


def _run_rest(scan: Scan, call: Call, rest: list[str]) -> None:
    """What a wrapper runs. Where its first word is no program, it may be an option's value."""
    scan.judge(rest, call.stdin)
    first, second = (_known_program(word.rpartition("/")[2]) for word in (*rest, "", "")[:2])
    if first is None and second is not None:
        scan.judge(rest[1:], call.stdin)


def _asks_for_help(call: Call, spec: Spec) -> bool:
    """`git push --help`: subcommands and nothing else before it."""
    *words, last = call.words[1:] or [""]
    if last not in ("--help", "-help") or not words:
        return False
    if spec.handler == "verbs":
        return all(re.fullmatch(r"[a-z][a-z0-9:-]*", word) for word in words)
    return words == call.command.split()[1:]


def give(scan: Scan, call: Call, act: Act, word: str, *, source: str = "") -> None:
    """Note what one word does, by its role or act."""
    if act.name in _PATHS or act.name == "open":
        least = act.level or Level.LOW
        scan.use(act.name, word, command=call.command, at_least=least, source=source)
    elif act.name in ACTS:
        scan.act(
            act.name, word, level=act.level, why=_why(call, act, source), source=source,
            command=call.command,
        )  # fmt: skip
    elif act.name == "exec":
        scan.judge([word], call.stdin)
    elif act.name == "shell":
        scan.script(word, "bash", call.stdin)
    else:
        ROLES[act.name](scan, call, word, act)


def _lookup(scan: Scan, call: Call) -> Spec | None:
    """The rule for a command's name; where there is none, a finding says what is run."""
    name = call.words[0].replace("\\", "/")
    base = name.rpartition("/")[2]
    if scan.dialect == "powershell" and re.fullmatch(r"[\w.]+\\\w+-\w+", call.words[0]):
        name = base  # Module\Verb-Noun
    if scan.dialect == "powershell" and "/" not in name:
        spec = tables.cmdlet(base.lower()) or _by_verb(base)
        if spec is not None:
            call.name = base
            return spec
    if base.lower().endswith((".exe", ".cmd", ".bat", ".com")) and tables.program(base) is None:
        base = base[:-4]
    spec = _known_program(base, dos_first=scan.dialect == "cmd")
    if re.search(r"\s", name) and _known_program("".join(name.split()[:1]).rpartition("/")[2]):
        scan.unclear(f"{visible(name)}: one name that reads like a command")
    if "/" in name:
        call.name = base
        if spec is not None and _BINARIES.fullmatch(name):
            return spec
        scan.use("script", name, command=name)
        if spec is None:
            call.command = name
            return Spec(name)
        return spec
    call.name = base
    if spec is not None:
        return spec
    if re.fullmatch(r"[\w.+-]*(?:rc|history|profile)", base) and "." in base[:1]:
        scan.unclear(f"{visible(base)}: a file name where a command should be")
        return None
    scan.unclear(f"{visible(base)}: no program that the guard knows", command=base)
    start = len(scan.findings) - 1
    call.command = base
    _overrule(scan, call, Args(Spec(base), operands=call.words[1:]), start, len(scan.overrides))
    return None


def _by_verb(name: str) -> Spec | None:
    """A rule for a cmdlet that no table has: Get-… reads, Remove-… deletes."""
    verb, dash, noun = name.lower().partition("-")
    act = VERBS.get(verb) if dash and noun.isalnum() else None
    if act is None:
        return None
    secret = act == "read" and re.search(r"credential|secret|password|token|key", noun)
    return Spec(name, acts=(Act(act, Level.HIGH if secret else None),), style="ps")


def _known_program(base: str, *, dos_first: bool = False) -> Spec | None:
    for name in dict.fromkeys((base, base.lower())):
        spec = tables.program(name) or tables.dos(name)
        if dos_first:
            spec = tables.dos(name) or spec
        if spec is not None:
            return spec
    # Versions: python3.12, gcc-13, clang++-17.
    bare = re.sub(r"-?\d+(?:\.\d+)*$", "", base)
    if bare and bare != base:
        return tables.program(bare) or tables.program(bare + "3")
    return None


def _unread_name(scan: Scan, call: Call) -> None:
    scan.unclear("a command whose name is only known at run time")
    rest = [word for word in call.words[1:] if word]
    name = call.words[0].replace(UNKNOWN, "")
    if rest and name == "":
        # `$SUDO rm -rf /`: an empty variable leaves the rest as the command.
        known = _known_program(rest[0].rpartition("/")[2])
        if known is not None:
            scan.judge(rest, call.stdin)
    elif name and _known_program(name.rpartition("/")[2]) is not None:
        scan.judge([name, *call.words[1:]], call.stdin)


def _globbed_name(scan: Scan, call: Call) -> None:
    """A name such as /bin/r? : whatever programs it may mean."""
    scan.unclear(f"{visible(call.words[0])}: a pattern where a command's name should be")
    pattern = call.words[0].rpartition("/")[2]
    names = [name for name in tables.program_names() if fnmatch.fnmatchcase(name, pattern)]
    for name in names[:40]:
        scan.judge([name, *call.words[1:]], call.stdin)


def _unlisted(scan: Scan, call: Call, args: Args) -> None:
    """A subcommand that the rule does not list."""
    act = args.spec.other
    assert act is not None
    word = args.operands[0]
    said = f"{visible(word)}: no subcommand of {args.spec.name} that the guard knows"
    scan.act(act.name, word, level=act.level, why=act.why or said, command=call.command)


def _why(call: Call, act: Act, source: str) -> str:
    return f"{source} {act.why}" if act.why and source.startswith(("-", "/")) else act.why


def _what(call: Call, args: Args) -> str:
    return " ".join([call.command, *args.operands[:1]])


def _overrule(scan: Scan, call: Call, args: Args, start: int, overrides: int) -> None:
    """A rule of the user's policy takes the place of what the tables say of this command.

    It raises whatever is there. It lowers what the command does by itself and what comes of the
    options and operands that it names; what comes of others (`--force`, another path, a command
    within) stays. A critical finding is lowered only by a rule that names the operand.
    """
    policy = scan.policy
    if not policy.commands:
        return
    flags = [flag for flag, _ in args.flags]
    rule = policy.rule_for([*call.command.split(), *args.operands, *flags])
    if rule is None:
        rule = policy.rule_for(call.words)
    if rule is None:
        return
    was = max((f.level for f in scan.findings[start:]), default=Level.LOW)
    named = rule.match.split()
    if rule.level > was:
        scan.add(None, rule.level, f"{call.command}: the policy says so", command=call.command)
        scan.overrides.append(rule.said(was))
        return
    extra = len(named) > len(call.command.split())

    def lowered(finding: Finding) -> Finding:
        if finding.level <= rule.level or finding.command != call.command:
            return finding
        source = finding.source
        option = source.startswith("-")
        free = not source or source in named or (not option and not extra)
        if option and source not in named:
            free = False
        if not option and source and extra:
            free = any(fnmatch.fnmatchcase(source, word) for word in named)
        if finding.level is Level.CRITICAL and not (extra and source):
            free = False
        return replace(finding, level=rule.level) if free else finding

    scan.over(start, lowered)
    now = max((f.level for f in scan.findings[start:]), default=Level.LOW)
    if now < was:
        scan.overrides.append(rule.said(was))
    elif now > rule.level:
        scan.overrides.append(
            f"policy: {rule.match} is {rule.level}, but more is done here than the rule names"
        )
