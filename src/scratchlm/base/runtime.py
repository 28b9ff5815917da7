"""The machine below: environment, processors, memory. Alone in reading `os.environ`."""

import contextlib
import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path


def cpu_count() -> int:
    """Processors that this process may use: its share of the machine, not all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most bytes of memory this process has held so far; None where it is not known."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage starts from the parent's peak
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS


@dataclass(frozen=True)
class Launch:
    """Which of a run's processes this one is: torchrun tells each in its environment."""

    rank: int = 0  # 0 to count - 1, over all machines
    local_rank: int = 0  # the same among the processes of this machine
    count: int = 1  # processes of the run


def launch() -> Launch:
    """What torchrun, or another launcher that sets the same variables, says of this process."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if any(name not in os.environ for name in ("MASTER_ADDR", *names)):
        return Launch()
    return Launch(*(int(os.environ[name]) for name in names))


def describe_machine() -> str:
    """One line for results: processor, processors in use, system, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def cache_folder() -> Path:
    """Where downloads and compiled things may be kept: SCRATCHLM_CACHE, or the user's cache."""
    if chosen := os.environ.get("SCRATCHLM_CACHE"):
        return Path(chosen)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "scratchlm"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scratchlm"


def native_choice() -> str:
    """What SCRATCHLM_NATIVE says of the compiled kernels: auto, off, or an instruction set."""
    return os.environ.get("SCRATCHLM_NATIVE") or "auto"


def hub_mirror() -> str | None:
    """What HF_ENDPOINT names in place of the Hugging Face hub."""
    return os.environ.get("HF_ENDPOINT") or None


def modelscope_mirror() -> str | None:
    """What MODELSCOPE_ENDPOINT names in place of ModelScope."""
    return os.environ.get("MODELSCOPE_ENDPOINT") or None


def modelscope_token() -> str | None:
    """The user's token for ModelScope, in MODELSCOPE_API_TOKEN."""
    return os.environ.get("MODELSCOPE_API_TOKEN") or None


def gpt2_mirror() -> str | None:
    """What SCRATCHLM_GPT2_URL names in place of the folder where OpenAI's GPT-2 models lie."""
    return os.environ.get("SCRATCHLM_GPT2_URL") or None


def secret(variable: str) -> str | None:
    """What a variable that the user has named holds: a key for somebody's server."""
    return os.environ.get(variable) or None


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the next step of a loop that frees as much as it takes.

    Otherwise each large tensor is fresh memory, which the system fills with zeros page by page: 5
    to 7 % of a training step (measured, Zen 5, two cores). Elsewhere than on Linux it does nothing.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((-4, 0), (-1, -1), (-2, 16 << 20)):  # M_MMAP_MAX, _TRIM, M_TOP_PAD
            mallopt(parameter, value)


def memory_limit() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its container's share."""
    try:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return _windows_memory()
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2, v1
        with contextlib.suppress(OSError, ValueError):
            text = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")
            limit = min(limit, int(text))
    return limit


def _windows_memory() -> int | None:
    if sys.platform != "win32":
        return None
    sizes = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: two 32-bit numbers, then seven of 64 bits
    ctypes.cast(sizes, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(sizes)
    done = ctypes.windll.kernel32.GlobalMemoryStatusEx(sizes)
    return int(sizes[1]) if done else None
