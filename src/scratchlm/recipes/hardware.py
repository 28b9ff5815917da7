"""Hardware that is not here: what its makers publish, for `scratchlm plan --on NAME`.

FLOP/s are of dense matrix products (datasheets print twice that, "with sparsity"), with sums in
float32, at the highest clock. None: the type is not supported.
"""

import re
from dataclasses import dataclass
from typing import Literal

from scratchlm.base.config import nearest
from scratchlm.base.errors import ConfigError

# A model of GPT-2's width uses about so much of the published rate, a narrower one less: nanoGPT's
# README has 124M in 4 days on 8 A100 (0.30 with all losses), its 384 wide one in 3 minutes (0.10).
MFU = 0.40
FULL_WIDTH = 768
SEVERAL = 0.9  # what remains beside the time in which several wait for one another


@dataclass(frozen=True)
class Hardware:
    """One accelerator, or several equal ones in one machine.

    memory     bytes of each
    flops      per second of each, by the type that is multiplied
    bandwidth  of its memory, bytes per second
    """

    name: str
    device: Literal["cuda", "mps"]
    memory: float
    flops: dict[str, float | None]
    bandwidth: float
    count: int = 1

    def mfu(self, d_model: int) -> float:
        """The share of the published rate that is assumed for a model of this width."""
        return MFU * min(1.0, d_model / FULL_WIDTH) * (SEVERAL if self.count > 1 else 1.0)


def _gpu(
    name: str,
    gigabytes: float,
    teraflops: tuple[float | None, float | None, float],  # bfloat16, float16, float32
    gigabytes_per_s: float,
    device: Literal["cuda", "mps"] = "cuda",
) -> Hardware:
    dtypes = ("bfloat16", "float16", "float32")
    flops = {k: v and v * 1e12 for k, v in zip(dtypes, teraflops, strict=True)}
    return Hardware(name, device, gigabytes * 1e9, flops, gigabytes_per_s * 1e9)


HARDWARE = {
    # NVIDIA Blackwell architecture technical brief, HGX B200, one of eight
    "b200": _gpu("NVIDIA B200", 180, (2250, 2250, 75), 7700),
    # NVIDIA H200 datasheet, SXM
    "h200": _gpu("NVIDIA H200", 141, (989.5, 989.5, 67), 4800),
    # NVIDIA H100 datasheet, SXM and PCIe
    "h100": _gpu("NVIDIA H100 SXM", 80, (989.5, 989.5, 67), 3350),
    "h100-pcie": _gpu("NVIDIA H100 PCIe", 80, (756.5, 756.5, 51), 2000),
    # NVIDIA A100 datasheet, SXM
    "a100": _gpu("NVIDIA A100 80 GB", 80, (312, 312, 19.5), 2039),
    "a100-40gb": _gpu("NVIDIA A100 40 GB", 40, (312, 312, 19.5), 1555),
    # NVIDIA L40S, L4 and A10 datasheets
    "l40s": _gpu("NVIDIA L40S", 48, (362, 362, 91.6), 864),
    "l4": _gpu("NVIDIA L4", 24, (121, 121, 30.3), 300),
    "a10": _gpu("NVIDIA A10", 24, (125, 125, 31.2), 600),
    # NVIDIA V100 datasheet, SXM2 32 GB: no bfloat16
    "v100": _gpu("NVIDIA V100 32 GB", 32, (None, 125, 15.7), 900),
    # NVIDIA T4 datasheet: no bfloat16
    "t4": _gpu("NVIDIA T4", 16, (None, 65, 8.1), 320),
    # NVIDIA RTX Blackwell, Ada (AD102) and Ampere (GA102) whitepapers
    "rtx5090": _gpu("NVIDIA RTX 5090", 32, (209.5, 209.5, 104.8), 1792),
    "rtx4090": _gpu("NVIDIA RTX 4090", 24, (165.2, 165.2, 82.6), 1008),
    "rtx3090": _gpu("NVIDIA RTX 3090", 24, (71, 71, 35.6), 936),
    # Apple newsroom: M1 (2.6 TFLOP/s), M1 Max (10.4), M2 Ultra (27.2, two M2 Max); in float32, and
    # no faster in others. Memory is shared with the system: the largest model.
    "m1": _gpu("Apple M1", 16, (2.6, 2.6, 2.6), 68, "mps"),
    "m1-max": _gpu("Apple M1 Max", 64, (10.4, 10.4, 10.4), 400, "mps"),
    "m2-max": _gpu("Apple M2 Max", 96, (13.6, 13.6, 13.6), 400, "mps"),
}


def find_hardware(name: str) -> Hardware:
    """The hardware of a name, or of a name and a number: "a100x8" is eight in one machine.

    raises   ConfigError for an unknown name, with the nearest one and the list
    """
    base, count = name.lower(), 1
    several = re.fullmatch(r"(.+)x([1-9]\d*)", base)
    if several and base not in HARDWARE:
        base, count = several[1], int(several[2])
    if base not in HARDWARE:
        near = nearest(base, set(HARDWARE))
        listed = "" if "There are" in near else f" There are: {', '.join(sorted(HARDWARE))}."
        raise ConfigError(
            f"--on {name}: no hardware of that name is known.{near}{listed} Several are NAMExN, "
            "as in a100x8."
        )
    one = HARDWARE[base]
    if count == 1:
        return one
    return Hardware(
        f"{count} x {one.name}", one.device, one.memory, one.flops, one.bandwidth, count
    )
