"""`plan`: what a run will take, before it: tokens, work, memory, disk, time, and what would help.

Speed is from a short measured run (`probe.py`), memory from a formula (`training/memory.py`).
Nothing is written.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from scratchlm.base import device as devices
from scratchlm.base.errors import ConfigError
from scratchlm.base.runtime import describe_machine
from scratchlm.data.shards import dtype_for
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.advice import advise
from scratchlm.recipes.estimate import TokenCount, count_tokens
from scratchlm.recipes.hardware import MFU, Hardware, find_hardware
from scratchlm.recipes.plan_facts import FITS, Disk, Parameters, Plan, Times
from scratchlm.recipes.probe import TrainingSpeed, probe_training
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.clock import Clock
from scratchlm.training.memory import PROGRAM, Memory, StepShape, kernels_serve, step_memory
from scratchlm.training.parallel import share_of_step

# A checkpoint is written, flushed, hashed, and read again: measured, two Zen 5 cores, local disk.
SAVED_BYTES_PER_S = 150e6
BLOCK_S = 0.002  # of a micro-batch on a GPU: so long it takes to launch a block's work, about
TOKENIZER_BYTES = 1_000_000  # about, of the files of a tokenizer beside each model


@dataclass(frozen=True)
class _Machine:
    """Where the run would be: here, on `device`, or on hardware that is not here."""

    words: str
    device: torch.device
    memory: int | None
    count: int = 1
    published: Hardware | None = None


def plan(
    config: RunConfig,
    on: str | None = None,
    *,
    device: str | None = None,
    probe_seconds: float = 5.0,
) -> Plan:
    """What a run with these settings will take, here or on hardware of a known name.

    on             a name of `recipes/hardware.py`, such as "h200" or "a100x8": then nothing is
                   measured
    device         "cpu", "cuda:1", "mps"; None takes the best that is there
    probe_seconds  how long to measure here, after the warm-up
    raises         ConfigError for an unknown name, or when nothing tells the vocabulary's size;
                   DataError for text that cannot be read
    """
    if on and device:
        raise ConfigError(f"on = {on!r} and device = {device!r} exclude each other: name one.")
    if not 0 <= probe_seconds < math.inf:
        raise ConfigError(f"probe_seconds = {probe_seconds} must be at least 0, and finite.")
    machine = _there(on) if on else _here(device)
    text = count_tokens(config)
    config = _resolve(config, text, machine)
    with torch.device("meta"):
        model = Transformer(config.model)
    speed, scale = None, 1.0
    if machine.published is None:
        speed, scale = _probe(config, machine, probe_seconds)
    memory = _memory(config, machine, speed)
    return _Planner(config, machine, text, model, memory, speed, scale).plan()


def _there(name: str) -> _Machine:
    hardware = find_hardware(name)
    device = torch.device(hardware.device)
    return _Machine(hardware.name, device, int(hardware.memory), hardware.count, hardware)


def _here(name: str | None) -> _Machine:
    device, _ = devices.choose_device(name)
    words = torch.cuda.get_device_name(device) if device.type == "cuda" else describe_machine()
    return _Machine(words, device, devices.memory_of(device))


def _resolve(config: RunConfig, text: TokenCount, machine: _Machine) -> RunConfig:
    """Fill in what the tokenizer and the machine decide, as the run itself would."""
    if not config.model.vocab_size:
        if not text.vocab_size:
            raise ConfigError(
                f"the size of the vocabulary is not known: {text.source}. Set model.vocab_size to "
                "plan without the text."
            )
        config = config.replace("model", vocab_size=text.vocab_size)
    if config.train.precision == "auto":
        if machine.published:
            fast = machine.published.flops["bfloat16"]
            name = "bfloat16" if fast else "float32"
        else:
            dtype, _ = devices.resolve_precision("auto", machine.device)
            name = str(dtype).removeprefix("torch.")
        config = config.replace("train", precision=name)
    return config


def _memory(config: RunConfig, machine: _Machine, speed: TrainingSpeed | None = None) -> Memory:
    """Of a step, on each of the machine's devices."""
    train = config.train
    dtype = devices.DTYPES[train.precision]
    share = share_of_step(train.micro_batch, train.accumulate, 0, machine.count)
    kind = machine.device.type
    step = StepShape(
        micro_batch=train.micro_batch // share.of,
        seq_len=config.data.seq_len,
        accumulate=train.accumulate // share.every,
        dtype=dtype,
        optimizer=config.optim.optimizer,
        device=kind,
        kernels=kernels_serve(kind, dtype, train.compile),
        compiled=train.compile,
        recompute=train.recompute,
        segments=config.data.rows == "packed",
        shard=1 if config.parallel.zero else _states(config, machine),
        states=_states(config, machine),
        saving=machine.count == 1 and _saves_meanwhile(config),
    )
    program = speed.program if speed and speed.program else PROGRAM
    return step_memory(config.model, step, program)


def _states(config: RunConfig, machine: _Machine) -> int:
    """How many devices share the optimizer's state."""
    parallel = config.parallel
    if parallel.zero:
        return machine.count
    return min(parallel.shard or machine.count, machine.count)


def _saves_meanwhile(config: RunConfig) -> bool:
    """Whether a step follows one after which a checkpoint may be written."""
    train = config.train
    every = [n for n in (train.save_every, train.eval_every) if n]
    return bool(train.budget or train.until) or bool(every and min(every) < train.steps)


def _fitting(config: RunConfig, machine: _Machine) -> RunConfig | None:
    """The same steps in the largest micro-batches that the memory holds; None if none does."""
    if machine.memory is None:
        return config
    rows = config.train.micro_batch * config.train.accumulate
    for n in range(config.train.micro_batch, 0, -1):
        if rows % n == 0 and rows % machine.count == 0:
            smaller = config.replace("train", micro_batch=n, accumulate=rows // n)
            if _memory(smaller, machine).total <= FITS * machine.memory:
                return smaller
    return None


def _probe(
    config: RunConfig, machine: _Machine, seconds: float
) -> tuple[TrainingSpeed | None, float]:
    """What was measured, and how many of its micro-batches make one of the config's."""
    fitting = _fitting(config, machine)
    if fitting is None:
        return None, 1.0
    speed = probe_training(fitting, str(machine.device), seconds)
    return speed, config.train.micro_batch / fitting.train.micro_batch


@dataclass(frozen=True)
class _Planner:
    config: RunConfig
    machine: _Machine
    text: TokenCount
    model: Transformer
    memory: Memory
    speed: TrainingSpeed | None  # None: nothing was measured
    scale: float  # micro-batches of the probe in one of the config's

    def plan(self) -> Plan:
        """All numbers, and what follows from them."""
        step_s = self._step_s()
        if seconds := self._seconds():
            return replace(self, config=self._filling(seconds, step_s)).plan_of(step_s)
        return self.plan_of(step_s)

    def plan_of(self, step_s: float) -> Plan:
        """`plan` for steps that take so long."""
        train = self.config.train
        tokens = train.steps * self._step_tokens()
        flops = train.steps * self._step_flops()
        rate = self._rate()
        whole = self.speed is not None and self.scale == 1
        result = Plan(
            config=self.config,
            hardware=self.machine.words,
            device=str(self.machine.device),
            measured=self.speed is not None,
            assumed_mfu=None if self.speed else self._assumed_mfu(),
            parameters=self._parameters(),
            tokens=tokens,
            text=self.text,
            flops=flops,
            memory=self.memory,
            probe_memory=self.speed.peak_memory if self.speed and whole else None,
            memory_limit=self.machine.memory,
            disk=self._disk(),
            times=self._times(step_s),
            step_s=step_s,
            mfu=flops / train.steps / step_s / rate,
            matmul_flops=rate,
            notes=tuple(self._notes()),
        )
        fitting = None if result.fits else _fitting(self.config, self.machine)
        return replace(result, advice=tuple(advise(result, fitting)))

    def _seconds(self) -> float:
        """That the run may take; 0 where steps are counted instead."""
        config, train = self.config, self.config.train
        clock = Clock.of(config.schedule, time.monotonic(), train.budget, train.until)
        return max(1.0, clock.left) if clock else 0.0

    def _filling(self, seconds: float, step_s: float) -> RunConfig:
        """The config with as many steps as fill so many seconds."""
        steps = max(1, int(seconds / step_s))
        for _ in range(8):  # evaluations and saves take of the time, and there are more or fewer
            config = self.config.replace("train", steps=steps)
            over = replace(self, config=config)._times(step_s).total - seconds
            steps = max(1, steps - round(over / step_s))
        return self.config.replace("train", steps=steps)

    def _step_tokens(self) -> int:
        train = self.config.train
        return train.micro_batch * train.accumulate * self.config.data.seq_len

    def _step_flops(self) -> float:
        return self._step_tokens() * self.model.flops_per_token(self.config.data.seq_len)

    def _step_s(self) -> float:
        train = self.config.train
        if self.speed:
            return train.accumulate * self.scale * self.speed.micro_batch + self.speed.update
        again = 4 / 3 if train.recompute else 1  # a forward pass more, a third of the work
        step_s = again * self._step_flops() / (self._rate() * self._assumed_mfu())
        if self.machine.device.type == "cpu":
            return step_s
        shortest = BLOCK_S * self.config.model.n_layers
        return max(step_s, train.accumulate * shortest / self.machine.count)

    def _rate(self) -> float:
        """Floating-point operations per second of the matrix products."""
        precision = self.config.train.precision
        if self.speed:
            return self.speed.matmul_flops
        if self.machine.published is None:
            return devices.matmul_flops(self.machine.device, devices.DTYPES[precision])
        flops = self.machine.published.flops[precision]
        if flops is None:
            raise ConfigError(
                f"train.precision = {precision!r}: {self.machine.words} has none. Use float16 or "
                "float32."
            )
        return flops * self.machine.count

    def _assumed_mfu(self) -> float:
        hardware = self.machine.published
        return hardware.mfu(self.config.model.d_model) if hardware else MFU

    def _parameters(self) -> Parameters:
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding)]
        embedding = sum(table.weight.numel() for table in tables)
        blocks = sum(weight.numel() for weight in self.model.blocks.parameters())
        return Parameters(embedding, blocks, self.model.n_parameters() - embedding - blocks)

    def _disk(self) -> Disk:
        model = 4 * self.model.n_parameters() + TOKENIZER_BYTES
        shards = 0
        if not self.config.data.sources and self.text.train is not None:
            id_bytes = 2 if dtype_for(self.config.model.vocab_size) == "uint16" else 4
            shards = id_bytes * (self.text.train + (self.text.validation or 0))
        # Those that stay, the best one, and one that is being written.
        kept = min(self.config.train.keep_last + 2, self._n_saves() + 1)
        return Disk(shards, kept * self._checkpoint(), model)

    def _checkpoint(self) -> int:
        """Bytes of a checkpoint: the model folder and the optimizer's state."""
        state = self.memory.optimizer * _states(self.config, self.machine)
        return 4 * self.model.n_parameters() + TOKENIZER_BYTES + state

    def _times(self, step_s: float) -> Times:
        train = self.config.train
        n_batches = self._evaluation_batches()
        if self.speed:
            speed, scale = self.speed, self.scale
            evaluation, token = speed.evaluation * scale, speed.sample_token
            start, compilation = speed.start, speed.first_step
        else:  # a forward pass is a third of the work; the rest is not known
            evaluation = step_s / train.accumulate / 3
            token = start = compilation = 0.0
        saving = self._checkpoint() / SAVED_BYTES_PER_S
        return Times(
            training=train.steps * step_s,
            evaluations=len(self._due(train.eval_every)) * n_batches * evaluation,
            samples=len(self._due(train.sample_every)) * train.sample_tokens * token,
            saves=self._n_saves() * saving,
            start=start,
            compilation=compilation if train.compile else 0.0,
        )

    def _due(self, every: int) -> set[int]:
        """The steps after which a hook is called."""
        steps = self.config.train.steps
        return {*range(every, steps + 1, every), steps} if every else set()

    def _evaluation_batches(self) -> int:
        """Batches of one evaluation."""
        train, data = self.config.train, self.config.data
        if self.text.validation == 0:
            return 0
        if self.text.validation is None:
            return train.eval_batches
        there = math.ceil(self.text.validation / data.seq_len / train.micro_batch)
        return min(there, train.eval_batches) if train.eval_batches else there

    def _n_saves(self) -> int:
        """At the most: every evaluation may find the best model so far."""
        train = self.config.train
        evaluated = self._due(train.eval_every) if self._evaluation_batches() else set()
        return len(self._due(train.save_every) | evaluated | {train.steps})

    def _notes(self) -> list[str]:
        train, notes = self.config.train, []
        if self.machine.published:
            notes.append(
                f"from published rates, not measured: an MFU of {self._assumed_mfu():.2f} is "
                "assumed; start-up, compilation and samples are left out"
            )
        elif self.speed is None:
            notes.append(
                "no micro-batch fits into the memory, so nothing was measured: an MFU of "
                f"{MFU:.2f} of the matrix products here is assumed"
            )
        elif self.scale != 1:
            notes.append(
                "the micro-batch does not fit into the memory: speed was measured with smaller ones"
            )
        if self.text.train is None:
            notes.append(f"how many tokens the text has is not known: {self.text.source}")
        if not self.config.data.sources:
            notes.append("learning the vocabulary and encoding the text come first, not counted")
        if train.budget or train.until:
            notes.append("as many steps as the time allows; the clock decides when it runs")
        if train.patience:
            notes.append(f"train.patience = {train.patience} may end the run earlier")
        if train.compile and self.machine.device.type == "cpu":
            notes.append("torch.compile's helper processes need memory of their own at the start")
        return notes
