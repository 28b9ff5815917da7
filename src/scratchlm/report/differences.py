"""Where two texts differ, word by word; Chinese and Japanese character by character."""

import difflib
import re
from collections import Counter
from typing import Literal

Part = tuple[Literal["same", "gone", "new"], str]

CUT = "\u2026"  # the end of a text that goes on
_MOST_PAIRS = 20_000  # of equal words: 480 usual characters have a tenth, and take milliseconds
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"(?:[{_CJK}]|[^\W{_CJK}]+|[^\w\s])\s*|\s+")  # with the space behind it


def differences(old: str, new: str) -> list[Part]:
    """The parts of `new` in order, between them those of `old` that are gone.

    Space is no difference. Where both texts are cut, one may show more of what both go on with:
    that is no difference either. Texts that say the same again and again are compared
    coarsely: difflib takes cubic time for them.
    """
    are_cut = old.endswith(CUT) and new.endswith(CUT)
    before, after = _TOKEN.findall(old.removesuffix(CUT)), _TOKEN.findall(new.removesuffix(CUT))
    if not are_cut:
        before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    keys = [token.strip() for token in before], [token.strip() for token in after]
    often, again = Counter(keys[0]), Counter(keys[1])
    is_monotonous = sum(n * again[key] for key, n in often.items()) > _MOST_PAIRS
    steps = difflib.SequenceMatcher(None, *keys, autojunk=is_monotonous).get_opcodes()
    parts: list[Part] = []
    for step, start, end, new_start, new_end in steps:
        gone, come = "".join(before[start:end]), "".join(after[new_start:new_end])
        goes_on = are_cut and len(before) == end and len(after) == new_end
        if step == "equal" or (goes_on and step != "replace"):
            parts.append(("same", come))
        else:
            word = come.rstrip()
            gone = gone.rstrip() if word else gone
            parts += [("gone", gone), ("new", word), ("same", come[len(word) :])]
    parts.append(("same", CUT if are_cut else ""))
    return [(kind, text) for kind, text in parts if text]
