"""Training by the clock: when it cools, that it ends in time, and that a run goes on exactly."""

import math
from itertools import pairwise

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.training.clock import Clock, Cooling
from scratchlm.training.optimizers import ScheduleConfig
from scratchlm.training.trainer import TrainConfig

WSD = ScheduleConfig(kind="wsd", warmup=4, floor=0.1, cooldown=0.5)


def run(clock: Clock, time, step_s, *, step=0, hooks_s=0.0) -> list[Cooling]:
    """Take steps that last `step_s(step)` seconds to the end, and return what was decided."""
    clock.start()
    decided = []
    while clock.cooling is None or step < clock.cooling.end:
        time.now += step_s(step)
        step += 1
        if new := clock.look(step, hooks_s):
            clock.cooling = new
            decided.append(new)
    time.now += hooks_s
    return decided


def test_it_cools_for_its_share_of_the_time_and_ends_in_time(time):
    clock = Clock(WSD, time.now, budget=100.0)
    time.now += 10  # text was prepared
    (cooling,) = run(clock, time, lambda _: 0.5)
    assert 97 < time.now - 1000 <= 100
    assert cooling.factor == 1.0
    assert cooling.begin == pytest.approx(90, abs=2)  # half of 90 s of training, at 0.5 s
    assert cooling.end == pytest.approx(179, abs=2)


def test_the_rate_warms_up_holds_and_falls_to_the_floor(time):
    clock = Clock(WSD, time.now, budget=100.0)
    assert [clock.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    clock.cooling = Cooling(10, 0.8, 20)
    assert [clock.factor(step) for step in (10, 15, 20)] == pytest.approx([0.8, 0.45, 0.1])


def test_a_hook_that_takes_long_does_not_pass_for_slow_steps(time):
    for every in (97, 103, 230, 461, 700):
        clock, begin = Clock(WSD, time.now, budget=180.0), time.now
        decided = run(clock, time, lambda n, every=every: 2.0 if n and n % every == 0 else 0.05)
        assert 174 < time.now - begin < 183
        last = decided[-1].end
        assert all(one.end == pytest.approx(last, rel=0.05) for one in decided)


@pytest.mark.parametrize("late", [3.0, 0.5])
def test_steps_that_become_slower_or_faster_are_counted_anew(time, late):
    clock = Clock(WSD, time.now, budget=100.0)
    decided = run(clock, time, lambda step: 0.1 if step < 600 else 0.1 * late)
    assert 90 < time.now - 1000 < 103
    assert len(decided) > 1
    for before, after in pairwise(decided):  # the rate never jumps
        factor = 0.1 + (before.factor - 0.1) * (before.end - after.begin) / (
            before.end - before.begin
        )
        assert after.factor == pytest.approx(factor)


def test_the_last_hooks_have_their_time(time):
    clock = Clock(WSD, time.now, budget=100.0)
    run(clock, time, lambda _: 0.1, hooks_s=20.0)
    assert 98 < time.now - 1000 <= 100


def test_a_first_step_that_compiles_is_not_taken_for_the_others(time):
    clock = Clock(WSD, time.now, budget=100.0)
    (cooling,) = run(clock, time, lambda step: 30.0 if step == 0 else 0.1)
    assert 97 < time.now - 1000 <= 100
    assert cooling.end == pytest.approx(700, rel=0.02)


def test_a_time_that_is_over_before_the_first_step_ends_after_it(time):
    clock = Clock(WSD, time.now - 200, budget=100.0)
    run(clock, time, lambda _: 5.0)
    assert clock.cooling.end == 2


def test_until_is_a_time_of_the_day(time):
    clock = Clock(WSD, time.now, until=time.time() + 50)
    run(clock, time, lambda _: 0.1)
    assert 49 < time.now - 1000 <= 50


def test_constant_ends_without_cooling(time):
    clock = Clock(ScheduleConfig(kind="constant"), time.now, budget=10.0)
    run(clock, time, lambda _: 0.1)
    assert 9 < time.now - 1000 <= 10
    assert clock.cooling.end - clock.cooling.begin <= 2


def test_a_run_that_goes_on_keeps_what_was_decided_and_spent(time):
    clock = Clock(WSD, time.now, budget=100.0)
    clock.start()
    for step in range(1, 651):
        time.now += 0.1
        clock.cooling = clock.look(step, 0.0) or clock.cooling
    assert clock.cooling is not None
    state = clock.state_dict()
    time.now += 5000  # between the two processes
    again = Clock(WSD, time.now, budget=100.0)
    again.load_state_dict(state)
    assert again.cooling == clock.cooling
    assert again.left == pytest.approx(35)
    begin = time.now
    run(again, time, lambda _: 0.1, step=650)
    assert 33 < time.now - begin <= 35
    other = Clock(WSD, time.now, budget=500.0)
    other.load_state_dict(state)
    assert other.cooling is None  # more time: the rate is held again


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"budget": "20"}, r"train.budget: '20' is no length of time. Write"),
        ({"until": "soon"}, "train.until: "),
        ({"budget": "1h", "until": "2026-11-21 18:00"}, "exclude each other"),
    ],
)
def test_times_that_are_none_are_refused(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TrainConfig(**settings)


def test_no_step_is_counted_where_nothing_was_measured(time):
    clock = Clock(WSD, time.now, budget=100.0)
    clock.start()
    assert clock.look(1, 0.0) is None
    assert math.isclose(clock.left, 100.0)
