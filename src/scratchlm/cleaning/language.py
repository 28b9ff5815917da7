"""In which language a text is, offline: by its script where that tells, else by py3langid's model.

py3langid is a naive Bayes model over bytes that knows 139 languages (github.com/adbar/py3langid,
BSD). It comes with the extra `web`.
"""

import re
from functools import lru_cache
from typing import Any

from scratchlm.base.errors import MissingExtraError

UNKNOWN = "und"  # ISO 639-2: undetermined
_PART = 300  # characters that are looked at, at the beginning and in the middle
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_HAN_WEIGHT = 3  # letters: a word of five letters and a blank says as much as two characters
_KANA_SHARE = 0.2  # of kana and Han: Japanese has a half; Chinese, where it quotes some, less


def language(text: str) -> str:
    """The language of most of a text: its code in ISO 639-1 ("en", "zh"), or UNKNOWN.

    raises   MissingExtraError where the script does not tell and py3langid is not installed
    """
    middle = max(_PART, len(text) // 2)
    sample = text[:_PART] + " " + text[middle : middle + _PART]
    n_letters = sum(map(str.isalpha, sample))
    n_han, n_kana, n_hangul = (len(one.findall(sample)) for one in (_HAN, _KANA, _HANGUL))
    if not n_letters:
        return UNKNOWN
    n_others = n_letters - n_han - n_kana - n_hangul
    if _HAN_WEIGHT * max(n_han + n_kana, n_hangul) > n_others:
        if n_hangul > n_han + n_kana:
            return "ko"
        return "ja" if n_kana > _KANA_SHARE * (n_han + n_kana) else "zh"
    code, _ = _identifier().classify(sample)
    return str(code)


def languages() -> list[str]:
    """The codes that `language` can give, UNKNOWN apart; raises MissingExtraError."""
    return sorted({"ja", "ko", "zh", *map(str, _identifier().nb_classes)})


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ModuleNotFoundError:
        raise MissingExtraError("py3langid", "web", "Telling languages apart") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE)
