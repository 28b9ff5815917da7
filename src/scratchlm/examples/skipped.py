"""Bad records: each is one error that names its place, or one of those that are left out."""

from collections import Counter

from scratchlm.base.errors import DataError
from scratchlm.base.log import warn

_SHOWN = 3  # places of each reason


class BadRecord(DataError):
    """A record that cannot be used, and that may be left out.

    place    "file:line", or how else the user finds it
    reason   in few words, to be counted
    detail   what is wrong with this very record
    """

    def __init__(self, place: str, reason: str, detail: str) -> None:
        super().__init__(place, reason, detail)
        self.place, self.reason, self.detail = place, reason, detail

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.detail}. Mend it, or give --skip-bad (in Python, skip_bad=True) "
            "to leave such records out and count them."
        )


class Skipped:
    """The bad records that were left out: how many for each reason, and where the first are."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}

    def add(self, bad: BadRecord) -> None:
        """Count one."""
        self.counts[bad.reason] += 1
        places = self._places.setdefault(bad.reason, [])
        if len(places) < _SHOWN:
            places.append(bad.place)

    def report(self, n_used: int, what: str) -> None:
        """Warn of them, in one message; nothing is said where there are none.

        n_used   what came of the other records
        what     what these are, in the plural: "conversations"
        raises   DataError when nothing is left
        """
        if not self.counts:
            return
        reasons = (
            f"{reason} ({n:,}: {'; '.join(self._places[reason])}{'; ...' if n > _SHOWN else ''})"
            for reason, n in sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))
        )
        said = f"{self.counts.total():,} bad records left out: {', '.join(reasons)}."
        if not n_used:
            why = "Read without --skip-bad to see what is wrong."
            raise DataError(f"there are no {what} to use. {said} {why}")
        warn(f"{n_used:,} {what}; {said}")
