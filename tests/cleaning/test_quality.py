"""Good prose of both languages passes, and each kind of bad page is dropped for its own reason."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.cleaning.limits import C4, FineWeb, GopherQuality, GopherRepetition, Limits
from scratchlm.cleaning.normalise import normalise
from scratchlm.cleaning.parts import Parts
from scratchlm.cleaning.quality import (
    Finding,
    Judgement,
    _repeated_share,
    _top_share,
    c4,
    c4_lines,
    fineweb,
    gopher_quality,
    gopher_repetition,
    judge,
    no_text,
)
from scratchlm.cleaning.recipe import load_recipe

WEB = load_recipe("web")
LIMITS = {lang: WEB.limits(lang) for lang in ("en", "zh", "de")}
CHINESE = LIMITS["zh"]

ENGLISH_PROSE = """\
The harbour was quiet when the last of the fishing boats came in. An old man sat on the wall and
mended his net, and he looked up only when the ferry sounded its horn across the bay.

"You have been away for a long time," he said to the woman who stepped ashore. She put down her
bag and laughed. Nothing in the village had changed, she thought, except that the school now had
a new roof and the baker had gone to live with his daughter in the north.

They walked up the hill together. Behind them the tide was turning, and the gulls followed it out
towards the open sea."""

CHINESE_PROSE = """\
清晨的集市总是热闹的。卖菜的大娘把刚从地里摘下来的青菜摆得整整齐齐，旁边的小伙子正忙着给客人称鱼。

我在人群里慢慢地走，闻到了刚出锅的包子的香味。老板认得我，笑着问：“今天还是两个肉的吗？”我点点头，\
又要了一碗豆浆，坐在路边的小桌旁吃了起来。

吃完以后，太阳已经升得很高了。街上的人渐渐散去，只剩下几只麻雀在地上找吃的。我提着一袋苹果往家里走，\
心里想着，这样普通的日子，其实就是最好的日子。"""


def reason(text: str, lang: str = "en", limits: Limits | None = None) -> str | None:
    return judge(text, lang, limits or LIMITS[lang]).reason


def fault(findings: Iterable[Finding]) -> str | None:
    """The first reason to drop a text."""
    return next((found.rule for found in findings if found.drops), None)


@pytest.mark.parametrize(("text", "lang"), [(ENGLISH_PROSE, "en"), (CHINESE_PROSE, "zh")])
def test_good_prose_passes_unchanged(text, lang):
    joined = (
        text
        if lang == "zh"
        else text.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
    )
    judged = judge(joined, lang, LIMITS[lang])
    assert (judged.text, judged.reason) == (joined, None)
    assert all(0 <= found.score < 1 for found in judged.findings)


def test_other_languages_need_no_stop_words():
    text = "Der Hafen lag still, als die letzten Boote heimkehrten und die Lampen angingen. "
    text += "Ein alter Mann flickte sein Netz und sah erst auf, als das Horn der Fähre erklang. "
    text += "Nichts hatte sich im Dorf verändert, dachte sie, nur die Schule trug ein neues Dach, "
    text += "und der Bäcker wohnte jetzt bei seiner Tochter im Norden. Sie gingen zusammen hinauf."
    assert reason(text, "de") is None
    assert reason(text, "en") == "Gopher: too few stop words"


def passes_gopher(text: str) -> bool:
    return fault(gopher_quality(Parts(text, "en"), GopherQuality())) is None


def test_the_gold_tests_of_cs336_pass():
    """Stanford CS336, spring 2024, assignment 4, tests/test_quality.py (MIT)."""
    assert passes_gopher(
        "This should definitely be a valid input text and of high quality according to Gopher "
        "rules. " * 100
    )
    assert not passes_gopher("The string you are reading is a short snippet of text.")
    assert passes_gopher("The string you are reading is a long snippet of text." * 100)
    assert not passes_gopher("The string you are reading is too long of a text. " * 50000)
    assert passes_gopher("The string you are reading is an okay example of text. " * 5000)
    assert not passes_gopher("the be " * 100)
    assert passes_gopher("the with " * 100)
    long = "extraordinarily extraordinarily extraordinarily longesest "
    assert not passes_gopher("the and " + long * 100)
    assert passes_gopher("the and this is fine " * 100)
    lines = ["The line here is an example of line ending with an ellipsis..."] * 70
    assert not passes_gopher("\n".join([*lines, *["This is a normal line."] * 30]))
    lines = ["The line here is an example of ending with ellipsis..."] * 30
    assert passes_gopher("\n".join([*lines, *["This is a normal line."] * 230]))
    assert not passes_gopher("the and " + " ".join(["123"] * 8 + ["word"] * 2))


WORDS = ENGLISH_PROSE.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" ".join(WORDS[:49]), "too few words"),
        ("to be of it " * 30, "words too short"),
        ("the and incomprehensibilities counterrevolutionaries " * 30, "words too long"),
        (" ".join(w if i % 8 else f"#{w}" for i, w in enumerate(WORDS)), "too many hash signs"),
        (" ".join(w if i % 8 else w + "..." for i, w in enumerate(WORDS)), "too many ellipses"),
        ("\n".join(f"- {' '.join(WORDS[i:i + 9])}" for i in range(90)),
         "too many lines begin with a bullet"),
        ("\n".join(" ".join(WORDS[i:i + 15]) + "…" for i in range(90)),
         "too many lines end with an ellipsis"),
        (" ".join(f"{w} 1{i}00" if i % 3 else w for i, w in enumerate(WORDS)),
         "too few words with a letter"),
        ("Cheap shoes, leather handbags, designer watches, sunglasses " * 10, "too few stop words"),
    ],
)  # fmt: skip
def test_gopher_names_what_is_wrong_in_english(text, expected):
    assert fault(gopher_quality(Parts(text, "en"), GopherQuality())) == f"Gopher: {expected}"


CHARS = CHINESE_PROSE.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHARS[:70], "too few words"),
        ("，".join("他是在的和了我有不这"), "too few words"),
        ("，".join(CHARS), "words too short"),
        ("".join(filter(str.isalpha, CHARS)), "words too long"),
        (CHARS.replace("的", "的#####"), "too many hash signs"),
        (CHARS.replace("，", "……").replace("了", "了……").replace("在", "……"), "too many ellipses"),
        ("\n".join(f"● {part}" for part in CHARS.split("，")),
         "too many lines begin with a bullet"),
        ("\n".join(f"{part}……" for part in CHARS.split("。")),
         "too many lines end with an ellipsis"),
        ("在1900年的，" * 60, "too few words with a letter"),
        ("手机批发，女装，男鞋，箱包厂家，价格优惠，深圳电子，数码配件，" * 5 + "不锈钢有限公司",
         "too few stop words, by share"),
    ],
)  # fmt: skip
def test_gopher_names_what_is_wrong_in_chinese(text, expected):
    assert fault(gopher_quality(Parts(text, "zh"), CHINESE.quality)) == f"Gopher: {expected}"


def repetition(text: str, lang: str = "en") -> str | None:
    return fault(gopher_repetition(Parts(text, lang), LIMITS[lang].repetition))


def test_repetition_is_named():
    lines = [" ".join(WORDS[i : i + 12]) for i in range(0, 96, 12)]
    assert repetition("\n".join(lines)) is None
    assert repetition("\n".join([*lines, *lines[:4]])) == "Gopher: repeated lines"
    once, turned = f"{lines[0]}\n{lines[1]}", f"{lines[1]}\n{lines[0]}"
    any_lines = GopherRepetition(max_lines=1, max_line_chars=1)
    text = "\n\n".join([once, turned, once])
    assert fault(gopher_repetition(Parts(text, "en"), any_lines)) == "Gopher: repeated paragraphs"
    text = " ".join(f"buy shoes {word}" for word in WORDS)
    assert repetition(text) == "Gopher: one 2-gram too often"
    words = [f"w{i}" for i in range(200)]  # 24 repeated ones hold 0.122 of the characters
    assert repetition(" ".join([*words, *words[100:124]])) == "Gopher: repeated 8-grams"
    half = " ".join(WORDS)
    assert repetition(f"{half} and then {half}") == "Gopher: repeated 5-grams"


def test_a_text_on_a_threshold_passes():
    text = "\n".join(["a", "b", "c", "d", "e", "f", "g", "a", "b", "c"])
    only_lines = GopherRepetition(max_line_chars=1, top_grams=(), repeated_grams=())
    assert fault(gopher_repetition(Parts(text, "en"), only_lines)) is None
    found = fault(gopher_repetition(Parts(text + "\na", "en"), only_lines))
    assert found == "Gopher: repeated lines"


def test_repetition_is_named_in_chinese():
    assert repetition(CHINESE_PROSE, "zh") is None
    text = "".join(f"我买新鞋{a}" for a in CHARS)
    assert repetition(text, "zh") == "Gopher: one 4-gram too often"
    assert repetition(CHARS + "，" + CHARS, "zh") == "Gopher: repeated 9-grams"


def plain_top_share(words: list[str], n: int) -> float:
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    [(gram, count)] = counts.most_common(1) or [((), 0)]
    return count * sum(map(len, gram)) / sum(map(len, words)) if count > 1 else 0.0


def plain_repeated_share(words: list[str], n: int) -> float:
    seen, covered = set(), set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            covered.update(range(i, i + n))
        seen.add(gram)
    return sum(len(words[i]) for i in covered) / max(1, sum(map(len, words)))


@given(
    st.lists(st.sampled_from(["a", "bb", "ccc", "of", "the"]), min_size=10, max_size=60),
    st.integers(1, 6),
)
def test_fast_shares_equal_plain_ones(words, n):
    parts = Parts(" ".join(words), "en")
    assert _top_share(parts, n) == pytest.approx(plain_top_share(words, n))
    assert _repeated_share(parts, n) == pytest.approx(plain_repeated_share(words, n))


def test_fineweb_names_what_is_wrong():
    def found(lines: list[str], lang: str = "en") -> str | None:
        return fault(fineweb(Parts("\n".join(lines), lang), LIMITS[lang].fineweb))

    long = [" ".join(WORDS[i : i + 12]) for i in range(50)]
    assert found([line + "." for line in long]) is None
    assert found(long) == "FineWeb: too few lines end with punctuation"
    plain = [f"This line, number {i}, has no mark at its end" for i in range(50)]
    assert found([*(line + "." for line in plain[:6]), *plain[6:]])  # 0.12
    assert not found([*(line + "." for line in plain[:7]), *plain[7:]])
    assert not found([f"Thirty characters make line {i}." for i in range(10)])
    assert found([line + "!" for line in [*long[:8], long[0]]]) == "FineWeb: repeated lines"
    short = [f"Item number {i}." for i in range(30)]
    assert found([*short, *[line + "." for line in long[:10]]]) == "FineWeb: too many short lines"
    chinese = [CHARS[i : i + 25] for i in range(40)]
    assert found([line + "。" for line in chinese], "zh") is None
    assert found(chinese[1:3], "zh") == "FineWeb: too few lines end with punctuation"
    short = [f"第{i}项。" for i in range(30)]
    assert found([*short, *chinese[:5]], "zh") == "FineWeb: too many short lines"


def test_c4_leaves_lines_out():
    kept = ["The first line of the text stays here.", "", 'And he said: "This one stays too."']
    dropped = [
        "Home | News | Sport | Weather",
        "To be continued in the next part...",
        "Read it now!",
        "Please turn on JavaScript to see all of this page.",
        "By reading on you agree to our Privacy Policy.",
    ]
    text = "\n".join([*dropped[:2], *kept, "", dropped[2], "", *dropped[3:]])
    assert c4_lines(Parts(text, "en"), C4()) == "\n".join(kept)
    kept = ["这一行是正文，应该留下来。", "他说：“这一行也要留下。”"]
    dropped = [
        "首页 新闻 体育",
        "好的。",
        "请启用JavaScript以便查看本页的全部内容。",
        "请阅读我们的隐私政策和使用条款。",
    ]
    text = "\n".join([dropped[0], kept[0], *dropped[1:], kept[1]])
    ends = tuple('。！？；…”」』.!?"')
    assert c4_lines(Parts(text, "zh"), replace(CHINESE.c4, line_ends=ends)) == "\n".join(kept)
    every_end = C4(line_ends=(), min_line_words=1, barred_lines=())
    assert c4_lines(Parts(text, "zh"), every_end) == text


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("It is here. Lorem ipsum dolor sit amet. It is there.", "en", "C4: holds 'lorem ipsum'"),
        ("Do it so. Then: if (x) { y(); } is run. It works.", "en", "C4: holds '{'"),
        ("One sentence is here. Another one, no. 3.5 of it", "en", "C4: too few sentences"),
        ('He said: "It is." She left! Why?', "en", None),
        ("这是第一句。这是第二句！", "zh", "C4: too few sentences"),
        ("这是第一句。真的？！是的……", "zh", None),
    ],
)
def test_c4_drops_pages(text, lang, expected):
    assert fault(c4(Parts(text, lang), LIMITS[lang].c4)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Our servers have detected that you may be accessing this site with an automated "
         "crawler.", "a test for robots"),
        ("Before we continue: are you a robot?", "a test for robots"),
        ("您的访问过于频繁，请完成验证后继续。", "a test for robots"),
        ("Please enable JavaScript to continue using this application.", "asks for JavaScript"),
        ("We use cookies to make your visit better. Accept all cookies", "a cookie notice"),
        ("404 Not Found\nnginx", "an error page"),
        ("抱歉，您访问的页面不存在。", "an error page"),
    ],
)  # fmt: skip
def test_pages_without_a_text_are_named(text, expected):
    assert fault(no_text(Parts(text, "en"), 1000)) == f"no text: {expected}"
    assert fault(no_text(Parts(text + " " * 1000, "en"), 1000)) is None
    assert reason(text, "zh" if not text.isascii() else "en") == f"no text: {expected}"


LIKELY = st.text(st.sampled_from("的了。，！a the\n\n- #….{\u3000\ud800１9"))


@given(st.one_of(st.text(st.characters()), LIKELY), st.sampled_from(["en", "zh", "de"]))
def test_no_text_raises(text, lang):
    anything = replace(LIMITS[lang], quality=GopherQuality(min_words=0), c4=C4())
    judged = judge(text, lang, anything)
    left, why = judged.text, judged.reason
    assert why is None or why.split(":")[0] in ("Gopher", "C4", "FineWeb", "no text")
    assert set(left) <= set(text)
    assert judge(text, lang, Limits()) == Judgement(text, [])
    list(fineweb(Parts(text, lang), FineWeb()))


@pytest.mark.parametrize("piece", ["a", "的", ".", "- a\n", "# ", "\n", "...", "word "])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_megabyte_of_anything_ends_soon(piece, lang):
    text = piece * (1_000_000 // len(piece))
    every_rule = replace(LIMITS[lang], quality=GopherQuality(min_words=0, max_words=10**9))
    judge(text, lang, every_rule)
    assert c4_lines(Parts(text, lang), C4(line_ends=(), min_line_words=0)) == text


def chunks(paragraphs: list[str], size: int) -> list[str]:
    """Texts of about `size` characters; the rest, which may be short, is left out."""
    texts, held = [], ""
    for paragraph in paragraphs:
        held += paragraph + "\n\n"
        if len(held) >= size:
            texts.append(held.strip())
            held = ""
    return texts


def english_prose(folder: Path) -> list[str]:
    text = (folder / "text/gutenberg/sherlock.txt").read_text("utf-8")
    return chunks([" ".join(part.split()) for part in text.split("\n\n")], 3000)


def chinese_prose(folder: Path) -> list[str]:
    """Kernel documentation, as far as it is text; Mencius and the Analects."""
    texts = []
    for path in sorted((folder / "text/debian/linux-rst/translations/zh_CN").rglob("*.txt")):
        parts = [part.replace("\n", "") for part in path.read_text("utf-8").split("\n\n")]
        prose = [part for part in parts if len(part) > 40 and n_chinese(part) > 0.6 * len(part)]
        texts += chunks(prose, 1000)
    for name in ("四书五经/mengzi.json", "论语/lunyu.json"):
        book = json.loads((folder / "text/zh-poetry" / name).read_text("utf-8"))
        texts += chunks([part for chapter in book for part in chapter["paragraphs"]], 1000)
    return texts


def n_chinese(text: str) -> int:
    return sum("\u4e00" <= char < "\ua000" for char in text)


@pytest.mark.parametrize(("texts_of", "lang"), [(english_prose, "en"), (chinese_prose, "zh")])
def test_real_prose_passes(shared_data, texts_of, lang):
    texts = [normalise(text) for text in texts_of(shared_data)]
    reasons = Counter(reason(text, lang) for text in texts)
    assert len(texts) > 150
    assert reasons[None] >= 0.97 * len(texts), reasons  # the rest repeats itself, or holds a "{"


def test_little_is_left_of_the_bad_page_of_cs336(shared_data):
    folder = shared_data / "html/cs336-a4-tests/tests/fixtures"
    text = (folder / "low_quality_cc.txt").read_text("utf-8")
    judged = judge(text, "en", replace(LIMITS["en"], c4=C4()))
    left, why = judged.text, judged.reason
    assert why or len(left) < 0.4 * len(text)
    good = (folder / "high_quality_wiki_reference.txt").read_text("utf-8")
    assert passes_gopher(good)
    assert fault(gopher_repetition(Parts(good, "en"), GopherRepetition())) is None
