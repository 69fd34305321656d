"""Adapters over HTTP: what is there, files to take away, and the job where a form is missing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.serve.serving import Client, served, settings_of


def make_adapter(root: Path, name: str, *forms: str) -> Path:
    """Files of the right names; what is in them is nobody's affair here."""
    folder = root / "adapters" / name
    files: dict[str, bytes] = {"README.md": b"# card", "tokenizer.json": b"{}"}
    if "peft" in forms:
        config = {"r": 8, "lora_alpha": 16, "base_model_name_or_path": "base_model"}
        files["adapter_config.json"] = json.dumps(config).encode()
        files["adapter_model.safetensors"] = b"peft weights"
    if "mlx" in forms:
        files["mlx/adapter_config.json"] = b"{}"
        files["mlx/adapters.safetensors"] = b"mlx weights"
    if "gguf" in forms:
        files["gguf/adapter.gguf"] = b"GGUF" + bytes(range(256)) * 100
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_of(tmp_path_factory.mktemp("adapters"))
    make_adapter(settings.root, "whole", "peft", "mlx", "gguf")
    make_adapter(settings.root, "part", "peft")
    (settings.adapters / "empty").mkdir()
    with served(settings) as client:
        yield client


def test_adapters_are_listed_with_the_forms_that_are_there(client: Client) -> None:
    found = {one["name"]: one for one in client.get("/api/adapters").json()["adapters"]}
    assert set(found) == {"whole", "part"}
    assert set(found["whole"]["forms"]) == {"peft", "mlx", "gguf"}
    assert found["part"]["missing"] == ["mlx", "gguf", "zip"]
    assert (found["part"]["rank"], found["part"]["alpha"]) == (8, 16.0)
    whole = client.get("/api/adapters/whole").json()
    expected = hashlib.sha256(b"peft weights").hexdigest()
    assert whole["files"]["adapter_model.safetensors"] == {"bytes": 12, "sha256": expected}


@pytest.mark.parametrize(
    ("form", "members"),
    [
        ("peft", {"adapter_config.json", "adapter_model.safetensors"}),
        ("mlx", {"adapter_config.json", "adapters.safetensors"}),
    ],
)
def test_a_form_is_one_zip_of_the_same_bytes(client: Client, form: str, members: set[str]) -> None:
    answer = client.get(f"/api/adapters/whole/export?form={form}")
    assert answer.status == 200, answer.text
    assert answer.headers["content-disposition"] == (f'attachment; filename="whole-{form}.zip"')
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert set(archive.namelist()) == members | {"README.md", "tokenizer.json"}
        assert archive.testzip() is None
    weights = client.settings.adapters / "whole" / "adapter_model.safetensors"
    os.utime(weights, ns=(weights.stat().st_mtime_ns + 1,) * 2)
    again = client.get(f"/api/adapters/whole/export?form={form}", Range="bytes=0-99")
    assert (again.status, again.body) == (206, answer.body[:100])


def test_gguf_is_the_file_itself_in_any_range(client: Client) -> None:
    data = (client.settings.adapters / "whole/gguf/adapter.gguf").read_bytes()
    assert client.get("/api/adapters/whole/export?form=gguf").body == data
    part = client.get("/api/adapters/whole/export?form=gguf", Range="bytes=300-")
    assert (part.status, part.body) == (206, data[300:])


def test_a_missing_form_names_the_job_that_makes_it(client: Client) -> None:
    for form in ("gguf", "mlx", "zip"):
        answer = client.get(f"/api/adapters/part/export?form={form}")
        assert answer.status == 409
        job = answer.json()["job"]
        assert job == {
            "method": "POST", "path": "/api/adapters/part/forms", "body": {"to": form},
        }  # fmt: skip
    made = client.ask(job["method"], job["path"], job["body"])
    assert made.status == 202, made.text
    said = client.settings.root
    assert said.joinpath(".livery").is_dir()
    from livery.serve.jobs.jobs import Jobs

    queued = Jobs(said).get(made.json()["job"])
    assert (queued.name, queued.request.steps) == ("part", ("convert", "pack"))


def test_a_zip_older_than_the_adapter_is_not_it(client: Client) -> None:
    folder = make_adapter(client.settings.root, "packed", "peft")
    file = client.settings.adapters / "packed.zip"
    file.write_bytes(b"PK of livery pack")
    assert client.get("/api/adapters/packed/export").body == b"PK of livery pack"
    later = file.stat().st_mtime_ns + 10**9
    os.utime(folder / "adapter_model.safetensors", ns=(later, later))
    assert client.get("/api/adapters/packed/export").status == 409


@pytest.mark.parametrize(
    "start",
    ["", "../x", "/etc/passwd", "~/x", "a b", "x.gguf", "-x", "a//b", "a;id", "$(id)", "a" * 200],
)
def test_ollamas_base_is_a_name_and_no_path(client: Client, start: str) -> None:
    from urllib.parse import quote

    answer = client.get(f"/api/adapters/whole/export?form=ollama&from={quote(start, safe='')}")
    assert answer.status in (400, 422)


@pytest.mark.slow
def test_ollama_gets_a_modelfile_and_the_gguf_adapter(client: Client, root: Path) -> None:
    from convert.convert import convert
    from tests.hostile import write_peft
    from tests.tiny_models import tiny_model

    base = tiny_model("llama", root / "ollama-base")
    peft = root / "ollama-peft"
    if not peft.exists():
        write_peft(base, peft)
    convert(peft, client.settings.adapters / "real", "all", base=base)
    answer = client.get("/api/adapters/real/export?form=ollama&from=llama3.2:1b")
    assert answer.status == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.read("Modelfile").startswith(b"FROM llama3.2:1b\nADAPTER ./adapter.gguf\n")
        assert archive.read("adapter.gguf").startswith(b"GGUF")


def test_links_out_of_an_adapter_are_not_followed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = make_adapter(client.settings.root, "linked", "peft")
    (folder / "gguf").mkdir()
    (folder / "gguf/adapter.gguf").symlink_to(tmp_path / "secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    assert client.get("/api/adapters/linked/export?form=gguf").status == 409
    answer = client.get("/api/adapters/linked/export?form=peft")
    assert "README.md" not in zipfile.ZipFile(io.BytesIO(answer.body)).namelist()
    (client.settings.adapters / "out").symlink_to(tmp_path)
    assert client.get("/api/adapters/out").status == 404
