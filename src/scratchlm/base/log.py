"""What the program says: one logger on standard error; standard output is for results."""

import logging
import sys

LOGGER = logging.getLogger("scratchlm")
_warned: set[str] = set()


def show_log(level: int = logging.INFO) -> None:
    """Print the program's messages as plain lines on standard error (the command line calls it).

    As a library, scratchlm only emits records: what becomes of them is the caller's choice.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


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
