"""Documents that ran into a limit of time or memory: what was found once holds from then on.

How long a document takes is not quite the same twice. Without a memory of it, what is kept could
differ between a run and the same run gone on after a kill, or done once more.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from scratchlm.base.files import write_whole
from scratchlm.corpus.records import Failure


def digest(body: bytes) -> str:
    """Stands for a document's bytes."""
    return hashlib.sha256(body).hexdigest()[:32]


class Verdicts:
    """The verdicts on a shard's documents, in a file to which one is added at a time.

    path    of the file, made with the first verdict
    older   a file of verdicts of an earlier run, there or not
    """

    def __init__(self, path: Path, older: Path) -> None:
        self._path = path
        self._known = {
            (id, known): reason for file in (older, path) for id, known, reason in _read(file)
        }

    def of(self, id: str, body: bytes) -> str | None:
        """The reason to leave a document out without another trial; None: try it."""
        if not self._known:
            return None
        return self._known.get((id, digest(body)))

    def add(self, failure: Failure) -> None:
        """Keep a verdict, even if this process is killed at once."""
        line = json.dumps([failure.id, failure.digest, failure.reason]) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            if file.tell() and not _ends_a_line(self._path):
                file.write(b"\n")  # the last one was cut by a kill
            file.write(line.encode("ascii"))


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _read(path: Path) -> list[tuple[str, str, str]]:
    """The verdicts of a file; a line that a kill has cut is left out."""
    found = []
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        try:
            id, known, reason = json.loads(line)
        except ValueError:
            continue
        found.append((id, known, reason))
    return found


def write_verdicts(path: Path, failed: Iterable[Path]) -> None:
    """Collect the verdicts from the files of failures that a finished run has left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as file:
        for one in failed:
            for line in one.read_bytes().splitlines():
                known = json.loads(line)
                if "digest" in known:
                    verdict = [known["id"], known["digest"], known["reason"]]
                    file.write(json.dumps(verdict).encode("ascii") + b"\n")
