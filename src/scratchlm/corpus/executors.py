"""Who does the shards of a stage: the one place that turns the user's options into an executor."""

from dataclasses import dataclass
from typing import Literal

from scratchlm.base.errors import ConfigError
from scratchlm.base.runtime import cpu_count
from scratchlm.corpus.ray_cluster import RayCluster
from scratchlm.corpus.stages import Executor
from scratchlm.corpus.workers import Processes

Where = Literal["here", "ray"]


@dataclass(frozen=True)
class Scale:
    """How many shards are worked on at a time, and where: what comes out does not depend on it."""

    workers: int = 0  # shards at a time; 0 takes all processors
    on: Where = "here"  # processes of this machine, or a Ray cluster whose machines share the disk
    address: str = "auto"  # of the Ray cluster: HOST:PORT; auto finds it; local starts one here

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"workers = {self.workers} must be at least 0.")
        if self.on == "here" and self.address != "auto":
            raise ConfigError(
                f"address = {self.address!r} is that of a Ray cluster: give --on ray as well."
            )

    def executor(self) -> Executor:
        """Who does it."""
        if self.on == "ray":
            return RayCluster(self.address, self.workers)
        return Processes(self.workers or cpu_count())
