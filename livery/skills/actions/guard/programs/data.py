"""Databases' command lines."""

from __future__ import annotations

from livery.skills.actions.guard.programs import sql
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan

_REDIS_READS = frozenset(
    "get mget exists ttl pttl type keys scan hget hgetall hkeys hvals hlen llen lrange "
    "lindex smembers scard sismember zrange zcard zscore zrank strlen info ping dbsize "
    "time monitor "
    "memory client slowlog latency object randomkey dump role hexists hmget "
    "zrangebyscore xrange xlen xinfo getrange bitcount pfcount command".split()
)


def database(scan: Scan, call: Call, args: Args) -> bool | None:
    """Statements that come on standard input."""
    if call.stdin is not None:
        if call.stdin.text is not None:
            sql.judge(scan, call, call.stdin.text)
        else:
            scan.act(
                "code", call.command, why="runs the statements it is given", command=call.command
            )
    return None


def sqlite(scan: Scan, call: Call, args: Args) -> bool:
    """sqlite3: a file, then statements."""
    if args.operands:
        scan.use("read", args.operands[0], command=call.command)
    for statement in [*args.operands[1:], *args.values("-cmd", "-c", "-s")]:
        start = len(scan.findings)
        sql.judge(scan, call, statement)
        if len(scan.findings) > start and args.operands:
            scan.use("write", args.operands[0], command=call.command)
    if args.has("-init"):
        scan.act("code", call.command, command=call.command)
    if call.stdin is not None:
        return bool(database(scan, call, args)) or True
    if len(args.operands) < 2 and not args.has("-cmd", "-c", "-s"):
        scan.act("run", call.command, command=call.command)
    return True


def redis(scan: Scan, call: Call, args: Args) -> bool:
    """redis-cli: the first word is the command."""
    words = args.operands
    verb = words[0].lower() if words else ""
    sub = words[1].lower() if len(words) > 1 else ""
    if (verb in _REDIS_READS and not (verb == "client" and sub in ("kill", "pause"))) or (
        verb == "config" and sub == "get"
    ):
        scan.act("look", call.command, command=call.command)
    elif verb in ("flushall", "flushdb", "del", "unlink", "shutdown"):
        scan.act(
            "destroy",
            f"{call.command} {verb}",
            why="deletes what the database holds",
            command=call.command,
        )
    elif not verb:
        scan.act("look", call.command, command=call.command)
        if call.stdin is not None or args.has("--eval"):
            scan.act("code", call.command, command=call.command)
    elif verb in (
        "config",
        "eval",
        "evalsha",
        "script",
        "module",
        "debug",
        "slaveof",
        "replicaof",
        "bgsave",
        "save",
        "migrate",
        "acl",
    ):
        scan.act(
            "code",
            f"{call.command} {verb}",
            why="can make the server run code or write files",
            command=call.command,
        )
    else:
        scan.act(
            "remote",
            f"{call.command} {verb}",
            level=Level.HIGH,
            why="changes the database",
            command=call.command,
        )
    return True


HANDLERS = {"database": database, "sqlite": sqlite, "redis": redis}
