"""build: its choices belong to the run, so that the same command goes on with it."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scratchlm.base.config import read_toml
from scratchlm.base.errors import ConfigError
from scratchlm.recipes import build as building
from scratchlm.recipes.build import build, choose_for
from scratchlm.recipes.run_config import CONFIG, RunConfig
from scratchlm.training.metrics import read_metrics


@pytest.fixture(autouse=True)
def quick_measuring(monkeypatch):
    """A machine on which only the smallest model makes enough steps."""
    monkeypatch.setattr(building, "step_seconds", lambda *_: 0.2)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be, that is the question.\n" * 20, encoding="utf-8")
    return file


def test_the_same_call_goes_on_whatever_would_be_chosen_now(tmp_path, text):
    run = tmp_path / "run"
    assert build(text, run, steps=3, device="cpu").step == 3
    assert build(text, run, steps=3, device="cpu").step == 3
    assert build(text, run, steps=4, device="cpu").step == 4
    with pytest.raises(ConfigError, match=r"was begun with tokenizer.kind = 'char', now it is"):
        build(text, run, tokenizer="bpe", device="cpu")
    with pytest.raises(ConfigError, match=r"was begun with text.paths"):
        build(tmp_path, run, device="cpu")
    with pytest.raises(ConfigError, match="holds a run"):
        build(text, run, steps=4, resume="never", device="cpu")


def test_a_budget_is_kept_and_more_of_it_goes_on(tmp_path, text):
    run = tmp_path / "run"
    start = time.monotonic()
    first = build(text, run, budget="11s", device="cpu")
    assert 8 < time.monotonic() - start < 14
    assert first.reason == "the time is over"
    rates = [line["lr"] for line in read_metrics(run) if "lr" in line]
    assert rates[-1] < 0.3 * max(rates)  # not 0: the last steps may take longer than the others
    again = build(text, run, budget="11s", device="cpu")
    assert again.step == first.step  # nothing is left of the time
    more = build(text, run, budget="14s", device="cpu")
    assert more.step > first.step


def test_a_budget_counts_from_when_it_began(tmp_path, text):
    began = time.monotonic() - 100
    assert build(text, tmp_path / "run", budget="112s", began=began, device="cpu").step < 2000
    assert time.monotonic() - began < 117


def test_an_end_is_kept_with_the_run(tmp_path, text):
    run = tmp_path / "run"
    soon = datetime.now().astimezone() + timedelta(minutes=2)
    choice = choose_for(text, run, until=f"{soon:%H:%M}", device="cpu")
    assert datetime.fromisoformat(choice.config.train.until).minute == soon.minute
    assert choice.config.train.budget == ""
    assert not run.exists()  # a choice writes nothing


def test_a_tiny_text_ends_before_the_usual_time(tmp_path, text):
    choice = choose_for(text, tmp_path / "run", device="cpu")
    assert choice.config.train.budget == ""
    assert choice.config.train.steps < choice.steps
    long = tmp_path / "long.txt"
    long.write_text(text.read_text("utf-8") * 2000, encoding="utf-8")
    assert choose_for(long, tmp_path / "run", device="cpu").config.train.budget == "10m"


def test_the_seed_is_that_of_the_run(tmp_path, text):
    build(text, tmp_path / "run", steps=1, seed=5, device="cpu")
    config = read_toml(RunConfig, tmp_path / "run" / CONFIG)
    assert (config.train.seed, config.data.seed) == (5, 5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"budget": "20m", "steps": 5}, "budget, until and steps exclude each other"),
        ({"budget": "20m", "until": "18:00"}, "budget, until and steps exclude each other"),
        ({"budget": "soon"}, "'soon' is no length of time. Write"),
        ({"until": "tomorrow"}, "'tomorrow' is no time of day. Write"),
        ({"budget": "5s"}, r"a budget of 5s leaves .* give 10 s or more"),
    ],
)
def test_times_that_cannot_be(tmp_path, text, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build(text, tmp_path / "run", device="cpu", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3, "budget": "20m"},
        {"budget": "soon"},
        {"budget": "1s"},
        {"until": "tomorrow"},
        {"seed": -1},
        {"device": "tpu"},
    ],
)
def test_settings_are_checked_before_a_folder_is_extracted(tmp_path, options):
    (tmp_path / "page.html").write_text("<html><p>To be, or not to be.</p></html>")
    with pytest.raises(ConfigError):
        build(tmp_path / "page.html", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
