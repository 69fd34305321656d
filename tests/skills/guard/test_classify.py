"""`classify`: levels, effects and reasons; what hides a command does not hide it from the guard."""

from __future__ import annotations

import pytest

from livery.skills.actions.guard import Effect, Level, classify


def test_it_says_what_a_command_does_and_why() -> None:
    risk = classify("rm -rf build ~/old", "bash")
    assert risk.level is Level.HIGH
    assert Effect("delete", "project", "build") in risk.effects
    assert Effect("delete", "home", "~/old") in risk.effects
    assert any("~/old" in reason for reason in risk.reasons)
    assert (risk.shell, risk.shown) == ("bash", "rm -rf build ~/old")


@pytest.mark.parametrize(
    "command",
    [
        "git status", "ls -la", "grep -r TODO src", "cat README.md", "docker ps", "npm test",
        "python -m pytest -q", "cargo build", "make", "echo hello", "find . -name '*.py' | wc -l",
        "git diff HEAD~1 | head -50", "git add -A && git commit -m 'x'", "mkdir -p out/a",
    ],
)  # fmt: skip
def test_everyday_commands_run_unasked(command: str) -> None:
    assert classify(command, "bash").level <= Level.MEDIUM
