"""Pieces of documents to ids, by as many workers as are wanted, in the order of the text."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchlm.base.child import serve_parent
from scratchlm.base.errors import DataError
from scratchlm.corpus.divide import Piece
from scratchlm.tokenizer.surrogates import to_utf8
from scratchlm.tokenizer.tokenizer import Tokenizer

_JOB = 1 << 18  # characters that a worker encodes at a time; or one piece of a long document


class Encoded(NamedTuple):
    """A piece, its ids (uint32), and the bytes of its text in UTF-8."""

    piece: Piece
    ids: np.ndarray
    n_bytes: int


Result = tuple[np.ndarray, int]  # what becomes of a piece


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, folder: Path, n_workers: int
) -> Generator[Encoded, None, None]:
    """The ids of each piece, in order; memory holds at most two jobs for each worker.

    The workers are threads where the tokenizer has compiled code, which lets others run beside
    it, and processes elsewhere.

    folder   where the tokenizer was saved: processes load it there
    raises   DataError naming the document that cannot be encoded
    """
    jobs = _in_jobs(pieces)
    if n_workers == 1:
        for job in jobs:
            yield from _encoded(job, _encode_job(job, tokenizer))
    elif tokenizer.fast:
        yield from _by_threads(jobs, tokenizer, n_workers)
    else:
        yield from _by_processes(jobs, folder, n_workers)


def _encoded(job: Sequence[Piece], results: Iterable[Result]) -> Iterator[Encoded]:
    return (Encoded(piece, *result) for piece, result in zip(job, results, strict=True))


def _by_threads(
    jobs: Iterable[list[Piece]], tokenizer: Tokenizer, n_workers: int
) -> Iterator[Encoded]:
    pool = ThreadPoolExecutor(n_workers)
    try:
        yield from _in_order(jobs, pool, partial(_encode_job, tokenizer=tokenizer), n_workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _by_processes(jobs: Iterable[list[Piece]], folder: Path, n_workers: int) -> Iterator[Encoded]:
    others = set(active_children())
    # spawn: the same on every system, and safe where threads are running already
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), _start_worker, (folder,))
    try:
        yield from _in_order(jobs, pool, _encode_in_worker, n_workers)
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


def _in_order(
    jobs: Iterable[list[Piece]],
    pool: Executor,
    encode: Callable[[list[Piece]], list[Result]],
    n_workers: int,
) -> Iterator[Encoded]:
    waiting: deque[tuple[list[Piece], Future[list[Result]]]] = deque()
    for job in jobs:
        waiting.append((job, pool.submit(encode, job)))
        if len(waiting) == 2 * n_workers:
            job, future = waiting.popleft()
            yield from _encoded(job, future.result())
    for job, future in waiting:
        yield from _encoded(job, future.result())


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


def _encode_job(job: Sequence[Piece], tokenizer: Tokenizer) -> list[Result]:
    encoded = []
    for piece in job:
        try:
            text = to_utf8(piece.document.text)
            # not the whole job as a batch: the library would start threads in every worker
            ids = tokenizer.encode_bytes(text, continues=piece.continues)
        except DataError as bad:
            raise DataError(f"{piece.document.place}: {bad}") from None
        encoded.append((ids, len(text)))
    return encoded


_worker_tokenizer: Tokenizer  # in a worker process


def _start_worker(folder: Path) -> None:
    """Get ready in a new process.

    The tokenizer comes from its file. Sent as an argument it could hang the parent for good: a
    start writes the arguments into a pipe of 64 kB, which a child that died does not read.
    """
    global _worker_tokenizer
    serve_parent()
    _worker_tokenizer = Tokenizer.load(folder)


def _encode_in_worker(job: Sequence[Piece]) -> list[Result]:
    return _encode_job(job, _worker_tokenizer)
