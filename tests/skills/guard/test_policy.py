"""A user's policy: both ways, no further than it names, and said in the reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from livery.errors import UserError
from livery.skills.actions.guard import Level, classify, classify_action, load_policy, read_policy


def policy(*rules: tuple[str, str], key: str = "commands") -> object:
    return read_policy({key: [{"match": match, "level": level} for match, level in rules]})


@pytest.mark.parametrize(
    ("rule", "command", "level"),
    [
        (("git push", "medium"), "git push origin main", "medium"),
        (("git push", "medium"), "git -C sub push", "medium"),
        (("git push", "medium"), "git push --force", "high"),
        (("git push --force", "medium"), "git push --force origin main", "medium"),
        (("git push", "medium"), "git push && rm x", "high"),
        (("git push", "medium"), "git push $(rm x)", "high"),
        (("make", "critical"), "make test", "critical"),
        (("npm test", "high"), "npm test", "high"),
        (("npm test", "high"), "npm run build", "medium"),
        (("rm", "medium"), "rm x", "medium"),
        (("rm", "medium"), "rm -rf ~", "critical"),
        (("rm -rf build", "medium"), "rm -rf build", "medium"),
        (("rm -rf build", "medium"), "rm -rf build /etc", "critical"),
        (("rm -rf build*", "medium"), "rm -rf build/../..", "high"),
        (("frobnicate", "low"), "frobnicate --all", "low"),
        (("frobnicate", "low"), "frobnicate > /etc/x", "high"),
    ],
)
def test_a_rule_for_a_command_covers_what_it_names(
    rule: tuple[str, str], command: str, level: str
) -> None:
    risk = classify(command, "bash", policy=policy(rule))  # type: ignore[arg-type]
    assert str(risk.level) == level, risk.reasons


def test_an_override_is_said_with_its_reason() -> None:
    rules = read_policy(
        {"commands": [{"match": "git push", "level": "low", "reason": "a sandbox"}]}
    )
    assert classify("git push", "bash", policy=rules).reasons[0] == (
        "policy: git push is low, not high: a sandbox"
    )


def test_rules_for_paths_hosts_and_verbs() -> None:
    paths = policy(("~/scratch/**", "medium"), ("secret/**", "critical"), key="paths")
    levels = [
        classify(command, "bash", policy=paths).level  # type: ignore[arg-type]
        for command in ("rm -r ~/scratch/a", "rm -r ~/scratch/../b", "cat secret/a", "cat a")
    ]
    assert levels == [Level.MEDIUM, Level.HIGH, Level.CRITICAL, Level.LOW]
    hosts = policy(("*.example.org", "low"), ("evil.test", "critical"), key="hosts")
    assert classify("curl https://a.example.org", "bash", policy=hosts).level is Level.LOW  # type: ignore[arg-type]
    assert classify("curl https://evil.test", "bash", policy=hosts).level is Level.CRITICAL  # type: ignore[arg-type]
    assert classify_action("lights_on", "hall").level is Level.HIGH
    verbs = policy(("lights_on", "low"))
    assert classify_action("lights_on", "hall", policy=verbs).level is Level.LOW  # type: ignore[arg-type]


def test_the_project_is_where_the_policy_says() -> None:
    rules = read_policy({"project": "/srv/site"})
    assert classify("echo x > /srv/site/a", "bash", policy=rules).level is Level.MEDIUM
    assert classify("echo x > /srv/other/a", "bash", policy=rules).level is Level.HIGH
    assert classify("echo x > /srv/site/../../etc/a", "bash", policy=rules).level is Level.HIGH


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command: []", "command: a policy has no such key"),
        ("commands: git push", "commands: give a list"),
        ("commands:\n- match: x\n  level: fine", "commands[0]: level: fine: choose one of"),
        ("commands:\n- match: x\n  lvl: low", "commands[0]: lvl: a rule has no such key"),
        ("commands:\n- level: low", "commands[0]: match: give a text"),
        ("commands:\n- x", "commands[0]: a rule has the keys"),
        ("project: site", "project: give the absolute path"),
        ("- a", "a policy has the keys"),
        ("a: [", "policy.yaml:"),
    ],
)
def test_a_faulty_policy_is_named_by_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_policy(file)
    assert said in str(caught.value)
    assert "policy.yaml" in str(caught.value)
