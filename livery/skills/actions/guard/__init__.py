"""The guard: how dangerous a shell command is, and which tags of an answer may run.

    from livery.skills.actions.guard import classify, guard
    classify("rm -rf ~").level                      # Level.CRITICAL
    allowed, to_confirm, blocked = guard(answer)    # of an assistant's answer, tag by tag

Commands are parsed (extra `shell`: tree-sitter), never run, and no file is looked at. docs/guard.md
says what the levels mean.
"""

from livery.skills.actions.guard.answer import (
    Guarded,
    Judged,
    agrees,
    guard,
    guard_reply,
    judge_tag,
)
from livery.skills.actions.guard.classify import classify, classify_action
from livery.skills.actions.guard.policy import Policy, Rule, load_policy, read_policy
from livery.skills.actions.guard.risk import Effect, Level, Risk

__all__ = [
    "Effect",
    "Guarded",
    "Judged",
    "Level",
    "Policy",
    "Risk",
    "Rule",
    "agrees",
    "classify",
    "classify_action",
    "guard",
    "guard_reply",
    "judge_tag",
    "load_policy",
    "read_policy",
]
