"""What every benchmark shares: its settings, its rounds, its results as JSON and as a table."""

import dataclasses
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from process import ROOT, How, MeasurementError

from scratchlm.base.files import write_json, write_text
from scratchlm.base.progress import duration
from scratchlm.base.runtime import cpu_count, describe_machine


@dataclass(frozen=True)
class Settings:
    """How to measure; each benchmark adds its own."""

    rounds: int = 3  # how often every side is measured; the sides take turns
    quick: bool = False  # tiny sizes, one round: proves that all works, measures nothing
    priority: bool = False  # put other work on the machine aside (Linux, as root)
    pin: bool = False  # bind OpenMP threads to cores, for every side
    timeout: float = 1800.0  # seconds after which one measurement is given up
    hardware: str = ""  # names the results, as in amd-epyc-zen5-2core; empty: the processor's name
    out: Path = ROOT / "benchmarks" / "results"  # where results go; --quick writes elsewhere
    peer_python: Path = Path(sys.executable)  # the interpreter that has the peers' libraries

    @property
    def n_rounds(self) -> int:
        """Rounds to run: one with --quick."""
        return 1 if self.quick else self.rounds

    def how(self, *, peer: bool = False, **environment: str) -> How:
        """How to run our processes, or a peer's."""
        python = str(self.peer_python) if peer else sys.executable
        return How(python, self.priority, self.pin, self.timeout, environment)


@dataclass(frozen=True)
class Entry:
    """One thing to measure: `measure(round)` returns numbers and lists of numbers by name."""

    case: str
    side: str
    measure: Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class Column:
    """A column of the table: medians of `key`, with the least and the most when `spread`."""

    heading: str
    key: str
    form: str = ",.0f"
    spread: bool = False


@dataclass(frozen=True)
class Comparison:
    """Which number decides, and the side that the others are held against."""

    key: str
    reference: str
    more_is_better: bool = True


class Results:
    """All measurements of one benchmark; its files are whole after each of them.

    name       of the benchmark
    facts      more about the machine or the data, kept in the JSON
    hardware   names the files when the settings do not
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        columns: Sequence[Column],
        comparison: Comparison,
        *,
        facts: dict[str, Any] | None = None,
        hardware: str = "",
    ) -> None:
        self.name, self.columns, self.comparison = name, columns, comparison
        self.measurements: list[dict[str, Any]] = []
        self.n_rounds = settings.n_rounds
        self.about = {
            "benchmark": name,
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "torch": version("torch"),
            "commit": _commit(),
            "settings": _without_places(settings),
            "facts": facts or {},
        }
        folder = Path(tempfile.mkdtemp()) if settings.quick else settings.out
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}-{_slug(settings.hardware or hardware or _processor())}.json"

    def measure(self, entries: Iterable[Entry]) -> None:
        """Measure every entry once a round, case after case, printing each; ends with the table.

        A measurement that fails is printed and kept as such, and the others go on.
        """
        cases: dict[str, list[Entry]] = {}
        for entry in entries:
            cases.setdefault(entry.case, []).append(entry)
        for sides in cases.values():
            for number in range(self.n_rounds):
                # to and fro, so that no side always comes after the same one
                for entry in sides[:: -1 if number % 2 else 1]:
                    self._measure(entry, number)
        print(f"\n{self.table()}\n{self.path}\n{self.path.with_suffix('.md')}", flush=True)

    def _measure(self, entry: Entry, number: int) -> None:
        what = f"{entry.case}, {entry.side}, round {number + 1} of {self.n_rounds}"
        print(f"{what}: ...", end="", flush=True)
        start = time.perf_counter()
        try:
            values = entry.measure(number)
        except MeasurementError as bad:
            values = {"error": str(bad)}
        seconds = duration(time.perf_counter() - start)
        shown = str(values.get("error") or ", ".join(self._cells([values])))
        print(f"\r{what}: {shown} ({seconds})", flush=True)
        place = {"case": entry.case, "side": entry.side, "round": number}
        self.measurements.append({**place, **values})
        self._save()

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        """case -> side -> name -> the median over the rounds, of every number that was measured."""
        return {
            case: {
                side: {
                    key: statistics.median(_numbers(rounds, key))
                    for key in dict.fromkeys(key for values in rounds for key in values)
                    if key not in ("case", "side", "round") and _numbers(rounds, key)
                }
                for side, rounds in sides.items()
            }
            for case, sides in self._by_case().items()
        }

    def ratios(self) -> dict[str, dict[str, float]]:
        """case -> side -> how many times better the reference is, the median over the rounds."""
        found: dict[str, dict[str, float]] = {}
        for case, sides in self._by_case().items():
            reference = {r["round"]: r for r in sides.get(self.comparison.reference, [])}
            for side, rounds in sides.items():
                pairs = [(reference.get(values["round"], {}), values) for values in rounds]
                ratios = [ratio for pair in pairs if (ratio := self._ratio(*pair)) is not None]
                if ratios:
                    found.setdefault(case, {})[side] = statistics.median(ratios)
        return found

    def _ratio(self, reference: dict[str, Any], values: dict[str, Any]) -> float | None:
        ours, theirs = reference.get(self.comparison.key), values.get(self.comparison.key)
        if not ours or not theirs:
            return None
        return ours / theirs if self.comparison.more_is_better else theirs / ours

    def table(self) -> str:
        """The medians and ratios in Markdown."""
        heads = [column.heading for column in self.columns]
        heads = ["case", "side", *heads, f"{self.comparison.reference} is better by"]
        lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
        ratios = self.ratios()
        for case, sides in self._by_case().items():
            for side, rounds in sides.items():
                ratio = ratios.get(case, {}).get(side)
                times = "" if ratio is None else f"{ratio:.2f} x"
                lines.append([case, side, *self._cells(rounds), times])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _cells(self, rounds: Sequence[dict[str, Any]]) -> list[str]:
        """Each column's cell for the rounds of one side; empty where nothing was measured."""
        if all("error" in values for values in rounds):
            return ["failed"] + [""] * (len(self.columns) - 1)
        cells = []
        for column in self.columns:
            numbers = _numbers(rounds, column.key)
            cell = f"{statistics.median(numbers):{column.form}}" if numbers else ""
            if column.spread and len(numbers) > 1:
                least, most = (f"{bound(numbers):{column.form}}" for bound in (min, max))
                cell += f" ({least} to {most})"
            cells.append(cell)
        return cells

    def _by_case(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for values in self.measurements:
            found.setdefault(values["case"], {}).setdefault(values["side"], []).append(values)
        return found

    def _save(self) -> None:
        results = {"measurements": self.measurements, "medians": self.medians()}
        write_json(self.path, {**self.about, **results, "ratios": self.ratios()})
        about = self.about
        head = f"# {self.name}\n\n{about['machine']}, torch {about['torch']}, {about['date']}, "
        note = f"Medians of {self.n_rounds} rounds (least to most); everything is in the JSON file."
        text = f"{head}commit {about['commit']}.\n{note}\n\n{self.table()}\n"
        write_text(self.path.with_suffix(".md"), text)


def _numbers(rounds: Iterable[dict[str, Any]], key: str) -> list[float]:
    values = [values.get(key) for values in rounds]
    return [value for value in values if isinstance(value, int | float)]


def _without_places(settings: Settings) -> dict[str, Any]:
    """The settings with paths cut to their names: results are published, folders are nobody's."""

    def named(value: Any) -> Any:
        if isinstance(value, tuple):
            return [named(item) for item in value]
        return value.name if isinstance(value, Path) else value

    return {key: named(value) for key, value in dataclasses.asdict(settings).items()}


def _processor() -> str:
    return f"{describe_machine().split(',')[0]} {cpu_count()}core"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _commit() -> str:
    """The commit that is measured, marked when files were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()
