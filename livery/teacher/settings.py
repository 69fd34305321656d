"""Which teacher is asked: its model, its address, the interface it speaks, and how patiently."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from livery.errors import UserError, shown
from livery.reading import read_text

DEFAULT_MODEL = "gpt-oss:120b"
DEFAULT_URL = "http://127.0.0.1:11434"
RC_FILE = ".llmrc"
APIS = ("openai", "ollama")
URL_VARIABLES = ("LLM_BASE_URL", "OPENAI_BASE_URL", "OLLAMA_HOST")
# Each interface's own variable too, but never the other's: a key goes to whom it belongs.
KEY_VARIABLES = {
    "openai": ("LLM_API_KEY", "OPENAI_API_KEY"),
    "ollama": ("LLM_API_KEY", "OLLAMA_API_KEY"),
}
_OLLAMA_PORT = 11434


@dataclass(frozen=True)
class Teacher:
    """An endpoint and how it is asked. It holds no API key: that is read when a request is sent.

    Attributes:
        model: the name under which the endpoint serves it.
        url: for openai the address that /chat/completions follows, for ollama the server's own.
        api: "openai", or "ollama" for its native interface, which alone takes a context length.
        model_from, url_from: where the two were found, for people.
        concurrency: requests under way at once.
        retries: how often a request is sent again after a failure that may pass.
        retry_wait: seconds before the first of them; each later one waits twice as long.
        timeout: seconds for a whole answer.
        context: tokens that the model can read and write in one request; None lets Livery compute
            what Ollama is asked for.
        price_in, price_out: for a million tokens, in any currency; None where nothing is charged.
        max_error_rate: share of failures among the last questions above which asking stops.
    """

    model: str
    url: str
    api: str = "openai"
    model_from: str = "given"
    url_from: str = "given"
    concurrency: int = 8
    retries: int = 5
    retry_wait: float = 2.0
    timeout: float = 600.0
    context: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    max_error_rate: float = 0.5

    def __post_init__(self) -> None:
        for good, name, must in (
            (self.api in APIS, "api", f"one of {', '.join(APIS)}"),
            (self.concurrency >= 1, "concurrency", "at least 1"),
            (self.retries >= 0, "retries", "0 or more"),
            (0 <= self.retry_wait <= 3600, "retry_wait", "0 to 3600 seconds"),
            (0 < self.timeout <= 86400, "timeout", "above 0 and at most 86400 seconds"),
            (self.context is None or self.context >= 256, "context", "at least 256 tokens"),
            (self.price_in is None or 0 <= self.price_in < 1e9, "price_in", "0 or more"),
            (self.price_out is None or 0 <= self.price_out < 1e9, "price_out", "0 or more"),
            (0 <= self.max_error_rate <= 1, "max_error_rate", "0 to 1"),
        ):
            if not good:
                raise UserError(
                    f"The teacher's {name} is {shown(getattr(self, name))}; it must be {must}."
                )

    @property
    def chat_url(self) -> str:
        """Where questions are sent; a query in the address (an API's version) stays at its end."""
        parts = urllib.parse.urlsplit(self.url)
        path = "/api/chat" if self.api == "ollama" else "/chat/completions"
        return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where no price is known."""
        if self.price_in is None and self.price_out is None:
            return None
        paid = prompt_tokens * (self.price_in or 0.0) + completion_tokens * (self.price_out or 0.0)
        return paid / 1e6

    def describe(self) -> str:
        """Who is asked, for people."""
        kind = "Ollama" if self.api == "ollama" else "OpenAI-compatible"
        return (
            f"{shown(self.model)} ({self.model_from}) at {shown(self.url)} "
            f"({kind}; {self.url_from})"
        )


def find_teacher(
    model: str | None = None,
    url: str | None = None,
    api: str = "auto",
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | Path = ".",
    flags: tuple[str, str] = ("--teacher-model", "--teacher-url"),
) -> Teacher:
    """The teacher as flags, variables and files have it, the first of them that says something.

    Args:
        model: else LLM_MODEL, else the line in `.llmrc` of `folder`, else DEFAULT_MODEL.
        url: else LLM_BASE_URL, OPENAI_BASE_URL or OLLAMA_HOST, else Ollama's on this machine.
        api: "openai", "ollama", or "auto": Ollama's own interface on its port and where OLLAMA_HOST
            names the server, because its OpenAI-compatible one cuts long prompts without a word.
        environment: os.environ unless given.
        flags: what `model` and `url` are called on the command line.

    Raises:
        UserError: a name or an address is none, or the address holds a password.
    """
    env = os.environ if environment is None else environment
    name, name_from = _find_model(model, env, Path(folder), flags[0])
    address, address_from = _find_url(url, env, flags[1])
    if api != "auto" and api not in APIS:
        raise UserError(f"The teacher's api is {shown(api)!r}; it must be auto, openai or ollama.")
    parts = _read_url(address, address_from)
    if api == "auto":
        at_home = address_from in ("OLLAMA_HOST", "default") or parts.port == _OLLAMA_PORT
        api = "ollama" if at_home else "openai"
    return Teacher(name, _root(parts, api), api, name_from, address_from)


def with_options(teacher: Teacher, **options: object) -> Teacher:
    """A teacher with those of `options` that are not None."""
    return replace(teacher, **{k: v for k, v in options.items() if v is not None})  # pyright: ignore[reportArgumentType]


def api_key(teacher: Teacher, environment: Mapping[str, str] | None = None) -> str:
    """The key for this endpoint, "" where there is none.

    Raises:
        UserError: it holds what no HTTP header may.
    """
    env = os.environ if environment is None else environment
    for variable in KEY_VARIABLES[teacher.api]:
        if key := env.get(variable, "").strip():
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise UserError(f"{variable} holds characters that no key has; set it again.")
            return key
    return ""


def _find_model(
    given: str | None, env: Mapping[str, str], folder: Path, flag: str
) -> tuple[str, str]:
    if given is not None:
        return _name(given, flag), flag
    if env.get("LLM_MODEL", "").strip():
        return _name(env["LLM_MODEL"], "LLM_MODEL"), "LLM_MODEL"
    file = folder / RC_FILE
    if file.exists():
        lines = [line.strip() for line in read_text(file, limit=1 << 16).splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if len(lines) != 1:
            raise UserError(
                f"{file}: holds {len(lines)} lines; it must be one, the teacher's model, such as "
                f"{DEFAULT_MODEL}."
            )
        return _name(lines[0], str(file)), RC_FILE
    return DEFAULT_MODEL, "default"


def _name(text: str, where: str) -> str:
    name = text.strip()
    if not name or not name.isprintable() or len(name) > 300:
        raise UserError(f"{where}: {shown(text)!r} is no model's name, such as {DEFAULT_MODEL}.")
    return name


def _find_url(given: str | None, env: Mapping[str, str], flag: str) -> tuple[str, str]:
    if given is not None:
        return given.strip(), flag
    for variable in URL_VARIABLES:
        if value := env.get(variable, "").strip():
            return (_ollama_host(value) if variable == "OLLAMA_HOST" else value), variable
    return DEFAULT_URL, "default"


def _ollama_host(value: str) -> str:
    """OLLAMA_HOST as Ollama reads it: scheme, host and port may each be missing."""
    scheme, found, rest = value.partition("://")
    scheme, rest = (scheme, rest) if found else ("http", value)
    host, slash, path = rest.partition("/")
    bare, _, port = host.rpartition(":")
    if not port.isdigit():
        bare, port = host.rstrip(":"), ""
    if bare in ("", "0.0.0.0", "[::]"):  # what a server listens on is nothing to connect to
        bare = "127.0.0.1"
    port = port or {"https": "443"}.get(scheme, "80" if found else str(_OLLAMA_PORT))
    return f"{scheme}://{bare}:{port}{slash}{path}"


def _read_url(text: str, where: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        good, parts = False, urllib.parse.urlsplit("")
    if good and (parts.username is not None or parts.password is not None):
        raise UserError(
            f"{where}: the teacher's address holds a name or password, which records would keep. "
            f"Put the key into {KEY_VARIABLES['openai'][0]} and leave it out of the address."
        )
    if not good or not (text.isascii() and text.isprintable()) or " " in text or parts.fragment:
        raise UserError(
            f"{where}: {shown(text)!r} is no address of a teacher, such as "
            f"{DEFAULT_URL} (Ollama) or http://127.0.0.1:8000/v1."
        )
    return parts


def _root(parts: urllib.parse.SplitResult, api: str) -> str:
    """The address that the interface's own path follows, whichever of its forms was given."""
    path = parts.path.rstrip("/")
    for end in ("/chat/completions", "/api/chat"):
        path = path.removesuffix(end)
    if api == "ollama":
        path = path.removesuffix("/v1").removesuffix("/api")
    elif not path:
        path = "/v1"
    return urllib.parse.urlunsplit(parts._replace(path=path))
