"""Languages are told by script, or by py3langid; without letters nothing is told."""

import sys

import pytest

from scratchlm.base.errors import MissingExtraError
from scratchlm.cleaning.language import UNKNOWN, language

TEXTS = {
    "en": "The harbour was quiet when the last of the fishing boats came in that evening.",
    "de": "Der Hafen lag still, als die letzten Boote heimkehrten und die Lampen angingen.",
    "fr": "Le port était calme quand les derniers bateaux de pêche sont rentrés ce soir-là.",
    "ru": "Гавань была тиха, когда вечером вернулись последние рыбацкие лодки.",
    "zh": "傍晚，最后几条渔船回来的时候，港口很安静。",
    "ja": "夕方、最後の漁船が帰ってきたとき、港は静かだった。",
    "ko": "저녁에 마지막 어선이 돌아왔을 때 항구는 조용했다.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_a_sentence_is_enough(code):
    assert language(TEXTS[code]) == code
    assert language(TEXTS[code] * 300) == code


def test_traditional_and_classical_chinese_and_quotations():
    assert language("春眠不覺曉，處處聞啼鳥。") == "zh"
    assert language("他说：“さようなら”，然后就走了，再也没有回来过，大家都很想念他。") == "zh"
    assert (
        language("用 PyTorch 训练一个语言模型：先写 model.py，再运行 train.py，最后看 loss。")
        == "zh"
    )
    assert (
        language("The character 好 means good, and 你好 is what people say: hello to you.") == "en"
    )


@pytest.mark.parametrize("text", ["", "   \n", "12345 !?", "\ud800", "\x00"])
def test_without_letters_it_is_not_known(text):
    assert language(text) == UNKNOWN


def test_a_missing_library_is_named(monkeypatch):
    from scratchlm.cleaning import language as module

    module._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtraError, match=r"Telling languages apart needs the library py3"):
        language("Hello there.")
    module._identifier.cache_clear()
