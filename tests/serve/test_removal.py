"""Runs, adapters and datasets deleted over HTTP, and kept where something needs them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("dbos", reason="needs the extra serve")

from livery.errors import UserError
from livery.files import write_json
from livery.serve import improve, removal
from livery.serve.improve import Schedule
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
from livery.serve.server import only_server
from livery.training import run_folder
from tests.serve.run_folders import make_run
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(settings_of(tmp_path_factory.mktemp("removal"))) as client:
        yield client


@pytest.fixture(scope="module")
def jobs(client: Client) -> Jobs:
    return Jobs(client.settings.root)


def add_rows(root: Path, name: str) -> Path:
    folder = root / "data" / name
    folder.mkdir()
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_adapter_goes_with_all_that_is_its_own(client: Client) -> None:
    settings = client.settings
    folder = make_adapter(settings.root, "gone", "peft")
    write_json(folder / "evaluation.json", {"skill": {"name": "persona"}})
    make_adapter(settings.root, "gone.kept/0001", "peft")
    (settings.adapters / "gone.zip").write_bytes(b"PK")
    make_adapter(settings.root, "gone-too", "peft")
    improve.set_schedule(settings, "gone-too", None)  # nothing was planned, nothing is written
    assert not (settings.state / "improve.json").exists()
    write_json(settings.state / "improve.json", {"schedules": {"gone": {"hours": 1.0, "due": 9e9}}})
    assert improve.schedule(settings, "gone") == Schedule(1.0, 9e9)
    answer = client.ask("DELETE", "/api/adapters/gone")
    assert (answer.status, answer.body) == (204, b"")
    assert there(settings.adapters) == ["gone-too"]
    assert improve.schedule(settings, "gone") is None
    assert client.ask("DELETE", "/api/adapters/gone").status == 404
    assert client.get("/api/adapters/gone").status == 404
    assert client.ask("DELETE", "/api/adapters/gone-too").status == 204


@pytest.mark.parametrize("other", ["first.kept", "first.zip"])
def test_an_adapter_that_is_named_like_what_another_has_stays(client: Client, other: str) -> None:
    for name in ("first", other):
        make_adapter(client.settings.root, name, "peft")
    assert client.ask("DELETE", "/api/adapters/first").status == 204
    assert client.get(f"/api/adapters/{other}").status == 200
    assert client.ask("DELETE", f"/api/adapters/{other}").status == 204


def test_a_server_killed_while_it_deletes_leaves_nothing_to_the_next_of_that_name(
    tmp_path: Path,
) -> None:
    """The main folder goes last: whoever asks again finds the rest."""
    for name in ("a", "a.zip", "a.kept"):
        (tmp_path / name).mkdir()
    gone: list[str] = []
    real = os.rename

    def rename(source: Path, to: Path) -> None:
        gone.append(source.name)
        real(source, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        removal._erase(removal._hide(tmp_path, [tmp_path / n for n in ("a", "a.zip", "a.kept")]))
    assert gone == ["a.kept", "a.zip", "a"]
    assert there(tmp_path) == []


def test_a_place_that_a_job_reaches_through_a_link_is_kept(client: Client, jobs: Jobs) -> None:
    root = client.settings.root
    add_rows(root, "linked")
    link = root / "data" / "by-way"
    link.symlink_to(root / "data" / "linked")
    job = jobs.submit(JobRequest(data="by-way", name="by-link")).id
    assert client.ask("DELETE", "/api/datasets/linked").status == 409
    jobs.cancel(job)
    assert client.ask("DELETE", "/api/datasets/linked").status == 204
    link.unlink()


def test_a_run_without_an_adapter_goes_too_but_not_while_it_runs(client: Client) -> None:
    folder = make_run(client.settings.root, "run")
    assert client.ask("DELETE", "/api/adapters/run").status == 404  # it is none yet
    with run_folder.locked(folder):
        refused = client.ask("DELETE", "/api/runs/run")
        assert (refused.status, refused.json()["key"]) == (409, "name")
        assert "A process works in adapters/run" in refused.json()["detail"]
    assert client.ask("DELETE", "/api/runs/run").status == 204
    assert not folder.exists()


def test_nobody_begins_with_what_is_about_to_go(client: Client, jobs: Jobs) -> None:
    """When it is renamed, its lock is held, and no job can be added."""
    settings = client.settings
    folder = make_run(settings.root, "taken")
    add_rows(settings.root, "wanted")
    real, met = os.rename, []

    def rename(source: Path, to: Path) -> None:
        if source.name not in ("taken", "wanted"):
            return real(source, to)
        if source == folder:
            with pytest.raises(UserError, match="another process is deleting it"):
                run_folder.locked(folder).__enter__()
        with (
            contextlib.closing(sqlite3.connect(jobs.engine.url.database or "", timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        met.append(source.name)
        return real(source, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        removal.remove_adapter(settings, jobs, "taken")
        removal.remove_dataset(settings, jobs, "wanted")
    assert met == ["taken", "wanted"]
    assert there(settings.adapters) == []


def test_whoever_moved_its_folder_away_leaves_the_next_ones_lock(tmp_path: Path) -> None:
    with contextlib.ExitStack() as next_one:
        with run_folder.locked(tmp_path / "run"):
            os.rename(tmp_path / "run", tmp_path / "gone")
            next_one.enter_context(run_folder.locked(tmp_path / "run"))
        with pytest.raises(UserError, match="another process"):
            run_folder.locked(tmp_path / "run").__enter__()


@pytest.mark.slow
def test_what_a_job_needs_is_kept_until_it_has_ended(client: Client, jobs: Jobs) -> None:
    root = client.settings.root
    for name in ("starts", "over", "made"):
        make_adapter(root, name, "peft")
    add_rows(root, "rows")
    add_rows(root, "persona-11")
    asked = [
        (JobRequest(data="rows", name="fresh", settings={"init_adapter": "adapters/starts"}),
         ["adapters/starts", "datasets/rows"]),
        (JobRequest(name="made", steps=("convert",)), ["adapters/made"]),
        (JobRequest(skill="persona", name="new", data_seed=11, steps=("train", "promote"),
                    over="over"), ["adapters/over", "datasets/persona-11"]),
    ]  # fmt: skip
    for request, kept in asked:
        job = jobs.submit(request).id
        for place in kept:
            refused = client.ask("DELETE", f"/api/{place}")
            assert (refused.status, refused.json()["key"]) == (409, "name"), place
            assert f"needed by job {job}, which is queued" in refused.json()["detail"]
        jobs.pause(job)
        assert client.ask("DELETE", f"/api/{kept[0]}").status == 409  # it may go on
        jobs.cancel(job)
        for place in kept:
            assert client.ask("DELETE", f"/api/{place}").status == 204, place


def test_a_dataset_goes_with_its_review(client: Client) -> None:
    settings = client.settings
    for name in ("mine", "mine-train"):
        add_rows(settings.root, name)
        said = {"split": "train", "status": "approved"}
        assert client.post(f"/api/datasets/{name}/review", said).json() == {"rows": 1}
        on = client.ask("PUT", f"/api/finetune/modules/{name}/enabled", {"enabled": False})
        assert on.status == 200
    made = settings.state / "rows"
    made.mkdir(exist_ok=True)
    for name in ("mine-train-0123.jsonl", "mine-train-train-0123.jsonl"):
        (made / name).touch()
    (settings.data / "one.jsonl").write_text((settings.data / "mine/train.jsonl").read_text())
    for name in ("mine", "one.jsonl"):
        assert client.ask("DELETE", f"/api/datasets/{name}").status == 204
        assert client.ask("DELETE", f"/api/datasets/{name}").status == 404
    assert there(settings.data) == [".approval", "mine-train"]
    assert there(settings.data / ".approval") == ["mine-train.json"]
    assert there(made) == ["mine-train-train-0123.jsonl"]
    assert json.loads((settings.state / "modules.json").read_text()) == {"mine-train": False}


def test_a_link_is_not_followed(client: Client) -> None:
    settings = client.settings
    folder = make_adapter(settings.root, "target", "peft")
    (settings.adapters / "link").symlink_to(folder)
    rows = add_rows(settings.root, "linked")
    (settings.data / "to-rows").symlink_to(rows)
    for place in ("adapters/link", "datasets/to-rows"):
        refused = client.ask("DELETE", f"/api/{place}")
        assert (refused.status, "is a link" in refused.json()["detail"]) == (409, True)
    for name in ("..", "%2e%2e", ".approval", "..%2fadapters"):
        assert client.ask("DELETE", f"/api/datasets/{name}").status in (404, 405)
    assert folder.exists()
    assert rows.exists()


def test_what_a_killed_server_had_begun_to_delete_is_deleted(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (settings.adapters / ".deleted-0123" / "checkpoints").mkdir(parents=True)
    (settings.data / ".deleted-4567").write_text("{}")
    with only_server(settings, "http://here"):
        assert there(settings.adapters) == there(settings.data) == []
