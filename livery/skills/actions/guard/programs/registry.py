"""Programs and words that a line of a table cannot describe, a function each.

A handler gets the scan, the call and its parsed words; it returns True where it has noted all there
is, and anything else where the rule's own acts, options and operands still count.
"""

from __future__ import annotations

from collections.abc import Callable

from livery.skills.actions.guard.programs import (
    actions,
    clouds,
    cmdlets,
    code,
    containers,
    data,
    files,
    git,
    languages,
    machine,
    network,
    packages,
    python,
    shells,
    windows,
    words,
)
from livery.skills.actions.guard.scan import Args, Call, Scan
from livery.skills.actions.guard.tables import Act

Handler = Callable[[Scan, Call, Args], bool | None]
Role = Callable[[Scan, Call, str, Act], None]

HANDLERS: dict[str, Handler] = {
    **shells.HANDLERS,
    **files.HANDLERS,
    **languages.HANDLERS,
    **code.HANDLERS,
    **python.HANDLERS,
    **git.HANDLERS,
    **packages.HANDLERS,
    **clouds.HANDLERS,
    **containers.HANDLERS,
    **data.HANDLERS,
    **network.HANDLERS,
    **machine.HANDLERS,
    **windows.HANDLERS,
    **cmdlets.HANDLERS,
    **actions.HANDLERS,
}
ROLES: dict[str, Role] = words.ROLES
VERBS: dict[str, str] = cmdlets.VERBS
