"""What cannot be is said at once, before anything is measured or written."""

import time

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.recipes.bench import bench
from scratchlm.recipes.build import build
from scratchlm.recipes.plan import plan
from scratchlm.recipes.run_config import RunConfig, TextConfig

TEXT = RunConfig(TextConfig(("bundled:shakespeare",)))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_must_be_finite(value):
    with pytest.raises(ConfigError, match=rf"optim\.lr = {value} is not a finite number"):
        TEXT.replace("optim", lr=value)


@pytest.mark.parametrize("part", ["train", "data"])
def test_seeds_are_not_negative(part):
    with pytest.raises(ConfigError, match=rf"{part}\.seed = -1 must be at least 0"):
        TEXT.replace(part, seed=-1)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_seconds_to_measure_are_numbers(seconds):
    with pytest.raises(ConfigError, match=rf"probe_seconds = {seconds} must be at least 0"):
        plan(TEXT, probe_seconds=seconds)
    with pytest.raises(ConfigError, match=rf"seconds = {seconds} must be above 0"):
        bench(seconds=seconds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -3}, r"steps = -3 must be at least 0"),
        ({"seed": -1}, r"seed = -1 must be at least 0"),
        ({"resume": "must"}, r"holds no run to resume"),
    ],
)
def test_build_refuses_before_it_measures(tmp_path, options, message):
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        build("bundled:shakespeare", tmp_path / "run", **options)
    assert time.monotonic() - began < 2
    assert not (tmp_path / "run").exists()


def test_build_leaves_other_folders_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is no run, but holds mine\.txt"):
        build("bundled:shakespeare", tmp_path)
    with pytest.raises(ConfigError, match=r"mine\.txt is a file\. Name a folder for the run"):
        build("bundled:shakespeare", tmp_path / "mine.txt")
