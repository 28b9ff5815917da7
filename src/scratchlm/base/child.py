"""How a process of ours behaves that a parent started to work for it."""

import os
import signal
from multiprocessing import parent_process
from threading import Thread


def serve_parent() -> None:
    """Leave Ctrl-C to the parent, which ends its workers, and end when the parent has ended.

    A worker of a pool would wait for ever for a parent that was killed. Call it once, in the main
    thread of a new process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
