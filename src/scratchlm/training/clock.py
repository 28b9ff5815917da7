"""Training by the clock: a length of time instead of a number of steps.

The learning rate is held until a share of the time is left, and then falls straight to its floor at
the end: warmup-stable-decay (arXiv:2404.06395), where the end need not be known at the start. What
the clock decides are numbers of steps, which the trainer saves before it takes the next step: a run
that goes on decides nothing twice, and stays exact.
"""

import time
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Self

from scratchlm.base.duration import parse_duration
from scratchlm.training.optimizers import ScheduleConfig

CLOSE = 0.02  # steps that are left are counted anew when they are wrong by more than this share
LATE = 0.03  # at once when the run would be late by this share of its whole time
MEASURED = 0.1  # share of the whole time, or half of what is left, that a step's time is taken from
AFTERWARDS = 0.3  # seconds for what follows the last step's hooks: the model folder is written


@dataclass(frozen=True)
class Cooling:
    """How the rate falls: from `factor` of its peak after `begin` steps, to its floor after `end`.

    Steps are counted from the run's beginning.
    """

    begin: int
    factor: float
    end: int


class Clock:
    """Says when to cool, and how many steps that takes; `look` at it after each step.

    began     `time.monotonic()` when the time of this process began: its start, not its first step
    budget    seconds of the run, in all its processes together; 0 with `until`
    until     `time.time()` when it shall have ended
    """

    def __init__(
        self, schedule: ScheduleConfig, began: float, *, budget: float = 0.0, until: float = 0.0
    ) -> None:
        self.schedule = schedule
        self.budget, self.until = budget, until
        self.cooling: Cooling | None = None
        self._began = began
        self._spent_before = self._trained_before = 0.0
        self._share = schedule.cooldown if schedule.kind == "wsd" else 0.0
        self._first: float | None = None  # when this process began its first step
        # (step, time) since which a step's time is measured, and will be after the next look: a
        # step alone may have an evaluation after it, and pass for slow.
        self._from = self._next_from = (0, 0.0)
        self._next_look = 0

    @classmethod
    def of(cls, schedule: ScheduleConfig, began: float, budget: str, until: str) -> Self | None:
        """The clock of `train.budget` or `train.until`; None where both are empty.

        raises   ConfigError for a budget that is none, ValueError for an end that is none
        """
        if budget:
            return cls(schedule, began, budget=parse_duration(budget))
        return (
            cls(schedule, began, until=datetime.fromisoformat(until).timestamp()) if until else None
        )

    @property
    def spent(self) -> float:
        """Seconds of the run so far."""
        return self._spent_before + time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.until - time.time() if self.until else self.budget - self.spent

    @property
    def trained(self) -> float:
        """Seconds since the first step, without the time between two processes of the run."""
        return self._trained_before + (time.monotonic() - self._first if self._first else 0.0)

    def start(self) -> None:
        """Training begins, or goes on: what came before is no step's time."""
        self._first = time.monotonic()

    def factor(self, step: int) -> float:
        """The share of the peak learning rate at `step` (0 is the first)."""
        if self.cooling is None:
            return min(1.0, (step + 1) / max(1, self.schedule.warmup))
        begin, factor, end = astuple(self.cooling)
        left = (end - step) / max(1, end - begin)
        return self.schedule.floor + (factor - self.schedule.floor) * left

    def look(self, step: int, reserve: float) -> Cooling | None:
        """What to do from `step` on, where that is new.

        step      steps done
        reserve   seconds that the last step's hooks will take
        """
        now = time.monotonic()
        left = self.left - reserve - AFTERWARDS
        if self._from[0] == 0 or step <= self._from[0]:  # the first step compiles: it is left out
            self._from = self._next_from = (step, now)
            return self._cool(step, 1) if left <= 0 else None
        step_s = (now - self._from[1]) / (step - self._from[0])
        n_left = max(1, int(left / step_s))
        if self.cooling is None:
            due = left <= self._share * (self.trained + left) + step_s
            return self._cool(step, n_left) if due else None
        planned = self.cooling.end - step
        whole = self.spent + max(0.0, left)
        measured = now - self._from[1] >= min(MEASURED * whole, left / 2)
        late = measured and (planned - n_left) * step_s > LATE * whole
        if planned < 1 or not (late or step >= self._next_look):
            return None
        if measured and abs(n_left - planned) > CLOSE * planned:
            return self._cool(step, n_left)
        self._looked(step, planned)
        return None

    def _cool(self, step: int, n_steps: int) -> Cooling:
        self._looked(step, n_steps)
        return Cooling(step, self.factor(step), step + n_steps)

    def _looked(self, step: int, n_left: int) -> None:
        self._from, self._next_from = self._next_from, (step, time.monotonic())
        self._next_look = step + max(1, n_left // 2)

    def state_dict(self) -> dict[str, Any]:
        """What was decided, and the time that it took so far."""
        return {
            "spent": self.spent,
            "trained": self.trained,
            "budget": self.budget,
            "until": self.until,
            "cooling": astuple(self.cooling) if self.cooling else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what was decided; a budget that is another one is decided about anew."""
        self._spent_before, self._trained_before = state["spent"], state["trained"]
        same = (state["budget"], state["until"]) == (self.budget, self.until)
        if same and state["cooling"]:
            self.cooling = Cooling(*state["cooling"])
