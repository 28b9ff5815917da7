"""The recipes that ship: complete, in order, and each threshold is where its user looks for it."""

import dataclasses
import re
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[en.quality]\nmin_words = -5", r"min_words = -5 must be 0 or more"),
        ("[en.quality]\nmax_symbols = nan", r"max_symbols = nan must be 0 or more"),
        ("[zh.quality]\nmax_mean_chars = 1.0", r"min_mean_chars = .* is above max_mean_chars = 1"),
        ("[zh.repetition]\ntop_grams = [[2, -0.1]]", r"top_grams = .* must be 0 or more"),
        ("[en.repetition]\nrepeated_grams = [[0, 0.1]]", r"a gram of 0 words is none"),
        ("[en.fineweb]\nmax_short = -1.0", r"max_short = -1\.0 must be 0 or more"),
        ("[en.c4]\nmin_sentences = -1", r"min_sentences = -1 must be 0 or more"),
        ("[en]\nno_text_chars = -1", r"no_text_chars = -1 must be 0 or more"),
        ("[boilerplate]\nmin_pages = 0", r"min_pages = 0 must be at least 1"),
        ("[boilerplate]\nshare = 1.5", r"share = 1\.5 must be above 0 and at most 1"),
    ],
)
def test_thresholds_that_cannot_be(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=rf"mine\.toml: .*{message}"):
        load_recipe(tmp_path / "mine.toml")


def test_no_limit_is_written_as_inf(tmp_path):
    (tmp_path / "mine.toml").write_text("[en.quality]\nmax_mean_chars = inf\n")
    assert load_recipe(tmp_path / "mine.toml").en.quality.max_mean_chars == float("inf")


@pytest.mark.parametrize("page", ["corpus.md", "corpus.zh-CN.md"])
def test_the_documentation_tells_the_thresholds_of_web(page):
    web, shown = load_recipe("web"), {}
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    for name, english, chinese in re.findall(r"^\| `(\w+\.\w+)` \| (.*?) \| (.*?) \|", text, re.M):
        group, _, field = name.partition(".")
        for limits, told in ((web.en, english), (web.zh, chinese)):
            value = getattr(getattr(limits, group), field)
            if isinstance(value, tuple):
                value = ", ".join(f"{n}: {share:g}" for n, share in value)
            assert told == (value if isinstance(value, str) else f"{value:,}".removesuffix(".0"))
        shown.setdefault(group, set()).add(field)
    for group in ("quality", "repetition", "fineweb", "c4"):
        fields = {one.name for one in dataclasses.fields(getattr(web.en, group))}
        lists = {"stop_words", "line_ends", "barred_lines", "barred_pages"}
        assert shown[group] == fields - lists
