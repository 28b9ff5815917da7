"""Every promise of the module's docstring."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.examples.conversations import Conversation, Preference
from scratchlm.examples.labels import Labelled, read_labelled
from scratchlm.examples.split import Parts, content_of, split_examples

PARTS = ("train", "validation", "test")


def talk(question: str, answer: str = "ok") -> Conversation:
    said = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    return Conversation(said, "a:1")


def labelled(n: int, label: str = "a", start: int = 0) -> list[Labelled]:
    return [Labelled(f"{label} 文 {i}", label, f"a:{i}") for i in range(start, start + n)]


def part_of(parts: Parts) -> dict[str, str]:
    return {content_of(one): name for name in PARTS for one in getattr(parts, name)}


TALKS = [talk(f"question {i}?") for i in range(1000)]
MIXED = labelled(700, "ham") + labelled(301, "spam") + labelled(40, "其他")


@pytest.mark.parametrize("examples", [TALKS, MIXED], ids=["talks", "labels"])
def test_every_example_is_in_one_part_in_its_order(examples):
    parts = split_examples(examples)
    together = [one for name in PARTS for one in getattr(parts, name)]
    assert sorted(map(content_of, together)) == sorted(map(content_of, examples))
    for name in PARTS:
        places = [examples.index(one) for one in getattr(parts, name)]
        assert places == sorted(places)


@pytest.mark.parametrize("examples", [TALKS, MIXED], ids=["talks", "labels"])
def test_the_order_of_the_records_decides_nothing(examples):
    shuffled = random.Random(1).sample(examples, len(examples))
    assert part_of(split_examples(shuffled)) == part_of(split_examples(examples))


def test_the_parts_are_the_same_everywhere():
    """Stored: every machine and every later version must give these."""
    parts = split_examples(TALKS[:60])
    assert [TALKS.index(one) for one in parts.test] == [4, 8, 17, 21, 32, 35, 47]
    assert [TALKS.index(one) for one in parts.validation] == [0, 20, 29, 36, 38, 46]


def test_seeds_give_other_parts():
    first, second = (part_of(split_examples(TALKS, seed=seed)) for seed in (0, 1))
    n_same = sum(first[one] == second[one] for one in first)
    assert 600 < n_same < 720  # 0.8 ** 2 + 2 * 0.1 ** 2 = 0.66 of 1,000; a deviation is 15


def test_sizes_without_labels_are_right_within_chance():
    parts = split_examples(TALKS, validation=0.2, test=0.1)
    assert abs(len(parts.test) - 100) < 40  # four deviations of 9.5
    assert abs(len(parts.validation) - 200) < 51  # of 12.6


def test_adding_examples_without_labels_moves_none():
    before = part_of(split_examples(TALKS[:300]))
    after = part_of(split_examples(TALKS))
    assert {one: after[one] for one in before} == before


@settings(deadline=None)
@given(
    st.lists(st.integers(12, 40), min_size=1, max_size=4),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 9),
)
def test_each_label_is_divided_alike_within_half_an_example(sizes, validation, test, seed):
    examples = [one for i, n in enumerate(sizes) for one in labelled(n, f"label {i}")]
    parts = split_examples(examples, validation=validation, test=test, seed=seed)
    for i, n in enumerate(sizes):
        counts = {
            name: sum(one.label == f"label {i}" for one in getattr(parts, name)) for name in PARTS
        }
        assert abs(counts["test"] - test * n) <= 0.5 + 1e-9
        assert abs(counts["test"] + counts["validation"] - (test + validation) * n) <= 0.5 + 1e-9


def test_a_label_knows_nothing_of_others():
    alone = part_of(split_examples(labelled(301, "spam")))
    among = part_of(split_examples(MIXED))
    assert {one: among[one] for one in alone} == alone


def test_adding_examples_moves_few_of_a_label_and_none_from_train_to_test():
    before = part_of(split_examples(labelled(500)))
    moved = Counter()
    for n in (505, 600, 990):
        after = part_of(split_examples(labelled(n)))
        moves = Counter((before[one], after[one]) for one in before if before[one] != after[one])
        assert ("train", "test") not in moves
        assert moves.total() < 30  # borders move by about sqrt(n * share) = 10
        moved += moves
    assert moved  # the promise is not more than that


@pytest.mark.parametrize("validation", [0.1, 0])
def test_equal_texts_lie_in_one_part(validation):
    copies = [
        replace(one, text=text)
        for one in MIXED
        for text in (one.text, f" {one.text.upper()}\n", one.text.replace(" ", "  "))
    ]
    parts = split_examples(copies, validation=validation)
    sets = [set(map(content_of, getattr(parts, name))) for name in PARTS]
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
    assert Counter(map(content_of, parts.test)).most_common()[-1][1] == 3
    assert abs(len(parts.test) - 0.1 * len(copies)) <= 1.5 * 3  # half of 3 copies, for 3 labels


def test_a_text_with_two_labels_lies_in_one_part():
    torn = [Labelled(f"text {i}", label, "a:1") for i in range(100) for label in ("b", "a")]
    torn += labelled(30)
    parts = split_examples(torn)
    assert part_of(parts) == {
        content_of(one): name for name in PARTS for one in getattr(parts, name)
    }
    assert len(parts.test) == 23
    assert part_of(split_examples(torn[::-1])) == part_of(parts)


def test_what_must_not_be_in_two_parts():
    asked = content_of(talk("What is  it?"))
    system = {"role": "system", "content": "Be brief."}
    more = {"role": "user", "content": "And then?"}
    one = talk("what is it? ", "else")
    assert content_of(one) == asked
    assert content_of(Conversation((system, *one.messages, more), "")) == asked
    assert content_of(Preference((system, one.messages[0]), (), (), "")) == asked
    assert content_of(talk("What is that?")) != asked
    assert content_of(Labelled(" 好 A ", "x", "")) == "好 a"


def test_balanced_training_examples(caplog):
    caplog.set_level("INFO", "scratchlm")
    plain, balanced = (split_examples(MIXED, balanced=value) for value in (False, True))
    assert Counter(one.label for one in plain.train) == {"ham": 560, "spam": 241, "其他": 32}
    assert Counter(one.label for one in balanced.train) == {"ham": 32, "spam": 32, "其他": 32}
    assert (balanced.validation, balanced.test) == (plain.validation, plain.test)
    assert [one for one in plain.train if one in balanced.train] == balanced.train
    assert caplog.messages == ["Balanced: 32 examples of each class to train on, 737 left out."]


def test_shares_of_zero_leave_a_part_empty():
    parts = split_examples(TALKS, validation=0, test=0)
    assert parts == Parts(TALKS, [], [])
    assert split_examples(MIXED, test=0).test == []


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"test": 1}, "test = 1 is no share. Use a number from 0 to below 1"),
        ({"validation": -0.1}, "validation = -0.1 is no share"),
        ({"test": float("nan")}, "test = nan is no share"),
        (
            {"validation": 0.5, "test": 0.5},
            "validation = 0.5 and test = 0.5 leave nothing to train",
        ),
    ],
)
def test_shares_that_cannot_be(shares, said):
    with pytest.raises(ConfigError, match=said):
        split_examples(TALKS, **shares)


@pytest.mark.parametrize(
    ("examples", "shares", "said"),
    [
        ([], {}, "the part train would be empty, of 0 different examples"),
        (TALKS[:1] * 30, {}, "would be empty, of 1 different .* or 0 for no such part.$"),
        (TALKS[:4], {}, "or 0 for no such part; or set seed = 6, with which none is.$"),
        (labelled(4), {}, "the part test would be empty, of 4 different examples with the shares"),
        (labelled(20), {"test": 0.01}, "the part test would be empty"),
        (labelled(2, "a"), {"validation": 0.45, "test": 0.45}, "the part train would be empty"),
        (
            labelled(50) + labelled(1, "rare"),
            {"validation": 0.3, "test": 0.3},
            "no example to train on of rare. Give more of each class",
        ),
    ],
)
def test_a_part_that_would_be_empty(examples, shares, said):
    with pytest.raises(DataError, match=said):
        split_examples(examples, **shares)


def test_classes_that_are_not_in_a_part_are_said(caplog):
    split_examples(labelled(50) + labelled(4, "rare") + labelled(3, "稀有"))
    assert "classes without an example in the part test: 2 (rare, 稀有)." in caplog.messages


def test_balance_needs_labels():
    with pytest.raises(ConfigError, match="balanced is for examples with labels"):
        split_examples(TALKS, balanced=True)


def test_another_key():
    def begins(one: Conversation) -> str:
        return one.messages[0]["content"][:11]  # "question 12"

    parts = split_examples(TALKS, key=begins)
    firsts = [set(map(begins, getattr(parts, name))) for name in PARTS]
    assert sum(map(len, firsts)) == len(set(map(begins, TALKS)))


def test_the_seed_of_the_cure_is_one():
    with pytest.raises(DataError, match="seed = 6") as error:
        split_examples(TALKS[:4])
    assert "the part test would be empty, of 4 different" in str(error.value)
    assert [len(getattr(split_examples(TALKS[:4], seed=6), name)) for name in PARTS] == [2, 1, 1]


def test_the_spam_collection(shared_data):
    found = read_labelled([shared_data / "finetune" / "sms-spam" / "SMSSpamCollection"])
    parts = split_examples(found, test=0.2, balanced=True)
    assert abs(Counter(one.label for one in parts.test)["spam"] - 149.4) < 2
    assert len(set(Counter(one.label for one in parts.train).values())) == 1
    texts = [{one.text for one in getattr(parts, name)} for name in PARTS]
    assert not texts[0] & texts[2]
