"""SQL on a command line: what its statements do, by their first words."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, UNKNOWN
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Call, Scan

_QUOTED = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.S)
_COMMENT = re.compile(r"--[^\n]*|/\*(?!!).*?\*/", re.S)
# Statements that only read. EXPLAIN ANALYZE runs what follows, so it is not among them.
_READS = re.compile(
     r"(?:select|show|describe|desc|explain(?!\s*\(?\s*analy)|values|table|use"
 r"|pragma\s+\w+\s*(?:\(\s*'?\w*'?\s*\))?\s*$|help"
     r"|begin|commit|rollback|set\s+(?!global|persist|session\s+authorization|role)|with"
 r"|go|print)\b" , re.I)  # fmt: skip
_SHOWS = re.compile(r"(?:show|describe|desc)\b", re.I)  # whatever stands behind: SHOW CREATE TABLE
_WRITES = re.compile(
     r"\b(?:insert|update|delete|merge|drop|truncate|alter|create|grant|revoke|copy"
 r"|into\s+(?:out|dump)file|load_file|pg_read_file|pg_ls_dir"
     r"|lo_import|lo_export|xp_\w+|sp_\w+|dblink|pg_terminate_backend|load_extension"
 r"|writefile|readfile|edit|exec|execute|call|do|into)\b" , re.I)  # fmt: skip
_LOSES = re.compile(r"\b(?:drop|truncate|delete)\b", re.I)
# Lines for the client itself: psql's \d shows, \! runs; sqlite's .tables shows, .shell runs.
_CLIENT = re.compile(
    r"\\(?:d\w*\+?|l\+?|c|conninfo|timing|x|pset|echo|q|z|sf|sv|encoding|h|a|t)(?:\s|$)"
    r"|\.(?:tables|schema|indexes|indices|databases|mode|headers?|width|help|quit|exit"
    r"|show|stats|timer|dump|dbinfo|nullvalue|fullschema)(?:\s|$)"
)


def judge(scan: Scan, call: Call, text: str) -> None:
    """Note what SQL does: reading is a look at the network or the file, the rest asks first."""
    if UNKNOWN in text or OUTPUT in text:
        scan.unclear(f"{call.command}: a statement that is only known at run time")
    bare = _COMMENT.sub(" ", _QUOTED.sub("''", text))
    for statement in bare.split(";"):
        line = statement.strip().lstrip("(").strip()
        if not line or _CLIENT.match(line):
            continue
        if (
            line[0] in "\\."
            or "\\!" in line
            or re.search(r"\\(?:!|gexec|copy|o|w|i)\b", line)
            or "/*!" in line
        ):
            scan.act(
                "code", line, why="a line for the client can run programs", command=call.command
            )
            for code in re.findall(r"(?:\\!|\.shell|\.system|\\system)\s+(.+)", text):
                scan.script(code, "bash")
        elif _SHOWS.match(line) or (_READS.match(line) and not _WRITES.search(line)):
            continue
        elif _LOSES.search(line):
            scan.act(
                "destroy", line, why=f"deletes in the database: {line[:60]}", command=call.command
            )
        else:
            scan.act(
                "remote",
                line,
                level=Level.HIGH,
                why=f"changes the database: {line[:60]}",
                command=call.command,
            )
