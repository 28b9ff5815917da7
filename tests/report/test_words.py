"""The words of the page: what stages say in English is told in Chinese as well."""

from collections import Counter

import pytest

from scratchlm.corpus.clean_report import _tokens
from scratchlm.report.words import Words


@pytest.mark.parametrize(
    ("kind", "told", "english", "chinese"),
    [
        ("limit", "0.3", None, "0.3"),
        ("limit", "en: 0.67, zh: 0.55", "English: 0.67, Chinese: 0.55", "英语：0.67，中文：0.55"),
        ("limit", "<b>: 3", None, "<b>: 3"),
        ("paper", "arXiv:2112.11446, appendix A.1", None, "arXiv:2112.11446，附录 A.1"),
        ("paper", "arXiv:1910.10683, section 2.2", None, "arXiv:1910.10683，第 2.2 节"),
        ("paper", "our own list", None, "本项目自定"),
        ("reason", "no key body", None, "缺少字段 body"),
        ("reason", "no column body", None, "缺少列 body"),
        (
            "reason",
            _tokens(Counter())["how"],
            None,
            "每个词元：中文 2.5 至 4 字节，其他语言 3.8 至 5 字节",
        ),
    ],
)
def test_what_stages_say_is_told_in_both_languages(kind, told, english, chinese):
    assert getattr(Words("en"), kind)(told) == (english or told)
    assert getattr(Words("zh"), kind)(told) == chinese
