"""The jobs of a stage on a Ray cluster: the same functions as here, on other machines.

Documents do not travel over Ray: a worker reads its shard and writes what it makes of it on a disk
that all machines share, and answers with a few numbers.
"""

import os
import platform
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from scratchlm import __version__
from scratchlm.base.errors import ConfigError, DataError, MissingExtraError, UserError
from scratchlm.base.log import say
from scratchlm.base.progress import counted
from scratchlm.base.runtime import cpu_count
from scratchlm.corpus.stages import Counts, Job

_TRIES = 3  # of a job during which a worker died, as in `workers`
_STORE_BYTES = 80 << 20  # of a cluster of our own for what travels; Ray takes no less than 75 MB
_SHARED = (
    "The folders of the input and of the output must lie on a disk that all machines of the Ray "
    "cluster share, under the same path."
)
_ANSWER_SECONDS = 10  # of a machine that is asked for its cluster
_LATE_SECONDS = 60  # after which network disks show a new file (acdirmax of NFS, nfs(5))


class RayCluster:
    """A Ray cluster that exists, or one of this machine that is started for the jobs.

    address   "auto": the one that RAY_ADDRESS names, or that this machine belongs to; HOST:PORT or
              ray://HOST:PORT: another; "local": one of this machine alone, ended with the jobs
    n         jobs at a time; 0: as many as there are processors, and as many that wait for one

    Each machine of the cluster needs the same version of scratchlm, and must see the folders of the
    input and of the output under the same path: a disk that all of them share.

    raises    MissingExtraError without the library, before anything is begun
    """

    def __init__(self, address: str, n: int) -> None:
        _library()
        self.address = address
        self.n = n

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Counts], None, None]:
        """Each job with its counts, as they end; whoever closes this ends what runs.

        In a process that was connected before, what runs then ends when its shard is done.

        raises   ConfigError for a cluster that cannot be reached; DataError naming the shard, for a
                 job that kills its workers, and the machine that does not see it; whatever the job
                 itself raises
        """
        ray = _library()
        with _connected(ray, self.address, self.n):
            task = ray.remote(num_cpus=1, max_retries=_TRIES - 1)(_do)
            left = deque(jobs)
            running: dict[Any, Job] = {}
            while left or running:
                while left and len(running) < (self.n or 2 * _processors(ray)):
                    job = left.popleft()
                    running[task.remote(job, Path.cwd(), __version__)] = job
                [done], _ = ray.wait(list(running))
                job = running.pop(done)
                yield job, _result(ray, done, job)


def _library() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError("ray", "ray", "A Ray cluster") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str, n: int) -> Iterator[None]:
    """Be connected to the cluster; who was before stays so.

    Whoever leaves a cluster ends what it does for him. `ray.cancel` would, too, but a task that
    ends at that moment takes the whole process with it (Ray 2.60, CompletePendingTask).
    """
    if ray.is_initialized():
        say(f"Ray: the cluster that this process is connected to, {_size(ray)}.")
        yield
        return
    try:
        _connect(ray, address, n)
        say(f"Ray cluster {address}: {_size(ray)}.")
        with redirect_stdout(sys.stderr):  # Ray says there which workers died
            yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, n: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": n or cpu_count(), "include_dashboard": False}
        options |= {"object_store_memory": _STORE_BYTES}
    try:
        _check_open(address)
        with _own_handler():
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as bad:  # ConnectionError is an OSError
        raise ConfigError(
            f"the Ray cluster at {address!r} cannot be used ({bad}). Start one with ray start "
            "--head, or name another with --address; one that asks for a token needs "
            "RAY_AUTH_MODE=token. --address local takes this machine alone."
        ) from None


def _check_open(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host:
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keep our answer to SIGTERM, in the place of which Ray puts its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _size(ray: Any) -> str:
    machines = counted(sum(node["Alive"] for node in ray.nodes()), "machine")
    return f"{counted(_processors(ray), 'processor')} of {machines}"


def _processors(ray: Any) -> int:
    """Of the cluster, as it is now: some grow with what waits."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _do(job: Job, folder: Path, version: str) -> Counts | UserError | OSError:
    """Do a job, in a worker. What the user can mend is returned: Ray would change its class.

    folder    where the user is: paths without a root, those in settings too, begin there
    version   of the user's scratchlm
    """
    machine = platform.node()
    try:
        if version != __version__:
            raise ConfigError(
                f"{machine} has scratchlm {__version__}, and this machine has {version}: what they "
                "write may differ. Install the same version on all machines of the Ray cluster."
            )
        if folder.is_dir():
            os.chdir(folder)
        for path in (job.shard, job.out.parent):
            if not path.exists():
                raise DataError(f"{machine} does not see {folder / path}. {_SHARED}")
        return job()
    except (UserError, OSError) as error:
        return error


def _result(ray: Any, task: Any, job: Job) -> Counts:
    """What a task that has ended returned, or raised."""
    errors = ray.exceptions
    try:
        result: Counts | UserError | OSError = ray.get(task)
    except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as died:
        raise DataError(
            f"{job.shard}: a worker process died {_TRIES} times while it was at work. Either the "
            f"memory of its machine is too small, or this file kills it. Ray says: {died}"
        ) from None
    if not isinstance(result, Counts):
        raise result
    _await(job.out)
    return result


def _await(out: Path) -> None:
    """Wait until this machine sees what another one has written."""
    deadline = time.monotonic() + _LATE_SECONDS
    while not out.exists():
        if time.monotonic() > deadline:
            raise DataError(
                f"{out.absolute()} was written by a machine of the Ray cluster, and this one does "
                f"not see it. {_SHARED}"
            )
        time.sleep(0.5)
