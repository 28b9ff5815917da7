"""The compiled kernels, loaded with ctypes: which file, which instruction set, which arguments.

The library is built with the package (`build.py`) and may be absent: then everything runs on
PyTorch's own kernels. It holds no PyTorch headers, so it fits every version of it.
"""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scratchlm.base import runtime
from scratchlm.base.errors import ConfigError
from scratchlm.base.log import warn
from scratchlm.native.build import INSTRUCTION_SETS, library_path, source_hash


def _structure(name: str, text: str) -> type[ctypes.Structure]:
    """A C structure from "type: name name; type: name", in the order of the C++ source."""
    kinds = {
        "long": ctypes.c_long,
        "int": ctypes.c_int,
        "uint32": ctypes.c_uint32,
        "float": ctypes.c_float,
        "pointer": ctypes.c_void_p,
        "uint64": ctypes.c_uint64,
        "bytes": ctypes.c_char_p,
    }
    fields = []
    for line in text.split(";"):
        kind, names = line.split(":")
        fields += [(field, kinds[kind.strip()]) for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Attention = _structure(
    "Attention",  # kernels/attention.h
    "long: B T H K D; pointer: q k v segments out lse; uint32: seed; float: drop;"
    "pointer: d_out dq dk dv",
)
CrossEntropy = _structure(
    "CrossEntropy",  # kernels/loss.h
    "long: rows V ld; pointer: logits targets nats",
)
Norm = _structure(
    "Norm",  # kernels/pointwise.h
    "long: rows n; float: eps; pointer: x weight bias y mean scale dy dx d_weight d_bias",
)
Heads = _structure(
    "Heads",  # kernels/pointwise.h
    "long: rows heads D positions; float: eps;pointer: x weight cos sin y scale dy dx d_weight",
)
Muon = _structure(
    "Muon",  # kernels/muon.h
    "long: n steps; pointer: rows columns weight gradient momentum squares coefficients;"
    "float: lr keep weight_decay beta2",
)
Pointwise = _structure(
    "Pointwise",  # kernels/pointwise.h
    "long: n; pointer: x up y dy dx d_up; uint32: seed; float: drop",
)
Bpe = _structure(
    "Bpe",  # kernels/bpe.h
    "long: n_cuts stride; pointer: classes tables starts; long: n_merges n_whole longest_whole;"
    "pointer: merges byte_ids token_bytes token_ends whole; long: pair_bits whole_bits;"
    "uint64: multiplier; pointer: pairs whole_slots characters joins;"
    "long: n cache_bits; bytes: text; pointer: cache ids n_ids",
)

FUNCTIONS = (
    "attention_forward",
    "attention_backward",
    "bpe_encode",
    "bpe_index",
    "cross_entropy",
    "muon",
    "norm_forward",
    "norm_backward",
    "heads_forward",
    "heads_backward",
    "gelu_forward",
    "gelu_backward",
    "swiglu_forward",
    "swiglu_backward",
    "dropout",
)


@dataclass(frozen=True)
class Library:
    """The kernels of one instruction set, by name: each takes a structure and a thread count."""

    instruction_set: str
    functions: dict[str, Callable[[Any, int], int]]

    def run(self, name: str, arguments: ctypes.Structure, threads: int) -> None:
        """Call a kernel; MemoryError when it could not get memory for its blocks."""
        if self.functions[name](ctypes.byref(arguments), threads):
            raise MemoryError(f"not enough memory for the blocks of {name}")


@functools.cache
def library() -> Library | None:
    """The kernels for this processor, or None: not built here, or switched off.

    The environment variable SCRATCHLM_NATIVE chooses: "off", or the name of an instruction set.
    """
    choice = runtime.native_choice()
    if choice == "off":
        return None
    if choice not in ("auto", *INSTRUCTION_SETS):
        raise ConfigError(
            f"SCRATCHLM_NATIVE = {choice!r} is not one of auto, off, {', '.join(INSTRUCTION_SETS)}."
        )
    path = library_path()
    if not path.is_file():
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as bad:
        warn(f"{path} cannot be loaded, so PyTorch's kernels are used: {bad}")
        return None
    loaded.scratchlm_sources.restype = ctypes.c_char_p
    loaded.scratchlm_instruction_set.restype = ctypes.c_char_p
    if loaded.scratchlm_sources().decode() != source_hash():
        warn(
            f"{path.name} was built from other sources than these, so PyTorch's kernels are used. "
            "Install scratchlm again, or run python -m scratchlm.native.build."
        )
        return None
    best = loaded.scratchlm_instruction_set().decode()
    return _kernels(loaded, best if choice == "auto" else choice)


def describe() -> str:
    """Which kernels compute in bfloat16 on the CPU, for a line at the start of a run."""
    kernels = library()
    if kernels is not None:
        return f"scratchlm's own, for {kernels.instruction_set}"
    if runtime.native_choice() == "off":
        return "PyTorch's (SCRATCHLM_NATIVE=off)"
    return (
        "PyTorch's. scratchlm's own would be faster, but were not built: install a C++ compiler "
        "(g++ 12 or clang++ 15), then scratchlm again."
    )


def _kernels(loaded: ctypes.CDLL, instruction_set: str) -> Library:
    functions = {}
    for name in FUNCTIONS:
        function = getattr(loaded, f"scratchlm_{name}_{instruction_set}")
        function.argtypes = [ctypes.c_void_p, ctypes.c_int]
        function.restype = ctypes.c_int
        functions[name] = function
    return Library(instruction_set, functions)
