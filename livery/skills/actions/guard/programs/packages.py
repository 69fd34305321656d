"""npm and the like, npx and the like, and the package managers of systems."""

from __future__ import annotations

import re

from livery.skills.actions.guard.programs.code import targets
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan

_USUAL = frozenset(
    "tsc eslint prettier jest vitest mocha next vite webpack rollup tsx ts-node "
    "nodemon playwright cypress tailwindcss prisma husky lint-staged turbo nx lerna "
    "ruff black mypy pytest isort flake8 pre-commit http-server serve storybook expo "
    "ng vue-cli-service astro biome stylelint rimraf".split()
)


def npm(scan: Scan, call: Call, args: Args) -> bool | None:
    """npm, yarn, pnpm: `yarn` alone installs; an unlisted word of yarn is a script."""
    if not args.operands:
        if call.name in ("yarn",):
            scan.act("install", call.command, command=call.command)
        return None
    if call.name in ("yarn", "pnpm", "bun") and re.fullmatch(
        r"[\w:.-]+(?:/[\w.-]+)*", args.operands[0]
    ):
        scan.act("run", args.operands[0], command=call.command)
        targets(scan, call, args.operands[:1])
        return True
    return None


def npmrun(scan: Scan, call: Call, args: Args) -> None:
    """npm run NAME: what the name says of itself."""
    targets(scan, call, args.operands[:1])


def npmconfig(scan: Scan, call: Call, args: Args) -> bool | None:
    """npm config set and npm audit fix change what later commands take or run."""
    if call.command.endswith(" version") and args.operands:
        scan.act("change", call.command, command=call.command)
        return True
    if args.operands[:1] in (["set"], ["delete"], ["edit"]):
        word = " ".join(args.operands[1:])
        act = (
            "code"
            if re.search(
                r"script-shell|registry|node-options|git|prefix|ignore-scripts|config|editor", word
            )
            else "change"
        )
        scan.act(act, word, command=call.command)
        return True
    return None


def pipconfig(scan: Scan, call: Call, args: Args) -> None:
    """pip config set: another index is where later packages come from."""
    if re.search(r"index|find-links|trusted-host|proxy", " ".join(args.operands)):
        scan.act("foreign", call.command, why="takes packages from elsewhere", command=call.command)


def npmexec(scan: Scan, call: Call, args: Args) -> None:
    """npm exec, npm init X, pnpm dlx: a package that is fetched where it is not there, and run."""
    verb = next((w for w in call.words[1:] if w in ("exec", "x", "dlx", "create", "init")), "")
    words = call.words[call.words.index(verb) + 1 :] if verb else []
    if verb == "init" and all(word.startswith("-") for word in words):
        scan.act("change", call.command, command=call.command)
        return
    _fetched(scan, call, words, remote=verb in ("dlx", "create", "init"))


def npx(scan: Scan, call: Call, args: Args) -> bool:
    """npx, bunx, pipx run, uvx."""
    words = call.words[1:]
    if call.name == "pipx":
        verb = words[0] if words else ""
        if verb in ("list", "environment", "--version", "completions"):
            return True
        if verb in ("install", "inject", "upgrade", "upgrade-all", "reinstall", "uninstall"):
            scan.act(
                "install",
                call.command,
                level=Level.HIGH,
                why="installs programs",
                command=call.command,
            )
            return True
        words = words[1:]
    _fetched(scan, call, words, remote=call.name in ("uvx", "pipx"))
    return True


def _fetched(scan: Scan, call: Call, words: list[str], *, remote: bool) -> None:
    position = 0
    local = False
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        if words[position] in ("-c", "--call", "--shell") and position + 1 < len(words):
            scan.script(words[position + 1], "bash")
            position += 1
        elif words[position] in (
            "-p",
            "--package",
            "--from",
            "--with",
            "--python",
            "--index-url",
            "--spec",
        ):
            remote = True
            position += 1
        elif words[position] == "--no-install" or words[position] == "--offline":
            local = True
        elif words[position] in ("--version", "-v", "--help"):
            return
        position += 1
    rest = [word for word in words[position:] if word != "--"]
    if not rest:
        return
    tool = rest[0]
    if local or (not remote and tool in _USUAL):
        scan.act("run", tool, command=call.command)
        if tool in ("prisma", "rimraf", "playwright") and len(rest) > 1:
            scan.judge(["rm", "-r", *rest[1:]] if tool == "rimraf" else rest)
    else:
        scan.act(
            "foreign",
            tool,
            why=f"fetches {tool} from a registry where it is not installed, and runs it",
            command=call.command,
        )


_ARCH = re.compile(r"-(?:Q\w*|S[si]|F[lsy]?|T\w*|si|ss)$")


def system_packages(scan: Scan, call: Call, args: Args) -> bool | None:
    """apt, dnf, brew, pacman, …: look, install, remove."""
    words = call.words[1:]
    option = next((word for word in words if word.startswith("-")), "")
    if call.name in ("pacman", "yay", "paru") and option:
        if _ARCH.match(option):
            return True
        act = "destroy" if option.startswith(("-R", "--remove")) else "system"
        scan.act(act, call.command, why="changes the machine's software", command=call.command)
        return True
    if call.name in ("rpm", "dpkg", "snap", "flatpak", "port", "nix-env") and (
        re.match(
            r"-(?:q\w*|l|L|s|S|c|I|p|V|-list|-status|-query|-search|-listfiles|-info"
            r"|-show\w*|-verify|-get-selections|-print-architecture)$",
            option,
        )
    ):
        return True
    if call.name == "brew" and words[:1] == ["services"]:
        if words[1:2] not in (["list"], ["info"]):
            scan.act("system", call.command, command=call.command)
        return True
    if call.name == "winget" and words[:1] in (["import"], ["configure"]):
        scan.act("foreign", call.command, command=call.command)
        return True
    dry = {"--simulate", "--dry-run", "--just-print", "--no-act", "--download-only", "--assumeno"}
    if call.name in ("apt", "apt-get", "aptitude"):
        dry.add("-s")
    if dry & set(words) and not words[0].startswith("-"):
        scan.act("look", call.command, command=call.command)
        return True
    return None


HANDLERS = {
    "npm": npm, "pipconfig": pipconfig, "npmconfig": npmconfig, "npmrun": npmrun,
    "npmexec": npmexec, "npx": npx, "system_packages": system_packages,
}  # fmt: skip
