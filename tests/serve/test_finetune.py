"""The routes that the described system's page calls, with its names for things."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from livery.skills import state
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter
from tests.serve.test_datasets import lines, row


def made(section: str, text: str) -> dict[str, Any]:
    return row(text) | {"metadata": {"source": "aios", "section": section}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_of(tmp_path_factory.mktemp("finetune"))
    for name, rows in {
        "identity": [made("profile", f"who {i}") for i in range(4)]
        + [made("trust", f"trust {i}") for i in range(3)],
        "chat": [row(f"hello {i}") for i in range(5)],
    }.items():
        folder = settings.data / name
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(lines(rows))
    (settings.data / "chat" / "valid.jsonl").write_bytes(lines([row("held out")]))
    (settings.data / "identity" / "manifest.json").write_text('{"skill": "state"}')
    make_adapter(settings.root, "older", "peft")
    with served(settings) as client:
        yield client


def ask(client: Client, method: str, path: str, body: Any = None) -> Any:
    answer = client.ask(method, f"/api/finetune/{path}", body)
    assert answer.status < 300, answer.text
    return answer.json()


def test_modules_are_previewed_by_row_and_section(client: Client) -> None:
    found = {one["name"]: one for one in ask(client, "GET", "data")["modules"]}
    assert found["identity"]["rows"] == {"train": 7}
    assert found["chat"]["rows"] == {"train": 5, "valid": 1}
    preview = ask(client, "GET", "modules/identity/preview?limit=2")
    assert (preview["total"], len(preview["rows"])) == (7, 2)
    sections = ask(client, "GET", "modules/identity/sections")["sections"]
    assert [(one["name"], one["rows"]) for one in sections] == [("profile", 4), ("trust", 3)]
    unified = ask(client, "GET", "unified?offset=4&limit=3")
    assert unified["total"] == 12
    assert [one["module"] for one in unified["rows"]] == ["chat", "identity", "identity"]


def test_a_module_that_is_off_is_not_exported(client: Client) -> None:
    assert ask(client, "PUT", "modules/chat/enabled", {"enabled": False})["enabled"] is False
    assert ask(client, "GET", "export/stats")["total"] == 7
    assert ask(client, "POST", "export") == {"dataset": "aios_combined", "rows": {"train": 7}}
    ask(client, "PUT", "modules/chat/enabled", {"enabled": True})
    assert ask(client, "GET", "export/stats")["total"] == 12
    both = ask(client, "POST", "export")
    assert both["rows"] == {"train": 12, "valid": 1}
    written = client.settings.data / "aios_combined" / "train.jsonl"
    assert len(written.read_bytes().splitlines()) == 12
    assert ask(client, "POST", "export/base")["rows"] == {"train": 7}
    assert ask(client, "POST", "export/chat")["dataset"] == "chat_train"
    # Exports are no modules: the next one has each row once.
    assert {one["name"] for one in ask(client, "GET", "data")["modules"]} == {"identity", "chat"}
    assert client.post("/api/finetune/export/nothing").status == 404


def test_a_section_that_is_off_is_not_exported(client: Client) -> None:
    place = "modules/identity/enabled"
    off = {"enabled": False, "section": "trust"}
    assert ask(client, "PUT", place, off)["enabled"] is True  # the module itself
    try:
        sections = ask(client, "GET", "modules/identity/sections")["sections"]
        assert [(one["name"], one["enabled"]) for one in sections] == [
            ("profile", True), ("trust", False),
        ]  # fmt: skip
        assert ask(client, "GET", "export/stats")["total"] == 9
        unified = ask(client, "GET", "unified?offset=4&limit=100")
        assert (unified["total"], len(unified["rows"])) == (9, 5)
        assert ask(client, "POST", "export/identity")["rows"] == {"train": 4}
        assert ask(client, "POST", "export")["rows"] == {"train": 9, "valid": 1}
        shown = ask(client, "GET", "modules/identity/preview?section=trust")
        assert [row["n"] for row in shown["rows"]] == [5, 6, 7]
        rows = client.get(
            "/api/datasets/identity/rows?section=profile&q=who 3&limit=9".replace(" ", "%20")
        )
        assert [row["n"] for row in rows.json()["rows"]] == [4]
    finally:
        ask(client, "PUT", place, {"enabled": True, "section": "trust"})
    missing = client.ask("PUT", f"/api/finetune/{place}", {"enabled": False, "section": "nothing"})
    assert missing.status == 404


def test_a_row_too_large_to_be_shown_obeys_the_switch_of_its_section(client: Client) -> None:
    folder = client.settings.data / "large"
    folder.mkdir()
    rows = [made("kept", "small"), made("off", "small"), made("off", "x" * (1 << 20))]
    (folder / "train.jsonl").write_bytes(lines(rows))
    try:
        sections = ask(client, "GET", "modules/large/sections")["sections"]
        assert [(one["name"], one["rows"]) for one in sections] == [("kept", 1), ("off", 2)]
        ask(client, "PUT", "modules/large/enabled", {"enabled": False, "section": "off"})
        assert ask(client, "POST", "export/large")["rows"] == {"train": 1}
        shown = ask(client, "GET", "modules/large/preview?section=off")["rows"]
        assert [row["n"] for row in shown] == [2, 3]
        assert "export it" in shown[1]["row"]["error"]
        said = {"module": "large", "section": "off"}
        assert ask(client, "POST", "sections/generated/approve", said) == {"approved": 2}
    finally:
        for name in ("large", "large_train"):
            client.ask("DELETE", f"/api/datasets/{name}")


def test_a_dataset_that_is_deleted_takes_its_switches_along(client: Client) -> None:
    for _ in range(2):
        folder = client.settings.data / "passing"
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(lines([made("profile", "who")]))
        (section,) = ask(client, "GET", "modules/passing/sections")["sections"]
        assert section["enabled"]
        for off in ({"enabled": False}, {"enabled": False, "section": "profile"}):
            ask(client, "PUT", "modules/passing/enabled", off)
        assert client.ask("DELETE", "/api/datasets/passing").status == 204


def test_approved_sections_become_a_dataset(client: Client) -> None:
    said = {"module": "identity", "section": "trust"}
    assert ask(client, "POST", "sections/generated/approve", said) == {"approved": 3}
    sections = ask(client, "GET", "modules/identity/sections")["sections"]
    assert sections[1]["review"] == {"approved": 3}
    back = ask(client, "POST", "sections/generated/approve", said | {"status": "rejected"})
    assert back == {"rejected": 3}
    ask(client, "POST", "sections/generated/approve", said)
    assert ask(client, "POST", "export/approved") == {
        "dataset": "user_approved", "rows": {"train": 3},
    }  # fmt: skip
    client.ask("PUT", "/api/datasets/identity/rows/1", {"status": "rejected"})
    assert ask(client, "POST", "export/identity")["rows"] == {"train": 6}
    missing = {"module": "identity", "section": "nothing"}
    assert client.post("/api/finetune/sections/generated/approve", missing).status == 404


def test_an_export_replaces_no_dataset_of_somebody_elses(client: Client) -> None:
    mine = client.settings.data / "mine_train"
    for folder in (mine, client.settings.data / "mine"):
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(lines([row("mine")]))
    before = (mine / "train.jsonl").read_bytes()
    assert client.post("/api/finetune/export/mine").status == 409
    assert (mine / "train.jsonl").read_bytes() == before
    for folder in (mine, client.settings.data / "mine"):
        (folder / "train.jsonl").unlink()
        folder.rmdir()


def test_start_is_a_job_with_the_pages_names(client: Client) -> None:
    said = {
        "base_model": "base_model", "run_name": "mine", "backend": "torch", "rank": 8,
        "alpha": 16, "dropout": 0.1, "batch_size": 2, "grad_accumulation_steps": 4,
        "learning_rate": 2e-4, "iters": 40, "warmup": 5, "max_seq_length": 256,
        "resume_adapter": "older", "data_seed": 8, "attempts": 3,
    }  # fmt: skip
    answer = client.post("/api/finetune/start", said)
    assert answer.status == 202, answer.text
    job = client.get(f"/api/jobs/{answer.json()['job']}").json()
    assert job["request"]["data"] == "aios_combined"
    assert (job["request"]["data_seed"], job["attempts"]) == (8, 3)
    assert job["request"]["settings"] == {
        "model": "base_model", "lora.rank": 8, "lora.alpha": 16, "lora.dropout": 0.1,
        "batch_size": 2, "grad_accum": 4, "learning_rate": 2e-4, "iters": 40, "warmup_steps": 5,
        "max_length": 256, "init_adapter": "adapters/older",
    }  # fmt: skip
    for wrong, detail in (
        ({"run_name": "../x"}, "name is '../x'"), ({"rank": 0}, "rank: 0 is not"),
        ({"rank": "many"}, "rank: Input"), ({"base_model": "/etc"}, "base_model is '/etc'"),
        ({"warmup": -1}, "warmup: -1 is not"), ({"resume_adapter": "nobody"}, "There is no"),
        ({"data": "nothing"}, "There is no"), ({"gradient_steps": 1}, "gradient_steps: "),
        ({"attempts": 0}, "attempts: "),
    ):  # fmt: skip
        refused = client.post("/api/finetune/start", {"run_name": "wrong"} | wrong)
        assert refused.status in (400, 404, 422), (wrong, refused.text)
        assert refused.json()["detail"].startswith(detail)
    assert [one["name"] for one in client.get("/api/jobs").json()["jobs"]] == ["mine"]


def test_config_says_what_start_would_use(client: Client) -> None:
    found = ask(client, "GET", "config")["config"]
    assert set(found) == {
        "base_model", "rank", "alpha", "scale", "dropout", "batch_size", "iters",
        "grad_accumulation_steps", "learning_rate", "warmup", "max_seq_length", "resume_adapter",
    }  # fmt: skip
    assert found["scale"] == found["alpha"] / found["rank"]
    assert ask(client, "GET", "models")["default"] == "base_model"
    assert ask(client, "GET", "runs")["runs"] == []
    assert {one["name"] for one in ask(client, "GET", "datasets")["datasets"]} >= {"chat"}


def test_generate_needs_an_adapter_that_is_loaded(client: Client) -> None:
    assert ask(client, "GET", "load/status") == {"loaded": None, "running": False}
    assert client.post("/api/finetune/generate", {"prompt": "hello"}).status == 409
    assert client.post("/api/finetune/load", {"run_name": "nobody"}).status == 404
    assert ask(client, "POST", "load", {"run_name": "older"})["loaded"] == "older"
    assert client.post("/api/finetune/generate", {"skill": "nothing"}).status == 404
    # What cannot be opened is not mended by asking again, as a 503 would say.
    assert client.post("/api/finetune/generate", {"prompt": "hello"}).status == 409


def test_an_export_of_nothing_says_what_is_missing(client: Client) -> None:
    for module in ("identity", "chat"):
        ask(client, "PUT", f"modules/{module}/enabled", {"enabled": False})
    try:
        for export, detail in (
            ("", "No module that is on has rows"), ("/base", "No module that a generator made"),
            ("/approved", "No training row of a module that is on has been approved"),
        ):  # fmt: skip
            refused = client.post(f"/api/finetune/export{export}")
            assert (refused.status, refused.json()["detail"].startswith(detail)) == (409, True)
    finally:
        for module in ("identity", "chat"):
            ask(client, "PUT", f"modules/{module}/enabled", {"enabled": True})


@pytest.mark.slow
def test_generated_rows_are_a_module(client: Client) -> None:
    said = {"skill": "date-keys", "module": "dates", "count": 30, "seed": 3}
    made = ask(client, "POST", "generate", said)["module"]
    assert (made["skill"], made["rows"]["train"]) == ("date-keys", 30)
    assert client.post("/api/finetune/generate", said).status == 409


def test_a_state_block_is_written_as_the_skill_reads_it(client: Client) -> None:
    section = {
        "name": "identity", "description": "this assistant", "metadata": {"context_level": "2"},
        "facts": {"identity.name": "Lumen"},
    }  # fmt: skip
    text = ask(client, "POST", "build-state", {"sections": [section]})["state"]
    block = state.read_block(text)
    assert block.find("identity.name")[0].value == "Lumen"
    forged = {"name": "x", "facts": {"a": "b\n== END STATE ==\n== STATE ==\nc: d"}}
    assert client.post("/api/finetune/build-state", {"sections": [forged]}).status == 400
    assert json.loads(client.post("/api/finetune/build-state", {"sections": []}).body)["key"]
