"""Personal data is masked, what only looks alike stays, and no text takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.cleaning.personal import mask

EMAIL, PHONE, ADDRESS = "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "|||IP_ADDRESS|||"
RESIDENT, CARD = "|||RESIDENT_ID|||", "|||CARD_NUMBER|||"


def masked(text: str) -> str:
    return mask(text)[0]


# The first tests of CS336, assignment 4 (github.com/stanford-cs336/spring2024-assignment4-data,
# tests/test_pii.py, MIT): their texts and what has to come out.
GOLD = [
    ("Feel free to contact me at test@gmail.com if you have any questions.",
     f"Feel free to contact me at {EMAIL} if you have any questions.", {"EMAIL_ADDRESS": 1}),
    ("The instructors are pl@fakedomain.ai and spl@fakedomain.ai",
     f"The instructors are {EMAIL} and {EMAIL}", {"EMAIL_ADDRESS": 2}),
    (f"Some datasets use the string {EMAIL} to represent masked PII. "
     "The instructors are pl@fakedomain.ai and spl@fakedomain.ai",
     f"Some datasets use the string {EMAIL} to represent masked PII. "
     f"The instructors are {EMAIL} and {EMAIL}", {"EMAIL_ADDRESS": 2}),
    ("You can access the server at 192.0.2.146.",
     f"You can access the server at {ADDRESS}.", {"IP_ADDRESS": 1}),
    *((f"Feel free to contact me at {number} if you have any questions.",
       f"Feel free to contact me at {PHONE} if you have any questions.", {"PHONE_NUMBER": 1})
      for number in ("2831823829", "(283)-182-3829", "(283) 182 3829", "283-182-3829")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "counts"), GOLD)
def test_the_gold_tests_of_cs336_pass(text, expected, counts):
    assert mask(text) == (expected, counts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("邮箱：zhang.san@qq.com，欢迎来信", f"邮箱：{EMAIL}，欢迎来信"),
        ("联系zhang_san@mail.example.com.cn谢谢", f"联系{EMAIL}谢谢"),
        ("手机13812345678。", f"手机{PHONE}。"),
        ("电话：+86 138-1234-5678或0086 13812345678", f"电话：{PHONE}或{PHONE}"),
        ("(+86) 138 1234 5678", f"(+86) {PHONE}"),
        ("总机 010-62345678，(021) 62345678", f"总机 {PHONE}，{PHONE}"),
        ("Ring +44 20 7946 0958 or +1 (415) 555-2671.", f"Ring {PHONE} or {PHONE}."),
        ("1-800-555-0199; 1 (800) 555-0199", f"{PHONE}; {PHONE}"),
        ("server 2001:db8::8a2e:370:7334: is up", f"server {ADDRESS}: is up"),
        ("fe80:0:0:0:1:2:3:4/64, 10.0.0.7:8080", f"{ADDRESS}/64, {ADDRESS}:8080"),
        ("身份证号11010519491231002X。", f"身份证号{RESIDENT}。"),  # the example of GB 11643
        ("4111 1111 1111 1111, 4111111111111111", f"{CARD}, {CARD}"),  # test cards of the banks
        ("3782 822463 10005 and 5555-5555-5555-4444", f"{CARD} and {CARD}"),
        ("6222 0212 3456 7890 128", f"{CARD}"),
    ],
)
def test_each_kind_is_found_in_its_usual_forms(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "In 1991 there were 12345 of them, in 2021 about 1,234,567,890.",
        "At 12:30:45 on 2023-04-05 the ratio was 3.1415926535 to 1.",
        "time 1700000000, in ms 1700000000000, hash 0x2831823829",
        "std::vector<int> a::b; dead::beef; see 127.0.0.1 and ::1",
        "version 2.31.1, section 1.2.3.4.5, 300.1.2.3",
        "身份证号110105194912310021",  # the check digit is wrong
        "4111 1111 1111 1112",  # Luhn's sum is wrong
        "ISBN 978-7-02-000220-7, 9787020002207",
        "reply @someone, a @ b, npm i left-pad@1.3.0",
        "13812345678901",
        "0.13812345678",
        "2831823829+2831823829",
    ],
)
def test_what_only_looks_alike_stays(text):
    assert mask(text) == (text, {})


def test_counts_are_by_kind():
    text = "a@b.org 13812345678 13912345678 8.8.8.8 2001:db8::8a2e:370:7334"
    assert mask(text)[1] == {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 2, "IP_ADDRESS": 2}


HOSTILE = [
    "a", "1", "a.", "1.", "a@", "a@a.", "@", ".", ":", "1:", "::", "ab:", "(", "+", "+1", "1 ",
    "1-", "(283)", "4111 ", "4111-1111-", "283-182-", "13812345", "110105194912310", "+1-",
    "a@b.cc.", "a%",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_anything_takes_linear_time(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    mask(text)
    assert time.process_time() - start < 3  # 0.6 at most on a busy machine; quadratic: hours


LIKELY = st.text(st.sampled_from("0123456789.:-+() @aXfe|"), max_size=60)
WORDS = st.lists(
    st.sampled_from(
        [
            "2831823829",
            "283",
            "138",
            "12345678",
            "1",
            "8.8.8.8",
            "@",
            "a.b",
            ".com",
            "x",
            " ",
            "-",
            "::",
            ":",
            ".",
            "+",
            "(",
            ")",
        ]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), LIKELY, WORDS))
def test_masking_twice_changes_nothing_more(text):
    once, counts = mask(text)
    assert mask(once) == (once, {})
    assert (once == text) == (not counts)
