"""Damage files until the time is over, and keep those that bring out anything but our own error.

    python tests/formats/fuzz.py --minutes 10

A file that does goes to data/found/VICTIM--FILE--SUM, where test_hostile.py tries it again; of
failures in the same line only the first, and the shortest, is kept.
"""

import argparse
import hashlib
import random
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

from test_hostile import FOUND, VICTIMS, check, hostile

LONGEST_S = 30  # for one file


def too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"over {LONGEST_S} s")


def place_of(bad: BaseException) -> str:
    """The kind of an error and the last line of ours that it came through."""
    frames = [f for f in traceback.extract_tb(bad.__traceback__) if "scratchlm" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(bad.__traceback__)[-1]
    return f"{type(bad).__name__} at {last.filename.rpartition('scratchlm/')[2]}:{last.lineno}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--victims", nargs="*", default=list(VICTIMS), choices=list(VICTIMS))
    chosen = options.parse_args()
    signal.signal(signal.SIGALRM, too_long)
    FOUND.mkdir(exist_ok=True)
    until, tried = time.monotonic() + 60 * chosen.minutes, 0
    kept: dict[str, Path] = {}
    seen: Counter[str] = Counter()
    while time.monotonic() < until:
        victim = chosen.victims[tried % len(chosen.victims)]
        name, content = hostile(victim, random.Random(f"{chosen.seed} {tried}"))
        tried += 1
        signal.alarm(LONGEST_S)
        try:
            check(victim, name, content)
        except BaseException as bad:
            if isinstance(bad, KeyboardInterrupt):
                raise
            place = place_of(bad)
            seen[place] += 1
            if place not in kept or len(content) < kept[place].stat().st_size:
                if place in kept:
                    kept[place].unlink()
                path = FOUND / f"{victim}--{name}--{hashlib.sha256(place.encode()).hexdigest()[:8]}"
                path.write_bytes(content)
                kept[place] = path
                print(f"{path.name}: {place}: {str(bad)[:200]}", flush=True)
        finally:
            signal.alarm(0)
    print(f"{tried} files, {len(seen)} kinds of failure, seed {chosen.seed}")
    for place, n in seen.most_common():
        print(f"{n:6} {place}")


if __name__ == "__main__":
    main()
