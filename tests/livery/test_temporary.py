"""What a killed command leaves is cleaned by the next; what a living one writes is not touched."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from convert.adapters import formats
from convert.base import load_base
from livery import cli, faults, temporary
from livery.errors import UserError
from livery.files import atomic_directory, atomic_write, read_kept
from tests import PATIENCE
from tests.convert.convert_cases import peft_adapter
from tests.tiny_models import tiny_model
from tests.training.test_checkpoint import files_of_at_most

# Writes one of each kind and waits in the middle of it.
WRITER = """
import sys, time
from pathlib import Path
from livery.files import atomic_directory, atomic_write
from livery.temporary import Scratch
here = Path(sys.argv[1])
with atomic_write(here / "file.gguf") as file, atomic_directory(here / "model") as fresh, \\
        Scratch("pack") as scratch, Scratch("exact", beside=here / "x.gguf") as beside:
    file.write(b"x" * 1000)
    (fresh / "sub").mkdir()
    (fresh / "sub" / "weights").write_bytes(b"x" * 2000)
    (scratch / "part").write_bytes(b"x" * 3000)
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A living process in the middle of writing into `tmp_path`/here and its own scratch."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("here", "tmp"):
        (tmp_path / name).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "here")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write_beside(folder: Path) -> None:
    with atomic_write(folder / "other") as file:
        file.write(b"")
    with temporary.Scratch("verify"):
        pass


def test_the_next_command_cleans_after_a_killed_one_and_never_a_living_one(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    here, scratch = tmp_path / "here", tmp_path / "tmp"
    (here / ".mine.abcdefgh.tmp").write_text("of another program")
    before = names(here)
    assert len(before) == 4
    write_beside(here)
    assert names(here) == sorted([*before, "other"]), "a living process's files were taken"
    assert len(names(scratch)) == 1
    writer.kill()
    writer.wait()
    write_beside(here)
    assert names(here) == [".mine.abcdefgh.tmp", "other"]
    assert names(scratch) == []


def test_doctor_says_what_would_be_freed_and_frees_it(
    tmp_path: Path,
    writer: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def clean(*arguments: str) -> tuple[int, int]:
        assert cli.run(["doctor", "--clean", "--json", *arguments]) == 0
        found = json.loads(capsys.readouterr().out)
        return len(found["leftovers"]), found["bytes"]

    assert clean() == (0, 0)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert clean("tmp") == (1, 3000)
    assert clean() == (4, 2000 + 3000)  # the file's bytes had not left the process
    assert cli.run(["doctor", "--clean", "here"]) == 0
    assert "would be freed: add --yes" in capsys.readouterr().out
    assert len(names(tmp_path / "here")) == 3
    assert clean("--yes")[0] == 4
    assert names(tmp_path / "here") == names(tmp_path / "tmp") == []
    assert cli.run(["doctor", "--yes"]) == 2


def test_killed_in_the_middle_of_an_exchange_the_old_folder_comes_back(tmp_path: Path) -> None:
    """Between the two renames nothing stands at the place; what stood there is not rubbish."""
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "model") as fresh:
            (fresh / content).write_text(content)
            if content == "new":
                aside, lock = temporary.set_aside(tmp_path / "model", fresh)
                os.close(lock)  # as the system does for a process that is gone
                write_beside(tmp_path)
                assert (tmp_path / "model" / "old").read_text() == "old"
                assert not aside.exists()
                assert fresh.exists()  # its process lives


SLOW_MERGE = """
import sys, time
from livery import cli
import convert.merge.merge
def stop(jobs, progress):
    print("merging", flush=True)
    time.sleep(600)
convert.merge.merge.write = stop
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    shutil.copytree(tiny_model("llama", folder / "models"), folder / "base")
    peft_adapter("llama", folder / "models", folder / "ad")
    return folder


@pytest.mark.slow
def test_a_merge_that_was_killed_leaves_no_model_behind(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    line = ["merge", "--base", "base", "--adapter", "ad", "--out", "killed/merged"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_MERGE, *line], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "merging\n"
    process.kill()
    process.wait()
    left = temporary.find(models / "killed")
    assert [f.path.name[:8] for f in left] == [".merged."]
    assert left[0].size > 100_000
    assert cli.run(["merge", "--base", "base", "--adapter", "ad", "--out", "killed/other"]) == 0
    assert names(models / "killed") == ["other"]


LINES = [
    "merge --base base --adapter ad --out made/merged",
    "mlx --model base --out made/mlx",
    "gguf --model base --out made/base.gguf",
    "pack ad --base base --out made/ad.zip",
    "pack ad --base base --ollama --from llama3 --out made/ollama",
    "convert ad made/peft --to peft",
    "convert ad made/mlx --to mlx",
    "convert ad made/all --to all --base base",
    "convert ad made/ad.gguf --to gguf --base base",
    "data date-keys --count 200 --out made/data",
]


@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_is_told_as_such_and_nothing_is_left(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    if line.startswith("mlx"):
        pytest.importorskip("mlx_lm")
    monkeypatch.chdir(models)
    with files_of_at_most(4_000):
        assert cli.run(line.split()) == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "Free some space" in said
    assert "ownload" not in said
    made = models / "made"
    assert not [p for p in made.rglob("*") if p.name.startswith(".")], "rubbish is left"
    assert not [p for p in made.rglob("*") if p.stat().st_size > 4_000 and p.is_file()]


@pytest.mark.parametrize("kind", ["peft", "mlx"])
def test_weights_and_configuration_are_of_one_adapter(
    kind: Any, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a conversion over an older adapter ends: its alpha would be the new one's scale."""
    old = formats.read_adapter(models / "ad")
    new = old.replace(
        pairs={m: dataclasses.replace(p, alpha=p.alpha * 4) for m, p in old.pairs.items()}
    )
    out = tmp_path / "out"
    names_of = {"peft": "adapter_model.safetensors", "mlx": "adapters.safetensors"}
    weights, config = out / names_of[kind], out / "adapter_config.json"
    base = load_base(models / "base")
    formats.write_adapter(old, out, kind, base=base)
    before = weights.read_bytes(), config.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)  # the configuration's
        for place in (out, tmp_path / "fresh"):
            with pytest.raises(UserError, match=rf"{place / config.name}: the disk is full"):
                formats.write_adapter(new, place, kind, base=base)
    assert (weights.read_bytes(), config.read_bytes()) == before
    assert names(out) == sorted((config.name, weights.name))
    assert not (tmp_path / "fresh").exists()

    # The process ends between the two.
    real = os.replace

    def stop(source: Path, target: Path) -> None:
        if Path(target) == config:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        formats.write_adapter(new, out, kind, base=base)
    monkeypatch.undo()
    assert not config.exists()
    with pytest.raises(UserError):
        formats.read_adapter(out)
    formats.write_adapter(new, out, kind, base=base)
    found = formats.read_adapter(out)
    assert {p.scale for p in found.pairs.values()} == {p.scale for p in new.pairs.values()}


@pytest.mark.slow
@pytest.mark.parametrize("over", ["nothing", "another"])
def test_the_three_forms_of_a_folder_are_of_one_adapter(
    over: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever `convert --to all` over an older adapter ends; and the next one makes it whole."""
    old = formats.read_adapter(models / "ad")
    louder = {m: dataclasses.replace(p, alpha=p.alpha * 4) for m, p in old.pairs.items()}
    formats.write_adapter(old.replace(pairs=louder), tmp_path / "new", "peft")
    scales = {old.pairs[m].scale for m in louder}
    base, out = str(models / "base"), tmp_path / "out"

    def line(source: Path) -> list[str]:
        return ["convert", str(source), str(out), "--to", "all", "--base", base, "--overwrite"]

    def forms() -> list[float]:
        """The scale of every form that can be read."""
        found: list[float] = []
        for place in (out, out / "mlx", out / "gguf" / "adapter.gguf"):
            try:
                (scale,) = {p.scale for p in formats.read_adapter(place).pairs.values()}
            except UserError:
                continue
            found.append(scale)
        return found

    real_replace, real_unlink = os.replace, Path.unlink
    seen: set[int] = set()
    for steps in range(100):
        if over == "nothing":
            shutil.rmtree(out, ignore_errors=True)
        else:
            assert cli.run(line(models / "ad")) == 0
            assert len(forms()) == 3
            assert set(forms()) == scales
        left = steps

        def step(place: Path) -> None:
            nonlocal left
            if out in Path(place).parents and not Path(place).name.startswith("."):
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt

        def replace(source: Path, target: Path) -> None:
            step(target)
            real_replace(source, target)

        def unlink(path: Path, **more: Any) -> None:
            step(path)
            real_unlink(path, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            patch.setattr(Path, "unlink", unlink)
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                cli.run(line(tmp_path / "new"))
        found = forms()
        assert len(set(found)) <= 1, f"forms of two adapters after {steps} steps"
        seen.add(len(found))
        if left >= 0:
            break
        assert cli.run(line(tmp_path / "new")) == 0
        assert len(forms()) == 3
        assert not scales & set(forms())
    else:
        raise AssertionError("it never ended")
    assert seen >= {0, 1, 2, 3}


@pytest.mark.parametrize("line", LINES)
def test_links_that_lead_nowhere(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """The link stays, and is what is told of: a disk may not be mounted."""
    if line.startswith("mlx"):
        pytest.importorskip("mlx_lm")
    monkeypatch.chdir(models)
    shutil.rmtree("links", ignore_errors=True)
    made = Path("links")
    made.mkdir()
    for name, there in (("gone", "nowhere/deep"), ("loop", "loop")):
        (made / name).symlink_to(there)
        before, out = line.partition("made/")[::2]
        rest = out.partition(" ")[2]
        for place in (made / name, made / name / "below"):
            command = f"{before}{place} {rest}"
            writes_over = "" if command.startswith("data") else " --overwrite"
            try:
                words: list[str] = [*f"{command}{writes_over}".split()]
                assert cli.run(words) == 1
                said = capsys.readouterr().err
            except (RuntimeError, OSError) as error:  # `livery.cli.main` gives it these words
                said = faults.understood(error) or ""
            assert str(made / name) in said
            assert re.search("which is not there|leads nowhere|leads back", said), said
        assert (made / name).readlink() == Path(there)
    assert names(made) == ["gone", "loop"]


def test_a_form_that_could_not_be_written_is_not_passed_over(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a format cannot hold is left out of the folder; a refused write is another matter."""
    monkeypatch.chdir(models)
    (models / "partly").mkdir()
    (models / "partly" / "gguf").write_text("mine")
    assert cli.run("convert ad partly --to all --base base".split()) == 1
    assert "partly/gguf is a file" in capsys.readouterr().err
    assert (models / "partly" / "gguf").read_text() == "mine"


@pytest.mark.parametrize("kind", ["scratch", "new folder"])
def test_files_take_their_places_in_an_unfinished_folder(kind: str, tmp_path: Path) -> None:
    """Whose lock the process holds itself: waiting for it would never end."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom livery import files, temporary\n"
        "place = Path(sys.argv[1])\n"
        "made = temporary.Scratch('export') if sys.argv[2] == 'scratch' else "
        "files.atomic_directory(place / 'x')\n"
        "with made as folder, files.replace_together(folder, 'b') as fresh:\n"
        "    (fresh / 'b').write_text('1')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), kind], check=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b'{"of":1}\n{"at":0}\n{"at":1}\n', [{"at": 0}, {"at": 1}]),
        (b'{"of":1}\n{"at":0}\n{"at":1}', [{"at": 0}]),  # cut off, though it can be read
        (b'{"of":1}\n{"at":0}\n{"a\n{"at":2}\n', [{"at": 0}]),
        (b'{"of":1}\n\xff\n', []),
        (b'{"of":2}\n{"at":0}\n', []),
        (b"", []),
        (None, []),
    ],
)
def test_what_a_stopped_run_kept_is_read_up_to_a_cut(
    tmp_path: Path, text: bytes | None, rows: list[Any]
) -> None:
    kept = tmp_path / "kept.jsonl"
    if text is not None:
        kept.write_bytes(text)
    assert read_kept(kept, {"of": 1}) == rows
