"""What --overwrite may take away: an earlier output of the same command, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from livery import cli
from livery.errors import UserError
from livery.files import atomic_write
from livery.outputs import MARK, check_file, check_folder, fingerprint, new_folder, of_kind
from tests.convert.convert_cases import peft_adapter
from tests.tiny_models import tiny_model

COMMAND = "livery merge"


def written(folder: Path, command: str = COMMAND) -> Path:
    with new_folder(folder, command=command) as fresh:
        (fresh / "config.json").write_text("{}")
        (fresh / "sub").mkdir()
        (fresh / "sub" / "weights").write_bytes(bytes(range(256)) * 4096)
    return folder


def free(folder: Path, *inputs: Path | str | None, overwrite: bool = True) -> None:
    check_folder(folder, command=COMMAND, overwrite=overwrite, inputs=inputs)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): fingerprint(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() or p.is_symlink()
    }


def test_its_own_output_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    out = written(tmp_path / "out")
    with pytest.raises(UserError, match=r"exists. Add --overwrite"):
        free(out, overwrite=False)
    shutil.copytree(out, tmp_path / "copy")  # times of change are others
    free(tmp_path / "copy")
    with new_folder(out, command=COMMAND, overwrite=True) as fresh:
        (fresh / "new").write_text("")
    assert {p.name for p in out.iterdir()} == {"new", MARK}
    (tmp_path / "empty").mkdir()
    free(tmp_path / "empty")
    free(tmp_path / "not there", overwrite=False)


def added(out: Path) -> None:
    (out / "notes.txt").write_text("mine")


def added_below(out: Path) -> None:
    (out / "sub" / "more").mkdir()
    (out / "sub" / "more" / "notes.txt").write_text("mine")


def trained_on(out: Path) -> None:
    data = bytearray((out / "sub" / "weights").read_bytes())
    data[:] = bytes((byte + 1) % 256 for byte in data)  # the same length, other numbers
    (out / "sub" / "weights").write_bytes(data)


def edited(out: Path) -> None:
    (out / "config.json").write_text('{"a": 1}')


def unmarked(out: Path) -> None:
    (out / MARK).unlink()


def foreign_mark(out: Path) -> None:
    (out / MARK).write_text('{"files": {}}')


def linked(out: Path) -> None:
    (out / "link").symlink_to(out.parent)


@pytest.mark.parametrize(
    "change",
    [added, added_below, trained_on, edited, unmarked, foreign_mark, linked],
)
def test_what_somebody_put_there_or_changed_stays(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    out = written(tmp_path / "out")
    free(out)
    change(out)
    before = snapshot(out)
    with pytest.raises(UserError, match=r"replaces only what livery merge wrote"):
        free(out)
    with pytest.raises(UserError), new_folder(out, command=COMMAND, overwrite=True):
        pass
    assert snapshot(out) == before


def test_what_appears_while_the_command_works_stays_too(tmp_path: Path) -> None:
    out = written(tmp_path / "out")
    with (
        pytest.raises(UserError, match=r"notes.txt"),
        new_folder(out, command=COMMAND, overwrite=True),
    ):
        added(out)
    assert (out / "notes.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_another_commands_output_is_not_replaced(tmp_path: Path) -> None:
    written(tmp_path / "out", "livery mlx")
    with pytest.raises(UserError, match="was written by livery mlx"):
        free(tmp_path / "out")


@pytest.mark.parametrize("way", ["same", "below", "dots", "link", "linked files", "link in it"])
def test_a_folder_that_is_read_is_never_replaced(tmp_path: Path, way: str) -> None:
    out = written(tmp_path / "out")
    (tmp_path / "dir").mkdir()
    given: Path = out
    if way == "below":
        given = out / "sub" / "weights"
    elif way == "dots":
        given = tmp_path / "dir" / ".." / "out" / "sub"
    elif way == "link":
        (tmp_path / "link").symlink_to(out)
        given = tmp_path / "link" / "sub"
    elif way == "linked files":  # as the hub's cache keeps them
        given = tmp_path / "dir"
        (given / "model.safetensors").symlink_to(out / "sub" / "weights")
    elif way == "link in it":
        shutil.rmtree(out)
        with new_folder(out, command=COMMAND) as fresh:
            (fresh / "base").symlink_to(tmp_path / "dir")
        given = out / "base"
    with pytest.raises(UserError, match=r"which the command reads|is what the command reads"):
        free(out, "no/such/hub-id", None, given)
    with pytest.raises(UserError, match="reads"):
        free(out, given, overwrite=False)


def test_the_folder_one_is_in_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = written(tmp_path / "out")
    monkeypatch.chdir(out / "sub")
    for name in (out, Path(".."), Path("/"), tmp_path):
        with pytest.raises(UserError, match="the folder that you are in"):
            free(name)
    monkeypatch.chdir(tmp_path)
    free(out)
    monkeypatch.setenv("HOME", str(out / "sub"))
    with pytest.raises(UserError, match="is your home"):
        free(out)


def test_a_file_is_not_replaced_by_a_folder_nor_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        free(tmp_path / "file")
    with pytest.raises(UserError, match="is a folder"), atomic_write(tmp_path):
        pass
    with pytest.raises(UserError, match="is a folder"):
        check_file(tmp_path, overwrite=True, ours=lambda _: True, what="")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_replaced_by_its_own_kind_and_never_where_it_is_read(tmp_path: Path) -> None:
    def check(path: Path, *inputs: Path, overwrite: bool = True) -> None:
        check_file(
            path,
            overwrite=overwrite,
            inputs=inputs,
            ours=of_kind(".gguf", b"GGUF"),
            what="a GGUF file",
        )

    model = tmp_path / "model"
    model.mkdir()
    mine, weights = tmp_path / "mine.gguf", model / "model.safetensors"
    mine.write_bytes(b"GGUF....")
    weights.write_bytes(b"weights")
    check(mine)
    check(mine, model)
    check(tmp_path / "new.gguf", overwrite=False)
    with pytest.raises(UserError, match="exists"):
        check(mine, overwrite=False)
    with pytest.raises(UserError, match="is not a GGUF file"):
        check(weights, model)
    (tmp_path / "hard.gguf").hardlink_to(mine)
    (tmp_path / "soft.gguf").symlink_to(mine)
    for name in (mine, tmp_path / "hard.gguf", tmp_path / "soft.gguf"):
        with pytest.raises(UserError, match="is what the command reads"):
            check(name, mine)


def test_a_device_is_written_to_and_not_replaced() -> None:
    with atomic_write("/dev/null", "w") as file:
        file.write("nothing")
    assert not Path("/dev/null").is_file()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/ with an adapter in it, base/ad."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(tiny_model("llama", folder / "models"), folder / "base")
    peft_adapter("llama", folder / "models", folder / "base" / "ad")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "pack base/ad --ollama --from llama3 --out base --base base",
        "pack base/ad --ollama --from llama3 --out base/ad --base base",
        "pack base/ad --out base/model.safetensors --base base",
        "pack base/ad --out base/ad/adapter_model.safetensors",
        "mlx --model base/../base --out base",
        "mlx --model base --out .",
        "merge --base base --adapter base/ad --out base",
        "merge --base base --adapter base/ad --out base/ad",
        "merge --base link --adapter base/ad --out base",
        "gguf --model base --out base/model.safetensors",
        "gguf --model base --out base",
        "gguf --model base --out notes.txt",
        "convert base/ad base --to all --base base",
        "convert base/ad base/model.safetensors --to gguf --base base",
        "convert base/ad notes.txt --to peft",
        "convert base/ad project --to all --base base",
        "convert base/ad theirs --to peft",
    ],
)
def test_no_command_takes_away_what_it_reads_or_did_not_write(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    monkeypatch.chdir(here)
    (here / "notes.txt").write_text("mine")
    for name in ("project", "theirs"):
        (here / name).mkdir(exist_ok=True)
    (here / "project" / "README.md").write_text("mine")
    (here / "theirs" / "adapter_config.json").write_text("{}")
    if not (here / "link").is_symlink():
        (here / "link").symlink_to("base")
    before = snapshot(here)
    assert cli.run([*line.split(), "--overwrite"]) == 1
    said = capsys.readouterr().err
    assert said.count("Error: ") == 1
    assert snapshot(here) == before, said


@pytest.mark.slow
def test_each_command_replaces_its_own(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    for line in (
        "pack base/ad --ollama --from llama3 --out mine/ollama --base base",
        "pack base/ad --out mine/a.zip --base base",
        "merge --base base --adapter base/ad --out mine/merged",
        "gguf --model base --out mine/base.gguf",
        "convert base/ad mine/all --to all --base base",
        "convert base/ad mine/adapter.gguf --to gguf --base base",
        "convert mine/all mine/all --to all --base base",
    ):
        for more in ([], ["--overwrite"]):
            if line.startswith("convert mine/all mine/all"):
                more = ["--overwrite"]
            assert cli.run([*line.split(), *more]) == 0, (line, capsys.readouterr().err)
        assert cli.run(line.split()) == 1
        assert "Add --overwrite" in capsys.readouterr().err
    assert not [p.name for p in (here / "mine").iterdir() if p.name.startswith(".")]
