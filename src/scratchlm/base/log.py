"""What the program says: one logger on standard error; standard output is for results."""

import logging
import sys

from scratchlm.base.runtime import launch

LOGGER = logging.getLogger("scratchlm")
_warned: set[str] = set()


def show_log(level: int = logging.INFO) -> None:
    """Print the program's messages as plain lines on standard error (the command line calls it).

    As a library, scratchlm only emits records: what becomes of them is the caller's choice. Of the
    processes of one run, only the first speaks.
    """
    LOGGER.handlers = [_Plain()]
    LOGGER.setLevel(level if launch().rank == 0 else logging.ERROR)
    LOGGER.propagate = False


class _Plain(logging.Handler):
    """Prints to what standard error is at that moment: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Tell the user what is being done or was chosen, and why."""
    LOGGER.info(text)


def warn(text: str) -> None:
    """Tell the user what is likely not what he wants."""
    LOGGER.warning(text)


def warn_once(text: str) -> None:
    """`warn`, but each text only the first time in this process."""
    if text not in _warned:
        _warned.add(text)
        warn(text)
