"""The page of a corpus report: true pictures, both languages, and no text of the web gets out."""

import base64
import hashlib
import http.server
import itertools
import json
import random
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.report import page as report_page
from scratchlm.report.facts import REPORT, load_report
from scratchlm.report.page import MOST_BYTES, render
from scratchlm.report.words import Words

ENGLISH = (
    "The harbour at Aveiro was once open to the sea, and the boats that now carry visitors along "
    "the canals were built to gather seaweed from the floor of the lagoon.",
    "To sharpen a kitchen knife you need two stones and a little patience. Wet one, hold "
    "the blade at fifteen degrees, and draw it towards you until a burr forms.",
    "Minutes of the meeting: the council agreed to repair the footbridge before the winter, and to "
    "ask the county for half of the cost.\nMembers present: eleven.",
    "Our tomatoes failed again this year. I blame the rain in June, my neighbour blames the soil, "
    "and the seed merchant, when asked, blames the two of us.",
)
CHINESE = (
    "清晨的老街还没有醒来，卖豆浆的夫妇已经生好了炉火。热气从木桶里升起，与河面上的薄雾混在一起。",
    "本文介绍如何在阳台上种植小番茄：选择透气的花盆，底部铺一层陶粒，再填入混有腐叶土的营养土，保持湿润。",
    "据市气象台消息，受冷空气影响，本周后期我市气温将明显下降，最低气温可达零下三度，请市民注意防寒保暖。",
)
TEXTS = ENGLISH + CHINESE
STAGES = {
    "extract": {"no text": 61_022, "time limit": 812, "broken pdf": 96},
    "normalise": {"empty": 311},
    "language": {"language: de": 38_804, "language: ja": 22_190, "language: ru": 20_633,
                 "language: fr": 17_404, "language: es": 9_120, "language: ar": 7_001},
    "quality": {"Gopher: too few words": 121_873, "C4: too few sentences": 34_219,
                "FineWeb: too few lines end with punctuation": 71_330,
                "no text: an error page": 12_480,
                "Gopher: too few stop words": 11_034, "FineWeb: repeated lines": 9_544,
                "Gopher: one 2-gram too often": 3_120, "no text: a test for robots": 2_781,
                "FineWeb: too many short lines": 2_067, "no text: a cookie notice": 1_406,
                "Gopher: repeated 9-grams": 880, "C4: holds 'lorem ipsum'": 212,
                "Gopher: too many hash signs": 61},
    "boilerplate": {"boilerplate: nothing left": 1_144},
    "exact duplicates": {"duplicate: equal": 48_218},
    "near duplicates": {"duplicate: similar": 96_731},
    "overlap": {"overlap: HellaSwag": 97, "overlap: C-Eval": 41, "overlap: LAMBADA": 12},
    "personal data": {},
}  # fmt: skip
PAPERS = {"Gopher": "arXiv:2112.11446, appendix A.1", "C4": "arXiv:1910.10683, section 2.2",
          "FineWeb": "arXiv:2406.17557", "no text": "our own list"}  # fmt: skip
HOSTS = ("harbour-news.example", "wiki.example.cn", "a-very-long-name.of.many.parts.example")


def realistic(seed=0):
    """What `clean` leaves in report.json after a day of work."""
    draw = random.Random(seed)
    stages = stages_of(STAGES, 1_234_567, 5_870_000_000)
    n, n_bytes = stages[-1]["n_kept"], stages[-1]["n_bytes"]
    return {
        "format": "scratchlm corpus report",
        "version": 1,
        "recipe": "web",
        "stages": stages,
        "languages": {
            "en": {"n": n - 214_406, "n_bytes": n_bytes - 10**9},
            "zh": {"n": 214_406, "n_bytes": 10**9},
        },
        "lengths": {
            "en": [0] * 7 + [60, 1_900, 41_100, 120_000, 142_300, 72_000, 31_000, 9_100, 1_800, 14],
            "zh": [0] * 6 + [40, 2_900, 31_100, 70_000, 62_300, 32_000, 11_000, 4_100, 800, 110],
        },
        "sources": [source(i, draw.random() ** 3) for i in range(50)],
        "n_sources": 48_213,
        "tokens": {"low": 612_000_000, "high": 745_000_000, "how": "bytes / 4.2 for English"},
        "rules": {reason: rule(draw, reason, n) for reason, n in STAGES["quality"].items()},
        "clusters": {"n": 31_442, "n_documents": 128_173, "examples": clusters(draw)},
        "overlap": [
            {
                "benchmark": name.removeprefix("overlap: "),
                "n_documents": n_documents,
                "examples": [
                    {"id": "7", "source": HOSTS[i], "match": draw.choice(TEXTS)[:90]}
                    for i in range(3)
                ],
            }
            for name, n_documents in STAGES["overlap"].items()
        ],
        "personal": {"EMAIL_ADDRESS": 48_113, "PHONE_NUMBER": 31_570, "RESIDENT_ID": 7},
        "boilerplate": [
            {"host": HOSTS[i], "line": line, "n_pages": 40_000 // (i + 1)}
            for i, line in enumerate(("Home | About us", "All rights reserved.", "上一篇 下一篇"))
        ],
    }


def stages_of(dropped_by_stage, n_in, n_bytes):
    """Stages in a row; the rules take lines away, too."""
    stages = []
    for name, dropped in dropped_by_stage.items():
        n_kept = n_in - sum(dropped.values())
        n_bytes = int(
            n_bytes * n_kept / max(1, n_in) * (0.93 if name in ("quality", "boilerplate") else 1)
        )
        counts = {"n_in": n_in, "n_kept": n_kept, "dropped": dropped, "n_bytes": n_bytes}
        stages.append({"name": name, **counts})
        n_in = n_kept
    return stages


def document(draw, text, **more):
    number = draw.randrange(10**6)
    source = f"https://{draw.choice(HOSTS)}/{number}"
    return {"id": f"{number:05}.warc.gz:{number % 977}", "source": source, "excerpt": text, **more}


def rule(draw, reason, n_dropped):
    def some(low, high):
        scores = (round(draw.uniform(low, high), 3) for _ in range(5))
        return [document(draw, draw.choice(TEXTS), score=score) for score in scores]

    paper = PAPERS[reason.split(":")[0]]
    close = {"kept": some(0.7, 1), "dropped": some(1.01, 1.4)}
    return {"n_dropped": n_dropped, "limit": "at least 50 words", "paper": paper, **close}


def source(i, lost):
    n = 90_000 // (i + 1)
    name = f"site{i}.{HOSTS[i % len(HOSTS)]}"
    return {"name": name, "n_in": n, "n_kept": int(n * (1 - lost)), "n_bytes": n * 4_400}


def clusters(draw):
    edits = [
        ("boats", "ships"),
        ("two stones and", "a stone and"),
        ("老街", "小街"),
        ("小番茄", "辣椒"),
    ]
    return [
        {
            "size": draw.randrange(3, 40),
            "leader": document(draw, text),
            "members": [
                document(draw, text.replace(old, new), similarity=0.93),
                document(draw, f"Posted by admin. {text}", similarity=0.871),
            ],
        }
        for old, new in edits
        for text in TEXTS
        if old in text
    ]


def page_of(folder, values, language="en", name="clean"):
    (folder / REPORT).write_text(json.dumps(values), "utf-8")
    return render(load_report(folder), name, language)


HOSTILE = [
    "<script>fetch('TRAP/s')</script><img src=TRAP/i onerror=alert(1)>",
    "</style><style>@import 'TRAP/c'</style></title></blockquote></svg><svg onload=alert(2)>",
    '" onmouseover="alert(3)" style="background:url(TRAP/b)" x=\'y\' `z`',
    "--></template><iframe src='TRAP/f'></iframe><!-- <base href=TRAP><link href=TRAP/l>",
    "{{ 7 * 7 }}{% raw %}&lt;b&gt;&#x3c;script&#x3e; \x00\x1b \u202egnp.exe\u2066 \ud800 \ufffe",
    "javascript:alert(4) arXiv:1234.56789<x> data:text/html,<script>alert(5)</script>",
    "Z\u0335\u0321\u0322\u0327" * 30 + "啊" * 400 + "W" * 3_000,
]


def poisoned(value, texts, at=""):
    """The same report, with hostile words in the place of every text, keys included."""
    if isinstance(value, dict):
        is_free = at in ("dropped", "languages", "lengths", "rules", "personal")
        return {
            (f"{next(texts)}{key}" if is_free else key): poisoned(item, texts, key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, texts) for item in value]
    return next(texts) if isinstance(value, str) and at != "format" else value


def hostile(trap="http://127.0.0.1:9"):
    return poisoned(realistic(), (text.replace("TRAP", trap) for text in itertools.cycle(HOSTILE)))


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes |= set(attributes)

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def names_of(reader):
    return {name for name, _ in reader.attributes}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_add_nothing_to_the_page(tmp_path, language):
    tame = Reader(page_of(tmp_path, realistic(), language))
    page = page_of(tmp_path, hostile(), language)
    wild = Reader(page)
    assert wild.elements <= tame.elements
    assert names_of(wild) <= names_of(tame)
    assert not wild.elements & {"script", "iframe", "img", "link", "base", "object", "form"}
    assert not {name for name in names_of(wild) if name.startswith("on")} | (
        names_of(wild) & {"style", "src", "srcset", "action", "xlink:href"}
    )
    links = {value for name, value in wild.attributes if name == "href"}
    assert all(re.fullmatch(r"#[a-z]+|https://arxiv\.org/abs/[\d.]+", link) for link in links)
    assert "<script>fetch('http://127.0.0.1:9/s')" in wild.text
    assert "{{ 7 * 7 }}{% raw %}&lt;b&gt;" in wild.text
    assert "\u2400\u241b [U+202E]gnp.exe[U+2066] \ufffd \ufffd" in wild.text
    assert page.count("<style>") == page.count("</style>") == 1


def test_the_policy_names_the_one_style_sheet(tmp_path):
    page = page_of(tmp_path, realistic())
    style = re.search("<style>(.*)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [value for name, value in Reader(page).attributes if "default-src" in (value or "")]
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    assert "@import" not in style
    assert "url(" not in style


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(st.characters()), min_size=1, max_size=5))
def test_any_text_is_shown_as_text(tmp_path_factory, texts):
    values = poisoned(realistic(), itertools.cycle(texts))
    tame = Reader(page_of(tmp_path_factory.mktemp("any"), values))
    assert not tame.elements & {"script", "iframe", "img"}
    assert {value for name, value in tame.attributes if name == "style"} == set()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_number_of_the_report_is_on_the_page(tmp_path, language):
    values = realistic()
    text = Reader(page_of(tmp_path, values, language)).text
    numbers = [stage["n_kept"] for stage in values["stages"]]
    numbers += [n for stage in values["stages"] for n in stage["dropped"].values()]
    numbers += [one["n_documents"] for one in values["overlap"]] + list(values["personal"].values())
    numbers += [one["n_kept"] for one in values["sources"]] + [128_173, 31_442, 48_213]
    assert [n for n in numbers if f"{n:,}" not in text] == []
    assert re.findall(r"(?<![\w,./:#-])\d{5,}(?![\w./:])", text) == []  # without separators


def test_what_is_empty_is_said_or_left_out(tmp_path):
    values = realistic() | {"clusters": {}, "overlap": [], "personal": {}, "boilerplate": []}
    values |= {"rules": {}, "sources": [], "lengths": {}, "languages": {}}
    values["stages"] = stages_of({"normalise": {}, "language": {"other": 3}}, 3, 0)
    reader = Reader(page_of(tmp_path, values))
    assert {value for name, value in reader.attributes if name == "id"} == {
        *("flow", "flow-title", "clusters", "clusters-title", "overlap", "overlap-title"),
        *("personal", "personal-title"),
    }
    assert "0% of 3 documents kept" in reader.text
    assert "No text of an evaluation set was met" in reader.text
    assert "Bytes" not in reader.text  # unknown, so there is nothing to switch to


def test_rules_that_dropped_nothing_stand_apart(tmp_path):
    values = realistic()
    for one in list(values["rules"].values())[2:]:
        one["n_dropped"] = 0
    page = page_of(tmp_path, values)
    assert "11 rules that dropped nothing" in page
    assert page.count("<details open>") == 1


def test_no_document_at_all(tmp_path):
    values = realistic() | {"stages": stages_of({"normalise": {}}, 0, 0)}
    assert "0% of 0 documents kept" in page_of(tmp_path, values)


def test_a_page_of_any_report_stays_small(tmp_path):
    values, text = realistic(), "\"'\U0001f600 <&" * 100
    rules = list(values["rules"].values())
    values["rules"] = {f"{i}{text}": rules[i % len(rules)] for i in range(100)}
    values["clusters"]["examples"] *= 5
    values["clusters"]["examples"] = [
        one | {"members": one["members"] * 20} for one in values["clusters"]["examples"]
    ]
    values["stages"] = stages_of(
        {f"s{i}{text}": {f"{j}{text}": 50 for j in range(60)} for i in range(20)}, 10**9, 10**9
    )
    values["lengths"] = {f"{i}": list(range(48)) for i in range(300)}
    for part in ("sources", "boilerplate", "overlap"):
        values[part] *= 40
    values = poisoned(values, itertools.cycle((text, text[::-1])))
    page = page_of(tmp_path, values)
    assert 200_000 < len(page.encode()) < MOST_BYTES
    assert "cut to 480 characters" not in page
    facts = report_page._facts(load_report(tmp_path), text, Words("en"), *report_page._ROOMS[-1])
    assert len(report_page._template().render(facts).encode()) < MOST_BYTES / 2  # the last resort


@pytest.fixture
def chromium():
    """How to start a browser without a window; it says on standard error what goes wrong."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    quiet = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"
    return [path, *quiet.split(), "--enable-logging=stderr", "--virtual-time-budget=5000"]


@pytest.fixture
def trap():
    """A server that notes who calls: its address and the list of paths."""
    called = []

    class Note(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            called.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Note) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", called
        server.shutdown()


def opened(chromium, folder, page):
    """What the browser makes of a page, and what it complains about."""
    (folder / "page.html").write_text(page, "utf-8")
    command = [*chromium, f"--user-data-dir={folder / 'user'}", "--dump-dom"]
    address = (folder / "page.html").as_uri()
    done = subprocess.run([*command, address], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return Reader(done.stdout), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_browser_shows_hostile_texts_and_calls_nobody(tmp_path, chromium, trap, language):
    address, called = trap
    page = page_of(tmp_path, hostile(address), language)
    reader, complaints = opened(chromium, tmp_path, page)
    assert complaints == []
    assert called == []
    assert reader.elements - {"html", "head", "body"} == Reader(page).elements - {
        "html",
        "head",
        "body",
    }
    assert reader.text.split() == Reader(page).text.split()
    assert f"<script>fetch('{address}/s')" in reader.text


@pytest.mark.slow
def test_the_trap_would_notice(tmp_path, chromium, trap):
    address, called = trap
    text = HOSTILE[0].replace("TRAP", address).replace("alert", "console.error")
    _, complaints = opened(chromium, tmp_path, f"<!doctype html><p>{text}</p>")
    assert "/i" in called
    assert complaints


@pytest.mark.slow
def test_the_policy_stops_what_would_get_through(tmp_path, chromium, trap):
    address, called = trap
    page = page_of(tmp_path, realistic())
    text = "".join(HOSTILE[:4]).replace("TRAP", address)
    _, complaints = opened(chromium, tmp_path, page.replace("</main>", f"{text}</main>"))
    assert called == []
    assert any("Content Security Policy" in line for line in complaints)
