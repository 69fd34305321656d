"""`livery pack`: one zip, the same bytes every time, and what is refused on the way."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from commands.pack import pack_command
from convert import archive
from convert.adapters import formats
from convert.base import load_base
from convert.check.check import check
from convert.convert import convert
from convert.gguf.model import write_model
from convert.pack.folder import write_adapter_folder
from convert.pack.ollama import pack_ollama
from convert.pack.pack import pack
from livery import cli
from livery.errors import UserError
from tests import ROOT
from tests.convert.test_check import adapter, dora
from tests.tiny_models import tiny_model

ALL = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
    "gguf/adapter.gguf", "mlx/adapter_config.json", "mlx/adapters.safetensors", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture(scope="session")
def base_gguf(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "pack-llama.gguf"
    if not path.exists():
        write_model(base, path, "f16")
    return path


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    write_adapter_folder(adapter(base), tmp_path / "a", base)
    return tmp_path / "a"


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        return set(file.namelist())


def content(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as file:
        return file.read(name)


# --- what is written --------------------------------------------------------------------------


def test_the_zip_has_everything_and_unpacks(folder: Path, base: Path, tmp_path: Path) -> None:
    report = pack(folder, tmp_path / "x.zip")
    assert names(tmp_path / "x.zip") >= ALL
    assert report["made"] == []
    assert report["left_out"] == {}
    for name in report["files"]:
        assert content(tmp_path / "x.zip", name) == (folder / name).read_bytes()
    digest = hashlib.sha256((tmp_path / "x.zip").read_bytes()).hexdigest()
    assert report["sha256"] == digest
    # Any unzip makes a folder of it that everything takes.
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(tmp_path / "x.zip"), str(tmp_path / "out")],
        check=True,
    )
    assert all(verdict.taken for verdict in check(tmp_path / "out", base=base))


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    one = pack(folder, tmp_path / "1.zip")["sha256"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    for file in sorted(folder.rglob("*"), reverse=True):  # another order, other times and modes
        if file.is_file():
            copy = other / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o600)
            os.utime(copy, (1, 1))
    (other / "checkpoints").mkdir()
    (other / "optimizer.pt").write_bytes(b"not packed")
    assert pack(other, tmp_path / "2.zip")["sha256"] == one
    (other / "README.md").write_text("another card")  # the negative control
    assert pack(other, tmp_path / "3.zip")["sha256"] != one


def test_entries_say_nothing_of_the_machine(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        entries = file.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    for entry in entries:
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr >> 16 == stat.S_IFREG | 0o644
        assert (entry.compress_type, entry.create_system) == (zipfile.ZIP_STORED, 3)


@pytest.mark.parametrize("source", formats.FORMATS)
def test_missing_forms_are_made(source: Any, base: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base), tmp_path / "s", source, base=load_base(base))
    report = pack(tmp_path / "s", tmp_path / "x.zip", base=base)
    assert set(report["made"]) == set(formats.FORMATS) - {source}
    assert names(tmp_path / "x.zip") == ALL
    assert all(verdict.taken for verdict in check(tmp_path / "x.zip", base=base))
    again = pack(tmp_path / "s", tmp_path / "y.zip", base=base)
    assert again["sha256"] == report["sha256"]


def test_what_cannot_be_made_is_said(base: Path, tmp_path: Path) -> None:
    formats.write_adapter(dora(adapter(base)), tmp_path / "s", "peft")
    (tmp_path / "s" / "README.md").write_text("# Mine\n\nWords.\n\n## Loading it\n\nstale words\n")
    report = pack(tmp_path / "s", tmp_path / "x.zip", base=base)
    assert "DoRA has no GGUF form" in report["left_out"]["gguf"]
    assert "gguf/adapter.gguf" not in names(tmp_path / "x.zip")
    card = content(tmp_path / "x.zip", "README.md").decode()
    assert card.startswith("# Mine\n\nWords.\n\n## Loading it\n\nRun from")
    assert "stale words" not in card
    assert "There is no GGUF form in this folder" in card
    assert "livery merge" in card
    untouched = (tmp_path / "s" / "README.md").read_text()
    assert untouched.endswith("stale words\n")


def test_a_form_of_another_run_is_refused(folder: Path, base: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "x.zip")
    other = adapter(base)  # other random numbers
    formats.write_adapter(other, folder / "gguf" / "adapter.gguf", "gguf", base=load_base(base))
    with pytest.raises(UserError, match="from another run") as refused:
        pack(folder, tmp_path / "y.zip")
    assert not (tmp_path / "y.zip").exists()
    assert advised(refused.value)[3] == str(folder)
    pack(folder, tmp_path / "y.zip")


def test_forms_of_two_runs_without_one_of_peft(base: Path, tmp_path: Path) -> None:
    """The advised command, which cannot write where MLX's configuration stands, does as well."""
    known, folder = load_base(base), tmp_path / "an adapter"
    formats.write_adapter(adapter(base), folder / "mlx", "mlx", base=known)
    formats.write_adapter(adapter(base), folder / "gguf" / "adapter.gguf", "gguf", base=known)
    with pytest.raises(UserError, match="from another run") as refused:
        pack(folder, tmp_path / "x.zip")
    pack(advised(refused.value)[3], tmp_path / "x.zip")


def advised(error: UserError) -> list[str]:
    """The words of the command that an error advises, after running it."""
    (line,) = re.findall(r"(livery convert .*) writes every form again", str(error))
    words = shlex.split(line)
    assert cli.run(words[1:]) == 0
    return words


def test_a_rounded_form_is_the_same_adapter(folder: Path, base: Path, tmp_path: Path) -> None:
    convert(folder, folder / "gguf" / "adapter.gguf", "gguf", dtype="float16", overwrite=True)
    pack(folder, tmp_path / "x.zip")
    assert len(content(tmp_path / "x.zip", "gguf/adapter.gguf")) < 60_000


def test_a_zip_can_be_packed_again(folder: Path, tmp_path: Path) -> None:
    one = pack(folder, tmp_path / "1.zip")
    assert pack(tmp_path / "1.zip", tmp_path / "2.zip")["sha256"] == one["sha256"]


def test_nothing_is_overwritten_unasked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        pack(folder, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_text() == "mine"
    pack(folder, tmp_path / "x.zip", overwrite=True)
    assert archive.is_zip(tmp_path / "x.zip")


# --- what is refused in a folder --------------------------------------------------------------


def test_links_that_lead_out_are_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"key": 1}')
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to(secret)
    with pytest.raises(UserError, match=r"tokenizer_config.json: a link to .*secret"):
        pack(folder, tmp_path / "x.zip")
    (folder / "tokenizer_config.json").unlink()
    outside = tmp_path / "outside"
    (folder / "mlx").rename(outside)
    (folder / "mlx").symlink_to(outside)
    with pytest.raises(UserError, match="outside the adapter's folder"):
        pack(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_links_of_the_hubs_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "abc"
    blobs = tmp_path / "models--me--mine" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(("adapter_config.json", "adapter_model.safetensors")):
        (folder / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(Path("../..") / "blobs" / str(number))
    report = pack(snapshot, tmp_path / "x.zip")
    assert set(report["made"]) == {"mlx", "gguf"}


def test_pipes_and_folders_are_no_files(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    with pytest.raises(UserError, match="not a plain file"):
        pack(folder, tmp_path / "x.zip")
    (folder / "tokenizer.json").unlink()
    (folder / "LICENSE").mkdir()
    with pytest.raises(UserError, match="not a plain file"):
        pack(folder, tmp_path / "x.zip")


def test_pickles_are_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="a pickle"):
        pack(folder, tmp_path / "x.zip")


# --- reading zips -----------------------------------------------------------------------------


def make(path: Path, *entries: tuple[str, bytes], change: Callable[[Any], Any] = id) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            change(entry)
            file.writestr(entry, data)
    return path


@pytest.mark.parametrize("target", formats.FORMATS)
def test_convert_reads_a_zip(target: Any, folder: Path, base: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "x.zip")
    convert(tmp_path / "x.zip", tmp_path / "out", target, base=base)
    wanted = formats.read_adapter(folder).pairs
    found = formats.read_adapter(tmp_path / "out").pairs
    assert all(np.array_equal(found[m].b, wanted[m].b) for m in wanted)


def test_a_folder_that_a_mac_zipped(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mac.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for source in folder.rglob("*"):
            file.write(source, f"date-keys/{source.relative_to(folder)}")
        file.writestr("__MACOSX/date-keys/._README.md", b"x")
        file.writestr("date-keys/training_metrics.jsonl", b"x")
    unpacked = archive.unpack(path)
    assert formats.detect(unpacked).format == "peft"
    assert not (unpacked / "training_metrics.jsonl").exists()


def link(entry: Any) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "climbing out": (lambda p: make(p, ("../adapter_config.json", b"{}")), "leads out"),
    "inside, then out": (lambda p: make(p, ("mlx/../../x", b"{}")), "leads out"),
    "absolute": (lambda p: make(p, ("/etc/adapter_config.json", b"{}")), "leads out"),
    "a drive": (lambda p: make(p, ("C:adapter_config.json", b"{}")), "leads out"),
    "backslashes": (lambda p: make(p, ("mlx\\..\\..\\x", b"{}")), "leads out"),
    "a control character": (lambda p: make(p, ("a\x1b[2Jb", b"{}")), "not a plain file name"),
    "a link": (lambda p: make(p, ("adapter_config.json", b"/etc/passwd"), change=link), "a link"),
    "growing": (lambda p: make(p, ("adapter_config.json", bytes(80 << 20))), "would unpack"),
    "twice": (
        lambda p: make(p, ("adapter_config.json", b"{}"), ("Adapter_Config.json", b"{}")),
        "twice",
    ),
    "empty": (lambda p: make(p), "no adapter here"),
    "something else": (lambda p: make(p, ("word/document.xml", b"x")), "no adapter here"),
    "cut off": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(40)), "not a complete zip"),
    "many files": (
        lambda p: make(p, *((f"{number}", b"") for number in range(10_001))),
        "an adapter has about a dozen",
    ),
}


def test_a_damaged_zip_is_not_quoted_whole(tmp_path: Path) -> None:
    """zipfile writes both names of an entry whose header and directory differ into its message."""
    path = make(tmp_path / "x.zip", ("adapter_config.json", b"{}"), ("README.md", os.urandom(5000)))
    raw = bytearray(path.read_bytes())
    raw[26:28] = struct.pack("<H", 3000)  # of the name in the first entry's header
    path.write_bytes(raw)
    with pytest.raises(UserError, match="not a complete zip") as caught:
        check(path)
    assert len(str(caught.value)) < 600


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", ODD)
def test_odd_zips_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "x.zip"
    path.parent.mkdir()
    write, says = ODD[case]
    write(path)
    before = sorted(tmp_path.rglob("*"))
    for use in (
        lambda: formats.detect(path),
        lambda: check(path),
        lambda: convert(path, tmp_path / "out", "peft"),
    ):
        with pytest.raises(UserError, match=says):
            use()
    assert sorted(tmp_path.rglob("*")) == before


def test_entries_that_overlap(tmp_path: Path) -> None:
    """The directory names the same bytes many times: the bomb that needs no nesting."""
    path = make(tmp_path / "x.zip", ("adapter_config.json", os.urandom(5000)))
    raw = path.read_bytes()
    at = raw.index(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = raw[at:end]
    copies = [entry.replace(b"adapter_config", b"adapter_%06d" % n) for n in range(20)]
    tail = bytearray(raw[end:])
    tail[8:12] = (20).to_bytes(2, "little") * 2
    tail[12:16] = sum(map(len, copies)).to_bytes(4, "little")
    path.write_bytes(raw[:at] + b"".join(copies) + bytes(tail))
    with pytest.raises(UserError, match="zip bomb"):
        archive.unpack(path)


def test_an_encrypted_entry(tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", ("adapter_config.json", b"{}"))
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(UserError, match="encrypted"):
        archive.unpack(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(data=st.data())
def test_damaged_zips_are_read_or_refused(data: st.DataObject, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
    known = st.sampled_from(sorted(archive.MEMBERS))
    tricks = st.sampled_from(["../x", "/x", "..", ".", "mlx/../../x", "C:/x", "a//b", "mlx/", "\0"])
    entries = data.draw(
        st.lists(st.tuples(st.one_of(names, known, tricks), st.binary(max_size=50)), max_size=5)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = entry.orig_filename = name
            entry.external_attr = data.draw(st.sampled_from([0, 0o120777 << 16, 0o100644 << 16]))
            file.writestr(entry, content)
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = root / "in" / "x.zip"
    path.parent.mkdir()
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))] or raw))
    outside = sorted(root.rglob("*"))
    try:
        made = archive.unpack(path)
    except UserError:
        made = None
    assert sorted(root.rglob("*")) == outside
    if made is not None:
        for file in made.rglob("*"):
            assert not file.is_symlink()
            assert (
                file.is_dir()
                or file.relative_to(made).as_posix() in archive.MEMBERS
                or (file.suffix in (".gguf", ".safetensors"))
            )


# --- Ollama -----------------------------------------------------------------------------------


def test_the_folder_for_ollama(folder: Path, base_gguf: Path, tmp_path: Path) -> None:
    report = pack_ollama(folder, tmp_path / "o", str(base_gguf))
    text = (tmp_path / "o" / "Modelfile").read_text()
    assert (tmp_path / "o" / "adapter.gguf").read_bytes() == (
        folder / "gguf" / "adapter.gguf"
    ).read_bytes()
    lines = text.splitlines()
    assert lines[0] == f"FROM {base_gguf}"
    assert lines[1] == "ADAPTER ./adapter.gguf"
    assert lines[2].startswith('TEMPLATE """{{ $n := 0 }}')
    assert lines[-1] == 'PARAMETER stop "<|im_end|>"'
    assert "<|bos|><|im_start|>user" in text  # this base's tokenizer puts no BOS there itself
    assert report["format"] == "ChatML"


def test_ollama_from_a_name(folder: Path, tmp_path: Path) -> None:
    pack_ollama(folder, tmp_path / "o", "llama3.2:1b")
    assert (tmp_path / "o" / "Modelfile").read_text().startswith("FROM llama3.2:1b\n")


def test_ollama_makes_the_gguf_form(base: Path, base_gguf: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base), tmp_path / "s", "mlx", base=load_base(base))
    pack_ollama(tmp_path / "s", tmp_path / "o", str(base_gguf), base=base)
    assert formats.detect(tmp_path / "o").format == "gguf"


def test_a_template_of_ones_own(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<e>"}')
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] | upper }}")
    with pytest.raises(UserError, match="--template FILE"):
        pack_ollama(folder, tmp_path / "o", "name")
    assert not (tmp_path / "o").exists()
    own = tmp_path / "own"
    own.write_text("{{ .Prompt }}")
    pack_ollama(folder, tmp_path / "o", "name", template=own)
    assert '"""{{ .Prompt }}"""\nPARAMETER stop "<e>"' in (tmp_path / "o" / "Modelfile").read_text()


def test_what_has_no_form_in_ollama(folder: Path, base: Path, tmp_path: Path) -> None:
    formats.write_adapter(dora(adapter(base)), tmp_path / "d", "peft")
    with pytest.raises(UserError, match="DoRA has no GGUF form"):
        pack_ollama(tmp_path / "d", tmp_path / "o", "name", base=base)
    with pytest.raises(UserError, match="livery gguf --model"):
        pack_ollama(folder, tmp_path / "o", str(base))
    with pytest.raises(UserError, match="no GGUF file"):
        pack_ollama(folder, tmp_path / "o", "missing.gguf")
    with pytest.raises(UserError, match="no base model"):
        pack_ollama(folder, tmp_path / "o", str(folder / "gguf" / "adapter.gguf"))
    other = tiny_model("qwen3", base.parent)
    write_model(other, tmp_path / "other.gguf", "f16")
    with pytest.raises(UserError, match="architecture: the adapter is for architecture llama"):
        pack_ollama(folder, tmp_path / "o", str(tmp_path / "other.gguf"))
    assert not (tmp_path / "o").exists()


# --- the command ------------------------------------------------------------------------------


def test_the_command(folder: Path, base_gguf: Path, tmp_path: Path) -> None:
    def call(*words: str) -> Any:
        return CliRunner().invoke(pack_command, [str(folder), *words], catch_exceptions=False)

    result = call("--out", str(tmp_path / "x.zip"))
    assert "gguf/adapter.gguf" in result.output
    digest = hashlib.sha256((tmp_path / "x.zip").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in result.output
    report = json.loads(call("--out", str(tmp_path / "y.zip"), "--json").output)
    assert report["sha256"] == digest
    out = str(tmp_path / "o")
    result = call("--ollama", "--from", str(base_gguf), "--out", out)
    assert f"ollama create o -f {out}/Modelfile" in result.output
    assert call("--ollama", "--out", out).exit_code == 2
    assert call("--from", "x", "--out", out).exit_code == 2


@pytest.mark.slow
def test_llama_cpp_reads_the_prompt_as_it_was_trained(tmp_path: Path) -> None:
    """The Modelfile's prompt, in llama.cpp's tokens with its own BOS rule, is the tokenizer's own
    chat: what the adapter saw in training is what it sees in Ollama."""
    pytest.importorskip("xllamacpp")
    from transformers import AutoTokenizer

    from convert.chat_template import load_tokenizer
    from convert.pack.chat_turns import derive
    from tests.convert import convert_cases as cases

    talk = [
        {"role": "system", "content": "Name the date keys."},
        {"role": "user", "content": "wake me at half seven"},
        {"role": "assistant", "content": '["at_7_30"]'},
        {"role": "user", "content": "and tomorrow?"},
    ]
    for folder in (ROOT / "base_model", tiny_model("llama", tmp_path / "tiny")):
        write_model(folder, tmp_path / "m.gguf", "f16")
        tokenizer = load_tokenizer(folder)
        assert tokenizer is not None
        turns = derive(tokenizer)
        if tokenizer.adds_bos:
            turns = turns.without_bos(tokenizer.tokens["bos_token"])
        wanted = [
            list(AutoTokenizer.from_pretrained(folder).apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            ))
            for messages in (talk, talk[1:2])
        ]  # fmt: skip
        texts = [turns.render(talk), turns.render(talk[1:2])]
        found = cases.llama_cpp(tmp_path, model=str(tmp_path / "m.gguf"), texts=texts)
        assert found["tokens"] == wanted
