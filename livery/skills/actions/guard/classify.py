"""`classify`: a command as text in, its risk out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from livery.errors import UserError
from livery.skills.actions.guard.hidden import deceives, escaped, without
from livery.skills.actions.guard.risk import Effect, Finding, Level, Risk, verdict

if TYPE_CHECKING:
    from livery.skills.actions.guard.policy import Policy
    from livery.skills.actions.guard.scan import Scan, Stream

Shell = Literal["bash", "powershell", "auto"]
MAX_CHARACTERS = 16_384  # of one piece; longer code is high, and judged piece by piece
FAULT = "the guard itself failed on this"
MAX_PIECES = 3

_POWERSHELL = re.compile(
    r"(?<![\w./-])(?:get|set|new|remove|add|start|stop|restart|invoke|select|where"
    r"|foreach|sort|measure|format|out|write|read|test|import|export|"
    r"convertto|convertfrom|copy|move|rename|clear|compare|group|join|split|resolve"
    r"|enable|disable|install|uninstall|register|unregister|update|"
    r"enter|exit|push|pop|expand|compress|send|show|wait|receive|find|save|checkpoint"
    r"|suspend|resume|mount|dismount|initialize|tee|trace|unblock|grant"
    r"|revoke)-[a-z]{3,}\b(?!-)"
    r"|\$env:|\$_\b|\$(?:true|false|null|psitem|pscommandpath|profile|pshome)\b"
    r"|\[[\w.]+\]::|-(?:encodedcommand|erroraction|executionpolicy|recurse)\b"
    r"|\b(?:iex|irm|iwr)\b|@\{|\b[a-z]:\\(?!\w+=)|(?:^|[;|&]\s*)\$\w+\s*=\s",
    re.I,
)


def classify(command: str, shell: Shell = "auto", *, policy: Policy | None = None) -> Risk:
    """How dangerous a command is.

        classify("rm -rf build").level          # Level.HIGH: deletes in the project
        classify("Get-Process", "powershell")   # low: reads

    Nothing is run and no file is looked at. What cannot be understood is high or above.

    Args:
        command: one command or a whole script.
        shell: what would run it. `auto` reads it as PowerShell where it looks like that and as bash
            otherwise; where both could be meant, the worse reading counts.
        policy: the user's own rules (`load_policy`).

    Raises:
        UserError: the extra `shell` is not installed.
    """
    if not isinstance(command, str):
        raise TypeError(f"command must be a str, not {type(command).__name__}")
    if shell not in ("bash", "powershell", "auto"):
        raise UserError(
            f"{shell!r} is not a shell that the guard reads: choose bash, powershell or auto."
        )
    text = command.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    shown = escaped(command)
    findings: list[Finding] = []
    overrides: list[str] = []
    readings = dict.fromkeys((_clean(text), _clean(without(text))))
    looks = _POWERSHELL.search(text) is not None
    read_as = shell if shell != "auto" else "powershell" if looks else "bash"
    for reading in readings:
        some, over = _judged(reading, read_as, policy)
        if shell == "auto" and looks:
            # It may still be meant for bash: what bash would understand in it counts too.
            other, more = _judged(reading, "bash", policy)
            if not _broken(other):
                some += [f for f in other if not f.unknown]
            over += more
        findings += some
        overrides += over
    hidden = deceives(command)
    if hidden:
        findings.append(Finding(None, Level.HIGH, f"holds {hidden}, which a reader does not see"))
    return verdict(_leaks(findings), shell=read_as, shown=shown, overrides=overrides)


def classify_action(
    verb: str, argument: str = "", runs: str = "", *, policy: Policy | None = None
) -> Risk:
    """The risk of an [ACTION]: `classify_action("open_url", "https://example.org")` is medium.

    Args:
        verb: as the contract of actions writes it; a verb that the guard does not know is high.
        argument: what it is given.
        runs: "shell" or "code" where the user's own verb runs its argument as such.
        policy: the user's own rules; `match: lights_on` sets the level of a verb.
    """
    from livery.skills.actions.guard.judge import judge_action
    from livery.skills.actions.guard.scan import TooLong

    scan = new_scan(policy)
    try:
        judge_action(scan, verb, _clean(without(argument))[: MAX_CHARACTERS * 2], runs)
    except (TooLong, RecursionError):
        scan.unclear("too long or too deeply nested to be judged as a whole")
    if hidden := deceives(argument):
        scan.unclear(f"holds {hidden}, which a reader does not see")
    shown = escaped(f"{verb}: {argument}" if argument else verb)
    return verdict(_leaks(scan.findings), shell="", shown=shown, overrides=scan.overrides)


def _judged(text: str, shell: str, policy: Policy | None) -> tuple[list[Finding], list[str]]:
    from livery.skills.actions.guard.scan import TooLong

    scan = new_scan(policy)
    pieces = _pieces(text)
    if len(pieces) > 1:
        scan.unclear("too long to be judged as a whole")
    for piece in pieces[: MAX_PIECES - 1] + pieces[-1:] if len(pieces) > MAX_PIECES else pieces:
        try:
            read(scan, piece, shell, None)
        except (TooLong, RecursionError):
            scan.unclear("too long or too deeply nested to be judged as a whole")
            scan.start_again()
        except UserError:
            raise
        except Exception as error:  # a fault of the guard's own must not let a command through
            scan.unclear(f"{FAULT} ({type(error).__name__}): please report this command")
    return scan.findings, scan.overrides


def new_scan(policy: Policy | None = None) -> Scan:
    """A fresh judging.

    Raises:
        UserError: the extra `shell` is not installed.
    """
    from livery.skills.actions.guard.policy import Policy
    from livery.skills.actions.guard.scan import Scan

    try:
        from livery.skills.actions.guard.judge import judge
    except ModuleNotFoundError as error:
        raise UserError(
            f"The guard needs {error.name}. Install the extra: pip install 'livery[shell]'"
        ) from error
    return Scan(policy or Policy(), judge, read)


def read(scan: Scan, text: str, shell: str, stdin: Stream | None) -> None:
    """Judge code of a shell: bash, powershell, cmd, or what a [SHELL] tag holds."""
    try:
        from livery.skills.actions.guard import bash, cmd, powershell
    except ModuleNotFoundError as error:
        raise UserError(
            f"The guard needs {error.name}. Install the extra: pip install 'livery[shell]'"
        ) from error
    if shell == "tag":
        shell = "powershell" if _POWERSHELL.search(text) else "bash"
    if len(text) > MAX_CHARACTERS:
        scan.unclear("too long to be judged as a whole")
        text = text[:MAX_CHARACTERS]
    kept, scan.dialect = scan.dialect, shell
    try:
        if shell == "powershell":
            powershell.read(scan, text, stdin)
        elif shell == "cmd":
            cmd.read(scan, text, stdin)
        else:
            bash.read(scan, text, stdin)
    finally:
        scan.dialect = kept


def _pieces(text: str) -> list[str]:
    """Text cut where lines or commands end, a piece short enough to be judged each."""
    pieces: list[str] = []
    while len(text) > MAX_CHARACTERS:
        at = max(text.rfind(sign, MAX_CHARACTERS // 2, MAX_CHARACTERS) for sign in "\n;&|")
        at = at + 1 if at > 0 else MAX_CHARACTERS
        pieces.append(text[:at])
        text = text[at:]
    return [*pieces, text]


def _clean(text: str) -> str:
    """Without the private characters that the guard uses for itself."""
    return re.sub("[\ue000-\ue004\x01]", "?", text)


def _broken(findings: list[Finding]) -> bool:
    return any(finding.unknown and finding.why.startswith("not valid bash") for finding in findings)


def _leaks(findings: list[Finding]) -> list[Finding]:
    """A secret that is read where data leave the machine is one that leaks."""
    kinds = {finding.secret for finding in findings}
    if {"read", "send"} <= kinds:
        what = next(f.effect.what for f in findings if f.secret == "read" and f.effect is not None)
        effect = Effect("network", "system", what)
        return [
            *findings,
            Finding(effect, Level.CRITICAL, f"a secret may leave the machine: {what}"),
        ]
    return findings
