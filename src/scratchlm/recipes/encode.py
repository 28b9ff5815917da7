"""Pieces of documents to ids, in as many processes as are wanted, in the order of the text."""

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np

from scratchlm.base.errors import DataError
from scratchlm.corpus.divide import Piece
from scratchlm.tokenizer.tokenizer import Tokenizer

_JOB = 1 << 18  # characters that a worker encodes at a time; or one piece of a long document

Encoded = tuple[Piece, np.ndarray]  # ids, uint32


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, folder: Path, n_workers: int
) -> Generator[Encoded, None, None]:
    """The ids of each piece, in order; memory holds at most two jobs for each worker.

    folder   where the tokenizer was saved: workers load it there
    raises   DataError naming the document that cannot be encoded
    """
    jobs = _in_jobs(pieces)
    if n_workers == 1:
        for job in jobs:
            yield from zip(job, _encode_job(job, tokenizer), strict=True)
        return
    waiting: deque[tuple[list[Piece], Future[list[np.ndarray]]]] = deque()
    others = set(active_children())
    # spawn: the same on every system, and safe where threads are running already
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), _start_worker, (folder,))
    try:
        for job in jobs:
            waiting.append((job, pool.submit(_encode_in_worker, job)))
            if len(waiting) == 2 * n_workers:
                job, future = waiting.popleft()
                yield from zip(job, future.result(), strict=True)
        for job, future in waiting:
            yield from zip(job, future.result(), strict=True)
    except BrokenProcessPool:
        raise DataError(
            "a worker process ended before its work was done. Either the memory is too small "
            "(lower prepare.workers), or a script calls prepare outside of "
            '`if __name__ == "__main__":`.'
        ) from None
    except BaseException:  # nobody waits for what they do now; a second Ctrl-C would, for ever
        for worker in set(active_children()) - others:
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _in_jobs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    job: list[Piece] = []
    n_chars = 0
    for piece in pieces:
        job.append(piece)
        n_chars += len(piece.document.text)
        if n_chars >= _JOB:
            yield job
            job, n_chars = [], 0
    if job:
        yield job


def _encode_job(job: Sequence[Piece], tokenizer: Tokenizer) -> list[np.ndarray]:
    encoded = []
    for piece in job:
        try:
            # not the whole job as a batch: the library would start threads in every worker
            (ids,) = tokenizer.encode_batch([piece.document.text], continues=[piece.continues])
        except DataError as bad:
            raise DataError(f"{piece.document.place}: {bad}") from None
        encoded.append(np.asarray(ids, dtype=np.uint32))
    return encoded


_worker_tokenizer: Tokenizer  # in a worker process


def _start_worker(folder: Path) -> None:
    """Get ready in a new process.

    The tokenizer comes from its file. Sent as an argument it could hang the parent for good: a
    start writes the arguments into a pipe of 64 kB, which a child that died does not read.
    """
    global _worker_tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    Thread(target=_end_with_parent, daemon=True).start()
    _worker_tokenizer = Tokenizer.load(folder)


def _end_with_parent() -> None:
    """A worker would wait for ever for a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_in_worker(job: Sequence[Piece]) -> list[np.ndarray]:
    return _encode_job(job, _worker_tokenizer)
