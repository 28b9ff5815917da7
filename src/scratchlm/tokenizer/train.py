"""From a stream of texts to a tokenizer of any kind."""

from collections.abc import Iterable

from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.sample import Progress, blocks, sample
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train_bpe import train_bpe
from scratchlm.tokenizer.train_sentencepiece import train_sentencepiece
from scratchlm.tokenizer.train_words import train_char, train_regex, train_words

_LEARNED = {
    "bpe": train_bpe,
    "sentencepiece-bpe": train_sentencepiece,
    "sentencepiece-unigram": train_sentencepiece,
}
_COUNTED = {
    "char": train_char,
    "regex": train_regex,
    "whitespace": train_words,
    "spacy": train_words,
    "rjieba": train_words,
}


def train_tokenizer(
    texts: Iterable[str], config: TokenizerConfig, progress: Progress | None = None
) -> Tokenizer:
    """Make a tokenizer from a stream of documents, which is read once and never held whole.

    Characters and words are counted over all of it; memory is bounded by 2,000,000 different
    words. bpe and sentencepiece learn from an even sample of config.max_text_bytes bytes; memory
    is bounded by a multiple of that (measured with 32,000 ids: bpe 5 times on English and 20 on
    Chinese, sentencepiece-bpe 9 and 32, sentencepiece-unigram 22 and 20).

    progress   called with the bytes of text read so far
    raises     DataError for no text; ConfigError where tokenizer.vocab_size does not fit the text
    """
    if config.kind == "gpt2":
        return gpt2_tokenizer()
    pieces = blocks(texts, progress)
    if config.kind in _COUNTED:
        return _COUNTED[config.kind](pieces, config)
    return _LEARNED[config.kind](sample(pieces, config.max_text_bytes), config)
