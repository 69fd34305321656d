"""Which files of a folder, a zip or a hub's data set are which split."""

from __future__ import annotations

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from livery.dataset.raw import raw_rows
from livery.dataset.sources import Splits, digest, find
from livery.errors import UserError
from livery.paths import HOME
from tests.dataset import files

ROWS = [{"prompt": f"{n}", "completion": "b"} for n in range(3)]


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        files.write(folder, name, ROWS)
    return folder


def names(folder: Path, found: Splits) -> dict[str, list[str]]:
    return {
        split: [str(s).removeprefix(f"{folder}/") for s in sources]
        for split, sources in found.items()
    }


SHARDS = [f"train-0000{n}-of-00003.parquet" for n in range(3)]


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        (["train.jsonl"], {"train": ["train.jsonl"]}),
        (["train.jsonl", "valid.jsonl", "test.jsonl", "readme.txt"],
         {"train": ["train.jsonl"], "valid": ["valid.jsonl"], "test": ["test.jsonl"]}),
        (["train.csv", "validation.csv"], {"train": ["train.csv"], "valid": ["validation.csv"]}),
        (["Train.json", "dev.jsonl.gz"], {"train": ["Train.json"], "valid": ["dev.jsonl.gz"]}),
        (["train.parquet", "val.tsv"], {"train": ["train.parquet"], "valid": ["val.tsv"]}),
        ([f"data/{name}" for name in SHARDS] + ["data/test-00000-of-00001.parquet"],
         {"train": [f"data/{name}" for name in SHARDS],
          "test": ["data/test-00000-of-00001.parquet"]}),
        (["train-00000-of-00001-8a6f5bce4a2a5a3c.parquet"],
         {"train": ["train-00000-of-00001-8a6f5bce4a2a5a3c.parquet"]}),
        (["train_10.jsonl", "train_9.jsonl"], {"train": ["train_9.jsonl", "train_10.jsonl"]}),
        (["train_1.jsonl", "train_2.jsonl.gz"], {"train": ["train_1.jsonl", "train_2.jsonl.gz"]}),
        (["train/a.jsonl.zst", "train/b.jsonl"],
         {"train": ["train/a.jsonl.zst", "train/b.jsonl"]}),
        (["train/a.jsonl", "train/b.jsonl", "eval/c.jsonl"],
         {"train": ["train/a.jsonl", "train/b.jsonl"], "valid": ["eval/c.jsonl"]}),
        (["chats.parquet", ".cache.jsonl", "manifest.json"], {"train": ["chats.parquet"]}),
        (["data/rows.jsonl"], None),
    ],
)  # fmt: skip
def test_splits_by_name(
    tmp_path: Path, holds: list[str], expected: dict[str, list[str]] | None
) -> None:
    lay(tmp_path, *holds)
    if expected is None:
        with pytest.raises(UserError, match="holds no train"):
            find(tmp_path)
        return
    found = find(tmp_path)
    assert names(tmp_path, found) == expected
    assert [row for s in found.train for _, row in raw_rows(s)] == ROWS * len(found.train)


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ([], "holds no train.jsonl.*it holds nothing"),
        (["valid.jsonl"], "holds no train.jsonl.*it holds valid.jsonl"),
        (["a.jsonl", "b.jsonl"], "holds no train.jsonl.*it holds a.jsonl, b.jsonl"),
        (
            ["train.jsonl", "train.csv"],
            "train.csv and train.jsonl: which of them is",
        ),
        (["train.jsonl", "train.jsonl.gz"], "which of them is the train"),
        (["train_1.jsonl", "train_2.jsonl", "train_2.jsonl.gz"], "the same part of the train"),
        (["train_1.jsonl", "train_2.csv"], "which of them is the train"),
        (["train.jsonl", "data/train.jsonl"], "which of them is the train"),
        (["train.jsonl", "train_2.jsonl"], "which of them is the train"),
        (["train.jsonl", "valid.jsonl", "validation.jsonl"], "which of them is the valid"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "number 1 is missing"),
    ],
)
def test_what_is_missing_or_ambiguous_is_said(
    tmp_path: Path, holds: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find(lay(tmp_path, *holds))


def test_one_file_and_its_neighbours(tmp_path: Path) -> None:
    lay(tmp_path, "train.jsonl", "valid.csv", "other.jsonl")
    found = find(tmp_path / "train.jsonl")
    assert names(tmp_path, found) == {"train": ["train.jsonl"], "valid": ["valid.csv"]}
    assert names(tmp_path, find(tmp_path / "other.jsonl")) == {"train": ["other.jsonl"]}
    with pytest.raises(UserError, match="no such folder or file"):
        find(tmp_path / "none")


def test_a_zip_is_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    for top in ("", "mine/"):
        held = {
            f"{top}train.jsonl": files.as_lines(ROWS),
            f"{top}valid.parquet": files.as_parquet(ROWS),
            "__MACOSX/train.jsonl": b"no",
        }
        path.write_bytes(files.zipped(held))
        found = find(path)
        assert [str(s) for s in found.train] == [f"{path}/{top}train.jsonl"]
        assert [row for s in (*found.train, *found.valid) for _, row in raw_rows(s)] == ROWS * 2
    path.write_bytes(files.zipped({"chats.jsonl": files.as_lines(ROWS)}))
    assert len(find(path).train) == 1
    path.write_bytes(files.zipped({"a.jsonl": b"", "b.jsonl": b""}))
    with pytest.raises(UserError, match="holds no train"):
        find(path)


NAMES = {"out": "../valid.jsonl", "root": "/valid.jsonl", "control": "valid\n.jsonl"}


def suspicious(path: Path, kind: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.jsonl", files.as_lines(ROWS))
        if kind == "twice":
            archive.writestr("train.jsonl", b"{}")
        elif kind == "link":
            entry = zipfile.ZipInfo("valid.jsonl")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
        else:
            archive.writestr(NAMES.get(kind, "valid.jsonl"), b"{}")
    data = path.read_bytes()
    if kind == "encrypted":
        path.write_bytes(data.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"))
    elif kind == "cut":
        path.write_bytes(data[:-9])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("twice", "occurs twice"), ("link", "is a link"), ("out", "leads out of it"),
        ("root", "leads out of it"), ("control", r"valid\\n.jsonl"), ("encrypted", "is encrypted"),
        ("cut", "not a complete zip file"),
    ],
)  # fmt: skip
def test_a_zip_is_read_with_suspicion(tmp_path: Path, kind: str, message: str) -> None:
    suspicious(tmp_path / "x.zip", kind)
    with pytest.raises(UserError, match=message):
        find(tmp_path / "x.zip")


def test_damage_within_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(files.zipped({"train.jsonl": files.as_lines(ROWS * 100)}))
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a complete zip file"):
        list(raw_rows(find(path).train[0]))


def test_the_digest_of_one_file_and_of_shards(tmp_path: Path) -> None:
    one = find(lay(tmp_path / "one", "train.jsonl")).train
    many = find(lay(tmp_path / "many", *SHARDS)).train
    files.write(tmp_path / "many", SHARDS[0], ROWS[:1])
    assert len(digest(one)) == len(digest(many)) == 64
    assert digest(many) != digest(many[::-1])


@pytest.mark.slow
def test_a_data_set_of_the_hub_as_it_was_downloaded(tmp_path: Path) -> None:
    """Offline: the hub's own cache, laid out by hand."""
    cache = tmp_path / "datasets--people--chats"
    commit = "0" * 40
    lay(cache / "snapshots" / commit / "data", "train-00000-of-00001.parquet")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    code = (
        "import sys\nfrom livery.dataset.sources import find\nfrom livery.errors import UserError\n"
        "try: print(find(sys.argv[1]).train[0])\nexcept UserError as error: print(error)\n"
    )

    def ask(name: str) -> str:
        environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code, name], cwd=HOME, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert ask("people/chats").strip().endswith(f"{commit}/data/train-00000-of-00001.parquet")
    assert "people/others: no such file or folder, and the hub's data set" in ask("people/others")
