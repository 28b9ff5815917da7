"""What every benchmark shares: its settings, its rounds, its results as JSON and as a table."""

import dataclasses
import os
import re
import signal
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

import tyro

from process import ROOT, How, MeasurementError
from scratchlm.base.duration import duration
from scratchlm.base.errors import ConfigError, UserError
from scratchlm.base.files import write_json, write_text
from scratchlm.base.runtime import cpu_count, describe_machine

GROUP = Path("/proc/self/autogroup")
PEERS = (  # packages whose versions are kept with the results
    *("aiohttp", "datatrove", "litgpt", "lxml", "newspaper4k", "numpy", "readability-lxml"),
    *("tiktoken", "tokenizers", "torch", "trafilatura", "transformers"),
)


def start(main: Callable[[Any], None], settings: type["Settings"], about: str | None) -> None:
    """Run a benchmark with the settings of the command line; errors end it without a traceback."""
    # so that a process that is being measured ends with this one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(tyro.cli(settings, description=about))
    except UserError as bad:
        sys.exit(f"error: {bad}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was measured so far is kept")


def must_exist(*paths: Path) -> None:
    """Refuse a missing file now, not after an hour of measuring."""
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path} does not exist.")


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

    def __post_init__(self) -> None:
        must_exist(self.peer_python)
        if self.priority and not (GROUP.is_file() and os.geteuid() == 0):
            raise ConfigError("--priority needs Linux with scheduler autogroups, and root.")

    @property
    def n_rounds(self) -> int:
        """Rounds to run: one with --quick."""
        return 1 if self.quick else self.rounds

    def how(self, *, peer: bool = False, **environment: str) -> How:
        """How to run our processes, or a peer's."""
        python = str(self.peer_python.absolute()) if peer else sys.executable
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
    """Which number decides, the side that others are held against, and what it is: "faster"."""

    key: str
    reference: str
    word: str
    more_is_better: bool = True


class Results:
    """All measurements of one benchmark; its files are whole after each of them.

    name       of the benchmark
    facts      more about the machine or the data, kept in the JSON
    device     a GPU's name; it names the files when the settings do not
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        columns: Sequence[Column],
        comparison: Comparison | None = None,
        *,
        facts: dict[str, Any] | None = None,
        device: str = "",
    ) -> None:
        self.name, self.columns, self.comparison = name, columns, comparison
        self.measurements: list[dict[str, Any]] = []
        self.n_rounds = settings.n_rounds
        self.about = {
            "benchmark": name,
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": ", ".join(filter(None, (device, describe_machine()))),
            "torch": version("torch"),
            "ours": _versions(Path(sys.executable)),
            "peers": _versions(settings.peer_python),
            "commit": _commit(),
            "settings": _without_places(settings),
            "facts": facts or {},
        }
        folder = Path(tempfile.mkdtemp()) if settings.quick else settings.out
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}-{_slug(settings.hardware or device or _processor())}.json"

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
        turn = f"round {number + 1} of {self.n_rounds}"
        print(f"{entry.case}, {entry.side}, {turn}: ", end="", flush=True)
        start = time.perf_counter()
        try:
            values = entry.measure(number)
        except MeasurementError as bad:
            values = {"error": str(bad)}
        seconds = duration(time.perf_counter() - start)
        cells = zip(self._cells([values]), self.columns)
        shown = ", ".join(f"{cell} {column.heading}" for cell, column in cells if cell)
        print(f"{values.get('error', shown)} (took {seconds})", flush=True)
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
        if self.comparison is None:
            return found
        key, power = self.comparison.key, 1 if self.comparison.more_is_better else -1
        for case, sides in self._by_case().items():
            references = {r["round"]: r.get(key) for r in sides.get(self.comparison.reference, [])}
            for side, rounds in sides.items():
                pairs = [(references.get(values["round"]), values.get(key)) for values in rounds]
                ratios = [(ours / theirs) ** power for ours, theirs in pairs if ours and theirs]
                if ratios:
                    found.setdefault(case, {})[side] = statistics.median(ratios)
        return found

    def table(self) -> str:
        """The medians and ratios in Markdown."""
        heads = ["case", "side", *(column.heading for column in self.columns)]
        if self.comparison:
            heads.append(f"{self.comparison.reference} is {self.comparison.word} by")
        lines = [heads, ["---"] * 2 + ["---:"] * (len(heads) - 2)]
        ratios = self.ratios()
        for case, sides in self._by_case().items():
            for side, rounds in sides.items():
                line = [case, side, *self._cells(rounds)]
                if self.comparison:
                    ratio = ratios.get(case, {}).get(side)
                    line.append("" if ratio is None else f"{ratio:.2f} x")
                lines.append(line)
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
        note = "Medians over the rounds (least to most); every measurement is in the JSON file."
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


def _versions(python: Path) -> dict[str, str]:
    """What an interpreter has of the peers."""
    code = (
        "from importlib.metadata import distributions\n"
        "print(*{f'{one.name}={one.version}' for one in distributions()})"
    )
    told = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", check=True)
    found = dict(pair.split("=", 1) for pair in told.stdout.split())
    return {name: found[name] for name in PEERS if name in found}


def _commit() -> str:
    """The commit that is measured, marked when files were changed since."""
    command = [
        "git",
        "--no-optional-locks",
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()
