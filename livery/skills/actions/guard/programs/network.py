"""Programs that talk to other machines: what goes out, what comes in and where it is put."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.words import host_of, sshoption, url
from livery.skills.actions.guard.risk import Effect, Level
from livery.skills.actions.guard.scan import Args, Call, Scan
from livery.skills.actions.guard.tables import Act

# Options of curl with a value: what the value is.
_CURL: dict[str, str] = {
    **dict.fromkeys(("-o", "--output", "-D", "--dump-header", "-c", "--cookie-jar", "--trace",
    "--trace-ascii", "--stderr", "--hsts", "--alt-svc", "--output-dir", "--etag-save",
    "--libcurl"), "write"),
    **dict.fromkeys(("-T", "--upload-file"), "upload"),
    **dict.fromkeys(("-d", "--data", "--data-ascii", "--data-binary", "--data-urlencode",
    "--json", "-F", "--form", "--data-raw", "--form-string", "--url-query"), "data"),
    **dict.fromkeys(("-K", "--config"), "config"),
    **dict.fromkeys(("-X", "--request"), "method"),
    **dict.fromkeys(("-H", "--header", "--proxy-header", "-b", "--cookie", "-u", "--user", "-A",
    "--user-agent", "-e", "--referer", "--oauth2-bearer", "-U"), "text"),
    **dict.fromkeys(("-E", "--cert", "--key", "--netrc-file"), "key"),
    **dict.fromkeys(("--engine", "--proxy", "-x", "--resolve", "--connect-to", "--doh-url",
    "--preproxy", "--socks5", "--socks5-hostname"), "route"),
    **dict.fromkeys(("-m", "--max-time", "--connect-timeout", "--retry", "--retry-delay",
    "--retry-max-time", "-w", "--write-out", "-r", "--range", "-y", "-Y", "--limit-rate", "-C",
    "--continue-at", "-z", "--cacert", "--capath", "--max-redirs", "--interface", "-P", "-Q",
    "-t", "--ciphers", "--tls-max", "--max-filesize", "--parallel-max", "--create-file-mode",
    "--proto", "--proto-default", "--proto-redir", "--tlsv1.2x", "--rate", "--noproxy",
    "--aws-sigv4", "--dns-servers", "--local-port", "--speed-time", "--speed-limit",
    "--keepalive-time", "--pinnedpubkey", "--cert-type", "--key-type", "--pass",
    "--tls13-ciphers", "--unix-socket", "--abstract-unix-socket"), "none"),
    "--url": "url",
}  # fmt: skip


def curl(scan: Scan, call: Call, args: Args) -> bool:
    """curl: reads an address; data, uploads and methods send; some options write files."""
    words = call.words[1:]
    position = 0
    sends = ""
    addresses: list[str] = []
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            addresses.append(word)
            continue
        pairs: list[tuple[str, str]] = []
        if word.startswith("--"):
            head, equals, value = word.partition("=")
            if head not in _CURL:
                found = [name for name in _CURL if name.startswith(head) and len(head) > 5]
                head = found[0] if found else head
            if head in _CURL:
                if not equals:
                    value = words[position] if position < len(words) else ""
                    position += 1
                pairs.append((head, value))
            elif head in ("--remote-name", "--remote-name-all"):
                scan.act("change", call.command, command=call.command)
        else:
            for number, letter in enumerate(word[1:], start=1):
                name = f"-{letter}"
                if name in _CURL:
                    value = word[number + 1 :]
                    if not value:
                        value = words[position] if position < len(words) else ""
                        position += 1
                    pairs.append((name, value))
                    break
                if letter in "OJ":
                    scan.act("change", call.command, command=call.command)
        for name, value in pairs:
            sends = _curl_value(scan, call, name, value) or sends
    if "-G" in words or "--get" in words:
        sends = "" if sends == "data" else sends
    for address in addresses:
        scan.wrote(_last(address), None, "network")
    for address in addresses:
        url(
            scan,
            call,
            address
            if re.match(r"[a-z][a-z0-9+.-]*:/", address, re.I) or address.startswith(("/", UNKNOWN))
            else f"http://{address}",
        )
    if sends:
        _sent(scan, call, addresses, sends)
    return True


def _last(address: str) -> str:
    """The file that an address is saved as."""
    return re.split(r"[?#]", address.rstrip("/"))[0].rpartition("/")[2] or "index.html"


def _sent(scan: Scan, call: Call, addresses: list[str], sends: str) -> None:
    host = host_of(addresses[0]) if addresses else ""
    level = (
        Level.MEDIUM
        if re.fullmatch(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0", host)
        and sends not in ("DELETE", "file")
        else Level.HIGH
    )
    level = scan.policy.level_of_host(host, level, scan.overrides) if host else level
    scan.add(
        Effect("network", "system", host or call.command),
        level,
        f"{call.command}: sends data to {host or 'another machine'}",
        command=call.command,
        source=host,
        secret="send",
    )


def _curl_value(scan: Scan, call: Call, name: str, value: str) -> str:
    kind = _CURL[name]
    if kind == "write":
        scan.use("write", value, command=call.command, source=name)
        scan.wrote(value, None, "network")
    elif kind == "upload":
        scan.use("read", value, command=call.command)
        return "file"
    elif kind == "data":
        if name not in ("--data-raw", "--form-string"):
            # --data-urlencode takes a name right before the sign.
            form = r"^[\w-]*@([^;,]+)" if name == "--data-urlencode" else r"(?:^|[=;])[@<]([^;,]+)"
            for path in re.findall(form, value):
                scan.use("read", path, command=call.command)
                return "file"
        if name == "--url-query":
            return "text" if OUTPUT in value or PIPE in value else ""
        return "file" if OUTPUT in value else "data"
    elif kind == "config":
        scan.use("read", value, command=call.command)
        scan.act(
            "look",
            value,
            level=Level.HIGH if value == "-" else Level.MEDIUM,
            why="takes its options from a file",
            command=call.command,
        )
        if scan.place(value).kind not in ("project",):
            scan.act("code", value, why="takes its options from a file", command=call.command)
    elif kind == "method":
        verb = value.upper()
        if verb not in ("GET", "HEAD", "OPTIONS"):
            return verb if verb == "DELETE" else "method"
    elif kind == "text":
        if value.startswith("@"):
            scan.use("read", value[1:], command=call.command)
            return "file"
        if OUTPUT in value and name in ("-b", "--cookie", "-A", "--user-agent", "-e", "--referer"):
            return "text"
    elif kind == "key":
        return ""
    elif kind == "url":
        url(scan, call, value)
    elif kind == "route" and name == "--engine":
        scan.act("code", value, why="loads a library", command=call.command)
    return ""


def wget(scan: Scan, call: Call, args: Args) -> bool:
    """wget: fetches into files."""
    words = call.words[1:]
    position = 0
    output = ""
    quiet = False
    addresses: list[str] = []
    takes = {"-O": "write", "--output-document": "write", "-o": "write",
        "--output-file": "write", "-a": "write", "--append-output": "write", "-P": "write",
        "--directory-prefix": "write", "--post-file": "file", "--body-file": "file",
        "--post-data": "data", "--body-data": "data", "--method": "method", "-e": "code",
        "--execute": "code", "--use-askpass": "program", "--config": "read", "-i": "read",
        "--input-file": "read", "--save-cookies": "write", "--load-cookies": "read", "-U": "",
        "--header": "text", "-t": "", "-T": "", "-w": "", "-l": "", "-A": "", "-R": "", "-D": "",
        "-I": "", "-X": "", "-Q": "", "--user": "", "--password": "", "--level": "",
        "--tries": "", "--timeout": "", "--user-agent": "", "--referer": "", "--wait": "",
        "--limit-rate": "", "--rejected-log": "write", "--warc-file": "write",
        "--domains": ""}  # fmt: skip
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            addresses.append(word)
            continue
        head, equals, value = word.partition("=")
        if not word.startswith("--"):
            at = next((n for n, letter in enumerate(word[1:], start=1) if f"-{letter}" in takes), 0)
            quiet = quiet or "q" in (word[1:at] if at else word[1:])
            if not at:
                continue
            head, value = f"-{word[at]}", word[at + 1 :]
            equals = value
        elif head not in takes:
            found = [name for name in takes if name.startswith(head) and len(head) > 5]
            if not found:
                continue
            head = found[0]
        if not equals:
            value = words[position] if position < len(words) else ""
            position += 1
        kind = takes[head]
        if kind == "write":
            output = output or value
            scan.use("write", value, command=call.command, source=head)
            scan.wrote(value, None, "network")
        elif kind in ("file", "data"):
            if kind == "file":
                scan.use("read", value, command=call.command)
            _sent(
                scan,
                call,
                [w for w in words if "://" in w],
                "file" if kind == "file" or OUTPUT in value else "data",
            )
        elif kind == "method" and value.upper() not in ("GET", "HEAD"):
            _sent(scan, call, [w for w in words if "://" in w], value.upper())
        elif kind in ("code", "program"):
            scan.act(
                "code", value, why="sets an option that can run programs", command=call.command
            )
        elif kind == "read":
            scan.use("read", value, command=call.command)
        elif kind == "text" and OUTPUT in value:
            scan.act("send", value, command=call.command)
    for address in addresses:
        url(scan, call, address)
        scan.wrote(_last(address), None, "network")
    if not output and not any(w in words for w in ("--spider", "-O-", "-qO-", "-V", "--version")):
        scan.act(
            "change",
            call.command,
            why="writes what it fetches into the folder",
            command=call.command,
        )
    return True


def ftp(scan: Scan, call: Call, args: Args) -> None:
    """ftp and sftp take commands on standard input: `put` sends, `!` is the shell."""
    if call.stdin is None:
        return
    if call.stdin.text is None:
        scan.act("code", call.command, why="runs commands that are not known", command=call.command)
        return
    for line in call.stdin.text.splitlines():
        verb, *words = line.split() or [""]
        if verb.startswith("!"):
            scan.script(line.strip()[1:], "bash")
        elif re.fullmatch(r"m?put|reput|append|send", verb, re.I):
            for word in words[:1]:
                scan.use("read", word, command=call.command)
            scan.act("send", line.strip(), command=call.command)
        elif re.fullmatch(r"m?rm|m?del\w*|rmdir|rename", verb, re.I):
            scan.act("destroy", line.strip(), command=call.command)


def http(scan: Scan, call: Call, args: Args) -> bool:
    """HTTPie: a method, an address, fields; any field makes it send."""
    operands = args.operands
    method = ""
    if operands and re.fullmatch(r"[A-Z]+", operands[0]):
        method, operands = operands[0], operands[1:]
    fields = [word for word in operands[1:] if re.search(r":?=|@", word) and "==" not in word]
    if operands:
        url(scan, call, operands[0])
    for word in fields:
        if "@" in word:
            scan.use("read", word.rpartition("@")[2], command=call.command)
    if method not in ("", "GET", "HEAD", "OPTIONS") or fields or call.stdin is not None:
        _sent(scan, call, operands[:1], method or "data")
    return True


_SSH_VALUES = "bcDEeFIiJLlmOopQRSWwB"


def ssh(scan: Scan, call: Call, args: Args) -> bool:
    """ssh: another machine; the command it runs there is judged like one here."""
    words = call.words[1:]
    position = 0
    while position < len(words) and words[position].startswith("-") and len(words[position]) > 1:
        word = words[position]
        position += 1
        if word == "--":
            break
        if word in ("-V", "-G", "-Q", "--help"):
            return True
        for number, letter in enumerate(word[1:], start=1):
            if letter in _SSH_VALUES:
                value = word[number + 1 :]
                if not value:
                    value = words[position] if position < len(words) else ""
                    position += 1
                if letter == "o":
                    sshoption(scan, call, value, Act("sshoption"))
                elif letter in "F":
                    scan.act(
                        "code",
                        value,
                        why="reads settings that can run programs",
                        command=call.command,
                    )
                elif letter in "RDLwW":
                    scan.act(
                        "send",
                        value,
                        why="opens a tunnel between two networks",
                        command=call.command,
                    )
                elif letter == "I":
                    scan.act("code", value, why="loads a library", command=call.command)
                elif letter == "E":
                    scan.use("write", value, command=call.command)
                break
            if letter in "AXY":
                scan.act(
                    "admin",
                    word,
                    why="forwards keys or the screen to the other machine",
                    command=call.command,
                )
    rest = words[position:]
    if rest and OUTPUT in rest[0]:
        scan.unclear("ssh: a host that is only known at run time")
    scan.act(
        "remote",
        rest[0] if rest else call.command,
        why="runs on another machine",
        command=call.command,
    )
    if call.stdin is not None and call.stdin.text is None:
        host = rest[0] if rest else call.command
        scan.add(
            Effect("network", "system", host), Level.HIGH,
            f"{call.command}: sends what it is given on standard input",
            command=call.command, secret="send",
        )  # fmt: skip
    if len(rest) > 1:
        with scan.apart():
            scan.state.cwd = "\ue001"
            scan.script(" ".join(rest[1:]), "bash", call.stdin)
    elif call.stdin is not None and call.stdin.text is not None:
        with scan.apart():
            scan.script(call.stdin.text, "bash")
    return True


def netcat(scan: Scan, call: Call, args: Args) -> bool:
    """nc, socat, telnet: raw connections, and shells on them."""
    words = call.words[1:]
    runs = any(re.match(r"-(?:\w*[ec])$|--(?:exec|sh-exec|lua-exec)", word) for word in words)
    if call.name == "socat":
        runs = any(re.match(r"(?:exec|system|shell)[:,]", word, re.I) for word in words)
    if runs:
        scan.act(
            "code", call.command, why="connects a program to the network", command=call.command
        )
        scan.add(
            None, Level.CRITICAL, f"{call.command}: gives another machine a shell here"
        ) if any(
            re.search(r"\b(?:ba|z|da|k)?sh\b|cmd(?:\.exe)?$|powershell", word) for word in words
        ) else None
    elif any(re.match(r"-\w*z", word) for word in words) or (
        call.stdin is None and call.name == "telnet"
    ):
        scan.act("look", call.command, command=call.command)
    else:
        scan.act(
            "send",
            call.command,
            why="opens a connection that data can leave by",
            command=call.command,
        )
    if call.name == "socat":
        for word in words:
            if found := re.match(r"(?:open|file|create|gopen):([^,]+)", word, re.I):
                scan.use("write", found[1], command=call.command)
    return True


def network(scan: Scan, call: Call, args: Args) -> bool:
    """ip, ifconfig and the like: show, or change the machine's network settings."""
    words = [word for word in call.words[1:] if not word.startswith("-")]
    changes = {"add", "del", "delete", "set", "up", "down", "flush", "change", "replace",
        "append", "dev", "off", "on", "connect", "disconnect", "modify", "advfirewall", "reload",
        "restart", "mode", "kill", "import", "-setdnsservers", "block", "unblock", "rescan",
        "add-con"}  # fmt: skip
    changing = any(word in changes for word in words) and not (
        call.name == "ip" and words[-1:] == ["show"]
    )
    if call.name == "ss" and "-K" in call.words:
        changing = True
    if call.name == "ifconfig":
        changing = len(words) > 1
    if call.name == "ip" and "dev" in words and not changes.difference({"dev"}) & set(words):
        changing = False
    if call.name == "ip" and "exec" in words:
        scan.judge(call.words[call.words.index("exec") + 2 :])
        changing = True
    if call.name == "networksetup" or call.name == "scutil":
        changing = any(
            word.startswith(("-set", "--set", "-add", "-remove", "-create"))
            for word in call.words[1:]
        )
    if call.name == "netsh":
        changing = "show" not in words
        if "key=clear" in words:
            scan.act("code", call.command, why="shows passwords of networks", command=call.command)
    if changing:
        scan.act(
            "system",
            call.command,
            why="changes the machine's network settings",
            command=call.command,
        )
    return True


def firewall(scan: Scan, call: Call, args: Args) -> bool:
    """iptables, nft, ufw: show, or change what is let through."""
    words = call.words[1:]
    text = " ".join(words)
    shows = re.fullmatch(
        r"(?:-t \w+ )?(?:(?:-[nvxL]+|--list|-S|--list-rules|--line-numbers|-n"
        r"|-v)\s*)+\w*(?:\s*(?:-[nv]+|--line-numbers))*",
        text,
    )
    if (
        shows
        or re.match(r"(?:status|list|show|--list|--state|--get|-s\b)", text)
        or call.name.endswith("save")
    ):
        scan.act("admin", call.command, level=Level.LOW, command=call.command)
    else:
        scan.act("system", call.command, why="changes the firewall", command=call.command)
    return True


def keygen(scan: Scan, call: Call, args: Args) -> bool | None:
    """ssh-keygen: -l, -y, -F and -H show, everything else makes or changes keys."""
    shows = any(re.match(r"-[lyFB]|-\w*l", word) for word in call.words[1:])
    if shows:
        for path in args.values("-f"):
            scan.use("read", path, command=call.command)
    return shows


def openssl(scan: Scan, call: Call, args: Args) -> bool:
    """openssl: keys, connections and engines."""
    words = call.words[1:]
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else ""
        if word in ("-out", "-keyout", "-writerand"):
            scan.use("write", following, command=call.command)
        elif word in ("-in", "-inkey", "-key"):
            if word == "-in":
                scan.use("read", following, command=call.command)
        elif word in ("-engine", "-provider", "-provider-path", "-engine_impl"):
            scan.act("code", following, why="loads a library", command=call.command)
    if words[:1] == ["s_client"]:
        scan.act(
            "look" if call.stdin is None or call.stdin.text == "" else "send",
            call.command,
            command=call.command,
        )
    elif words[:1] in (["s_server"], ["ocsp"]):
        scan.act("send", call.command, command=call.command)
    return True


def gpg(scan: Scan, call: Call, args: Args) -> bool:
    """gpg, age, pass: reading is let through, keys and deletions ask."""
    text = " ".join(call.words[1:])
    if call.name == "pass":
        if re.match(
            r"(?:ls|list|find|search|grep|git log|version)?$", text.partition(" ")[0] or "ls"
        ):
            return True
        scan.act(
            "lose" if re.match(r"rm|remove|delete", text) else "read",
            call.command,
            level=Level.HIGH,
            why="prints or changes passwords",
            command=call.command,
        )
    elif re.search(
        r"--(?:delete|export-secret|edit-key|import|gen|full-gen|passwd|quick|revoke)|-k\b", text
    ):
        scan.add(
            Effect("write", "system", call.command),
            Level.HIGH,
            f"{call.command}: changes or exports keys",
            command=call.command,
            secret="read" if "--export-secret" in text else "",
        )
    elif re.search(r"--(?:verify|list|fingerprint|version|check)|-k$", text):
        return True
    else:
        scan.act("change", call.command, command=call.command)
    for number, word in enumerate(call.words):
        if word in ("-o", "--output") and number + 1 < len(call.words):
            scan.use("write", call.words[number + 1], command=call.command)
    return True


HANDLERS = {
    "curl": curl, "ftp": ftp, "wget": wget, "http": http, "ssh": ssh, "netcat": netcat,
    "network": network, "firewall": firewall, "openssl": openssl, "keygen": keygen, "gpg": gpg,
}  # fmt: skip
