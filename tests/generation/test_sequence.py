"""Stop strings across tokens, characters across tokens."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from scratchlm.base.errors import DataError
from scratchlm.generation.prompt import beginning, encode_prompt
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request, Sequence, StopGuard, Token, sequences_of
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer


@given(
    st.lists(st.text("ab\n", max_size=4), max_size=12),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_guard_lets_through_what_stands_before_the_first_stop(
    pieces: list[str], stop: list[str]
) -> None:
    guard, shown, read = StopGuard(stop), "", ""
    for piece in pieces:
        shown, read = shown + guard.push(piece), read + piece
        if guard.found:
            break
    if not guard.found:
        shown += guard.flush()
    places = [read.find(s) for s in stop if s in read]
    assert guard.found == bool(places)
    assert shown == (read[: min(places)] if places else read)


def test_guard_holds_back_only_what_could_begin_a_stop() -> None:
    guard = StopGuard(["END", "\n\n"])
    assert guard.push("a E") == "a "
    assert guard.push("Nx\n") == "ENx"
    assert guard.push("y") == "\ny"


def write(tokenizer: Tokenizer, prompt: str, text: str, sampling: Sampling) -> list[Token]:
    """The tokens of a sequence whose model would write exactly `text`."""
    ids = tokenizer.encode(prompt)
    [sequence] = sequences_of(Request(ids, sampling), 1, tokenizer)
    tokens = []
    for token in tokenizer.encode(prompt + text)[len(ids) :]:
        tokens.append(sequence.take(token, 0.0))
        if sequence.finish:
            break
    return tokens


def test_characters_are_never_split(byte_pairs: Tokenizer) -> None:
    text = "你好🙂 naïve 🤷🏽‍♀️ 龘"
    tokens = write(byte_pairs, "The ", text, Sampling(max_new_tokens=1000))
    assert len(tokens) > len(text)
    assert "".join(token.text for token in tokens) == text
    assert not any("\ufffd" in token.text for token in tokens)


def test_a_character_cut_by_the_length_is_marked(byte_pairs: Tokenizer) -> None:
    tokens = write(byte_pairs, "The ", "龘龘", Sampling(max_new_tokens=2))
    assert [token.finish for token in tokens] == [None, "length"]
    assert tokens[-1].text == "\ufffd"


def test_stop_string_is_not_part_of_the_text(characters: Tokenizer) -> None:
    tokens = write(characters, "The ", "cat sat on", Sampling(stop=("t s", "on")))
    assert "".join(token.text for token in tokens) == "ca"
    assert tokens[-1].finish == "stop"
    assert len(tokens) == 5


def test_text_held_for_a_stop_comes_out_at_the_end(characters: Tokenizer) -> None:
    tokens = write(characters, "", "cat", Sampling(max_new_tokens=3, stop=("tss",)))
    assert [token.text for token in tokens] == ["c", "a", "t"]
    assert tokens[-1].finish == "length"


def test_end_token_finishes_without_text(byte_pairs: Tokenizer) -> None:
    assert byte_pairs.eos_id is not None
    [sequence] = sequences_of(Request([5], Sampling()), 1, byte_pairs)
    token = sequence.take(byte_pairs.eos_id, -1.5)
    assert (token.text, token.finish, token.logprob) == ("", "stop", -1.5)


def test_words_get_the_space_behind_the_prompt() -> None:
    words = train_tokenizer(["the cat sat on the mat"], TokenizerConfig("whitespace", 20, 1))
    tokens = write(words, "the cat", " sat on", Sampling())
    assert "".join(token.text for token in tokens) == " sat on"


def test_ids_alone_have_no_text() -> None:
    sequence = Sequence(1, 0, Request([1], Sampling(max_new_tokens=1)), 0, None)
    assert sequence.take(2, 0.0) == Token(2, "", 0.0, "length", 0)


def test_an_empty_prompt_begins_as_a_text_begins(
    characters: Tokenizer, byte_pairs: Tokenizer
) -> None:
    assert encode_prompt(byte_pairs, "") == [byte_pairs.eos_id]
    assert encode_prompt(characters, "") == characters.encode("\n\n")
    spaced = train_tokenizer(["a b c"], TokenizerConfig(kind="char"))
    assert beginning(spaced) == spaced.encode(" ")


def test_an_empty_prompt_without_a_beginning_is_refused() -> None:
    letters = train_tokenizer(["abc"], TokenizerConfig(kind="char"))
    with pytest.raises(DataError, match="no token that begins a text"):
        encode_prompt(letters, "")
