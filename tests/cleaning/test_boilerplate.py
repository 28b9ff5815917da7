"""Lines that stand all over a site are found and dropped, in memory that does not grow."""

from hypothesis import given
from hypothesis import strategies as st

from scratchlm.cleaning.boilerplate import LineCounts, drop_boilerplate


def test_boilerplate_lines_are_dropped():
    counts = LineCounts(1 << 16)
    pages = [
        f"Home | About\nStory {i} is told here.\n\n}}\n\nAll rights reserved." for i in range(20)
    ]
    for page in pages:
        counts.add("a.org", page)
    counts.add("b.org", "Home | About\nAnother site.\nHome | About")
    assert counts.pages("a.org", ["", "Home | About", "Story 3 is told here."]).tolist() == [
        20,
        20,
        1,
    ]
    assert drop_boilerplate(pages[3], "a.org", counts, 5, 0.5) == ("Story 3 is told here.\n\n}", 2)
    assert drop_boilerplate(pages[3], "a.org", counts, 20, 1.0)[1] == 2
    assert drop_boilerplate(pages[3], "a.org", counts, 21, 0.5) == (pages[3], 0)
    text = "Home | About\nAnother site."
    assert drop_boilerplate(text, "b.org", counts, 2, 0.5) == (text, 0)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=20))
def test_counts_are_never_too_low_and_add_up_in_any_order(pages):
    whole, first, second = (LineCounts(256) for _ in range(3))
    for i, page in enumerate(pages):
        whole.add("host", "\n".join(page))
        (first if i % 2 else second).add("host", "\n".join(page))
    true = [sum(line in page for page in pages) for line in "abcdefgh"]
    assert all(whole.pages("host", "abcdefgh") >= true)
    assert (first.table + second.table == whole.table).all()
