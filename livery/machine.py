"""What this machine is, what can train on it, what is missing, and the command that fixes it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livery import blas
from livery.errors import UserError, shown

# Packages worth naming, with the extra that brings each ("" for the core).
PACKAGES = {
    "mlx": "mlx",
    "mlx-lm": "mlx",
    "transformers": "",
    "safetensors": "",
    "gguf": "",
    "llguidance": "",
    "torch": "cuda",
    "peft": "cuda",
    "bitsandbytes": "cuda",
    "xllamacpp": "llamacpp",
}
MEASURE_SECONDS = 0.3
# Two cores with the reference BLAS reach 8, one core with OpenBLAS 60 and more.
SLOW_GFLOPS = 20.0


@dataclass(frozen=True)
class Problem:
    """Something that is missing or slow, and the command that fixes it."""

    what: str
    remedy: str


@dataclass
class Report:
    """All findings, as plain values."""

    machine: dict[str, Any] = field(default_factory=dict[str, Any])
    mlx: dict[str, Any] = field(default_factory=dict[str, Any])
    torch: dict[str, Any] = field(default_factory=dict[str, Any])
    packages: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    cache: dict[str, Any] = field(default_factory=dict[str, Any])
    can_train: list[str] = field(default_factory=list[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> Report:
    """Look at everything. Takes a few seconds, most of them spent importing torch."""
    report = Report(machine=machine())
    report.packages = {name: version(name) for name in PACKAGES}
    report.cache = _cache()
    _examine_mlx(report)
    _examine_torch(report)
    if report.machine["disk_free"] < 2e9:
        report.problems.append(
            Problem("Less than 2 GB of disk is free here.", "Free some space, or work elsewhere.")
        )
    return report


def _cache() -> dict[str, Any]:
    """Where encoded training data are kept, and the bytes they take; no path where none are."""
    from livery.dataset.cache import default_cache

    cache = default_cache()
    if cache is None:
        return {"path": None, "bytes": 0}
    return {"path": str(cache.folder), "bytes": cache.size()}


def machine() -> dict[str, Any]:
    """Chip, cores, memory and disk in bytes, system and Python."""
    total, available = memory()
    system = platform.system()
    release = f"macOS {platform.mac_ver()[0]}" if system == "Darwin" else _linux_release()
    return {
        "chip": chip(),
        "architecture": platform.machine(),
        "cores": cores(),
        "memory": total,
        "memory_available": available,
        "disk_free": shutil.disk_usage(Path.cwd()).free,
        "system": release,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "executable": sys.executable,
    }


def version(package: str) -> str | None:
    """Installed version, None where it is not installed. Imports nothing of it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def chip() -> str:
    """The processor's name, as the system tells it."""
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory() -> tuple[int, int]:
    """(total, available) bytes; a container's own limit where there is one."""
    if platform.system() == "Darwin":
        total = int(_output("sysctl", "-n", "hw.memsize") or 0)
        return total, total
    entries: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            entries[name] = int(rest.split()[0]) * 1024
    total, available = entries.get("MemTotal", 0), entries.get("MemAvailable", 0)
    with contextlib.suppress(OSError, ValueError):  # "max" is not a number: no limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="utf-8"))
        total, available = min(total, limit), min(available, max(0, limit - used))
    return total, available


def free_swap() -> int:
    """Bytes that Linux can still swap out; 0 elsewhere, and in a container that has a limit."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = Path("/sys/fs/cgroup/memory.max")
        if not limit.exists() or limit.read_text(encoding="utf-8").strip() == "max":
            text = Path("/proc/meminfo").read_text(encoding="utf-8")
            return int(text.partition("SwapFree:")[2].split()[0]) * 1024
    return 0


def _examine_mlx(report: Report) -> None:
    from livery.engines.mlx.load import require_mlx

    has_openblas = blas.use_openblas()
    try:
        require_mlx()
    except UserError as error:
        report.mlx = {"usable": False, "reason": str(error)}
        report.problems.append(Problem("MLX cannot be used here.", str(error)))
        return
    import mlx.core as mx

    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    gflops = matmul_gflops()
    report.mlx = {
        "usable": True,
        "version": report.packages["mlx"],
        "mlx_lm": report.packages["mlx-lm"],
        "device": "cpu" if on_cpu else "gpu",
        "matmul_gflops": round(gflops, 1),
        "openblas": has_openblas if on_cpu and sys.platform == "linux" else None,
        "blas": _blas() if on_cpu else None,
        "compile": compiles(),
    }
    if importlib.util.find_spec("mlx_train") is not None:
        report.can_train.append("mlx")
    if on_cpu and not has_openblas:
        report.problems.append(
            Problem(f"MLX multiplies at {gflops:.0f} GFLOP/s: OpenBLAS is missing.", blas.remedy())
        )
    elif on_cpu and gflops < SLOW_GFLOPS:
        report.problems.append(
            Problem(
                f"MLX multiplies at only {gflops:.0f} GFLOP/s.",
                "See whether other programs use the processor.",
            )
        )
    if not report.mlx["compile"]:
        report.problems.append(
            Problem("mx.compile finds no C++ compiler.", "sudo apt install g++ (or --compile off)")
        )


def _blas() -> dict[str, Any] | None:
    """What multiplies for MLX on this CPU; None where it is not OpenBLAS."""
    found = blas.running()
    return asdict(found) if found else None


def matmul_gflops() -> float:
    """Speed of a float32 matrix product on MLX's default device, in GFLOP/s."""
    import mlx.core as mx

    def seconds(size: int, times: int) -> float:
        a, b = mx.random.normal((size, size)), mx.random.normal((size, size))
        mx.eval(a, b, a @ b)
        began = time.perf_counter()
        for _ in range(times):
            mx.eval(a @ b)
        return time.perf_counter() - began

    # Grow the matrix until one product takes a tenth of the time we may spend.
    size = 256
    while seconds(size, 1) < MEASURE_SECONDS / 10 and size < 4096:
        size *= 2
    once = max(seconds(size, 1), 1e-6)
    times = max(1, min(20, int(MEASURE_SECONDS / once)))
    return 2 * size**3 * times / seconds(size, times) / 1e9


def compiles() -> bool:
    """Whether mx.compile works; on a CPU it calls a C++ compiler."""
    import mlx.core as mx

    def fused(x: Any) -> Any:
        return mx.exp(x) * x + 1.0

    try:
        mx.eval(mx.compile(fused)(mx.arange(4.0)))
    except RuntimeError:
        return False
    return True


def _examine_torch(report: Report) -> None:
    if report.packages["torch"] is None:
        report.torch = {"usable": False, "reason": "not installed"}
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        report.torch = {"usable": False, "reason": str(error)}
        report.problems.append(
            Problem("torch is installed and cannot be imported.", f"Reinstall it: {error}")
        )
        return
    cuda = torch.cuda.is_available()
    report.torch = {
        "usable": True,
        "version": str(torch.__version__),
        "cuda": str(torch.version.cuda) if cuda else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else [],
        "mps": torch.backends.mps.is_available(),
        "bitsandbytes": report.packages["bitsandbytes"],
    }
    if importlib.util.find_spec("cuda_train") is not None:
        report.can_train.append("torch")
    if cuda and report.packages["bitsandbytes"] is None:
        report.problems.append(
            Problem("bitsandbytes is missing: no 4-bit bases on CUDA.", install("cuda"))
        )


def install(extra: str) -> str:
    """The command that installs an extra into this Python."""
    home = Path(__file__).resolve().parent.parent
    if (home / "pyproject.toml").exists():
        return f"{sys.executable} -m pip install -c constraints.txt -e '.[{extra}]'   (in {home})"
    return f"{sys.executable} -m pip install 'livery[{extra}]'"


_MOST_THREADS = 4096


def cores() -> int:
    """Processors that the system lets this process use, where it says; else all there are."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:
        found = os.cpu_count() or 1
    return max(1, math.ceil(min(found, _share())))


def use_threads(number: int | None) -> None:
    """Have this process and its children compute with so many threads on a CPU, whatever computes:
    call it before a framework is imported, or after. None changes nothing.

    Raises:
        UserError: no machine has so many.
    """
    if number is None:
        return
    if number > _MOST_THREADS:
        raise UserError(
            f"threads is {shown(str(number), 40)}: no machine has so many. Give at most "
            f"{_MOST_THREADS:,}, or leave it out."
        )
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(number)
    set_threads(number)


def set_threads(number: int) -> None:
    """Have what is loaded in this process compute with so many threads on a CPU from now on."""
    library = blas.handle()
    if library is not None:
        library.openblas_set_num_threads(number)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)


def physical_cores() -> int:
    """Of `cores()`, those that are cores of their own and not a core's second thread."""
    if platform.system() == "Darwin":
        return int(_output("sysctl", "-n", "hw.physicalcpu") or cores())
    siblings: set[str] = set()
    try:
        for number in os.sched_getaffinity(0):
            place = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
            siblings.add(place.read_text(encoding="utf-8"))
    except (AttributeError, OSError):
        return cores()
    return min(cores(), len(siblings))


def has_gpu() -> bool:
    """Whether the system shows a GPU that a framework may train on: Apple's, or NVIDIA's. Imports
    nothing."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return any(Path(f"/dev/{name}").exists() for name in ("nvidia0", "nvidiactl", "dxg"))


@functools.cache
def gpu_of(backend: str) -> str:
    """The name of the GPU that "mlx" or "torch" computes on here; "" for none, and where it is not
    installed. The framework is imported only where the system shows a GPU."""
    if not has_gpu():
        return ""
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        if backend == "mlx":
            import mlx.core as mx

            on_gpu = mx.default_device() != mx.Device(mx.cpu)
            return (_gpu_name() or chip()) if on_gpu else ""
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
        return chip() if torch.backends.mps.is_available() else ""
    return ""


def _gpu_name() -> str:
    """NVIDIA's first, as its driver tells."""
    query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return _output(*query).partition("\n")[0] if sys.platform == "linux" else ""


def _share() -> float:
    """Processors' worth of time that a container may use; infinite where nothing limits it."""
    with contextlib.suppress(OSError, ValueError):  # "max" is not a number: no limit
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = (
            int(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text(encoding="utf-8"))
            for name in ("quota", "period")
        )
        return quota / period if quota > 0 else math.inf
    return math.inf


def _linux_release() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{platform.system()} {platform.release()}"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
