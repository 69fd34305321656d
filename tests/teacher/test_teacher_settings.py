"""Which teacher is asked: flags, variables, .llmrc, defaults, and what each address means."""

from __future__ import annotations

from pathlib import Path

import pytest

from livery.errors import UserError
from livery.teacher import DEFAULT_MODEL, Teacher, find_teacher


def test_the_model_comes_from_the_flag_then_the_variable_then_the_file(tmp_path: Path):
    (tmp_path / ".llmrc").write_text("from-file:7b\n")
    env = {"LLM_MODEL": " from-variable "}
    found = [
        find_teacher("from-flag", environment=env, folder=tmp_path),
        find_teacher(environment=env, folder=tmp_path),
        find_teacher(environment={"LLM_MODEL": ""}, folder=tmp_path),
        find_teacher(environment={}, folder=tmp_path / "nowhere"),
    ]
    assert [(t.model, t.model_from) for t in found] == [
        ("from-flag", "--teacher-model"), ("from-variable", "LLM_MODEL"),
        ("from-file:7b", ".llmrc"), (DEFAULT_MODEL, "default"),
    ]  # fmt: skip
    assert DEFAULT_MODEL == "gpt-oss:120b"


@pytest.mark.parametrize("text", ["", "\n\n", "a\nb\n", "x" * 400])
def test_a_file_that_names_no_model_is_refused(tmp_path: Path, text: str):
    (tmp_path / ".llmrc").write_text(text)
    with pytest.raises(UserError, match=r"\.llmrc"):
        find_teacher(environment={}, folder=tmp_path)


def test_a_model_without_a_name_is_refused():
    with pytest.raises(UserError, match="--teacher-model"):
        find_teacher(" ", environment={})


def test_the_address_comes_from_the_flag_then_three_variables():
    env = {
        "LLM_BASE_URL": "http://llm:1/v1", "OPENAI_BASE_URL": "http://openai:2/v1",
        "OLLAMA_HOST": "ollama:3",
    }  # fmt: skip
    seen: list[tuple[str, str, str]] = []
    for given in ("http://flag:4/v1", None, None, None, None):
        found = find_teacher("m", given, environment=env)
        seen.append((found.url, found.api, found.url_from))
        if given is None and env:
            del env[next(iter(env))]
    assert seen == [
        ("http://flag:4/v1", "openai", "--teacher-url"),
        ("http://llm:1/v1", "openai", "LLM_BASE_URL"),
        ("http://openai:2/v1", "openai", "OPENAI_BASE_URL"),
        ("http://ollama:3", "ollama", "OLLAMA_HOST"),
        ("http://127.0.0.1:11434", "ollama", "default"),
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"), ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":5000", "http://127.0.0.1:5000"), ("box", "http://box:11434"),
        ("box:1234", "http://box:1234"), ("http://box", "http://box:80"),
        ("https://box", "https://box:443"), ("https://box/ollama", "https://box:443/ollama"),
        ("[::1]:9", "http://[::1]:9"), ("[::1]", "http://[::1]:11434"),
    ],
)  # fmt: skip
def test_ollama_host_is_read_as_ollama_reads_it(host: str, url: str):
    found = find_teacher("m", environment={"OLLAMA_HOST": host})
    assert (found.url, found.api) == (url, "ollama")
    assert found.chat_url == f"{url}/api/chat"


@pytest.mark.parametrize(
    ("url", "api", "sent_to"),
    [
        ("http://h:8000/v1", "auto", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "auto", "http://h:8000/v1/chat/completions"),
        ("http://h:8000", "auto", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/chat/completions", "auto", "http://h:8000/v1/chat/completions"),
        (
            "https://h/openai?api-version=2",
            "auto",
            "https://h/openai/chat/completions?api-version=2",
        ),
        ("http://h:11434", "auto", "http://h:11434/api/chat"),
        ("http://h:11434/v1", "auto", "http://h:11434/api/chat"),
        ("http://h:11434/api", "auto", "http://h:11434/api/chat"),
        ("http://h:11434/v1", "openai", "http://h:11434/v1/chat/completions"),
        ("http://h:8000", "ollama", "http://h:8000/api/chat"),
    ],
)
def test_an_address_leads_to_the_interface_that_is_meant(url: str, api: str, sent_to: str):
    assert find_teacher("m", url, api, environment={}).chat_url == sent_to


@pytest.mark.parametrize(
    "url",
    ["", "box", "ftp://box", "http://", "http://box:0", "http://box:x", "http://b x/v1",
     "http://box/#part", "http://[::1", "http://bö/v1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(UserError, match="--teacher-url"):
        find_teacher("m", url, environment={})


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(UserError, match="LLM_API_KEY") as caught:
        find_teacher("m", environment={"LLM_BASE_URL": "https://me:hunter2@box/v1"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"retries": -1}, {"retry_wait": -1}, {"timeout": 0}, {"context": 10},
     {"price_in": -1}, {"price_out": float("nan")}, {"max_error_rate": 1.5}, {"api": "grpc"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, object]):
    options: dict[str, object] = {"api": "openai", **wrong}
    with pytest.raises(UserError, match=next(iter(wrong))):
        Teacher("m", "http://h/v1", **options)  # type: ignore[arg-type]
