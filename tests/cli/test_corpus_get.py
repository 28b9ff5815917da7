"""`corpus get`: the list of known data sets, and what its options mean."""

import pytest

from scratchlm.base.errors import ConfigError
from scratchlm.cli.corpus_get import Get
from scratchlm.web.data_sets import known_data


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_a_source_the_known_ones_are_listed(language, capsys):
    Get.from_words("corpus get", ["--language", language]).run()
    shown = capsys.readouterr().out
    for name, known in known_data().items():
        assert f"{name} " in shown
        assert getattr(known, language) in shown
        assert known.size in shown
    assert "[CDLA-Sharing-1.0]" in shown
    assert "[licence not stated]" in shown


def test_options_need_a_source():
    with pytest.raises(ConfigError, match=r"Give a SOURCE in front of the options\."):
        Get.from_words("corpus get", ["--out", "x"]).run()


def test_words_become_options():
    words = ["hf:a/b", "--files", "train-*", "x/*.csv", "--out", "y"]
    get = Get.from_words("corpus get", words)
    assert (get.source, get.files, str(get.out)) == ("hf:a/b", ("train-*", "x/*.csv"), "y")
