"""The jobs of a stage, in processes of this machine: one that dies is replaced, its job redone."""

from collections import Counter, deque
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context

from scratchlm.base.child import serve_parent
from scratchlm.base.errors import DataError
from scratchlm.base.log import warn
from scratchlm.corpus.stages import Counts, Job

_TRIES = 3  # of a job during which a worker died


class Processes:
    """So many processes; one works without any other.

    n   of them
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Counts], None, None]:
        """Each job with its counts, as they end; whoever closes this ends the processes."""
        if self.n == 1 or len(jobs) == 1:
            for job in jobs:
                yield job, job()
            return
        left = deque(jobs)
        tries: Counter[Job] = Counter()
        while left:
            yield from self._until_one_dies(left, tries)

    def _may_start(self, job: Job, running: Collection[Job], tries: Counter[Job]) -> bool:
        """Whether there is room for it; who is on his last try is alone, so that he is the one."""
        last = [one for one in (job, *running) if tries[one] == _TRIES - 1]
        return not running or (len(running) < self.n and not last)

    def _until_one_dies(
        self, left: deque[Job], tries: Counter[Job]
    ) -> Generator[tuple[Job, Counts], None, None]:
        """Do jobs from `left`; those that were at work when a process died are put back there."""
        others = set(active_children())
        pool = ProcessPoolExecutor(self.n, get_context("spawn"), serve_parent)
        running: dict[Future[Counts], Job] = {}
        try:
            while left or running:
                while left and self._may_start(left[0], running.values(), tries):
                    running[pool.submit(left[0])] = left[0]  # raises where one has just died
                    left.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            for job in running.values():
                tries[job] += 1
                if tries[job] == _TRIES:
                    raise DataError(
                        f"{job.shard}: a worker process died {_TRIES} times while it was at work. "
                        "Either the memory is too small (lower --workers), or this file kills it."
                    ) from None
            left.extendleft(reversed(list(running.values())))
            warn("a worker process died: its shards are done once more.")
        except BaseException:  # nobody waits for what they do now
            for worker in set(active_children()) - others:
                worker.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
