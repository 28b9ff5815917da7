"""Tokens as a reader sees them."""

from scratchlm.tokenizer.show import show_tokens


def test_split_characters_are_one_group(tokenizers):
    tokenizer = tokenizers["gpt2"]
    ids = tokenizer.encode("Hi 今天\n\U0001f642")
    groups = show_tokens(tokenizer, ids)
    assert [group.text for group in groups] == ["Hi", " ", "今", "天", "\n", "\U0001f642"]
    assert [len(group.ids) for group in groups] == [1, 1, 2, 1, 1, 2]
    assert groups[2].pieces == (b"\xe4\xbb", b"\x8a")
    assert groups[4].visible == "\\n"


def test_groups_cover_every_id(tokenizer, lines):
    for line in lines:
        ids = tokenizer.encode(line)
        groups = show_tokens(tokenizer, ids)
        assert [i for group in groups for i in group.ids] == ids
        assert not any("\ufffd" in group.text for group in groups)


def test_control_tokens_and_broken_characters(tokenizers):
    tokenizer = tokenizers["gpt2"]
    first_half = tokenizer.encode("\U0001f642")[0]
    groups = show_tokens(tokenizer, [first_half, 50256, first_half])
    assert [group.text for group in groups] == ["\ufffd", "<|endoftext|>", "\ufffd"]
    assert [group.special for group in groups] == [False, True, False]


def test_control_characters_are_escaped(tokenizers):
    (group, *_) = show_tokens(tokenizers["char"], tokenizers["char"].encode("\x01\t"))
    assert group.visible == "\\x01"
