"""From logged answers to a better adapter, over HTTP: each way there, and the way back."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")

from livery.errors import UserError
from livery.files import sha256
from livery.interactions import Log
from livery.serve import improve
from livery.serve.jobs import store
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
from livery.serve.jobs.steps import command
from tests.serve.jobs_run import wait_until, working
from tests.serve.serving import Client, served, settings_of
from tests.serve.test_adapters import make_adapter
from tests.tiny_models import tiny_model

KEY = json.dumps({"keys": ["tomorrow"]})


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = settings_of(tmp_path)
    folder = make_adapter(settings.root, "dates", "peft")
    (folder / "run_config.json").write_text(json.dumps({"settings": {"data": "data/date-keys"}}))
    make_adapter(settings.root, "nameless", "peft")
    (settings.data / "date-keys").mkdir()
    (settings.data / "date-keys" / "manifest.json").write_text('{"skill": "date-keys"}')
    with served(settings) as found:
        yield found


def record(client: Client, text: str, answer: str, adapter: str | None = "dates") -> str:
    from livery.skills import get_skill

    place = improve.log_file(client.settings)
    messages = get_skill("date-keys").messages(text)
    return Log(place).record(messages, answer, skill="date-keys", adapter=adapter)


def test_the_log_is_switched_on_and_off_and_stays_so(client: Client) -> None:
    assert client.get("/api/improve/log").json() == {"on": False, "bytes": 0}
    assert client.ask("PUT", "/api/improve/log", {"on": True}).json()["on"] is True
    assert improve.is_logging(client.settings)  # of the file, as after a restart
    client.ask("PUT", "/api/improve/log", {"on": False})
    assert not improve.is_logging(client.settings)
    assert client.ask("PUT", "/api/improve/log", {"on": "maybe"}).status == 422


def test_the_skill_is_the_one_that_the_adapter_is_asked_as(client: Client) -> None:
    make_adapter(client.settings.root, "date-keys", "peft")  # its name alone says it
    models = client.get("/v1/models").json()["data"]
    assert {one["id"]: one["livery"]["skill"] for one in models if one["id"] != "base"} == {
        "date-keys": "date-keys", "dates": "date-keys", "nameless": "",
    }  # fmt: skip
    assert client.get("/api/improve/date-keys").json()["skill"] == "date-keys"
    assert client.get("/api/improve/date-keys/weak").status == 200
    assert client.get("/api/improve/nameless/weak").status == 409


@pytest.mark.slow
def test_weak_answers_are_found_marked_and_decided(client: Client) -> None:
    assert client.get("/api/improve/dates/weak").json()["interactions"] == []
    bad = record(client, "the day after this one", "I do not know")
    record(client, "of another adapter", "nonsense", "other")
    (one,) = client.get("/api/improve/dates/weak").json()["interactions"]
    assert one["id"] == bad
    assert one["weak"]
    said = {"id": bad, "verdict": "bad", "corrected": "--tomorrow"}
    assert client.post("/api/improve/dates/marks", said).status == 201
    (one,) = client.get("/api/improve/dates/weak").json()["interactions"]
    assert one["mark"]["corrected"] == "--tomorrow"
    # What the contract refuses is not approved; what is decided is gone from the list.
    refused = client.post("/api/improve/dates/review", {"id": bad, "choice": "approve"})
    assert refused.status == 400
    assert "contract" in refused.json()["detail"]
    none = client.post("/api/improve/dates/review", {"id": "none", "choice": "drop"})
    assert "has no interaction none" in none.json()["detail"]
    assert client.post("/api/improve/dates/review", {"id": bad, "choice": "drop"}).status == 201
    assert client.get("/api/improve/dates/weak").json()["interactions"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "none", None, 404),
        ("GET", "none/weak", None, 404),
        ("POST", "none/marks", {"id": "a", "verdict": "bad"}, 404),
        ("POST", "dates/marks", {"id": "a", "verdict": "bad"}, 404),
        ("POST", "dates/marks", {"id": "a\n", "verdict": "bad"}, 422),
        ("POST", "dates/review", {"id": "--all", "choice": "drop"}, 404),
        ("POST", "dates/review", {"id": "a", "choice": "correct", "answer": "x\0"}, 400),
        ("POST", "dates/retrain", {}, 409),
        ("POST", "dates/retrain", {"data": "../x"}, 422),
        ("POST", "dates/retrain", {"settings": {"model": "/etc"}}, 400),
        ("POST", "dates/retrain", {"settings": {"max_step": 1}}, 400),
        ("POST", "nameless/retrain", {}, 409),
        ("POST", "dates/promote", {"new": "none"}, 404),
        ("POST", "dates/promote", {"new": "dates"}, 400),
        ("POST", "dates/roll-back", {}, 400),
        ("PUT", "dates/schedule", {"hours": 0}, 422),
        ("PUT", "none/schedule", {"hours": 1}, 404),
    ],
)
def test_what_cannot_be_done_is_said(
    client: Client, method: str, path: str, body: Any, status: int
) -> None:
    answer = client.ask(method, f"/api/improve/{path}", body)
    assert answer.status == status, answer.text
    assert answer.json()["detail"]
    assert not path.startswith("nameless") or "the step eval" in answer.json()["detail"]
    assert client.get("/api/jobs").json()["jobs"] == []


@pytest.mark.slow
def test_what_was_approved_is_trained_on_and_compared(client: Client) -> None:
    rows = client.settings.data / "date-keys"
    from livery.skills import get_skill

    skill = get_skill("date-keys")
    for split, text in (("train", "see you tomorrow"), ("valid", "come next week")):
        turns = [
            *skill.messages(text),
            {"role": "assistant", "content": skill.render(["tomorrow"])},
        ]
        (rows / f"{split}.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    good = record(client, "the day that follows", skill.render(["tomorrow"]))
    nothing = client.post("/api/improve/dates/retrain")
    assert nothing.status == 409, nothing.text
    assert "nothing of it is approved" in nothing.json()["detail"]
    assert str(client.settings.root) not in nothing.json()["detail"]
    said = {"id": good, "verdict": "good"}
    client.post("/api/improve/dates/marks", said)
    # It was trained with these settings, and converted by a job of its own after that.
    jobs = Jobs(client.settings.root)
    for steps, used in ((("train",), {"max_steps": 7}), (("convert",), {})):
        asked = JobRequest(
            skill="date-keys", name="dates", steps=steps, settings=used, overwrite=True
        )
        store.change(jobs.engine, jobs.submit(asked).id, {"state": store.DONE})
    answer = client.post("/api/improve/dates/retrain", {"approve_marked": True})
    assert answer.status == 202, answer.text
    job = answer.json()
    assert (job["name"], job["request"]["data"]) == ("dates-next-1", "date-keys-next-1")
    assert job["request"]["steps"] == ["train", "convert", "pack", "promote"]
    assert job["request"]["over"] == "dates"
    assert job["request"]["settings"] == {"max_steps": 7, "model": "base_model"}
    merged = (client.settings.data / "date-keys-next-1" / "train.jsonl").read_text()
    assert "the day that follows" in merged
    assert client.post("/api/improve/dates/retrain").status == 409  # it has not ended
    overview = client.get("/api/improve/dates").json()
    assert [one["name"] for one in overview["jobs"]] == ["dates-next-1"]


def test_the_step_promote_is_the_command_promote(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    asked = JobRequest(skill="date-keys", name="new", steps=("promote",), over="old")
    assert command(jobs.layout, asked, "promote")[3:] == [
        "promote", "date-keys", "adapters/new", "--over=adapters/old"
    ]  # fmt: skip
    assert "promote" not in JobRequest(skill="date-keys").steps
    with pytest.raises(UserError, match="over names no adapter"):
        JobRequest(skill="date-keys", name="new", steps=("promote",))
    with pytest.raises(UserError, match="over is"):
        JobRequest(skill="date-keys", name="new", steps=("promote",), over="../old")


def test_the_way_back_is_one_request(client: Client) -> None:
    from eval.versions import put

    better = make_adapter(client.settings.root, "better", "peft")
    (better / "adapter_model.safetensors").write_bytes(b"better weights")
    place = client.settings.adapters / "dates"
    put(better, place, {"better": True, "reasons": ["more were right"]})
    weights = place / "adapter_model.safetensors"
    assert weights.read_bytes() == b"better weights"
    overview = client.get("/api/improve/dates").json()
    assert overview["promotion"]["figures"]["better"] is True
    assert overview["kept"] == ["0001"]
    # A zip of what is there now, which is younger than what was there before.
    with zipfile.ZipFile(client.settings.adapters / "dates.zip", "w") as archive:
        archive.write(weights, weights.name)
    assert client.get("/api/adapters/dates/export?form=zip").status == 200
    answer = client.post("/api/improve/dates/roll-back")
    assert answer.status == 200, answer.text
    assert weights.read_bytes() == b"peft weights"
    assert client.get("/api/adapters/dates/export?form=zip").status == 409
    # What nobody can name in a request is no adapter.
    assert client.post("/api/improve/dates.kept/roll-back").status == 404


def test_a_schedule_of_an_adapter_that_is_gone_holds_up_no_other(client: Client) -> None:
    settings, jobs = client.settings, Jobs(client.settings.root)
    gone = make_adapter(settings.root, "gone", "peft")
    (gone / "run_config.json").write_text(json.dumps({"settings": {"data": "data/date-keys"}}))
    for name in ("gone", "dates"):
        planned = client.ask("PUT", f"/api/improve/{name}/schedule", {"hours": 2})
        assert planned.status == 200
    shutil.rmtree(gone)
    assert improve.run_due(settings, jobs, planned.json()["due"]) == ["gone", "dates"]
    found = improve.schedules(settings)
    assert found["gone"].said == "There is no adapter named 'gone'."
    assert "Nothing has been logged yet" in found["dates"].said


def test_a_schedule_survives_and_is_due_once(client: Client) -> None:
    planned = client.ask("PUT", "/api/improve/dates/schedule", {"hours": 2}).json()
    settings, jobs = client.settings, Jobs(client.settings.root)
    assert improve.schedule(settings, "dates") == improve.Schedule(**planned)
    assert improve.run_due(settings, jobs, planned["due"] - 1) == []
    # The server was away for ten times as long.
    late = planned["due"] + 20 * 3600
    assert improve.run_due(settings, jobs, late) == ["dates"]
    assert improve.run_due(settings, jobs, late) == []
    found = improve.schedule(settings, "dates")
    assert found is not None
    assert found.due == late + 2 * 3600
    assert "Nothing has been logged yet" in found.said
    assert client.get("/api/improve/dates").json()["schedule"]["said"] == found.said
    assert client.ask("DELETE", "/api/improve/dates/schedule").status == 204
    assert improve.schedules(settings) == {}


# -- the whole way, with nothing made up -----------------------------------------------------------

CHORES = (
    "open the garage", "feed the cat", "dim the hall lamp", "find my keys", "read me a poem",
    "boil some water", "who sings this song", "clean the hob", "call the plumber", "warm the car",
    "tell me a joke", "water the ferns",
)  # fmt: skip
TRAINING: dict[str, Any] = {
    "dtype": "float32", "batch_size": 4, "lora.rank": 4, "max_steps": 48, "warmup_steps": 2,
    "learning_rate": 1e-2, "check_base": "no", "threads": 1, "samples": 0,
}  # fmt: skip


@pytest.mark.slow
def test_from_logged_answers_to_a_promoted_adapter_and_back(tmp_path: Path) -> None:
    """Real trainings of a tiny model by a real worker. The first adapter finds "tomorrow" in
    everything; the one that was corrected finds nothing, which is right for more of the cases."""
    pytest.importorskip("mlx_lm")
    from livery.skills import get_skill

    skill = get_skill("date-keys")
    model = str(tiny_model("llama", tmp_path / "models"))
    settings = settings_of(tmp_path / "root", models=(tmp_path,), engine="mlx")
    rows = settings.data / "mine"
    rows.mkdir()
    (rows / "manifest.json").write_text('{"skill": "date-keys"}')
    for split, count in (("train", 12), ("valid", 2)):
        made = [
            [*skill.messages(f"{split} {n} is tomorrow"),
             {"role": "assistant", "content": skill.render(["tomorrow"])}]
            for n in range(count)
        ]  # fmt: skip
        lines = [json.dumps({"messages": turns}) + "\n" for turns in made]
        (rows / f"{split}.jsonl").write_text("".join(lines))
    jobs = Jobs(settings.root)

    def ended(job: str, state: str) -> dict[str, Any]:
        found = wait_until(jobs, job, "done", "failed")
        assert found.state == state, found.log.read_text()
        return found.as_dict()

    with served(settings) as client, working(jobs):

        def answer(text: str, **more: Any) -> dict[str, Any]:
            body = {
                "model": "dates", "messages": skill.messages(text), "max_tokens": 24,
                "response_format": {"type": "livery_skill"}, **more,
            }  # fmt: skip
            found = client.post("/v1/chat/completions", body)
            assert found.status == 200, found.text
            return found.json()

        def said(text: str) -> str:
            return answer(text)["choices"][0]["message"]["content"]

        def post(path: str, body: Any = None, status: int = 202) -> Any:
            found = client.post(path, body)
            assert found.status == status, found.text
            return found.json()

        def bytes_of(name: str) -> dict[str, str]:
            folder = settings.adapters / name
            files = [path for path in folder.rglob("*") if path.is_file()]
            return {str(path.relative_to(folder)): sha256(path) for path in files}

        asked = {
            "skill": "date-keys", "data": "mine", "name": "dates", "backend": "mlx",
            "steps": ["train"], "settings": {**TRAINING, "model": model},
        }  # fmt: skip
        ended(post("/api/jobs", asked, 201)["id"], "done")
        first = bytes_of("dates")
        before = said(CHORES[0])
        assert before != skill.render([])

        # Log, weak answers, review.
        client.ask("PUT", "/api/improve/log", {"on": True})
        cut = answer(CHORES[0], max_tokens=2)["livery"]["interaction"]
        ids = [answer(text)["livery"]["interaction"] for text in CHORES[1:]]
        [weak] = client.get("/api/improve/dates/weak").json()["interactions"]
        assert weak["id"] == cut
        decided = {"id": cut, "choice": "correct", "answer": skill.render([])}
        post("/api/improve/dates/review", decided, 201)
        for id in ids:
            mark = {"id": id, "verdict": "bad", "corrected": skill.render([])}
            post("/api/improve/dates/marks", mark, 201)

        # Retraining, and promotion of what is better.
        job = post("/api/improve/dates/retrain", {"approve_marked": True})
        assert job["request"]["settings"] == {**TRAINING, "model": model}
        ended(job["id"], "done")
        found = client.get("/api/improve/dates").json()
        assert found["promotion"]["figures"]["better"] is True
        assert found["kept"] == ["0001"]
        second = bytes_of("dates")
        assert second["mlx/adapters.safetensors"] != first["mlx/adapters.safetensors"]
        assert said(CHORES[0]) == skill.render([])

        # What is not better replaces nothing.
        same = post("/api/improve/dates/promote", {"new": job["name"]})
        failed = ended(same["id"], "failed")
        assert failed["cause"]["kind"] == "target missed"
        assert bytes_of("dates") == second

        post("/api/improve/dates/roll-back", status=200)
        assert bytes_of("dates") == first
        assert said(CHORES[0]) == before
