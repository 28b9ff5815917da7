"""OpenAI's GPT-2 vocabulary of 50,257 ids, shipped with the package: it works offline."""

import gzip
from functools import cache
from importlib.resources import files

from scratchlm.tokenizer.compose import bpe, byte_level, compose
from scratchlm.tokenizer.config import END_OF_TEXT
from scratchlm.tokenizer.rules import bytes_of_characters
from scratchlm.tokenizer.tokenizer import Tokenizer

# vocab.bpe as OpenAI published it (github.com/openai/gpt-2, modified MIT licence)
_MERGES_FILE = "gpt2_vocab.bpe.gz"
GPT2 = "gpt2"  # what stands for it in place of a path


@cache
def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's own tokenizer: ids equal those of tiktoken's "gpt2" and of transformers.

    The 256 bytes come first, in the order of the alphabet, then one id per merge, then
    <|endoftext|>, which both begins and ends a document.
    """
    packed = files("scratchlm.tokenizer").joinpath(_MERGES_FILE).read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()[1:]  # the first is a version
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    tokens = [*bytes_of_characters(), *(left + right for left, right in merges), END_OF_TEXT]
    return compose(
        "gpt2",
        bpe(tokens, merges),
        {"bos": END_OF_TEXT, "eos": END_OF_TEXT},
        pre_tokenizer=byte_level(use_regex=True),
        decoder=byte_level(use_regex=True),
        facts={"pre_tokenizer": "gpt-2"},
    )
