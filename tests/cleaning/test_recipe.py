"""The recipes that ship: complete, in order, and each threshold is where its user looks for it."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.cleaning import recipe
from scratchlm.cleaning.limits import C4, FineWeb, GopherQuality, GopherRepetition, Limits
from scratchlm.cleaning.recipe import CleanRecipe, load_recipe, recipe_names

FOLDER = Path(recipe.__file__).parent / "recipes"


def test_all_ship():
    assert recipe_names() == ["books", "chat", "code", "none", "simple", "web"]
    assert load_recipe("none") == CleanRecipe()


@pytest.mark.parametrize("name", recipe_names())
def test_nothing_is_hidden(name):
    """Every table spells all its settings, so that a copy of the file can change each."""

    def check(cls: type, values: dict) -> None:
        names = {field.name for field in dataclasses.fields(cls)}
        tables = {key for key, value in values.items() if isinstance(value, dict)}
        assert names - {"en", "zh", "other", "boilerplate", "duplicates"} <= set(values) | {
            "no_text_chars", "quality", "repetition", "fineweb", "c4"
        }  # fmt: skip
        for key in tables:
            inner = getattr(load_recipe(name), key, None) or getattr(load_recipe(name).en, key)
            check(type(inner), values[key])

    check(CleanRecipe, tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")))


def test_english_web_is_what_the_papers_say():
    papers = Limits(1000, GopherQuality(), GopherRepetition(), FineWeb(), C4(line_ends=()))
    assert load_recipe("web").en == papers
    assert load_recipe("web").limits("de").quality == GopherQuality(stop_words=(), min_stop_words=0)


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.toml").write_text('form = "normal"\n[en.quality]\nmin_words = 7\n')
    mine = load_recipe(tmp_path / "mine.toml")
    assert mine.en.quality == GopherQuality(min_words=7)
    assert (mine.en.c4, mine.zh, mine.duplicates) == (None, Limits(), None)


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe = 'wbe' is none of books, chat, code, none, s"):
        load_recipe("wbe")
    (tmp_path / "bad.toml").write_text("[en.quality]\nmin_word = 7\n")
    with pytest.raises(
        ConfigError, match=r"bad\.toml: unknown setting en\.quality\.min_word\. Did"
    ):
        load_recipe(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        load_recipe(tmp_path / "nowhere.toml")
