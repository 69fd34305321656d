"""Command lines of services: what they do is told by the verb among their words."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, UNKNOWN
from livery.skills.actions.guard.risk import Effect, Level
from livery.skills.actions.guard.scan import Args, Call, Scan

_READ = frozenset(
    "get list ls ll describe show view info status st logs log top stat head cat du df "
    "find checks search diff history events explain version versions help whoami "
    "check validate lint test template plan preview dry-run inspect tail wait watch "
    "metrics usage query scan lookup print dump-config config-view ps images "
    "estimate count tree lookup-events filter presign api-resources api-versions "
    "cluster-info completion auth-status current-context snapshots dashboard diagnose "
    "doctor "
    "health ping time resolve read peek topics options values notes manifest "
    "rollout-status compare verify stats list-parts select batch-get browse home open "
    "env regions zones graph verify-token list-keys".split()
)
_LOSE = frozenset(
    "delete del destroy remove rm rb terminate purge drop wipe reset revoke prune "
    "deregister disable cancel abort kill evict drain nuke clean clear erase cleanup "
    "uninstall teardown down force-unlock rollback undo flushall flushdb detach "
    "disassociate decommission shutdown truncate expire forget unpublish delete-all "
    "archive down refresh:destroy revert release-db".split()
)
_LOCAL = frozenset(
    (
        "init new generate gen build compile fmt format codegen use set-context "
        "use-context login-status completion add-repo pull package dependency create-local "
        "dev serve start serve-local run-local"
    ).split()
)
_SECRETS = re.compile(
    r"secret|password|credential|token|private-?key|kubeconfig|access-key"
    r"|ssm.*get-parameter|get-session|assume-role|print-access",
    re.I,
)


def verbs(scan: Scan, call: Call, args: Args) -> bool:
    """Judge by the first word that is a verb: get- looks, delete- destroys, others change."""
    name = call.name
    words = [word for word in args.operands if not word.startswith("-")]
    raw = call.words[1:]
    dry = any(
        re.fullmatch(
            r"--dry-?run(?:=(?:client|server|true))?|--dryrun|--what-if|--noop|--check", word
        )
        for word in raw
    )
    if _special(scan, call, words, raw, dry=dry):
        return True
    if name in ("ollama", "replicate", "modal") and words[:1] in (["list"], ["ps"], ["show"]):
        return True
    if not words:
        if name == "vercel" or [word for word in raw if not re.match(r"--?(?:v|h|V)", word)]:
            scan.act("remote", name, command=call.command)
        return True
    # gh names the thing first: `gh run view`.
    asked = words[1:2] if name in ("gh", "glab") and len(words) > 1 else words[:4]
    verdict = next((found for word in asked if (found := _verb(word))), "change")
    if verdict == "local" and name in _SERVICES and _verb(words[0]) != "local":
        verdict = "change"  # `gcloud compute instances start` starts nothing here
    text = " ".join([name, *words[:3]])
    if any(UNKNOWN in word or OUTPUT in word for word in words[:2]):
        scan.unclear(f"{name}: a verb that is only known at run time")
    elif verdict == "read":
        secret = _SECRETS.search(" ".join(words[:3])) is not None
        level = (
            Level.HIGH
            if secret and _verb_word(words) not in ("list", "ls", "describe")
            else Level.LOW
            if call.name in _LOCAL_TOOLS
            else Level.MEDIUM
        )
        if name in ("kubectl", "oc", "k", "gh", "glab", "helm") and not secret:
            level = Level.LOW if name in ("kubectl", "oc", "k", "helm") else Level.MEDIUM
        scan.add(
            Effect("read" if secret else "network", "system", text),
            level,
            f"{text}: {'prints a secret' if secret else 'reads from a service'}",
            command=call.command,
            secret="read" if secret else "",
        )
    elif dry:
        scan.act("look", text, why="says what it would do", command=call.command)
    elif verdict == "lose":
        scan.act("destroy", text, command=call.command)
    elif verdict == "local":
        scan.act("run", text, command=call.command)
    else:
        scan.act("remote", text, command=call.command)
    return True


# Options of `aws s3 cp` and the like that take no value.
_AWS_FLAGS = re.compile(
    r"--(?:no-.*|recursive|dryrun|quiet|delete|only-show-errors|follow-symlinks|exact-timestamps"
    r"|size-only|force-glacier-transfer|ignore-glacier-warnings|debug|validate-same-s3-paths)"
)


def _without_values(raw: list[str], verb: str) -> list[str]:
    """What aws copies and where to: the words behind a verb without options and their values."""
    rest = raw[raw.index(verb) + 1 :]
    return [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("--")
        and (not before.startswith("--") or "=" in before or _AWS_FLAGS.fullmatch(before))
    ]


_LOCAL_TOOLS = frozenset(
    (
        "ollama vagrant minikube kind k3d colima lima virsh VBoxManage vboxmanage vmrun "
        "alembic knex sequelize typeorm flyway liquibase goose dbmate migrate sqitch "
        "drizzle-kit diesel sqlx prisma mlflow dbt"
    ).split()
)


# Nothing that these start is on this machine.
_SERVICES = (
    "aws",
    "gcloud",
    "az",
    "oci",
    "ibmcloud",
    "doctl",
    "linode-cli",
    "hcloud",
    "scw",
    "exo",
)

# Password managers: what they show are secrets.
_VAULTS = ("op", "bw", "lpass", "doppler", "infisical", "vault")


def _prints_secret(scan: Scan, call: Call) -> None:
    effect = Effect("read", "system", call.command)
    why = f"{call.command}: prints or changes secrets"
    scan.add(effect, Level.HIGH, why, command=call.command, secret="read")


def _verb_word(words: list[str]) -> str:
    return next((re.split(r"[-:_.]", word)[0] for word in words[:4] if _verb(word)), "")


def _verb(word: str) -> str:
    lowered = word.lower()
    parts = [part for part in re.split(r"[-:_./]", lowered) if part]
    for part in (lowered, *parts[:1], *parts[-1:]):
        if part in _LOSE:
            return "lose"
    for part in (lowered, *parts[:1]):
        if part in _READ:
            return "read"
        if part in _LOCAL:
            return "local"
    if parts and parts[0] in (
        "create", "update", "put", "set", "apply", "run", "start", "stop", "restart", "modify",
        "add", "attach", "enable", "deploy", "push", "publish", "sync", "cp", "mv", "send",
        "scale", "patch", "edit", "replace",
        "exec", "invoke", "import", "export", "upload", "reboot", "merge", "close", "reopen",
        "comment", "approve", "review", "rename", "transfer", "fork", "migrate", "promote",
        "rollout", "taint", "label", "annotate",
        "install", "upgrade", "register", "tag", "untag", "grant", "login", "logout", "ssh",
        "clone", "checkout", "restore", "up", "backup", "copy", "write", "connect", "proxy", "port",
        "expose", "autoscale", "cordon", "uncordon", "suspend", "resume", "rotate", "import",
        "unset",
    ):  # fmt: skip
        return "change"
    return ""


def _special(scan: Scan, call: Call, words: list[str], raw: list[str], *, dry: bool) -> bool:
    """What the verb alone does not tell."""
    name = call.name
    if name in _VAULTS and _verb_word(words) not in ("list", "ls", "status", "version", ""):
        _prints_secret(scan, call)
        return True
    if name in ("kubectl", "oc", "k") and words[:2] == ["config", "view"] and "--raw" in raw:
        _prints_secret(scan, call)
        return True
    if name == "helm" and words[:1] == ["repo"]:
        scan.act("look", call.command, why="changes where charts come from", command=call.command)
        return True
    if words[:1] in (["config"], ["configure"], ["context"]):
        if _SECRETS.search(words[-1].replace("_", "-")):
            _prints_secret(scan, call)
        shows = (words[1:2] and _verb(words[1]) == "read") or "current" in "".join(words[1:2])
        if not shows:
            scan.act("change", call.command, why="changes its settings", command=call.command)
        return True
    if name in ("gh", "glab", "hub") and words[:1] == ["api"]:
        return _api(scan, call, raw, words)
    if name in ("gh", "glab") and (
        words[:2] in (["auth", "status"], ["repo", "view"])
        or words[:1] in (["status"], ["browse"], ["search"])
    ):
        scan.act("look", call.command, command=call.command)
        return True
    if name in ("gh", "glab") and len(words) > 1 and words[1] in ("clone", "checkout"):
        scan.act("look", call.command, command=call.command)
        scan.act("change", call.command, command=call.command)
        return True
    if name in ("kubectl", "oc", "k", "kubecolor") and words[:1] in (
        ["exec"],
        ["debug"],
        ["run"],
        ["attach"],
        ["cp"],
    ):
        scan.act("remote", call.command, why="runs a command in a cluster", command=call.command)
        if "--" in raw:
            scan.judge(raw[raw.index("--") + 1 :])
        return True
    if name in ("kubectl", "oc", "k") and (
        words[:2]
        in (
            ["rollout", "status"],
            ["rollout", "history"],
            ["auth", "can-i"],
            ["config", "get-contexts"],
            ["config", "current-context"],
        )
        or words[:1] in (["port-forward"], ["proxy"])
    ):
        scan.act("look", call.command, command=call.command)
        return True
    if name in ("aws", "gsutil", "s3cmd", "rclone", "mc", "s5cmd", "az", "gcloud") and (
        "cp" in words[:3] or "sync" in words[:3] or "mv" in words[:3]
    ):
        at = next(words.index(verb) for verb in ("cp", "sync", "mv") if verb in words[:3])
        rest = _without_values(raw, words[at]) if name == "aws" else words[at + 1 :]
        if dry:
            scan.act("look", call.command, why="says what it would do", command=call.command)
            return True
        if "--delete" in raw or ("-d" in raw and name == "gsutil"):
            scan.act("destroy", call.command, command=call.command)
        if len(rest) >= 2 and re.match(r"(?:s3|gs|r2)://|[\w-]+:", rest[-1]):
            scan.act("send", rest[-1], command=call.command)
            scan.use("read", rest[0], command=call.command)
        elif rest:
            scan.act("look", call.command, command=call.command)
            scan.use("write", rest[-1], command=call.command)
        return True
    if name in ("rclone",) and words[:1] in (
        ["purge"],
        ["delete"],
        ["cleanup"],
        ["deletefile"],
        ["rmdirs"],
    ):
        scan.act("destroy", call.command, command=call.command)
        return True
    if name in (
        "prisma",
        "alembic",
        "knex",
        "sequelize",
        "typeorm",
        "flyway",
        "diesel",
        "dbmate",
        "migrate",
        "goose",
    ):
        text = " ".join(words)
        if (
            re.search(
                r"\b(?:reset|downgrade|rollback|drop|down|clean|undo|revert|redo)\b|drop", text
            )
            or "--accept-data-loss" in raw
            or "--force-reset" in raw
        ):
            scan.act(
                "destroy", call.command, why="drops or rolls back a database", command=call.command
            )
        elif re.search(
            r"\b(?:generate|format|validate|status|history|current|heads|show|info"
            r"|check|studio|version|list|init|revision|new|create|make)\b",
            text,
        ):
            scan.act("run", call.command, command=call.command)
        else:
            scan.act(
                "run",
                call.command,
                level=Level.HIGH,
                why="changes a database",
                command=call.command,
            )
        return True
    if name in ("vagrant", "minikube", "kind", "colima", "lima", "k3d") and words[:1] in (
        ["up"],
        ["start"],
        ["create"],
        ["stop"],
        ["halt"],
        ["suspend"],
        ["resume"],
        ["ssh"],
        ["load"],
    ):
        scan.act("run", call.command, command=call.command)
        if "-c" in raw:
            scan.act("code", call.command, command=call.command)
        return True
    if name in ("ollama",) and words[:1] in (["pull"], ["run"], ["serve"], ["create"], ["cp"]):
        scan.act("run", call.command, command=call.command)
        return True
    if name in ("restic", "borg") and words[:1] in (
        ["backup"],
        ["create"],
        ["check"],
        ["snapshots"],
    ):
        scan.act("run", call.command, command=call.command)
        return True
    return False


def _api(scan: Scan, call: Call, raw: list[str], words: list[str]) -> bool:
    method = "GET"
    for number, word in enumerate(raw):
        if word in ("-X", "--method") and number + 1 < len(raw):
            method = raw[number + 1]
        elif word.startswith("--method="):
            method = word.partition("=")[2]
        elif word.startswith("-X") and len(word) > 2:
            method = word[2:].lstrip("=")
        elif word in ("-f", "-F", "--field", "--raw-field", "--input") and method == "GET":
            method = "POST"
    method = method.upper()
    if method in ("GET", "HEAD"):
        scan.act("look", call.command, command=call.command)
    elif method == "DELETE":
        scan.act("destroy", call.command, command=call.command)
    elif "graphql" in words and not any("mutation" in word for word in raw):
        scan.act("look", call.command, command=call.command)
    else:
        scan.act("remote", call.command, command=call.command)
    return True


def terraform(scan: Scan, call: Call, args: Args) -> bool | None:
    """terraform state rm, workspace delete, import."""
    verb = args.operands[0] if args.operands else ""
    sub = call.command.rpartition(" ")[2]
    if sub in ("state", "workspace") and verb in ("rm", "mv", "push", "replace-provider", "delete"):
        scan.act(
            "destroy",
            f"{call.command} {verb}",
            why="changes what is known of the infrastructure",
            command=call.command,
        )
    elif sub == "console":
        scan.act("run", call.command, command=call.command)
    return None


HANDLERS = {"verbs": verbs, "terraform": terraform}
