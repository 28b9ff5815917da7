"""Lines that stand all over a site are found and dropped, in memory that does not grow."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.cleaning.boilerplate import (
    Boilerplate,
    LineCounts,
    drop_boilerplate,
    merge_lines,
    page_keys,
    write_lines,
)


def counted(folder: Path, shards: list[list[tuple[str, str]]], mb: int = 1) -> LineCounts:
    """Count (site, page) in shards of their own."""
    paths = [folder / f"{i}.lines" for i in range(len(shards))]
    for path, pages in zip(paths, shards):
        write_lines([page_keys(site, page) for site, page in pages], path)
    merge_lines(paths, folder / "lines.npy", mb)
    return LineCounts(folder / "lines.npy")


def test_boilerplate_lines_are_dropped(tmp_path):
    pages = [
        f"Home | About\nStory {i} is told here.\n\n}}\n\nAll rights reserved." for i in range(20)
    ]
    other = [("b.org", "Home | About\nAnother site.\nHome | About")]
    counts = counted(tmp_path, [[("a.org", page) for page in pages[:7]], other,
                                [("a.org", page) for page in pages[7:]]])  # fmt: skip
    lines = ["", "Home | About", "Story 3 is told here."]
    assert counts.pages("a.org", lines).tolist() == [20, 20, 1]
    rule = Boilerplate(min_pages=5, share=0.5)
    dropped = {"Home | About": 20, "All rights reserved.": 20}
    kept = "Story 3 is told here.\n\n}"
    assert drop_boilerplate(pages[3], "a.org", counts, rule) == (kept, dropped)
    assert drop_boilerplate(pages[3], "a.org", counts, Boilerplate(20, 1.0))[1] == dropped
    assert drop_boilerplate(pages[3], "a.org", counts, Boilerplate(21, 0.5)) == (pages[3], {})
    text = "Home | About\nAnother site."
    assert drop_boilerplate(text, "b.org", counts, Boilerplate(2, 0.5)) == (text, {})


PAGES = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=20)


@given(pages=PAGES, cut=st.integers(0, 20))
@settings(max_examples=50, deadline=None)  # a busy machine
def test_counts_do_not_depend_on_the_shards(tmp_path_factory, pages, cut):
    folder = tmp_path_factory.mktemp("lines")
    texts = [("site", "\n".join(page)) for page in pages]
    whole = counted(folder, [texts])
    true = [sum(line in page for page in pages) for line in "abcdefgh"]
    assert whole.pages("site", "abcdefgh").tolist() == true
    parts = counted(folder, [texts[cut:], texts[:cut]])
    assert np.array_equal(whole.table, parts.table)


def test_a_count_is_never_too_low_in_a_table_that_is_too_small(tmp_path):
    texts = [("site", "\n".join(map(str, range(i, i + 3000)))) for i in range(0, 600_000, 1500)]
    counts = counted(tmp_path, [texts], mb=1)
    lines = list(map(str, range(1500, 4500)))
    assert (counts.pages("site", lines) >= 2).all()
