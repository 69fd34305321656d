"""Datasets over HTTP: browsing, review beside the rows, uploads that are refused or taken whole,
exports that hold what the rows hold."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from livery.errors import UserError
from livery.serve import datasets, exports
from livery.serve.review import set_status
from livery.serve.rows import check, unpack, write_jsonl, write_parquet
from tests.serve.serving import Answer, Client, served, settings_of


def row(text: str, answer: str = "yes") -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    }


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows).encode()


ROWS = [row(f"question {i}", f"Antwort Größe {i}") for i in range(30)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_of(tmp_path_factory.mktemp("data"))
    folder = settings.data / "mine"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(lines(ROWS))
    (folder / "valid.jsonl").write_bytes(lines(ROWS[:3]))
    with served(settings) as client:
        yield client


def texts(answer: Answer) -> list[str]:
    return [one["row"]["messages"][0]["content"] for one in answer.json()["rows"]]


def test_datasets_are_listed_with_their_splits(client: Client) -> None:
    found = {one["name"]: one for one in client.get("/api/datasets").json()["datasets"]}
    assert found["mine"]["splits"]["train"]["rows"] == 30
    assert set(found["mine"]["splits"]) == {"train", "valid"}


def test_rows_by_page_and_by_what_they_hold(client: Client) -> None:
    page = client.get("/api/datasets/mine/rows?offset=28&limit=5")
    assert texts(page) == ["question 28", "question 29"]
    assert page.json()["total"] == 30
    found = client.get("/api/datasets/mine/rows?q=QUESTION%201&limit=3")
    assert found.json()["total"] == 11
    assert texts(found) == ["question 1", "question 10", "question 11"]
    assert client.get("/api/datasets/mine/rows?q=gr%C3%B6sse%207").json()["total"] == 1
    assert client.get("/api/datasets/mine/rows?q=role").json()["total"] == 0  # a key, no value
    assert client.get("/api/datasets/mine/rows?split=test").status == 404


def test_a_link_within_the_root_is_a_file_like_others(client: Client) -> None:
    folder = client.settings.data / "linked"
    folder.mkdir()
    (folder / "train.jsonl").symlink_to("../mine/valid.jsonl")
    assert client.get("/api/datasets/linked").json()["splits"]["train"]["rows"] == 3
    assert len(texts(client.get("/api/datasets/linked/rows?split=train"))) == 3


def test_approval_is_kept_beside_the_rows(client: Client) -> None:
    file = client.settings.data / "mine" / "train.jsonl"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    shown = client.get("/api/datasets/mine/rows?offset=4&limit=1").json()["rows"][0]
    assert (shown["n"], shown["status"]) == (5, "new")
    put = client.ask("PUT", "/api/datasets/mine/rows/5", {"status": "approved", "id": shown["id"]})
    assert put.json() == {"rows": 1}
    assert client.ask("PUT", "/api/datasets/mine/rows/6", {"status": "rejected"}).status == 200
    assert texts(client.get("/api/datasets/mine/rows?status=approved")) == ["question 4"]
    assert texts(client.get("/api/datasets/mine/rows?status=rejected")) == ["question 5"]
    both = client.get("/api/datasets/mine/rows?status=approved&status=new").json()
    assert both["total"] == 29
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert client.get("/api/datasets/mine").json()["review"] == {"approved": 1, "rejected": 1}
    # A row before it goes: the status stays with the row, and the number seen before is refused.
    file.write_bytes(lines(ROWS[1:]))
    assert texts(client.get("/api/datasets/mine/rows?status=approved")) == ["question 4"]
    stale = {"status": "rejected", "id": shown["id"]}
    assert client.ask("PUT", "/api/datasets/mine/rows/5", stale).status == 409
    file.write_bytes(lines(ROWS))
    assert client.ask("PUT", "/api/datasets/mine/rows/31", {"status": "new"}).status == 404
    assert client.ask("PUT", "/api/datasets/mine/rows/5", {"status": "great"}).status == 422


def test_a_copy_leaves_out_what_was_rejected(client: Client) -> None:
    folder = client.settings.data / "weak"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(lines(ROWS[:4]))
    client.ask("PUT", "/api/datasets/weak/rows/2", {"status": "rejected"})
    assert client.post("/api/datasets/weak/review", {"status": "approved"}).json() == {"rows": 3}
    made = client.post("/api/datasets/weak/copy", {"name": "strong"})
    assert made.status == 201
    assert (client.settings.data / "strong" / "train.jsonl").read_bytes() == lines(
        [ROWS[0], *ROWS[2:4]]
    )
    assert client.post("/api/datasets/weak/copy", {"name": "strong"}).status == 409
    everything = {"name": "none", "leave_out": ["approved", "rejected", "new"]}
    assert client.post("/api/datasets/weak/copy", everything).status == 400
    assert not (client.settings.data / "none").exists()


def test_jsonl_is_exported_as_it_is_and_in_ranges(client: Client) -> None:
    whole = client.get("/api/datasets/mine/export")
    assert whole.body == (client.settings.data / "mine" / "train.jsonl").read_bytes()
    part = client.get("/api/datasets/mine/export", Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.body)}"
    assert client.get("/api/datasets/mine/export", Range="bytes=-7").body == whole.body[-7:]
    past = client.get("/api/datasets/mine/export", Range=f"bytes={len(whole.body)}-")
    assert past.status == 416
    stale = client.get("/api/datasets/mine/export", Range="bytes=1-2", If_Range='"other"')
    assert (stale.status, stale.body) == (200, whole.body)


@pytest.mark.slow
def test_parquet_holds_the_same_rows(client: Client) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    answer = client.get("/api/datasets/mine/export?format=parquet&split=valid")
    assert answer.status == 200, answer.text
    assert parquet.read_table(io.BytesIO(answer.body)).to_pylist() == ROWS[:3]


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}, {"b": [1, 2], "a": None}],
        [{"m": [{"x": "ä"}, {"y": 2.5}]}, {"m": []}],
        [{"a": {"b": True}}],
    ],
)
def test_rows_survive_parquet(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "rows.jsonl").write_bytes(lines(rows))
    write_parquet(str(tmp_path / "rows.jsonl"), str(tmp_path / "out"))
    assert parquet.read_table(tmp_path / "out").num_rows == len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}, {"a": "one"}],  # of two types
        [{"a": 2**70}],
        [{"a": {}}],
        [{"a": 2**53 + 1}, {"a": 0.5}],  # a float cannot hold the first
    ],
)
def test_rows_that_parquet_cannot_hold_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.jsonl").write_bytes(lines(rows))
    with pytest.raises(UserError, match="Export JSONL"):
        write_parquet(str(tmp_path / "rows.jsonl"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# -- uploads ---------------------------------------------------------------------------------------


def send(client: Client, name: str, filename: str, body: bytes, **more: str) -> Answer:
    return client.ask("POST", f"/api/datasets?name={name}&filename={filename}", body, more)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.slow
def test_uploads_are_taken_whole(client: Client) -> None:
    one = send(client, "sent", "rows.jsonl", lines(ROWS))
    assert one.status == 201, one.text
    assert one.json()["dataset"]["splits"]["train"]["rows"] == 30
    assert send(client, "sent", "rows.jsonl", lines(ROWS)).status == 409
    table = b"prompt,completion\nwhat,that\nwho,me\n"
    assert send(client, "table", "t.csv", table).status == 201
    assert client.get("/api/datasets/table/rows").json()["rows"][1]["row"] == {
        "prompt": "who", "completion": "me",
    }  # fmt: skip
    packed = zipped({"top/train.jsonl": lines(ROWS), "top/valid.jsonl": lines(ROWS[:2])})
    taken = send(client, "packed", "d.zip", packed).json()
    assert taken["dataset"]["splits"]["valid"]["rows"] == 2
    assert not taken["check"]["ok"]
    assert {one["kind"] for one in taken["check"]["problems"]} == {"leak"}


@pytest.mark.slow
def test_what_training_would_refuse_is_not_kept(client: Client) -> None:
    for name, filename, body in [
        ("bad", "rows.jsonl", b"{"),
        ("bad", "rows.parquet", b"PAR1 but no more"),
        ("bad", "rows.zip", zipped({"notes.exe": b"x"})),
    ]:
        answer = send(client, name, filename, body)
        assert answer.status in (400, 422), answer.text
        assert str(client.settings.root) not in answer.text
        assert not (client.settings.data / name).exists()
    assert send(client, "bad", "rows.pkl", b"x").status == 400
    assert list(client.settings.uploads.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../out.jsonl", "/etc/out.jsonl", "a/../../out.jsonl", "a\\..\\out.jsonl", "C:out.jsonl",
        "a/b/c/d/e.jsonl", "train.jsonl\x00.exe", "train.jsonl.gz", "inner.zip", "x.py", "a\nb.csv",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_other_things_in_it_is_refused(tmp_path: Path, name: str) -> None:
    """Beside a good file, so that nothing is taken off the front of the name."""
    (tmp_path / "z.zip").write_bytes(zipped({"train.jsonl": lines(ROWS), name: b"{}\n"}))
    if "\x00" in name:  # zipfile itself cuts such a name when it reads it
        name = name.partition("\x00")[0]
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError):
        unpack(str(tmp_path / "z.zip"), str(tmp_path / "out"), "1000000", "10")
    assert {path.name for path in tmp_path.iterdir()} == {"z.zip", "out"}


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    bomb = zipped({"train.jsonl": b"\0" * 50_000_000})
    assert len(bomb) < 60_000
    (tmp_path / "z.zip").write_bytes(bomb)
    with pytest.raises(UserError, match="zip bomb"):
        unpack(str(tmp_path / "z.zip"), str(out), "1000000", "10")
    many = zipped({f"{i}.jsonl": b"" for i in range(50)})
    (tmp_path / "z.zip").write_bytes(many)
    with pytest.raises(UserError, match="more than 10 files"):
        unpack(str(tmp_path / "z.zip"), str(out), "1000000", "10")
    # A table of files that claims to be small, and one that claims to be of another size.
    at = many.rfind(b"PK\x05\x06")
    lying = many[: at + 8] + b"\x01\0\x01\0" + many[at + 12 :]
    (tmp_path / "z.zip").write_bytes(lying)
    with pytest.raises(UserError):
        unpack(str(tmp_path / "z.zip"), str(out), "1000000", "2")
    # One that says that it has one file, and a second table of more, which zipfile prefers.
    lying = many[: at + 8] + b"\x01\0\x01\0" + many[at + 12 :]
    (tmp_path / "z.zip").write_bytes(lying)
    with pytest.raises(UserError, match="more than 40 files"):
        unpack(str(tmp_path / "z.zip"), str(out), "1000000", "40")
    second = struct.pack("<LLQL", 0x07064B50, 0, at, 1)
    (tmp_path / "z.zip").write_bytes(many[:at] + second + many[at:])
    with pytest.raises(UserError, match="ZIP64"):
        unpack(str(tmp_path / "z.zip"), str(out), "1000000", "100")


@pytest.mark.parametrize("damaged", ["stream", "clash", "folder first"])
def test_a_faulty_zip_is_refused_in_a_sentence(tmp_path: Path, damaged: str) -> None:
    names = {"stream": ["train.jsonl"], "clash": ["a.jsonl", "a.jsonl/b.jsonl", "c.jsonl"],
             "folder first": ["a.jsonl/b.jsonl", "a.jsonl", "c.jsonl"]}[damaged]  # fmt: skip
    body = zipped(dict.fromkeys(names, lines(ROWS)))
    if damaged == "stream":
        begin = 30 + len("train.jsonl")
        body = body[:begin] + b"\xff" * 20 + body[begin + 20 :]
    (tmp_path / "z.zip").write_bytes(body)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"Not a complete zip|one name|twice"):
        unpack(str(tmp_path / "z.zip"), str(tmp_path / "out"), "1000000", "10")


@pytest.mark.slow
def test_an_upload_of_many_faults_is_told_some_of_them(tmp_path: Path) -> None:
    faulty = b"".join(b'{"text": "a"}\n' for _ in range(90)) + b'{"prompts": "a"}\n'
    (tmp_path / "train.jsonl").write_bytes(faulty)
    said = check(str(tmp_path), "50")
    assert not said["ok"]
    assert len(said["problems"]) == 50
    assert said["problems"][0]["kind"] == "form"


@pytest.mark.slow
def test_a_large_review_is_kept_and_a_damaged_one_is_not_written_over(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (settings.data / "mine").mkdir()
    (settings.data / "mine" / "train.jsonl").write_bytes(lines(ROWS))
    place = settings.data / ".approval" / "mine.json"
    place.parent.mkdir()
    place.write_text(json.dumps({f"{n:048x}": "approved" for n in range(70_000)}))
    assert place.stat().st_size > 4 << 20
    assert set_status(settings, "mine", "train", "rejected", n=1) == 1
    assert len(json.loads(place.read_text())) == 70_001
    place.write_text('{"cut')
    with pytest.raises(UserError, match=r"mine\.json"):
        set_status(settings, "mine", "train", "rejected", n=1)
    assert place.read_text() == '{"cut'
    assert "mine.json" in datasets.describe(settings, "mine").problem


def test_rows_that_grow_beyond_bounds_are_not_kept_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").write_text("prompt,completion\n" + "what,that\n" * 100)
    out = tmp_path / "out" / "rows.jsonl"
    out.parent.mkdir()
    with pytest.raises(UserError, match="more than 1,000 bytes"):
        write_jsonl(str(tmp_path / "in"), "train", str(out), "1000")
    assert list(out.parent.iterdir()) == []
    assert write_jsonl(str(tmp_path / "in"), "train", str(out), "10000") == {"rows": 100}


def test_a_search_finds_letters_however_they_are_written(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (settings.data / "mine").mkdir()
    written = lines([row("Straße")]) + b'{"text": "\\u0053tra\\u00dfe"}\n' + lines([row("Weg")])
    (settings.data / "mine" / "train.jsonl").write_bytes(written)
    for query in ("strasse", "STRASSE", "straße", "tra"):
        assert datasets.rows(settings, "mine", "train", query=query)[1] == 2, query


def test_exports_of_rows_do_not_pile_up(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (settings.data / "mine").mkdir()
    (settings.data / "mine" / "train.jsonl").write_bytes(lines(ROWS))
    out = settings.data
    for n in range(1, 29):
        set_status(settings, "mine", "train", "approved", n=n)
        out = exports.export(settings, "mine", "train", "jsonl", ["approved"])
        assert out.read_bytes() == lines(ROWS[:n])
    assert len(list(out.parent.iterdir())) < 25
