"""What `plan` answers with: numbers, not yet in words."""

import math
from dataclasses import dataclass

from scratchlm.recipes.estimate import TokenCount
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.scaling import expected_bits
from scratchlm.training.memory import Memory

FITS = 0.9  # share of the machine's memory that a run may take; the rest is the system's


@dataclass(frozen=True)
class Parameters:
    """Numbers that are learned; a head tied to the embedding counts there."""

    embedding: int
    blocks: int
    head: int  # with the last norm

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.blocks + self.head


@dataclass(frozen=True)
class Disk:
    """Bytes in the run's folder at the most; `shards` is 0 where their number is not known."""

    shards: int
    checkpoints: int
    model: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.shards + self.checkpoints + self.model


@dataclass(frozen=True)
class Times:
    """Seconds of a run; training is the steps alone."""

    training: float
    evaluations: float
    samples: float
    saves: float
    start: float
    compilation: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    config           resolved: vocabulary and precision are set
    hardware, device  in words; "cpu", "cuda:1", ...
    measured         speed is from a probe here, not from published rates
    assumed_mfu      behind published rates
    tokens           read in training
    text             what the text comes to
    flops            of the training steps
    memory           at its peak, by part, on each device
    probe_memory     bytes, the peak that the probe had; None: not measured
    memory_limit     bytes that there are; None where unknown
    step_s           seconds of a step
    mfu              model flops per second / `matmul_flops`, 0 to 1
    matmul_flops     per second: of matrix products as measured here, or as published
    notes            what the numbers leave out
    advice           what would make it fit, or end sooner
    """

    config: RunConfig
    hardware: str
    device: str
    measured: bool
    assumed_mfu: float | None
    parameters: Parameters
    tokens: int
    text: TokenCount
    flops: float
    memory: Memory
    probe_memory: int | None
    memory_limit: int | None
    disk: Disk
    times: Times
    step_s: float
    mfu: float
    matmul_flops: float
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """In training steps."""
        return self.tokens / self.times.training

    @property
    def readings(self) -> float | None:
        """How often the training text is read; None where its length is not known."""
        return self.tokens / self.text.train if self.text.train else None

    @property
    def bits_per_byte(self) -> float | None:
        """Expected held-out loss, by `scaling.expected_bits`; None where the text is not known."""
        text = self.text
        if not text.train or not text.difficulty:
            return None
        bytes_of = text.bytes_per_token
        return expected_bits(
            text.difficulty, self.parameters.blocks, self.tokens * bytes_of, text.train * bytes_of
        )

    @property
    def loss_nats(self) -> float | None:
        """The same in nats per token."""
        bits = self.bits_per_byte
        return bits * self.text.bytes_per_token * math.log(2) if bits else None

    @property
    def fits(self) -> bool:
        """Whether the memory is enough, as far as it is known."""
        return self.memory_limit is None or self.memory.total <= FITS * self.memory_limit
