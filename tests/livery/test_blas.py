"""Which BLAS MLX gets on Linux: loaded before it whoever imports it, the system's or a wheel's."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from livery import blas
from livery.blas import openblas
from livery.paths import HOME

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux alone")


def python(code: str, **more: str) -> str:
    """What a new process prints."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), "HOME": "/", **more}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def has_openblas() -> None:
    if not blas.loaded():
        pytest.skip("no OpenBLAS here")


@pytest.mark.usefixtures("has_openblas")
@pytest.mark.parametrize("first", ["mlx.core", "mlx_lm.tokenizer_utils"])
def test_whoever_imports_mlx_finds_openblas_before_it(first: str) -> None:
    show = "from livery import blas; print(blas.loaded(), blas.use_openblas())"
    assert python(f"import livery, {first}; {show}") == "True True"


@pytest.mark.usefixtures("has_openblas")
def test_mlx_imported_before_livery_is_told_of_as_that() -> None:
    found = python(
        "import mlx.core, livery; from livery import blas; "
        "print(blas.use_openblas(), blas.loaded(), blas.remedy())"
    )
    assert found.startswith("False False MLX was imported first")


@pytest.mark.usefixtures("has_openblas")
def test_other_finders_of_modules_are_asked_for_mlx_too() -> None:
    """An editable install of MLX is found by one."""
    found = python(
        "import sys, livery\n"
        "class Finder:\n"
        "    asked = []\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        self.asked.append(name)\n"
        "sys.meta_path.insert(1, Finder())\n"
        "import mlx.core; print('mlx.core' in Finder.asked)"
    )
    assert found == "True"


@pytest.mark.usefixtures("has_openblas")
def test_what_runs_is_told_by_the_library_itself() -> None:
    found = blas.running()
    assert found is not None
    assert "openblas" in Path(found.path).name
    assert Path(found.path).is_file()
    assert found.version[0].isdigit()
    assert found.threads >= 1


def test_without_openblas_the_remedy_needs_no_root() -> None:
    found = python(
        "from livery import blas; from livery.blas import openblas\n"
        "openblas.candidates = lambda: iter(['libno-such-blas.so.0'])\n"
        "print(blas.use_openblas(), blas.running(), blas.remedy())"
    )
    assert found.startswith(f"False None {sys.executable} -m pip install {openblas.WHEEL}")
    assert "sudo apt install libopenblas0-pthread" in found


def test_mlx_that_found_no_openblas_was_not_imported_too_early() -> None:
    """The second training of a program says what the first one said."""
    found = python(
        "import livery; from livery import blas; from livery.blas import openblas\n"
        "openblas.candidates = lambda: iter(['libno-such-blas.so.0'])\n"
        "import mlx.core; print(blas.use_openblas(), blas.remedy())"
    )
    assert found.startswith(f"False {sys.executable} -m pip install {openblas.WHEEL}")


def test_the_wheels_goes_first_where_it_was_measured_to_be_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openblas, "folder", lambda: tmp_path)
    monkeypatch.setattr(openblas, "make_copy", lambda: tmp_path / "copy.so")
    theirs, ours = openblas.SYSTEM, str(tmp_path / "copy.so")
    assert list(openblas.candidates()) == [theirs, ours], "not measured"
    note = tmp_path / "openblas.json"
    for faster, order in (("system", [theirs, ours]), ("wheel", [ours, theirs, ours])):
        note.write_text(json.dumps({"copy": "copy.so", "faster": faster}))
        assert list(openblas.candidates()) == order
    note.write_text("{")
    assert list(openblas.candidates()) == [theirs, ours], "a damaged note decides nothing"


@pytest.mark.slow
def test_the_wheels_library_serves_mlx_under_plain_names(tmp_path: Path) -> None:
    try:
        importlib.metadata.version(openblas.WHEEL)
        importlib.metadata.version(openblas.RENAMER)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the wheels are not installed")
    # In another environment's place: through a folder whose name LD_PRELOAD could not hold.
    home = tmp_path / "a b"
    found = python(
        "from pathlib import Path\n"
        "from livery import blas; from livery.blas import openblas\n"
        f"openblas.folder = lambda: Path({str(home)!r})\n"
        "openblas.SYSTEM = 'libno-such-blas.so.0'\n"
        "print(blas.use_openblas(), blas.running().path)\n"
        "import mlx.core as mx, numpy as np\n"
        "a = np.random.default_rng(0).standard_normal((96, 64), np.float32)\n"
        "print(np.abs(np.asarray(mx.array(a) @ mx.array(a.T)) - a @ a.T).max() < 1e-4)\n"
        "blas.handle().openblas_set_num_threads(1); print(blas.running().threads)\n"
    )
    first, right, threads = found.splitlines()
    assert first.startswith(f"True {home}/libopenblas-")
    assert (right, threads) == ("True", "1")
    (copy,) = home.iterdir()
    assert copy.suffix == ".so", "nothing half-made is left beside it"


def test_a_library_without_the_names_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "libother.so"
    other.write_bytes(b"\0scipy_dgemm_\0")
    with pytest.raises(OSError, match="has no scipy_cblas_sgemm"):
        openblas.rename_symbols(other, Path("patchelf"), tmp_path / "copy.so")
