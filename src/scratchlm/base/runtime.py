"""The machine below: environment, processors, memory. Alone in reading `os.environ`."""

import os
import platform
import sys
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
