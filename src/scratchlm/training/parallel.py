"""Several processes, one run: who has which rows, what they sum, who shares which weights.

torchrun starts equal processes. The rows of a step are dealt among them, and every sum is taken
over all of them before it is divided, so that the same settings give the same loss curve, but for
rounding, whatever the number of processes. Copies of the model are PyTorch's
DistributedDataParallel; a copy whose weights are shared is its `fully_shard` (FSDP2).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scratchlm.base.errors import ConfigError, MissingExtraError
from scratchlm.base.runtime import Launch, launch
from scratchlm.model.config import divisors
from scratchlm.model.transformer import Transformer
from scratchlm.training.objectives import Objective

T = TypeVar("T")

# How long a process waits for the others: the first one may be saving or printing a sample.
PATIENCE = timedelta(days=1)
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ParallelConfig:
    """How processes that torchrun starts share a run: data x shard is their number."""

    data: int = 0  # copies of the model, each for a part of the rows; 0 takes processes / shard
    shard: int = 1  # processes that share the weights of one copy; 0 takes processes / data
    zero: Literal[0, 1, 2] = 0  # DeepSpeed's ZeRO: 1 shares AdamW's state, 2 the gradients too

    def __post_init__(self) -> None:
        for name in ("data", "shard"):
            if getattr(self, name) < 0:
                raise ConfigError(f"parallel.{name} = {getattr(self, name)} must not be negative.")
        if not self.data and not self.shard:
            raise ConfigError(
                "parallel.data and parallel.shard are both 0: set one of them, and the other "
                "follows from the number of processes."
            )
        if self.zero and self.shard != 1:
            raise ConfigError(
                f"parallel.zero = {self.zero} and parallel.shard = {self.shard} exclude each "
                "other: shared weights come with their part of gradients and optimizer."
            )

    def resolved(self, count: int) -> "ParallelConfig":
        """The same with both numbers, for so many processes.

        raises   ConfigError when their product is not the number of processes
        """
        data = self.data or count // self.shard
        shard = self.shard or count // self.data
        if data * shard != count:
            raise ConfigError(
                f"parallel.data = {self.data} and parallel.shard = {self.shard} do not make "
                f"{count} processes, which is how many there are. Start data x shard of them "
                "(torchrun --nproc-per-node N -m scratchlm pretrain ...), or set one to 0 and the "
                f"other to one of {divisors(count)}."
            )
        return replace(self, data=data, shard=shard)


@dataclass(frozen=True)
class Share:
    """The part of each step that is one process's.

    Of the micro-batches it takes first, first + every, ..., and of their rows rank, rank + of, ...
    """

    first: int = 0
    every: int = 1
    rank: int = 0
    of: int = 1


def share_of_step(micro_batch: int, accumulate: int, rank: int, count: int) -> Share:
    """Deal the rows of a step to `count` processes: whole micro-batches as far as they go.

    raises   ConfigError when the rows cannot be dealt evenly
    """
    rows = micro_batch * accumulate
    if rows % count:
        raise ConfigError(
            f"a step of {rows} rows (train.micro_batch = {micro_batch} x train.accumulate = "
            f"{accumulate}) cannot be dealt evenly to {count} processes. Make it a multiple of "
            f"{count} rows, or start one of {divisors(rows)} processes."
        )
    every = math.gcd(accumulate, count)
    return Share(rank % every, every, rank // every, count // every)


def own_device(name: str | None) -> str | None:
    """The name of the device for this process: on a machine with GPUs each process has its own.

    name     what the user asked for; without torchrun it is left as it is
    raises   ConfigError for a device that several processes cannot share
    """
    here = launch()
    if here.count == 1:
        return name
    wanted = name if name not in (None, "auto") else None
    kind = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise ConfigError(
            f"device = {kind!r} cannot be that of {here.count} processes. Give cuda, where each "
            "takes the GPU of its own number, or cpu."
        )
    n_gpus = torch.cuda.device_count()
    if kind == "cuda" and here.local_rank >= n_gpus:
        raise ConfigError(
            f"torchrun started more processes on this machine than it has GPUs, {n_gpus}. Start "
            "with --nproc-per-node gpu, or give --device cpu."
        )
    return f"cuda:{here.local_rank}" if kind == "cuda" else "cpu"


class Processes:
    """The processes of a run, as one of them sees them; alone, it answers without asking anyone.

    rank         number of this process, 0 to count - 1
    count        how many there are
    data, shard  copies of the model; processes that share the weights of each
    zero         stage of DeepSpeed's ZeRO (`training/zero.py`), which then sums; 0 without
    group        for numbers on the CPU, whatever device computes; None alone
    """

    def __init__(self, config: ParallelConfig, here: Launch, device: torch.device) -> None:
        self.rank, self.count = here.rank, here.count
        self.device = device
        self.group: Any = None
        self._n_waits = 0
        self._copies: DistributedDataParallel | None = None
        self._shared: Any = None  # the model, once its weights are shared
        if self.count > 1:
            self._meet()
        with self.first_alone():
            config = config.resolved(self.count)
            self.zero = config.zero if self.count > 1 else 0
            if self.zero and find_spec("deepspeed") is None:
                raise MissingExtraError("deepspeed", "deepspeed", "parallel.zero")
        self.data, self.shard = config.data, config.shard

    @classmethod
    def alone(cls) -> "Processes":
        """One process, whatever the environment says."""
        return cls(ParallelConfig(), Launch(), torch.device("cpu"))

    def _meet(self) -> None:
        self._store, _, _ = next(dist.rendezvous("env://"))
        if on_gpu := self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=self._store,
            rank=self.rank,
            world_size=self.count,
            device_id=self.device if on_gpu else None,
        )
        self.group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def part(self) -> None:
        """Leave the other processes, once all have come to this point."""
        self.sum(0)
        # The group's threads end with the last reference to it. One that lets go of its last tensor
        # while Python ends aborts the process (github.com/pytorch/pytorch/pull/179291; one run in
        # five here).
        self.group = None
        dist.destroy_process_group()

    @property
    def model_device(self) -> torch.device:
        """Where to make or load the model: one that is to be shared may not fit on the device."""
        return torch.device("cpu") if self.shard > 1 else self.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def sum(self, *values: float) -> tuple[Any, ...]:
        """Each value summed over all processes, in 64 bits; an int stays an int."""
        if self.count == 1:
            return values
        box = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(box, group=self.group)
        return tuple(type(v)(total) for v, total in zip(values, box.tolist(), strict=True))

    def any_of(self, value: T | None) -> T | None:
        """The value of the first process that has one; None where none has."""
        if not any(self.sum(int(value is not None))):
            return None
        return next(other for other in self.gather(value) if other is not None)

    def agree(self, value: T) -> T:
        """The first process's value, for what clocks and disks could make different."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value, group=self.group)
        return values

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process run the block alone, then the others: they find what it made.

        An error in it is thus told once; torchrun ends the others.
        """
        self._n_waits += 1
        done = f"first alone {self._n_waits}"
        while not self.is_first and not self._store.check([done]):
            time.sleep(POLL_SECONDS)  # unlike a blocking wait it hears signals, and has no end
        yield
        if self.is_first and self.count > 1:
            self._store.set(done, "")

    def draw_apart(self, seed: int) -> None:
        """Let every process but the first draw its own numbers, for dropout, from now on."""
        if not self.is_first:
            torch.manual_seed(seed + self.rank)

    def spread(self, model: Transformer, objective: Objective) -> Objective:
        """Put the model on all processes; called on each before the optimizers are made.

        model      equal on all, changed in place where its weights are shared: it may then lie on
                   the CPU, from where each block moves when it has been cut
        returns    the objective; gradients of its backward pass are averages over all processes,
                   once `summing` has come to its last one
        """
        if self.shard > 1:
            self._share_weights(model)
        elif self.count > 1 and not self.zero:
            self._copies = DistributedDataParallel(
                ObjectiveModule(model, objective), gradient_as_bucket_view=True
            )
            return self._through_copies
        return objective

    def _share_weights(self, model: Transformer) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        shape, names = (self.data, self.shard), ("data", "shard")
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        if self.data == 1:
            mesh = mesh["shard"]
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        register_fsdp_forward_method(model, "hidden")  # what objectives call
        self._shared = model

    def _through_copies(
        self, _: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        assert self._copies is not None
        loss: Tensor = self._copies(tokens, targets, segments)
        return loss

    @contextmanager
    def summing(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: only the last pass waits for the others.

        Shared weights are an exception: inside a copy, each pass leaves every process the gradient
        of its own part alone, since a whole one is what there is no memory for.
        """
        if self._shared is not None:
            self._shared.set_requires_all_reduce(last)  # over the copies
        with nullcontext() if last or self._copies is None else self._copies.no_sync():
            yield


class ObjectiveModule(nn.Module):
    """The objective as a module, since DistributedDataParallel sees nothing but `forward`.

    It has the model's weights but not its buffers, which would be sent around in every step.
    """

    def __init__(self, model: Transformer, objective: Objective) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self.forward = partial(objective, model)


@contextmanager
def join(config: ParallelConfig, device: torch.device) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, and part when the block is done.

    After an error there is no parting: the others wait in the middle of something, and are ended
    by torchrun when this process ends.

    raises   ConfigError when `config` does not fit the number of processes
    """
    processes = Processes(config, launch(), device)
    yield processes
    if processes.count > 1:
        processes.part()
