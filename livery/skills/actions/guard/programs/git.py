"""git: what an option or operand turns a subcommand into."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, UNKNOWN, visible
from livery.skills.actions.guard.programs.words import git_setting
from livery.skills.actions.guard.scan import Args, Call, Scan


def git(scan: Scan, call: Call, args: Args) -> bool | None:
    """git itself: here no subcommand was found that the table lists."""
    if not args.operands:
        return None
    name = args.operands[0]
    if UNKNOWN in name or OUTPUT in name:
        scan.unclear("git: a subcommand that is only known at run time")
    else:
        scan.unclear(
            f"git {visible(name)}: no subcommand that the guard knows; an alias may run anything",
            command=call.command,
        )
    return None


def checkout(scan: Scan, call: Call, args: Args) -> bool | None:
    """git checkout: of a branch it moves on, of files it discards their changes."""
    files = args.operands[args.dashed :] if args.dashed is not None else []
    named = args.operands if args.dashed is None else args.operands[: args.dashed]
    branch = args.has("-b", "-B", "--orphan", "-t")
    for word in files:
        scan.act("lose", word, why=f"discards changes of {word}", command=call.command, source=word)
    if not branch and args.dashed is None:
        for number, word in enumerate(named):
            if (
                word in (".", "*", ":/")
                or word.startswith(("./", "../", ":"))
                or "*" in word
                or number > 0
                or (re.search(r"[^/]\.\w{1,4}$", word) and not re.search(r"\d\.\d|^v\d", word))
            ):
                scan.act(
                    "lose",
                    word,
                    why=f"discards changes of {word}",
                    command=call.command,
                    source=word,
                )
    return None


def diff(scan: Scan, call: Call, args: Args) -> None:
    """git diff: of two paths outside the repository it prints both."""
    for word in args.operands:
        if args.has("--no-index") or scan.place(word).kind != "project":
            scan.use("read", word, command=call.command)


def restore(scan: Scan, call: Call, args: Args) -> bool:
    """git restore: of files it discards their changes, with --staged alone only what is staged."""
    flags = {word.partition("=")[0] for word in call.words if word.startswith("-")}
    staged = any(flag == "-S" or (len(flag) > 3 and "--staged".startswith(flag)) for flag in flags)
    worktree = any(
        flag == "-W"
        or (len(flag) > 3 and "--worktree".startswith(flag))
        or re.fullmatch(r"-\w*W\w*", flag)
        for flag in flags
    )
    staged = staged or any(re.fullmatch(r"-\w*S\w*", flag) for flag in flags)
    if staged and not worktree:
        scan.act("change", call.command, command=call.command)
    else:
        for word in args.operands or ["."]:
            scan.act(
                "lose", word, why=f"discards changes of {word}", command=call.command, source=word
            )
    return True


def reset(scan: Scan, call: Call, args: Args) -> bool | None:
    """git reset: abbreviations of --hard count too (the options' own parsing sees to them)."""
    return None


def branch(scan: Scan, call: Call, args: Args) -> bool | None:
    """git branch and tag: without a name they list, with one they create."""
    lists = args.has(
        "-l",
        "--list",
        "-a",
        "-r",
        "--all",
        "--remotes",
        "--contains",
        "--merged",
        "--no-merged",
        "--points-at",
        "--show-current",
        "-v",
        "--verify",
    )
    if args.has("-d", "--delete") and args.has("-f", "--force"):
        scan.act(
            "lose",
            call.command,
            why="may delete commits that are nowhere else",
            command=call.command,
            source="-d",
        )
    if args.operands and not lists:
        scan.act("change", call.command, command=call.command)
    return None


def bisect(scan: Scan, call: Call, args: Args) -> bool | None:
    """git bisect run: runs a command at each step."""
    if args.operands[:1] == ["run"]:
        at = call.words.index("run")
        scan.judge(call.words[at + 1 :])
    return None


def update_ref(scan: Scan, call: Call, args: Args) -> bool | None:
    """git symbolic-ref shows with one operand."""
    return call.command.endswith("symbolic-ref") and len(args.operands) == 1


def config(scan: Scan, call: Call, args: Args) -> bool:
    """git config: shows, or sets a value, which may be a program."""
    at = call.words.index("config") if "config" in call.words else 0
    words = [word for word in call.words[at + 1 :] if not word.startswith("-")]
    flags = [word for word in call.words[at + 1 :] if word.startswith("-")]
    if words and words[0] in (
        "get",
        "list",
        "set",
        "unset",
        "edit",
        "rename-section",
        "remove-section",
    ):
        verb, words = words[0], words[1:]
    else:
        verb = ""
    if verb in ("get", "list") or any(
        re.fullmatch(r"-l|--list|--get.*|--show-\w+", flag) for flag in flags
    ):
        return True
    if verb == "edit" or "-e" in flags or "--edit" in flags:
        scan.act("change", call.command, command=call.command)
        return True
    if "-f" in flags or "--file" in flags:
        words = words[1:] if words and ("/" in words[0] or "." in words[0][:1]) else words
    if len(words) == 1 and not verb and not any(flag.startswith("--unset") for flag in flags):
        return True
    if words:
        scan.act("change", words[0], command=call.command)
        if "--global" in flags or "--system" in flags:
            scan.act(
                "change",
                words[0],
                why="changes git's settings for all projects",
                command=call.command,
            )
        if not any(flag.startswith("--unset") for flag in flags) and verb != "unset":
            git_setting(scan, call, words[0], words[1] if len(words) > 1 else None)
    return True


HANDLERS = {
    "git": git, "gitdiff": diff, "checkout": checkout, "restore": restore, "reset": reset,
    "branch": branch, "bisect": bisect, "update_ref": update_ref, "gitconfig": config,
}  # fmt: skip
