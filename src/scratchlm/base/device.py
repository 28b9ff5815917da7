"""The device that computes: which one, why, in which precision, and how fast it can be at most."""

import time
from typing import Literal

import torch

from scratchlm.base import runtime
from scratchlm.base.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str | None = None) -> tuple[torch.device, str]:
    """The device to compute on, and the reason in words.

    name     "cpu", "cuda", "cuda:1", "mps", or None: the first of CUDA, MPS, CPU that is there
    raises   ConfigError for a device that is not there, with what is
    """
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name()} is there"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's GPU is there"
        build = "" if torch.version.cuda else ", and this PyTorch is built without CUDA"
        return torch.device("cpu"), f"no GPU was found{build}"
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise ConfigError(f"device = {name!r} is not one of cpu, cuda, cuda:N, mps.") from None
    _check_present(device)
    return device, "as you asked"


def _check_present(device: torch.device) -> None:
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    count = there.get(device.type, 0)
    if (device.index or 0) >= count:
        found = ", ".join(f"{n} x {kind}" for kind, n in there.items() if n)
        raise ConfigError(f"device = {str(device)!r} is not on this machine, which has {found}.")


def matmul_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.05) -> float:
    """The most floating-point operations per second that a matrix product reaches here, measured.

    seconds  how long to measure, after one product to warm up; four products at least
    """
    n = 1024 if device.type == "cpu" else 8192
    a, b = torch.randn(n, n, device=device).to(dtype), torch.randn(n, n, device=device).to(dtype)
    a @ b
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 4 or time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        synchronise(device)
        took.append(time.perf_counter() - start)
    return 2 * n**3 / min(took)


def synchronise(device: torch.device) -> None:
    """Wait until everything sent to the device is done, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def resolve_precision(wanted: Precision, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and the reason in words.

    "auto" is bfloat16 where the device multiplies it faster than float32 (measured here, a tenth of
    a second), else float32; never float16, whose range needs a loss scaler.
    """
    if wanted != "auto":
        return DTYPES[wanted], "as you asked"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float32, "this GPU has no bfloat16; float16 is faster but less safe"
    fast, plain = (matmul_flops(device, dtype) for dtype in (torch.bfloat16, torch.float32))
    if fast > 1.2 * plain:
        return torch.bfloat16, f"it multiplies {fast / plain:.1f} times as fast as float32 here"
    return torch.float32, "bfloat16 is no faster here"


def memory_in_use(device: torch.device) -> int | None:
    """Peak bytes: of the GPU's memory, or of this process on a CPU; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return runtime.peak_memory()


def memory_of(device: torch.device) -> int | None:
    """Bytes that there are to use: on a GPU, or by this process on a CPU; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return runtime.memory_limit()


def free_memory(device: torch.device) -> None:
    """Give the device back what PyTorch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
